"""Stability of features: designs of repeated measurement, and selection by them."""

from __future__ import annotations

from typing import Literal

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
        None,
        description="Repeats that are compared, such as names of readers or of perturbations (`none`: the images as "
        "they are); null: all that occur.",
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

    @property
    def perturbed(self) -> tuple[str, ...]:
        """Feature sets whose rows of perturbed images are needed."""
        designs = [design for design in self.designs.values() if design.repeat == "perturbation"]
        return tuple(dict.fromkeys(name for design in designs for name in design.features))


class SelectedSet(Section):
    """A feature set reduced to the features that a stability analysis found stable."""

    kind: Literal["selected"] = Field(description="Which kind of feature set this is.")
    of: Name = Field(description="Feature set that is reduced.")
    stable: Name = Field(description="Stability analysis whose stable features stay.")
