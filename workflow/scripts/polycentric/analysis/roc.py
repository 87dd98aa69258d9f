"""ROC analysis of a binary outcome: AUC, DeLong, bootstrap, thresholds, calibration.

Arrays: `outcome` (n,) bool or 0/1, `score` (n,) where higher means positive. Where a class is empty, results are NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.stats import rankdata

from ..estimates import Estimate, bca_interval, estimate, finite, normal_quantile, p_of_z


def auc(outcome: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half (Mann-Whitney)."""
    outcome = np.asarray(outcome, dtype=bool)
    positives, negatives = int(outcome.sum()), int((~outcome).sum())
    if not positives or not negatives or not np.isfinite(score).all():
        return math.nan
    return float((rankdata(score)[outcome].sum() - positives * (positives + 1) / 2) / (positives * negatives))


class Placements(NamedTuple):
    """DeLong's placements: of each positive among the negatives and the reverse; their mean is the AUC."""

    positives: np.ndarray
    negatives: np.ndarray


def placements(outcome: np.ndarray, score: np.ndarray) -> Placements:
    """Structural components V10 and V01 by midranks (Sun and Xu 2014, IEEE Signal Process Lett 21:1389)."""
    outcome = np.asarray(outcome, dtype=bool)
    positives, negatives = score[outcome], score[~outcome]
    ranks = rankdata(score)
    v10 = (ranks[outcome] - rankdata(positives)) / len(negatives)
    v01 = 1 - (ranks[~outcome] - rankdata(negatives)) / len(positives)
    return Placements(v10, v01)


def delong(outcome: np.ndarray, score: np.ndarray, *, level: float = 0.95) -> Estimate:
    """AUC with DeLong's interval (DeLong et al. 1988, Biometrics 44:837), clipped to [0, 1] as in pROC."""
    value, method = auc(outcome, score), "DeLong"
    outcome = np.asarray(outcome, dtype=bool)
    if not math.isfinite(value) or min(outcome.sum(), (~outcome).sum()) < 2 or np.ptp(score) == 0:
        return estimate(value, method=method, n=len(outcome), level=level)
    parts = placements(outcome, score)
    half = normal_quantile(level) * math.sqrt(sum(v.var(ddof=1) / len(v) for v in parts))
    return estimate(value, max(0.0, value - half), min(1.0, value + half), method=method, n=len(outcome), level=level)


class PairedTest(NamedTuple):
    difference: float
    lower: float
    upper: float
    z: float
    p: float


def delong_paired(outcome: np.ndarray, first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> PairedTest:
    """Difference of two AUCs (first minus second) on the same patients with DeLong's interval, z and p.

    Identical scores give z = 0 and p = 1.
    """
    outcome = np.asarray(outcome, dtype=bool)
    difference = auc(outcome, first) - auc(outcome, second)
    if not math.isfinite(difference) or min(outcome.sum(), (~outcome).sum()) < 2:
        return PairedTest(difference, math.nan, math.nan, math.nan, math.nan)
    pairs = zip(placements(outcome, first), placements(outcome, second), strict=True)
    se = math.sqrt(sum((a - b).var(ddof=1) / len(a) for a, b in pairs))
    half = normal_quantile(level) * se
    z = difference / se if se > 0 else (0.0 if difference == 0 else math.nan)
    return PairedTest(difference, difference - half, difference + half, z, p_of_z(z))


def weights(outcome: np.ndarray, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How often each patient is drawn: positives (samples, positives), negatives (samples, negatives).

    Patients are drawn with replacement within each class, as pROC does.
    """
    outcome = np.asarray(outcome, dtype=bool)
    counts = (int(outcome.sum()), int((~outcome).sum()))
    drawn = [rng.multinomial(n, np.full(n, 1 / n), size=samples) if n else np.zeros((samples, 0)) for n in counts]
    return drawn[0].astype(float), drawn[1].astype(float)


def bootstrap_auc(outcome: np.ndarray, score: np.ndarray, drawn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """AUC in every bootstrap sample, (samples,); one matrix product for all of them."""
    outcome = np.asarray(outcome, dtype=bool)
    positives, negatives = score[outcome], score[~outcome]
    if not len(positives) or not len(negatives) or not np.isfinite(score).all():
        return np.full(len(drawn[0]), np.nan)
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return ((drawn[0] @ wins) * drawn[1]).sum(axis=1) / (len(positives) * len(negatives))


def jackknife_auc(outcome: np.ndarray, score: np.ndarray) -> np.ndarray:
    """AUC without each patient in turn, (n,); NaN where the class has no other patient."""
    outcome = np.asarray(outcome, dtype=bool)
    parts, whole, result = placements(outcome, score), auc(outcome, score), np.full(len(outcome), np.nan)
    for values, here in ((parts.positives, outcome), (parts.negatives, ~outcome)):
        if len(values) > 1:
            result[here] = (len(values) * whole - values) / (len(values) - 1)
    return result


def bootstrap(
    outcome: np.ndarray, score: np.ndarray, drawn: tuple[np.ndarray, np.ndarray], *, level: float, seed: int
) -> Estimate:
    """AUC with a BCa interval of the stratified bootstrap over patients."""
    value, samples = auc(outcome, score), bootstrap_auc(outcome, score, drawn)
    knife = jackknife_auc(outcome, score) if math.isfinite(value) else np.zeros(0)
    found = bca_interval(value, samples, knife, level, np.asarray(outcome, dtype=bool))
    lower, upper = found.lower, found.upper
    if len(score) and np.ptp(score) == 0:  # the same score for everybody: 0.5 by definition, not by measurement
        lower = upper = math.nan
    method = f"{found.how} bootstrap over patients within each class, {found.used} samples"
    return estimate(value, lower, upper, method=method, n=len(outcome), level=level, seed=seed)


def bootstrap_difference(
    outcome: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    drawn: tuple[np.ndarray, np.ndarray],
    *,
    level: float,
    seed: int,
) -> Estimate:
    """Difference of two AUCs on the same patients, stratified paired bootstrap: BCa interval, and pROC's z and p.

    z is the difference over the standard deviation of its samples, as roc.test(method = "bootstrap") in pROC.
    """
    n, value = len(outcome), auc(outcome, first) - auc(outcome, second)
    if not math.isfinite(value):
        return estimate(value, method="paired bootstrap", n=n, level=level, seed=seed, z=None, p=None)
    samples = bootstrap_auc(outcome, first, drawn) - bootstrap_auc(outcome, second, drawn)
    knife = jackknife_auc(outcome, first) - jackknife_auc(outcome, second)
    found = bca_interval(value, samples, knife, level, np.asarray(outcome, dtype=bool))
    spread = float(samples.std(ddof=1)) if len(samples) > 1 else math.nan
    z = value / spread if spread > 0 else (0.0 if value == 0 else math.nan)
    method = f"{found.how} paired bootstrap over patients within each class, {found.used} samples"
    return estimate(
        value, found.lower, found.upper, method=method, n=n, level=level, seed=seed, z=finite(z), p=finite(p_of_z(z))
    )


def curve(outcome: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve as (false positive rate, true positive rate), from (0, 0) to (1, 1), one point per distinct score."""
    outcome = np.asarray(outcome, dtype=bool)
    thresholds = np.unique(score)[::-1]
    true = (score[outcome][None, :] >= thresholds[:, None]).mean(axis=1)
    false = (score[~outcome][None, :] >= thresholds[:, None]).mean(axis=1)
    return np.r_[0.0, false], np.r_[0.0, true]


def curve_band(
    outcome: np.ndarray, score: np.ndarray, drawn: tuple[np.ndarray, np.ndarray], grid: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise bootstrap band of the sensitivity at the false positive rates `grid`: (lower, upper)."""
    outcome = np.asarray(outcome, dtype=bool)
    thresholds = np.unique(score)[::-1]
    reached = score[None, :] >= thresholds[:, None]
    true = drawn[0] @ reached[:, outcome].T / outcome.sum()
    false = drawn[1] @ reached[:, ~outcome].T / (~outcome).sum()
    samples = np.stack([np.interp(grid, np.r_[0, f], np.r_[0, t]) for f, t in zip(false, true, strict=True)])
    lower, upper = np.quantile(samples, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return lower, upper


def youden(outcome: np.ndarray, score: np.ndarray) -> float:
    """Threshold of the largest sensitivity + specificity (Youden 1950); positive means score >= threshold.

    As in pROC it lies midway between neighbouring scores; of equal ones the lowest is taken.
    """
    outcome = np.asarray(outcome, dtype=bool)
    values = np.unique(score)
    if len(values) < 2 or not outcome.any() or outcome.all():
        return math.nan
    thresholds = (values[:-1] + values[1:]) / 2
    positive = score[None, :] >= thresholds[:, None]
    total = positive[:, outcome].mean(axis=1) + (~positive[:, ~outcome]).mean(axis=1)
    return float(thresholds[np.argmax(np.round(total, 12))])


class Logistic(NamedTuple):
    coefficients: np.ndarray
    errors: np.ndarray
    converged: bool


def fit_logistic(design: np.ndarray, outcome: np.ndarray, offset: np.ndarray | float = 0.0) -> Logistic:
    """Maximum-likelihood logistic regression by Newton's method; design (n, p) with its own constant column.

    Not converged (NaN) when the outcome is separated or has one class.
    """
    y, beta = np.asarray(outcome, dtype=float), np.zeros(design.shape[1])
    nothing = Logistic(np.full(len(beta), np.nan), np.full(len(beta), np.nan), False)
    if len(np.unique(y)) < 2:
        return nothing
    for _ in range(60):
        p = special.expit(design @ beta + offset)
        information = (design * (p * (1 - p))[:, None]).T @ design
        try:
            step = np.linalg.solve(information, design.T @ (y - p))
        except np.linalg.LinAlgError:
            return nothing
        beta = beta + np.clip(step, -5, 5)
        if np.abs(beta).max() > 1e3 or not np.isfinite(beta).all():
            return nothing
        if np.abs(step).max() < 1e-10:
            return Logistic(beta, np.sqrt(np.diag(np.linalg.inv(information))), True)
    return nothing


def calibration(outcome: np.ndarray, probability: np.ndarray, *, level: float = 0.95) -> dict[str, Estimate]:
    """Calibration slope and calibration in the large on the logit scale (Cox 1958; Steyerberg 2019, chapter 15).

    The slope is the coefficient of logit(p) (1 is perfect), in the large is the constant with logit(p) as offset
    (0 is perfect); intervals are Wald's. Probabilities are kept within [0.001, 0.999].
    """
    logit = special.logit(np.clip(probability, 1e-3, 1 - 1e-3))
    n, z, one = len(logit), normal_quantile(level), np.ones((len(logit), 1))
    result = {}
    usable = n > 2 and np.isfinite(logit).all()
    for key, design, offset, index in (
        ("calibration_slope", np.c_[one, logit], 0.0, 1),
        ("calibration_in_the_large", one, logit, 0),
    ):
        if not usable or (index and np.ptp(logit) < 1e-9):
            value = error = math.nan
        else:
            fit = fit_logistic(design, outcome, offset)
            value, error = fit.coefficients[index], fit.errors[index]
        method = "Wald, logistic regression on logit(p) clipped to 0.001 to 0.999"
        result[key] = estimate(value, value - z * error, value + z * error, method=method, n=n, level=level)
    return result
