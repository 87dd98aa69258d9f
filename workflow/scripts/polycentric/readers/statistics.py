"""Statistics of reader studies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, J Am Stat Assoc 1927); NaN without observations."""
    if n == 0:
        return math.nan, math.nan
    z = float(stats.norm.ppf(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(successes: int, n: int) -> dict[str, Any]:
    """A proportion as an estimate with Wilson's interval."""
    lower, upper = wilson(successes, n)
    return estimate(successes / n if n else math.nan, lower, upper, "Wilson score interval", n)


def estimate(value: float, lower: float, upper: float, method: str, n: int, **more: Any) -> dict[str, Any]:
    """An estimate as it stands in metrics.json; what is not finite becomes null."""
    numbers = {"value": finite(value), "lower": finite(lower), "upper": finite(upper)}
    return {**numbers, "level": LEVEL, "method": method, "n": int(n), **more}


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def counts(ratings: np.ndarray) -> np.ndarray:
    """Ratings (items, raters) as counts (items, categories)."""
    categories = np.unique(ratings)
    return (ratings[:, :, None] == categories).sum(axis=1)


def fleiss_kappa(table: np.ndarray) -> tuple[float, float, float]:
    """Fleiss' kappa of counts (items, categories), its z under no agreement, and the two-sided p.

    Kappa after Fleiss (Psychol Bull 1971); the null standard error after Fleiss, Nee and Landis (Psychol Bull 1979,
    equation 12). Every item must have the same number of ratings. With one category alone, kappa is NaN.
    """
    table = np.asarray(table, dtype=float)
    items, raters = len(table), table[0].sum()
    if not (table.sum(axis=1) == raters).all() or raters < 2:
        raise ValueError("Fleiss' kappa needs the same number of ratings, at least two, for every item")
    share = table.sum(axis=0) / (items * raters)
    chance = (share**2).sum()
    if chance >= 1:
        return math.nan, math.nan, math.nan
    observed = ((table * (table - 1)).sum(axis=1) / (raters * (raters - 1))).mean()
    kappa = (observed - chance) / (1 - chance)
    spread = (share * (1 - share)).sum()
    variance = 2 * (spread**2 - (share * (1 - share) * (1 - 2 * share)).sum())
    variance /= spread**2 * items * raters * (raters - 1)
    z = kappa / math.sqrt(variance) if variance > 0 else math.nan
    return float(kappa), float(z), float(2 * stats.norm.sf(abs(z)))


def kappa_interval(table: np.ndarray, samples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of Fleiss' kappa over resampled items: the null standard error must not be used for it."""
    drawn = [fleiss_kappa(table[rng.integers(0, len(table), len(table))])[0] for _ in range(samples)]
    return interval(np.array(drawn))


def crossed_bootstrap(correct: np.ndarray, strata: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Shares of correct answers when readers and items are both resampled; `correct` is (readers, items) of 0 and 1.

    Items are resampled within `strata` (items,). Readers and items are both random: the interval speaks for other
    readers and other images, unlike one that counts every answer as independent. Returns (samples,).
    """
    readers, _ = correct.shape
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    result = np.empty(samples)
    for k in range(samples):
        columns = np.concatenate([rng.choice(g, len(g)) for g in groups])
        result[k] = correct[rng.integers(0, readers, readers)][:, columns].mean()
    return result


def interval(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    lower, upper = np.quantile(values, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(lower), float(upper)


def separation(values: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """AUC of one number telling two groups apart, and the two-sided Mann-Whitney p."""
    a, b = values[positive], values[~positive]
    if not len(a) or not len(b):
        return math.nan, math.nan
    if (values == values[0]).all():
        return 0.5, 1.0
    test = stats.mannwhitneyu(a, b, alternative="two-sided")
    return float(test.statistic / (len(a) * len(b))), float(test.pvalue)
