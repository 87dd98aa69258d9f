"""Calibration of predicted probabilities: slope, in the large, ICI, E50, E90 and the flexible curve.

The flexible curve is R's `loess(y ~ p, span = 0.75, degree = 2)` with exact fits (`surface = "direct"`), as Austin and
Steyerberg use it (2019, Stat Med 38:4051): ICI is the mean, E50 the median and E90 the 90th percentile of its distance
from the predicted probability over the patients. R's default interpolates between few fits, and `rms::val.prob` uses
lowess (straight lines, no robustness weights); docs/statistics.md lists the differences. There is no Hosmer-Lemeshow
test: its result hangs on the grouping, and it says nothing of size (Van Calster et al. 2019, BMC Med 17:230).

Arrays: `outcome` (n,) bool or 0/1, `probability` (n,); `counts` (samples, n) says how often each patient is drawn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, estimate, percentiles
from . import roc

SPAN, VERTICES = 0.75, 33
BLOCK = 256  # fits at a time, for the sake of memory
INDICES = ("ici", "e50", "e90")
FEWEST = 20  # patients below whom a flexible curve is not drawn
METHOD = "loess of degree 2 and span 0.75 (Austin and Steyerberg 2019)"


class Flexible(NamedTuple):
    """The flexible curve at predicted probabilities, with its pointwise band."""

    predicted: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def loess(x: np.ndarray, y: np.ndarray, at: np.ndarray, span: float = SPAN) -> np.ndarray:
    """Local quadratic regression with tricube weights of the nearest `span` of the points, at `at` (m,).

    Cleveland and Devlin 1988, JASA 83:596. Where the neighbours have fewer than three distinct values the polynomial
    of least norm is taken, as R does.
    """
    blocks = [_fits(x, y, at[k : k + BLOCK], span) for k in range(0, len(at), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _fits(x: np.ndarray, y: np.ndarray, at: np.ndarray, span: float) -> np.ndarray:
    distance = np.abs(at[:, None] - x[None, :])
    nearest = min(len(x), math.floor(span * len(x) + 1e-5))
    width = np.partition(distance, nearest - 1, axis=1)[:, nearest - 1 : nearest] * max(1.0, span)
    # many equal values: the width must reach beyond them
    width = np.where(width > 0, width, np.maximum(np.ptp(x), 1e-12) * 1e-6)
    u = (x[None, :] - at[:, None]) / width
    size = np.abs(u)
    w = np.where(size < 1, (1 - np.minimum(size, 1) ** 3) ** 3, 0.0)
    moments = [w.sum(axis=1)]
    sides = [w @ y]
    power = w
    for k in range(1, 5):
        power = power * u
        moments.append(power.sum(axis=1))
        if k < 3:
            sides.append(power @ y)
    matrix = np.stack([np.stack([moments[i + j] for j in range(3)], axis=-1) for i in range(3)], axis=-2)
    right = np.stack(sides, axis=-1)
    return (np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ right[..., None])[:, 0, 0]


def indices(probability: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """ICI, E50 and E90 of the curve `observed` at the patients' probabilities."""
    distance = np.abs(observed - probability)
    return np.r_[distance.mean(), np.quantile(distance, [0.5, 0.9])]


def assess(
    outcome: np.ndarray,
    probability: np.ndarray,
    counts: np.ndarray,
    *,
    level: float,
    seed: int,
    grid: np.ndarray | None = None,
) -> tuple[dict[str, Estimate], Flexible]:
    """Slope and in the large (Wald), ICI, E50 and E90 (percentile bootstrap), and the curve with a pointwise band.

    The curve is given at `grid` within the range of the probabilities (default: 101 points). ICI, E50 and E90 are
    distances: they are above 0 for a perfect model, the more so the fewer patients, and their bootstrap intervals lie
    too high (docs/statistics.md); BCa does not mend that. With fewer than 20 patients, one class, or fewer than four
    distinct probabilities the flexible part is NaN and `method` says why.
    """
    outcome = np.asarray(outcome, dtype=bool)
    n = len(outcome)
    found = roc.calibration(outcome, probability, level=level)
    nothing = Flexible(*(np.zeros(0) for _ in range(4)))
    if why := _unfit(outcome, probability):
        method = f"{METHOD}; not estimated: {why}"
        return found | {k: estimate(math.nan, method=method, n=n, level=level, seed=seed) for k in INDICES}, nothing
    y = outcome.astype(float)
    values = indices(probability, loess(probability, y, probability))
    low, high = probability.min(), probability.max()
    grid = np.linspace(low, high, 101) if grid is None else grid[(grid >= low) & (grid <= high)]
    # each resample is fitted at quantiles of the probabilities, straight in between
    vertices = np.unique(np.quantile(probability, np.linspace(0, 1, VERTICES)))
    samples, curves = np.full((len(counts), 3), np.nan), np.full((len(counts), len(grid)), np.nan)
    for k, drawn in enumerate(counts):
        rows = np.repeat(np.arange(n), drawn.astype(int))
        if y[rows].min() == y[rows].max() or len(np.unique(probability[rows])) < 4:
            continue
        fitted = loess(probability[rows], y[rows], vertices)
        samples[k] = indices(probability[rows], np.interp(probability[rows], vertices, fitted))
        curves[k] = np.interp(grid, vertices, fitted)
    for k, key in enumerate(INDICES):
        lower, upper, used = percentiles(samples[:, k], level)
        method = f"{METHOD}; percentile bootstrap of patients, {used} of {len(counts)} resamples"
        found[key] = estimate(float(values[k]), lower, upper, method=method, n=n, level=level, seed=seed)
    band = np.full((2, len(grid)), np.nan)
    if np.isfinite(curves).all(axis=1).sum() > 1:
        band = np.nanquantile(curves, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return found, Flexible(grid, *(np.clip(v, 0, 1) for v in (loess(probability, y, grid), *band)))


def _unfit(outcome: np.ndarray, probability: np.ndarray) -> str:
    """Why there is no flexible curve; empty where there is one."""
    if not np.isfinite(probability).all():
        return "some patients have no probability"
    if len(outcome) < FEWEST:
        return f"{len(outcome)} patients, at least {FEWEST} are needed"
    if not outcome.any() or outcome.all():
        return "one class only"
    if (distinct := len(np.unique(probability))) < 4:
        return f"{distinct} distinct probabilities, at least 4 are needed"
    return ""
