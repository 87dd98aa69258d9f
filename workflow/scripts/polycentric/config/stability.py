"""Stability of features: designs of repeated measurement, selection by them, and perturbations of images and masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .analyses import Analysis
from .base import Expression, Name, Section

Statistic = Literal["icc-1", "icc-a", "icc-c", "ccc"]


class Design(Section):
    """One design of repeated measurement and the limit that features must pass in it."""

    repeat: str = Field(
        description="What is repeated: `source` (readers of one scan), `set` (the same scans in several feature sets), "
        "`perturbation`, `session`, `timepoint`, `scan`, or a column of the scans such as kernel."
    )
    features: tuple[Name, ...] = Field(min_length=1, description="Feature sets with the repeats; several are pooled.")
    subject: Literal["scan", "patient"] | None = Field(
        None,
        description="What is measured repeatedly, together with its region: a scan, or a patient (or phantom) over "
        "several scans; null: a scan for source, set and perturbation, else a patient.",
    )
    where: Expression | None = Field(
        None, description="Only scans for which this holds, such as \"centre == 'phantom'\"; null: all."
    )
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest; null: all, pooled.")
    levels: tuple[str, ...] | None = Field(
        None, description="Repeats that are compared, such as names of readers; null: all that occur."
    )
    statistic: Statistic = Field(
        "icc-a",
        description="Statistic that decides: icc-1 (ICC(1,1), repeats are exchangeable), icc-a (ICC(A,1), absolute "
        "agreement), icc-c (ICC(C,1), consistency) or ccc (Lin's concordance correlation).",
    )
    bound: Literal["lower", "value"] = Field(
        "lower", description="Compare the lower bound of the interval, or the value itself, with the limit."
    )
    above: float = Field(0.75, gt=0, lt=1, description="Limit that a stable feature lies above.")

    @model_validator(mode="after")
    def _check(self) -> Design:
        if self.repeat == "set" and len(self.features) < 2:
            raise ValueError("repeat: set compares feature sets: write two or more under features")
        if self.levels is not None and len(set(self.levels)) < 2:
            raise ValueError("levels: write at least two repeats, or null for all")
        return self

    @property
    def unit(self) -> str:
        return self.subject or ("scan" if self.repeat in ("source", "set", "perturbation") else "patient")


class StabilityAnalysis(Analysis):
    """Which features stay the same when scans, outlines or images are repeated or perturbed."""

    kind: Literal["stability"] = Field(description="Which kind of analysis this is.")
    designs: dict[Name, Design] = Field(
        min_length=1, description="Designs by name; a feature is stable if it passes every one."
    )
    split: Name | None = Field(
        None,
        description="Only training patients of this split; write it when the stable features go into a model of the "
        "split and the repeats are of its patients. Null: all patients, as for phantoms.",
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for design in self.designs.values() for name in design.features))


class SelectedSet(Section):
    """A feature set reduced to the features that a stability analysis found stable."""

    kind: Literal["selected"] = Field(description="Which kind of feature set this is.")
    of: Name = Field(description="Feature set that is reduced.")
    stable: Name = Field(description="Stability analysis whose stable features stay.")


class Rotation(Section):
    """Rotation about the centre of the mask."""

    kind: Literal["rotation"] = Field(description="Which kind of perturbation this is.")
    degrees: float = Field(description="Angle in degrees, positive from x to y (about z).")
    axis: Literal["x", "y", "z"] = Field("z", description="Axis of the image that it turns about.")


class Translation(Section):
    """Shift of the grid by a fraction of a voxel."""

    kind: Literal["translation"] = Field(description="Which kind of perturbation this is.")
    fraction: tuple[float, float, float] = Field(description="Shift along x, y, z as a fraction of the spacing.")


class Noise(Section):
    """Added Gaussian noise."""

    kind: Literal["noise"] = Field(description="Which kind of perturbation this is.")
    sd: float | None = Field(
        None,
        gt=0,
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
