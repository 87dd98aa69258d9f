"""The analysis that compares features with those of another extraction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .base import Name, Section


class FeatureAgreementAnalysis(Section):
    """How far features agree with those of another extraction of the same ROIs, and volumes with known ones."""

    kind: Literal["feature-agreement"] = Field(description="Which kind of analysis this is.")
    features: tuple[Name, Name] = Field(description="Our feature set, then the one that it is compared with.")
    tolerances: tuple[float, ...] = Field(
        (0.01, 0.05), description="Relative differences below which features count as agreeing."
    )
    volumes: str | None = Field(
        None,
        description="CSV of known ROI volumes with columns patient_id, roi, volume_ml and source (such as analytic or "
        "published); null: none.",
    )
    volume_tolerance: float = Field(
        0.003, gt=0, description="Acceptable relative difference of a mask from a volume whose source is `analytic`."
    )

    @model_validator(mode="after")
    def _check(self) -> FeatureAgreementAnalysis:
        if self.features[0] == self.features[1]:
            raise ValueError("features names the same set twice: write our set and the other one")
        if not self.tolerances or min(self.tolerances) <= 0:
            raise ValueError("tolerances must be relative differences above 0, such as [0.01, 0.05]")
        return self
