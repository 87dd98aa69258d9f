"""Cox models of standardised columns: unpenalised with backward elimination, ridge, lasso, elastic net."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from sklearn.base import BaseEstimator

from . import cox, coxnet

# ridge per event of standardised features; at 1 an unremarkable coefficient is about halved
RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
# lasso: shares of the smallest penalty that lets no feature enter
SHARES = tuple(float(s) for s in np.geomspace(1.0, 0.05, 12))
RESCUE = 0.1  # ridge on every variable when the likelihood has no maximum without

Kind = Literal["cox", "ridge", "lasso", "elastic-net"]
MIXING = {"lasso": 1.0, "elastic-net": 0.5}


class CoxModel(BaseEstimator):
    """Cox regression with a penalty per event on all columns but the first `free`; predicts the prognostic index.

    `eliminate` is the p above which a column leaves in backward elimination, or "aic"; the free columns stay.
    """

    def __init__(
        self,
        kind: Kind = "ridge",
        penalty: float = 0.0,
        free: int = 0,
        eliminate: float | str | None = None,
        ties: cox.Ties = "efron",
    ) -> None:
        self.kind = kind
        self.penalty = penalty
        self.free = free
        self.eliminate = eliminate
        self.ties = ties

    def fit(self, X: np.ndarray, y: np.ndarray, start: np.ndarray | None = None) -> Self:
        """X (n, p) standardised, y (n, 2) time and event. Where a coefficient runs away, all get a small ridge.

        `kept_` are the columns in the model; the others have coefficient 0. Standard errors of a lasso are NaN.
        """
        time, event = y[:, 0], y[:, 1] > 0
        events, p = int(event.sum()), X.shape[1]
        self.coef_, self.errors_ = np.zeros(p), np.full(p, np.nan)
        self.rescued_, self.kept_ = False, np.arange(p)
        if self.kind in MIXING and p > self.free:
            self._sparse(X, time, event)
        else:
            self._smooth(X, time, event, events, start)
        self.times_, self.hazard_ = cox.baseline(self.predict(X), time, event, self.ties)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X @ self.coef_ if X.shape[1] else np.zeros(len(X))

    def survival(self, X: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Predicted survival (n, times)."""
        return cox.survival(self.predict(X), self.times_, self.hazard_, times)

    def _smooth(
        self, X: np.ndarray, time: np.ndarray, event: np.ndarray, events: int, start: np.ndarray | None
    ) -> None:
        p = X.shape[1]
        ridge = self.penalty if self.kind == "ridge" else 0.0
        penalty = np.r_[np.zeros(min(self.free, p)), np.full(max(p - self.free, 0), ridge * events)]
        fit = cox.fit(X, time, event, ridge=penalty, start=start, ties=self.ties)
        self.rescued_ = bool(p and not fit.converged and events)
        if self.eliminate is not None:
            alpha = None if self.eliminate == "aic" else float(self.eliminate)
            rescue = RESCUE if self.rescued_ else 0.0
            self.kept_ = cox.backward(X, time, event, alpha=alpha, free=self.free, ridge=rescue, ties=self.ties)
            fit = cox.fit(X[:, self.kept_], time, event, ridge=penalty[self.kept_], ties=self.ties)
            self.rescued_ = bool(len(self.kept_) and not fit.converged and events)
        if self.rescued_:
            more = np.maximum(penalty[self.kept_], RESCUE * events)
            fit = cox.fit(X[:, self.kept_], time, event, ridge=more, ties=self.ties)
        self.coef_[self.kept_], self.errors_[self.kept_] = fit.coefficients, fit.errors

    def _sparse(self, X: np.ndarray, time: np.ndarray, event: np.ndarray) -> None:
        mixing = MIXING[self.kind]
        top = coxnet.largest(X, time, event, mixing=mixing, free=self.free)
        way = np.geomspace(top, self.penalty, 6) if top > self.penalty > 0 else np.array([self.penalty])
        beta = coxnet.path(X, time, event, way, mixing=mixing, free=self.free, ties=self.ties)[-1]
        self.rescued_ = not np.isfinite(beta).all()
        if self.rescued_:
            ridge = max(self.penalty, RESCUE) * int(event.sum())
            beta = cox.fit(X, time, event, ridge=ridge, ties=self.ties).coefficients
        self.coef_ = beta
        self.kept_ = np.flatnonzero((np.arange(X.shape[1]) < self.free) | (beta != 0))


def candidates(kind: Kind, X: np.ndarray, y: np.ndarray, free: int) -> tuple[float, ...]:
    """Penalties per event to choose from, largest first; one of 0 where nothing is penalised."""
    if kind == "cox" or X.shape[1] <= free:
        return (0.0,)
    if kind == "ridge":
        return RIDGES
    top = coxnet.largest(X, y[:, 0], y[:, 1] > 0, mixing=MIXING[kind], free=free)
    return tuple(top * share for share in SHARES) if top > 0 else (0.0,)


def path(kind: Kind, X: np.ndarray, y: np.ndarray, penalties: tuple[float, ...], free: int, new: np.ndarray,
         eliminate: float | str | None, ties: cox.Ties = "efron") -> np.ndarray:  # fmt: skip
    """Index of new rows (penalties, n) for every penalty, each fit starting from the one before."""
    if kind in MIXING and X.shape[1] > free:
        values = np.asarray(penalties)
        beta = coxnet.path(X, y[:, 0], y[:, 1] > 0, values, mixing=MIXING[kind], free=free, ties=ties,
                           tolerance=1e-4)  # fmt: skip
        return np.where(np.isfinite(beta), beta, 0.0) @ new.T
    rows, start = [], None
    for penalty in penalties:
        model = CoxModel(kind, penalty, free, eliminate, ties).fit(X, y, start)
        start = None if model.rescued_ or eliminate is not None else model.coef_
        rows.append(model.predict(new))
    return np.array(rows)
