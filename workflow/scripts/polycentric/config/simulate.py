"""Settings of simulated cohorts: the scanner of each centre, its defects, and the effects planted in the study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, StringConstraints, model_validator

from .base import Section

DefectCode = Literal[
    "FILE_NOT_DICOM",
    "FILE_NO_META",
    "FILE_TRUNCATED",
    "MODALITY_WRONG",
    "LOCALIZER_IN_SERIES",
    "SERIES_ALL_LOCALIZER",
    "TOO_FEW_SLICES",
    "SECONDARY_CAPTURE",
    "GEOM_NO_POSITION",
    "GEOM_MISSING_SLICE",
    "GEOM_VARIABLE_SPACING",
    "GEOM_JITTER",
    "GEOM_GANTRY_TILT",
    "DUP_EXACT",
    "SERIES_MULTI_ACQ",
    "RESCALE_MISSING",
    "HU_IMPLAUSIBLE",
    "KERNEL_MISSING",
    "CONTRAST_CONFLICT",
    "PATIENT_ID_EMPTY",
    "PATIENT_ID_CONFLICT",
    "STUDYTIME_VARIES",
    "RT_NO_IMAGE",
    "RT_SOPREF_STALE",
    "RT_ROI_MISSING",
    "RT_EMPTY_ROI",
    "RT_DUP_CONTOUR",
]
TransferSyntax = Literal["implicit-little", "explicit-little", "explicit-big", "rle"]
Share = Annotated[float, Field(ge=0, le=1)]
Millimetres = Annotated[float, Field(gt=0, le=20)]
SMALLEST_FIELD_MM = (280.0, 120.0)
SMALLEST_TUMOUR_VOXELS = 25


class Scanner(Section):
    """The scanner of a simulated centre and its protocol."""

    manufacturer: str = Field("Simulens", description="Manufacturer in the headers; also decides how files are named.")
    model: str = Field("Orbit 64", description="Scanner model in the headers.")
    kernel: str = Field("B31f", description="Name of the convolution kernel in the headers.")
    fwhm_mm: float = Field(
        1.5, ge=0, le=20, description="Sharpness: full width at half maximum of the in-plane point spread, mm."
    )
    noise_hu: float = Field(20.0, ge=0, le=200, description="Standard deviation of the noise, HU.")
    offset_hu: float = Field(0.0, ge=-100, le=100, description="Error of calibration: added to every voxel, HU.")
    kvp: PositiveFloat = Field(120.0, description="Tube voltage, kV.")
    exposure_mas: PositiveFloat = Field(100.0, description="Exposure, mAs.")
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        (0.78, 0.78, 3.0), description="Voxel spacing x, y, z, mm."
    )
    thickness_mm: Millimetres | None = Field(
        None, description="Slice thickness, mm; the slice spacing if left out. Thicker slices overlap."
    )
    matrix: int = Field(512, ge=32, le=1024, description="Pixels per row and per column.")
    slices: int = Field(100, ge=16, le=1000, description="Slices of a scan.")
    transfer_syntax: TransferSyntax = Field("explicit-little", description="How the files are encoded.")
    padding: bool = Field(
        False,
        description="Fill the corners outside the round field of view with the padding value -2000, as GE does.",
    )

    @model_validator(mode="after")
    def _covers_a_chest(self) -> Scanner:
        x, y, z = self.spacing_mm
        plane, length = SMALLEST_FIELD_MM
        if min(x, y) * self.matrix < plane:
            raise ValueError(
                f"matrix x spacing_mm is {min(x, y) * self.matrix:.0f} mm, but a chest needs {plane:.0f} mm; "
                f"write spacing_mm of at least {plane / self.matrix:.2f} in x and y, or a larger matrix"
            )
        if z * self.slices < length:
            raise ValueError(
                f"slices x spacing_mm is {z * self.slices:.0f} mm, but a chest needs {length:.0f} mm; "
                f"write at least {length / z:.0f} slices, or a larger spacing in z"
            )
        return self

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        x, y, z = self.spacing_mm
        return x * y * z / 1000


class Defect(Section):
    """A defect to inject, named by the code that curation must find."""

    code: DefectCode = Field(description="Code of the defect, as curation reports it.")
    count: int = Field(
        1, ge=1, description="How many patients of the centre get it; a patient gets at most one defect."
    )


class SimulatedCentre(Section):
    """A centre whose scans are simulated."""

    patients: int = Field(50, ge=1, le=99999, description="Number of patients.")
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,11}$")] | None = Field(
        None, description="Start of the hospital's patient numbers; from the centre's name if left out."
    )
    scanner: Scanner = Field(Scanner(), description="The scanner and its protocol.")
    contrast_fraction: Share = Field(0.5, description="Share of the patients scanned with contrast agent.")
    roi: str = Field("GTV-1", min_length=1, max_length=64, description="Name of the tumour in the contours.")
    without_scans: int = Field(0, ge=0, description="Further patients who are in the clinical table but have no scan.")
    without_clinical: int = Field(0, ge=0, description="How many scanned patients the clinical table lacks.")
    defects: tuple[Defect, ...] = Field((), description="Defects injected into the files, with the number of patients.")

    @model_validator(mode="after")
    def _enough_patients(self) -> SimulatedCentre:
        codes = [d.code for d in self.defects]
        if twice := sorted({c for c in codes if codes.count(c) > 1}):
            raise ValueError(f"defects names {', '.join(twice)} more than once; write each code once, with its count")
        wanted = sum(d.count for d in self.defects)
        if wanted > self.patients:
            raise ValueError(
                f"defects asks for {wanted} patients, but there are {self.patients} and each gets one defect at most; "
                f"lower a count or raise patients"
            )
        if self.without_clinical > self.patients:
            raise ValueError(f"without_clinical is {self.without_clinical}; write at most patients ({self.patients})")
        return self


class Simulation(Section):
    """Effects planted in the simulated cohort. z is a standardised latent: mean 0, standard deviation 1."""

    volume_ml: PositiveFloat = Field(25.0, description="Median volume of the tumours, mL (log-normal).")
    volume_log_sd: PositiveFloat = Field(0.6, description="Standard deviation of the logarithm of the volume.")
    volume_range_ml: tuple[PositiveFloat, PositiveFloat] = Field(
        (8.0, 90.0), description="Volumes are drawn within this range, mL."
    )
    heterogeneity_hu: PositiveFloat = Field(
        60.0, description="Median standard deviation of the texture inside a tumour, HU (log-normal)."
    )
    heterogeneity_log_sd: PositiveFloat = Field(0.5, description="Standard deviation of the logarithm of the former.")
    enhancement_hu: tuple[float, Annotated[float, Field(ge=0)]] = Field(
        (150.0, 30.0), description="Contrast agent: mean and standard deviation of what it adds to the blood, HU."
    )
    tumour_uptake: Share = Field(0.25, description="Share of the blood's enhancement that a tumour takes up.")
    outcome_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.4, description="Probability of the outcome 'severe' for an average patient (all z are 0)."
    )
    outcome_log_odds_volume: float = Field(0.8, description="Log odds ratio of 'severe' per SD of the log volume.")
    outcome_log_odds_heterogeneity: float = Field(
        1.2, description="Log odds ratio of 'severe' per SD of the log heterogeneity."
    )
    outcome_log_odds_age: float = Field(0.2, description="Log odds ratio of 'severe' per SD of age (10 years).")
    hazard_log_volume: float = Field(0.7, description="Log hazard ratio of death per SD of the log volume.")
    hazard_log_heterogeneity: float = Field(
        0.0, description="Log hazard ratio of death per SD of the log heterogeneity."
    )
    hazard_log_age: float = Field(0.3, description="Log hazard ratio of death per SD of age (10 years).")
    median_survival_days: PositiveFloat = Field(600.0, description="Median survival of an average patient, days.")
    survival_shape: PositiveFloat = Field(1.2, description="Shape of the Weibull baseline hazard; 1 is constant.")
    follow_up_days: PositiveFloat = Field(1800.0, description="Follow-up ends for everyone after this time, days.")
    censoring_rate_per_year: Annotated[float, Field(ge=0)] = Field(
        0.15, description="Rate at which patients are lost to follow-up, per year."
    )
    missing_share: Share = Field(0.05, description="Share of empty cells in the columns stage and pack_years.")

    @model_validator(mode="after")
    def _range(self) -> Simulation:
        low, high = self.volume_range_ml
        if not low < self.volume_ml < high:
            raise ValueError(
                f"volume_range_ml {low:g} to {high:g} does not hold the median volume_ml {self.volume_ml:g}; "
                f"write a range around it"
            )
        if high > 150:
            raise ValueError(f"volume_range_ml ends at {high:g} mL, which a lung does not hold; write at most 150")
        return self


def problems(centres: Mapping[str, SimulatedCentre], simulation: Simulation) -> Iterator[tuple[str, str]]:
    """Mistakes that only centres and effects together show: (key below the study file's top, what to write)."""
    owner: dict[str, str] = {}
    for name, centre in sorted(centres.items()):
        prefix = patient_prefix(name, centre)
        if prefix in owner:
            yield (
                f"centres.{name}.simulate.prefix",
                f"patient numbers of {name!r} would start with {prefix!r} like those of {owner[prefix]!r}; "
                f"write a prefix of its own, such as '{prefix}B'.",
            )
        owner.setdefault(prefix, name)
        voxels = simulation.volume_range_ml[0] / centre.scanner.voxel_ml
        if voxels < SMALLEST_TUMOUR_VOXELS:
            yield (
                f"centres.{name}.simulate.scanner.spacing_mm",
                f"the smallest tumour ({simulation.volume_range_ml[0]:g} mL) has only {voxels:.0f} voxels here; write "
                f"smaller voxels, or simulation.volume_range_ml from "
                f"{SMALLEST_TUMOUR_VOXELS * centre.scanner.voxel_ml:.1f} mL.",
            )


def patient_prefix(name: str, centre: SimulatedCentre) -> str:
    """Start of a hospital's patient numbers: three letters of its name and the name's digits."""
    if centre.prefix:
        return centre.prefix
    letters = "".join(c for c in name if c.isalpha())[:3].upper()
    digits = "".join(c for c in name if c.isdigit())
    return letters + (digits + "N" if digits else "")
