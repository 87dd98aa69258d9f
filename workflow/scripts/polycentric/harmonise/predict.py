"""Can a classifier tell the batch from the features?

Two of them: a linear one, which sees shifts and whose permutation null costs one matrix product; and a random forest,
which sees differences of spread as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ..bootstrap import counts

PENALTY = 0.1  # of the linear classifier, times the mean squared length of a standardised row


@dataclass(frozen=True)
class Prepared:
    """Rows for a classifier: standardised by training rows, constant columns out, missing values at the mean."""

    training: np.ndarray
    others: np.ndarray


def prepare(training: np.ndarray, others: np.ndarray) -> Prepared:
    """Standardise (rows, features) by the training rows."""
    known = np.isfinite(training)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, training, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (np.where(known, training, 0) - mean) ** 2, 0).sum(axis=0) / count)
    usable = spread > 1e-10 * np.maximum(np.abs(mean), 1e-300)

    def standard(x: np.ndarray) -> np.ndarray:
        z = (x[:, usable] - mean[usable]) / spread[usable]
        # a few outliers must not decide alone
        return np.clip(np.where(np.isfinite(z), z, 0.0), -8, 8)

    return Prepared(standard(training), standard(others))


def smoother(training: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Matrix (others, training) that turns 0/1 columns of the training rows into scores: ridge regression."""
    kernel = training @ training.T
    n = len(training)
    size = max(float(np.trace(kernel)) / n, 1e-300)
    centred = np.eye(n) - 1 / n
    solved = np.linalg.solve(kernel + PENALTY * size * np.eye(n), centred)
    return others @ training.T @ solved + 1 / n


def cross_smoother(x: np.ndarray, folds: list[list[np.ndarray]]) -> np.ndarray:
    """Matrix (rows, rows) of out-of-fold scores, averaged over repeats; `folds` are test rows by repeat."""
    total = np.zeros((len(x), len(x)))
    for repeat in folds:
        for test in repeat:
            train = np.setdiff1d(np.arange(len(x)), test)
            made = prepare(x[train], x[test])
            total[np.ix_(test, train)] += smoother(made.training, made.others)
    return total / len(folds)


def grouped_folds(
    groups: np.ndarray, strata: np.ndarray, count: int, repeats: int, rng: np.random.Generator
) -> list[list[np.ndarray]]:
    """Test rows by repeat and fold; rows of a group (patient) stay together, strata (batches) are dealt out evenly."""
    names, first = np.unique(groups.astype(str), return_index=True)
    kinds = strata[first].astype(str)
    made = []
    for _ in range(repeats):
        order = np.concatenate([rng.permutation(np.flatnonzero(kinds == k)) for k in np.unique(kinds)])
        where = dict(zip(names[order], np.arange(len(order)) % count, strict=True))
        fold = np.array([where[str(g)] for g in groups])
        made.append([np.flatnonzero(fold == k) for k in range(count) if (fold == k).any()])
    return made


def forest_scores(
    x: np.ndarray, labels: np.ndarray, others: np.ndarray, *, trees: int, seed: int, classes: int
) -> np.ndarray:
    """Probabilities (others, classes) of a random forest with equal class weights."""
    from sklearn.ensemble import RandomForestClassifier

    made = prepare(x, others)
    model = RandomForestClassifier(trees, min_samples_leaf=2, class_weight="balanced", n_jobs=1, random_state=seed)
    model.fit(made.training, labels)
    scores = np.zeros((len(others), classes))
    scores[:, model.classes_] = model.predict_proba(made.others)
    return scores


def cross_forest(
    x: np.ndarray, labels: np.ndarray, folds: list[np.ndarray], *, trees: int, seed: int, classes: int
) -> np.ndarray:
    """Out-of-fold probabilities (rows, classes) of one round of folds."""
    scores = np.full((len(x), classes), np.nan)
    for test in folds:
        train = np.setdiff1d(np.arange(len(x)), test)
        scores[test] = forest_scores(x[train], labels[train], x[test], trees=trees, seed=seed, classes=classes)
    return scores


def mean_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the AUC of one against the rest; NaN with fewer than two."""
    present = np.unique(labels)
    if len(present) < 2:
        return math.nan
    return float(_aucs(scores[:, present], labels[:, None] == present[None]).mean())


def _aucs(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    ranks = rankdata(scores, axis=0)
    m = positive.sum(axis=0)
    return ((ranks * positive).sum(axis=0) - m * (m + 1) / 2) / (m * (len(scores) - m))


def permutation_null(
    matrix: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, runs: int, rng: np.random.Generator
) -> np.ndarray:
    """Mean AUC (runs,) of the linear classifier when batches are permuted between patients."""
    _, first, which = np.unique(groups.astype(str), return_index=True, return_inverse=True)
    own = labels[first]
    classes = np.unique(labels)
    result = np.empty(runs)
    for start in range(0, runs, 100):
        permuted = np.stack([rng.permutation(own)[which] for _ in range(min(100, runs - start))], axis=1)
        one_hot = (permuted[:, :, None] == classes).reshape(len(labels), -1)
        aucs = _aucs(matrix @ one_hot, one_hot).reshape(-1, len(classes))
        result[start : start + len(aucs)] = aucs.mean(axis=1)
    return result


def bootstrap(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Mean AUC in bootstrap samples of patients, drawn within each batch."""
    _, first, which = np.unique(groups.astype(str), return_index=True, return_inverse=True)
    own = labels[first]
    present = np.unique(labels)
    better = []
    for kind in present:  # how often a positive row beats a negative one
        positive = labels == kind
        a, b = scores[positive][:, kind], scores[~positive][:, kind]
        better.append((positive, (a[:, None] > b) + 0.5 * (a[:, None] == b)))
    weights = counts(own, samples, rng)[:, which]
    aucs = []
    for positive, wins in better:
        top, bottom = weights[:, positive], weights[:, ~positive]
        aucs.append(((top @ wins) * bottom).sum(axis=1) / (top.sum(axis=1) * bottom.sum(axis=1)))
    return np.mean(aucs, axis=0)
