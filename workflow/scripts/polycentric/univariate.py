"""Single tests of many features at once: ranks, ROC with DeLong's interval, Kruskal-Wallis, corrections.

x is (rows, features) and may have missing values (NaN): a row counts for a feature when its value is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.stats import mannwhitneyu, rankdata

from .estimates import holm


def patterns(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns with the same missing rows together: (known rows, columns)."""
    if not x.shape[1]:
        return
    seen, which = np.unique(np.isfinite(x).T, axis=0, return_inverse=True)
    for number, rows in enumerate(seen):
        yield np.flatnonzero(rows), np.flatnonzero(which.ravel() == number)


@dataclass(frozen=True)
class Roc:
    """Univariate ROC, (features,): a higher value speaks for the positive class where `auc` is above 0.5."""

    auc: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    z: np.ndarray
    p: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def roc(x: np.ndarray, outcome: np.ndarray, *, level: float = 0.95) -> Roc:
    """AUC with DeLong's interval and the two-sided Mann-Whitney test of every column; outcome (rows,) bool.

    DeLong et al., Biometrics 44 (1988) 837 by midranks, bounds kept within [0, 1]; Mann-Whitney by the normal
    approximation with correction for ties and without one for continuity.
    """
    x, outcome = np.asarray(x, dtype=float), np.asarray(outcome, dtype=bool)
    auc, error, z = (np.full(x.shape[1], np.nan) for _ in range(3))
    counts = np.zeros((2, x.shape[1]), dtype=int)
    for rows, columns in patterns(x):
        y = outcome[rows]
        m, n = int(y.sum()), int((~y).sum())
        counts[:, columns] = [[m], [n]]
        if not m or not n:
            continue
        part = x[np.ix_(rows, columns)]
        ranks = rankdata(part, axis=0)
        u = ranks[y].sum(axis=0) - m * (m + 1) / 2
        auc[columns] = u / (m * n)
        size = m + n
        variance = m * n / (size * (size - 1)) * ((ranks - (size + 1) / 2) ** 2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            z[columns] = np.where(variance > 0, (u - m * n / 2) / np.sqrt(variance), 0.0)
        if min(m, n) > 1:
            v10 = (ranks[y] - rankdata(part[y], axis=0)) / n
            v01 = (ranks[~y] - rankdata(part[~y], axis=0)) / m
            error[columns] = np.sqrt(v10.var(axis=0, ddof=1) / m + v01.var(axis=0, ddof=1) / n)
            error[columns] = np.where(np.ptp(part, axis=0) > 0, error[columns], np.nan)
    half = special.ndtri(0.5 + level / 2) * error
    lower, upper = np.maximum(auc - half, 0.0), np.minimum(auc + half, 1.0)
    return Roc(auc, lower, upper, z, 2 * special.ndtr(-np.abs(z)), counts[0], counts[1])


def kruskal(x: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kruskal-Wallis H with correction for ties, its p (chi-squared) and epsilon squared, (features,).

    Groups without known rows for a feature do not count; fewer than two groups or a constant feature give NaN.
    Epsilon squared is H / (rows - 1): 0 without, 1 with complete separation of the ranks.
    """
    x, groups = np.asarray(x, dtype=float), np.asarray(groups, dtype=object)
    h, p, effect = (np.full(x.shape[1], np.nan) for _ in range(3))
    for rows, columns in patterns(x):
        names, which = np.unique(groups[rows].astype(str), return_inverse=True)
        if len(names) < 2:
            continue
        ranks = rankdata(x[np.ix_(rows, columns)], axis=0)
        centred = ranks - (len(rows) + 1) / 2
        one_hot = np.eye(len(names))[which]
        between = ((one_hot.T @ centred) ** 2 / one_hot.sum(axis=0)[:, None]).sum(axis=0)
        total = (centred**2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            h[columns] = np.where(total > 0, (len(rows) - 1) * between / total, np.nan)
        p[columns] = special.chdtrc(len(names) - 1, h[columns])
        effect[columns] = h[columns] / (len(rows) - 1)
    return h, p, effect


@dataclass(frozen=True)
class Variance:
    """One-way analysis of variance of every feature, (features,).

    `eta2` is the share of the variance that the groups explain, `chance` what unrelated groups explain on average:
    (groups - 1) / (rows - 1); `p` of the F test, `p_spread` of Brown and Forsythe's test of equal spreads.
    """

    eta2: np.ndarray
    chance: np.ndarray
    p: np.ndarray
    p_spread: np.ndarray


def variance_explained(x: np.ndarray, groups: np.ndarray) -> Variance:
    """How much of the variance of every column the groups explain; NaN for a constant or a single group."""
    x, groups = np.asarray(x, dtype=float), np.asarray(groups, dtype=object)
    eta2, chance, p, spread = (np.full(x.shape[1], np.nan) for _ in range(4))
    for rows, columns in patterns(x):
        names, which = np.unique(groups[rows].astype(str), return_inverse=True)
        if len(names) < 2 or len(rows) <= len(names):
            continue
        part = x[np.ix_(rows, columns)]
        eta2[columns], p[columns] = _anova(part, which, len(names))
        chance[columns] = (len(names) - 1) / (len(rows) - 1)
        medians = np.stack([np.median(part[which == g], axis=0) for g in range(len(names))])
        spread[columns] = _anova(np.abs(part - medians[which]), which, len(names))[1]
    return Variance(eta2, chance, p, spread)


def _anova(x: np.ndarray, which: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    size = np.abs(x).max(axis=0, initial=0)
    x = x - x.mean(axis=0)
    one_hot = np.eye(groups)[which]
    between = ((one_hot.T @ x) ** 2 / one_hot.sum(axis=0)[:, None]).sum(axis=0)
    total = (x**2).sum(axis=0)
    usable = total > (1e-12 * size) ** 2 * len(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta2 = np.where(usable, np.minimum(between / total, 1.0), np.nan)
        freedom = len(x) - groups
        f = eta2 / (groups - 1) / ((1 - eta2) / freedom)
        p = np.where(np.isposinf(f), 0.0, special.fdtrc(groups - 1, freedom, f))
    return eta2, p


def spearman(x: np.ndarray, most: int = 20) -> np.ndarray:
    """Spearman correlations (features, features), pairwise complete; NaN for constants and fewer than three rows.

    With more than `most` patterns of missing rows, features are ranked over the rows of their own rather than of each
    pair, which is the same where nothing is missing and close to it where little is.
    """
    known = np.isfinite(x)
    groups = list(patterns(x))
    if len(groups) > most:
        return _own_ranks(x, known)
    result = np.full((x.shape[1], x.shape[1]), np.nan)
    for number, (rows, columns) in enumerate(groups):
        for other_rows, others in groups[number:]:
            shared = np.intersect1d(rows, other_rows)
            if len(shared) < 3:
                continue
            own = others is columns
            both = columns if own else np.r_[columns, others]
            block = _correlation(rankdata(x[np.ix_(shared, both)], axis=0))
            block = block if own else block[: len(columns), len(columns) :]
            result[np.ix_(columns, others)] = block
            result[np.ix_(others, columns)] = block.T
    return result


def _own_ranks(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Correlation over common rows of ranks over each feature's own rows."""
    ranks = np.zeros(x.shape)
    for rows, columns in patterns(x):
        own = rankdata(x[np.ix_(rows, columns)], axis=0)
        ranks[np.ix_(rows, columns)] = own - (len(rows) + 1) / 2
    seen = known.astype(float)
    n, sums, squares = seen.T @ seen, ranks.T @ seen, (ranks**2).T @ seen
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = ranks.T @ ranks - sums * sums.T / n
        variance = squares - sums**2 / n
        size = np.sqrt(variance * variance.T)
        return np.where((n >= 3) & (size > 1e-9), np.clip(covariance / size, -1, 1), np.nan)


def spearman_with(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman correlation of every column of x (rows, features) with y (rows,), over rows that both know."""
    result = np.full(x.shape[1], np.nan)
    for rows, columns in patterns(np.where(np.isfinite(y)[:, None], x, np.nan)):
        if len(rows) < 3:
            continue
        ranks, other = rankdata(x[np.ix_(rows, columns)], axis=0), rankdata(y[rows])
        ranks, other = ranks - ranks.mean(axis=0), other - other.mean()
        size = np.sqrt((ranks**2).sum(axis=0) * (other**2).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            result[columns] = np.where(size > 0, (other @ ranks) / size, np.nan)
    return result


def _correlation(ranks: np.ndarray) -> np.ndarray:
    ranks = ranks - ranks.mean(axis=0)
    size = np.sqrt((ranks**2).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = np.where(size > 0, ranks / size, np.nan)
    return np.clip(ranks.T @ ranks, -1, 1)


def bonferroni(p: np.ndarray) -> np.ndarray:
    """Bonferroni's correction over the known p values."""
    return np.minimum(p * np.isfinite(p).sum(), 1.0)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rate of Benjamini and Hochberg (1995) over the known p values."""
    p = np.asarray(p, dtype=float)
    result = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result


def separation(values: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """AUC of one number telling two groups apart, and the two-sided Mann-Whitney p (exact where small and untied)."""
    a, b = values[positive], values[~positive]
    if not len(a) or not len(b):
        return math.nan, math.nan
    if (values == values[0]).all():
        return 0.5, 1.0
    test = mannwhitneyu(a, b, alternative="two-sided")
    return float(test.statistic / (len(a) * len(b))), float(test.pvalue)


def corrected(p: np.ndarray, method: str) -> np.ndarray:
    """p values corrected as a family by `holm`, `bonferroni` or `benjamini-hochberg`; `none` leaves them."""
    p = np.asarray(p, dtype=float)
    match method:
        case "holm":
            return np.array(holm(p.tolist()))
        case "bonferroni":
            return bonferroni(p)
        case "benjamini-hochberg":
            return benjamini_hochberg(p)
    return p
