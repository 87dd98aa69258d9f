"""Views: named versions of every scan's image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from .base import Name, Section

Interpolation = Literal["nearest", "linear", "bspline"]
Spacing = tuple[float, float, float]
Interval = tuple[float, float]


class Resample(Section):
    """Bring the image to a spacing, on a grid with the same centre (IBSI)."""

    kind: Literal["resample"] = Field("resample", description="Which step this is.")
    spacing_mm: Spacing = Field(description="New voxel spacing along x, y and z in mm; 0 keeps the scan's own.")
    interpolation: Interpolation = Field("linear", description="How values between voxels are found.")


class Clip(Section):
    """Limit intensities to a range."""

    kind: Literal["clip"] = Field("clip", description="Which step this is.")
    low: float = Field(description="Smallest intensity that is kept.")
    high: float = Field(description="Largest intensity that is kept.")


class Window(Section):
    """Map a window of intensities linearly onto an output range; what lies outside is clipped."""

    kind: Literal["window"] = Field("window", description="Which step this is.")
    level: float = Field(description="Centre of the window, for CT in HU.")
    width: float = Field(gt=0, description="Width of the window, for CT in HU.")
    output: Interval = Field((0.0, 1.0), description="Values of the lower and the upper end of the window.")


class ZScore(Section):
    """Subtract the image's own mean and divide by its own standard deviation."""

    kind: Literal["z-score"] = Field("z-score", description="Which step this is.")
    above: float | None = Field(
        None, description="Only voxels above this intensity count for mean and standard deviation; null: all voxels."
    )


class MinMax(Section):
    """Map the image's own smallest and largest intensity (or two percentiles) onto an output range."""

    kind: Literal["min-max"] = Field("min-max", description="Which step this is.")
    percentiles: Interval = Field((0.0, 100.0), description="Percentiles taken as smallest and largest intensity.")
    output: Interval = Field((0.0, 1.0), description="Values of the smallest and the largest intensity.")


class Gaussian(Section):
    """Smooth with a Gaussian."""

    kind: Literal["gaussian"] = Field("gaussian", description="Which step this is.")
    sigma_mm: float = Field(gt=0, description="Standard deviation of the Gaussian in mm.")


class Round(Section):
    """Round intensities to whole numbers (halves to the even number)."""

    kind: Literal["round"] = Field("round", description="Which step this is.")


class Custom(Section):
    """A step of your own: a class in a Python file, a pydantic model that is called with a Volume and returns one."""

    kind: Literal["custom"] = Field("custom", description="Which step this is.")
    uses: Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")] = Field(
        description="File and class, such as my_steps.py:Sharpen; a change of the file makes the view again."
    )
    settings: dict[str, Any] = Field({}, description="Settings of the step, checked by the class itself.")

    @property
    def file(self) -> str:
        return self.uses.rpartition(":")[0]


# A further step is one more class here and one more function in prepare/steps.py.
Step = Annotated[Resample | Clip | Window | ZScore | MinMax | Gaussian | Round | Custom, Field(discriminator="kind")]


class View(Section):
    """One version of every scan's image, made from the scan or from another view."""

    from_: Name = Field(
        "scan", alias="from", description="What the view is made from: scan, or the name of another view."
    )
    synthesis: Name | None = Field(None, description="Synthesis model that makes the view; then no other step applies.")
    spacing_mm: Spacing | None = Field(
        None,
        description="Voxel spacing along x, y and z in mm; 0 keeps the scan's own along that axis; null keeps it.",
    )
    interpolation: Interpolation = Field("linear", description="How values between voxels are found for spacing_mm.")
    clip: Interval | None = Field(
        None, description="Smallest and largest intensity that is kept, for CT in HU; after resampling."
    )
    steps: tuple[Step, ...] = Field((), description="Further steps in their order, after spacing_mm and clip.")

    @model_validator(mode="after")
    def _check(self) -> View:
        if self.synthesis is not None and (self.spacing_mm or self.clip or self.steps):
            raise ValueError(
                "a view with `synthesis` takes no spacing_mm, clip or steps: write a second view `from` this one"
            )
        if self.synthesis is not None and self.from_ == "scan":
            raise ValueError(
                "a view with `synthesis` needs `from: <view>`, the view that the synthesis model takes as source"
            )
        for step in self.sequence():
            if isinstance(step, Resample) and (min(step.spacing_mm) < 0 or max(step.spacing_mm) == 0):
                raise ValueError(f"spacing_mm is {list(step.spacing_mm)}: write three lengths in mm such as [1, 1, 2]")
            if isinstance(step, Clip) and step.low >= step.high:
                raise ValueError(f"clip is [{step.low:g}, {step.high:g}]: write the lower bound first")
            if isinstance(step, MinMax) and not 0 <= step.percentiles[0] < step.percentiles[1] <= 100:
                raise ValueError("percentiles of min-max must be two rising numbers from 0 to 100, such as [1, 99]")
        return self

    def sequence(self) -> tuple[Step, ...]:
        """All steps in their order, the shorthands first."""
        first: list[Step] = []
        if self.spacing_mm is not None:
            first.append(Resample(spacing_mm=self.spacing_mm, interpolation=self.interpolation))
        if self.clip is not None:
            first.append(Clip(low=self.clip[0], high=self.clip[1]))
        return (*first, *self.steps)
