"""Read and check a clinical table. All its problems come at once, with row and column, and never an identifier."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from .. import outcomes
from ..config.clinical import (
    AtHorizon,
    BinaryOutcome,
    ClinicalSettings,
    ColumnSettings,
    Resolved,
    TimeToEventOutcome,
)
from ..errors import UserError
from ..outcomes import EVENTS
from ..tables.written import absent, read_written, rows_in_words

NO_EVENTS = ("0", "false", "no", "alive", "censored", "none")
_NUMBER_LIKE = re.compile(r"[-+<>~≤≥]?[\d.,]{1,7} ?[a-zA-Z%]{0,6}")


def read_clinical(path: Path, settings: ClinicalSettings, *, centres: Collection[str] | None = None) -> pd.DataFrame:
    """The clinical table with typed columns, indexed by the row number in the file (the header is row 1).

    Parameters
    ----------
    path
        CSV (comma or semicolon), TSV or XLSX (first sheet) file.
    centres
        Names of the study's centres, to check the centre column against; None checks nothing.

    Returns
    -------
    DataFrame
        `patient_id` (text), `centre` (text, empty where the table does not tell), then the declared columns and those
        of the outcomes: numbers as float64 or Int64, all else as text; missing values are NA.

    Raises
    ------
    UserError
        with all problems, each with what to write instead. Rows are named by number, never by a patient.
    """
    where = path.name
    raw = read_written(path, "clinical.table")
    sources = {n: c.column or n for n, c in settings.columns.items()}
    sources |= {n: n for n in settings.outcome_columns() if n not in sources}
    _need_columns(raw, where, settings, sources)
    problems: list[str] = []
    frame = pd.DataFrame(index=raw.index)
    identifiers = raw[settings.patient].str.strip()
    if (empty := identifiers.isin(settings.missing)).any():
        problems.append(
            f"{rows_in_words(raw.index[empty])}, column {settings.patient!r}: no patient. Write one or remove the row."
        )
    frame["patient_id"] = identifiers.mask(empty, "")
    frame["centre"] = _centres(raw, settings, centres, where, problems)
    for key, group in frame[~empty].groupby(["centre", "patient_id"]):
        if len(group) > 1:
            del key
            problems.append(f"{rows_in_words(group.index)}: the same patient. Leave one row per patient.")
    times = {o.time for o in settings.outcomes.values() if isinstance(o, TimeToEventOutcome)}
    for name, source in sources.items():
        declared = settings.columns.get(name)
        if declared is None:
            declared = ColumnSettings(type="numeric") if name in times else ColumnSettings(type="categorical")
        text = raw[source].str.strip()
        missing = text.isin(set(settings.missing) - set(declared.values or ()))
        if declared.type == "numeric":
            frame[name] = _numeric(text, missing, name, declared, problems)
        else:
            frame[name] = _categorical(text, missing, name, declared, problems)
    for name in settings.outcomes:
        _check_outcome(frame, name, settings.resolved(name), problems)
    if problems:
        raise UserError(
            f"{where} has {len(problems)} problem{'s' * (len(problems) > 1)}:", *(f"  - {p}" for p in problems)
        )
    return frame


def _need_columns(raw: pd.DataFrame, where: str, settings: ClinicalSettings, sources: dict[str, str]) -> None:
    wanted = {"clinical.patient": settings.patient}
    if settings.centre is not None and settings.centre.column:
        wanted["clinical.centre.column"] = settings.centre.column
    for name, source in sources.items():
        wanted[f"clinical.columns.{name}" if name in settings.columns else "clinical.outcomes"] = source
    problems = []
    for name, source in sources.items():
        key = f"clinical.columns.{name}" if name in settings.columns else "clinical.outcomes"
        problems += absent(raw, where, key, source)
    for key in ("clinical.patient", "clinical.centre.column"):
        if key in wanted:
            problems += absent(raw, where, key, wanted[key])
    if twice := sorted({str(c) for c in raw.columns[raw.columns.duplicated()]}):
        problems.append(f"{where}: columns {', '.join(twice)} stand there twice. Rename one of each.")
    if problems:
        raise UserError(*dict.fromkeys(problems))


def _centres(
    raw: pd.DataFrame, settings: ClinicalSettings, centres: Collection[str] | None, where: str, problems: list[str]
) -> pd.Series:
    if settings.centre is not None and settings.centre.value:
        if centres is not None and settings.centre.value not in centres:
            problems.append(
                f"clinical.centre.value: {settings.centre.value!r} is no centre; write one of {sorted(centres)}."
            )
        return pd.Series(settings.centre.value, index=raw.index)
    column = settings.centre.column if settings.centre is not None else "centre" if "centre" in raw.columns else None
    if column is None:
        only = next(iter(centres)) if centres is not None and len(centres) == 1 else ""
        return pd.Series(only, index=raw.index)
    values = raw[column].str.strip()
    if centres is not None and (wrong := ~values.isin(list(centres))).any():
        problems.append(
            f"{rows_in_words(raw.index[wrong])}, column {column!r}: no centre of the study; "
            f"write one of {sorted(centres)}."
        )
    return values


def _numeric(
    text: pd.Series, missing: pd.Series, name: str, declared: ColumnSettings, problems: list[str]
) -> pd.Series:
    values = pd.to_numeric(text.mask(missing), errors="coerce")
    values = values.where(np.isfinite(values.astype(float)))
    if (bad := ~missing & values.isna()).any():
        shown = sorted({v for v in text[bad] if _NUMBER_LIKE.fullmatch(v)})[:3]
        example = f" (such as {', '.join(shown)})" if shown else ""
        comma = " Write a point, not a comma." if any("," in v for v in shown) else ""
        problems.append(
            f"{rows_in_words(text.index[bad])}, column {name!r}: text{example} where a number is needed.{comma} "
            "Write a number, or nothing if it is missing."
        )
    for limit, off, word in (
        (declared.min, values < (declared.min or 0), "below"),
        (declared.max, values > (declared.max or 0), "above"),
    ):
        if limit is not None and off.any():
            problems.append(
                f"{rows_in_words(text.index[off])}, column {name!r}: {word} the limit of {limit:g}"
                f"{' ' + declared.unit if declared.unit else ''} ({', '.join(f'{v:g}' for v in values[off][:3])}). "
                f"Correct the value, or the limit under clinical.columns.{name}."
            )
    present = values.dropna()
    if len(present) and (present == present.round()).all() and present.abs().max() < 2**53:
        return values.astype("float64").astype("Int64")
    return values.astype("float64")


def _categorical(
    text: pd.Series, missing: pd.Series, name: str, declared: ColumnSettings, problems: list[str]
) -> pd.Series:
    if declared.values is not None:
        # spreadsheets write whole numbers of a column with gaps as 1.0
        plain = text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
        text = text.where(text.isin(declared.values) | ~plain.isin(declared.values), plain)
        wrong = ~missing & ~text.isin(declared.values)
        for value, group in text[wrong].groupby(text[wrong]):
            near = difflib.get_close_matches(str(value).lower(), [v.lower() for v in declared.values], n=1)
            meant = next((v for v in declared.values if near and v.lower() == near[0]), None)
            hint = f"Did you mean {meant!r}?" if meant is not None else f"Write one of: {', '.join(declared.values)}."
            problems.append(f"{rows_in_words(group.index)}, column {name!r}: not an allowed value. {hint}")
    return text.mask(missing).astype("string")


def _check_outcome(frame: pd.DataFrame, name: str, outcome: Resolved, problems: list[str]) -> None:
    key = f"clinical.outcomes.{name}"
    if isinstance(outcome, AtHorizon):
        if not pd.api.types.is_numeric_dtype(frame[outcome.follow_up.time]):
            return  # a problem of the time-to-event outcome itself
        values, lost = outcomes.horizon(frame, outcome, key)
        if values.nunique() == 1:
            event = bool(values.dropna().iloc[0])
            problems.append(
                f"{key}.at_days: all {int(values.notna().sum())} patients whose state at {outcome.at_days:g} days is "
                f"known have {'the' if event else 'no'} event ({int(lost.sum())} were last seen before it). "
                f"Write a {'shorter' if event else 'longer'} time."
            )
        return
    if isinstance(outcome, TimeToEventOutcome):
        times = frame[outcome.time]
        if pd.api.types.is_numeric_dtype(times) and (negative := (times < 0).fillna(False)).any():
            problems.append(
                f"{rows_in_words(frame.index[negative])}, column {outcome.time!r}: a negative time "
                f"({outcome.unit}) to the event of {name!r}. Write the time since the scan, or nothing if unknown."
            )
        events = frame[outcome.event].map(_plain).dropna()
        yes = EVENTS if outcome.event_value is None else (_plain(outcome.event_value),)
        if outcome.event_value is None and (odd := ~events.isin([*EVENTS, *NO_EVENTS])).any():
            problems.append(
                f"{rows_in_words(events.index[odd])}, column {outcome.event!r}: neither 1 nor 0 (yes or no, "
                f"dead or alive). Write 1 or 0, or name the value that means the event: {key}.event_value."
            )
        elif len(events) and not events.isin([v for v in yes if v]).any():
            problems.append(f"column {outcome.event!r}: no event of {name!r} at all. Check {key}.event_value.")
        return
    values = frame[outcome.column].map(_plain).dropna()
    if isinstance(outcome, BinaryOutcome):
        found = sorted(set(values))
        if len(values) and _plain(outcome.positive) not in found:
            problems.append(f"column {outcome.column!r}: no row is {str(outcome.positive)!r}. Check {key}.positive.")
        elif len(found) == 1:
            problems.append(f"column {outcome.column!r}: all rows are alike, so {name!r} has no negative ones.")
    elif outcome.classes is not None and (odd := ~values.isin([_plain(c) for c in outcome.classes])).any():
        problems.append(
            f"{rows_in_words(values.index[odd])}, column {outcome.column!r}: none of the classes "
            f"{', '.join(outcome.classes)}. Correct the value, or {key}.classes."
        )


def _plain(value: object) -> str | None:
    """Text that is equal for 1, 1.0 and "1", lower case."""
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip().lower()
