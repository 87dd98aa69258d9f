"""Bland-Altman comparison of two measurements of the same subjects."""

from __future__ import annotations

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
    ends = stats.nct.ppf([0.5 - level / 2, 0.5 + level / 2], n - 1, z * math.sqrt(n)) / math.sqrt(n) * sd

    def shown(value: float, lower: float, upper: float, method: str) -> Estimate:
        return estimate(back(value), back(lower), back(upper), method=method, n=n, level=level)

    p_bias = float(2 * special.stdtr(n - 1, -abs(bias) / (sd / math.sqrt(n)))) if sd > 0 else math.nan
    slope, p_slope, widening, p_widening = _slope(mean, difference, level), math.nan, math.nan, math.nan
    if sd > 0 and np.ptp(mean) > 0:
        p_slope = float(stats.linregress(mean, difference).pvalue)
        residuals = np.abs(difference - np.polyval(np.polyfit(mean, difference, 1), mean))
        if np.ptp(residuals) > 0:
            found = stats.spearmanr(mean, residuals)
            widening, p_widening = float(found.statistic), float(found.pvalue)
    return BlandAltman(
        mean=np.exp(mean) if ratio else mean,
        difference=np.exp(difference) if ratio else difference,
        sd=sd,
        bias=shown(bias, bias - half, bias + half, words),
        p_bias=p_bias,
        lower=shown(bias - z * sd, bias - float(ends[1]), bias - float(ends[0]), limits),
        upper=shown(bias + z * sd, bias + float(ends[0]), bias + float(ends[1]), limits),
        slope=slope,
        p_slope=p_slope,
        widening=widening,
        p_widening=p_widening,
    )


def _slope(mean: np.ndarray, difference: np.ndarray, level: float) -> Estimate:
    method = "slope of the difference over the mean (least squares), t interval"
    if np.ptp(mean) == 0:
        return estimate(math.nan, method=method, n=len(mean), level=level)
    fit = stats.linregress(mean, difference)
    half = float(special.stdtrit(len(mean) - 2, 0.5 + level / 2)) * fit.stderr
    return estimate(fit.slope, fit.slope - half, fit.slope + half, method=method, n=len(mean), level=level)
