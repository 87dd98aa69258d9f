"""Tests of counts: independence of rows and columns, two proportions, paired answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from .estimates import Estimate, estimate, p_of_z, wilson

STEPS = 100_000  # of the exact test of larger tables (one or two seconds), before it is estimated instead
DRAWS = 9999


@dataclass(frozen=True)
class Test:
    """A test by name, with its statistic (NaN where it has none), degrees of freedom and p."""

    name: str
    statistic: float
    df: float
    p: float


def filled(table: np.ndarray) -> np.ndarray:
    """A table of counts without rows and columns that are empty."""
    table = np.asarray(table)
    return table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0] if table.size else table


def chi_squared(table: np.ndarray) -> Test:
    """Pearson's chi-squared test of independence, without correction for continuity."""
    table = filled(table)
    if min(table.shape, default=0) < 2:
        return Test("chi-squared", math.nan, math.nan, math.nan)
    found = stats.chi2_contingency(table, correction=False)
    return Test("chi-squared", float(found.statistic), float(found.dof), float(found.pvalue))


def two_proportions(a: int, n: int, b: int, m: int) -> Test:
    """z test of two proportions a/n and b/m with the pooled variance; z squared is chi-squared of their table."""
    if not n or not m or not 0 < a + b < n + m:
        return Test("two-proportion z", math.nan, math.nan, math.nan)
    pooled = (a + b) / (n + m)
    z = (a / n - b / m) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return Test("two-proportion z", z, math.nan, p_of_z(z))


def fisher(table: np.ndarray, rng: np.random.Generator) -> Test:
    """Fisher's exact test; of larger tables by going through all tables of the same margins (Freeman and Halton 1951).

    Where these are too many, by Monte Carlo: tables drawn at random with the same margins, p = (1 + as unlikely ones)
    / (1 + draws).
    """
    table = filled(table)
    if min(table.shape, default=0) < 2:
        return Test("Fisher", math.nan, math.nan, math.nan)
    if table.shape == (2, 2):
        return Test("Fisher", math.nan, math.nan, float(stats.fisher_exact(table).pvalue))
    p = _all_tables(table if table.shape[0] <= table.shape[1] else table.T)
    if p is not None:
        return Test("Fisher", math.nan, math.nan, p)
    drawn = stats.random_table(table.sum(axis=1), table.sum(axis=0), seed=rng).rvs(DRAWS)
    observed = special.gammaln(table + 1).sum()
    rarer = int((special.gammaln(drawn + 1).sum(axis=(1, 2)) >= observed - 1e-7).sum())
    return Test(f"Fisher, {DRAWS} draws", math.nan, math.nan, (1 + rarer) / (1 + DRAWS))


def _all_tables(table: np.ndarray) -> float | None:
    """p of Fisher's test over all tables of the same margins, column by column; None where it takes more than `STEPS`.

    A node is what is left of the rows; tables that reach it with the same probability go on together, and those all of
    whose ends are less (or more) likely than the observed table are counted (or dropped) at once (Mehta and Patel, J
    Am Stat Assoc 78 (1983) 427). As in R, a relative difference of 1e-7 of probabilities counts as none.
    """
    rows, columns = table.sum(axis=1), np.sort(table.sum(axis=0))[::-1]
    log = special.gammaln(np.arange(table.sum() + 2) + 1.0)  # log n!
    observed = log[table].sum() - 1e-7
    constant = log[rows].sum() + log[columns].sum() - log[table.sum()]
    p, steps = 0.0, 0
    # what a table costs: the sum of log n! of its cells; a table has probability exp(constant - cost)
    nodes = {tuple(sorted(map(int, rows))): (np.zeros(1), np.ones(1))}
    for number, total in enumerate(columns):
        rest = columns[number + 1 :]
        reached: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
        for left, (costs, weights) in nodes.items():
            parts = _parts(left, int(total))
            steps += len(parts)
            if steps > STEPS:
                return None
            for part in parts:
                # the order of rows does not matter for what is to come
                after = tuple(sorted(a - b for a, b in zip(left, part, strict=True)))
                reached.setdefault(after, []).append((costs + log[list(part)].sum(), weights))
        nodes = {}
        for left, arrived in reached.items():
            costs, which = np.unique(np.round(np.concatenate([c for c, _ in arrived]), 9), return_inverse=True)
            weights = np.bincount(which, np.concatenate([w for _, w in arrived]))
            least, most = _bounds(np.array(left), rest, log)
            ends = costs + least >= observed
            # sum over all ways to fill the rest of 1 / product of cell factorials
            filled_rest = log[sum(left)] - log[list(left)].sum() - log[rest].sum()
            p += float((weights[ends] * np.exp(constant + filled_rest - costs[ends])).sum())
            open_ = ~ends & (costs + most >= observed)
            if open_.any():
                nodes[left] = costs[open_], weights[open_]
    return min(1.0, p)


def _bounds(left: np.ndarray, rest: np.ndarray, log: np.ndarray) -> tuple[float, float]:
    """Least and most that the columns still to be filled can cost."""

    def even(totals: np.ndarray, cells: int) -> float:
        low, more = totals // cells, totals % cells
        return float(((cells - more) * log[low] + more * log[low + 1]).sum())

    if not len(rest):
        return 0.0, 0.0
    least = max(even(rest, len(left)), even(left, len(rest)))
    return least - 1e-9, min(float(log[rest].sum()), float(log[left].sum())) + 1e-9


def _parts(left: tuple[int, ...], total: int) -> list[tuple[int, ...]]:
    """All ways to take `total` from what is left in each row."""
    if len(left) == 1:
        return [(total,)] if total <= left[0] else []
    rest = sum(left[1:])
    return [
        (first, *others)
        for first in range(max(0, total - rest), min(left[0], total) + 1)
        for others in _parts(left[1:], total - first)
    ]


@dataclass(frozen=True)
class McNemar:
    """Paired answers of two: `first` counts pairs where only the first is right, `second` where only the second is."""

    first: int
    second: int
    n: int
    chi_squared: float
    p_corrected: float
    p_exact: float
    p_mid: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test of two boolean arrays (pairs,).

    Chi-squared with Edwards' correction (as R's mcnemar.test), the exact binomial test, and its mid-p version, which
    keeps its level without being conservative (Fagerland, Lydersen and Laake, BMC Med Res Methodol 13 (2013) 91).
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    if b + c == 0:
        return McNemar(b, c, len(first), math.nan, 1.0, 1.0, 1.0)
    chi = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    half = stats.binom.cdf(min(b, c), b + c, 0.5)
    exact = min(1.0, 2 * float(half))
    mid = 1.0 if b == c else 2 * float(half - 0.5 * stats.binom.pmf(min(b, c), b + c, 0.5))
    return McNemar(b, c, len(first), chi, float(special.chdtrc(1, chi)), exact, mid)


def paired_difference(first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> Estimate:
    """Difference of two paired proportions, first less second, with Newcombe's interval.

    Newcombe, Stat Med 17 (1998) 2635, method 10: square and add of Wilson's intervals with the correlation.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = len(first)
    method = "difference of paired proportions, Newcombe's interval (method 10)"
    if not n:
        return estimate(math.nan, method=method, n=0, level=level)
    a, b, c, d = (int(v.sum()) for v in (first & second, first & ~second, ~first & second, ~first & ~second))
    one, two = wilson(a + b, n, level=level), wilson(a + c, n, level=level)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    if cross > 0:
        cross = max(cross - n / 2, 0)  # Newcombe's continuity correction of the correlation
    phi = cross / math.sqrt(product) if product else 0.0
    value = (b - c) / n
    low = (one["value"] - one["lower"], two["upper"] - two["value"])
    high = (one["upper"] - one["value"], two["value"] - two["lower"])
    below, above = (math.sqrt(max(0.0, x**2 - 2 * phi * x * y + y**2)) for x, y in (low, high))
    return estimate(value, max(-1.0, value - below), min(1.0, value + above), method=method, n=n, level=level)


def against_share(successes: int, n: int, share: float) -> float:
    """Two-sided p of the exact binomial test of successes of n against a share."""
    return float(stats.binomtest(successes, n, share).pvalue) if n else math.nan
