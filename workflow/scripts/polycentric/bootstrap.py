"""Percentile bootstrap over patients, for measures of images and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

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
