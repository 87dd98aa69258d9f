"""Bootstrap over patients (percentile or BCa), or over readers and items at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .estimates import bca, percentiles

LEVEL = 0.95


def estimate(
    statistic: Callable[..., float],
    groups: tuple[int, ...],
    stream: np.random.Generator,
    *,
    resamples: int,
    seed: int,
    method: str,
) -> dict[str, Any]:
    """A statistic with its percentile interval (Efron and Tibshirani 1993, section 13.3).

    `statistic` takes one array of patient positions per group of patients; `groups` are their sizes; the groups are
    resampled independently. NaN and infinite values become None, and so does an interval of fewer than two patients
    in a group, or one in which a resample is undefined.
    """
    value = statistic(*(np.arange(n) for n in groups)) if all(groups) else math.nan
    lower = upper = math.nan
    if all(n > 1 for n in groups) and math.isfinite(value):
        drawn = [statistic(*(stream.integers(n, size=n) for n in groups)) for _ in range(resamples)]
        with np.errstate(invalid="ignore"):  # infinite distances, where nothing was found, give NaN between them
            lower, upper = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    finite = [None if not math.isfinite(v) else float(v) for v in (value, lower, upper)]
    return {
        "value": finite[0],
        "lower": finite[1],
        "upper": finite[2],
        "level": LEVEL,
        "method": f"{method}; percentile bootstrap of patients, {resamples} resamples",
        "n": sum(groups),
        "seed": seed,
    }


def counts(strata: np.ndarray, samples: int, stream: np.random.Generator) -> np.ndarray:
    """How often each patient is drawn with replacement, (samples, n), within strata (n,) of any labels."""
    strata = np.asarray(strata)
    drawn = np.zeros((samples, len(strata)))
    for label in np.unique(strata):
        here = np.flatnonzero(strata == label)
        drawn[:, here] = stream.multinomial(len(here), np.full(len(here), 1 / len(here)), size=samples)
    return drawn


def by_cluster(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: np.ndarray,
    stream: np.random.Generator,
    *,
    resamples: int,
    level: float = LEVEL,
) -> tuple[float, float, float, int]:
    """Value of a statistic of weighted rows, its BCa interval, and the resamples in which it existed.

    `clusters` (rows,) names what is resampled as a whole, such as the patient of every row; `statistic` takes weights
    (samples, rows) and returns (samples,). The jackknife leaves out one cluster at a time (Efron 1987).
    """
    names, which = np.unique(clusters, return_inverse=True)
    rows, k = len(which), len(names)
    value = float(statistic(np.ones((1, rows)))[0]) if rows else math.nan
    if k < 3 or resamples < 2 or not math.isfinite(value):
        return value, math.nan, math.nan, 0
    sizes = [min(500, resamples - start) for start in range(0, resamples, 500)]
    shares = np.full(k, 1 / k)
    drawn = np.concatenate([statistic(stream.multinomial(k, shares, size=n)[:, which].astype(float)) for n in sizes])
    without = np.concatenate(
        [statistic((np.arange(a, min(a + 500, k))[:, None] != which).astype(float)) for a in range(0, k, 500)]
    )
    return value, *bca(value, drawn, without, level)


def crossed(values: np.ndarray, strata: np.ndarray, stream: np.random.Generator, *, resamples: int) -> np.ndarray:
    """Means of values (readers, items; NaN where not given) when readers and items are both resampled, (resamples,).

    Items are resampled within `strata` (items,). Readers and items are both random: the interval speaks for other
    readers and other items, unlike one that counts every answer as independent (Owen 2007, Ann Appl Stat 1:386, who
    shows that resampling both is mildly conservative).
    """
    readers = len(values)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    people, weights = counts(np.zeros(readers), resamples, stream), counts(strata, resamples, stream)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((people @ filled) * weights).sum(axis=1) / ((people @ known) * weights).sum(axis=1)


def crossed_interval(
    values: np.ndarray, strata: np.ndarray, stream: np.random.Generator, *, resamples: int, level: float = LEVEL
) -> tuple[float, float, int]:
    """Percentile interval of the mean of values over readers and items, and the resamples in which it existed."""
    if min(values.shape, default=0) < 2:
        return math.nan, math.nan, 0
    return percentiles(crossed(values, strata, stream, resamples=resamples), level)
