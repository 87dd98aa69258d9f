"""Gradient boosting of the Cox partial likelihood by XGBoost."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from . import cox

DEPTH, RATE = 2, 0.05


class BoostedCox(BaseEstimator):
    """Shallow trees under `survival:cox` (Breslow ties); predicts the log hazard. One thread, no sampling."""

    def __init__(self, rounds: int = 100) -> None:
        self.rounds = rounds

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p), y (n, 2) time and event."""
        booster = _train(X, y, int(self.rounds))
        # the bytes of the booster: an array that skops stores without trusting code of xgboost
        self.booster_ = np.frombuffer(bytes(booster.save_raw("json")), dtype=np.uint8).copy()
        index = self.predict(X)
        self.times_, self.hazard_ = cox.baseline(index, y[:, 0], y[:, 1] > 0)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        import xgboost

        return self._load().predict(xgboost.DMatrix(X, nthread=1), output_margin=True).astype(float)

    def shapley(self, X: np.ndarray) -> np.ndarray:
        """Shapley values of the log hazard (n, p): TreeSHAP of XGBoost itself (Lundberg et al. 2020)."""
        import xgboost

        return self._load().predict(xgboost.DMatrix(X, nthread=1), pred_contribs=True)[:, :-1].astype(float)

    def _load(self) -> Any:
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(self.booster_.tobytes()))
        return booster

    def survival(self, X: np.ndarray, times: np.ndarray) -> np.ndarray:
        return cox.survival(self.predict(X), self.times_, self.hazard_, times)


def path(X: np.ndarray, y: np.ndarray, rounds: tuple[int, ...], new: np.ndarray) -> np.ndarray:
    """Index of new rows (rounds, n) after each number of rounds, from one training."""
    import xgboost

    booster = _train(X, y, max(rounds))
    rows = xgboost.DMatrix(new, nthread=1)
    return np.array([booster.predict(rows, output_margin=True, iteration_range=(0, r)) for r in rounds], dtype=float)


def _train(X: np.ndarray, y: np.ndarray, rounds: int) -> Any:
    import xgboost

    settings = {"objective": "survival:cox", "max_depth": DEPTH, "eta": RATE, "min_child_weight": 1.0, "nthread": 1,
                "tree_method": "exact", "seed": 0, "base_score": 0.5}  # fmt: skip
    data = xgboost.DMatrix(X, label=np.where(y[:, 1] > 0, y[:, 0], -y[:, 0]), nthread=1)
    return xgboost.train(settings, data, rounds)
