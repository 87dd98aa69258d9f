"""Selection of features in steps. Every function sees the rows that it is given and nothing else.

Arrays: x (n, p) without missing values; y (n,) integer classes, or (n, 2) time and event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from scipy import special
from scipy.stats import rankdata

from ..config.selection import (
    CorrelationStep,
    EliminationStep,
    ForestStep,
    KendallStep,
    MrmrStep,
    Selection,
    SingleTestStep,
    Step,
    TopStep,
    VarianceStep,
)
from .cox import score_tests

_STEPS: TypeAdapter[Selection] = TypeAdapter(Selection)


def steps(plain: Any) -> tuple[Step, ...]:
    """Steps from their plain form (lists of dicts), as fitted chains keep them."""
    return _STEPS.validate_python(plain)


def plain(selection: Iterable[Step]) -> tuple[dict[str, Any], ...]:
    """Steps as plain dicts."""
    return tuple(step.model_dump() for step in selection)


def mann_whitney(x: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|AUC - 0.5| and the two-sided p of every column of x (n, p): normal approximation with ties, no continuity."""
    outcome = np.asarray(outcome, dtype=bool)
    positives, negatives = int(outcome.sum()), int((~outcome).sum())
    if not positives or not negatives or not x.shape[1]:
        return np.zeros(x.shape[1]), np.ones(x.shape[1])
    ranks = rankdata(x, axis=0)
    u = ranks[outcome].sum(axis=0) - positives * (positives + 1) / 2
    # the variance of the ranks carries the correction for ties
    variance = positives * negatives / (len(x) * (len(x) - 1)) * ((ranks - (len(x) + 1) / 2) ** 2).sum(axis=0)
    z = np.where(variance > 0, (u - positives * negatives / 2) / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)
    return np.abs(u / (positives * negatives) - 0.5), 2 * special.ndtr(-np.abs(z))


def kruskal(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the variance of ranks between classes (eta squared, H / (n - 1)) and p of Kruskal-Wallis, by column."""
    ranks = rankdata(x, axis=0) - (len(x) + 1) / 2
    total = (ranks**2).sum(axis=0)
    classes, counts = np.unique(y, return_counts=True)
    between = sum(ranks[y == k].sum(axis=0) ** 2 / n for k, n in zip(classes, counts, strict=True))
    share = np.where(total > 0, between / np.where(total > 0, total, 1), 0.0)
    return share, special.chdtrc(len(classes) - 1, share * (len(x) - 1)) if len(classes) > 1 else np.ones(x.shape[1])


def single_tests(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength and p of every column alone: Mann-Whitney for two classes, Kruskal-Wallis for several (y (n,)), score
    test of Cox regression for time and event (y (n, 2))."""
    if y.ndim == 2:
        return score_tests(x, y[:, 0], y[:, 1] > 0)
    if y.max(initial=0) > 1:
        return kruskal(x, y)
    return mann_whitney(x, y)


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of every column with the classes in order."""
    higher, lower = np.nonzero(y[:, None] > y[None, :])
    # y is never tied in these pairs; the sums of signs are concordant minus discordant
    s = np.zeros(x.shape[1])
    for start in range(0, len(higher), 4096):
        chunk = slice(start, start + 4096)
        s += np.sign(x[higher[chunk]] - x[lower[chunk]]).sum(axis=0)
    pairs = len(y) * (len(y) - 1) / 2
    ordered = np.sort(x, axis=0)
    untied = np.full(x.shape[1], pairs)
    for column in np.flatnonzero((ordered[1:] == ordered[:-1]).any(axis=0)):
        counts = np.unique(x[:, column], return_counts=True)[1].astype(float)
        untied[column] -= (counts * (counts - 1) / 2).sum()
    size = np.sqrt(untied * len(higher))
    return np.where(size > 0, s / np.where(size > 0, size, 1), 0.0)


def correlations(x: np.ndarray, method: str) -> np.ndarray:
    """Absolute correlations of columns (p, p); 0 with a constant column."""
    z = rankdata(x, axis=0) if method == "spearman" else x
    z = z - z.mean(axis=0)
    size = np.sqrt((z**2).sum(axis=0))
    z = z / np.where(size > 0, size, 1)
    return np.abs(z.T @ z)


def _drop_constant(x: np.ndarray) -> np.ndarray:
    return np.flatnonzero(x.std(axis=0) > 1e-10 * np.abs(x).max(axis=0, initial=0))


def _by_strength(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.argsort(-np.round(single_tests(x, y)[0], 10), kind="stable")


def _correlated(x: np.ndarray, y: np.ndarray, step: CorrelationStep) -> np.ndarray:
    related = correlations(x, step.method)
    if step.keep == "better-auc":
        order = _by_strength(x, y)
    else:
        others = (related.sum(axis=0) - np.diag(related)) / max(x.shape[1] - 1, 1)
        order = np.argsort(np.round(others, 10), kind="stable")
    free = np.ones(x.shape[1], dtype=bool)
    kept = []
    for column in order:
        if free[column]:
            kept.append(column)
            free &= related[column] <= step.above + 1e-12
            free[column] = False
    return np.array(kept, dtype=int)


def _information(share: np.ndarray) -> np.ndarray:
    """Mutual information of a correlation (squared) under a Gaussian copula."""
    return -0.5 * np.log1p(-np.minimum(share, 1 - 1e-12))


def mrmr(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Columns by minimum redundancy and maximum relevance, in the order in which they are taken.

    Peng et al. 2005, IEEE TPAMI 27:1226, the difference criterion (MID). Mutual information is that of ranks under a
    Gaussian copula: with the classes from Kruskal-Wallis' eta squared, between features from Spearman's rho.
    """
    # a score statistic chi squared carries about chi squared / 2n
    relevance = single_tests(x, y)[0] / (2 * len(y)) if y.ndim == 2 else _information(kruskal(x, y)[0])
    redundancy = _information(correlations(x, "spearman") ** 2)
    taken: list[int] = []
    total = np.zeros(x.shape[1])
    free = np.ones(x.shape[1], dtype=bool)
    for _ in range(min(count, x.shape[1])):
        score = relevance - total / max(len(taken), 1)
        best = int(np.argmax(np.where(free, np.round(score, 10), -np.inf)))
        taken.append(best)
        free[best] = False
        total += redundancy[best]
    return np.array(taken, dtype=int)


def forest_importance(x: np.ndarray, y: np.ndarray, step: ForestStep, seed: int) -> np.ndarray:
    """Mean importance of columns in random forests whose settings are drawn at random (p,)."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(seed)
    total = np.zeros(x.shape[1])
    for _ in range(step.forests):
        forest = RandomForestClassifier(
            step.trees,
            max_depth=int(rng.integers(2, 9)),
            min_samples_leaf=int(rng.integers(1, 9)),
            max_features=float(rng.uniform(0.05, 0.6)),
            criterion=str(rng.choice(["gini", "entropy"])),
            class_weight="balanced" if rng.random() < 0.5 else None,
            n_jobs=1,
            random_state=int(rng.integers(2**31)),
        )
        total += forest.fit(x, y).feature_importances_
    return total / step.forests


def _weight(x: np.ndarray, y: np.ndarray, by: str, seed: int) -> np.ndarray:
    if by == "random-forest":
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(100, min_samples_leaf=3, n_jobs=1, random_state=seed)
        return forest.fit(x, y).feature_importances_
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    if by == "xgboost":
        from .boosted import BoostedTrees

        return BoostedTrees(rounds=50, seed=seed).fit(z, y).feature_importances_
    from .penalised import PenalisedLogistic

    return np.abs(PenalisedLogistic(0.05, 0.0).fit(z, y).coef_).sum(axis=0)


def eliminate(x: np.ndarray, y: np.ndarray, step: EliminationStep, seed: int) -> np.ndarray:
    """Recursive feature elimination (Guyon et al. 2002, Mach Learn 46:389): columns that stay, the weightiest first."""
    left = np.arange(x.shape[1])
    weight = _weight(x, y, step.by, seed)
    while len(left) > step.count:
        out = min(max(1, int(step.drop * len(left))), len(left) - step.count)
        left = np.sort(left[np.argsort(-np.round(weight, 10), kind="stable")[: len(left) - out]])
        weight = _weight(x[:, left], y, step.by, seed)
    return left[np.argsort(-np.round(weight, 10), kind="stable")]


def _one(x: np.ndarray, y: np.ndarray, step: Step, seed: int) -> np.ndarray:
    match step:
        case VarianceStep():
            return np.flatnonzero(x.var(axis=0) > step.above)
        case CorrelationStep():
            return _correlated(x, y, step)
        case KendallStep():
            return np.flatnonzero(np.abs(kendall(x, y)) >= step.at_least - 1e-12)
        case SingleTestStep():
            order, p = _by_strength(x, y), single_tests(x, y)[1]
            return order[p[order] <= step.p]
        case MrmrStep():
            return mrmr(x, y, step.count)
        case ForestStep():
            importance = np.round(forest_importance(x, y, step, seed), 12)
            return np.argsort(-importance, kind="stable")[: step.count]
        case EliminationStep():
            return eliminate(x, y, step, seed)
        case TopStep():
            return _by_strength(x, y)[: step.count]


def choose(x: np.ndarray, y: np.ndarray, selection: Iterable[Step], seed: int = 0) -> np.ndarray:
    """Indices of the columns of x that pass all steps, in the order of the last one that ranks them.

    Constant columns are always left out. Of equal columns the first by position wins.
    """
    chosen = _drop_constant(x)
    for step in selection:
        if not len(chosen):
            break
        chosen = chosen[_one(x[:, chosen], y, step, seed)]
    return chosen
