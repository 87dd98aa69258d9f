"""Settings of a table of images: files that are no DICOM and carry no patient, modality or date themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from .base import Name, Section

Unit = Literal["HU", "SUVbw", "Bq/mL", "counts", "arbitrary"]
# facts that a table may tell: names are those of the index
FactName = Literal[
    "manufacturer", "model", "kernel", "kvp", "exposure_mas", "ctdi_mgy", "thickness_mm", "field_t", "echo_time_ms",
    "repetition_time_ms", "inversion_time_ms", "b_value", "sequence", "protocol", "body_part", "series_description",
    "study_description", "contrast_agent",
]  # fmt: skip
NUMBERS = (
    "kvp", "exposure_mas", "ctdi_mgy", "thickness_mm", "field_t", "echo_time_ms", "repetition_time_ms",
    "inversion_time_ms", "b_value",
)  # fmt: skip


class Fact(Section):
    """What the table says of every image: in a column, or the same for all."""

    column: str | None = Field(None, description="Column of the table.")
    value: str | int | float | None = Field(None, description="The one value of all images.")

    @model_validator(mode="before")
    @classmethod
    def _from_value(cls, data: Any) -> Any:
        value = data.get("value") if isinstance(data, dict) else data
        if isinstance(value, bool):
            raise ValueError("put quotes round yes, no, true and false: 'yes'")
        return {"value": data} if isinstance(data, str | int | float) else data

    @model_validator(mode="after")
    def _one(self) -> Fact:
        if (self.column is None) == (self.value is None):
            raise ValueError("write a value, or {column: <name of a column>}")
        return self


class SpacingColumns(Section):
    """Columns that hold the spacing of pictures."""

    columns: tuple[str, ...] = Field(
        min_length=2, max_length=3, description="Columns with the distance of pixels in a row, of rows, of slices; mm."
    )


class MaskColumn(Section):
    """A region of interest in mask files."""

    column: str = Field(description="Column with the mask file, relative to the centre's folder; empty means no mask.")
    value: int | None = Field(None, description="The value that means the region; null takes every value but 0.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"column": data} if isinstance(data, str) else data


class ImageTable(Section):
    """A table that names image files (NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF) below the centre's folder."""

    file: str = Field(description="CSV, TSV or XLSX file, one row per image file, relative to the project.")
    path: str = Field("path", description="Column with the image file, relative to the centre's folder.")
    patient: str = Field("patient_id", description="Column with the patient identifier.")
    session: str | None = Field(
        None, description="Column with the visit; null takes the date, or one visit per patient without dates."
    )
    scan: str | None = Field(
        None, description="Column that names the scan whose slices are files of their own; needs slice and spacing_mm."
    )
    slice: str | None = Field(
        None,
        description="Column with the number of a slice in its scan; slices lie at this number times the third spacing.",
    )
    modality: Fact = Field(Fact(value="CT"), description="DICOM modality, such as CT, MR, PT, DX, US.")
    date: Fact | None = Field(None, description="Date of the image, YYYY-MM-DD or YYYYMMDD.")
    contrast: Fact | None = Field(None, description="Contrast agent present: 'yes', 'no' or 'unknown'.")
    facts: dict[FactName, Fact] = Field(
        {}, description="Further facts of the acquisition, by the names that the index gives them."
    )
    unit: Unit | None = Field(
        None, description="Unit of the values; null means HU for volumes of CT, else arbitrary units."
    )
    slope: float = Field(1.0, description="Value in the unit = slope x stored value + intercept.")
    intercept: float = Field(0.0, description="Value in the unit = slope x stored value + intercept.")
    spacing_mm: tuple[float, ...] | SpacingColumns | None = Field(
        None,
        description="Spacing of pictures (PNG, JPEG, TIFF), mm: of pixels in a row, of rows, and of slices if they "
        "form a volume (negative if their numbers count from head to feet). Other formats carry their own.",
    )
    planar: bool = Field(
        False,
        description="The planes of a file are pictures of their own, whatever positions it states; pictures that no "
        "column puts together to scans always are.",
    )
    masks: dict[Name, dict[Annotated[str, StringConstraints(min_length=1)], MaskColumn]] = Field(
        {}, description="Mask files by mask source and name of the region."
    )
    absent: Literal["error", "ignore"] = Field(
        "error", description="Files that the table names but that are not there: a mistake, or left out."
    )

    @model_validator(mode="after")
    def _fits(self) -> ImageTable:
        problems = []
        spacing = self.spacing_mm
        if isinstance(spacing, tuple) and (len(spacing) not in (2, 3) or min(spacing[:2]) <= 0 or 0 in spacing):
            problems.append("spacing_mm: write two or three distances in mm, the first two above 0, as in [0.7, 0.7]")
        if (self.scan is None) != (self.slice is None):
            problems.append("scan and slice belong together: write the columns of both, or neither")
        elif self.scan is not None:
            axes = len(spacing.columns) if isinstance(spacing, SpacingColumns) else len(spacing or ())
            if axes != 3:
                problems.append("scan: slices form a volume only with spacing_mm: [x, y, distance of slices]")
            if self.planar:
                problems.append("planar: slices that form a scan are not planar; remove planar or scan and slice")
        if self.slope == 0:
            problems.append("slope: write a number other than 0")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def columns(self) -> dict[str, str]:
        """Every column that is used, by the key that names it."""
        named = {"path": self.path, "patient": self.patient}
        named |= {k: v for k in ("session", "scan", "slice") if (v := getattr(self, k)) is not None}
        facts = {k: f for k in ("modality", "date", "contrast") if (f := getattr(self, k)) is not None}
        facts |= {f"facts.{k}": f for k, f in self.facts.items()}
        named |= {k: f.column for k, f in facts.items() if f.column is not None}
        if isinstance(self.spacing_mm, SpacingColumns):
            named |= {f"spacing_mm.columns.{n}": c for n, c in enumerate(self.spacing_mm.columns, start=1)}
        for source, regions in self.masks.items():
            named |= {f"masks.{source}.{region}": m.column for region, m in regions.items()}
        return named
