"""Section `exports`: synthetic images as DICOM, volumes and masks as NRRD."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, StringConstraints, Tag, model_validator

from .base import Name, Section


class DicomExport(Section):
    """Images of a synthetic view in DICOM, as CT or MR images like the target's: derived, secondary, synthetic."""

    kind: Literal["dicom"] = Field("dicom", description="which kind of export this is")
    view: Name = Field(description="synthetic view to write")
    identity: Literal["pseudonym", "original"] = Field(
        "pseudonym",
        description="whose name the images bear: pseudonym (with the identifiers of the shareable copy of the source, "
        "into results) or original (patient and study of the source, into the private folder)",
    )
    description: Annotated[str, StringConstraints(max_length=64, pattern=r"(?i)synthetic")] | None = Field(
        None,
        description="series description; must contain the word synthetic; empty: Synthetic CT, not acquired (or MR)",
    )
    series_number: PositiveInt = Field(9001, description="series number of the new series")
    window: tuple[float, float] | None = Field(
        None,
        description="lowest and highest value (HU) that viewers show at first; empty: -160 to 240 HU, of MR the range "
        "of the model's target",
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window {list(self.window)} must rise; write the lower value first")
        return self


class NrrdExport(Section):
    """Volumes and masks under pseudonyms as NRRD, for other programs: gzip, LPS, each with the geometry that it has."""

    kind: Literal["nrrd"] = Field(description="which kind of export this is")
    view: Name = Field("scan", description="view to write; scan: the volumes as converted")
    masks: Name | None = Field(None, description="mask source to write too, on the grid of the scan; null: none")
    rois: tuple[str, ...] = Field((), description="regions of interest; empty: all that the mask source has")

    @model_validator(mode="after")
    def _masks(self) -> Self:
        if self.rois and self.masks is None:
            raise ValueError("rois belong to a mask source: write masks, such as `masks: manual`, or remove rois")
        return self


def _kind(value: Any) -> str:
    return value.get("kind", "dicom") if isinstance(value, dict) else value.kind


Export = Annotated[
    Annotated[DicomExport, Tag("dicom")] | Annotated[NrrdExport, Tag("nrrd")],
    Discriminator(_kind, custom_error_type="export_kind", custom_error_message="kind must be dicom or nrrd"),
]
