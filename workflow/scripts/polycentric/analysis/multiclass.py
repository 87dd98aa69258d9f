"""Discrimination of two or more classes: y (n,) integer classes, p (n, K) probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..estimates import Estimate, bca_interval, estimate, percentiles
from . import roc

Drawn = Sequence[np.ndarray]


def weights(y: np.ndarray, classes: int, samples: int, rng: np.random.Generator) -> Drawn:
    """How often each patient is drawn, with replacement within each class: an array (samples, n_k) per class."""
    if classes == 2:  # the order in which `roc` draws, so that both give the same samples
        positives, negatives = roc.weights(y == 1, samples, rng)
        return (negatives, positives)
    counts = [int((y == k).sum()) for k in range(classes)]
    return [
        rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(float) if n else np.zeros((samples, 0))
        for n in counts
    ]


def discrimination(y: np.ndarray, p: np.ndarray) -> float:
    """AUC of two classes; of several Hand and Till's M (2001, Mach Learn 45:171): the mean over pairs of classes of the
    AUCs of either class's probability among their patients. NaN where a class has no patient."""
    if p.shape[1] == 2:
        return roc.auc(y == 1, p[:, 1])
    values = []
    for a, b in itertools.combinations(range(p.shape[1]), 2):
        here = (y == a) | (y == b)
        values += [roc.auc(y[here] == a, p[here, a]), roc.auc(y[here] == b, p[here, b])]
    return float(np.mean(values))


def bootstrap_values(y: np.ndarray, p: np.ndarray, drawn: Drawn) -> np.ndarray:
    """`discrimination` in every bootstrap sample (samples,)."""
    if p.shape[1] == 2:
        return roc.bootstrap_auc(y == 1, p[:, 1], (drawn[1], drawn[0]))
    total, pairs = np.zeros(len(drawn[0])), 0
    for a, b in itertools.permutations(range(p.shape[1]), 2):
        here = (y == a) | (y == b)
        total = total + roc.bootstrap_auc(y[here] == a, p[here, a], (drawn[a], drawn[b]))
        pairs += 1
    return total / pairs


def macro(y: np.ndarray, p: np.ndarray) -> float:
    """Mean AUC of each class against the rest."""
    return float(np.mean([roc.auc(y == k, p[:, k]) for k in range(p.shape[1])]))


def macro_values(y: np.ndarray, p: np.ndarray, drawn: Drawn) -> np.ndarray:
    """`macro` in every bootstrap sample."""
    total = np.zeros(len(drawn[0]))
    for k in range(p.shape[1]):
        others = np.flatnonzero(y != k)
        rest = np.empty((len(total), len(others)))
        for other in range(p.shape[1]):
            if other != k:
                rest[:, y[others] == other] = drawn[other]
        total += roc.bootstrap_auc(y == k, p[:, k], (drawn[k], rest))
    return total / p.shape[1]


def interval(value: float, samples: np.ndarray, n: int, *, level: float, seed: int) -> Estimate:
    """An estimate with the percentile interval of bootstrap samples."""
    lower, upper, used = percentiles(samples, level)
    method = f"percentile bootstrap over patients within each class, {used} samples"
    return estimate(value, lower, upper, method=method, n=n, level=level, seed=seed)


def auc(y: np.ndarray, p: np.ndarray, drawn: Drawn, *, level: float, seed: int) -> Estimate:
    """`discrimination` with an interval of the stratified bootstrap over patients: BCa of two classes only."""
    if p.shape[1] == 2:
        return roc.bootstrap(y == 1, p[:, 1], (drawn[1], drawn[0]), level=level, seed=seed)
    samples = bootstrap_values(y, p, drawn)
    if len(p) and np.ptp(p, axis=0).max() == 0:  # the same for everybody: chance by definition, not by measurement
        samples = np.full(0, math.nan)
    result = interval(discrimination(y, p), samples, len(y), level=level, seed=seed)
    return result | {"method": f"Hand and Till; {result['method']}"}


def brier(y: np.ndarray, p: np.ndarray, counts: np.ndarray, *, level: float, seed: int) -> Estimate:
    """Brier score with a BCa interval over patients; of several classes summed over them (Brier 1950).

    Patients are drawn without regard to their class (`counts` (samples, n)), since the prevalence counts.
    """
    if p.shape[1] == 2:
        error, what = (p[:, 1] - (y == 1)) ** 2, "mean squared difference"
    else:
        error, what = ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1), "mean squared difference, summed over classes"
    n = len(y)
    if not n or not np.isfinite(error).all():
        return estimate(math.nan, method=what, n=n, level=level, seed=seed)
    value = float(error.mean())
    without = (error.sum() - error) / max(n - 1, 1)
    found = bca_interval(value, counts @ error / n, without, level)
    method = f"{what}; {found.how} bootstrap over patients, {found.used} samples"
    return estimate(value, found.lower, found.upper, method=method, n=n, level=level, seed=seed)
