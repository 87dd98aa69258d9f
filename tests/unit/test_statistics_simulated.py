"""Coverage of intervals and level of tests in simulated cohorts; slow: 2,000 cohorts of 50, 150 and 500 patients each.

The seed was fixed beforehand. A method fails when it lies further from its nominal value than three Monte-Carlo
standard errors beyond 2 percentage points. What is known to be poor at small n stands in POOR and BIAS with its value,
and must have that value: docs/statistics.md shows them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulated
from polycentric import concordance, estimates
from polycentric.analysis import calibration, decision, multiclass, roc, subgroups
from polycentric.analysis.thresholds import at_threshold
from polycentric.bootstrap import counts
from scipy import special

SEED, LEVEL, SAMPLES = 20240607, 0.95, 400
CONSTANT, SLOPE, THRESHOLD = -0.6, 1.2, 0.3
STRONG = 2.326  # distance of two normal scores whose AUC is 0.95
# share of 2,000 cohorts, measured with SEED
POOR = {
    ("AUC of 0.95, DeLong", 50): 0.8215,
    ("AUC of 0.95, DeLong", 150): 0.9025,
    ("AUC of 0.95, bootstrap percentile", 50): 0.861,
    ("ICI, bootstrap percentile", 50): 0.655,
    ("ICI, bootstrap percentile", 150): 0.878,
}
# relative bias of the slope of an unpenalised logistic model with one variable
BIAS = {50: 0.091}


def _truth() -> tuple[float, float]:
    """AUC of x and net benefit at the threshold of the true model, by quadrature."""
    x = np.linspace(-9, 9, 20001)
    density = np.exp(-(x**2) / 2)
    density /= density.sum()
    p = special.expit(CONSTANT + SLOPE * x)
    sick, well = density * p, density * (1 - p)
    below = np.cumsum(well) - well / 2
    auc = float((sick * below).sum() / (sick.sum() * well.sum()))
    treated = p >= THRESHOLD
    return auc, float(sick[treated].sum() - well[treated].sum() * THRESHOLD / (1 - THRESHOLD))


def _inside(estimate: dict, truth: float) -> bool:
    return estimate["lower"] is not None and estimate["lower"] <= truth <= estimate["upper"]


def simulate(n: int, cohorts: int) -> tuple[dict[str, float], float]:
    """Shares of cohorts by method, and the relative bias of the unpenalised slope."""
    rng, other = np.random.default_rng([SEED, n]), np.random.default_rng([SEED, n, 2])
    auc, benefit = _truth()
    found: dict[str, list[bool]] = {}
    slopes = []

    def note(key: str, value: bool) -> None:
        found.setdefault(key, []).append(bool(value))

    for _ in range(cohorts):
        x = rng.normal(size=n)
        p = special.expit(CONSTANT + SLOPE * x)
        y = rng.random(n) < p
        if min(y.sum(), (~y).sum()) < 3:
            continue
        drawn = roc.weights(y, SAMPLES, rng)
        note("AUC, DeLong", _inside(roc.delong(y, x), auc))
        note("AUC, bootstrap BCa", _inside(roc.bootstrap(y, x, drawn, level=LEVEL, seed=0), auc))
        lower, upper, _ = estimates.percentiles(roc.bootstrap_auc(y, x, drawn), LEVEL)
        note("AUC, bootstrap percentile", lower <= auc <= upper)
        for key, truth in (("calibration_slope", 1.0), ("calibration_in_the_large", 0.0)):
            note(key.replace("_", " "), _inside(roc.calibration(y, p)[key], truth))
        # a strong score, three in ten sick
        sick = other.random(n) < 0.3
        if min(sick.sum(), (~sick).sum()) >= 3:
            strong = other.normal(size=n) + STRONG * sick
            drawn_ = roc.weights(sick, SAMPLES, other)
            high = float(special.ndtr(STRONG / math.sqrt(2)))
            note("AUC of 0.95, DeLong", _inside(roc.delong(sick, strong), high))
            note("AUC of 0.95, bootstrap BCa", _inside(roc.bootstrap(sick, strong, drawn_, level=LEVEL, seed=0), high))
            lower, upper, _ = estimates.percentiles(roc.bootstrap_auc(sick, strong, drawn_), LEVEL)
            note("AUC of 0.95, bootstrap percentile", lower <= high <= upper)
        slopes.append(roc.fit_logistic(np.c_[np.ones(n), x], y).coefficients[1])
        # two scores that know equally much
        first, second = x + rng.normal(size=n), x + rng.normal(size=n)
        note("level: two AUCs, DeLong paired", roc.delong_paired(y, first, second).p < 0.05)
        difference = roc.bootstrap_difference(y, first, second, drawn, level=LEVEL, seed=0)
        note("level: two AUCs, paired bootstrap", (difference["p"] or 1.0) < 0.05)
        note("difference of AUCs, bootstrap BCa", _inside(difference, 0.0))
        positive = int((rng.random(n) < 0.15).sum())
        note("proportion, Wilson", _inside(estimates.wilson(positive, n), 0.15))
        rows = decision.curves(y, p, np.array([THRESHOLD]), rng, samples=SAMPLES)
        note("net benefit, bootstrap", rows["lower"][0] <= benefit <= rows["upper"][0])
        # three centres that do not differ
        measure, centre = subgroups.by_auc(y, x), np.arange(n) % 3
        groups = [measure(centre == k) for k in range(3)]
        p_q = subgroups.heterogeneity(np.array([g.value for g in groups]), np.array([g.error for g in groups])).p
        if math.isfinite(p_q):
            note("level: three centres, Cochran's Q", p_q < 0.05)
    # all cohorts at once: agreement of two readings
    subject = rng.normal(size=(n, 1, cohorts)) * 2
    x = subject + rng.normal(size=(n, 2, cohorts))
    shifted = x + np.array([0.0, 0.5])[:, None]
    agreement = concordance.concordance(x), concordance.concordance(shifted)
    for key, interval, truth in (
        ("ICC(1,1)", agreement[0].icc_1, 0.8),
        ("ICC(C,1), readings apart", agreement[1].icc_c, 0.8),
        ("CCC, readings apart", agreement[1].ccc, 2 * 4 / (5 + 5 + 0.25)),
    ):
        found[key] = list((interval.lower <= truth) & (truth <= interval.upper))
    return {key: float(np.mean(v)) for key, v in found.items()}, float(np.nanmean(slopes) / SLOPE - 1)


def simulate_ici(n: int, cohorts: int) -> float:
    """Share of cohorts whose interval of the ICI of an overfitted model (slope 1 / 1.6) holds the truth."""
    rng, overfit = np.random.default_rng([SEED, n, 1]), 1.6
    x = np.linspace(-9, 9, 20001)
    density = np.exp(-(x**2) / 2)
    eta = CONSTANT + SLOPE * x
    truth = float((density * np.abs(special.expit(eta) - special.expit(overfit * eta))).sum() / density.sum())
    inside = []
    for _ in range(cohorts):
        eta = CONSTANT + SLOPE * rng.normal(size=n)
        y = rng.random(n) < special.expit(eta)
        drawn = counts(np.zeros(n), 150, rng)
        found, _curve = calibration.assess(y, special.expit(overfit * eta), drawn, level=LEVEL, seed=0)
        inside.append(_inside(found["ici"], truth))
    return float(np.mean(inside))


def _three_classes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Classes (n,) and their true probabilities (n, 3), from a normal measurement pair of each class."""
    shares, means = np.array([0.5, 0.3, 0.2]), np.array([[0.0, 0.0], [1.3, 0.0], [0.5, 1.4]])
    y = rng.choice(3, n, p=shares)
    x = means[y] + rng.normal(size=(n, 2))
    return y, special.softmax(np.log(shares) - ((x[:, None] - means) ** 2).sum(axis=2) / 2, axis=1)


HAND_TILL, MACRO = ("AUC of three classes, Hand and Till, percentile", "AUC of three classes, macro, percentile")


def _aucs(y: np.ndarray, p: np.ndarray, drawn: multiclass.Drawn) -> dict[str, dict]:
    samples = multiclass.macro_values(y, p, drawn)
    return {
        HAND_TILL: multiclass.auc(y, p, drawn, level=LEVEL, seed=0),
        MACRO: multiclass.interval(multiclass.macro(y, p), samples, len(y), level=LEVEL, seed=0),
    }


def _calls(y: np.ndarray, p: np.ndarray) -> dict[str, dict]:
    """Estimates of the likeliest of three classes, and of the calls of the first against the rest."""
    hit = p.argmax(axis=1) == y
    of_class = [estimates.wilson(int(hit[y == k].sum()), int((y == k).sum())) for k in range(3)]
    called = at_threshold((y == 0).astype(int), p[:, 0], 0.5, level=LEVEL)
    return {
        "balanced accuracy of three classes": estimates.mean_of_shares(of_class),
        "balanced accuracy": called["balanced_accuracy"],
        "F1": called["f1"],
    }


def simulate_calls(n: int, cohorts: int) -> dict[str, float]:
    """Shares of cohorts whose intervals hold what a million patients show."""
    rng = np.random.default_rng([SEED, n, 3])
    y, p = _three_classes(1_000_000, np.random.default_rng([SEED, 4]))
    truth = {HAND_TILL: multiclass.discrimination(y, p), MACRO: multiclass.macro(y, p)}
    truth |= {name: own["value"] for name, own in _calls(y, p).items()}
    found: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(cohorts):
        y, p = _three_classes(n, rng)
        if np.bincount(y, minlength=3).min() < 3:
            continue
        drawn = multiclass.weights(y, 3, SAMPLES, rng)
        for name, own in (_aucs(y, p, drawn) | _calls(y, p)).items():
            found[name].append(_inside(own, truth[name]))
    return {name: float(np.mean(v)) for name, v in found.items()}


def _check(n: int, cohorts: int) -> None:
    shares, bias = simulate(n, cohorts)
    shares |= simulate_calls(n, cohorts)
    sizes = dict.fromkeys(shares, cohorts)
    if cohorts >= 2000:
        sizes["ICI, bootstrap percentile"] = 500  # a loess for every sample
        shares["ICI, bootstrap percentile"] = simulate_ici(n, 500)
    assert not simulated.far(shares, n, sizes, POOR)
    # SE of the mean relative bias: the spread of a slope of 1.2 is about 2.9 / sqrt(n)
    error = 3 * 2.9 / math.sqrt(n) / SLOPE / math.sqrt(cohorts)
    assert abs(bias - BIAS.get(n, 0.0)) <= (0.05 if n not in BIAS else 0.0) + error, f"bias {bias:.3f} at {n}"


def test_intervals_cover_and_tests_keep_their_level() -> None:
    _check(50, 200)


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 150, 500])
def test_intervals_cover_in_2000_cohorts(n: int) -> None:
    _check(n, 2000)
