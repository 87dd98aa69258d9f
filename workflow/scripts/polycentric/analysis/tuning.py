"""Chains tuned and fitted on training rows. The front is fitted once per fold and serves all models."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from ..config.classification import ClassificationAnalysis, Classifier
from . import classifiers
from .chain import Front, folds
from .classifiers import Setting
from .selection import plain

CACHE_BYTES = 300_000_000  # fronts of folds beyond this are fitted again for each model instead of kept


@dataclass(frozen=True)
class Fitted:
    """A fitted chain, its setting, and the out-of-fold probabilities (n, K) of training (NaN without folds).

    `present` are the classes that training has; `tried` has the log loss of every setting.
    """

    chain: Pipeline
    setting: Setting
    out_of_fold: np.ndarray
    folds: int
    present: np.ndarray
    classes: int
    tried: list[dict[str, float]]
    converged: bool

    @property
    def front(self) -> Front:
        return self.chain.named_steps["front"]

    @property
    def model(self) -> object:
        return self.chain.named_steps["model"]

    def probabilities(self, x: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, K) of rows."""
        if not len(x):
            return np.empty((0, self.classes))
        return _spread(self.chain.predict_proba(x), self.present, self.classes)


def _spread(p: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
    result = np.zeros((*p.shape[:-1], classes))
    result[..., present] = p
    return result


@dataclass(frozen=True)
class Fold:
    """Training and test rows of a fold, with the front's columns of both; `z`, `y` are sampled if the analysis "
    "says so."""

    repeat: int
    test: np.ndarray
    z: np.ndarray
    y: np.ndarray
    z_test: np.ndarray


class Folds:
    """Folds of training with their fronts, kept while they fit in memory."""

    def __init__(
        self,
        x: pd.DataFrame,
        y: np.ndarray,
        settings: ClassificationAnalysis,
        rng: np.random.Generator,
        seed: int,
        choose_on: pd.DataFrame | None,
        groups: np.ndarray | None,
    ) -> None:
        self.x, self.y, self.settings, self.seed, self.choose_on = x, y, settings, seed, choose_on
        self.count, drawn = draw_folds(y, groups, settings.resampling.folds, settings.resampling.repeats, rng)
        self.drawn = [(repeat, test) for repeat, parts in enumerate(drawn) for test in parts]
        self.kept: list[Fold] = []
        self.size = 0

    def __iter__(self) -> Iterator[Fold]:
        yield from self.kept
        for at in range(len(self.kept), len(self.drawn)):
            fold = self._make(at)
            self.size += fold.z.nbytes + fold.z_test.nbytes
            if self.size < CACHE_BYTES and at == len(self.kept):
                self.kept.append(fold)
            yield fold

    def _make(self, at: int) -> Fold:
        repeat, test = self.drawn[at]
        train = np.setdiff1d(np.arange(len(self.y)), test)
        reference = None if self.choose_on is None else self.choose_on.iloc[train]
        front = front_of(self.settings, self.seed).fit(self.x.iloc[train], self.y[train], reference)
        rows = sampled(self.y[train], self.settings.sampling, self.seed, at)
        z = front.transform(self.x.iloc[train])
        return Fold(repeat, test, z[rows], self.y[train][rows], front.transform(self.x.iloc[test]))


def draw_folds(
    y: np.ndarray, groups: np.ndarray | None, count: int, repeats: int, rng: np.random.Generator
) -> tuple[int, list[list[np.ndarray]]]:
    """Test rows of repeated folds, stratified by class; rows of a group (a patient's lesions) stay together.

    The number of folds is at most the size of the smallest class, in groups; below 2 there are none.
    """
    if groups is None:
        count = min(count, int(np.bincount(y)[np.unique(y)].min()))
        return count, [folds(y, count, rng) for _ in range(repeats)] if count >= 2 else []
    names = np.unique(groups)
    strata = pd.Series(y).groupby(groups).max().reindex(names).to_numpy()
    # a fold needs every class on both sides: count groups that have the class
    having = [len(np.unique(groups[y == k])) for k in np.unique(y)]
    count = min([count, *having, *np.bincount(strata)[np.unique(strata)]])
    if count < 2:
        return count, []
    parts = [[np.flatnonzero(np.isin(groups, names[p])) for p in folds(strata, count, rng)] for _ in range(repeats)]
    return int(count), parts


def front_of(settings: ClassificationAnalysis, seed: int) -> Front:
    return Front(
        settings.clinical,
        plain(settings.selection),
        settings.imputation.model_dump(),
        seed,
        settings.unseen_category,
    )


def sampled(y: np.ndarray, sampling: str | None, seed: int, at: int) -> np.ndarray:
    """Rows that are fitted: all, or as many of each class."""
    if sampling is None:
        return np.arange(len(y))
    rng = np.random.default_rng([seed, at])
    parts = [np.flatnonzero(y == k) for k in np.unique(y)]
    if sampling == "undersample":
        size = min(map(len, parts))
        return np.sort(np.concatenate([rng.choice(rows, size, replace=False) for rows in parts]))
    size = max(map(len, parts))
    return np.sort(np.concatenate([np.r_[rows, rng.choice(rows, size - len(rows))] for rows in parts]))


def log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Mean log loss of probabilities (..., n, K) of classes y (n,), probabilities kept within 1e-6 of 0 and 1."""
    own = np.take_along_axis(p, np.broadcast_to(y[:, None], (*p.shape[:-1], 1)), axis=-1)[..., 0]
    return -np.log(np.clip(own, 1e-6, 1 - 1e-6)).mean(axis=-1)


def fit_models(
    models: Sequence[Classifier],
    x: pd.DataFrame,
    y: np.ndarray,
    settings: ClassificationAnalysis,
    *,
    rng: np.random.Generator,
    seed: int,
    classes: int = 2,
    choose_on: pd.DataFrame | None = None,
    groups: np.ndarray | None = None,
    out_of_fold: bool = True,
) -> dict[Classifier, Fitted]:
    """Tune and fit chains on training rows: x (n, p), y (n,) with two classes at least.

    Tuning minimises the log loss of repeated stratified cross-validation in which the whole chain, selection included,
    is fitted anew in every fold; of equal settings the first wins. With `out_of_fold` False the folds are run only
    where there is something to tune.
    """
    present, y = np.unique(np.asarray(y, dtype=int), return_inverse=True)
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        parts = Folds(x, y, settings, rng, seed, choose_on, groups)
        front = front_of(settings, seed).fit(x, y, choose_on)
        rows = sampled(y, settings.sampling, seed, 2**31)
        z = front.transform(x)[rows]
        return {
            kind: _fit_one(kind, parts, front, z, y[rows], settings, seed, present, classes, out_of_fold)
            for kind in models
        }


def _fit_one(
    kind: Classifier,
    parts: Folds,
    front: Front,
    z: np.ndarray,
    y: np.ndarray,
    settings: ClassificationAnalysis,
    seed: int,
    present: np.ndarray,
    classes: int,
    out_of_fold: bool,
) -> Fitted:
    own = int(np.random.SeedSequence([seed, *kind.encode()]).generate_state(1)[0] & 0x7FFFFFFF)
    balanced = settings.class_weight == "balanced"
    builder = partial(classifiers.build, trees=settings.trees, balanced=balanced, seed=own)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        by_bag = kind == "random-forest" and settings.lesions is None and not settings.sampling

        def judge(candidates: Sequence[Setting]) -> tuple[np.ndarray, np.ndarray]:
            """Log loss of settings, and their out-of-fold probabilities (settings, n, K)."""
            if by_bag:
                p = classifiers.out_of_bag(candidates, z, y, builder)
                return log_loss(y, p), p
            return _cross_validate(kind, candidates, parts, builder)

        tunable = bool(parts.drawn) or by_bag
        candidates = _candidates(kind, settings, own)
        if settings.search.kind == "bayes" and classifiers.SPACES[kind] and tunable:
            candidates, losses, predicted = _bayes(kind, settings, own, judge)
        elif tunable and (len(candidates) > 1 or (out_of_fold and not by_bag)):
            losses, predicted = judge(candidates)
        else:
            losses, predicted = np.full(len(candidates), math.nan), None
        best = int(np.argmin(np.round(losses, 9))) if np.isfinite(losses).any() else len(candidates) // 2
        chosen = candidates[best]
        unseen = np.full((len(parts.y), len(present)), np.nan)
        if out_of_fold and parts.drawn:
            unseen = _cross_validate(kind, [chosen], parts, builder)[1][0] if by_bag else predicted[best]
        model = classifiers.fit(kind, chosen, z, y, builder)
    converged = getattr(model, "converged_", True) and not any(
        issubclass(w.category, ConvergenceWarning) for w in caught
    )
    tried = [{**c, "log_loss": float(loss)} for c, loss in zip(candidates, losses, strict=True)]
    spread = np.full((len(unseen), classes), np.nan)
    if np.isfinite(unseen).all():
        spread = _spread(unseen, present, classes)
    chain = Pipeline([("front", front), ("model", model)])
    return Fitted(chain, chosen, spread, parts.count, present, classes, tried, converged)


def _candidates(kind: Classifier, settings: ClassificationAnalysis, seed: int) -> list[Setting]:
    if settings.search.kind == "grid":
        return classifiers.GRIDS[kind]
    return classifiers.draw(kind, settings.search.trials, np.random.default_rng(seed))


def _cross_validate(
    kind: Classifier, candidates: Sequence[Setting], parts: Folds, builder: classifiers.Builder
) -> tuple[np.ndarray, np.ndarray]:
    y = parts.y
    repeats = parts.settings.resampling.repeats
    shape = (len(candidates), len(y), int(y.max()) + 1)
    total, loss, current, done = np.zeros(shape), np.zeros(len(candidates)), np.zeros(shape), 0
    for fold in parts:
        if fold.repeat != done:
            loss, total, current, done = loss + log_loss(y, current), total + current, np.zeros(shape), fold.repeat
        current[:, fold.test] = classifiers.predict_settings(kind, candidates, fold.z, fold.y, fold.z_test, builder)
    return (loss + log_loss(y, current)) / repeats, (total + current) / repeats


def _bayes(
    kind: Classifier, settings: ClassificationAnalysis, seed: int, judge: object
) -> tuple[list[Setting], np.ndarray, np.ndarray]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    candidates: list[Setting] = []
    losses, best = [], None
    for _ in range(settings.search.trials):
        trial = study.ask()
        setting: Setting = {}
        for name, (low, high, scale) in classifiers.SPACES[kind].items():
            if scale == "integer":
                setting[name] = trial.suggest_int(name, int(low), int(high))
            else:
                setting[name] = trial.suggest_float(name, low, high, log=scale == "log")
        loss, predicted = judge([setting])  # type: ignore[operator]
        if not losses or round(float(loss[0]), 9) < min(round(other, 9) for other in losses):
            best = predicted[0]
        study.tell(trial, float(loss[0]))
        candidates.append(setting)
        losses.append(float(loss[0]))
    # only the out-of-fold probabilities of the best are wanted
    order = int(np.argmin(np.round(losses, 9)))
    predicted = np.full((len(candidates), *best.shape), np.nan)
    predicted[order] = best
    return candidates, np.array(losses), predicted
