"""Survival without a model: Kaplan-Meier, log-rank, Harrell's C.

Arrays: `time` (n,) in any unit, `event` (n,) bool.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from ..estimates import normal_quantile

Interval = Literal["log-log", "log"]


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
        return np.r_[1.0, self.survival][self._index(times)]

    def between(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The interval at given times; 1 to 1 before the first event, NaN once survival is 0."""
        index = self._index(times)
        return np.r_[1.0, self.lower][index], np.r_[1.0, self.upper][index]

    @property
    def median(self) -> float:
        """First time at which survival is 0.5 or less; midway to the next event where it is 0.5; infinite if never."""
        return self._quantile(self.survival)

    @property
    def median_interval(self) -> tuple[float, float]:
        """Where the bounds of the curve pass 0.5 (Brookmeyer and Crowley 1982, Biometrics 38:29), as R's survfit."""
        return self._quantile(self.lower), self._quantile(self.upper)

    def _index(self, times: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.time, times, side="right")

    def _quantile(self, curve: np.ndarray) -> float:
        with np.errstate(invalid="ignore"):
            below = np.flatnonzero(curve <= 0.5 + 1e-9)
            beyond = np.flatnonzero(curve < 0.5 - 1e-9)
        if not len(below):
            return math.inf
        first = float(self.time[below[0]])
        if abs(curve[below[0]] - 0.5) < 1e-9 and len(beyond):
            return (first + float(self.time[beyond[0]])) / 2
        return first


def kaplan_meier(
    time: np.ndarray, event: np.ndarray, *, level: float = 0.95, interval: Interval = "log-log"
) -> KaplanMeier:
    """Kaplan-Meier with Greenwood's variance and pointwise intervals.

    `interval` is the scale on which they are symmetric: log(-log S), which keeps its level in small groups, or log S,
    the default of R's survfit (Borgan and Liestol 1990, Scand J Stat 17:35).
    """
    times = np.unique(time)
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    events = np.bincount(np.searchsorted(times, np.asarray(time)[event]), minlength=len(times)).astype(int)
    survival = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.sqrt(np.cumsum(events / (at_risk * (at_risk - events))))
        half = normal_quantile(level) * greenwood
        if interval == "log":
            lower, upper = survival * np.exp(-half), np.minimum(1, survival * np.exp(half))
        else:
            share = half / np.abs(np.log(survival))
            lower, upper = survival ** np.exp(share), survival ** np.exp(-share)
            lower, upper = np.where(survival == 1, 1.0, lower), np.where(survival == 1, 1.0, upper)
    gone = survival <= 0
    return KaplanMeier(times, survival, np.where(gone, np.nan, lower), np.where(gone, np.nan, upper), at_risk, events)


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


def log_rank_scores(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Log-rank scores (n,): event less the Nelson-Aalen hazard at the patient's own time; they sum to zero."""
    order = np.sort(time)
    times, counts = np.unique(np.asarray(time)[event], return_counts=True)
    hazard = np.r_[0.0, np.cumsum(counts / (len(time) - np.searchsorted(order, times, side="left")))]
    return event - hazard[np.searchsorted(times, time, side="right")]


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


def concordance_error(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> float:
    """Standard error of Harrell's C by the infinitesimal jackknife, as R's survival::concordance."""
    both = pairs(time, event, score)
    total, good = both.comparable.sum(), both.concordant.sum()
    if not total:
        return math.nan
    own = both.concordant.sum(axis=0) + both.concordant.sum(axis=1)
    own -= good / total * (both.comparable.sum(axis=0) + both.comparable.sum(axis=1))
    return float(np.sqrt((own**2).sum()) / total)


def jackknife_concordance(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Harrell's C without each patient in turn, (n,); the acceleration of BCa intervals comes from it."""
    both = pairs(time, event, score)
    good = both.concordant.sum() - both.concordant.sum(axis=0) - both.concordant.sum(axis=1)
    total = both.comparable.sum() - both.comparable.sum(axis=0) - both.comparable.sum(axis=1)
    return np.where(total > 0, good / np.where(total > 0, total, 1), np.nan)
