"""Cox regression in numpy: Efron and Breslow ties, ridge, offset, score tests, proportional hazards, elimination.

Arrays: `x` (n, p), `time` (n,) in any unit, `event` (n,) bool. Everything is vectorised over patients and covariates,
so that permutations and bootstraps of whole chains stay cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special
from scipy.stats import rankdata

Ties = Literal["efron", "breslow"]


@dataclass(frozen=True)
class Risk:
    """The risk sets of a cohort: patients by ascending time and, for every event, who was at risk.

    `order` (n,) sorts patients; `first` (d,) is the position of the first patient at risk of each event; `member` (d,)
    the position of the event itself; `tied` (d,) the number of its tie group; `share` (d,) is Efron's l/d, zero with
    Breslow; `last` (n,) is how many events lie at or before each patient's time.
    """

    order: np.ndarray
    first: np.ndarray
    member: np.ndarray
    tied: np.ndarray
    share: np.ndarray
    last: np.ndarray

    @property
    def events(self) -> int:
        return len(self.member)


def risk_sets(time: np.ndarray, event: np.ndarray, ties: Ties = "efron") -> Risk:
    """Risk sets of right-censored times; a patient censored at an event's time is at risk of it."""
    order = np.argsort(time, kind="stable")
    ordered, happened = np.asarray(time, dtype=float)[order], np.asarray(event, dtype=bool)[order]
    member = np.flatnonzero(happened)
    times = ordered[member]
    _, tied, counts = np.unique(times, return_inverse=True, return_counts=True)
    starts = np.r_[0, np.cumsum(counts)[:-1]].astype(int)
    within = np.arange(len(member)) - starts[tied]
    share = within / counts[tied] if ties == "efron" else np.zeros(len(member))
    first = np.searchsorted(ordered, times, side="left")
    last = np.searchsorted(times, ordered, side="right")
    return Risk(order, first, member, tied, share, last)


def _sums(risk: Risk, values: np.ndarray) -> np.ndarray:
    """Sum over the risk set of every event, less Efron's share of the tied events; `values` in risk order."""
    total = np.cumsum(values[::-1], axis=0)[::-1][risk.first]
    if not risk.share.any():
        return total
    shape = (int(risk.tied.max()) + 1, *values.shape[1:])
    events = np.zeros(shape)
    np.add.at(events, risk.tied, values[risk.member])
    share = risk.share.reshape(-1, *[1] * (values.ndim - 1))
    return total - share * events[risk.tied]


def _exposure(risk: Risk, per_event: np.ndarray) -> np.ndarray:
    """For every patient in risk order, the sum of `per_event` over the events whose risk set holds the patient."""
    running = np.r_[0.0, np.cumsum(per_event)]
    exposure = running[risk.last]
    if risk.share.any():
        taken = np.zeros(int(risk.tied.max()) + 1)
        np.add.at(taken, risk.tied, per_event * risk.share)
        exposure[risk.member] -= taken[risk.tied]
    return exposure


def _information(
    x: np.ndarray, w: np.ndarray, s0: np.ndarray, mean: np.ndarray, risk: Risk, g: np.ndarray
) -> np.ndarray:
    """Sum over events of g times the weighted covariance of x in the risk set; all in risk order."""
    weight = w * _exposure(risk, g / s0)
    return (x * weight[:, None]).T @ x - (mean * g[:, None]).T @ mean


@dataclass(frozen=True)
class CoxFit:
    """A fitted model: coefficients (p,) per unit of x, covariance (p, p), log partial likelihood without penalty."""

    coefficients: np.ndarray
    covariance: np.ndarray
    loglik: float
    loglik_null: float
    converged: bool

    @property
    def errors(self) -> np.ndarray:
        return np.sqrt(np.maximum(np.diag(self.covariance), 0))


def _likelihood(
    x: np.ndarray, beta: np.ndarray, risk: Risk, shift: np.ndarray | float = 0.0
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    eta = x @ beta + shift
    eta = eta - eta.max(initial=-np.inf) if len(eta) else eta
    w = np.exp(eta)
    s0 = np.maximum(_sums(risk, w), 1e-300)
    return float(eta[risk.member].sum() - np.log(s0).sum()), eta, w, s0


def fit(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    *,
    ridge: float | np.ndarray = 0.0,
    ties: Ties = "efron",
    start: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> CoxFit:
    """Maximise the partial likelihood less sum(ridge_j beta_j^2)/2 by Newton's method with step halving.

    Efron's ties (Efron 1977, JASA 72:557) equal R's coxph. With a ridge the covariance is the inverse of the penalised
    information, which is only an approximation. `offset` (n,) is added to the linear predictor. `converged` is False
    when a coefficient runs away (monotone likelihood) or there are no events.
    """
    risk = risk_sets(time, event, ties)
    x = np.asarray(x, dtype=float)[risk.order]
    shift = 0.0 if offset is None else np.asarray(offset, dtype=float)[risk.order]
    p = x.shape[1]
    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), (p,))
    beta = np.zeros(p) if start is None else np.array(start, dtype=float)
    nothing = np.full((p, p), np.nan)
    if risk.events == 0:
        return CoxFit(np.full(p, np.nan), nothing, math.nan, math.nan, False)
    null = _likelihood(x, np.zeros(p), risk, shift)[0]
    if p == 0:
        return CoxFit(beta, nothing, null, null, True)
    spread = x.std(axis=0)
    loglik, _, w, s0 = _likelihood(x, beta, risk, shift)
    objective = loglik - (penalty * beta**2).sum() / 2
    converged = False
    for _ in range(50):
        mean = _sums(risk, x * w[:, None]) / s0[:, None]
        gradient = x[risk.member].sum(axis=0) - mean.sum(axis=0) - penalty * beta
        information = _information(x, w, s0, mean, risk, np.ones(risk.events)) + np.diag(penalty)
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return CoxFit(np.full(p, np.nan), nothing, math.nan, null, False)
        scale = 1.0
        while True:
            trial = beta + scale * step
            new, _, trial_w, trial_s0 = _likelihood(x, trial, risk, shift)
            value = new - (penalty * trial**2).sum() / 2
            if value >= objective - 1e-12 * abs(objective) or scale < 1e-6:
                break
            scale /= 2
        gain, beta, loglik, w, s0, objective = value - objective, trial, new, trial_w, trial_s0, value
        if (np.abs(beta) * spread).max() > 15 or not np.isfinite(beta).all():
            break
        if abs(gain) < 1e-11 * max(abs(objective), 1.0) and (np.abs(step) * np.maximum(spread, 1e-12)).max() < 1e-7:
            converged = True
            break
    mean = _sums(risk, x * w[:, None]) / s0[:, None]
    information = _information(x, w, s0, mean, risk, np.ones(risk.events)) + np.diag(penalty)
    try:
        covariance = np.linalg.inv(information)
    except np.linalg.LinAlgError:
        covariance, converged = nothing, False
    return CoxFit(beta, covariance, loglik, null, converged)


def partial_loglik(eta: np.ndarray, time: np.ndarray, event: np.ndarray, ties: Ties = "efron") -> float:
    """Log partial likelihood of given linear predictors."""
    risk = risk_sets(time, event, ties)
    if not risk.events:
        return 0.0
    return _likelihood(np.asarray(eta, dtype=float)[risk.order, None], np.ones(1), risk)[0]


def score_tests(x: np.ndarray, time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score test of each covariate alone at beta = 0: (chi squared, p), both (p,); the log-rank test's relative.

    A constant covariate has chi squared 0 and p 1.
    """
    risk = risk_sets(time, event)
    x = np.asarray(x, dtype=float)[risk.order]
    if not risk.events:
        return np.zeros(x.shape[1]), np.ones(x.shape[1])
    x = x - x.mean(axis=0)
    x = x / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    w = np.ones(len(x))
    s0 = _sums(risk, w)
    mean = _sums(risk, x) / s0[:, None]
    score = x[risk.member].sum(axis=0) - mean.sum(axis=0)
    variance = _exposure(risk, 1 / s0) @ x**2 - (mean**2).sum(axis=0)
    chi = np.where(variance > 1e-10, score**2 / np.where(variance > 1e-10, variance, 1), 0.0)
    return chi, special.chdtrc(1, chi)


Transform = Literal["km", "rank", "identity", "log"]


def proportional_hazards(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    coefficients: np.ndarray,
    transform: Transform = "km",
    ties: Ties = "efron",
) -> tuple[np.ndarray, np.ndarray]:
    """Score test of proportional hazards against x g(t): chi squared and p, each (p + 1,), the last one global.

    As cox.zph of R's survival >= 3 (Grambsch and Therneau 1994, Biometrika 81:515, with the exact information matrix).
    `transform` is g: one minus the Kaplan-Meier estimate just before each event, the rank of the event's time among
    all times, the time itself, or its logarithm. NaN where it cannot be computed.
    """
    risk = risk_sets(time, event, ties)
    x = np.asarray(x, dtype=float)[risk.order]
    p = x.shape[1]
    missing = np.full(p + 1, np.nan)
    if not np.isfinite(coefficients).all() or risk.events < 2:
        return missing, missing
    g = _time_scale(np.asarray(time, dtype=float)[risk.order], risk, transform)
    g = g - g.mean()
    _, _, w, s0 = _likelihood(x, coefficients, risk)
    mean = _sums(risk, x * w[:, None]) / s0[:, None]
    score = ((x[risk.member] - mean) * g[:, None]).sum(axis=0)
    base, cross, square = (_information(x, w, s0, mean, risk, g**k) for k in range(3))
    chi = missing.copy()
    try:
        for j in range(p):
            full = np.block([[base, cross[:, [j]]], [cross[[j], :], square[[j]][:, [j]]]])
            chi[j] = score[j] ** 2 * np.linalg.inv(full)[p, p]
        full = np.linalg.inv(np.block([[base, cross], [cross, square]]))[p:, p:]
        chi[p] = score @ full @ score
    except np.linalg.LinAlgError:
        return missing, missing
    degrees = np.r_[np.ones(p), p]
    return chi, special.chdtrc(degrees, np.maximum(chi, 0))


def _time_scale(ordered: np.ndarray, risk: Risk, transform: Transform) -> np.ndarray:
    times = ordered[risk.member]
    if transform == "identity":
        return times
    if transform == "log":
        return np.log(times)
    if transform == "rank":
        return rankdata(ordered)[risk.member]
    at_risk = len(ordered) - risk.first
    counts = np.bincount(risk.tied)
    groups = np.r_[0, np.cumsum(counts)[:-1]].astype(int)
    survival = np.cumprod(1 - counts / at_risk[groups])
    return 1 - np.r_[1.0, survival[:-1]][risk.tied]


def baseline(
    index: np.ndarray, time: np.ndarray, event: np.ndarray, ties: Ties = "efron"
) -> tuple[np.ndarray, np.ndarray]:
    """Times of events and the cumulative baseline hazard (at index 0) from each of them on.

    Breslow's estimate, with Efron's share of tied events where the model has it, as R's basehaz(centered = FALSE).
    """
    risk = risk_sets(time, event, ties)
    if not risk.events:
        return np.empty(0), np.empty(0)
    ordered = np.asarray(index, dtype=float)[risk.order]
    top = ordered.max()
    steps = np.bincount(risk.tied, 1 / np.maximum(_sums(risk, np.exp(ordered - top)), 1e-300)) * np.exp(-top)
    return np.unique(np.asarray(time, dtype=float)[np.asarray(event, dtype=bool)]), np.cumsum(steps)


def backward(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    *,
    alpha: float | None = None,
    free: int = 0,
    ridge: float = 0.0,
    ties: Ties = "efron",
) -> np.ndarray:
    """Positions of the columns that backward elimination keeps.

    Wald's test: the column with the largest p leaves while that p is above `alpha` (fastbw of R's rms). Without alpha
    by AIC: the column leaves whose absence lowers 2 k - 2 loglik most, until none does (stepAIC of R's MASS). The first
    `free` columns always stay. `ridge` (per event) is for data that have no maximum of the likelihood.
    """
    kept = np.arange(x.shape[1])
    penalty = ridge * int(np.sum(event))
    while len(kept) > free:
        model = fit(x[:, kept], time, event, ridge=penalty, ties=ties)
        if alpha is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                z = np.abs(model.coefficients / model.errors)[free:]
            z = np.where(np.isfinite(z), np.round(z, 10), 0.0)
            worst = int(np.argmin(z))
            if 2 * special.ndtr(-z[worst]) <= alpha:
                break
        else:
            without = [fit(np.delete(x[:, kept], j, axis=1), time, event, ridge=penalty, ties=ties).loglik
                       for j in range(free, len(kept))]  # fmt: skip
            losses = np.round(2 * (model.loglik - np.array(without)), 10)
            worst = int(np.argmin(losses))
            if losses[worst] >= 2:
                break
        kept = np.delete(kept, free + worst)
    return kept


def likelihood_ratio(fitted: CoxFit, degrees: int) -> tuple[float, float]:
    """Chi squared and p of a fit against no effect."""
    chi = 2 * (fitted.loglik - fitted.loglik_null)
    return chi, float(special.chdtrc(degrees, max(chi, 0.0)))


def derivatives(x: np.ndarray, beta: np.ndarray, risk: Risk) -> tuple[float, np.ndarray, np.ndarray]:
    """Log partial likelihood, gradient (p,) and information (p, p) at beta; x in the order of the risk sets."""
    loglik, _, w, s0 = _likelihood(x, beta, risk)
    mean = _sums(risk, x * w[:, None]) / s0[:, None]
    gradient = x[risk.member].sum(axis=0) - mean.sum(axis=0)
    return loglik, gradient, _information(x, w, s0, mean, risk, np.ones(risk.events))


def loglik(x: np.ndarray, beta: np.ndarray, risk: Risk) -> float:
    """Log partial likelihood at beta; x in the order of the risk sets."""
    return _likelihood(x, beta, risk)[0]


def survival(index: np.ndarray, times: np.ndarray, hazard: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Predicted survival (n, at) from an index (n,) and a baseline hazard (see `baseline`)."""
    steps = np.r_[0.0, hazard][np.searchsorted(times, at, side="right")]
    with np.errstate(over="ignore"):
        return np.exp(-np.exp(np.asarray(index))[:, None] * steps)
