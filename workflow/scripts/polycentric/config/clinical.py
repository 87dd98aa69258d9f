"""Settings of the clinical table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from .base import Name, Section, Source


class ClinicalCentre(Section):
    """Where the centre of a row stands."""

    column: str | None = Field(None, description="Column with the centre's name in the study file.")
    value: str | None = Field(None, description="The one centre of all rows.")

    @model_validator(mode="after")
    def _one(self) -> ClinicalCentre:
        if (self.column is None) == (self.value is None):
            raise ValueError("write either 'column: <name of a column>' or 'value: <name of a centre>'")
        return self


class ColumnSettings(Section):
    """A clinical column that is used, with what it may hold."""

    type: Literal["numeric", "categorical"] = Field(description="Numbers, or one of several words.")
    column: str | None = Field(None, description="Name in the file, if it differs.")
    unit: str | None = Field(None, description="Unit, for tables and figures.")
    min: float | None = Field(None, description="Smallest possible value.")
    max: float | None = Field(None, description="Largest possible value.")
    values: tuple[str, ...] | None = Field(
        None, description="Possible values of a categorical column; null allows any."
    )

    @model_validator(mode="before")
    @classmethod
    def _texts(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("values"), list | tuple):
            if any(isinstance(v, bool) for v in data["values"]):
                raise ValueError("put quotes round yes, no, true and false: values: ['yes', 'no']")
            data = {**data, "values": [str(v) for v in data["values"]]}
        return data

    @model_validator(mode="after")
    def _fits(self) -> ColumnSettings:
        if self.type == "numeric" and self.values is not None:
            raise ValueError("values are for categorical columns; write min and max, or type: categorical")
        if self.type == "categorical" and (self.min is not None or self.max is not None):
            raise ValueError("min and max are for numeric columns; write values, or type: numeric")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is above max; write min: {self.max:g} and max: {self.min:g}")
        return self


class _Outcome(Section):
    level: Literal["patient"] = Field("patient", description="What has the outcome.")


def _quoted(data: Any, key: str) -> None:
    if isinstance(data, dict) and isinstance(data.get(key), bool):
        raise ValueError(f"{key}: put quotes round yes, no, true and false, as in {key}: 'yes'")


class BinaryOutcome(_Outcome):
    """An outcome that a patient has or has not."""

    type: Literal["binary"] = Field("binary", description="Binary outcome.")
    column: str = Field(description="Column of the clinical table.")
    positive: str | int | float = Field(description="The value that means yes; any other value means no.")

    @model_validator(mode="before")
    @classmethod
    def _no_booleans(cls, data: Any) -> Any:
        _quoted(data, "positive")
        return data


class MulticlassOutcome(_Outcome):
    """One of several classes."""

    type: Literal["multiclass"] = Field("multiclass", description="Multi-class outcome.")
    column: str = Field(description="Column of the clinical table.")
    classes: tuple[str, ...] | None = Field(None, description="The classes in order; null takes those that occur.")


class TimeToEventOutcome(_Outcome):
    """Time until an event, or until a patient was last seen without it."""

    type: Literal["time-to-event"] = Field("time-to-event", description="Time-to-event outcome.")
    time: str = Field(description="Column with the time from the scan to the event or to the last contact.")
    event: str = Field(description="Column that says whether the event happened (1, yes, true, dead).")
    event_value: str | int | float | None = Field(
        None, description="The value of the event column that means it happened; null takes 1, yes, true, dead, event."
    )
    unit: Literal["days", "weeks", "months", "years"] = Field("days", description="Unit of the time.")

    @model_validator(mode="before")
    @classmethod
    def _no_booleans(cls, data: Any) -> Any:
        _quoted(data, "event_value")
        return data


Outcome = Annotated[BinaryOutcome | MulticlassOutcome | TimeToEventOutcome, Field(discriminator="type")]


def read_outcome(data: Any) -> BinaryOutcome | MulticlassOutcome | TimeToEventOutcome:
    """An outcome from its plain data."""
    return TypeAdapter(Outcome).validate_python(data)


class ClinicalSettings(Section):
    """The clinical table, its columns and the outcomes in it."""

    table: str | None = Field(
        None, description="CSV, TSV or XLSX file, one row per patient; simulated studies make their own."
    )
    source: Source | None = Field(None, description="Where the table comes from and under which licence.")
    patient: str = Field("patient_id", description="Column with the patient identifier, as in the DICOM files.")
    centre: ClinicalCentre | None = Field(
        None,
        description="Where the centre stands; null takes a column named centre, or else finds a patient by the images.",
    )
    missing: tuple[str, ...] = Field(
        ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "?"),
        description="Texts that mean a missing value.",
    )
    without_scans: Literal["keep", "ignore", "error"] = Field(
        "keep",
        description="Patients of the table without any images: keep them, leave them out, or treat them as a mistake.",
    )
    columns: dict[str, ColumnSettings] = Field(
        {}, description="Columns that are used; no other column leaves the file, so that names and dates stay behind."
    )
    outcomes: dict[Name, Outcome] = Field({}, description="Outcomes by name.")

    @model_validator(mode="after")
    def _names(self) -> ClinicalSettings:
        reserved = {"centre", "patient", "role", "scans", "clinical"} & {*self.columns, *self.outcome_columns()}
        if reserved:
            name = sorted(reserved)[0]
            raise ValueError(
                f"the name {name!r} is taken by the patient table; declare the column under another name, as in "
                f"columns: {{own_{name}: {{type: categorical, column: {name}}}}}, and use that name in outcomes"
            )
        return self

    def outcome_columns(self) -> tuple[str, ...]:
        """Columns that outcomes read, in order, without repeats."""
        names: list[str] = []
        for outcome in self.outcomes.values():
            names += [outcome.time, outcome.event] if outcome.type == "time-to-event" else [outcome.column]
        return tuple(dict.fromkeys(names))
