"""Kernel distance: unbiased squared maximum mean discrepancy of features, the independent unit being the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel (x . y / d + 1)^3 of features (n, d) and (m, d) (Binkowski et al. 2018, section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Blocks:
    """Sums of a kernel over the slices of two patients, and how many pairs these are; (patients, patients)."""

    sums: np.ndarray
    pairs: np.ndarray

    @staticmethod
    def of(x: list[np.ndarray], y: list[np.ndarray], same: np.ndarray) -> Blocks:
        """Features (slices, d) by patient of two sets; pairs where `same` (patients, patients) holds are left out.

        Slices of one patient are alike whatever the set: only pairs of different patients are independent draws.
        """
        left, right = (np.array([len(p) for p in s]) for s in (x, y))
        sums = np.zeros((len(x), len(y)))
        if left.sum() and right.sum():
            columns = np.concatenate(y)
            starts = np.concatenate([[0], np.cumsum(right)])
            for i, rows in enumerate(x):
                if len(rows):
                    total = np.concatenate([[0.0], np.cumsum(polynomial(rows, columns).sum(axis=0))])
                    sums[i] = total[starts[1:]] - total[starts[:-1]]
        keep = ~same
        return Blocks(sums * keep, np.outer(left, right) * keep)

    def mean(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Mean kernel of pairs drawn by weights (..., patients) of either side; NaN without a pair."""
        sums = np.einsum("...i,ij,...j->...", left, self.sums, right, optimize=True)
        pairs = np.einsum("...i,ij,...j->...", left, self.pairs, right, optimize=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, sums / pairs, np.nan)


def of_samples(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of samples (n, d) and (m, d) (Gretton et al. 2012, equation 3)."""
    one, other = [r[None] for r in np.asarray(x, float)], [r[None] for r in np.asarray(y, float)]
    a, b = np.ones(len(one)), np.ones(len(other))
    within = Blocks.of(one, one, np.eye(len(one), dtype=bool)).mean(a, a)
    within_other = Blocks.of(other, other, np.eye(len(other), dtype=bool)).mean(b, b)
    across = Blocks.of(one, other, np.zeros((len(one), len(other)), dtype=bool)).mean(a, b)
    return float(within + within_other - 2 * across)
