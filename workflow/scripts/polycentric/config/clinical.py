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
    """What a column holds: numbers, an order of words, two words, or one of several words."""

    type: Literal["numeric", "ordinal", "binary", "categorical"] = Field(
        description="`numeric`: numbers. `ordinal`: words in an order, coded 0, 1, 2, ... `binary`: two words, coded 0 "
        "and 1. `categorical`: one of several words (nominal), coded by one indicator per word but the reference."
    )
    column: str | None = Field(None, description="Name in the file, if it differs.")
    unit: str | None = Field(None, description="Unit, for tables and figures.")
    min: float | None = Field(None, description="Smallest possible value.")
    max: float | None = Field(None, description="Largest possible value.")
    values: tuple[str, ...] | None = Field(
        None,
        description="Possible values: of an ordinal column from the lowest up, of a binary one the value that means 0 "
        "and then the one that means 1, of a categorical one in any order; null (categorical only) allows any, and "
        "models learn those of their training patients.",
    )
    reference: str | None = Field(
        None,
        description="Value of a categorical column that gets no indicator; null: the first of `values`, or else the "
        "most frequent one among the training patients.",
    )

    @model_validator(mode="before")
    @classmethod
    def _texts(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("values"), list | tuple):
            if any(isinstance(v, bool) for v in data["values"]):
                raise ValueError("put quotes round yes, no, true and false: values: ['yes', 'no']")
            data = {**data, "values": [str(v) for v in data["values"]]}
        _quoted(data, "reference")
        if isinstance(data.get("reference"), int | float):
            data = {**data, "reference": str(data["reference"])}
        return data

    @model_validator(mode="after")
    def _fits(self) -> ColumnSettings:
        if self.type == "numeric" and self.values is not None:
            raise ValueError(
                "values are for categorical columns; write min and max, or type: ordinal, binary or categorical"
            )
        if self.type != "numeric" and (self.min is not None or self.max is not None):
            raise ValueError("min and max are for numeric columns; write values, or type: numeric")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is above max; write min: {self.max:g} and max: {self.min:g}")
        if self.type == "ordinal" and len(self.values or ()) < 2:
            raise ValueError("an ordinal column needs its order: values: [<lowest>, ..., <highest>]")
        if self.type == "binary" and len(self.values or ()) != 2:
            raise ValueError("a binary column needs two values, first the one that means 0: values: ['no', 'yes']")
        if twice := sorted({v for v in self.values or () if (self.values or ()).count(v) > 1}):
            raise ValueError(f"values: {twice} stand there twice; write each once")
        if self.reference is not None and (self.type != "categorical" or self.reference not in (self.values or ())):
            raise ValueError("reference is one of the values of a categorical column; write it among values")
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """The declared values, of a categorical column its reference first."""
        values = self.values or ()
        first = (self.reference,) if self.reference is not None else ()
        return (*first, *(v for v in values if v not in first))


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


class HorizonOutcome(_Outcome):
    """A binary outcome made from a time-to-event outcome: the event within a time."""

    type: Literal["horizon"] = Field("horizon", description="Event within a time.")
    of: Name = Field(description="Name of the time-to-event outcome that it is made from.")
    at_days: float = Field(gt=0, description="The time in days; an event on that day counts (2 years: 730.5).")
    censored: Literal["exclude", "no-event"] = Field(
        "exclude",
        description="Patients who were last seen before that time without the event: leave them out, or count them as "
        "without it, which makes events look rarer than they are. Their number is in every result.",
    )


class AtHorizon(HorizonOutcome):
    """A horizon outcome together with the time-to-event outcome that it is made from, as jobs get it."""

    follow_up: TimeToEventOutcome = Field(description="The time-to-event outcome.")


Outcome = Annotated[
    BinaryOutcome | MulticlassOutcome | TimeToEventOutcome | HorizonOutcome, Field(discriminator="type")
]
Resolved = BinaryOutcome | MulticlassOutcome | TimeToEventOutcome | AtHorizon
_RESOLVED: TypeAdapter[Resolved] = TypeAdapter(Annotated[Resolved, Field(discriminator="type")])


def read_outcome(data: Any) -> Resolved:
    """An outcome from the plain data that `ClinicalSettings.resolved` gives."""
    return _RESOLVED.validate_python(data)


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

    @model_validator(mode="after")
    def _made_from(self) -> ClinicalSettings:
        times = [name for name, outcome in self.outcomes.items() if outcome.type == "time-to-event"]
        for name, outcome in self.outcomes.items():
            if outcome.type == "horizon" and outcome.of not in times:
                raise ValueError(
                    f"outcomes.{name}.of: {outcome.of!r} is no time-to-event outcome; write one of {times}, or declare "
                    "it: {type: time-to-event, time: <column>, event: <column>}"
                )
        return self

    def outcome_columns(self) -> tuple[str, ...]:
        """Columns that outcomes read, in order, without repeats."""
        return tuple(dict.fromkeys(column for name in self.outcomes for column in self.columns_of(name)))

    def columns_of(self, outcome: str) -> tuple[str, ...]:
        """Columns that an outcome reads, those behind a horizon included."""
        own = self.outcomes[outcome]
        if own.type == "horizon":
            return self.columns_of(own.of) if own.of in self.outcomes else ()
        return (own.time, own.event) if own.type == "time-to-event" else (own.column,)

    def in_file(self, name: str) -> str:
        """What a column is called in the file."""
        return (self.columns[name].column or name) if name in self.columns else name

    def resolved(self, name: str) -> Resolved:
        """The outcome with all that it takes to compute it."""
        outcome = self.outcomes[name]
        if isinstance(outcome, HorizonOutcome):
            return AtHorizon(**outcome.model_dump(), follow_up=self.outcomes[outcome.of].model_dump())
        return outcome
