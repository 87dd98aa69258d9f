"""From tables to what models need: parts, outcomes, one row of features per patient."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from .. import tables
from ..errors import UserError
from ..tables.schemas import FEATURES, PATIENTS, SPLIT

HELD_OUT = ("validation", "test", "external")


class Outcome(Protocol):
    """A declared outcome: `type` is binary, multiclass or time-to-event, with the fields of that type."""

    type: str


def cohort(patients: Path, split: Path, where: str) -> pd.DataFrame:
    """The patients of a split, indexed and sorted by patient, with their part and all columns of the patient table."""
    frame = tables.read(patients, PATIENTS).set_index("patient", drop=False)
    try:
        parts = tables.read(split, SPLIT).set_index("patient")["part"]
    except ValueError as error:  # such as a patient in two parts
        raise UserError(
            f"{where}: the split cannot be used: {error}; remove the file and run snakemake again."
        ) from None
    if unknown := sorted(set(parts.index) - set(frame.index)):
        raise UserError(
            f"{where}: the split has {len(unknown)} patients who are not in {patients.name}: run snakemake again so "
            "that the split is made from the present cohort."
        )
    frame = frame.loc[sorted(parts.index)]
    return frame.assign(part=parts.reindex(frame.index).astype("object"))


def _column(frame: pd.DataFrame, column: str, where: str) -> pd.Series:
    if column not in frame.columns:
        raise UserError(
            f"{where}: there is no clinical column {column!r}; write one of {[*map(str, frame.columns)]} or declare it "
            "under clinical."
        )
    return frame[column]


def _as_text(values: pd.Series) -> pd.Series:
    """Values as text, equal for 1, 1.0 and "1", empty where missing."""

    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return str(int(value))
        return str(value)

    return values.map(text)


def flag(values: pd.Series, positive: Any) -> pd.Series:
    """1.0 where a value is the positive one, 0.0 where it is another, NaN where it is missing."""
    text = _as_text(values)
    wanted = str(int(positive)) if isinstance(positive, float) and positive.is_integer() else str(positive)
    return text.eq(wanted).astype(float).where(text.notna())


def binary(frame: pd.DataFrame, outcome: Any, where: str) -> pd.Series:
    """A binary outcome as 1.0, 0.0 or NaN (missing), indexed by patient."""
    if outcome.type != "binary":
        raise UserError(
            f"{where}: classification needs a binary outcome, this one is {outcome.type}; write the name of a binary "
            "outcome or declare one under clinical: outcomes."
        )
    return flag(_column(frame, outcome.column, where), outcome.positive)


def multiclass(frame: pd.DataFrame, outcome: Any, where: str) -> pd.Series:
    """A multi-class outcome as text, None where missing, indexed by patient."""
    return _as_text(_column(frame, outcome.column, where))


TRUE = ("1", "true", "yes", "dead", "event")
DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}


def survival(frame: pd.DataFrame, outcome: Any, horizon_days: float | None, where: str) -> pd.DataFrame:
    """Columns `time` (in the outcome's unit) and `event` (0.0 or 1.0), NaN where missing or not after time zero.

    An event after the horizon counts as censored at the horizon.
    """
    if outcome.type != "time-to-event":
        raise UserError(
            f"{where}: survival needs a time-to-event outcome, this one is {outcome.type}; write the name of one or "
            "declare it under clinical: outcomes."
        )
    raw = _column(frame, outcome.time, where)
    time = pd.to_numeric(raw, errors="coerce")
    if (bad := raw.notna() & time.isna()).any():
        raise UserError(f"{where}: column {outcome.time!r} has {int(bad.sum())} values that are no numbers; mend them.")
    declared = getattr(outcome, "event_value", None)
    text = _as_text(_column(frame, outcome.event, where))
    wanted = TRUE if declared is None else (str(declared).lower(),)
    event = text.str.lower().isin(wanted).astype(float).where(text.notna())
    result = pd.DataFrame({"time": time.astype(float), "event": event})
    if horizon_days is not None:
        horizon = horizon_days / DAYS[outcome.unit]
        late = result["time"] > horizon
        result.loc[late & result["event"].notna(), "event"] = 0.0
        result.loc[late, "time"] = horizon
    return result.where((result["time"] > 0) & result["event"].notna())


def features(
    path: Path, patients: Iterable[str], *, rois: tuple[str, ...] | None, aggregate: str, where: str, fold: str = "main"
) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row of features per patient, and counts of what went into them.

    Rows that are not ok and other folds are left out; several rows of one patient are aggregated per feature, missing
    values ignored. Features are sorted by name; patients without a row are absent.
    """
    table = tables.read(path, FEATURES)
    patients = set(patients)
    table = table[table["patient"].isin(patients) & table["status"].eq("ok") & table["fold"].eq(fold)]
    if rois is not None:
        if not table.empty and not set(rois) & set(table["roi"]):
            raise UserError(
                f"{where}: no row of {path.name} has a region {list(rois)}; write rois: null or some of "
                f"{sorted(set(table['roi']))}."
            )
        table = table[table["roi"].isin(rois)]
    names = sorted(c for c in table.columns if c not in FEATURES.columns and not c.startswith("diagnostics"))
    values = table[names].apply(pd.to_numeric, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    groups = values.groupby(table["patient"].astype("object"), sort=True)
    method = {"mean": "mean", "median": "median", "maximum": "max", "minimum": "min"}[aggregate]
    result = getattr(groups, method)()
    sizes = groups.size()
    counts = {
        "rows": len(table),
        "patients": len(result),
        "patients_without_features": len(patients) - len(result),
        "patients_with_several_rows": int((sizes > 1).sum()),
        "features": len(names),
    }
    return result, counts


def clinical(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> pd.DataFrame:
    """Clinical columns as predictors: numbers as float, anything else as text (object) with None where missing."""
    result = {}
    for name in columns:
        values = _column(frame, name, where)
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            result[name] = values.astype("Float64").astype(float)
        else:
            result[name] = _as_text(values).astype("object")
    return pd.DataFrame(result, index=frame.index)
