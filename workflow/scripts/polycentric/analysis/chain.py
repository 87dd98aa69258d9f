"""The front of every chain: coding, imputation, selection and scaling, all fitted on the rows it is given.

A chain is a scikit-learn Pipeline of one `Front` and one model. There is no other way to select: nothing here ever sees
rows that are not passed to `fit`.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestRegressor

from ..config.analyses import Imputation
from ..config.selection import DEFAULT
from .selection import choose, plain, steps


class ForestImputer(TransformerMixin, BaseEstimator):
    """Missing values by random forests in rounds: missForest (Stekhoven and Buehlmann 2012, Bioinformatics 28:112).

    Every column with missing values in training is predicted from the columns that correlate most with it, fewest
    missing values first, starting from medians; rounds end when the filled values change more than in the round before.
    `transform` runs the forests of the last round on rows of their own; other columns get the training median.
    """

    def __init__(self, trees: int = 50, rounds: int = 5, predictors: int = 20, seed: int = 0) -> None:
        self.trees = trees
        self.rounds = rounds
        self.predictors = predictors
        self.seed = seed

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Learn from X (rows, columns) with NaN where missing; y is not used."""
        lacking = np.isnan(X)
        self.medians_ = _medians(X)
        filled = np.where(lacking, self.medians_, X)
        counts = lacking.sum(axis=0)
        some = np.flatnonzero((counts > 0) & (counts <= len(X) - 2))
        self.order_ = some[np.argsort(counts[some], kind="stable")]
        self.from_ = [self._predictors(filled, lacking[:, column], column) for column in self.order_]
        self.forests_: list[RandomForestRegressor] = []
        size = np.abs(filled).max(axis=0, initial=1e-300)
        last = np.inf
        for _ in range(self.rounds if len(self.order_) else 0):
            before, forests = filled.copy(), []
            for column, others in zip(self.order_, self.from_, strict=True):
                rows = lacking[:, column]
                forest = RandomForestRegressor(
                    self.trees, min_samples_leaf=2, max_features=0.5, n_jobs=1, random_state=self.seed
                )
                forest.fit(filled[~rows][:, others], X[~rows, column])
                filled[rows, column] = forest.predict(filled[rows][:, others])
                forests.append(forest)
            change = float((((filled - before) / size)[lacking] ** 2).sum())
            if change >= last:
                break
            self.forests_, last = forests, change
            if change == 0:
                break
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """X without missing values; each row depends on itself only."""
        lacking = np.isnan(X)
        filled = np.where(lacking, self.medians_, X)
        for _ in range(self.rounds if self.forests_ else 0):
            for column, others, forest in zip(self.order_, self.from_, self.forests_, strict=True):
                rows = lacking[:, column]
                if rows.any():
                    filled[rows, column] = forest.predict(filled[rows][:, others])
        return filled

    def _predictors(self, filled: np.ndarray, missing: np.ndarray, column: int) -> np.ndarray:
        known = filled[~missing]
        centred = known - known.mean(axis=0)
        size = np.sqrt((centred**2).sum(axis=0))
        product = centred.T @ centred[:, column]
        scale = size * size[column]
        related = np.where(scale > 0, np.abs(product) / np.where(scale > 0, scale, 1), 0.0)
        related[column] = -1
        order = np.argsort(-np.round(related, 12), kind="stable")[: self.predictors]
        return np.sort(order[related[order] >= 0])


class Front(TransformerMixin, BaseEstimator):
    """Codes categories as indicators, imputes missing values, selects columns, scales to mean 0 and SD 1.

    `forced` are columns (clinical ones) that pass without selection unless they are constant. A column of text gets one
    indicator per category of training but the most frequent one, its reference; a pandas Categorical one per category
    but its first. A category that training does not have is missing, or the reference (`unseen`). Missing categories
    are imputed as whole categories: the most frequent one, or what the forests find likeliest. Everything is learnt
    from the rows given to `fit`.
    """

    def __init__(
        self,
        forced: tuple[str, ...] = (),
        selection: tuple[dict[str, Any], ...] | None = None,
        imputation: dict[str, Any] | None = None,
        seed: int = 0,
        unseen: str = "missing",
    ) -> None:
        self.forced = forced
        self.selection = selection
        self.imputation = imputation
        self.seed = seed
        self.unseen = unseen

    def fit(self, X: pd.DataFrame, y: np.ndarray, choose_on: pd.DataFrame | None = None) -> Self:
        """Learn from X (n rows) and y; with `choose_on` (same rows, twin features) select on that table instead."""
        self.columns_ = list(X.columns)
        self.references_: dict[str, str | None] = {}
        self.categories_: dict[str, list[str]] = {}
        modes: dict[str, str | None] = {}
        for name in (n for n in X.columns if not pd.api.types.is_numeric_dtype(X[n])):
            counts = X[name].astype("object").dropna().value_counts()
            ordered = sorted(counts.index, key=lambda value: (-counts[value], value))
            modes[name] = ordered[0] if ordered else None
            declared = isinstance(X[name].dtype, pd.CategoricalDtype)
            self.references_[name] = X[name].cat.categories[0] if declared else modes[name]
            self.categories_[name] = sorted(set(ordered) - {self.references_[name]})
        coded, self.names_, forced = self._code(X)
        self.medians_ = _medians(coded)
        for name, (start, stop) in self._groups().items():
            self.medians_[start:stop] = [float(value == modes[name]) for value in self.categories_[name]]
        how = Imputation(**(self.imputation or {}))
        self.imputer_ = None
        if how.method == "forest":
            self.imputer_ = ForestImputer(how.trees, how.rounds, how.predictors, self.seed).fit(coded)
        x = self._impute(coded)
        chain = steps(plain(DEFAULT) if self.selection is None else self.selection)
        always = np.flatnonzero(forced & (x.std(axis=0) > 0))
        free = np.flatnonzero(~forced)
        candidates = x[:, free]
        if choose_on is not None:
            twin = self._code(choose_on)[0][:, free]
            candidates = np.where(np.isnan(twin), _medians(twin), twin)
        chosen = free[choose(candidates, y, chain, self.seed)] if len(free) else free
        chosen = chosen[x[:, chosen].std(axis=0) > 0]
        self.chosen_ = np.r_[always, chosen].astype(int)
        self.forced_count_ = len(always)
        self.mean_, self.scale_ = x[:, self.chosen_].mean(axis=0), x[:, self.chosen_].std(axis=0)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Selected columns, imputed and scaled, (n, selected)."""
        if missing := sorted(set(self.columns_) - set(X.columns)):
            raise ValueError(f"the table lacks {len(missing)} columns of the fitted chain, such as {missing[0]!r}")
        coded, _, _ = self._code(X)
        return (self._impute(coded)[:, self.chosen_] - self.mean_) / self.scale_

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.array([self.names_[i] for i in self.chosen_], dtype=object)

    def _groups(self) -> dict[str, tuple[int, int]]:
        """First and last (exclusive) column of the indicators of every categorical column."""
        at = len(self.columns_) - len(self.categories_)
        groups = {}
        for name, values in self.categories_.items():
            groups[name] = (at, at + len(values))
            at += len(values)
        return groups

    def _code(self, X: pd.DataFrame) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Numbers (columns in their order, then indicators of categories), their names, and which are forced."""
        names = [name for name in self.columns_ if name not in self.categories_]
        blocks = [X[names].to_numpy(float)]
        forced = [name in self.forced for name in names]
        for name, values in self.categories_.items():
            column = X[name].astype("object")
            known = column.notna().to_numpy()
            if self.unseen == "missing":
                known &= column.isin([*values, self.references_[name]]).to_numpy()
            for value in values:
                blocks.append(np.where(known, column.eq(value).to_numpy(dtype=float), np.nan)[:, None])
                names.append(f"{name}={value}")
                forced.append(name in self.forced)
        return np.hstack(blocks), names, np.array(forced, dtype=bool)

    def _impute(self, coded: np.ndarray) -> np.ndarray:
        if self.imputer_ is None:
            return np.where(np.isnan(coded), self.medians_, coded)
        filled = self.imputer_.transform(coded)
        for start, stop in self._groups().values():
            rows = np.isnan(coded[:, start:stop]).any(axis=1)
            if not rows.any():
                continue
            # the likeliest category; what the indicators leave of 1 belongs to the reference, which wins ties
            found = filled[rows, start:stop]
            scores = np.c_[1 - found.sum(axis=1), found]
            filled[rows, start:stop] = np.eye(stop - start + 1)[np.argmax(np.round(scores, 12), axis=1)][:, 1:]
        return filled


def sources(front: Front) -> dict[str, list[int]]:
    """Columns of the front's output that come from each input column (a category has several)."""
    at = {name: name for name in front.columns_ if name not in front.categories_}
    at |= {f"{name}={value}": name for name, values in front.categories_.items() for value in values}
    found: dict[str, list[int]] = {}
    for position, name in enumerate(front.get_feature_names_out()):
        found.setdefault(at[str(name)], []).append(position)
    return found


def _medians(x: np.ndarray) -> np.ndarray:
    """Median of each column, 0 where a column has no value."""
    empty = np.isnan(x).all(axis=0)
    result = np.zeros(x.shape[1])
    if not empty.all():
        result[~empty] = np.nanmedian(x[:, ~empty], axis=0)
    return result


def folds(strata: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Test indices of stratified folds: every stratum is shuffled and dealt out; sizes differ by one at most."""
    order = np.concatenate([rng.permutation(np.flatnonzero(strata == s)) for s in np.unique(strata)])
    return [np.sort(order[k::count]) for k in range(count)]
