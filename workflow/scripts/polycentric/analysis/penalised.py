"""Logistic regression with ridge and lasso penalties: paths of penalties with warm starts.

Loss: mean log loss (weighted) + penalty * (l1_ratio * |b|_1 + (1 - l1_ratio) / 2 * |b|_2^2); constants are free. Two
classes have one vector of coefficients, K classes have K (softmax). The penalty is per patient, so that it means the
same in a fold and in all of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin

RESCUE = 1e-3  # penalty where an unpenalised fit runs away
LIMIT = 25.0  # log odds per standard deviation beyond which a fit counts as running away
FLAT = 1e-5  # least weight of a patient in a quadratic approximation, as in glmnet


class PenalisedLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression of standardised columns. `coef_` (1 or K, p), `intercept_` (1 or K,)."""

    def __init__(self, penalty: float = 0.03, l1_ratio: float = 0.0, balanced: bool = False) -> None:
        self.penalty = penalty
        self.l1_ratio = l1_ratio
        self.balanced = balanced

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p), y (n,) classes 0 to K - 1, each at least once. `converged_` is False under separation."""
        way = (self.penalty,)
        if self.l1_ratio > 0:  # the path to the penalty is the best start
            top = largest(X, y, self.l1_ratio, self.balanced)
            way = (*np.geomspace(top, self.penalty, 6)[:-1], self.penalty) if top > self.penalty > 0 else way
        coefficients, self.converged_ = path(X, y, way, self.l1_ratio, self.balanced, tolerance=1e-9)
        self.intercept_, self.coef_ = coefficients[-1, :, 0], coefficients[-1, :, 1:]
        self.classes_ = np.arange(int(y.max()) + 1)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Log odds (n, 1 or K)."""
        return X @ self.coef_.T + self.intercept_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return probabilities(self.decision_function(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.argmax(self.predict_proba(X), axis=1)


def probabilities(eta: np.ndarray) -> np.ndarray:
    """Probabilities (n, K) of log odds (n, 1) or (n, K)."""
    if eta.shape[-1] == 1:
        positive = special.expit(eta[..., 0])
        return np.stack([1 - positive, positive], axis=-1)
    return special.softmax(eta, axis=-1)


def weights(y: np.ndarray, balanced: bool) -> np.ndarray:
    """Weights of patients with mean 1; balanced: all classes weigh the same."""
    if not balanced:
        return np.ones(len(y))
    counts = np.bincount(y)
    present = counts > 0
    return len(y) / (present.sum() * np.where(present, counts, 1))[y]


def largest(X: np.ndarray, y: np.ndarray, l1_ratio: float, balanced: bool = False) -> float:
    """Smallest penalty at which every coefficient is zero (l1_ratio > 0)."""
    w, targets = weights(y, balanced), _targets(y)
    mean = (w[:, None] * targets).mean(axis=0)
    return float(np.abs(X.T @ (w[:, None] * (targets - mean))).max(initial=0) / len(y) / l1_ratio)


def _targets(y: np.ndarray) -> np.ndarray:
    classes = int(y.max()) + 1
    return (y == 1).astype(float)[:, None] if classes == 2 else np.eye(classes)[y]


def path(
    X: np.ndarray,
    y: np.ndarray,
    penalties: Sequence[float],
    l1_ratio: float,
    balanced: bool = False,
    *,
    tolerance: float = 1e-6,
) -> tuple[np.ndarray, bool]:
    """Coefficients (penalties, 1 or K, 1 + p), the constant first, and whether all fits converged.

    Penalties are fitted in the order given, each from the solution before; with l1_ratio 0 by Newton's method in the
    space of the rows of X, else by cyclic coordinate descent on quadratic approximations (Friedman et al. 2010, J Stat
    Softw 33:1, the algorithm of glmnet; several classes one at a time, section 4.1).
    """
    w, targets = weights(y, balanced), _targets(y)
    if l1_ratio == 0:
        return _ridges(X, targets, w, penalties, tolerance)
    p = X.shape[1]
    k = targets.shape[1]
    design = np.asfortranarray(X)
    beta = np.zeros((k, 1 + p))
    mean = (w[:, None] * targets).mean(axis=0)
    beta[:, 0] = special.logit(mean[0]) if k == 1 else np.log(mean)
    found, good = np.zeros((len(penalties), k, 1 + p)), True
    for step, penalty in enumerate(penalties):
        converged = False
        for _ in range(50 if k == 1 else 200):
            before = beta.copy()
            for c in range(k):
                _descend(design, targets, w, beta, c, penalty, l1_ratio, tolerance)
            if np.abs(beta - before).max() < tolerance * max(1.0, np.abs(beta).max()):
                converged = True
                break
        good &= converged
        found[step] = beta
    return found, good


def _descend(
    X: np.ndarray, targets: np.ndarray, w: np.ndarray, beta: np.ndarray, c: int, penalty: float, l1_ratio: float,
    tolerance: float,
) -> None:  # fmt: skip
    """One penalised weighted least squares of class c, written into beta."""
    from sklearn.linear_model import enet_path

    eta = X @ beta[:, 1:].T + beta[:, 0]
    p = special.expit(eta[:, 0]) if eta.shape[1] == 1 else special.softmax(eta, axis=1)[:, c]
    curve = np.maximum(p * (1 - p), FLAT)
    working = eta[:, c] + (targets[:, c] - p) / curve
    weight = w * curve
    total = weight.sum()
    centre, middle = weight @ X / total, weight @ working / total
    root = np.sqrt(weight)
    rows = np.asfortranarray((X - centre) * root[:, None])
    _, coefficients, _ = enet_path(
        rows, (working - middle) * root, l1_ratio=l1_ratio, alphas=[penalty], coef_init=beta[c, 1:].copy(),
        precompute=False, check_input=False, tol=tolerance * 0.1, max_iter=1000,
    )  # fmt: skip
    beta[c, 1:] = coefficients[:, 0]
    beta[c, 0] = middle - centre @ beta[c, 1:]


def _ridges(
    X: np.ndarray, targets: np.ndarray, w: np.ndarray, penalties: Sequence[float], tolerance: float
) -> tuple[np.ndarray, bool]:
    rotation = None
    if X.shape[1] > X.shape[0]:  # the solution lies in the span of the rows
        u, size, rotation = np.linalg.svd(X, full_matrices=False)
        X = u * size
    n, k = targets.shape
    design = np.c_[np.ones(n), X]
    p = design.shape[1]
    beta = np.zeros((k, p))
    found, good = [], True
    for penalty in penalties:
        beta, converged = _newton(design, targets, w, beta, penalty, tolerance)
        if not converged:  # separated classes: a small ridge keeps the coefficients finite
            good = False
            beta, _ = _newton(design, targets, w, np.zeros((k, p)), max(penalty, RESCUE), tolerance)
        found.append(beta)
    result = np.array(found)
    if rotation is not None:
        result = np.concatenate([result[..., :1], result[..., 1:] @ rotation], axis=-1)
    return result, good


def _newton(
    design: np.ndarray, targets: np.ndarray, w: np.ndarray, start: np.ndarray, penalty: float, tolerance: float
) -> tuple[np.ndarray, bool]:
    (n, k), p = targets.shape, design.shape[1]
    ridge = np.tile(np.r_[0.0, np.full(p - 1, penalty)], k)
    ridge += 1e-10 if k == 1 else 1e-8  # several classes: coefficients are known up to what all classes share
    beta = start.copy()
    value = np.inf
    for _ in range(100):
        eta = design @ beta.T
        prob = special.expit(eta) if k == 1 else special.softmax(eta, axis=1)
        gradient = (design.T @ (w[:, None] * (prob - targets)) / n).T.ravel() + ridge * beta.ravel()
        hessian = np.empty((k * p, k * p))
        for a in range(k):
            for b in range(a, k):
                curve = w * prob[:, a] * (float(a == b) - prob[:, b])
                block = design.T @ (curve[:, None] * design) / n
                hessian[a * p : (a + 1) * p, b * p : (b + 1) * p] = block
                hessian[b * p : (b + 1) * p, a * p : (a + 1) * p] = block
        hessian[np.diag_indices(k * p)] += ridge
        try:
            step = np.linalg.solve(hessian, gradient).reshape(k, p)
        except np.linalg.LinAlgError:
            return beta, False
        value, size = _loss(design, targets, w, beta, ridge), 1.0
        while size > 1e-6 and not _loss(design, targets, w, beta - size * step, ridge) <= value + 1e-14 * abs(value):
            size /= 2
        beta = beta - size * step
        if not np.isfinite(beta).all() or np.abs(beta).max() > LIMIT:
            return beta, False
        if np.abs(step).max() < tolerance * max(1.0, np.abs(beta).max()):
            return beta, True
    return beta, False


def _loss(design: np.ndarray, targets: np.ndarray, w: np.ndarray, beta: np.ndarray, ridge: np.ndarray) -> float:
    eta = design @ beta.T
    if targets.shape[1] == 1:
        loss = np.logaddexp(0, eta[:, 0]) - targets[:, 0] * eta[:, 0]
    else:
        loss = special.logsumexp(eta, axis=1) - (targets * eta).sum(axis=1)
    return float((w * loss).mean() + 0.5 * (ridge * beta.ravel() ** 2).sum())
