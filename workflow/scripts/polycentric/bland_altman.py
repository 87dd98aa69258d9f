"""Bland-Altman comparison of two measurements of the same subjects."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from .estimates import Estimate, estimate, normal_quantile


@dataclass(frozen=True)
class BlandAltman:
    """Differences (first less second) and what they scatter around.

    `slope` is the change of the difference with the mean of both (proportional bias), `widening` the rank correlation
    of the size of the residuals with that mean (differences that grow with the size of what is measured).
    """

    mean: np.ndarray
    difference: np.ndarray
    sd: float
    bias: Estimate
    p_bias: float
    lower: Estimate
    upper: Estimate
    slope: Estimate
    p_slope: float
    widening: float
    p_widening: float


def bland_altman(first: np.ndarray, second: np.ndarray, *, level: float = 0.95, ratio: bool = False) -> BlandAltman:
    """Bias and 95 % limits of agreement of two measurements (subjects,) without missing values.

    Bland and Altman, Lancet 327 (1986) 307 and Stat Methods Med Res 8 (1999) 135: limits are bias +- 1.96 SD. The
    intervals of the limits are exact, by the noncentral t distribution (Carkeet, Optom Vis Sci 92 (2015) e71). With
    `ratio`, logarithms are compared, and bias and limits are ratios of first to second; values must be above 0.
    Fewer than three subjects give NaN.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if ratio:
        if (a <= 0).any() or (b <= 0).any():
            raise ValueError("ratios need values above 0")
        a, b = np.log(a), np.log(b)
    mean, difference, n = (a + b) / 2, a - b, len(a)
    back = math.exp if ratio else float
    words = "ratio of geometric means, t interval" if ratio else "mean difference, t interval"
    limits = "limit of agreement, exact interval by the noncentral t distribution"
    if n < 3:
        empty = estimate(math.nan, method=words, n=n, level=level)
        nothing = estimate(math.nan, method=limits, n=n, level=level)
        return BlandAltman(mean, difference, math.nan, empty, math.nan, nothing, nothing, empty, *[math.nan] * 3)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    if sd <= 1e-12 * max(float(np.abs(np.r_[a, b]).max()), 1e-300):
        sd = 0.0
    t = float(special.stdtrit(n - 1, 0.5 + level / 2))
    half = t * sd / math.sqrt(n)
    z = normal_quantile(0.95)
    ends = [factor * sd for factor in _factors(n, level)]

    def shown(value: float, lower: float, upper: float, method: str) -> Estimate:
        return estimate(back(value), back(lower), back(upper), method=method, n=n, level=level)

    p_bias = float(2 * special.stdtr(n - 1, -abs(bias) / (sd / math.sqrt(n)))) if sd > 0 else math.nan
    slope, p_slope, residuals = _slope(mean, difference, level)
    widening, p_widening = _ranks(mean, np.abs(residuals)) if sd > 0 else (math.nan, math.nan)
    return BlandAltman(
        mean=np.exp(mean) if ratio else mean,
        difference=np.exp(difference) if ratio else difference,
        sd=sd,
        bias=shown(bias, bias - half, bias + half, words),
        p_bias=p_bias,
        lower=shown(bias - z * sd, bias - ends[1], bias - ends[0], limits),
        upper=shown(bias + z * sd, bias + ends[0], bias + ends[1], limits),
        slope=slope,
        p_slope=p_slope,
        widening=widening,
        p_widening=p_widening,
    )


@functools.cache
def _factors(n: int, level: float) -> tuple[float, float]:
    """Bounds of mean + 1.96 SD in units of the sample's SD from its mean."""
    found = stats.nct.ppf([0.5 - level / 2, 0.5 + level / 2], n - 1, normal_quantile(0.95) * math.sqrt(n))
    return float(found[0]) / math.sqrt(n), float(found[1]) / math.sqrt(n)


def _slope(mean: np.ndarray, difference: np.ndarray, level: float) -> tuple[Estimate, float, np.ndarray]:
    """Least squares of the difference over the mean: slope, its p, residuals."""
    method, n = "slope of the difference over the mean (least squares), t interval", len(mean)
    x, y = mean - mean.mean(), difference - difference.mean()
    square = float(x @ x)
    if np.ptp(mean) == 0 or square == 0:
        return estimate(math.nan, method=method, n=n, level=level), math.nan, y
    slope = float(x @ y) / square
    residuals = y - slope * x
    error = math.sqrt(float(residuals @ residuals) / (n - 2) / square)
    half = float(special.stdtrit(n - 2, 0.5 + level / 2)) * error
    p = float(2 * special.stdtr(n - 2, -abs(slope) / error)) if error > 0 and np.ptp(difference) > 0 else math.nan
    return estimate(slope, slope - half, slope + half, method=method, n=n, level=level), p, residuals


def _ranks(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Spearman's correlation and its p by Student's t."""
    x, y = (stats.rankdata(v) - (len(v) + 1) / 2 for v in (a, b))
    size = math.sqrt(float(x @ x) * float(y @ y))
    if size == 0:
        return math.nan, math.nan
    r = max(-1.0, min(1.0, float(x @ y) / size))
    if abs(r) == 1:
        return r, 0.0
    return r, float(2 * special.stdtr(len(a) - 2, -abs(r) * math.sqrt((len(a) - 2) / (1 - r * r))))
