"""Bootstrap over patients (percentile or BCa), or over readers and items at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .estimates import Estimate, bca, bca_interval, percentiles
from .estimates import estimate as as_estimate

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
    readers, items = values.shape
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    people = stream.multinomial(readers, np.full(readers, 1 / readers), size=resamples).astype(float)
    weights = np.zeros((resamples, items))
    for stratum in np.unique(strata):
        here = np.flatnonzero(strata == stratum)
        weights[:, here] = stream.multinomial(len(here), np.full(len(here), 1 / len(here)), size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((people @ filled) * weights).sum(axis=1) / ((people @ known) * weights).sum(axis=1)


def crossed_interval(
    values: np.ndarray, strata: np.ndarray, stream: np.random.Generator, *, resamples: int, level: float = LEVEL
) -> tuple[float, float, int]:
    """Percentile interval of the mean of values over readers and items, and the resamples in which it existed."""
    if min(values.shape, default=0) < 2:
        return math.nan, math.nan, 0
    return percentiles(crossed(values, strata, stream, resamples=resamples), level)


def counts(strata: np.ndarray, samples: int, stream: np.random.Generator) -> np.ndarray:
    """How often each patient is drawn with replacement, (samples, n), within strata (n,) of any labels."""
    strata = np.asarray(strata)
    drawn = np.zeros((samples, len(strata)))
    for label in np.unique(strata):
        here = np.flatnonzero(strata == label)
        drawn[:, here] = stream.multinomial(len(here), np.full(len(here), 1 / len(here)), size=samples)
    return drawn


def patients(
    statistic: Callable[[np.ndarray], float],
    clusters: np.ndarray,
    stream: np.random.Generator,
    *,
    resamples: int,
    seed: int,
    what: str,
    strata: np.ndarray | None = None,
    level: float = LEVEL,
) -> Estimate:
    """A statistic of rows with its BCa interval over patients, who bring all their rows (Efron 1987, JASA 82:171).

    Parameters
    ----------
    statistic
        takes row positions (with repeats) and returns a number, NaN where there is none.
    clusters
        (rows,) the patient of each row; whole patients are drawn, and left out in turn for the acceleration.
    what
        the measure, in words for `method`, which also says why percentiles stand where BCa does not exist.
    strata
        (rows,) such as the outcome: patients are drawn within them. A patient lies in one stratum.

    Raises
    ------
    ValueError
        if a patient lies in two strata.
    """
    names, which = np.unique(np.asarray(clusters), return_inverse=True)
    rows = [np.flatnonzero(which == k) for k in range(len(names))]
    labels = np.zeros(len(names), dtype=int)
    if strata is not None:
        codes = np.unique(np.asarray(strata), return_inverse=True)[1]
        if any(np.ptp(codes[r]) for r in rows):
            raise ValueError("a patient lies in two strata; draw without strata, or by a stratum of the patient")
        labels = np.array([codes[r[0]] for r in rows], dtype=int)
    value = float(statistic(np.arange(len(which)))) if len(which) else math.nan
    if len(names) < 2 or not math.isfinite(value):
        return as_estimate(value, method=f"{what}; no interval", n=len(names), level=level, seed=seed)
    groups = [np.flatnonzero(labels == k) for k in np.unique(labels)]

    def drawn() -> np.ndarray:
        chosen = np.concatenate([g[stream.integers(len(g), size=len(g))] for g in groups])
        return np.concatenate([rows[k] for k in chosen])

    samples = np.array([statistic(drawn()) for _ in range(resamples)], dtype=float)
    knife = np.array([statistic(np.concatenate(rows[:k] + rows[k + 1 :])) for k in range(len(rows))], dtype=float)
    found = bca_interval(value, samples, knife, level, labels)
    within = " within strata" if strata is not None else ""
    method = f"{what}; {found.how} bootstrap of patients{within}, {found.used} of {resamples} resamples"
    return as_estimate(value, found.lower, found.upper, method=method, n=len(names), level=level, seed=seed)
