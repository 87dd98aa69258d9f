"""Survival chains: front and model, tuned, stacked and cross-validated, each step inside training.

All models of an analysis are fitted together, so that a stack and the models in it share folds and fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ..config.survival import SurvivalAnalysis, SurvivalModel
from ..estimates import Estimate, bca_interval, estimate
from . import boost, cox, coxmodel, survival
from .chain import Front, folds
from .coxmodel import CoxModel
from .forest import SurvivalForest
from .selection import plain

Tables = dict[str, pd.DataFrame]
Stream = Callable[..., np.random.Generator]
ROUNDS = (10, 25, 50, 100, 200)  # rounds of boosting to choose from


class Stack(BaseEstimator):
    """A Cox model of the prognostic indices of fitted chains; predicts from one table per chain, by name."""

    def __init__(self, names: tuple[str, ...] = (), ties: cox.Ties = "efron") -> None:
        self.names = names
        self.ties = ties

    def fit(self, indices: np.ndarray, y: np.ndarray, chains: dict[str, Pipeline]) -> Self:
        """indices (n, models) of training patients in the order of `names`, y (n, 2) time and event."""
        event = y[:, 1] > 0
        self.chains_ = chains
        self.coef_, self.errors_ = np.zeros(indices.shape[1]), np.full(indices.shape[1], np.nan)
        used = indices.std(axis=0) > 1e-9
        fit = cox.fit(indices[:, used], y[:, 0], event, ties=self.ties)
        self.rescued_ = bool(used.any() and not fit.converged)
        if self.rescued_:
            ridge = coxmodel.RESCUE * event.sum() * indices[:, used].var(axis=0)
            fit = cox.fit(indices[:, used], y[:, 0], event, ridge=ridge, ties=self.ties)
        self.coef_[used], self.errors_[used] = fit.coefficients, fit.errors
        self.times_, self.hazard_ = cox.baseline(indices @ self.coef_, y[:, 0], event, self.ties)
        return self

    def indices(self, tables: Tables) -> np.ndarray:
        """Indices of the chains (n, models)."""
        return np.column_stack([self.chains_[name].predict(tables[name]) for name in self.names])

    def predict(self, tables: Tables) -> np.ndarray:
        return self.indices(tables) @ self.coef_

    def survival(self, tables: Tables, times: np.ndarray) -> np.ndarray:
        """Predicted survival (n, times)."""
        return cox.survival(self.predict(tables), self.times_, self.hazard_, times)


@dataclass(frozen=True)
class Fitted:
    """A fitted model of an analysis: a chain or a stack, its penalty (or rounds), and the folds of its tuning."""

    name: str
    chain: Pipeline | Stack
    penalty: float | None
    folds: int

    @property
    def stacked(self) -> bool:
        return isinstance(self.chain, Stack)

    def index(self, tables: Tables) -> np.ndarray:
        """Prognostic index (n,) of patients, given the table of every model of the analysis."""
        table = next(iter(tables.values())) if self.stacked else tables[self.name]
        if not len(table):
            return np.empty(0)
        return self.chain.predict(tables if self.stacked else table)

    def survival(self, tables: Tables, times: np.ndarray) -> np.ndarray:
        """Predicted survival (n, times)."""
        if isinstance(self.chain, Stack):
            return self.chain.survival(tables, times)
        front, model = self.chain.named_steps["front"], self.chain.named_steps["model"]
        return model.survival(front.transform(tables[self.name]), times)

    def columns(self, tables: Tables) -> tuple[list[str], np.ndarray]:
        """Names and values (n, p) of what stands in the model, standardised; the indices of a stack as they are."""
        if isinstance(self.chain, Stack):
            return list(self.chain.names), self.chain.indices(tables)
        front, model = self.chain.named_steps["front"], self.chain.named_steps["model"]
        kept = getattr(model, "kept_", np.arange(len(front.chosen_)))
        names = front.get_feature_names_out()
        return [str(names[k]) for k in kept], front.transform(tables[self.name])[:, kept]


@dataclass
class CrossValidation:
    """Harrell's C of pairs of patients of the same fold, over all repetitions.

    `samples` (samples,) are its values in bootstrap samples of the patients, `knives` (n,) without each of them; the
    models of the folds stay as they are.
    """

    c: dict[str, float] = field(default_factory=dict)
    folds: int = 0
    n: int = 0
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    knives: dict[str, np.ndarray] = field(default_factory=dict)

    def estimate(self, name: str, *, level: float, seed: int) -> Estimate:
        method = "Harrell's C of pairs within the same fold, tuning and stacking inside"
        value = self.c.get(name, math.nan)
        found = bca_interval(value, self.samples.get(name, np.empty(0)), self.knives.get(name, np.empty(0)), level)
        if found.used:
            method += f"; {found.how} bootstrap over patients, models as they are, {found.used} samples"
        return estimate(value, found.lower, found.upper, method=method, n=self.n, level=level, seed=seed)


def fit_all(tables: Tables, y: np.ndarray, settings: SurvivalAnalysis, stream: Stream, seed: int) -> dict[str, Fitted]:
    """Fit every model on training patients: tables by model (n rows each), y (n, 2), at least one event.

    `stream(*names)` gives a random stream of its own for every name. Penalties maximise the cross-validated partial
    likelihood (Verweij and van Houwelingen 1993, Stat Med 12:2305) of folds in which the whole chain is fitted anew.
    """
    fitted: dict[str, Fitted] = {}
    plain = {name: model for name, model in settings.models.items() if not model.stack}
    for name, model in plain.items():
        fitted[name] = fit_one(name, model, tables[name], y, settings, stream("tune"), seed)
    stacks = {name: model for name, model in settings.models.items() if model.stack}
    if not stacks:
        return {name: fitted[name] for name in settings.models}
    apparent = {name: fitted[name].index(tables) for name in {n for m in stacks.values() for n in m.stack}}
    if any(model.indices == "cross-validated" for model in stacks.values()):
        found = _out_of_fold(tables, y, settings, sorted(apparent), stream, seed)
        # round the mean of the kept models, whose indices the stack predicts from: trees have no zero of their own
        unseen = {name: own + apparent[name].mean() for name, own in found.items()} if found else apparent
    for name, model in stacks.items():
        indices = unseen if model.indices == "cross-validated" else apparent
        z = np.column_stack([indices[other] for other in model.stack])
        chains = {other: fitted[other].chain for other in model.stack}
        fitted[name] = Fitted(
            name, Stack(model.stack, settings.ties).fit(z, y, chains), None, fitted[model.stack[0]].folds
        )
    return {name: fitted[name] for name in settings.models}


def fit_one(
    name: str,
    model: SurvivalModel,
    x: pd.DataFrame,
    y: np.ndarray,
    settings: SurvivalAnalysis,
    rng: np.random.Generator,
    seed: int,
) -> Fitted:
    """Tune and fit one chain of columns."""
    event = y[:, 1] > 0
    front = _front(model, settings, seed).fit(x, y)
    z = front.transform(x)
    grid = _grid(model, settings, z, y, front.forced_count_)
    count = fold_count(y, settings)
    best = len(grid) // 2
    if len(grid) > 1 and count >= 2:
        likelihood = np.zeros(len(grid))
        for _ in range(settings.resampling.repeats):
            for test in folds(event.astype(int), count, rng):
                train = np.setdiff1d(np.arange(len(y)), test)
                if not event[train].any():
                    continue
                inner = _front(model, settings, seed).fit(x.iloc[train], y[train])
                rows = inner.transform(x)
                etas = _path(model, rows[train], y[train], grid, inner.forced_count_, rows, settings.ties)
                for k, eta in enumerate(etas):
                    eta = eta if np.isfinite(eta).all() else np.zeros(len(y))
                    likelihood[k] += cox.partial_loglik(eta, y[:, 0], event, settings.ties)
                    likelihood[k] -= cox.partial_loglik(eta[train], y[train, 0], event[train], settings.ties)
        best = int(np.argmax(np.round(likelihood, 9)))
    penalty = grid[best] if grid else None
    estimator = _estimator(model, settings, penalty, front.forced_count_, seed).fit(z, y)
    return Fitted(name, Pipeline([("front", front), ("model", estimator)]), penalty, count)


def cross_validate(tables: Tables, y: np.ndarray, settings: SurvivalAnalysis, stream: Stream, seed: int,
                   drawn: np.ndarray | None = None) -> CrossValidation:  # fmt: skip
    """Nested cross-validation of all models: tuning and stacking happen inside each training fold.

    C counts pairs of patients of the same fold only, since indices of different fits have no common zero; `drawn`
    (samples, n) says how often each patient stands in each bootstrap sample.
    """
    event, n = y[:, 1] > 0, len(y)
    drawn = np.empty((0, n)) if drawn is None else drawn
    result = CrossValidation(dict.fromkeys(settings.models, math.nan), fold_count(y, settings), n)
    if result.folds < 2:
        return result
    rng = stream("outer")
    good = {name: _Pairs(n, len(drawn)) for name in settings.models}
    total = _Pairs(n, len(drawn))
    for repeat in range(settings.resampling.repeats):
        for k, test in enumerate(folds(event.astype(int), result.folds, rng)):
            train = np.setdiff1d(np.arange(n), test)
            if not event[train].any():
                continue
            inner = {name: table.iloc[train] for name, table in tables.items()}
            held = {name: table.iloc[test] for name, table in tables.items()}
            fits = fit_all(inner, y[train], settings, _below(stream, "fold", repeat, k), seed)
            for name, fit in fits.items():
                both = survival.pairs(y[test, 0], event[test], fit.index(held))
                good[name].add(both.concordant, test, drawn)
            total.add(both.comparable, test, drawn)
    if total.whole:
        for name, own in good.items():
            result.c[name] = float(own.whole / total.whole)
            with np.errstate(divide="ignore", invalid="ignore"):
                result.samples[name] = own.samples / total.samples
                result.knives[name] = (own.whole - own.of_patient) / (total.whole - total.of_patient)
    return result


class _Pairs:
    """Sums of pairs over folds: of all patients, of each patient (n,), and in bootstrap samples."""

    def __init__(self, n: int, samples: int) -> None:
        self.whole, self.of_patient, self.samples = 0.0, np.zeros(n), np.zeros(samples)

    def add(self, pairs: np.ndarray, rows: np.ndarray, drawn: np.ndarray) -> None:
        self.whole += pairs.sum()
        self.of_patient[rows] += pairs.sum(axis=0) + pairs.sum(axis=1)
        self.samples += ((drawn[:, rows] @ pairs) * drawn[:, rows]).sum(axis=1)


def fold_count(y: np.ndarray, settings: SurvivalAnalysis) -> int:
    """Folds that the events of training allow."""
    return min(settings.resampling.folds, int((y[:, 1] > 0).sum()), len(y) // 2)


def _below(stream: Stream, *prefix: str | int) -> Stream:
    return lambda *names: stream(*prefix, *names)


def _out_of_fold(
    tables: Tables, y: np.ndarray, settings: SurvivalAnalysis, names: list[str], stream: Stream, seed: int
) -> dict[str, np.ndarray] | None:
    """Indices of training patients by models that were fitted without them; None with too few events for folds.

    Indices are centred on the training patients of their fold, so that those of different folds compare.
    """
    event, count = y[:, 1] > 0, fold_count(y, settings)
    if count < 2:
        return None
    result = {name: np.zeros(len(y)) for name in names}
    for k, test in enumerate(folds(event.astype(int), count, stream("stack"))):
        train = np.setdiff1d(np.arange(len(y)), test)
        if not event[train].any():
            return None
        for name in names:
            rng = stream("stack", k)
            x = tables[name]
            fit = fit_one(name, settings.models[name], x.iloc[train], y[train], settings, rng, seed)
            centre = fit.chain.predict(x.iloc[train]).mean()
            result[name][test] = fit.chain.predict(x.iloc[test]) - centre
    return result


def _front(model: SurvivalModel, settings: SurvivalAnalysis, seed: int) -> Front:
    forced = model.clinical if model.select == "features" else ()
    selection = settings.selection if model.selection is None else model.selection
    return Front(forced, plain(selection), settings.imputation.model_dump(), seed, settings.unseen_category)


def _grid(
    model: SurvivalModel, settings: SurvivalAnalysis, z: np.ndarray, y: np.ndarray, free: int
) -> tuple[float, ...]:
    """What tuning chooses from: penalties per event, rounds of boosting; empty for what has nothing to tune."""
    if model.method == "forest":
        return ()
    if model.method == "boosting":
        return tuple(float(r) for r in ROUNDS)
    if model.method == "cox" or z.shape[1] <= free:
        return (0.0,)
    if settings.penalty != "tuned":
        return (float(settings.penalty),)
    return coxmodel.candidates(model.method, z, y, free)


def _path(model: SurvivalModel, z: np.ndarray, y: np.ndarray, grid: tuple[float, ...], free: int,
          new: np.ndarray, ties: cox.Ties) -> np.ndarray:  # fmt: skip
    if not z.shape[1]:
        return np.zeros((len(grid), len(new)))
    if model.method == "boosting":
        return boost.path(z, y, tuple(int(r) for r in grid), new)
    return coxmodel.path(model.method, z, y, grid, free, new, model.eliminate, ties)


def _estimator(
    model: SurvivalModel, settings: SurvivalAnalysis, penalty: float | None, free: int, seed: int
) -> BaseEstimator:
    if model.method == "forest":
        return SurvivalForest(settings.trees, seed=seed)
    if model.method == "boosting":
        return boost.BoostedCox(int(penalty or ROUNDS[0]))
    return CoxModel(model.method, float(penalty or 0.0), free, model.eliminate, settings.ties)
