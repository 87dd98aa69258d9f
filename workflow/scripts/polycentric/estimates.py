"""Estimates with their intervals, as they stand in metrics.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

Estimate = dict[str, Any]


def finite(value: Any) -> float | None:
    """The number, or None (null in JSON) where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def estimate(
    value: float,
    lower: float = math.nan,
    upper: float = math.nan,
    *,
    method: str,
    n: int,
    level: float = 0.95,
    seed: int | None = None,
    **more: Any,
) -> Estimate:
    """An estimate as metrics.json holds it; `n` counts patients, `method` says how the interval was made."""
    return {
        "value": finite(value),
        "lower": finite(lower),
        "upper": finite(upper),
        "level": level,
        "method": method,
        "n": int(n),
        "seed": seed,
        **more,
    }


def normal_quantile(level: float) -> float:
    """Two-sided standard normal quantile: 1.96 for 0.95."""
    return float(special.ndtri(0.5 + level / 2))


def p_of_z(z: float) -> float:
    """Two-sided p value of a standard normal z."""
    return float(2 * special.ndtr(-abs(z)))


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927, JASA 22:209), which has no zero width at 0 or 1."""
    if n == 0:
        return estimate(math.nan, method="Wilson score interval", n=0, level=level)
    z, p = normal_quantile(level), successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # at 0 and n the bound is exactly 0 or 1; rounding must not push it past the estimate
    lower, upper = (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)
    return estimate(p, lower, upper, method="Wilson score interval", n=n, level=level)


def mean_of_shares(shares: Sequence[Estimate], *, level: float = 0.95) -> Estimate:
    """The mean of independent proportions, as `wilson` gives them, such as balanced accuracy.

    The interval recovers the variances from the proportions' own, unsymmetric intervals (Zou and Donner 2008, Stat Med
    27:1693): it has no zero width where a proportion is 0 or 1.
    """
    method, n = "mean of proportions, Wilson's intervals combined (Zou and Donner)", sum(own["n"] for own in shares)
    if not shares or any(own["value"] is None for own in shares):
        return estimate(math.nan, method=method, n=n, level=level)
    value = sum(own["value"] for own in shares) / len(shares)
    below = math.hypot(*(own["value"] - own["lower"] for own in shares)) / len(shares)
    above = math.hypot(*(own["upper"] - own["value"] for own in shares)) / len(shares)
    return estimate(value, value - below, value + above, method=method, n=n, level=level)


def f1(right: int, wrong: int, missed: int, *, level: float = 0.95) -> Estimate:
    """F1, 2 J / (1 + J), of J: the share of those rightly called positive among all who are called so or are so.

    J is a proportion, whose Wilson interval is transformed alike.
    """
    method = "F1, from Wilson's interval of the share of right ones among those called or truly positive"
    share = wilson(right, right + wrong + missed, level=level)
    value, lower, upper = (math.nan if share[k] is None else share[k] for k in ("value", "lower", "upper"))
    found = (2 * v / (1 + v) for v in (value, lower, upper))
    return estimate(*found, method=method, n=share["n"], level=level)


def percentiles(samples: np.ndarray, level: float) -> tuple[float, float, int]:
    """Percentile interval of bootstrap samples, (lower, upper, samples in which the quantity existed)."""
    samples = samples[np.isfinite(samples)]
    if len(samples) < 2:
        return math.nan, math.nan, len(samples)
    lower, upper = np.quantile(samples, [0.5 - level / 2, 0.5 + level / 2])
    return float(lower), float(upper), len(samples)


class Interval(NamedTuple):
    """Bounds of a bootstrap interval, the samples in which the quantity existed, and how the bounds were made."""

    lower: float
    upper: float
    used: int
    how: str


def bca_interval(
    value: float, samples: np.ndarray, jackknife: np.ndarray, level: float, strata: np.ndarray | None = None
) -> Interval:
    """Bias-corrected and accelerated interval; percentiles with the reason in `how` where it does not exist.

    Efron 1987, JASA 82:171; `jackknife` is the estimate without each patient in turn; empty leaves out the
    acceleration. Samples drawn within `strata` (one label per patient of `jackknife`) need deviations within them
    (Davison and Hinkley 1997, section 5.3.2).
    """
    samples = samples[np.isfinite(samples)]
    known = np.isfinite(jackknife)
    if len(samples) < 2 or not math.isfinite(value):
        return Interval(math.nan, math.nan, len(samples), "no interval (it exists in fewer than two samples);")

    def percentile(why: str) -> Interval:
        return Interval(*percentiles(samples, level), f"percentile (no BCa: {why})")

    # ties count half, so that a coarse statistic is not shifted
    share = float(((samples < value - 1e-12).mean() + (samples <= value + 1e-12).mean()) / 2)
    if not 0 < share < 1:
        return percentile("all samples lie on one side of the estimate")
    if np.ptp(samples) == 0:
        return percentile("all samples are equal")
    how, acceleration = "BCa", 0.0
    if len(jackknife):
        deviation = np.zeros(int(known.sum()))
        labels = np.zeros(len(jackknife)) if strata is None else np.asarray(strata)
        for label in np.unique(labels[known]):
            here = labels[known] == label
            deviation[here] = jackknife[known][here].mean() - jackknife[known][here]
        spread = float((deviation**2).sum())
        acceleration = float((deviation**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    if not known.all():
        how += f" (acceleration without {int((~known).sum())} patients whose absence leaves nothing to estimate)"
    bias, quantile = float(special.ndtri(share)), normal_quantile(level)
    ends = []
    for z in (bias - quantile, bias + quantile):
        shrunk = 1 - acceleration * z
        if shrunk <= 0:
            return percentile("the acceleration is too large")
        ends.append(float(special.ndtr(bias + z / shrunk)))
    lower, upper = np.quantile(samples, ends)
    return Interval(float(lower), float(upper), len(samples), how)


def bca(value: float, samples: np.ndarray, jackknife: np.ndarray, level: float) -> tuple[float, float, int]:
    """`bca_interval` as (lower, upper, samples in which the quantity existed)."""
    return bca_interval(value, samples, jackknife, level)[:3]


def holm(p: list[float]) -> list[float]:
    """Holm's correction of p values; NaN stays NaN and is not counted."""
    values = np.asarray(p, dtype=float)
    result = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    running = 0.0
    for rank, index in enumerate(known[np.argsort(values[known], kind="stable")]):
        running = max(running, min(1.0, (len(known) - rank) * values[index]))
        result[index] = running
    return result.tolist()


def permutation_p(observed: float, null: np.ndarray) -> float:
    """p value (1 + number of null values at least as large) / (1 + number of them); Phipson and Smyth 2010, eq. 2."""
    null = null[np.isfinite(null)]
    if not len(null) or not math.isfinite(observed):
        return math.nan
    return float((1 + np.sum(null >= observed - 1e-12)) / (1 + len(null)))


def shown(value: Estimate, digits: int = 2) -> str:
    """An estimate as text, such as 0.71 (0.55 to 0.84)."""
    if value["value"] is None:
        return "not estimable"
    if value["lower"] is None or value["upper"] is None:
        return f"{value['value']:.{digits}f}"
    return f"{value['value']:.{digits}f} ({value['lower']:.{digits}f} to {value['upper']:.{digits}f})"


def p_text(value: float | None) -> str:
    """A p value as text; empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
