"""Agreement and tests of counts in simulated cohorts: coverage of intervals, level of tests.

The seed was fixed beforehand; `simulated.far` says when a check fails. Slow: 2,000 cohorts of 50, 150 and 500 patients
(or items).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import simulated
from polycentric import bootstrap, contingency, estimates, kappa
from polycentric.analysis import associate, group_tests
from polycentric.bland_altman import bland_altman
from polycentric.concordance import concordance
from scipy import special

SEED, SAMPLES = 20240609, 400
SHARES, SEEN = np.array([0.4, 0.3, 0.2, 0.1]), 0.8  # raters see the truth with this chance, or guess by the shares
RHO, DISTANCE, SICK = 0.5, 0.8, 0.4
READERS = (6, 20)
# share of 2,000 cohorts, measured with SEED
POOR = {
    ("Cohen's kappa, quadratic", 50): 0.902,
    ("ICC(A,1), four raters drawn", 500): 0.8725,
    ("survey of 6 readers, percentile over readers and items", 500): 0.889,
}

Note = Callable[[str, bool], None]


def simulate(n: int, cohorts: int) -> dict[str, float]:
    """Shares of cohorts by method."""
    rng = np.random.default_rng([SEED, n])
    found: dict[str, list[bool]] = {}

    def note(name: str, value: bool) -> None:
        found.setdefault(name, []).append(bool(value))

    for _ in range(cohorts):
        _kappas(n, rng, note)
        _paired(n, rng, note)
        _correlations(n, rng, note)
        _groups(n, rng, note)
        _readers(n, rng, note)
    _measurements(n, cohorts, rng, found)
    return {name: float(np.mean(v)) for name, v in found.items()}


def _kappas(n: int, rng: np.random.Generator, note: Note) -> None:
    """Every kappa, weighted or not, is the square of the chance to see the truth."""
    true, truth = SEEN**2, rng.choice(4, n, p=SHARES)
    said = np.where(rng.random((n, 3)) < SEEN, truth[:, None], rng.choice(4, (n, 3), p=SHARES))
    counts = kappa.counts(said, range(4))
    _, lower, upper, _ = bootstrap.by_cluster(
        lambda w: kappa.fleiss_values(counts, w), np.arange(n), rng, resamples=SAMPLES
    )
    note("Fleiss' kappa, BCa", lower <= true <= upper)
    table = np.zeros((4, 4))
    np.add.at(table, (said[:, 0], said[:, 1]), 1)
    for weights in ("unweighted", "linear", "quadratic"):
        own = kappa.cohen(table, weights=weights)  # type: ignore[arg-type]
        note(f"Cohen's kappa, {weights}", own.lower <= true <= own.upper)
    # two items of a patient that are alike: half as many patients as items
    half = n // 2
    twice = np.repeat(rng.choice(4, half, p=SHARES), 2)
    both = np.where(rng.random((2 * half, 2)) < SEEN, twice[:, None], rng.choice(4, (2 * half, 2), p=SHARES))
    eye = kappa.agreement_weights(4, "unweighted")
    _, lower, upper, _ = bootstrap.by_cluster(
        lambda w: kappa.cohen_values(both[:, 0], both[:, 1], eye, w), np.repeat(np.arange(half), 2), rng,
        resamples=SAMPLES,
    )  # fmt: skip
    note("Cohen's kappa, BCa over patients of two items", lower <= true <= upper)
    guessed = rng.choice(4, (n, 3), p=SHARES)
    note("level: Fleiss' kappa", kappa.fleiss(kappa.counts(guessed, range(4)))[2] < 0.05)
    table = np.zeros((4, 4))
    np.add.at(table, (guessed[:, 0], guessed[:, 1]), 1)
    note("level: Cohen's kappa", kappa.cohen(table).p < 0.05)


def _paired(n: int, rng: np.random.Generator, note: Note) -> None:
    cell = rng.choice(4, n, p=[0.5, 0.2, 0.1, 0.2])  # both, only the first, only the second, none
    gap = contingency.paired_difference(cell < 2, np.isin(cell, (0, 2)))
    note("difference of paired shares, Newcombe", gap["lower"] <= 0.1 <= gap["upper"])
    cell = rng.choice(4, n, p=[0.4, 0.15, 0.15, 0.3])
    test = contingency.mcnemar(cell < 2, np.isin(cell, (0, 2)))
    note("level: McNemar, mid-p", test.p_mid < 0.05)
    note("level: McNemar, exact", test.p_exact < 0.05)


def _correlations(n: int, rng: np.random.Generator, note: Note) -> None:
    x = rng.normal(size=n)
    y = RHO * x + math.sqrt(1 - RHO**2) * rng.normal(size=n)
    sick = (rng.random(n) < SICK).astype(float)
    marker = rng.normal(size=n) + DISTANCE * sick
    sign = (rng.random(n) < np.where(sick > 0, 0.6, 0.3)).astype(float)
    share = SICK * 0.6 + (1 - SICK) * 0.3
    spread = SICK * (1 - SICK)
    for name, a, b, true, rank in (
        ("Spearman", x, y, 6 / math.pi * math.asin(RHO / 2), "spearman"),
        ("Kendall", x, y, 2 / math.pi * math.asin(RHO), "kendall"),
        ("point-biserial", sick, marker, DISTANCE * math.sqrt(spread / (1 + DISTANCE**2 * spread)), "spearman"),
        ("phi", sick, sign, 0.3 * math.sqrt(spread / (share * (1 - share))), "spearman"),
    ):
        row = associate.between(pd.DataFrame({"a": a}), pd.DataFrame({"b": b}), rank=rank).iloc[0]
        note(f"correlation, {name}", row["lower"] <= true <= row["upper"])
        other = pd.DataFrame({"b": b[rng.permutation(n)]})
        note(f"level: {name}", associate.between(pd.DataFrame({"a": a}), other, rank=rank).iloc[0]["p"] < 0.05)


def _groups(n: int, rng: np.random.Generator, note: Note) -> None:
    """Tests of table 1 between groups of 2 to 1, and 2 to 1 to 1, that do not differ."""
    two, three = [n * 2 // 3, n - n * 2 // 3], [n // 2, n // 4, n - n // 2 - n // 4]
    for name, sizes in (("t", two), ("mann-whitney", two), ("anova", three), ("kruskal-wallis", three)):
        samples = [rng.normal(size=k) for k in sizes]
        spread = "f" if name == "t" else "levene"
        found = group_tests.numbers(samples, test=name, normality="decides", spread=spread)
        note(f"level: {name}", found.location.p < 0.05)
        note(f"level: {spread}, beside {name}", found.spread.p < 0.05)
    wide = [rng.normal(size=two[0]), 3 * rng.normal(size=two[1])]
    note(
        "level: t, unequal spreads",
        group_tests.numbers(wide, test="t", normality="decides", spread="auto").location.p < 0.05,
    )
    counted = np.array([rng.multinomial(k, [0.7, 0.3]) for k in two]).T
    for name in ("chi-squared", "two-proportion-z", "fisher"):
        p = group_tests.counts(counted, rng, test=name).p
        note(f"level: {name}", p < 0.05)
    hits = int((rng.random(n) < 0.5).sum())
    note("level: binomial against chance", contingency.against_share(hits, n, 0.5) < 0.05)


def _readers(n: int, rng: np.random.Generator, note: Note) -> None:
    """Readers of unequal skill on items of unequal difficulty; the truth is the mean over both."""
    true = _logistic_normal(1.0, math.hypot(0.6, 0.8))
    for readers in READERS:
        chance = special.expit(1.0 + 0.6 * rng.normal(size=(readers, 1)) + 0.8 * rng.normal(size=(1, n)))
        right = (rng.random((readers, n)) < chance).astype(float)
        lower, upper, _ = bootstrap.crossed_interval(right, np.zeros(n, dtype=int), rng, resamples=SAMPLES)
        note(f"survey of {readers} readers, percentile over readers and items", lower <= true <= upper)


def _logistic_normal(mean: float, sd: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(weights @ special.expit(mean + sd * nodes) / weights.sum())


def _measurements(n: int, cohorts: int, rng: np.random.Generator, found: dict[str, list[bool]]) -> None:
    """Two readings: bias 0.3 and differences of SD 1; three raters with effects of their own for ICC(A,1)."""
    for _ in range(cohorts):
        own = bland_altman(rng.normal(0.3, 1, n), np.zeros(n))
        limit = 0.3 + estimates.normal_quantile(0.95)
        for name, interval, true in (("bias", own.bias, 0.3), ("limit of agreement", own.upper, limit)):
            found.setdefault(f"Bland-Altman, {name}", []).append(interval["lower"] <= true <= interval["upper"])
        same = rng.normal(size=(n, 2)) * 0.3 + rng.normal(10, 2, (n, 1))
        slope = bland_altman(same[:, 0], same[:, 1])
        found.setdefault("level: Bland-Altman, slope", []).append(slope.p_slope < 0.05)
        found.setdefault("level: Bland-Altman, widening", []).append(slope.p_widening < 0.05)
    raters = rng.normal(size=(1, 4, cohorts)) * 0.5
    x = rng.normal(size=(n, 1, cohorts)) * 2 + raters + rng.normal(size=(n, 4, cohorts))
    icc = concordance(x).icc_a
    found["ICC(A,1), four raters drawn"] = list((icc.lower <= 4 / 5.25) & (icc.upper >= 4 / 5.25))


def _check(n: int, cohorts: int) -> None:
    assert not simulated.far(simulate(n, cohorts), n, cohorts, POOR)


def test_intervals_cover_and_tests_keep_their_level() -> None:
    _check(50, 100)


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 150, 500])
def test_intervals_cover_in_2000_cohorts(n: int) -> None:
    _check(n, simulated.FULL)
