"""Binary outcomes from times to an event."""

from __future__ import annotations

from typing import Literal

import numpy as np


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
