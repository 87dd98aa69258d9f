"""Tests of one variable between groups, as R does them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from .. import contingency
from ..contingency import Test

OF_NUMBERS = ("t", "student-t", "mann-whitney", "anova", "welch-anova", "kruskal-wallis")
OF_COUNTS = ("fisher", "chi-squared", "two-proportion-z")
OF_TWO = ("t", "student-t", "mann-whitney", "two-proportion-z")
NORMAL = 0.05
NOTHING = Test("", math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class OfNumbers:
    """Test of location, with the smallest p of Shapiro-Wilk over groups and the test of spread."""

    location: Test
    shapiro: float
    spread: Test


def numbers(
    samples: Sequence[np.ndarray], *, test: str | None, normality: Literal["decides", "reported"], spread: str
) -> OfNumbers:
    """Compare groups of numbers; groups of fewer than two values do not count, and a constant gives no test.

    Without a named test: Welch's t or one-way analysis of variance if every group passes Shapiro-Wilk (p at least
    0.05), else Mann-Whitney or Kruskal-Wallis. Raises ValueError where a test of two groups meets more.
    """
    samples = [s for s in samples if len(s) >= 2]
    if len(samples) < 2 or np.ptp(np.concatenate(samples)) == 0:
        return OfNumbers(NOTHING, math.nan, NOTHING)
    shapiro = min(_shapiro(s) for s in samples)
    normal = shapiro >= NORMAL
    two = len(samples) == 2
    if test is None:
        by_mean = normal or normality == "reported"
        test = ("t" if two else "anova") if by_mean else ("mann-whitney" if two else "kruskal-wallis")
    if test in OF_TWO and not two:
        raise ValueError(f"{test} compares two groups, there are {len(samples)}")
    return OfNumbers(_location(samples, test), shapiro, _spread(samples, spread, normal))


def _shapiro(values: np.ndarray) -> float:
    """p of Shapiro-Wilk; 0 of what is constant or too small to be judged."""
    return float(stats.shapiro(values).pvalue) if len(values) >= 3 and np.ptp(values) > 0 else 0.0


def _location(samples: list[np.ndarray], test: str) -> Test:
    sizes = np.array([len(s) for s in samples])
    with np.errstate(divide="ignore", invalid="ignore"):
        match test:
            case "t" | "student-t":
                found = stats.ttest_ind(*samples, equal_var=test == "student-t")
                name = "Welch t" if test == "t" else "Student t"
                return Test(name, float(found.statistic), float(found.df), float(found.pvalue))
            case "mann-whitney":
                # exact where R's wilcox.test is: small and without ties
                exact = sizes.max() < 50 and len(np.unique(np.concatenate(samples))) == sizes.sum()
                found = stats.mannwhitneyu(*samples, method="exact" if exact else "asymptotic")
                return Test("Mann-Whitney", float(found.statistic), math.nan, float(found.pvalue))
            case "anova":
                found = stats.f_oneway(*samples)
                return Test("analysis of variance", float(found.statistic), len(samples) - 1, float(found.pvalue))
            case "welch-anova":
                found = stats.f_oneway(*samples, equal_var=False)
                return Test(
                    "Welch's analysis of variance", float(found.statistic), len(samples) - 1, float(found.pvalue)
                )
            case "kruskal-wallis":
                found = stats.kruskal(*samples)
                return Test("Kruskal-Wallis", float(found.statistic), len(samples) - 1, float(found.pvalue))
    return NOTHING


def _spread(samples: list[np.ndarray], wanted: str, normal: bool) -> Test:
    """F test of two variances, or Brown and Forsythe's version of Levene's test."""
    if len(samples) == 2 and (wanted == "f" or (wanted == "auto" and normal)):
        a, b = samples
        if min(np.ptp(a), np.ptp(b)) == 0:
            return NOTHING
        f, one, two = float(a.var(ddof=1) / b.var(ddof=1)), len(a) - 1, len(b) - 1
        below, above = float(special.fdtr(one, two, f)), float(special.fdtrc(one, two, f))
        return Test("F", f, one, min(1.0, 2 * min(below, above)))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.levene(*samples, center="median")
    return Test("Levene", float(found.statistic), len(samples) - 1, float(found.pvalue))


def counts(table: np.ndarray, rng: np.random.Generator, *, test: str | None) -> Test:
    """Independence of levels (rows) and groups (columns).

    Without a named test: Fisher's in 2 x 2 tables and where an expected count is below 5, else chi-squared. Raises
    ValueError where a test of two by two meets more.
    """
    table = contingency.filled(table)
    if min(table.shape, default=0) < 2:
        return NOTHING
    if test is None:
        small = table.shape == (2, 2) or stats.contingency.expected_freq(table).min() < 5
        test = "fisher" if small else "chi-squared"
    match test:
        case "fisher":
            return contingency.fisher(table, rng)
        case "chi-squared":
            return contingency.chi_squared(table)
        case "two-proportion-z":
            if table.shape != (2, 2):
                raise ValueError(f"two-proportion-z compares two categories in two groups, here are {table.shape}")
            return contingency.two_proportions(table[1, 0], table[:, 0].sum(), table[1, 1], table[:, 1].sum())
    return NOTHING
