"""Random survival forest in numpy: splits by log-rank scores, leaves hold Nelson-Aalen hazards.

Ishwaran et al. 2008, Ann Appl Stat 2:841, with the splitting rule by log-rank scores of Hothorn and Lausen 2003
(Comput Stat Data Anal 43:121): the scores of a node are computed once, so that every cut of every feature costs one
cumulative sum. Trees are deterministic for a seed, whatever the cores.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator

from ..randomness import generator
from .survival import log_rank_scores

GRID = 100  # times at which leaves store their hazard, at most


class SurvivalForest(BaseEstimator):
    """Trees on bootstrap samples; `leaf` patients at least in a leaf, `tries` features per split (default sqrt(p)).

    Predicts the logarithm of the expected number of events were all patients alike (ensemble mortality): higher means
    earlier events, on the scale of a log hazard.
    """

    def __init__(self, trees: int = 300, leaf: int = 7, tries: int | None = None, seed: int = 0) -> None:
        self.trees = trees
        self.leaf = leaf
        self.tries = tries
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """X (n, p), y (n, 2) time and event."""
        time, event = y[:, 0], y[:, 1] > 0
        times, deaths = np.unique(time[event], return_counts=True)
        picked = np.unique(np.linspace(0, len(times) - 1, min(GRID, len(times))).round().astype(int))
        self.times_ = times[picked]
        # every event counts at the stored time at or after its own
        self.weights_ = np.bincount(np.searchsorted(picked, np.arange(len(times))), deaths, minlength=len(picked))
        self.at_risk_ = float(len(y))
        rows, starts = [], [0]
        hazards = []
        for tree in range(self.trees):
            rng = generator(self.seed, "forest", tree)
            nodes, leaves = self._grow(X, time, event, rng)
            nodes[:, 4] += np.where(nodes[:, 4] >= 0, sum(map(len, hazards)), 0)
            rows.append(nodes)
            starts.append(starts[-1] + len(nodes))
            hazards.append(leaves)
        self.nodes_ = np.concatenate(rows)
        self.starts_ = np.array(starts)
        self.hazards_ = np.concatenate(hazards).astype(np.float32)
        return self

    def hazard(self, X: np.ndarray) -> np.ndarray:
        """Cumulative hazard (n, times) at `times_`, mean over trees."""
        total = np.zeros((len(X), len(self.times_)))
        for start, end in zip(self.starts_[:-1], self.starts_[1:], strict=True):
            nodes = self.nodes_[start:end]
            at = np.zeros(len(X), dtype=int)
            while (inner := nodes[at, 4] < 0).any():
                here = nodes[at[inner]]
                left = X[inner, here[:, 0].astype(int)] <= here[:, 1]
                at[inner] = np.where(left, here[:, 2], here[:, 3]).astype(int)
            total += self.hazards_[nodes[at, 4].astype(int)]
        return total / max(self.trees, 1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        if not len(self.times_):
            return np.zeros(len(X))
        return np.log(np.maximum(self.hazard(X) @ self.weights_ / self.at_risk_, 1e-8))

    def survival(self, X: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Predicted survival (n, times)."""
        steps = np.c_[np.zeros(len(X)), self.hazard(X)]
        return np.exp(-steps[:, np.searchsorted(self.times_, times, side="right")])

    def _grow(
        self, X: np.ndarray, time: np.ndarray, event: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (feature, threshold, left, right, leaf or -1) and the hazards of the leaves (leaves, times)."""
        p = X.shape[1]
        tries = min(p, self.tries or int(np.ceil(np.sqrt(p)))) if p else 0
        nodes, leaves = [[0.0, 0.0, 0.0, 0.0, -1.0]], []
        todo = [(0, rng.integers(0, len(X), len(X)))]
        while todo:
            node, members = todo.pop()
            cut = None
            if tries and len(members) >= 2 * self.leaf and event[members].any():
                features = np.sort(rng.choice(p, tries, replace=False))
                cut = best_cut(X[np.ix_(members, features)], log_rank_scores(time[members], event[members]), self.leaf)
            if cut is None:
                nodes[node][4] = float(len(leaves))
                leaves.append(self._leaf(time[members], event[members]))
                continue
            column, threshold = int(features[cut[0]]), cut[1]
            left = X[members, column] <= threshold
            nodes[node][:4] = [float(column), threshold, float(len(nodes)), float(len(nodes) + 1)]
            todo += [(len(nodes), members[left]), (len(nodes) + 1, members[~left])]
            nodes += [[0.0, 0.0, 0.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0, -1.0]]
        return np.array(nodes), np.array(leaves)

    def _leaf(self, time: np.ndarray, event: np.ndarray) -> np.ndarray:
        times, counts = np.unique(time[event], return_counts=True)
        at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
        steps = np.r_[0.0, np.cumsum(counts / at_risk)]
        return steps[np.searchsorted(times, self.times_, side="right")]


def best_cut(x: np.ndarray, scores: np.ndarray, leaf: int) -> tuple[int, float] | None:
    """Column and threshold whose groups differ most in log-rank scores (standardised), `leaf` rows on either side.

    x (n, columns); None where nothing can be cut. Of equal cuts the first column and the lowest threshold win.
    """
    n = len(x)
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, axis=0)
    sums = np.cumsum(scores[order], axis=0)[:-1]
    below = np.arange(1, n)[:, None]
    usable = (ordered[1:] > ordered[:-1]) & (below >= leaf) & (n - below >= leaf)
    strength = np.where(usable, sums**2 * (n / (below * (n - below))), -1.0)
    at = np.argmax(np.round(strength, 10), axis=0)
    best = strength[at, np.arange(x.shape[1])]
    column = int(np.argmax(np.round(best, 10)))
    if best[column] <= 1e-9:
        return None
    low, high = ordered[at[column], column], ordered[at[column] + 1, column]
    middle = float(low + (high - low) / 2)
    return column, middle if middle < high else float(low)
