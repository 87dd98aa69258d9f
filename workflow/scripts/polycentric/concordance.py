"""Agreement of repeated measurements: intraclass correlation and concordance correlation, many features at once.

Arrays are (subjects, repeats, features). A subject counts for a feature when all of its repeats are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

STATISTICS = ("icc_1", "icc_a", "icc_c", "ccc")
WORDS = {"icc_1": "ICC(1,1)", "icc_a": "ICC(A,1)", "icc_c": "ICC(C,1)", "ccc": "CCC"}


@dataclass(frozen=True)
class Interval:
    """Values with their bounds, (features,); NaN where there is nothing to estimate."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class Concordance:
    """Agreement of repeats, (features,) each.

    `subjects` counts those with all repeats known; `within_sd` is the SD between repeats of a subject and
    `repeatability` 1.96 sqrt(2) times that: the difference that 95 % of two repeats stay below (Bland and Altman 1999).
    `f_one_way` and `f_two_way` are the ratios of mean squares behind ICC(1,1) and behind the other two.
    """

    subjects: np.ndarray
    repeats: int
    icc_1: Interval
    icc_a: Interval
    icc_c: Interval
    ccc: Interval
    within_sd: np.ndarray
    repeatability: np.ndarray
    f_one_way: np.ndarray
    f_two_way: np.ndarray

    @property
    def p_one_way(self) -> np.ndarray:
        """p of the F test that ICC(1,1) is 0."""
        return special.fdtrc(self.subjects - 1, self.subjects * (self.repeats - 1), self.f_one_way)

    @property
    def p_two_way(self) -> np.ndarray:
        """p of the F test that ICC(A,1), or ICC(C,1), is 0."""
        return special.fdtrc(self.subjects - 1, (self.subjects - 1) * (self.repeats - 1), self.f_two_way)


def averaged(single: Interval, k: int) -> Interval:
    """ICC(1,k), ICC(A,k) or ICC(C,k) of the mean of k repeats from that of one (Spearman and Brown), bounds too."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Interval(*(k * r / (1 + (k - 1) * r) for r in (single.value, single.lower, single.upper)))


def concordance(x: np.ndarray, *, level: float = 0.95) -> Concordance:
    """ICC(1,1), ICC(A,1), ICC(C,1) and CCC of x (subjects, repeats, features), repeats at least 2.

    ICC: McGraw and Wong, Psychol Methods 1 (1996) 30, tables 4 and 7: F-based intervals. CCC: Lin, Biometrics 45 (1989)
    255 with the variance of the 2000 erratum for two repeats; Barnhart et al., Biometrics 58 (2002) 1020 for more,
    with a jackknife over subjects; both on Fisher's z. Features that are constant, or with fewer than three complete
    subjects, give NaN.
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"expected (subjects, repeats, features) with two repeats or more, got {x.shape}")
    k = x.shape[1]
    known = np.isfinite(x).all(axis=1)
    n = known.sum(axis=0).astype(float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        n = np.where(n >= 3, n, np.nan)
        z, scale = _standardised(x, known, n)
        mean_square = _mean_squares(z, known, n)
        between, columns, within, error = mean_square
        # a constant feature has rounding alone to compare
        varies = np.isfinite(between) & (scale > 0)
        icc_1 = _ratio(between - within, between + (k - 1) * within)
        icc_c = _ratio(between - error, between + (k - 1) * error)
        icc_a = _ratio(between - error, between + (k - 1) * error + k / n * (columns - error))
        tail = 0.5 + level / 2
        one = _by_f(between / within, n - 1, n * (k - 1), k, tail)
        consistency = _by_f(between / error, n - 1, (n - 1) * (k - 1), k, tail)
        absolute = _absolute(icc_a, mean_square, n, k, tail)
        ccc = _ccc(z, known, n, level)
        spread = np.sqrt(within) * scale
    found = [
        Interval(*(np.where(varies, v, np.nan) for v in parts))
        for parts in ((icc_1, *one), (icc_a, *absolute), (icc_c, *consistency), ccc)
    ]
    ratios = [np.where(varies, between / error_, np.nan) for error_ in (within, error)]
    return Concordance(known.sum(axis=0), k, *found, spread, 1.959963984540054 * np.sqrt(2) * spread, *ratios)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > 0, a / b, np.nan)


def _standardised(x: np.ndarray, known: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values minus their mean over their SD, 0 where a subject does not count; and the SD, 0 of a constant."""
    filled = np.where(known[:, None, :], x, 0.0)
    mean = filled.sum(axis=(0, 1)) / (n * x.shape[1])
    centred = np.where(known[:, None, :], filled - mean, 0.0)
    scale = np.sqrt((centred**2).sum(axis=(0, 1)) / (n * x.shape[1]))
    scale = np.where(scale > 1e-12 * np.abs(filled).max(axis=(0, 1), initial=0), scale, 0.0)
    return centred / np.where(scale > 0, scale, np.nan), scale


def _mean_squares(z: np.ndarray, known: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean squares between subjects, between repeats, within subjects, and of the residual."""
    k = z.shape[1]
    rows, grand = z.mean(axis=1), z.sum(axis=(0, 1)) / (n * k)
    columns = z.sum(axis=0) / n
    between = k * (np.where(known, rows - grand, 0.0) ** 2).sum(axis=0) / (n - 1)
    repeats = n * ((columns - grand) ** 2).sum(axis=0) / (k - 1)
    within = (np.where(known[:, None], z - rows[:, None], 0.0) ** 2).sum(axis=(0, 1)) / (n * (k - 1))
    rest = np.where(known[:, None], z - rows[:, None] - columns + grand, 0.0)
    error = (rest**2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    return between, repeats, within, error


def _by_f(f: np.ndarray, first: np.ndarray, second: np.ndarray, k: int, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of ICC(1,1) and ICC(C,1) from the ratio of mean squares (McGraw and Wong, table 7)."""
    low, high = f / special.fdtri(first, second, tail), f * special.fdtri(second, first, tail)
    bounds = [(bound - 1) / (bound + k - 1) for bound in (low, high)]
    return tuple(np.where(np.isposinf(f), 1.0, b) for b in bounds)


def _absolute(
    r: np.ndarray, mean_square: tuple[np.ndarray, ...], n: np.ndarray, k: int, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of ICC(A,1), with Satterthwaite's degrees of freedom (McGraw and Wong, table 7)."""
    between, columns, _, error = mean_square
    a, b = k * r / (n * (1 - r)), 1 + k * r * (n - 1) / (n * (1 - r))
    v = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    low, high = special.fdtri(n - 1, v, tail), special.fdtri(v, n - 1, tail)
    rest = k * columns + (k * n - k - n) * error
    lower = n * (between - low * error) / (low * rest + n * between)
    upper = n * (high * between - error) / (rest + n * high * between)
    exact = r >= 1
    return np.where(exact, 1.0, lower), np.where(exact, 1.0, upper)


def _ccc(z: np.ndarray, known: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = z.shape[1]
    sums, squares, rows = z.sum(axis=0), (z**2).sum(axis=0), z.sum(axis=1)
    value = _overall(sums, squares, (rows**2).sum(axis=0), n, k)
    if k == 2:
        mean, variance = sums / n, squares / n - (sums / n) ** 2
        covariance = (z[:, 0] * z[:, 1]).sum(axis=0) / n - mean[0] * mean[1]
        r = covariance / np.sqrt(variance[0] * variance[1])
        u2 = (mean[0] - mean[1]) ** 2 / np.sqrt(variance[0] * variance[1])
        rest = 1 - value**2
        squared = (1 - r**2) * value**2 / (rest * r**2) + 2 * value**3 * (1 - value) * u2 / (r * rest**2)
        squared = (squared - value**4 * u2**2 / (2 * r**2 * rest**2)) / (n - 2)
    else:  # leave one subject out
        without = _overall(sums - z, squares - z**2, (rows**2).sum(axis=0) - rows**2, n - 1, k)
        pseudo = np.where(known, n * np.arctanh(value) - (n - 1) * np.arctanh(without), 0.0)
        centre = pseudo.sum(axis=0) / n
        squared = np.where(known, (pseudo - centre) ** 2, 0.0).sum(axis=0) / (n * (n - 1))
    half = special.ndtri(0.5 + level / 2) * np.sqrt(squared)
    lower, upper = np.tanh(np.arctanh(value) - half), np.tanh(np.arctanh(value) + half)
    exact = value >= 1
    return value, np.where(exact, 1.0, lower), np.where(exact, 1.0, upper)


def _overall(sums: np.ndarray, squares: np.ndarray, totals: np.ndarray, n: np.ndarray, k: int) -> np.ndarray:
    """Overall CCC from sums over subjects: by repeat (..., k, p), and of the squared sums over repeats (..., p)."""
    axis = -2
    mean = sums / _expand(n, sums)
    variances = (squares / _expand(n, squares) - mean**2).sum(axis=axis)
    # all covariances together: those of the sums over repeats less the variances
    covariances = (totals / n - mean.sum(axis=axis) ** 2 - variances) / 2
    shifts = k * (mean**2).sum(axis=axis) - mean.sum(axis=axis) ** 2
    return np.minimum(_ratio(2 * covariances, (k - 1) * variances + shifts), 1.0)


def _expand(n: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(n, like.shape)
