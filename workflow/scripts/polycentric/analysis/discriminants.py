"""Classifiers whose log odds are linear in a few directions: PLS-DA, nearest (shrunken) centroids."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin

from .penalised import probabilities


class _Linear(ClassifierMixin, BaseEstimator):
    """Predictions from `coef_` (1 or K, p) and `intercept_` (1 or K,)."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Log odds (n, 1 or K)."""
        return X @ self.coef_.T + self.intercept_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return probabilities(self.decision_function(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.argmax(self.predict_proba(X), axis=1)

    def _keep(self, slopes: np.ndarray, constants: np.ndarray) -> None:
        """Class scores as log odds: two classes have one row."""
        two = len(slopes) == 2
        self.coef_ = slopes[1:] - slopes[:1] if two else slopes
        self.intercept_ = constants[1:] - constants[:1] if two else constants
        self.classes_ = np.arange(len(slopes))


def pls_weights(X: np.ndarray, y: np.ndarray, components: int) -> np.ndarray:
    """Rotations (p, up to `components`): X @ them are the scores of PLS2 regression on class indicators (NIPALS).

    Wold et al. 2001, Chemometr Intell Lab 58:109; columns of X have mean 0. Fewer components where X has a lower rank.
    """
    targets = np.eye(int(y.max()) + 1)[y]
    targets = targets - targets.mean(axis=0)
    targets = targets / np.where(targets.std(axis=0) > 0, targets.std(axis=0), 1)
    left = X - X.mean(axis=0)
    size = np.sqrt((left**2).sum())
    found, loadings = [], []
    for _ in range(min(components, *X.shape)):
        cross = left.T @ targets
        u, s, _ = np.linalg.svd(cross, full_matrices=False)
        if s[0] <= 1e-10 * size:
            break
        w = u[:, 0]
        score = left @ w
        total = score @ score
        if total <= 1e-14 * size**2:
            break
        load = left.T @ score / total
        left = left - np.outer(score, load)
        found.append(w)
        loadings.append(load)
    if not found:
        return np.zeros((X.shape[1], 0))
    w, load = np.array(found).T, np.array(loadings).T
    rotations = w @ np.linalg.inv(load.T @ w)
    # a direction has no sign: the largest weight is positive, so that the same data give the same bytes
    return rotations * np.sign(rotations[np.argmax(np.abs(rotations), axis=0), np.arange(rotations.shape[1])])


class PlsDa(_Linear):
    """PLS regression on class indicators, then linear discriminant analysis of its scores (Barker and Rayens 2003,
    J Chemometr 17:166). `balanced`: equal prior probabilities instead of the frequencies of training."""

    def __init__(self, components: int = 2, balanced: bool = False) -> None:
        self.components = components
        self.balanced = balanced

    def fit(self, X: np.ndarray, y: np.ndarray, rotations: np.ndarray | None = None) -> Self:
        """X (n, p) standardised, y (n,) classes 0 to K - 1; `rotations` of at least `components` saves their search."""
        full = pls_weights(X, y, self.components) if rotations is None else rotations
        self.rotations_ = full[:, : self.components]
        scores = X @ self.rotations_
        counts = np.bincount(y)
        means = np.array([scores[y == k].mean(axis=0) for k in range(len(counts))])
        within = scores - means[y]
        pooled = within.T @ within / max(len(y) - len(counts), 1)
        inverse = np.linalg.pinv(pooled, hermitian=True)
        prior = np.full(len(counts), 1 / len(counts)) if self.balanced else counts / len(y)
        slopes = means @ inverse
        constants = np.log(prior) - 0.5 * (slopes * means).sum(axis=1)
        self._keep(slopes @ self.rotations_.T, constants)
        return self


class NearestCentroid(_Linear):
    """The class whose centroid is nearest in within-class standard deviations: nearest shrunken centroids.

    Tibshirani et al. 2002, PNAS 99:6567; `shrinkage` 0 keeps the centroids. Log odds are half the differences of
    squared distances, divided by `temperature_`, which is fitted in training: correlated features repeat one another.
    """

    def __init__(self, shrinkage: float = 0.0, balanced: bool = False) -> None:
        self.shrinkage = shrinkage
        self.balanced = balanced

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p), y (n,) classes 0 to K - 1."""
        counts = np.bincount(y)
        overall = X.mean(axis=0)
        means = np.array([X[y == k].mean(axis=0) for k in range(len(counts))])
        within = X - means[y]
        spread = np.sqrt((within**2).sum(axis=0) / max(len(y) - len(counts), 1))
        spread = spread + np.median(spread)
        error = np.sqrt(np.maximum(1 / counts - 1 / len(y), 0))[:, None] * spread
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.where(error > 0, (means - overall) / error, 0.0)
        shrunk = np.sign(distance) * np.maximum(np.abs(distance) - self.shrinkage, 0)
        self.centroids_ = overall + error * shrunk if self.shrinkage > 0 else means
        prior = np.full(len(counts), 1 / len(counts)) if self.balanced else counts / len(y)
        slopes = self.centroids_ / spread**2
        constants = -0.5 * (slopes * self.centroids_).sum(axis=1)
        self.temperature_ = _temperature(X @ slopes.T + constants, np.log(prior), y)
        self._keep(slopes / self.temperature_, np.log(prior) + constants / self.temperature_)
        return self


def _temperature(scores: np.ndarray, prior: np.ndarray, y: np.ndarray) -> float:
    """The divisor of the scores, at least 1, with the smallest log loss in training."""
    grid = np.geomspace(1, 64, 49)
    eta = scores[None] / grid[:, None, None] + prior
    loss = special.logsumexp(eta, axis=2) - np.take_along_axis(eta, y[None, :, None], axis=2)[..., 0]
    return float(grid[np.argmin(np.round(loss.mean(axis=1), 12))])
