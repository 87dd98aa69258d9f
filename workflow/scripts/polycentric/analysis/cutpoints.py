"""Cut-offs of a prognostic index: quantiles, or the maximally selected log-rank statistic with its corrected p."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .survival import log_rank_scores


class Maximal(NamedTuple):
    """The cut (low risk: at or below), its standardised log-rank statistic and p corrected for the search."""

    cut: float
    statistic: float
    p: float


def standardised(x: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidate cuts (the values of x but the last) and the absolute standardised sum of scores at or below each."""
    order = np.argsort(x, kind="stable")
    n = len(x)
    ordered, sums = x[order], np.cumsum((scores - scores.mean())[order])
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])[:-1]
    below = last + 1
    variance = below * (n - below) / (n * (n - 1)) * ((scores - scores.mean()) ** 2).sum()
    return ordered[last], np.abs(sums[last]) / np.sqrt(np.where(variance > 0, variance, np.inf))


def maximally_selected(x: np.ndarray, time: np.ndarray, event: np.ndarray, *, smallest: float = 0.1) -> Maximal:
    """The cut of x with the largest log-rank statistic among those that leave `smallest` of the patients on each side.

    Lausen and Schumacher 1992, Biometrics 48:73: log-rank scores, their permutation variance, and the approximate p of
    the maximum, as maxstat.test(smethod = "LogRank", pmethod = "Lau92") in R. NaN where nothing can be cut.
    """
    nothing = Maximal(math.nan, math.nan, math.nan)
    if len(x) < 4 or not np.any(event) or not np.isfinite(x).all():
        return nothing
    cuts, statistics = standardised(x, log_rank_scores(time, event))
    share = np.searchsorted(np.sort(x), cuts, side="right") / len(x)
    allowed = (share >= smallest) & (share <= 1 - smallest)
    if not allowed.any():
        return nothing
    best = int(np.argmax(np.where(allowed, np.round(statistics, 12), -1)))
    return Maximal(float(cuts[best]), float(statistics[best]), lausen_schumacher(statistics[best], smallest))


def lausen_schumacher(statistic: float, smallest: float) -> float:
    """Approximate p of the largest of standardised statistics over the inner 1 - 2 `smallest` of the patients."""
    if statistic < 1:  # the approximation is for the tail
        return 1.0
    density = math.exp(-(statistic**2) / 2) / math.sqrt(2 * math.pi)
    width = math.log((1 - smallest) ** 2 / smallest**2)
    return float(min(1.0, max(0.0, density * ((statistic - 1 / statistic) * width + 4 / statistic))))
