"""Section `exports`: synthetic images as DICOM."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from .base import Name, Section


class DicomExport(Section):
    """Images of a synthetic view as CT images in DICOM: marked as derived, secondary and synthetic."""

    view: Name = Field(description="synthetic view to write, in HU")
    identity: Literal["pseudonym", "original"] = Field(
        "pseudonym",
        description="whose name the images bear: pseudonym (with the identifiers of the shareable copy of the source, "
        "into results) or original (patient and study of the source, into the private folder)",
    )
    description: Annotated[str, StringConstraints(max_length=64, pattern=r"(?i)synthetic")] = Field(
        "Synthetic CT, not acquired", description="series description; must contain the word synthetic"
    )
    series_number: PositiveInt = Field(9001, description="series number of the new series")
    window: tuple[float, float] = Field((-160.0, 240.0), description="lowest and highest HU that viewers show at first")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window {list(self.window)} must rise; write the lower value first")
        return self
