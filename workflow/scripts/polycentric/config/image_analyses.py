"""Analyses of images and masks: fidelity of synthesis, quality of segmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .base import Name, Section

Part = Literal["validation", "test", "external"]


class FidelityAnalysis(Section):
    """How far a synthesis model keeps what it should keep and changes what it should change."""

    kind: Literal["synthesis-fidelity"] = Field("synthesis-fidelity", description="kind of the analysis")
    synthesis: Name = Field(description="synthesis model to examine")
    view: Name | None = Field(None, description="view made by that model; empty: the only one there is")
    parts: tuple[Part, ...] = Field(
        ("test", "external"),
        description="parts of the model's split to examine, never training",
    )
    masks: Name | None = Field(None, description="mask source in whose regions the change is measured; empty: none")
    masks_after: Name | None = Field(
        None,
        description="mask source with the same regions outlined in the synthetic images, such as a segmentation model "
        "applied to them; gives their overlap with `masks`; empty: none",
    )
    pairs: Literal["none", "patient", "session"] = Field(
        "none",
        description="whether scans of the target domain are the truth for the synthetic images: of the same session, "
        "of the same patient, or none; only where patient and position did not change between the two",
    )
    bins: PositiveInt = Field(256, description="bins of the histograms over the model's range of HU")
    bootstrap: PositiveInt = Field(1000, description="resamples of patients for the confidence intervals")
    examples: Annotated[int, Field(ge=0)] = Field(3, description="scans that are shown as pictures")
    window: tuple[float, float] = Field((-160.0, 240.0), description="lowest and highest HU of the pictures")
    difference: PositiveFloat = Field(200.0, description="largest change in HU that the difference pictures show")

    @model_validator(mode="after")
    def _has_parts(self) -> FidelityAnalysis:
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        if self.masks_after is not None and self.masks is None:
            raise ValueError("masks_after is compared with masks; write both, or neither")
        return self


class SegmentationQualityAnalysis(Section):
    """Agreement of the masks of a segmentation model with reference masks."""

    kind: Literal["segmentation-quality"] = Field("segmentation-quality", description="kind of the analysis")
    segmentation: Name = Field(description="segmentation model to examine")
    reference: Name = Field("manual", description="mask source that holds the reference")
    roi: str | None = Field(None, description="region of interest; empty: the one that the model learned")
    parts: tuple[Part, ...] = Field(
        ("test", "external"),
        description="parts of the model's split to examine, never training",
    )
    tolerance_mm: PositiveFloat = Field(
        2.0, description="distance of two surfaces in mm up to which they count as equal, for the surface Dice"
    )
    bootstrap: PositiveInt = Field(1000, description="resamples of patients for the confidence intervals")

    @model_validator(mode="after")
    def _has_parts(self) -> SegmentationQualityAnalysis:
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        return self
