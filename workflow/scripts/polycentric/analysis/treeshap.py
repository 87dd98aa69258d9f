"""Shapley values of random forests, exact for the path-dependent expectation of TreeSHAP."""

from __future__ import annotations

from typing import Any

import numpy as np


def forest(model: Any, X: np.ndarray) -> np.ndarray:
    """Shapley values (n, K, p) of the probabilities of a scikit-learn random forest; with `expected` they add up to the
    probabilities."""
    X = np.asarray(X, dtype=np.float32).astype(float)  # as scikit-learn compares
    total = np.zeros((len(X), len(model.classes_), X.shape[1]))
    for estimator in model.estimators_:
        total += tree(estimator.tree_, X)
    return total / len(model.estimators_)


def expected(model: Any) -> np.ndarray:
    """What a forest predicts of nobody in particular (K,): its leaves weighted by their training rows."""
    return np.mean([_fractions(e.tree_)[0] for e in model.estimators_], axis=0)


def _fractions(own: Any) -> np.ndarray:
    value = own.value[:, 0, :]
    return value / value.sum(axis=1, keepdims=True)


def tree(own: Any, X: np.ndarray) -> np.ndarray:
    """Shapley values (n, K, p) of one tree (Lundberg et al. 2020, Nat Mach Intell 2:56).

    A leaf contributes value * prod_j (x_j passes all its splits on j, or else the share of training rows that do); its
    Shapley value for feature i is value * (o_i - z_i) * the integral over t from 0 to 1 of prod_{j != i} (z_j (1 - t) +
    o_j t), a polynomial that Gauss-Legendre quadrature integrates exactly.
    """
    values = _fractions(own)
    result = np.zeros((len(X), values.shape[1], X.shape[1]))
    todo = [(0, {})]  # type: ignore[var-annotated]
    while todo:
        node, path = todo.pop()
        left, right = own.children_left[node], own.children_right[node]
        if left < 0:
            if path:
                _leaf(values[node], path, X, result)
            continue
        j, cut = int(own.feature[node]), float(own.threshold[node])
        low, high, share = path.get(j, (-np.inf, np.inf, 1.0))
        cover = own.weighted_n_node_samples
        todo.append((left, path | {j: (low, min(high, cut), share * cover[left] / cover[node])}))
        todo.append((right, path | {j: (max(low, cut), high, share * cover[right] / cover[node])}))
    return result


def _leaf(value: np.ndarray, path: dict[int, tuple[float, float, float]], X: np.ndarray, result: np.ndarray) -> None:
    columns = np.array(list(path))
    low, high, share = np.array(list(path.values())).T
    passes = ((X[:, columns] > low) & (X[:, columns] <= high)).astype(float)
    nodes, weight = np.polynomial.legendre.leggauss((len(columns) + 1) // 2)
    t, weight = (nodes + 1) / 2, weight / 2
    factor = share * (1 - t[:, None, None]) + passes * t[:, None, None]  # (nodes, n, d), never 0
    inner = (weight[:, None, None] * factor.prod(axis=2, keepdims=True) / factor).sum(axis=0)
    result[:, :, columns] += value[None, :, None] * ((passes - share) * inner)[:, None, :]
