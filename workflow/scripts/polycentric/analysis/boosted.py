"""Gradient boosted trees by XGBoost for two or more classes, kept as plain bytes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from .penalised import probabilities, weights


class BoostedTrees(ClassifierMixin, BaseEstimator):
    """XGBoost on one thread. `rounds` trees (per class, if several); the other settings have XGBoost's meaning."""

    def __init__(
        self,
        rounds: int = 100,
        depth: int = 2,
        rate: float = 0.1,
        rows: float = 0.8,
        columns: float = 0.8,
        ridge: float = 1.0,
        leaf: float = 1.0,
        balanced: bool = False,
        seed: int = 0,
    ) -> None:
        self.rounds = rounds
        self.depth = depth
        self.rate = rate
        self.rows = rows
        self.columns = columns
        self.ridge = ridge
        self.leaf = leaf
        self.balanced = balanced
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p), y (n,) classes 0 to K - 1."""
        booster = self._train(X, y)
        # an array is what skops stores without trusting code of xgboost
        self.booster_ = np.frombuffer(bytes(booster.save_raw("json")), dtype=np.uint8).copy()
        self.classes_ = np.arange(int(y.max()) + 1)
        gain = booster.get_score(importance_type="total_gain")
        total = np.array([gain.get(f"f{k}", 0.0) for k in range(X.shape[1])])
        self.feature_importances_ = total / total.sum() if total.sum() else total
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self._probabilities(self._load(), X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.argmax(self.predict_proba(X), axis=1)

    def staged(self, X: np.ndarray, y: np.ndarray, rounds: list[int], new: np.ndarray) -> list[np.ndarray]:
        """Probabilities of new rows after each number of rounds, from one training of `self.rounds` rounds."""
        booster = self._train(X, y)
        return [self._probabilities(booster, new, r) for r in rounds]

    def shapley(self, X: np.ndarray) -> np.ndarray:
        """Shapley values of the log odds (n, K or 1, p): TreeSHAP of XGBoost itself (Lundberg et al. 2020)."""
        import xgboost

        found = self._load().predict(xgboost.DMatrix(X, nthread=1), pred_contribs=True).astype(float)
        found = found[:, None, :] if found.ndim == 2 else found
        return found[:, :, :-1]

    def _train(self, X: np.ndarray, y: np.ndarray) -> Any:
        import xgboost

        classes = int(y.max()) + 1
        goal = (
            {"objective": "binary:logistic"} if classes == 2 else {"objective": "multi:softprob", "num_class": classes}
        )
        settings = goal | {
            "max_depth": self.depth, "eta": self.rate, "subsample": self.rows, "colsample_bytree": self.columns,
            "lambda": self.ridge, "min_child_weight": self.leaf, "tree_method": "exact", "nthread": 1,
            "seed": self.seed,
        }  # fmt: skip
        data = xgboost.DMatrix(X, label=y, weight=weights(y, self.balanced), nthread=1)
        return xgboost.train(settings, data, self.rounds)

    def _load(self) -> Any:
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(self.booster_.tobytes()))
        return booster

    def _probabilities(self, booster: Any, X: np.ndarray, rounds: int = 0) -> np.ndarray:
        import xgboost

        rows = xgboost.DMatrix(X, nthread=1)
        eta = booster.predict(rows, output_margin=True, iteration_range=(0, rounds)).astype(float)
        return probabilities(eta[:, None] if eta.ndim == 1 else eta)
