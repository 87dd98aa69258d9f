"""Views: named versions of every scan's image."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from .base import Expression, Name, Section
from .steps import (
    CALIBRATED,
    Clip,
    ImageInterpolation,
    Interpolation,
    Interval,
    Resample,
    SideBySide,
    Spacing,
    Step,
    Suv,
    needed,
    order_problems,
)

__all__ = ["PRESETS", "Fit", "Interpolation", "Interval", "Onto", "Spacing", "Step", "View"]

# The three preparations that Keek et al. (2022) compare. Only the first is described in their text (z-score, shift to
# positive values); the definitions of the others are in a supplement that is not public: these are ours.
PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    "minimalist": ({"kind": "z-score"}, {"kind": "shift"}),
    "standardisation": ({"kind": "white-stripe"}, {"kind": "shift"}),
    "harmonisation": ({"kind": "histogram-match"}, {"kind": "clahe"}),
}
_STEP: TypeAdapter[Step] = TypeAdapter(Step)


class Fit(Section):
    """On whom the fitted steps of a view are fitted."""

    split: Name = Field(description="Split whose training patients are used.")
    centres: tuple[Name, ...] = Field((), description="Centres whose training patients are used; empty: all of them.")


class Onto(Section):
    """Bring the image onto the grid of another scan of the same patient, by the positions of the scanner."""

    where: Expression = Field(
        description="Which scan gives the grid: a condition on the table of scans; it must hold for one per session."
    )
    view: Name = Field("scan", description="View of that scan whose grid is taken; scan: its own grid.")
    within: Literal["session", "patient"] = Field(
        "session", description="Where that scan is looked for: the same visit, or all visits of the patient."
    )
    interpolation: Interpolation = Field("linear", description="How values between voxels are found.")
    fill: float | None = Field(
        None, description="Intensity where the image does not reach; null: the image's lowest intensity."
    )
    register_: Literal["none", "rigid"] = Field(
        "none",
        alias="register",
        description="Whether the image is moved first: none leaves it where the scanner says it is; rigid turns and "
        "shifts it so that it agrees best with the reference (mutual information). What cannot be registered reliably "
        "is refused.",
    )
    largest_misalignment_mm: float | None = Field(
        None,
        gt=0,
        description="Scans that a translation longer than this would (still) align better are refused, mm; null: only "
        "noted.",
    )
    smallest_overlap: float = Field(
        0.0, ge=0, le=1, description="Scans that cover less than this share of the grid are refused."
    )


class View(Section):
    """One version of every scan's image, made from the scan or from another view."""

    from_: Name = Field(
        "scan", alias="from", description="What the view is made from: scan, or the name of another view."
    )
    synthesis: Name | None = Field(None, description="Synthesis model that makes the view; then no other step applies.")
    direction: Literal["forward", "backward"] = Field(
        "forward",
        description="Which generator of the synthesis model: forward (source to target), or backward, such as for "
        "images translated back; the latter of models of a single input alone.",
    )
    where: Expression | None = Field(
        None, description="Which scans the view is made of: a condition on the table of scans; null: all."
    )
    onto: Onto | None = Field(None, description="Bring the image onto another scan's grid, before all steps.")
    minus: Name | None = Field(
        None,
        description="scan, or a view: its intensities in the same scan are subtracted before all steps, for difference "
        "maps. Both must have the same grid.",
    )
    spacing_mm: Spacing | None = Field(
        None,
        description="Voxel spacing along x, y and z in mm; 0 keeps the scan's own along that axis; null keeps it.",
    )
    interpolation: ImageInterpolation = Field(
        "linear", description="How values between voxels are found for spacing_mm."
    )
    clip: Interval | None = Field(
        None, description="Smallest and largest intensity that is kept, for CT in HU; after resampling."
    )
    preset: Literal["minimalist", "standardisation", "harmonisation"] | None = Field(
        None, description="Named list of steps, after spacing_mm and clip and before `steps`."
    )
    steps: tuple[Step, ...] = Field((), description="Further steps in their order, after spacing_mm, clip and preset.")
    masks: Name | None = Field(None, description="Mask source of the regions of interest that steps use.")
    fit: Fit | None = Field(None, description="On whom fitted steps are fitted; needed by those alone.")
    keep: bool = Field(
        True,
        description="Whether the images stay. false: they are removed when all that reads them has ended, and made "
        "again where something must run once more; their manifests stay.",
    )

    @model_validator(mode="after")
    def _check(self) -> View:
        if self.synthesis is not None:
            self._check_synthetic()
            return self
        if self.direction == "backward":
            raise ValueError("direction is that of a synthesis model: write `synthesis: <model>` too, or leave it out")
        # said here, since an error inside the step would come with pydantic's own words around it
        if self.spacing_mm is not None and (min(self.spacing_mm) < 0 or max(self.spacing_mm) == 0):
            raise ValueError(f"spacing_mm is {list(self.spacing_mm)}: write three lengths in mm such as [1, 1, 2]")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip is [{self.clip[0]:g}, {self.clip[1]:g}]: write the lower bound first")
        steps = self.sequence()
        problems = order_problems(steps)
        if self.onto and isinstance(steps[0] if steps else None, Resample):
            problems.append("`onto` gives the grid: leave out spacing_mm, or make a second view from this one")
        if self.minus is not None and self.onto is not None:
            problems.append("`minus` and `onto` exclude each other: make a second view from this one")
        if self.minus == self.from_:
            problems.append(f"from and minus are both {self.minus!r}: the difference is zero everywhere")
        if self.minus is not None and (kind := next((s.kind for s in steps if isinstance(s, CALIBRATED)), None)):
            problems.append(f"{kind} needs an image, not a difference: write it in the views before")
        if self.from_ != "scan" and any(isinstance(s, Suv) for s in steps):
            problems.append("suv checks the unit of the scan: write it in a view made `from: scan`")
        for roi, kind in needed(steps).items():
            if self.masks is None:
                problems.append(f"{kind} needs the mask {roi!r}: add `masks: <mask source>`, such as `masks: manual`")
        if self.masks is not None and not needed(steps):
            problems.append("no step uses a region of interest: leave out `masks`")
        kinds = [step.kind for step in steps if step.fitted]
        if kinds and self.fit is None:
            problems.append(f"{kinds[0]} is fitted on training patients: add `fit: {{split: <name of a split>}}`")
        if self.fit is not None and not kinds:
            problems.append("no step is fitted: leave out `fit`")
        if sum(isinstance(s, SideBySide) for s in steps) > 1:
            problems.append("side-by-side can be done once")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _check_synthetic(self) -> None:
        made = (self.spacing_mm, self.clip, self.steps, self.preset, self.onto, self.minus, self.masks, self.fit)
        if any(made):
            raise ValueError(
                "a view with `synthesis` takes no spacing_mm, clip or steps, nor onto, minus, preset, masks or fit: "
                "write a second view `from` this one"
            )
        if self.where:
            raise ValueError("a view with `synthesis` chooses scans by `inference: {where: ...}` of the model")
        if self.from_ == "scan":
            raise ValueError(
                "a view with `synthesis` needs `from: <view>`, the view that the synthesis model takes as source"
            )

    @property
    def fitted(self) -> bool:
        """Whether a part of the view is fitted on training patients; it then has a model of the view's name."""
        return self.fit is not None

    @property
    def selects(self) -> bool:
        """Whether the tables of scans and patients are needed to make the view."""
        return self.where is not None or self.onto is not None

    def rois(self) -> tuple[str, ...]:
        """Regions of interest whose masks the steps need."""
        return tuple(needed(self.sequence()))

    def sequence(self) -> tuple[Step, ...]:
        """All steps in their order, the shorthands first."""
        first: list[Step] = []
        if self.spacing_mm is not None:
            first.append(Resample(spacing_mm=self.spacing_mm, interpolation=self.interpolation))
        if self.clip is not None:
            first.append(Clip(low=self.clip[0], high=self.clip[1]))
        first += [_STEP.validate_python(step) for step in PRESETS.get(self.preset or "", ())]
        return (*first, *self.steps)
