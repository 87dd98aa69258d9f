"""Calibration of survival predictions: slope, misspecification, at a time.

Royston and Altman 2013, BMC Med Res Methodol 13:33; Austin, Harrell and van Klaveren 2020, Stat Med 39:2714.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from . import cox, discrimination

SPLINE_EVENTS = 30  # events from which the smooth curve may bend


class Misfit(NamedTuple):
    """Joint likelihood ratio test that the model's own variables add nothing to its index."""

    chi_squared: float
    degrees: int
    p: float


def misspecification(x: np.ndarray, index: np.ndarray, time: np.ndarray, event: np.ndarray) -> Misfit:
    """Fit the variables x (n, p) of a model with its index as offset; a small p says that their weights differ here.

    NaN where fewer than two events per variable, or a variable that does not vary, leave nothing to test.
    """
    p = x.shape[1]
    if not p or event.sum() < 2 * p or not np.isfinite(index).all() or (x.std(axis=0) < 1e-9).any():
        return Misfit(math.nan, p, math.nan)
    fit = cox.fit(x, time, event, offset=index)
    if not fit.converged:
        return Misfit(math.nan, p, math.nan)
    chi, p_value = cox.likelihood_ratio(fit, p)
    return Misfit(chi, p, p_value)


def observed_to_expected(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float, counts: np.ndarray
) -> np.ndarray:
    """Risk by t after Kaplan-Meier over the mean predicted risk, (samples,)."""
    observed = discrimination.null_risk(time, event, t, counts)
    expected = counts @ risk / np.maximum(counts.sum(axis=1), 1)
    return np.where(expected > 0, observed / np.where(expected > 0, expected, 1), np.nan)


def smooth(time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float, at: np.ndarray | None = None) -> np.ndarray:
    """Observed risk by t as a smooth function of the predicted one, at predicted risks `at` (default: the patients').

    Cox regression on a restricted cubic spline (three knots) of log(-log(1 - risk)), straight with few events. NaN
    where it cannot be fitted.
    """
    at = risk if at is None else at
    z = _cloglog(risk)
    if len(z) < 3 or not event.any() or np.ptp(z) < 1e-9:
        return np.full(len(at), np.nan)
    knots = np.quantile(z, [0.1, 0.5, 0.9]) if event.sum() >= SPLINE_EVENTS else None
    if knots is not None and np.diff(knots).min() < 1e-6 * np.ptp(z):
        knots = None
    x = _spline(z, knots)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    fit = cox.fit((x - centre) / scale, time, event)
    if not fit.converged:
        return np.full(len(at), np.nan)
    times, hazard = cox.baseline((x - centre) / scale @ fit.coefficients, time, event)
    rows = (_spline(_cloglog(at), knots) - centre) / scale
    return 1 - cox.survival(rows @ fit.coefficients, times, hazard, np.array([t]))[:, 0]


class Curve(NamedTuple):
    """The smooth curve at predicted risks, with its pointwise band."""

    predicted: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def curve(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    t: float,
    counts: np.ndarray,
    *,
    level: float,
    points: int = 60,
) -> tuple[Curve, np.ndarray]:
    """`smooth` from the 2nd to the 98th percentile of the risks with the band of bootstrap samples, and the integrated
    calibration index of every sample (samples,); `counts` (samples, n) says how often each patient is drawn."""
    low, high = np.quantile(risk, [0.02, 0.98]) if len(risk) > 1 else (0.0, 0.0)
    at = np.linspace(low, high, points)
    curves, indices = np.full((len(counts), points), np.nan), np.full(len(counts), np.nan)
    for k, drawn in enumerate(counts):
        rows = np.repeat(np.arange(len(time)), drawn.astype(int))
        found = smooth(time[rows], event[rows], risk[rows], t, np.r_[risk[rows], at])
        curves[k] = found[len(rows) :]
        indices[k] = np.abs(found[: len(rows)] - risk[rows]).mean()
    kept = curves[np.isfinite(curves).all(axis=1)]
    band = np.full((2, points), np.nan)
    if len(kept) > 1:
        band = np.quantile(kept, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return Curve(at, smooth(time, event, risk, t, at), *band), indices


def ici(time: np.ndarray, event: np.ndarray, risk: np.ndarray, t: float) -> float:
    """Integrated calibration index at t: mean distance of smooth observed and predicted risk."""
    return float(np.abs(smooth(time, event, risk, t) - risk).mean()) if len(risk) else math.nan


def _cloglog(risk: np.ndarray) -> np.ndarray:
    kept = np.clip(risk, 1e-8, 1 - 1e-8)
    return np.log(-np.log1p(-kept))


def _spline(z: np.ndarray, knots: np.ndarray | None) -> np.ndarray:
    """Restricted cubic spline (Harrell): z and one bend, or z alone without knots."""
    if knots is None:
        return z[:, None]
    a, b, c = knots

    def cube(k: float) -> np.ndarray:
        return np.maximum(z - k, 0) ** 3

    bend = cube(a) - cube(b) * (c - a) / (c - b) + cube(c) * (b - a) / (c - b)
    return np.column_stack([z, bend / (c - a) ** 2])
