"""Survival without a model: Kaplan-Meier, log-rank, Harrell's C.

Arrays: `time` (n,) in any unit, `event` (n,) bool.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from ..estimates import normal_quantile


class KaplanMeier(NamedTuple):
    """A step function: from each time on, the survival and its interval; with the numbers at risk and of events."""

    time: np.ndarray
    survival: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Survival at given times; 1 before the first."""
        index = np.searchsorted(self.time, times, side="right")
        return np.r_[1.0, self.survival][index]

    @property
    def median(self) -> float:
        """First time at which survival is 0.5 or less; infinite if never."""
        below = np.flatnonzero(self.survival <= 0.5)
        return float(self.time[below[0]]) if len(below) else math.inf


def kaplan_meier(time: np.ndarray, event: np.ndarray, *, level: float = 0.95) -> KaplanMeier:
    """Kaplan-Meier with Greenwood's variance and intervals on the log scale, the default of R's survfit."""
    times = np.unique(time)
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    events = np.array([np.sum(event[time == t]) for t in times], dtype=int)
    survival = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.sqrt(np.cumsum(events / (at_risk * (at_risk - events))))
        half = normal_quantile(level) * greenwood
        lower = np.where(survival > 0, survival * np.exp(-half), np.nan)
        upper = np.where(survival > 0, np.minimum(1, survival * np.exp(half)), np.nan)
    return KaplanMeier(times, survival, lower, upper, at_risk, events)


def log_rank(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Log-rank test of k groups: chi squared with k - 1 degrees of freedom, and p; NaN with one group or no event."""
    labels, codes = np.unique(group, return_inverse=True)
    if len(labels) < 2 or not np.any(event):
        return math.nan, math.nan
    times = np.unique(time[event])
    member = codes[:, None] == np.arange(len(labels))
    at_risk = (time[None, :] >= times[:, None]).astype(float) @ member
    died = ((time[None, :] == times[:, None]) & event[None, :]).astype(float) @ member
    n, d = at_risk.sum(axis=1), died.sum(axis=1)
    share = at_risk / n[:, None]
    difference = (died - d[:, None] * share).sum(axis=0)[:-1]
    factor = np.where(n > 1, d * (n - d) / np.maximum(n - 1, 1), 0.0)
    covariance = np.diag((factor[:, None] * share).sum(axis=0)) - (share * factor[:, None]).T @ share
    try:
        chi = float(difference @ np.linalg.solve(covariance[:-1, :-1], difference))
    except np.linalg.LinAlgError:
        return math.nan, math.nan
    return chi, float(special.chdtrc(len(labels) - 1, chi))


class Pairs(NamedTuple):
    """Pairs of patients: `comparable` (n, n) is 1 where i surely died before j; `concordant` 1, 0.5 or 0 of these."""

    comparable: np.ndarray
    concordant: np.ndarray


def pairs(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> Pairs:
    """Comparable and concordant pairs of Harrell's C; a higher `score` means an earlier event.

    A patient censored at another's time of death has outlived that patient; two deaths at one time are not compared.
    """
    earlier = time[:, None] < time[None, :]
    same = (time[:, None] == time[None, :]) & ~event[None, :]
    comparable = (event[:, None] & (earlier | same)).astype(float)
    better = (score[:, None] > score[None, :]) + 0.5 * (score[:, None] == score[None, :])
    return Pairs(comparable, comparable * better)


def concordance(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> float:
    """Harrell's C (Harrell et al. 1996, Stat Med 15:361); NaN without a comparable pair."""
    if not len(time) or not np.isfinite(score).all():
        return math.nan
    both = pairs(time, event, score)
    total = both.comparable.sum()
    return float(both.concordant.sum() / total) if total else math.nan


def bootstrap_concordance(time: np.ndarray, event: np.ndarray, score: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Harrell's C in every bootstrap sample, (samples,); `drawn` (samples, n) says how often each patient is drawn."""
    if not len(time) or not np.isfinite(score).all():
        return np.full(len(drawn), np.nan)
    both = pairs(time, event, score)
    total = ((drawn @ both.comparable) * drawn).sum(axis=1)
    good = ((drawn @ both.concordant) * drawn).sum(axis=1)
    return np.where(total > 0, good / np.where(total > 0, total, 1), np.nan)


def draw(n: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n patients is drawn with replacement, (samples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(float) if n else np.zeros((samples, 0))
