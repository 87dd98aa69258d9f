"""From tables to what models need: parts, outcomes, one row of features per patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from .. import ledger, outcomes, tables
from ..coding import coded, per_patient
from ..config.analyses import TableAnalysis
from ..config.clinical import ColumnSettings
from ..errors import UserError
from ..outcomes import DAYS, flag
from ..tables.schemas import FEATURES, PATIENTS, SPLIT

HELD_OUT = ("validation", "test", "external")


class Outcome(Protocol):
    """A declared outcome: `type` is binary, horizon, multiclass or time-to-event, with the fields of that type."""

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


def chosen_elsewhere(training: Iterable[str], ledgers: Sequence[Path], warn: Callable[[str], None]) -> frozenset[str]:
    """Training patients whose outcomes chose features before they came here; a warning of each such feature set.

    Held-out ones were refused (`ledger.refuse`); estimates inside training are too good with such features.
    """
    found = ledger.chosen(training, ledgers)
    for name, patients in found.items():
        warn(
            f"Features {name!r} were chosen elsewhere with the outcomes of {len(patients)} training patients: "
            "estimates of training, cross-validated ones too, are too good. Held-out parts are not concerned."
        )
    for name, what in ledger.unknown(ledgers).items():
        warn(
            f"Features {name!r}: it is not known {what}. If held-out patients were among them, all estimates are too "
            "good; say it under chosen_on: of the feature set."
        )
    return frozenset(patient for patients in found.values() for patient in patients)


def binary(frame: pd.DataFrame, outcome: Any, where: str) -> pd.Series:
    """A binary outcome, or an event within a time, as 1.0, 0.0 or NaN (missing), indexed by patient."""
    if outcome.type == "horizon":
        return outcomes.horizon(frame, outcome, where)[0]
    if outcome.type != "binary":
        hint = (
            "; to classify the event within a time declare {type: horizon, of: <this one>, at_days: 730.5}"
            if outcome.type == "time-to-event"
            else ""
        )
        raise UserError(
            f"{where}: classification needs a binary outcome, this one is {outcome.type}; write the name of a binary "
            f"or horizon outcome or declare one under clinical: outcomes{hint}."
        )
    return flag(outcomes.column(frame, outcome.column, where), outcome.positive)


def horizon_counts(frame: pd.DataFrame, outcome: Any, where: str) -> dict[str, Any]:
    """Of a horizon outcome: its rule in words, and how many were censored before it, in all and by part and centre."""
    values, lost = outcomes.horizon(frame, outcome, where)
    return {
        "of": outcome.of,
        "at_days": outcome.at_days,
        "censored": outcome.censored,
        "rule": outcomes.horizon_rule(outcome, int(lost.sum())),
        "event": int(values.eq(1).sum()),
        "no_event": int(values.eq(0).sum()),
        "censored_before": int(lost.sum()),
        "without_follow_up": int((values.isna() & ~lost).sum()),
        "censored_before_by_part": _counted(lost, frame["part"]) if "part" in frame else {},
        "censored_before_by_centre": _counted(lost, frame["centre"]),
    }


def _counted(rows: pd.Series, groups: pd.Series) -> dict[str, int]:
    return {str(group): int(rows[groups.eq(group)].sum()) for group in sorted(groups.dropna().unique())}


def multiclass(frame: pd.DataFrame, outcome: Any, where: str) -> pd.Series:
    """A multi-class outcome as text, None where missing, indexed by patient."""
    return outcomes.as_text(outcomes.column(frame, outcome.column, where))


def survival(frame: pd.DataFrame, outcome: Any, horizon_days: float | None, where: str) -> pd.DataFrame:
    """Columns `time` (in the outcome's unit) and `event` (0.0 or 1.0), NaN where missing or not after time zero.

    An event after the horizon counts as censored at the horizon.
    """
    if outcome.type != "time-to-event":
        raise UserError(
            f"{where}: survival needs a time-to-event outcome, this one is {outcome.type}; write the name of one or "
            "declare it under clinical: outcomes."
        )
    result = outcomes.follow_up(frame, outcome, where)
    if horizon_days is not None:
        horizon = horizon_days / DAYS[outcome.unit]
        late = result["time"] > horizon
        result.loc[late & result["event"].notna(), "event"] = 0.0
        result.loc[late, "time"] = horizon
    return result.where((result["time"] > 0) & result["event"].notna())


def causes(frame: pd.DataFrame, outcome: Any, follow_up: pd.DataFrame, competing: str | int | None) -> np.ndarray:
    """What ended the follow-up that `survival` found, (n,): 0 censored or unknown, 1 the event, 2 a competing one."""
    event = follow_up["event"].to_numpy(dtype=float)
    cause = np.where(event > 0, 1, 0)
    if competing is None:
        return cause
    other = flag(frame[outcome.event], competing).to_numpy(dtype=float) > 0
    cut = follow_up["time"].to_numpy(dtype=float) < pd.to_numeric(frame[outcome.time], errors="coerce").to_numpy()
    return np.where(other & (event == 0) & ~cut, 2, cause)


def features(
    path: Path, patients: Iterable[str], *, rois: tuple[str, ...] | None, aggregate: str, where: str, fold: str = "main"
) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row of features per patient, and counts of what went into them.

    Rows that are not ok and other folds are left out; several rows of one patient are aggregated per feature, missing
    values ignored. Categories (nominal features of imported sets) stay categories or text; where rows of one patient
    differ in them they are missing. Features are sorted by name; patients without a row are absent.
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
    result, conflicts = per_patient(table, names, aggregate)
    sizes = table["patient"].value_counts()
    counts = {
        "rows": len(table),
        "patients": len(result),
        "patients_without_features": len(patients) - len(result),
        "patients_with_several_rows": int((sizes > 1).sum()),
        "features": len(names),
    }
    return result, counts | ({"categories_in_conflict": conflicts} if conflicts else {})


def clinical(
    frame: pd.DataFrame,
    columns: tuple[str, ...],
    where: str,
    declared: Mapping[str, ColumnSettings] | None = None,
) -> pd.DataFrame:
    """Clinical columns as predictors, coded as they are declared (see `coding.coded`).

    Columns without a declaration are numbers as float, anything else is text (object) with None where missing.
    """
    result: dict[str, pd.Series] = {}
    problems: list[str] = []
    for name in columns:
        values = outcomes.column(frame, name, where)
        column = (declared or {}).get(name)
        if column is not None:
            result[name], wrong = coded(values, column)
            if wrong.any():
                problems.append(
                    f"{where}: {int(wrong.sum())} patients have a {name!r} that is none of {list(column.levels)}; "
                    f"mend the table, or clinical.columns.{name}.values."
                )
        elif pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            result[name] = values.astype("Float64").astype(float)
        else:
            result[name] = outcomes.as_text(values)
    if problems:
        raise UserError(*problems)
    return pd.DataFrame(result, index=frame.index)


def predictors(
    tables_: dict[str, pd.DataFrame], frame: pd.DataFrame, settings: TableAnalysis, where: str
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Tables of predictors with what the study says of categories and variables that held-out patients lack or add.

    Parameters
    ----------
    tables_
        predictors by model or set, a row for every patient of `frame`.
    frame
        patients with their `part` and `centre`.

    Returns
    -------
    dict, list
        the tables without the variables that are dropped, and warnings in plain words.

    Raises
    ------
    UserError
        under `absent_variable: error` or `unseen_category: error`, naming all variables.
    """
    warnings: list[str] = []
    problems: list[str] = []
    lacking: dict[str, tuple[str, ...]] = {}
    strange: dict[str, dict[str, int]] = {}
    for table in tables_.values():
        lacking |= absent(table, frame)
        strange |= unseen(table, frame)
    if lacking:
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in sorted(lacking):
            groups.setdefault(lacking[name], []).append(name)
        for centres, names in sorted(groups.items()):
            listed = f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
            text = f"No patient of {', '.join(centres)} has a value of {listed}"
            match settings.absent_variable:
                case "error":
                    problems.append(f"{where}: {text}. Write absent_variable: drop or impute, or leave them out.")
                case "drop":
                    warnings.append(f"{text}, so no model uses {'it' if len(names) == 1 else 'them'}.")
                case "impute":
                    warnings.append(f"{text}: imputed there from training patients alone.")
        if settings.absent_variable == "drop":
            tables_ = {key: table.drop(columns=[*lacking], errors="ignore") for key, table in tables_.items()}
    for name, levels in strange.items():
        if name in lacking:
            continue
        total = sum(levels.values())
        text = f"{total} patients outside training have a {name} that no training patient has"
        match settings.unseen_category:
            case "error":
                problems.append(f"{where}: {text}. Write unseen_category: missing or reference, or join categories.")
            case "missing":
                warnings.append(f"{text}; it counts as missing.")
            case "reference":
                warnings.append(f"{text}; it counts as the reference category.")
    if problems:
        raise UserError(*problems)
    return tables_, warnings


def absent(table: pd.DataFrame, frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Variables that training has, with the centres of held-out patients none of whose patients has a value."""
    training = frame["part"].eq("training").to_numpy()
    held_out = frame.loc[~training, "centre"].astype("object")
    known = table.notna()
    in_training = known[training].any()
    by_centre = known.groupby(frame["centre"].astype("object").to_numpy()).any()
    found: dict[str, tuple[str, ...]] = {}
    for name in table.columns[in_training.to_numpy()]:
        if centres := tuple(c for c in sorted(held_out.unique()) if not by_centre.loc[c, name]):
            found[name] = centres
    return found


def unseen(table: pd.DataFrame, frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Categories that patients outside training have and no training patient has, with the number of patients."""
    training = frame["part"].eq("training").to_numpy()
    found: dict[str, dict[str, int]] = {}
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name]):
            continue
        values = table[name].astype("object")
        strangers = values[~training].dropna()
        strangers = strangers[~strangers.isin(set(values[training].dropna()))]
        if len(strangers):
            found[name] = {str(k): int(v) for k, v in strangers.value_counts().sort_index().items()}
    return found
