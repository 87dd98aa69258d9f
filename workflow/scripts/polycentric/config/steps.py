"""Steps of a view: each is one named treatment of an image with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from .base import Name, Section

Interpolation = Literal["nearest", "linear", "bspline"]
ImageInterpolation = Literal["nearest", "linear", "cubic", "bspline"]
Spacing = tuple[float, float, float]
Size = tuple[int, int, int]
Interval = tuple[float, float]


class Region(Section):
    """Voxels inside masks: the union of some regions of interest without some others."""

    rois: tuple[Name, ...] = Field(min_length=1, description="Regions of interest that are taken together.")
    without: tuple[Name, ...] = Field((), description="Regions of interest that are taken away, such as ventricles.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"rois": (data,)}
        if isinstance(data, list | tuple):
            return {"rois": tuple(data)}
        return data

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.rois, *self.without)


class Treatment(Section):
    """What all steps have in common."""

    @property
    def fitted(self) -> bool:
        """Whether the step needs something that is estimated from training patients."""
        return False

    @property
    def rois(self) -> tuple[str, ...]:
        """Regions of interest whose masks the step needs."""
        region = getattr(self, "inside", None)
        return region.names if isinstance(region, Region) else ()


class Counted(Treatment):
    """A step that takes its measures from some of the voxels and treats all of them."""

    above: float | None = Field(None, description="Only voxels above this intensity count; null: all voxels.")
    inside: Region | None = Field(None, description="Only voxels inside this region of interest count; null: all.")


# --------------------------------------------------------------------------------------------------------------- grid


class Resample(Treatment):
    """Bring the image to a spacing, on a grid with the same centre (IBSI)."""

    kind: Literal["resample"] = Field("resample", description="Which step this is.")
    spacing_mm: Spacing | Literal["mode"] = Field(
        description="New voxel spacing along x, y and z in mm; 0 keeps the scan's own. mode: the most frequent spacing "
        "in the plane and the most frequent one across slices among the training patients' scans."
    )
    interpolation: ImageInterpolation = Field(
        "linear",
        description="How values between voxels are found; cubic is the convolution over 4 neighbours per axis "
        "(bicubic in the plane), bspline the interpolating cubic spline.",
    )

    @field_validator("spacing_mm", mode="before")
    @classmethod
    def _spacing(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "mode":
            raise ValueError("write three lengths in mm such as [1, 1, 2], or mode")
        return value

    @property
    def fitted(self) -> bool:
        return self.spacing_mm == "mode"

    @model_validator(mode="after")
    def _check(self) -> Resample:
        if self.spacing_mm != "mode" and (min(self.spacing_mm) < 0 or max(self.spacing_mm) == 0):
            raise ValueError(f"spacing_mm is {list(self.spacing_mm)}: write three lengths in mm such as [1, 1, 2]")
        return self


class Resize(Treatment):
    """Bring the image to a number of voxels over the same extent; the spacing changes with it."""

    kind: Literal["resize"] = Field("resize", description="Which step this is.")
    size: Size = Field(description="Voxels along x, y and z; 0 keeps the image's own number.")
    interpolation: ImageInterpolation = Field("linear", description="How values between voxels are found.")

    @model_validator(mode="after")
    def _check(self) -> Resize:
        if min(self.size) < 0 or max(self.size) == 0:
            raise ValueError(f"size is {list(self.size)}: write three numbers of voxels such as [256, 256, 64]")
        return self


class CropOrPad(Treatment):
    """Cut or extend the image about its centre to a number of voxels; the spacing stays."""

    kind: Literal["crop-or-pad"] = Field("crop-or-pad", description="Which step this is.")
    size: Size = Field(description="Voxels along x, y and z; 0 keeps the image's own number.")
    fill: float | None = Field(
        None, description="Intensity of added voxels, for CT -1000 (air); null: the image's lowest intensity."
    )

    @model_validator(mode="after")
    def _check(self) -> CropOrPad:
        if min(self.size) < 0 or max(self.size) == 0:
            raise ValueError(f"size is {list(self.size)}: write three numbers of voxels such as [512, 512, 0]")
        return self


class CropAround(Treatment):
    """Cut the image to the box round a region of interest."""

    kind: Literal["crop-around"] = Field("crop-around", description="Which step this is.")
    inside: Region = Field(description="The region of interest.")
    margin_mm: float = Field(10.0, ge=0, description="Distance between region and border of the new image, mm.")


class SideBySide(Treatment):
    """Put the planes of a planar scan (anterior, posterior) side by side along x into one plane."""

    kind: Literal["side-by-side"] = Field("side-by-side", description="Which step this is.")
    planes: int = Field(2, ge=2, description="How many planes the scan must have; others are refused.")


# ---------------------------------------------------------------------------------------------------------- intensity


class Clip(Treatment):
    """Limit intensities to a range."""

    kind: Literal["clip"] = Field("clip", description="Which step this is.")
    low: float = Field(description="Smallest intensity that is kept.")
    high: float = Field(description="Largest intensity that is kept.")

    @model_validator(mode="after")
    def _check(self) -> Clip:
        if self.low >= self.high:
            raise ValueError(f"clip is [{self.low:g}, {self.high:g}]: write the lower bound first")
        return self


class Window(Treatment):
    """Map a window of intensities linearly onto an output range; what lies outside is clipped."""

    kind: Literal["window"] = Field("window", description="Which step this is.")
    level: float = Field(description="Centre of the window, for CT in HU.")
    width: float = Field(gt=0, description="Width of the window, for CT in HU.")
    output: Interval = Field((0.0, 1.0), description="Values of the lower and the upper end of the window.")


class Linear(Treatment):
    """Multiply intensities by a number, then add one."""

    kind: Literal["linear"] = Field("linear", description="Which step this is.")
    multiply: float = Field(1.0, description="Factor; 0.001 divides by 1000.")
    add: float = Field(0.0, description="What is added afterwards.")


class Shift(Treatment):
    """Add what brings the image's lowest intensity to a value, so that intensities are positive."""

    kind: Literal["shift"] = Field("shift", description="Which step this is.")
    lowest: float = Field(0.0, description="The new lowest intensity.")


class Absolute(Treatment):
    """Absolute values, such as of a difference map."""

    kind: Literal["absolute"] = Field("absolute", description="Which step this is.")


class MinMax(Counted):
    """Map the image's own smallest and largest intensity (or two percentiles) onto an output range."""

    kind: Literal["min-max"] = Field("min-max", description="Which step this is.")
    percentiles: Interval = Field((0.0, 100.0), description="Percentiles taken as smallest and largest intensity.")
    output: Interval = Field((0.0, 1.0), description="Values of the smallest and the largest intensity.")
    per: Literal["image", "plane"] = Field(
        "image", description="Measured over the whole image, or in every plane by itself (views of a planar scan)."
    )

    @model_validator(mode="after")
    def _check(self) -> MinMax:
        _rising(self.percentiles, "min-max")
        if self.per == "plane" and self.inside:
            raise ValueError("min-max measures either `per: plane` or `inside` a region, not both")
        return self


class ContrastStretch(Counted):
    """Stretch the intensities between two percentiles over the image's own range; what lies outside is clipped."""

    kind: Literal["contrast-stretch"] = Field("contrast-stretch", description="Which step this is.")
    percentiles: Interval = Field((2.0, 98.0), description="Percentiles that become the image's lowest and highest.")

    @model_validator(mode="after")
    def _check(self) -> ContrastStretch:
        _rising(self.percentiles, "contrast-stretch")
        return self


class ZScore(Counted):
    """Subtract a mean and divide by a standard deviation: the image's own, or those of the training patients."""

    kind: Literal["z-score"] = Field("z-score", description="Which step this is.")
    of: Literal["image", "training"] = Field(
        "image",
        description="Whose mean and standard deviation: the image's own, or of all voxels of the training patients' "
        "images together, applied to every image.",
    )
    per: Literal["image", "plane"] = Field("image", description="Over the whole image, or in every plane by itself.")

    @property
    def fitted(self) -> bool:
        return self.of == "training"

    @model_validator(mode="after")
    def _check(self) -> ZScore:
        if self.of == "training" and self.per == "plane":
            raise ValueError("z-score `of: training` has one mean for all planes: leave out `per: plane`")
        if self.per == "plane" and self.inside:
            raise ValueError("z-score measures either `per: plane` or `inside` a region, not both")
        return self


class Pack(Treatment):
    """Pack a range of intensities into whole numbers of 8 bits: floor(255 (I - low) / (high - low)), clipped."""

    kind: Literal["pack"] = Field("pack", description="Which step this is.")
    low: float = Field(description="Intensity that becomes 0.")
    high: float = Field(description="Intensity that becomes 255.")
    rounding: Literal["down", "nearest"] = Field("down", description="Round down, or to the nearest whole number.")

    @model_validator(mode="after")
    def _check(self) -> Pack:
        if self.low >= self.high:
            raise ValueError(f"pack from {self.low:g} to {self.high:g}: write the lower intensity as low")
        return self


class BinWidth(Treatment):
    """Discretise into bins of a fixed width (IBSI fixed bin size)."""

    kind: Literal["bin-width"] = Field("bin-width", description="Which step this is.")
    width: float = Field(gt=0, description="Width of a bin in units of the intensities, for CT in HU.")
    start: float | None = Field(
        None, description="Lower edge of bin 1; null: the image's lowest intensity. What lies below gets bin 1."
    )
    values: Literal["number", "centre"] = Field("number", description="Bins by their number from 1, or their centre.")


class BinCount(Counted):
    """Discretise into a fixed number of bins between the lowest and the highest intensity (IBSI fixed bin number)."""

    kind: Literal["bin-count"] = Field("bin-count", description="Which step this is.")
    bins: int = Field(64, ge=2, le=65535, description="Number of bins.")
    values: Literal["number", "centre"] = Field("number", description="Bins by their number from 1, or their centre.")


class Round(Treatment):
    """Round intensities to whole numbers (halves to the even number)."""

    kind: Literal["round"] = Field("round", description="Which step this is.")


class Suv(Treatment):
    """Make sure that a PET image holds standardised uptake values (SUVbw, g/mL), and limit them."""

    kind: Literal["suv"] = Field("suv", description="Which step this is.")
    high: float | None = Field(None, gt=0, description="Largest uptake value that is kept; null keeps all.")


# ------------------------------------------------------------------------------------------------------------ filters


class Gaussian(Treatment):
    """Smooth with a Gaussian."""

    kind: Literal["gaussian"] = Field("gaussian", description="Which step this is.")
    sigma_mm: float = Field(gt=0, description="Standard deviation of the Gaussian in mm.")


class Median(Treatment):
    """De-noise with the median of each voxel's neighbourhood."""

    kind: Literal["median"] = Field("median", description="Which step this is.")
    radius: int = Field(1, ge=1, le=5, description="Voxels on either side; 1 is a neighbourhood of 3 per axis.")
    planes: Literal["slices", "volume"] = Field("slices", description="Neighbourhood in the slice, or in the volume.")


class Diffusion(Treatment):
    """De-noise by anisotropic diffusion, which smooths within edges and not across them."""

    kind: Literal["anisotropic-diffusion"] = Field("anisotropic-diffusion", description="Which step this is.")
    method: Literal["gradient", "curvature"] = Field(
        "curvature", description="Perona and Malik's gradient diffusion, or the modified curvature diffusion."
    )
    iterations: int = Field(5, ge=1, le=100, description="Steps of time.")
    conductance: float = Field(3.0, gt=0, description="How much of a gradient still diffuses; lower keeps more edges.")


class NonLocalMeans(Treatment):
    """De-noise each slice by means of pixels whose surroundings look alike."""

    kind: Literal["non-local-means"] = Field("non-local-means", description="Which step this is.")
    noise: float | None = Field(
        None, gt=0, description="Standard deviation of the noise; null: estimated from the image, one for all slices."
    )
    strength: float = Field(0.8, gt=0, description="Cut-off of the difference of surroundings, in units of the noise.")
    patch: int = Field(2, ge=1, le=7, description="Pixels on either side that make the surroundings.")
    search: int = Field(5, ge=1, le=15, description="Pixels on either side that are searched.")


class Frequency(Counted):
    """Bring the energy of each band of spatial frequencies to a reference: images of sharp and soft kernels agree."""

    kind: Literal["frequency"] = Field("frequency", description="Which step this is.")
    sigmas_mm: tuple[float, ...] = Field(
        (1.0, 2.0, 4.0, 8.0, 16.0),
        min_length=1,
        description="Standard deviations in mm of the Gaussians that separate the bands, rising.",
    )
    in_plane: bool = Field(True, description="Bands within slices, where kernels act; false: in three dimensions.")
    reference: tuple[float, ...] | Literal["training"] = Field(
        "training",
        description="Standard deviation of each band, finest first; training: the training patients' average.",
    )
    iterations: int = Field(10, ge=1, le=50, description="Most rounds until all bands are within 5 % of the reference.")

    @property
    def fitted(self) -> bool:
        return self.reference == "training"

    @model_validator(mode="after")
    def _check(self) -> Frequency:
        if min(self.sigmas_mm) <= 0 or list(self.sigmas_mm) != sorted(set(self.sigmas_mm)):
            raise ValueError("sigmas_mm must be positive and rising, such as [1, 2, 4, 8, 16]")
        if self.reference != "training" and len(self.reference) != len(self.sigmas_mm):
            raise ValueError(
                f"reference has {len(self.reference)} numbers for {len(self.sigmas_mm)} bands: write one per sigma"
            )
        return self


# --------------------------------------------------------------------------------------------------------- histograms


class Equalise(Counted):
    """Histogram equalisation: every intensity becomes the share of voxels that are not brighter."""

    kind: Literal["equalise"] = Field("equalise", description="Which step this is.")
    bins: int = Field(256, ge=2, le=65536, description="Bins of the histogram between lowest and highest intensity.")


class Clahe(Treatment):
    """Contrast-limited adaptive histogram equalisation; the result lies between 0 and 1."""

    kind: Literal["clahe"] = Field("clahe", description="Which step this is.")
    tiles: int = Field(8, ge=1, le=64, description="Tiles per axis.")
    clip_limit: float = Field(0.01, gt=0, le=1, description="Largest share of a tile's voxels in one bin.")
    bins: int = Field(256, ge=2, le=4096, description="Bins of the histograms.")
    planes: Literal["slices", "volume"] = Field("slices", description="Slice by slice, or in three dimensions.")


class HistogramMatch(Counted):
    """Histogram matching to a standard: the average quantile function of the training patients' images."""

    kind: Literal["histogram-match"] = Field("histogram-match", description="Which step this is.")
    levels: int = Field(256, ge=2, le=4096, description="Equal steps of probability between which is interpolated.")

    @property
    def fitted(self) -> bool:
        return True


class Nyul(Counted):
    """Standardisation of landmarks of the histogram to those of the training patients (Nyul and Udupa)."""

    kind: Literal["nyul"] = Field("nyul", description="Which step this is.")
    percentiles: tuple[float, ...] = Field(
        (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99), min_length=2, description="Percentiles that are the landmarks."
    )
    output: Interval = Field((0.0, 100.0), description="Where the lowest and the highest landmark come to lie.")

    @property
    def fitted(self) -> bool:
        return True

    @model_validator(mode="after")
    def _check(self) -> Nyul:
        if list(self.percentiles) != sorted(set(self.percentiles)) or not (
            self.percentiles[0] >= 0 and self.percentiles[-1] <= 100
        ):
            raise ValueError("percentiles of nyul must rise from 0 to 100, such as [1, 10, 50, 90, 99]")
        return self


# ----------------------------------------------------------------------------------------------------------------- MR


class N4(Treatment):
    """N4 correction of the bias field of MR images."""

    kind: Literal["n4"] = Field("n4", description="Which step this is.")
    inside: Region | None = Field(
        None, description="Region whose voxels determine the field, such as {rois: [brain], without: [ventricles]}."
    )
    foreground: Literal["all", "otsu"] = Field(
        "all", description="Without a region: all positive voxels determine the field, or those above Otsu's threshold."
    )
    correct: Literal["image", "region"] = Field(
        "image", description="Divide the whole image by the field, or only what lies in the region (or foreground)."
    )
    shrink: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = Field(
        "auto",
        description="The field is estimated on a grid coarser by this factor; auto: on voxels of about 4 mm, whatever "
        "the image's own are, since fields are smooth and large images take minutes otherwise.",
    )
    iterations: tuple[int, ...] = Field((50, 50, 50, 50), min_length=1, description="Most iterations per level.")
    convergence: float = Field(0.001, gt=0, description="Change of the field at which a level ends.")
    control_points: int = Field(4, ge=4, le=32, description="Control points of the spline per axis at the first level.")
    fwhm: float = Field(0.15, gt=0, description="Full width at half maximum of the deconvolved histogram's Gaussian.")
    noise: float = Field(0.01, gt=0, description="Noise of the Wiener filter.")

    @model_validator(mode="after")
    def _check(self) -> N4:
        if self.inside and self.foreground == "otsu":
            raise ValueError("n4 takes either `inside: <region>` or `foreground: otsu`, not both")
        return self


class WhiteStripe(Counted):
    """Normalise by mean and standard deviation of normal-appearing white matter, found in the histogram."""

    kind: Literal["white-stripe"] = Field("white-stripe", description="Which step this is.")
    above: float | None = Field(
        0.0, description="Only voxels above this intensity count where no region is given; null: all voxels."
    )
    contrast: Literal["t1", "t2"] = Field(
        "t1", description="White matter is the last peak of the histogram (t1) or the highest (t2, FLAIR)."
    )
    width: float = Field(0.05, gt=0, lt=0.5, description="Share of voxels on either side of the peak.")


# ----------------------------------------------------------------------------------------------------- body and lesion


class Body(Treatment):
    """Keep the patient's body of a CT scan and replace what lies outside, the couch above all, by air."""

    kind: Literal["body"] = Field("body", description="Which step this is.")
    threshold_hu: float = Field(-500.0, description="Voxels above this can be body, HU.")
    opening_mm: float = Field(5.0, ge=0, description="Width of what is cut off the body in the slice, such as sheets.")
    outside: float = Field(-1000.0, description="Intensity given to what lies outside, HU.")


class Lungs(Treatment):
    """Isolate the lungs of a CT scan, both sides mirrored onto each other so that a collapsed lung stays in."""

    kind: Literal["lungs"] = Field("lungs", description="Which step this is.")
    mirror: bool = Field(True, description="Unite the lungs with their mirror image about the spine.")
    margin_mm: float = Field(5.0, ge=0, description="Radius of the disc by which the mask grows in the slice, mm.")
    outside: float = Field(-1000.0, description="Intensity given to what lies outside, HU.")
    smoothing: float = Field(
        0.3, gt=0, le=1, description="Weight of a slice's own spine position in exponential smoothing along the body."
    )
    crop: bool = Field(False, description="Cut the image to the slices that hold lung.")


class Attenuate(Treatment):
    """Dim the image away from a lesion: factor 1 inside, falling as a Gaussian of the distance to a floor."""

    kind: Literal["attenuate"] = Field("attenuate", description="Which step this is.")
    inside: Region = Field(description="The lesion.")
    sigma_mm: float = Field(10.0, gt=0, description="Standard deviation of the Gaussian of the distance, mm.")
    floor: float = Field(0.2, ge=0, lt=1, description="Factor far from the lesion.")


class OtsuCrop(Treatment):
    """Separate the head from the background by Otsu's threshold, crop to its box, set the background to a value."""

    kind: Literal["otsu-crop"] = Field("otsu-crop", description="Which step this is.")
    background: float = Field(0.0, description="Intensity given to the background.")
    margin_mm: float = Field(0.0, ge=0, description="Distance between head and border of the new image, mm.")


class Custom(Treatment):
    """A step of your own: a class in a Python file, a pydantic model that is called with a Volume and returns one."""

    kind: Literal["custom"] = Field("custom", description="Which step this is.")
    uses: Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")] = Field(
        description="File and class, such as my_steps.py:Sharpen; a change of the file makes the view again."
    )
    settings: dict[str, Any] = Field({}, description="Settings of the step, checked by the class itself.")

    @property
    def file(self) -> str:
        return self.uses.rpartition(":")[0]


# A further step is one more class here and one more function below prepare/steps/.
Step = Annotated[
    Resample
    | Resize
    | CropOrPad
    | CropAround
    | SideBySide
    | Clip
    | Window
    | Linear
    | Shift
    | Absolute
    | MinMax
    | ContrastStretch
    | ZScore
    | Pack
    | BinWidth
    | BinCount
    | Round
    | Suv
    | Gaussian
    | Median
    | Diffusion
    | NonLocalMeans
    | Frequency
    | Equalise
    | Clahe
    | HistogramMatch
    | Nyul
    | N4
    | WhiteStripe
    | Body
    | Lungs
    | Attenuate
    | OtsuCrop
    | Custom,
    Field(discriminator="kind"),
]

# after these, intensities are no longer HU or uptake values
RESCALING = (
    Window, Linear, Shift, Absolute, MinMax, ContrastStretch, ZScore, Pack, BinWidth, BinCount, Equalise, Clahe,
    HistogramMatch, Nyul, N4, WhiteStripe, Attenuate,
)  # fmt: skip
# these need intensities in HU or uptake values
CALIBRATED = (Body, Lungs, Suv)
# these work on one plane as on a volume and need no positions in the patient
FLAT = (
    Clip, Window, Linear, Shift, Absolute, MinMax, ContrastStretch, ZScore, Pack, BinWidth, BinCount, Round, Equalise,
    Clahe, HistogramMatch, Nyul, Resize, CropOrPad, Custom,
)  # fmt: skip


def order_problems(steps: tuple[Any, ...]) -> list[str]:
    """What is wrong with the order of steps, each with what to write instead."""
    problems = []
    for number, step in enumerate(steps):
        before = steps[:number]
        if isinstance(step, CALIBRATED) and (first := next((s for s in before if isinstance(s, RESCALING)), None)):
            unit = "SUV" if isinstance(step, Suv) else "HU"
            problems.append(f"{step.kind} needs {unit}, but {first.kind} comes before it: write {step.kind} first")
        if any(isinstance(s, SideBySide) for s in before) and (not isinstance(step, FLAT) or step.rois):
            problems.append(
                f"after side-by-side the image has no positions in the patient: write {step.kind} before it"
            )
    return problems


def needed(steps: tuple[Any, ...]) -> Mapping[str, str]:
    """Regions of interest that steps need: name of the region, kind of the first step that needs it."""
    found: dict[str, str] = {}
    for step in steps:
        for roi in step.rois:
            found.setdefault(roi, step.kind)
    return found


def _rising(percentiles: Interval, kind: str) -> None:
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles of {kind} must be two rising numbers from 0 to 100, such as [1, 99]")
