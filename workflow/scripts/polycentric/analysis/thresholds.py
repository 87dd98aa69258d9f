"""Thresholds of two classes: found for a sensitivity, and what the calls at one are worth."""

from __future__ import annotations

import math

import numpy as np

from ..estimates import Estimate, bca_interval, estimate, wilson
from . import multiclass
from .multiclass import Drawn


def threshold_at(outcome: np.ndarray, score: np.ndarray, sensitivity: float) -> float:
    """The highest threshold, midway between neighbouring scores, that reaches a sensitivity; positive is >= it."""
    outcome = np.asarray(outcome, dtype=bool)
    values = np.unique(score)
    if len(values) < 2 or not outcome.any():
        return math.nan
    thresholds = np.r_[values[0], (values[:-1] + values[1:]) / 2]
    reached = (score[outcome][None, :] >= thresholds[:, None]).mean(axis=1)
    return float(thresholds[np.flatnonzero(reached >= sensitivity - 1e-12)[-1]])


def at_threshold(
    y: np.ndarray,
    positive: np.ndarray,
    threshold: float,
    drawn: Drawn,
    counts: np.ndarray,
    *,
    level: float,
    seed: int,
) -> dict[str, Estimate]:
    """Calls of two classes at a threshold: proportions with Wilson's, balanced accuracy and F1 with bootstrap
    intervals.

    y (n,) 0 or 1, positive (n,) probability of class 1; who reaches the threshold is called positive. Patients are
    drawn within each class for balanced accuracy (`drawn` as `multiclass.weights` makes it), and without regard to it
    (`counts` (samples, n)) for F1, which the prevalence changes.
    """
    known, truth = bool(np.isfinite(positive).all()), y == 1
    called = positive >= threshold
    everybody = np.ones(len(y), dtype=bool)
    result = {}
    for key, among, right in (
        ("accuracy", everybody, called == truth),
        ("sensitivity", truth, called),
        ("specificity", ~truth, ~called),
        ("precision", called, truth),
        ("negative_predictive_value", ~called, ~truth),
    ):
        total = int(among.sum()) if known else 0
        result[key] = wilson(int((right & among).sum()) if known else 0, total, level=level)
    rate = {}
    for name, among, size in (("true", truth, 1), ("false", ~truth, 0)):
        hits = called[among].astype(float)
        rate[name] = (hits.sum(), drawn[size] @ hits, len(hits))
    (tp, tps, positives), (fp, fps, negatives) = rate["true"], rate["false"]
    usable = known and positives and negatives
    empty = np.full(0, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (tp / positives + 1 - fp / negatives) / 2 if usable else math.nan
        both_samples = (tps / positives + 1 - fps / negatives) / 2 if usable else empty
    result["balanced_accuracy"] = multiclass.interval(both, both_samples, len(y), level=level, seed=seed)
    without_f1 = estimate(math.nan, method="F1", n=len(y), level=level, seed=seed)
    return result | {"f1": _f1(called, truth, counts, level=level, seed=seed) if usable else without_f1}


def _f1(called: np.ndarray, truth: np.ndarray, counts: np.ndarray, *, level: float, seed: int) -> Estimate:
    """F1, 2 TP / (2 TP + FP + FN), with a BCa interval over patients."""
    n, right, either = len(truth), 2.0 * (called & truth), called.astype(float) + truth
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = (counts @ right) / (counts @ either)
        without = (right.sum() - right) / (either.sum() - either)
    value = float(right.sum() / either.sum())
    found = bca_interval(value, samples, without, level)
    method = f"F1; {found.how} bootstrap over patients, {found.used} samples"
    return estimate(value, found.lower, found.upper, method=method, n=n, level=level, seed=seed)
