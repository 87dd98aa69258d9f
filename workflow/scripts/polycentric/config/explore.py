"""The analysis that explores a feature table before anything is modelled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .analyses import Aggregate, Analysis
from .base import Name


class ExplorationAnalysis(Analysis):
    """Distributions, correlations and single tests of features; nothing here chooses features for a model."""

    kind: Literal["exploration"] = Field(description="Which kind of analysis this is.")
    features: tuple[Name, ...] = Field(min_length=1, description="Feature sets; several stand side by side.")
    outcome: str = Field(description="Name of the outcome: binary, multi-class or time-to-event.")
    split: Name | None = Field(None, description="Explore patients of this split only; null: all patients.")
    part: Literal["training", "all"] = Field(
        "training",
        description="With a split: its training patients, so that nothing is learnt of those who test a model later, "
        "or all of them.",
    )
    years: tuple[float, ...] = Field(
        (1, 1.5, 2), description="Times in years at which a time-to-event outcome becomes event or no event."
    )
    censored: Literal["exclude", "no-event"] = Field(
        "exclude",
        description="Patients who were last seen before such a time without the event: leave them out, or count them "
        "as without it, which makes events look rarer than they are.",
    )
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest; null: all.")
    aggregate: Aggregate = Field(
        "mean", description="How several rows of one patient (scans, regions) become one value per feature."
    )
    volume: str = Field("original_shape_MeshVolume", description="Feature that is the volume of the region.")
    show: int = Field(24, ge=1, le=240, description="Features drawn one by one, smallest p first, twelve a page.")
    alpha: float = Field(0.05, gt=0, lt=1, description="Level at which corrected p values are counted.")
    bootstraps: int = Field(1000, ge=0, description="Bootstrap samples for the volume's average precision.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
