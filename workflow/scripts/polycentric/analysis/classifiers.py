"""Classifiers behind one front: what they are built from, what can be tuned, predictions of many settings at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from ..config.classification import Classifier
from .boosted import BoostedTrees
from .discriminants import NearestCentroid, PlsDa, pls_weights
from .penalised import PenalisedLogistic, path, probabilities
from .svm import PlattSvm

Setting = dict[str, float]
# penalties per patient of standardised features: at 0.5 a lasso keeps nothing, whatever the data
PENALTIES = (0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.008)
L1_RATIO = {"ridge": 0.0, "lasso": 1.0, "elastic-net": 0.5}


def _grid(**values: Sequence[float]) -> list[Setting]:
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


# simplest models first: of equally good settings the first wins
GRIDS: dict[Classifier, list[Setting]] = {
    "logistic": [{}],
    "ridge": _grid(penalty=PENALTIES),
    "lasso": _grid(penalty=PENALTIES),
    "elastic-net": _grid(penalty=PENALTIES),
    "linear-svm": _grid(cost=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0)),
    "rbf-svm": _grid(width=(0.1, 0.3, 1.0), cost=(0.3, 1.0, 3.0)),
    "random-forest": _grid(share=(0.0, 0.4), leaf=(8, 3)),
    "pls-da": _grid(components=(1, 2, 3, 4, 5)),
    "xgboost": _grid(depth=(1, 3), rounds=(25, 50, 100, 200)),
    "nearest-centroid": _grid(shrinkage=(3.0, 2.0, 1.0, 0.0)),
}
# what random and Bayesian search draw from: (low, high, scale)
SPACES: dict[Classifier, dict[str, tuple[float, float, str]]] = {
    "logistic": {},
    "ridge": {"penalty": (1e-4, 3.0, "log")},
    "lasso": {"penalty": (1e-3, 0.5, "log")},
    "elastic-net": {"penalty": (1e-3, 0.5, "log"), "l1_ratio": (0.05, 0.95, "linear")},
    "linear-svm": {"cost": (1e-3, 10.0, "log")},
    "rbf-svm": {"cost": (0.03, 100.0, "log"), "width": (0.01, 10.0, "log")},
    "random-forest": {"share": (0.05, 0.8, "linear"), "leaf": (1, 15, "integer"), "depth": (2, 12, "integer")},
    "pls-da": {"components": (1, 10, "integer")},
    "xgboost": {
        "rounds": (20, 300, "integer"),
        "depth": (1, 6, "integer"),
        "rate": (0.01, 0.3, "log"),
        "rows": (0.5, 1.0, "linear"),
        "columns": (0.3, 1.0, "linear"),
        "ridge": (0.1, 30.0, "log"),
        "leaf": (0.5, 10.0, "log"),
    },
    "nearest-centroid": {"shrinkage": (0.0, 5.0, "linear")},
}


def draw(kind: Classifier, trials: int, rng: np.random.Generator) -> list[Setting]:
    """Settings drawn at random from the space of a model; one if it has nothing to tune."""
    space = SPACES[kind]
    if not space:
        return [{}]
    return [{name: _value(rng.random(), *limits) for name, limits in space.items()} for _ in range(trials)]


def _value(u: float, low: float, high: float, scale: str) -> float:
    if scale == "log":
        return float(math.exp(math.log(low) + u * math.log(high / low)))
    if scale == "integer":
        return int(low + math.floor(u * (high - low + 1)))
    return float(low + u * (high - low))


def build(kind: Classifier, setting: Setting, *, trees: int, balanced: bool, seed: int) -> ClassifierMixin:
    """An unfitted classifier of standardised columns."""
    if kind == "logistic":
        return PenalisedLogistic(0.0, 0.0, balanced)
    if kind in L1_RATIO:
        return PenalisedLogistic(setting["penalty"], setting.get("l1_ratio", L1_RATIO[kind]), balanced)
    if kind in ("linear-svm", "rbf-svm"):
        return PlattSvm(
            "linear" if kind == "linear-svm" else "rbf", setting["cost"], setting.get("width", 1.0), balanced, seed
        )
    if kind == "random-forest":
        share = setting["share"]
        return RandomForestClassifier(
            trees,
            min_samples_leaf=int(setting["leaf"]),
            max_depth=int(setting["depth"]) if "depth" in setting else None,
            max_features=float(share) if share else "sqrt",
            class_weight="balanced" if balanced else None,
            n_jobs=1,
            random_state=seed,
        )
    if kind == "pls-da":
        return PlsDa(int(setting["components"]), balanced)
    if kind == "xgboost":
        whole = {k: int(v) if k in ("rounds", "depth") else v for k, v in setting.items()}
        return BoostedTrees(balanced=balanced, seed=seed, **whole)
    return NearestCentroid(setting["shrinkage"], balanced)


Builder = Callable[[Classifier, Setting], ClassifierMixin]


def fit(kind: Classifier, setting: Setting, z: np.ndarray, y: np.ndarray, builder: Builder) -> ClassifierMixin:
    """A fitted classifier; without columns everybody gets the frequencies of training."""
    if not z.shape[1]:
        return DummyClassifier(strategy="prior").fit(z, y)
    return builder(kind, setting).fit(z, y)


def predict_settings(
    kind: Classifier, settings: Sequence[Setting], z: np.ndarray, y: np.ndarray, new: np.ndarray, builder: Builder
) -> np.ndarray:
    """Probabilities (settings, rows of new, K) of models of z (n, p) and y (n,) with each setting.

    What settings share is done once: paths of penalties with warm starts, the components of PLS, the trees of boosting.
    """
    classes = int(y.max()) + 1
    result = np.empty((len(settings), len(new), classes))
    if not z.shape[1]:
        result[:] = np.bincount(y, minlength=classes) / len(y)
        return result
    if kind in L1_RATIO:
        models = [builder(kind, setting) for setting in settings]
        for ratio in dict.fromkeys(model.l1_ratio for model in models):
            where = [k for k, model in enumerate(models) if model.l1_ratio == ratio]
            where.sort(key=lambda k: -models[k].penalty)
            penalties = [models[k].penalty for k in where]
            beta, _ = path(z, y, penalties, ratio, models[0].balanced, tolerance=1e-5)
            for k, b in zip(where, beta, strict=True):
                result[k] = probabilities(new @ b[:, 1:].T + b[:, 0])
    elif kind == "pls-da":
        rotations = pls_weights(z, y, max(int(setting["components"]) for setting in settings))
        for k, setting in enumerate(settings):
            result[k] = builder(kind, setting).fit(z, y, rotations).predict_proba(new)
    elif kind == "xgboost":
        rest = [tuple(sorted((n, v) for n, v in setting.items() if n != "rounds")) for setting in settings]
        for own in dict.fromkeys(rest):
            where = [k for k, other in enumerate(rest) if other == own]
            rounds = [int(settings[k]["rounds"]) for k in where]
            longest = builder(kind, dict(own) | {"rounds": max(rounds)})
            for k, p in zip(where, longest.staged(z, y, rounds, new), strict=True):
                result[k] = p
    else:
        for k, setting in enumerate(settings):
            result[k] = builder(kind, setting).fit(z, y).predict_proba(new)
    return result


def out_of_bag(settings: Sequence[Setting], z: np.ndarray, y: np.ndarray, builder: Builder) -> np.ndarray:
    """Out-of-bag probabilities (settings, n, K) of random forests; the frequencies where a row was in every bag."""
    classes = int(y.max()) + 1
    prior = np.bincount(y, minlength=classes) / len(y)
    if not z.shape[1]:
        return np.broadcast_to(prior, (len(settings), len(y), classes)).copy()
    result = []
    for setting in settings:
        forest = builder("random-forest", setting)
        total, counts = np.zeros((len(y), classes)), np.zeros(len(y))
        forest.fit(z, y)
        for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
            out = np.ones(len(y), dtype=bool)
            out[drawn] = False
            total[out] += tree.predict_proba(z[out])
            counts += out
        result.append(np.where(counts[:, None] > 0, total / np.maximum(counts, 1)[:, None], prior))
    return np.array(result)


def linear(model: Any) -> bool:
    """Whether the log odds of a fitted classifier are linear in its columns."""
    return hasattr(model, "coef_")


def variables(chain: Pipeline, classes: Sequence[str]) -> pd.DataFrame:
    """Variables of a fitted chain: coefficients per SD and per unit (linear models) or importance (trees), mean, SD.

    Several classes have a column `class` and a row per variable and class.
    """
    front, model = chain.named_steps["front"], chain.named_steps["model"]
    names = list(front.get_feature_names_out())
    frame = pd.DataFrame({"variable": names, "mean": front.mean_, "sd": front.scale_})
    if linear(model):
        blocks = []
        for row, (slopes, constant) in enumerate(zip(model.coef_, model.intercept_, strict=True)):
            per_unit = slopes / front.scale_
            block = frame.assign(coefficient_per_sd=slopes, coefficient_per_unit=per_unit)
            last = {
                "variable": "(constant)",
                "coefficient_per_sd": float(constant),
                "coefficient_per_unit": float(constant - (per_unit * front.mean_).sum()),
            }
            block = pd.concat([block, pd.DataFrame([last])], ignore_index=True)
            if len(model.coef_) > 1:
                block.insert(0, "class", classes[row])
            blocks.append(block)
        return pd.concat(blocks, ignore_index=True)
    if hasattr(model, "feature_importances_"):
        frame["importance"] = model.feature_importances_
    return frame
