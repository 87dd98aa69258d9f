"""Settings of quick-look pictures."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from .base import Section


class QuicklookSettings(Section):
    """A picture of every scan with all outlines, made on demand: snakemake quicklook."""

    window_hu: tuple[float, float] = Field((-1000.0, 400.0), description="Grey window of CT: from, to, HU.")
    through: Literal["masks", "middle"] = Field(
        "masks",
        description="Slices through the centre of the largest outlined region (the middle without any), or the middle.",
    )
    height: int = Field(320, ge=64, le=1024, description="Height of the pictures without their captions, pixels.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError("window_hu: write the lower value first, as in [-160, 240]")
        return self
