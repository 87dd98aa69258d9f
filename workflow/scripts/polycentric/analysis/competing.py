"""Competing risks: cumulative incidence by Aalen and Johansen, Gray's test.

Arrays: `time` (n,) in any unit; `cause` (n,) int, 0 censored, 1 the event, 2 and above other events that end follow-up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from ..estimates import normal_quantile


class Incidence(NamedTuple):
    """A step function: from each time on, the probability that the event has happened, and its interval."""

    time: np.ndarray
    incidence: np.ndarray
    error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Incidence at given times; 0 before the first."""
        return np.r_[0.0, self.incidence][np.searchsorted(self.time, times, side="right")]


def aalen_johansen(time: np.ndarray, cause: np.ndarray, of: int = 1, *, level: float = 0.95) -> Incidence:
    """Cumulative incidence of cause `of` (Aalen and Johansen 1978, Scand J Stat 5:141).

    The standard error is the infinitesimal jackknife and the interval symmetric on the scale log(-log), both as R's
    survfit gives them. One minus Kaplan-Meier, with other causes censored, would overstate the incidence.
    """
    time, cause = np.asarray(time, dtype=float), np.asarray(cause)
    times = np.unique(time)
    position = np.searchsorted(times, time)
    y = (len(time) - np.searchsorted(np.sort(time), times, side="left")).astype(float)
    any_event = np.bincount(position[cause > 0], minlength=len(times))
    own = np.bincount(position[cause == of], minlength=len(times))
    before = np.r_[1.0, np.cumprod(1 - any_event / y)[:-1]]
    incidence = np.cumsum(before * own / y)
    # influence of each patient's weight on every step
    there = (position[:, None] >= np.arange(len(times))).astype(float)
    here = position[:, None] == np.arange(len(times))
    left = y - any_event
    any_own = here & (cause > 0)[:, None]
    on_survival = (any_own - there * (any_event / y)) / np.where(left > 0, left, np.inf)
    on_before = -before * np.c_[np.zeros(len(time)), np.cumsum(on_survival, axis=1)[:, :-1]]
    on_hazard = ((here & (cause == of)[:, None]) - there * (own / y)) / y
    influence = np.cumsum(on_before * (own / y) + before * on_hazard, axis=1)
    error = np.sqrt((influence**2).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = normal_quantile(level) * error / (incidence * np.abs(np.log(incidence)))
        lower, upper = incidence ** np.exp(share), incidence ** np.exp(-share)
    none = incidence <= 0
    return Incidence(
        times, incidence, error, np.where(none, 0.0, lower), np.where(none, 0.0, upper), y.astype(int), own
    )


def gray(time: np.ndarray, cause: np.ndarray, group: np.ndarray, of: int = 1) -> tuple[float, float]:
    """Gray's test that the cumulative incidence of cause `of` is the same in k groups: chi squared (k - 1) and p.

    Gray 1988, Ann Stat 16:1141, with weight 1 (rho = 0). NaN with one group or without an event.
    """
    labels, codes = np.unique(group, return_inverse=True)
    k = len(labels)
    if k < 2 or not np.any(cause == of):
        return math.nan, math.nan
    member = codes[:, None] == np.arange(k)
    survival, incidence, common = np.ones(k), np.zeros(k), 0.0
    score, variance = np.zeros(k), np.zeros((k, k))
    c, cross, last = np.zeros((k, k)), np.zeros((k, k)), np.zeros(k)
    for t in np.unique(time[cause > 0]):
        at_risk = (member & (time >= t)[:, None]).sum(axis=0).astype(float)
        now = time == t
        own = (member & (now & (cause == of))[:, None]).sum(axis=0)
        other = (member & (now & (cause != of) & (cause > 0))[:, None]).sum(axis=0)
        here = at_risk > 0
        safe = np.where(here, at_risk, 1.0)
        after = np.where(here, survival * (at_risk - own - other) / safe, survival)
        # patients at risk had other causes not removed any: the risk set of the subdistribution
        weight = np.where(here & (survival > 0), at_risk / np.where(survival > 0, survival, 1), 0.0)
        total, expected = weight.sum(), (weight * (1 - incidence)).sum()
        d = own.sum()
        new_common = common + d / total
        a = np.diag(weight) - np.outer(weight, weight) / total
        c = c + a * d / (total * (1 - common))
        score += own - d * weight * (1 - incidence) / expected
        for g in np.flatnonzero(here):
            parts = []
            if d:
                outer = 1 - (1 - new_common) / after[g] if after[g] > 0 else 1.0
                tied = 1 - (d - 1) / (total * survival[g] - 1) if d > 1 else 1.0
                parts.append((a[:, g] - outer * c[:, g], outer, tied * survival[g] * d / (total * at_risk[g])))
            if other[g] and after[g] > 0:
                outer = (1 - new_common) / after[g]
                tied = 1 - (other[g] - 1) / (at_risk[g] - 1) if other[g] > 1 else 1.0
                parts.append((-outer * -c[:, g], -outer, tied * survival[g] ** 2 * other[g] / at_risk[g] ** 2))
            for vector, outer, scale in parts:
                variance += np.outer(vector, vector) * scale
                cross[:, g] += vector * outer * scale
                last[g] += outer**2 * scale
        incidence = incidence + np.where(here, survival * own / safe, 0.0)
        survival, common = after, new_common
    mixed = c @ cross.T
    variance = variance + mixed + mixed.T + (c * last) @ c.T
    try:
        chi = float(score[:-1] @ np.linalg.solve(variance[:-1, :-1], score[:-1]))
    except np.linalg.LinAlgError:
        return math.nan, math.nan
    return (chi, float(special.chdtrc(k - 1, chi))) if chi >= 0 else (math.nan, math.nan)
