"""Agreement of raters about categories: Fleiss' and Cohen's kappa.

Weights of a bootstrap are (samples, items): how often an item, or its patient, was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .estimates import normal_quantile, p_of_z

Weights = Literal["unweighted", "linear", "quadratic"]


@dataclass(frozen=True)
class Kappa:
    """Kappa with its interval; z and p (two-sided) speak of no agreement beyond chance."""

    value: float
    lower: float
    upper: float
    z: float
    p: float
    observed: float


def counts(ratings: np.ndarray, categories: Sequence[Any] | None = None) -> np.ndarray:
    """Ratings (items, raters) as counts (items, categories)."""
    kinds = np.unique(ratings) if categories is None else np.asarray(categories, dtype=ratings.dtype)
    return (ratings[:, :, None] == kinds).sum(axis=1)


def fleiss(table: np.ndarray) -> tuple[float, float, float]:
    """Fleiss' kappa of counts (items, categories), its z under no agreement, and the two-sided p.

    Kappa after Fleiss (Psychol Bull 76 (1971) 378); the null standard error after Fleiss, Nee and Landis (Psychol Bull
    86 (1979) 974, equation 12). Every item must have the same number of ratings. With one category alone, kappa is NaN.
    """
    table, raters = _checked(table)
    kappa = float(fleiss_values(table)[0])
    if not math.isfinite(kappa):
        return math.nan, math.nan, math.nan
    share = table.sum(axis=0) / table.sum()
    spread = (share * (1 - share)).sum()
    variance = 2 * (spread**2 - (share * (1 - share) * (1 - 2 * share)).sum())
    variance /= spread**2 * len(table) * raters * (raters - 1)
    z = kappa / math.sqrt(variance) if variance > 0 else math.nan
    return kappa, z, p_of_z(z)


def fleiss_values(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Fleiss' kappa of counts (items, categories) for every row of weights (samples, items), (samples,)."""
    table, raters = _checked(table)
    weights = np.ones((1, len(table))) if weights is None else weights
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = ((weights @ table / (total * raters)[:, None]) ** 2).sum(axis=1)
        observed = weights @ (table * (table - 1)).sum(axis=1) / (total * raters * (raters - 1))
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def fleiss_categories(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kappa of every category against the others, its z and p, (categories,) each.

    Fleiss, Levin and Paik (Statistical Methods for Rates and Proportions, 2003), equations 18.42 and 18.53: the
    standard error is the same for all categories. NaN for a category that all or no ratings name.
    """
    table, raters = _checked(table)
    share = table.sum(axis=0) / table.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        disagreed = (table * (raters - table)).sum(axis=0)
        values = 1 - disagreed / (len(table) * raters * (raters - 1) * share * (1 - share))
    values = np.where((share > 0) & (share < 1), values, np.nan)
    z = values / math.sqrt(2 / (len(table) * raters * (raters - 1)))
    return values, z, np.array([p_of_z(one) for one in z])


def _checked(table: np.ndarray) -> tuple[np.ndarray, float]:
    table = np.asarray(table, dtype=float)
    raters = table[0].sum() if len(table) else 0.0
    if not (table.sum(axis=1) == raters).all() or raters < 2:
        raise ValueError("Fleiss' kappa needs the same number of ratings, at least two, for every item")
    return table, float(raters)


def agreement_weights(categories: int, weights: Weights) -> np.ndarray:
    """Weights of agreement (categories, categories): 1 on the diagonal, less the further two categories are apart.

    Linear: 1 - |i - j| / (k - 1) (Cicchetti and Allison 1971); quadratic: 1 - (i - j)^2 / (k - 1)^2 (Fleiss and
    Cohen 1973).
    """
    if weights == "unweighted":
        return np.eye(categories)
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))) / max(categories - 1, 1)
    return 1 - apart ** (1 if weights == "linear" else 2)


def cohen(table: np.ndarray, *, weights: Weights = "unweighted", level: float = 0.95) -> Kappa:
    """Cohen's kappa of a table (categories of one rater, of the other), its interval and its test.

    Interval and test by the large-sample variances of Fleiss, Cohen and Everitt (Psychol Bull 72 (1969) 323, equations
    8 and 13), which differ: the first does not assume that there is no agreement.
    """
    table = np.asarray(table, dtype=float)
    n = table.sum()
    if n == 0:
        return Kappa(*[math.nan] * 6)
    p, w = table / n, agreement_weights(len(table), weights)
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, chance = float((w * p).sum()), float(rows @ w @ columns)
    if chance >= 1 - 1e-12:
        return Kappa(*[math.nan] * 5, observed)
    value = (observed - chance) / (1 - chance)
    mean = (w @ columns)[:, None] + (rows @ w)[None, :]
    spread = (p * (w - mean * (1 - value)) ** 2).sum() - (value - chance * (1 - value)) ** 2
    null = (np.outer(rows, columns) * (w - mean) ** 2).sum() - chance**2
    scale = n * (1 - chance) ** 2
    half = normal_quantile(level) * math.sqrt(max(spread, 0.0) / scale)
    z = value / math.sqrt(null / scale) if null > 1e-15 else math.nan
    return Kappa(value, max(-1.0, value - half), min(1.0, value + half), z, p_of_z(z), observed)


def cohen_values(first: np.ndarray, second: np.ndarray, w: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Cohen's kappa with weights of agreement w for codes (items,) of two raters and weights `drawn`, (samples,)."""
    total = drawn.sum(axis=1)
    eye = np.eye(len(w))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = drawn @ w[first, second] / total
        rows, columns = drawn @ eye[first] / total[:, None], drawn @ eye[second] / total[:, None]
        chance = ((rows @ w) * columns).sum(axis=1)
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)
