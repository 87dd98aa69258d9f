"""Outcomes of patients from the columns of the patient table."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from .errors import UserError

EVENTS = ("1", "true", "yes", "dead", "event")
DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}


def column(frame: pd.DataFrame, name: str, where: str) -> pd.Series:
    """A column of the patient table, or a UserError that names those that there are."""
    if name not in frame.columns:
        raise UserError(
            f"{where}: there is no clinical column {name!r}; write one of {[*map(str, frame.columns)]} or declare it "
            "under clinical."
        )
    return frame[name]


def as_text(values: pd.Series) -> pd.Series:
    """Values as text, equal for 1, 1.0 and "1", None where missing."""

    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return str(int(value))
        return str(value)

    return values.astype("object").map(text)


def flag(values: pd.Series, positive: Any) -> pd.Series:
    """1.0 where a value is the positive one (in whatever case), 0.0 where it is another, NaN where it is missing."""
    text = as_text(values)
    wanted = str(int(positive)) if isinstance(positive, float) and positive.is_integer() else str(positive)
    return text.str.lower().eq(wanted.lower()).astype(float).where(text.notna())


def follow_up(frame: pd.DataFrame, outcome: Any, where: str) -> pd.DataFrame:
    """Columns `time` (in the outcome's unit) and `event` (0.0 or 1.0) of a time-to-event outcome, NaN where missing."""
    raw = column(frame, outcome.time, where)
    time = pd.to_numeric(raw, errors="coerce")
    if (bad := raw.notna() & time.isna()).any():
        raise UserError(f"{where}: column {outcome.time!r} has {int(bad.sum())} values that are no numbers; mend them.")
    declared = getattr(outcome, "event_value", None)
    text = as_text(column(frame, outcome.event, where))
    wanted = EVENTS if declared is None else (str(declared).lower(),)
    event = text.str.lower().isin(wanted).astype(float).where(text.notna())
    return pd.DataFrame({"time": time.astype(float), "event": event})


def at_horizon(
    time: np.ndarray, event: np.ndarray, horizon: float, *, censored: Literal["exclude", "no-event"] = "exclude"
) -> np.ndarray:
    """1.0 where the event happened up to the horizon, 0.0 where the patient passed it without, NaN where unknown.

    `time` and `horizon` have one unit; an event at the horizon counts. A patient last seen before the horizon without
    the event is unknown (`exclude`), or counts as without it (`no-event`), which is biased towards no event. Someone
    censored exactly at the horizon has passed it.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event, dtype=float)
    known = np.isfinite(time) & np.isfinite(event)
    happened = known & (event > 0) & (time <= horizon)
    lost = known & ~(event > 0) & (time < horizon)
    result = np.where(known, happened.astype(float), np.nan)
    return np.where(lost & (censored == "exclude"), np.nan, result)


def horizon(frame: pd.DataFrame, outcome: Any, where: str) -> tuple[pd.Series, pd.Series]:
    """A horizon outcome as 1.0, 0.0 or NaN by patient, and who was last seen before it without the event.

    `outcome` is a `config.clinical.AtHorizon`. A time that is not after zero is unknown, as in survival analyses.
    """
    known = follow_up(frame, outcome.follow_up, where)
    known = known.where(known["time"] > 0)
    limit = outcome.at_days / DAYS[outcome.follow_up.unit]
    values = at_horizon(known["time"].to_numpy(), known["event"].to_numpy(), limit, censored=outcome.censored)
    lost = known["time"].lt(limit) & known["event"].eq(0)
    return pd.Series(values, index=frame.index), lost


def horizon_rule(outcome: Any, lost: int) -> str:
    """What was done with the censored, in words."""
    counted = "are left out" if outcome.censored == "exclude" else "count as without the event"
    return f"{lost} patients last seen before {outcome.at_days:g} days without the event of {outcome.of} {counted}"
