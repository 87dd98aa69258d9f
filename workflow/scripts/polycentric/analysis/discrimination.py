"""Discrimination and prediction error under censoring: Uno's C, time-dependent AUC, Brier score.

Arrays: `time` (n,), `event` (n,) bool, `counts` (samples, n): how often each patient stands in each sample, a row of
ones for the sample itself. Everything is computed for all samples at once; censoring is estimated anew in each.

Censored patients are represented by others, with inverse probability of censoring weights: an event at u weighs
1 / G(u-), a patient still at risk at t weighs 1 / G(t); G is the Kaplan-Meier estimate of staying uncensored, where at
tied times events come before censorings. These are the definitions of R's riskRegression (and, for Uno's C, of
survival::concordance with timewt = "n/G2"); scikit-survival takes G(u) instead of G(u-) and differs in the third digit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .survival import pairs


class Censoring(NamedTuple):
    """Probability of staying uncensored: `before` (samples, n) just before each patient's time; steps for any time."""

    before: np.ndarray
    times: np.ndarray
    steps: np.ndarray

    def at(self, t: float) -> np.ndarray:
        """G(t) of every sample, (samples,)."""
        return self.steps[:, np.searchsorted(self.times, t, side="right")]


def ones(n: int) -> np.ndarray:
    """The sample itself: every patient once, (1, n)."""
    return np.ones((1, n))


def censoring(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> Censoring:
    """Kaplan-Meier estimate of the censoring distribution in every sample."""
    times, position = np.unique(time, return_inverse=True)
    at = np.zeros((len(time), len(times)))
    at[np.arange(len(time)), position] = 1.0
    everyone, lost, died = counts @ at, counts @ (at * ~event[:, None]), counts @ (at * event[:, None])
    at_risk = np.cumsum(everyone[:, ::-1], axis=1)[:, ::-1] - died  # events of this time have left
    factor = 1 - np.where(at_risk > 0, lost / np.where(at_risk > 0, at_risk, 1), 0.0)
    steps = np.c_[np.ones(len(counts)), np.cumprod(factor, axis=1)]
    return Censoring(steps[:, position], times, steps)


def uno(
    time: np.ndarray, event: np.ndarray, score: np.ndarray, counts: np.ndarray, until: float = np.inf
) -> np.ndarray:
    """Uno's C (Uno et al. 2011, Stat Med 30:1105) of events before `until`, (samples,); NaN without a pair."""
    both = pairs(time, event, score)
    g = censoring(time, event, counts).before
    known = event & (time <= until)
    weight = np.where(known & (g > 0), counts / np.where(g > 0, g, 1) ** 2, 0.0)
    return _ratio(((weight @ both.concordant) * counts).sum(axis=1), ((weight @ both.comparable) * counts).sum(axis=1))


def auc(
    time: np.ndarray, event: np.ndarray, score: np.ndarray, t: float, counts: np.ndarray, g: Censoring | None = None
) -> np.ndarray:
    """Cumulative/dynamic AUC at t, (samples,): cases have had the event by t, controls are at risk after it.

    Uno et al. 2007, JASA 102:527; Blanche et al. 2013, Stat Med 32:5381 (timeROC, riskRegression). NaN without a case
    or a control.
    """
    g = g or censoring(time, event, counts)
    case = event & (time <= t)
    weight = np.where(case & (g.before > 0), counts / np.where(g.before > 0, g.before, 1), 0.0)
    controls = counts * (time > t)
    better = (score[:, None] > score[None, :]) + 0.5 * (score[:, None] == score[None, :])
    total = weight.sum(axis=1) * controls.sum(axis=1)
    return _ratio(((weight @ better) * controls).sum(axis=1), total)


def brier(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float, counts: np.ndarray, g: Censoring | None = None
) -> np.ndarray:
    """Brier score at t of predicted risks (n,) of an event by t, (samples,).

    Graf et al. 1999, Stat Med 18:2529; Gerds and Schumacher 2006, Biom J 48:1029.
    """
    g = g or censoring(time, event, counts)
    case, later = event & (time <= t), time > t
    late = g.at(t)[:, None]
    weight = np.where(case & (g.before > 0), 1 / np.where(g.before > 0, g.before, 1), 0.0)
    weight = weight + np.where(later & (late > 0), 1 / np.where(late > 0, late, 1), 0.0)
    error = np.where(case, (1 - risk) ** 2, risk**2)
    return _ratio((counts * weight) @ error, counts.sum(axis=1))


def null_risk(time: np.ndarray, event: np.ndarray, t: float, counts: np.ndarray) -> np.ndarray:
    """Risk of an event by t without predictors, one minus Kaplan-Meier, (samples,)."""
    times, position = np.unique(time[event], return_inverse=True)
    early = times <= t
    at_risk = counts @ (time[:, None] >= times[None, :]).astype(float)
    at = np.zeros((len(time), len(times)))
    at[np.flatnonzero(event), position] = 1.0
    died = counts @ at
    factor = 1 - np.where(at_risk > 0, died / np.where(at_risk > 0, at_risk, 1), 0.0)
    return 1 - np.prod(factor[:, early], axis=1)


def null_brier(
    time: np.ndarray, event: np.ndarray, t: float, counts: np.ndarray, g: Censoring | None = None
) -> np.ndarray:
    """Brier score at t when everyone is given the risk of the sample, (samples,)."""
    risk = null_risk(time, event, t, counts)
    zero, one = (brier(time, event, np.full(len(time), r), t, counts, g) for r in (0.0, 1.0))
    # the score is a quadratic in a common risk: cases (1 - r)^2 and the others r^2 of their weight
    return one * risk**2 + zero * (1 - risk) ** 2


def integrated(scores: np.ndarray, times: np.ndarray, *, start: float = 0.0) -> np.ndarray:
    """Mean over time from `start` to the last of `times` of scores (samples, times), by trapezoids from 0 at start."""
    at = np.r_[start, times]
    values = np.c_[np.zeros(len(scores)), scores]
    return ((values[:, 1:] + values[:, :-1]) / 2 * np.diff(at)).sum(axis=1) / (at[-1] - start)


def net_benefit(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float, thresholds: np.ndarray,
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Net benefit at t of treating those whose risk reaches each threshold, and of treating all (thresholds,).

    Vickers et al. 2008, BMC Med Inform Decis Mak 8:53: the risk of those treated is one minus Kaplan-Meier. With
    `counts` of samples, (samples, thresholds).
    """
    drawn = ones(len(time)) if counts is None else counts
    overall, odds = null_risk(time, event, t, drawn)[:, None], thresholds / (1 - thresholds)
    total, benefit = drawn.sum(axis=1), np.zeros((len(drawn), len(thresholds)))
    for k, threshold in enumerate(thresholds):
        chosen = risk >= threshold
        if chosen.any():
            own = drawn[:, chosen]
            observed = null_risk(time[chosen], event[chosen], t, own)
            benefit[:, k] = own.sum(axis=1) / total * (observed - (1 - observed) * odds[k])
    everyone = overall - (1 - overall) * odds
    return (benefit[0], everyone[0]) if counts is None else (benefit, everyone)


class Decision(NamedTuple):
    """Net benefit (thresholds,) of a model and of treating all, each with a pointwise band, and the gain of the model
    over the better of treating all and none, with a paired band; all (thresholds,) or (3, thresholds)."""

    thresholds: np.ndarray
    model: np.ndarray
    everyone: np.ndarray
    gain: np.ndarray


def decision(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float, thresholds: np.ndarray, counts: np.ndarray,
    *, level: float,
) -> Decision:  # fmt: skip
    """`net_benefit` with percentile bands of bootstrap samples; rows of the results: value, lower, upper."""
    whole = net_benefit(time, event, risk, t, thresholds)
    drawn = net_benefit(time, event, risk, t, thresholds, counts)

    def described(value: np.ndarray, samples: np.ndarray) -> np.ndarray:
        band = np.full((2, len(value)), np.nan)
        if len(samples) > 1:
            band = np.quantile(samples, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return np.vstack([value, band])

    gains = [own - np.maximum(everyone, 0) for own, everyone in (whole, drawn)]
    return Decision(thresholds, described(whole[0], drawn[0]), described(whole[1], drawn[1]), described(*gains))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)
