"""Cox chains: one front, features under a ridge that is tuned inside training, clinical columns without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ..config.analyses import SurvivalAnalysis
from . import cox, survival
from .chain import Front, folds

# ridge per event of standardised features; at 1 an unremarkable coefficient is about halved
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
RESCUE = 0.1  # ridge on every variable when the likelihood has no maximum without


class CoxModel(BaseEstimator):
    """Cox regression with a ridge per event on all columns but the first `free`; predicts the prognostic index."""

    def __init__(self, ridge: float = 0.0, free: int = 0) -> None:
        self.ridge = ridge
        self.free = free

    def fit(self, X: np.ndarray, y: np.ndarray, start: np.ndarray | None = None) -> Self:
        """X (n, p) standardised, y (n, 2) time and event. Where a coefficient runs away, all get a small ridge."""
        event = y[:, 1] > 0
        events = int(event.sum())
        penalty = np.r_[np.zeros(self.free), np.full(X.shape[1] - self.free, self.ridge * events)]
        fit = cox.fit(X, y[:, 0], event, ridge=penalty, start=start)
        self.rescued_ = bool(X.shape[1] and not fit.converged and events)
        if self.rescued_:
            fit = cox.fit(X, y[:, 0], event, ridge=np.maximum(penalty, RESCUE * events))
        self.coef_, self.errors_ = fit.coefficients, fit.errors
        self.loglik_, self.loglik_null_ = fit.loglik, fit.loglik_null
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X @ self.coef_ if X.shape[1] else np.zeros(len(X))


@dataclass(frozen=True)
class Fitted:
    """A fitted chain, its ridge, and the cross-validated C of training (NaN without folds)."""

    chain: Pipeline
    ridge: float
    cross_validated: float
    folds: int

    def index(self, x: pd.DataFrame) -> np.ndarray:
        return self.chain.predict(x) if len(x) else np.empty(0)


def fit(
    x: pd.DataFrame,
    y: np.ndarray,
    settings: SurvivalAnalysis,
    forced: tuple[str, ...],
    *,
    rng: np.random.Generator,
    seed: int = 0,
    cross_validate: bool = True,
) -> Fitted:
    """Tune and fit a Cox chain on training patients: x (n, p), y (n, 2) time and event (at least one event).

    The ridge maximises the cross-validated partial likelihood (Verweij and van Houwelingen 1993, Stat Med 12:2305) of
    repeated folds, stratified by event, in which the whole chain is fitted anew. The cross-validated C counts pairs of
    patients of the same fold only, since indices of different fits have no common zero.
    """
    features = any(column not in forced for column in x.columns)
    tuned = features and settings.ridge == "tuned"
    ridges = PENALTIES if tuned else (float(settings.ridge) if features and settings.ridge != "tuned" else 0.0,)
    event = y[:, 1] > 0
    count = min(settings.resampling.folds, int(event.sum()), len(y) // 2)
    likelihood, good, total = np.zeros(len(ridges)), np.zeros(len(ridges)), 0.0
    runs = count >= 2 and (tuned or cross_validate)
    if runs:
        for _ in range(settings.resampling.repeats):
            for test in folds(event.astype(int), count, rng):
                train = np.setdiff1d(np.arange(len(y)), test)
                if not event[train].any():
                    continue
                front = _front(settings, forced, seed).fit(x.iloc[train], y[train])
                z = front.transform(x)
                start = None
                for k, ridge in enumerate(ridges):
                    model = CoxModel(ridge, front.forced_count_).fit(z[train], y[train], start)
                    start = None if model.rescued_ else model.coef_
                    eta = model.predict(z)
                    if not np.isfinite(eta).all():
                        eta = np.zeros(len(y))
                    likelihood[k] += cox.partial_loglik(eta, y[:, 0], event)
                    likelihood[k] -= cox.partial_loglik(eta[train], y[train, 0], event[train])
                    both = survival.pairs(y[test, 0], event[test], eta[test])
                    good[k] += both.concordant.sum()
                total += both.comparable.sum()
    best = int(np.argmax(np.round(likelihood, 9))) if runs else len(ridges) // 2
    front = _front(settings, forced, seed).fit(x, y)
    model = CoxModel(ridges[best], front.forced_count_).fit(front.transform(x), y)
    c = good[best] / total if total else math.nan
    return Fitted(Pipeline([("front", front), ("model", model)]), ridges[best], float(c), count)


def _front(settings: SurvivalAnalysis, forced: tuple[str, ...], seed: int) -> Front:
    how = settings.selection.model_dump(), settings.imputation.model_dump()
    return Front(forced, *how, seed, settings.unseen_category)
