"""Support vector machines with probabilities by Platt scaling inside training."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC


class PlattSvm(ClassifierMixin, BaseEstimator):
    """One machine per class against the rest (one for two classes), each with a sigmoid of its decision values.

    The sigmoid is fitted to decision values of three folds inside the training rows (Platt 1999; Lin et al. 2007, Mach
    Learn 68:267); probabilities of several classes are divided by their sum. `cost` is C of libsvm, `width` is gamma
    times the number of columns.
    """

    def __init__(
        self,
        kernel: Literal["linear", "rbf"] = "linear",
        cost: float = 0.1,
        width: float = 1.0,
        balanced: bool = False,
        seed: int = 0,
    ) -> None:
        self.kernel = kernel
        self.cost = cost
        self.width = width
        self.balanced = balanced
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p) standardised, y (n,) classes 0 to K - 1."""
        classes = int(y.max()) + 1
        self.classes_ = np.arange(classes)
        wanted = [1] if classes == 2 else list(range(classes))
        rng = np.random.default_rng(self.seed)
        self.machines_: list[SVC] = []
        sigmoids = []
        for k in wanted:
            target = (y == k).astype(int)
            unseen = self._out_of_fold(X, target, rng)
            sigmoids.append(platt(unseen, target))
            self.machines_.append(self._machine(X.shape[1]).fit(X, target))
        self.sigmoids_ = np.array(sigmoids)
        if self.kernel == "linear" and classes == 2:
            slope, constant = self.sigmoids_[0]
            self.coef_ = slope * self.machines_[0].coef_
            self.intercept_ = slope * self.machines_[0].intercept_ + constant
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        eta = np.column_stack([m.decision_function(X) for m in self.machines_]) * self.sigmoids_[:, 0]
        p = special.expit(eta + self.sigmoids_[:, 1])
        if p.shape[1] == 1:
            return np.c_[1 - p, p]
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.argmax(self.predict_proba(X), axis=1)

    def _machine(self, columns: int) -> SVC:
        weight = "balanced" if self.balanced else None
        return SVC(C=self.cost, kernel=self.kernel, gamma=self.width / max(columns, 1), class_weight=weight)

    def _out_of_fold(self, X: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        folds = min(3, int(np.bincount(target, minlength=2).min()))
        if folds < 2:  # nothing to hold out: the values of training itself
            return self._machine(X.shape[1]).fit(X, target).decision_function(X)
        fold = np.empty(len(target), dtype=int)
        for k in (0, 1):
            rows = rng.permutation(np.flatnonzero(target == k))
            fold[rows] = np.arange(len(rows)) % folds
        values = np.empty(len(target))
        for k in range(folds):
            machine = self._machine(X.shape[1]).fit(X[fold != k], target[fold != k])
            values[fold == k] = machine.decision_function(X[fold == k])
        return values


def platt(values: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Slope and constant of P(1) = expit(slope * value + constant) with Platt's smoothed targets, by Newton's "
    "method."""
    positives = int(target.sum())
    goal = np.where(target == 1, (positives + 1) / (positives + 2), 1 / (len(target) - positives + 2))
    scale = float(np.abs(values).max()) or 1.0
    design = np.c_[values / scale, np.ones(len(values))]

    def loss(beta: np.ndarray) -> float:
        eta = design @ beta
        return float((np.logaddexp(0, eta) - goal * eta).sum())

    beta = np.array([0.0, np.log((positives + 1) / (len(target) - positives + 1))])
    for _ in range(100):
        p = special.expit(design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (p - goal))
        size, now = 1.0, loss(beta)
        while size > 1e-8 and loss(beta - size * step) > now:
            size /= 2
        beta = beta - size * step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0] / scale), float(beta[1])
