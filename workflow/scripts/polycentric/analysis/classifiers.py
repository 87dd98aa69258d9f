"""Classifiers behind one front, tuned inside training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from ..config.analyses import ClassificationAnalysis, Classifier
from .chain import Front, folds

# penalties per patient of standardised features: at 0.5 a lasso keeps nothing, whatever the data
PENALTIES = (0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.008)
PENALISED = ("ridge", "lasso", "elastic-net")


def build(
    kind: Classifier, patients: int, penalty: float, settings: ClassificationAnalysis, seed: int
) -> ClassifierMixin:
    """An unfitted classifier; `penalty` is per patient, so that it means the same in a fold and in all of training."""
    weight = settings.class_weight
    if kind == "random-forest":
        return RandomForestClassifier(
            settings.trees, min_samples_leaf=3, class_weight=weight, n_jobs=1, random_state=seed
        )
    if kind == "logistic":
        return LogisticRegression(C=np.inf, class_weight=weight, max_iter=1000)
    strength = 1 / (patients * penalty)
    if kind == "ridge":
        return LogisticRegression(C=strength, class_weight=weight, max_iter=1000)
    if kind == "lasso":  # liblinear penalises the constant; a large scaling makes that negligible
        return LogisticRegression(
            l1_ratio=1, C=strength, solver="liblinear", intercept_scaling=100, class_weight=weight, random_state=seed
        )
    return LogisticRegression(
        l1_ratio=0.5, C=strength, solver="saga", class_weight=weight, random_state=seed, max_iter=2000, tol=1e-3
    )


@dataclass(frozen=True)
class Fitted:
    """A fitted chain, the chosen penalty, and the out-of-fold probabilities of training (NaN without folds)."""

    chain: Pipeline
    penalty: float | None
    out_of_fold: np.ndarray
    folds: int

    def probability(self, x: pd.DataFrame) -> np.ndarray:
        if not len(x):
            return np.empty(0)
        return self.chain.predict_proba(x)[:, 1]


def fit(
    kind: Classifier,
    x: pd.DataFrame,
    y: np.ndarray,
    settings: ClassificationAnalysis,
    *,
    rng: np.random.Generator,
    seed: int,
    choose_on: pd.DataFrame | None = None,
    out_of_fold: bool = True,
) -> Fitted:
    """Tune and fit a chain on training patients: x (n, p), y (n,) with both classes.

    Tuning minimises the log loss of repeated stratified cross-validation in which the whole chain, selection included,
    is fitted anew in every fold; of equal penalties the strongest wins. With `out_of_fold` False the folds are run
    only where there is something to tune.
    """
    y = np.asarray(y, dtype=int)
    penalties = PENALTIES if kind in PENALISED else (math.nan,)
    count = min(settings.resampling.folds, int(np.bincount(y, minlength=2).min()))
    predicted = np.full((len(penalties), len(y)), np.nan)
    best = len(penalties) // 2
    if count >= 2 and (out_of_fold or len(penalties) > 1):
        total, loss = np.zeros_like(predicted), np.zeros(len(penalties))
        for _ in range(settings.resampling.repeats):
            repeat = np.zeros_like(predicted)
            for test in folds(y, count, rng):
                train = np.setdiff1d(np.arange(len(y)), test)
                reference = None if choose_on is None else choose_on.iloc[train]
                repeat[:, test] = _fold(
                    kind, x.iloc[train], y[train], x.iloc[test], settings, penalties, seed, reference
                )
            clipped = np.clip(repeat, 1e-6, 1 - 1e-6)
            loss -= (y * np.log(clipped) + (1 - y) * np.log(1 - clipped)).mean(axis=1)
            total += repeat
        predicted = total / settings.resampling.repeats
        best = int(np.argmin(np.round(loss, 9)))
    front = _front(settings, seed).fit(x, y, choose_on)
    model = _fit(kind, front.transform(x), y, penalties[best], settings, seed)
    penalty = penalties[best] if kind in PENALISED else None
    return Fitted(Pipeline([("front", front), ("model", model)]), penalty, predicted[best], count)


def _front(settings: ClassificationAnalysis, seed: int) -> Front:
    return Front(
        settings.clinical,
        settings.selection.model_dump(),
        settings.imputation.model_dump(),
        seed,
        settings.unseen_category,
    )


def _fit(
    kind: Classifier, z: np.ndarray, y: np.ndarray, penalty: float, settings: ClassificationAnalysis, seed: int
) -> ClassifierMixin:
    if not z.shape[1]:  # nothing was selected: everybody gets the frequency of training
        return DummyClassifier(strategy="prior").fit(z, y)
    return build(kind, len(y), penalty, settings, seed).fit(z, y)


def _fold(
    kind: Classifier,
    x: pd.DataFrame,
    y: np.ndarray,
    test: pd.DataFrame,
    settings: ClassificationAnalysis,
    penalties: tuple[float, ...],
    seed: int,
    choose_on: pd.DataFrame | None,
) -> np.ndarray:
    """Probabilities (penalties, patients) of a fold's test patients."""
    front = _front(settings, seed).fit(x, y, choose_on)
    z, z_test = front.transform(x), front.transform(test)
    return np.stack([_fit(kind, z, y, p, settings, seed).predict_proba(z_test)[:, 1] for p in penalties])


def importance(chain: Pipeline) -> pd.DataFrame:
    """Variables of a fitted chain: coefficient per SD (linear models) or importance (forests), and mean and SD."""
    front, model = chain.named_steps["front"], chain.named_steps["model"]
    names = list(front.get_feature_names_out())
    frame = pd.DataFrame({"variable": names, "mean": front.mean_, "sd": front.scale_})
    if hasattr(model, "coef_"):
        frame["coefficient_per_sd"] = model.coef_[0]
        constant = {"variable": "(constant)", "coefficient_per_sd": float(model.intercept_[0])}
        frame = pd.concat([frame, pd.DataFrame([constant])], ignore_index=True)
    elif hasattr(model, "feature_importances_"):
        frame["importance"] = model.feature_importances_
    return frame
