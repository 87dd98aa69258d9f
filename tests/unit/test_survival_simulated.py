"""Survival in simulated cohorts: coverage of intervals, level of tests, bias of effects.

The seed was fixed beforehand; `simulated.far` says when a check fails. Slow: 2,000 cohorts of 50, 150 and 500 patients.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import simulated
from polycentric import bootstrap, estimates
from polycentric.analysis import calibrate, competing, cox, discrimination, survival

SEED, SAMPLES = 20240608, 400
EFFECT, TIME, LAST = 0.7, 0.7, 4.0
OVERFIT = 1.6
GRID = np.linspace(0, TIME, 8)[1:]
POOR: dict[tuple[str, int], float] = {}
BIAS: dict[int, float] = {}


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A standard normal variable, follow-up and event: hazard exp(0.7 x), one in seven censored, the last at 4."""
    x = rng.normal(size=n)
    time, lost = rng.exponential(np.exp(-EFFECT * x)), np.minimum(rng.uniform(0.5, 6, n), LAST)
    return x, np.minimum(time, lost), time <= lost


def surviving(x: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    return np.exp(-np.exp(EFFECT * x) * t)


@functools.cache
def truth() -> dict[str, float]:
    """C by four million pairs of patients (error 0.0003), the others by quadrature."""
    rng = np.random.default_rng(SEED)
    one, two = draw(4_000_000, rng), draw(4_000_000, rng)
    first = one[2] & (one[1] < two[1])
    known = np.exp(-EFFECT * one[0]) * rng.exponential(size=len(first)), two[0]
    later = np.exp(-EFFECT * two[0]) * rng.exponential(size=len(first))
    before = (known[0] < later) & (known[0] < LAST)  # what Uno's C sees through the censoring
    x = np.linspace(-9, 9, 20001)
    density = np.exp(-(x**2) / 2)
    density /= density.sum()
    risk = 1 - surviving(x, TIME)
    case, control = density * risk, density * (1 - risk)
    below = np.cumsum(control) - control / 2
    brier, mean = float(density @ (risk * (1 - risk))), float(density @ risk)
    steps = np.array([float(density @ (s * (1 - s))) for s in (surviving(x, t) for t in GRID)])
    wrong = 1 - surviving(x, TIME) ** OVERFIT
    return {
        "Harrell's C": float((one[0] > two[0])[first].mean()),
        "Uno's C": float((one[0] > two[0])[before].mean()),
        "AUC at a time": float((case * below).sum() / (case.sum() * control.sum())),
        "Brier score": brier,
        "scaled Brier score": 1 - brier / (mean * (1 - mean)),
        "integrated Brier score": float(discrimination.integrated(steps[None], GRID)[0]),
        "ICI": float(density @ np.abs(wrong - risk)),
        "observed over expected": 1.0,
    }


def simulate(n: int, cohorts: int) -> tuple[dict[str, float], float]:
    """Shares of cohorts by method, and the relative bias of the log hazard ratio."""
    rng, true = np.random.default_rng([SEED, n]), truth()
    found: dict[str, list[bool]] = {}
    effects = []

    def note(name: str, inside: bool) -> None:
        found.setdefault(name, []).append(bool(inside))

    one, without = discrimination.ones(n), 1 - np.eye(n)
    for _ in range(cohorts):
        x, time, event = draw(n, rng)
        drawn = bootstrap.counts(np.zeros(n), SAMPLES, rng)
        fit = cox.fit(x[:, None], time, event)
        effects.append(fit.coefficients[0])
        note("hazard ratio, Wald", abs(fit.coefficients[0] - EFFECT) <= 1.959964 * fit.errors[0])
        value, knife = survival.concordance(time, event, x), survival.jackknife_concordance(time, event, x)
        samples = survival.bootstrap_concordance(time, event, x, drawn)
        lower, upper, _ = estimates.bca(value, samples, knife, simulated.LEVEL)
        note("Harrell's C, BCa", lower <= true["Harrell's C"] <= upper)
        of_one, of_drawn, of_without = (_scores(x, time, event, c) for c in (one, drawn, without))
        for key, values in of_drawn.items():
            lower, upper, _ = estimates.bca(float(of_one[key][0]), values, of_without[key], simulated.LEVEL)
            note(f"{key}, BCa", lower <= true[key] <= upper)
        # two indices that know equally much
        twins = x + rng.normal(size=n), x + rng.normal(size=n)
        samples = [survival.bootstrap_concordance(time, event, s, drawn) for s in twins]
        knives = [survival.jackknife_concordance(time, event, s) for s in twins]
        values = [survival.concordance(time, event, s) for s in twins]
        gap, difference = samples[0] - samples[1], values[0] - values[1]
        lower, upper, _ = estimates.bca(difference, gap, knives[0] - knives[1], simulated.LEVEL)
        note("difference of C, BCa", lower <= 0 <= upper)
        note("level: difference of C", estimates.p_of_z(difference / gap.std(ddof=1)) < 0.05)
        # the model holds: proportional hazards, right weights
        both = np.c_[x, rng.normal(size=n)]
        own = cox.fit(both, time, event)
        note("level: proportional hazards", cox.proportional_hazards(both, time, event, own.coefficients)[1][-1] < 0.05)
        note("level: misspecification", calibrate.misspecification(both, EFFECT * x, time, event).p < 0.05)
        note("level: single test", cox.score_tests(both[:, 1:], time, event)[1][0] < 0.05)
        _curves(n, rng, note)
    return {name: float(np.mean(v)) for name, v in found.items()}, float(np.nanmean(effects) / EFFECT - 1)


def _scores(x: np.ndarray, time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """What is reported at a time, in every sample (samples,)."""
    g = discrimination.censoring(time, event, counts)
    risk = 1 - surviving(x, TIME)
    brier = discrimination.brier(time, event, risk, TIME, counts, g)
    steps = [discrimination.brier(time, event, 1 - surviving(x, t), t, counts, g) for t in GRID]
    return {
        "Uno's C": discrimination.uno(time, event, x, counts),
        "AUC at a time": discrimination.auc(time, event, x, TIME, counts, g),
        "Brier score": brier,
        "scaled Brier score": 1 - brier / discrimination.null_brier(time, event, TIME, counts, g),
        "integrated Brier score": discrimination.integrated(np.stack(steps, axis=1), GRID),
        "observed over expected": calibrate.observed_to_expected(time, event, risk, TIME, counts),
    }


def _curves(n: int, rng: np.random.Generator, note: Callable[[str, bool], None]) -> None:
    """Curves and tests of groups that do not differ, with and without a competing event."""
    lost, alike, group = rng.uniform(0.5, 4, n), rng.exponential(size=n), np.arange(n) % 2
    seen, event = np.minimum(alike, lost), alike <= lost
    for kind in ("log-log", "log"):
        km = survival.kaplan_meier(seen, event, interval=kind)  # type: ignore[arg-type]
        lower, upper = km.between(np.array([TIME]))
        note(f"Kaplan-Meier, {kind}", lower[0] <= np.exp(-TIME) <= upper[0])
    lower, upper = survival.kaplan_meier(seen, event).median_interval
    note("median survival", lower <= math.log(2) <= (upper if math.isfinite(upper) else math.inf))
    note("level: log-rank", survival.log_rank(seen, event, group)[1] < 0.05)
    other = rng.exponential(2, n)
    cause = np.where(np.minimum(alike, other) > lost, 0, np.where(alike < other, 1, 2))
    time = np.minimum(np.minimum(alike, other), lost)
    found = competing.aalen_johansen(time, cause)
    k = np.searchsorted(found.time, TIME, side="right") - 1
    note("cumulative incidence", found.lower[k] <= (1 - np.exp(-1.5 * TIME)) / 1.5 <= found.upper[k])
    note("level: Gray", competing.gray(time, cause, group)[1] < 0.05)


def simulate_ici(n: int, cohorts: int) -> float:
    """Share of cohorts whose interval of the ICI of an overfitted model holds the truth."""
    rng, inside = np.random.default_rng([SEED, n, 1]), []
    for _ in range(cohorts):
        x, time, event = draw(n, rng)
        risk, values = 1 - surviving(x, TIME) ** OVERFIT, []
        for _sample in range(100):
            rows = rng.integers(0, n, n)
            values.append(calibrate.ici(time[rows], event[rows], risk[rows], TIME))
        value = calibrate.ici(time, event, risk, TIME)
        lower, upper, _ = estimates.bca(value, np.array(values), np.empty(0), simulated.LEVEL)
        inside.append(lower <= truth()["ICI"] <= upper)
    return float(np.mean(inside))


def _check(n: int, cohorts: int) -> None:
    shares, bias = simulate(n, cohorts)
    sizes = dict.fromkeys(shares, cohorts)
    if cohorts >= simulated.FULL:
        sizes["ICI, bias-corrected"] = 200  # a curve for every sample
        shares["ICI, bias-corrected"] = simulate_ici(n, 200)
    far = simulated.far(shares, n, sizes, POOR)
    # the spread of an effect of 0.7 is about 1.3 / sqrt(n)
    error = 3 * 1.3 / math.sqrt(n) / EFFECT / math.sqrt(cohorts)
    if abs(bias - BIAS.get(n, 0.0)) > (0.05 if n not in BIAS else 0.0) + error:
        far.append(f"bias of the log hazard ratio {bias:.3f} with {n} patients")
    assert not far


def test_intervals_cover_and_tests_keep_their_level() -> None:
    _check(50, 60)


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 150, 500])
def test_intervals_cover_in_2000_cohorts(n: int) -> None:
    _check(n, simulated.FULL)
