"""Perturbations of an image and its masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Section


class Rotation(Section):
    """Rotation about the middle of the image."""

    kind: Literal["rotation"] = Field(description="Which kind of perturbation this is.")
    degrees: float = Field(description="Angle in degrees, positive from x to y (about z).")
    axis: Literal["x", "y", "z"] = Field("z", description="Axis of the image that it turns about.")


class Translation(Section):
    """Shift of the grid by a fraction of a voxel."""

    kind: Literal["translation"] = Field(description="Which kind of perturbation this is.")
    fraction: tuple[float, float, float] = Field(description="Shift along x, y, z as a fraction of the spacing.")


class Noise(Section):
    """Added white Gaussian noise."""

    kind: Literal["noise"] = Field(description="Which kind of perturbation this is.")
    sd: float | None = Field(
        None,
        ge=0,
        description="Standard deviation in units of the image; null: that of the image's own noise, estimated.",
    )


class Contour(Section):
    """A mask whose surface moves in and out at random, as between readers."""

    kind: Literal["contour"] = Field(description="Which kind of perturbation this is.")
    sd_mm: float | None = Field(None, gt=0, description="Standard deviation of the displacement of the surface in mm.")
    dice: float | None = Field(
        None, gt=0.5, lt=1, description="Expected Dice with the mask as it was, instead of sd_mm."
    )
    length_mm: float = Field(10, gt=0, description="Correlation length of the displacement along the surface in mm.")

    @model_validator(mode="after")
    def _one(self) -> Contour:
        if (self.sd_mm is None) == (self.dice is None):
            raise ValueError("contour: write either sd_mm or dice")
        return self


class Growth(Section):
    """A mask that grows or shrinks evenly."""

    kind: Literal["growth"] = Field(description="Which kind of perturbation this is.")
    mm: float = Field(description="Distance that the surface moves outwards in mm; negative: inwards.")


class Thickness(Section):
    """Thicker slices, averaged from the given ones."""

    kind: Literal["thickness"] = Field(description="Which kind of perturbation this is.")
    mm: float = Field(gt=0, description="Slice thickness and distance in mm, not below the image's own distance.")


Perturbation = Annotated[
    Rotation | Translation | Noise | Contour | Growth | Thickness,
    Field(discriminator="kind"),
]
UNPERTURBED = "none"  # what designs call images as they are
Chain = Annotated[tuple[Perturbation, ...], Field(min_length=1)]
