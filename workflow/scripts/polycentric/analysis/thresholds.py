"""Thresholds of two classes: found for a sensitivity, and what the calls at one are worth."""

from __future__ import annotations

import math

import numpy as np

from ..estimates import Estimate, f1, mean_of_shares, wilson


def threshold_at(outcome: np.ndarray, score: np.ndarray, sensitivity: float) -> float:
    """The highest threshold, midway between neighbouring scores, that reaches a sensitivity; positive is >= it."""
    outcome = np.asarray(outcome, dtype=bool)
    values = np.unique(score)
    if len(values) < 2 or not outcome.any():
        return math.nan
    thresholds = np.r_[values[0], (values[:-1] + values[1:]) / 2]
    reached = (score[outcome][None, :] >= thresholds[:, None]).mean(axis=1)
    return float(thresholds[np.flatnonzero(reached >= sensitivity - 1e-12)[-1]])


def at_threshold(y: np.ndarray, positive: np.ndarray, threshold: float, *, level: float) -> dict[str, Estimate]:
    """Calls of two classes at a threshold: proportions with Wilson's intervals, balanced accuracy and F1 with intervals
    made of these.

    y (n,) 0 or 1, positive (n,) probability of class 1; who reaches the threshold is called positive.
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
    result["balanced_accuracy"] = mean_of_shares([result["sensitivity"], result["specificity"]], level=level)
    counts = ((called & truth), (called & ~truth), (~called & truth))
    result["f1"] = f1(*(int(c.sum()) if known and truth.any() and not truth.all() else 0 for c in counts), level=level)
    return result
