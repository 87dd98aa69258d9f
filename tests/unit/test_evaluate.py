"""Calibration, decision curves, BCa, subgroups, sample size: against truth that is known otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from polycentric import bootstrap, estimates, figures
from polycentric.analysis import (
    calibration,
    decision,
    evaluation_plots,
    plots,
    roc,
    samplesize,
    subgroups,
)
from polycentric.config.survival import SurvivalAnalysis
from pydantic import ValidationError
from scipy import special, stats

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "evaluate.json").read_text())
D = {key: np.array(values) for key, values in R["cohort"].items()}


def cohort(n: int, seed: int = 0, slope: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    eta = -0.5 + slope * rng.normal(size=n)
    return rng.random(n) < special.expit(eta), special.expit(eta)


# --- calibration -----------------------------------------------------------------------------------------------------


def test_indices_find_the_distance_of_a_known_distortion() -> None:
    y, p = cohort(4000)
    drawn = bootstrap.counts(y, 60, np.random.default_rng(1))
    found, curve = calibration.assess(y, p, drawn, level=0.95, seed=1)
    assert found["ici"]["value"] < 0.02
    inside = (curve.lower <= curve.predicted) & (curve.predicted <= curve.upper)
    assert inside.mean() > 0.8
    extreme = special.expit(2 * special.logit(p))
    truth = np.abs(extreme - p)
    found, curve = calibration.assess(y, extreme, drawn, level=0.95, seed=1)
    assert found["ici"]["value"] == pytest.approx(truth.mean(), abs=0.015)
    assert found["e50"]["value"] == pytest.approx(np.median(truth), abs=0.02)
    assert found["e90"]["value"] == pytest.approx(np.quantile(truth, 0.9), abs=0.02)
    assert found["calibration_slope"]["value"] == pytest.approx(0.5, abs=0.05)
    wanted = special.expit(special.logit(np.clip(curve.predicted, 0.001, 0.999)) / 2)
    assert np.abs(curve.observed - wanted)[10:-10].max() < 0.06
    assert (curve.lower[10:-10] <= wanted[10:-10]).mean() > 0.8
    assert "percentile bootstrap" in found["ici"]["method"]


def test_loess_reproduces_a_parabola_and_bends_with_ties() -> None:
    x = np.r_[np.linspace(0, 1, 40), np.full(20, 0.3)]
    at = np.array([0.05, 0.3, 0.9])
    assert calibration.loess(x, 2 - 3 * x + x**2, at) == pytest.approx(2 - 3 * at + at**2)
    tied = np.r_[np.full(50, 0.2), np.linspace(0.5, 0.9, 10)]
    values = np.r_[np.arange(50) % 2, np.ones(10)].astype(float)
    assert calibration.loess(tied, values, np.array([0.2]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("y", "p", "why"),
    [
        (np.zeros(40), np.linspace(0.1, 0.9, 40), "one class"),
        (np.arange(40) % 2, np.full(40, 0.5), "1 distinct"),
        (np.arange(8) % 2, np.linspace(0.1, 0.9, 8), "8 patients"),
        (np.arange(40) % 2, np.r_[np.nan, np.linspace(0.1, 0.9, 39)], "no probability"),
    ],
)
def test_calibration_says_why_there_is_none(y: np.ndarray, p: np.ndarray, why: str) -> None:
    found, curve = calibration.assess(y, p, np.ones((5, len(y))), level=0.95, seed=0)
    assert found["ici"]["value"] is None
    assert why in found["ici"]["method"]
    assert not len(curve.predicted)


def test_every_class_is_judged_against_the_others() -> None:
    rng = np.random.default_rng(3)
    score = rng.normal(size=(1500, 3))
    p = special.softmax(score, axis=1)
    y = (rng.random((1500, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    drawn = bootstrap.counts(y, 20, rng)

    def judged(p: np.ndarray) -> dict[str, Any]:
        return {n: calibration.assess(y == k, p[:, k], drawn, level=0.95, seed=0) for k, n in enumerate("abc")}

    good = judged(p)
    shifted = p * [0.5, 1, 1] / (p * [0.5, 1, 1]).sum(axis=1, keepdims=True)
    bad = judged(shifted)
    for label in "abc":
        assert abs(good[label][0]["calibration_in_the_large"]["value"]) < 0.2
    assert bad["a"][0]["calibration_in_the_large"]["lower"] > 0.4  # too low by log 2 and more
    assert bad["a"][0]["ici"]["value"] > 3 * good["a"][0]["ici"]["value"]


# --- decision curves -------------------------------------------------------------------------------------------------


def test_net_benefit_by_hand_and_its_limits() -> None:
    y, p = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.6, 0.2, 0.1])
    found = decision.net_benefit(y, p, np.array([0.2, 0.5]))
    assert found.model[0] == pytest.approx([2 / 5 - 2 / 5 * 0.25, 1 / 5 - 1 / 5])
    assert found.everyone[0] == pytest.approx([2 / 5 - 3 / 5 * 0.25, 2 / 5 - 3 / 5])
    # a sample by counts is the sample by rows
    counts = np.array([[2, 0, 1, 2, 0]])
    rows = np.repeat(np.arange(5), counts[0])
    assert decision.net_benefit(y, p, np.array([0.3]), counts).model == pytest.approx(
        decision.net_benefit(y[rows], p[rows], np.array([0.3])).model
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        decision.net_benefit(y, p, np.array([0.0, 0.5]))


def test_thresholds_of_a_decision_curve_include_both_ends() -> None:
    assert decision.grid(0.01, 0.99).tolist() == [k / 100 for k in range(1, 100)]
    assert decision.grid(0.075, 0.4)[[0, 1, -2, -1]] == pytest.approx([0.075, 0.085, 0.395, 0.4])
    assert decision.grid(0.001, 0.02).tolist() == [k / 1000 for k in range(1, 21)]
    # in words they stay apart
    assert decision.in_words([(0.1, 0.25), (0.4, 0.4)]) == "0.10 to 0.25, 0.40"
    assert decision.in_words([(0.051, 0.054), (0.075, 0.075)]) == "0.051 to 0.054, 0.075"
    for low, high in ((0.05, 0.4), (0.1, 0.3), (0.333, 0.666), (0.02, 0.03)):
        found = decision.grid(low, high)
        assert (found[0], found[-1]) == (low, high)
        assert len(found) >= 11
        assert (np.diff(found) > 0.0004).all()
    with pytest.raises(ValidationError, match="write the lower one first"):
        SurvivalAnalysis(split="s", outcome="o", models={"m": {"features": "f"}}, decision_thresholds=(0.4, 0.05))


def test_a_true_model_is_useful_where_it_should_be_and_noise_is_not() -> None:
    y, p = cohort(1500, slope=2.0)
    thresholds = np.linspace(0.05, 0.95, 19)
    rows = decision.curves(y, p, thresholds, np.random.default_rng(1), samples=300)
    model = rows[rows["strategy"] == "model"].set_index("threshold")
    assert (model["lower"] <= model["net_benefit"]).all()
    assert (model["net_benefit"] <= model["upper"]).all()
    assert model["standardised"].iloc[0] == pytest.approx(model["net_benefit"].iloc[0] / y.mean())
    (low, high), *rest = decision.useful(rows)
    assert not rest
    assert low < 0.3
    assert high > 0.6
    noise = np.random.default_rng(2).permutation(p)
    rows = decision.curves(y, noise, thresholds, np.random.default_rng(1), samples=300)
    assert decision.useful(rows) == []
    none = rows[rows["strategy"] == "none"]
    assert (none[["net_benefit", "lower", "upper"]] == 0).all(axis=None)


def test_figures_show_what_their_numbers_say(tmp_path: Path) -> None:
    y, p = cohort(300)
    drawn = bootstrap.counts(y, 30, np.random.default_rng(1))
    _, curve = calibration.assess(y, p, drawn, level=0.95, seed=1)
    figure, rows = evaluation_plots.calibration({"test": (curve, p, y.astype(int))})
    line = figure.axes[0].lines[1]
    assert line.get_xdata() == pytest.approx(rows["predicted"])
    assert line.get_ydata() == pytest.approx(rows["observed"])
    net = decision.curves(y, p, np.linspace(0.1, 0.9, 9), np.random.default_rng(1), samples=30)
    drawn_figure, rows = evaluation_plots.decision({"test": {"ridge": net}, "external": {"ridge": net, "lasso": net}})
    assert len(rows) == 3 * len(net)
    labels = [t.get_text() for t in drawn_figure.legends[0].get_texts()]  # one legend for both panels
    assert sorted(labels) == ["lasso", "ridge", "treat all", "treat none"]
    for k, one in enumerate((figure, drawn_figure)):
        figures.save(one, tmp_path / f"{k}.svg")
        assert (tmp_path / f"{k}.svg").stat().st_size > 5000


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_bca_equals_scipy_and_says_when_it_is_not_bca() -> None:
    m = D["m"]
    value, low, high, used = bootstrap.by_cluster(
        lambda w: (w @ m) / w.sum(axis=1), np.arange(len(m)), np.random.default_rng(0), resamples=8000
    )
    other = stats.bootstrap((m,), np.mean, n_resamples=8000, method="BCa", rng=1).confidence_interval
    assert (low, high) == pytest.approx((other.low, other.high), abs=0.012)
    assert (value, used) == (pytest.approx(m.mean()), 8000)
    assert "all samples are equal" in estimates.bca_interval(1.0, np.ones(50), np.ones(9), 0.95).how
    alone = bootstrap.by_cluster(lambda w: w.sum(axis=1), np.zeros(9), np.random.default_rng(0), resamples=50)
    assert (np.isnan(alone[1]), alone[3]) == (True, 0)
    side = estimates.bca_interval(9.0, np.arange(5.0), np.arange(5.0), 0.95)
    assert "one side" in side.how
    assert side[:2] == estimates.percentiles(np.arange(5.0), 0.95)[:2]
    partly = estimates.bca_interval(2.2, np.arange(5.0), np.r_[np.nan, 1.0, 2.0, 2.5], 0.95)
    assert "without 1 patients" in partly.how


def test_patients_bring_all_their_rows() -> None:
    """Rows of a patient are alike: the interval of a mean must be as wide as for one row per patient."""
    rng = np.random.default_rng(7)
    value = rng.normal(size=60)
    wide, clusters = np.repeat(value, 5), np.repeat([f"p{k:02d}" for k in range(60)], 5)

    def width(x: np.ndarray, names: np.ndarray) -> float:
        _, low, high, _ = bootstrap.by_cluster(
            lambda w: (w @ x) / w.sum(axis=1), names, np.random.default_rng(1), resamples=1500
        )
        return high - low

    assert width(wide, clusters) == pytest.approx(width(value, np.arange(60)), rel=0.01)
    assert width(wide, np.arange(300)) < 0.6 * width(value, np.arange(60))


def test_auc_by_bca_and_its_jackknife() -> None:
    y, a, b = D["y"], D["a"], D["b"]
    knife = roc.jackknife_auc(y, a)
    for k in (0, 3, 50, 179):
        rest = np.arange(len(y)) != k
        assert knife[k] == pytest.approx(roc.auc(y[rest], a[rest]))
    drawn = roc.weights(y, 4000, np.random.default_rng(1))
    fast = roc.bootstrap(y, a, drawn, level=0.95, seed=1)
    rng, groups = np.random.default_rng(2), [np.flatnonzero(y == k) for k in (0, 1)]
    samples = []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(g, len(g)) for g in groups])
        samples.append(roc.auc(y[rows], a[rows]))
    slow = estimates.bca_interval(roc.auc(y, a), np.array(samples), knife, 0.95, y)
    assert [slow.lower, slow.upper] == pytest.approx([fast[k] for k in ("lower", "upper")], abs=0.01)
    same = roc.bootstrap_difference(y, a, a, drawn, level=0.95, seed=1)
    assert (same["value"], same["z"], same["p"]) == (0.0, 0.0, 1.0)
    other = roc.bootstrap_difference(y, a, b, drawn, level=0.95, seed=1)
    assert other["p"] == pytest.approx(R["roc"]["bootstrap"][1], abs=0.002)


@pytest.mark.realdata
def test_asah_by_us_equals_proc(realdata) -> None:
    frame = pd.read_csv(realdata("statistics") / "pROC_aSAH.csv")
    y = (frame["outcome"] == "Poor").to_numpy()
    for names, wanted in R["asah"].items():
        one, two = (frame[n].to_numpy(float) for n in names.split("_"))
        test = roc.delong_paired(y, one, two)
        assert [test.z, test.p] == pytest.approx([wanted["z"], wanted["p"]], rel=1e-8)
        assert [test.lower, test.upper] == pytest.approx(wanted["interval"], rel=1e-8)
        for score, key in ((one, "first"), (two, "second")):
            found = roc.delong(y, score)
            assert [found[k] for k in ("lower", "value", "upper")] == pytest.approx(wanted[key], rel=1e-8)
        drawn = roc.weights(y, 20000, np.random.default_rng(1))
        sampled = roc.bootstrap_difference(y, one, two, drawn, level=0.95, seed=1)
        assert sampled["z"] == pytest.approx(wanted["bootstrap"][0], abs=0.05)
        assert sampled["p"] == pytest.approx(wanted["bootstrap"][1], abs=0.01)


# --- subgroups -------------------------------------------------------------------------------------------------------


def test_groups_that_differ_are_found_and_small_ones_are_named() -> None:
    rng = np.random.default_rng(5)
    n = 1200
    centre, sex = np.repeat(["a", "b", "c"], 400), rng.choice(["f", "m"], n)
    x = rng.normal(size=n)
    effect = np.where(centre == "c", 0.0, 1.5)  # the model does not work in one centre
    y = rng.random(n) < special.expit(effect * x)
    masks = {f"centre: {c}": centre == c for c in "abc"} | {f"sex: {s}": sex == s for s in "fm"}
    masks |= {"scanner: rare": np.arange(n) < 6, "scanner: sick": y & (np.arange(n) < 60)}
    rows, differences = subgroups.performance(masks, subgroups.by_auc(y, x), y)
    rows = rows.set_index(["column", "group"])
    assert rows.loc[("centre", "c"), "upper"] < rows.loc[("centre", "a"), "lower"]
    assert rows.loc[("scanner", "rare"), "why_not"] == "6 patients, fewer than 10"
    assert "0 without the event" in rows.loc[("scanner", "sick"), "why_not"]
    assert rows["value"].notna().sum() == 5
    tests = differences.set_index("column")
    assert tests.loc["centre", "p_holm"] < 0.001
    assert tests.loc["sex", "p"] > 0.01
    assert tests.loc["centre", "i_squared"] > 0.8
    assert tests.loc["scanner", "groups"] == 0
    assert np.isnan(tests.loc["scanner", "p"])
    # two groups: the square of the z of their difference
    pair = subgroups.heterogeneity(np.array([0.3, 0.9]), np.array([0.2, 0.15]))
    assert pair.q == pytest.approx(0.6**2 / (0.2**2 + 0.15**2))
    overall = roc.delong(y, x)
    figure = plots.forest(subgroups.forest_rows(overall, rows.reset_index()), "AUC", 0.5)
    assert next(t.get_text() for t in figure.axes[0].get_yticklabels()) == "all (n = 1200)"


def test_any_measure_can_be_compared() -> None:
    y, p = cohort(600)
    measure = subgroups.by_interval(lambda here: roc.calibration(y[here], p[here])["calibration_slope"])
    masks = {"half: first": np.arange(600) < 300, "half: second": np.arange(600) >= 300}
    rows, differences = subgroups.performance(masks, measure, y)
    fits = [roc.fit_logistic(np.c_[np.ones(300), special.logit(p[m])], y[m]) for m in masks.values()]
    z = (fits[0].coefficients[1] - fits[1].coefficients[1]) / np.hypot(fits[0].errors[1], fits[1].errors[1])
    assert differences["q"][0] == pytest.approx(z**2, rel=1e-6)
    assert rows["n"].tolist() == [300, 300]


# --- sample size -----------------------------------------------------------------------------------------------------


def test_continuous_criteria_hold_at_the_number_and_not_below() -> None:
    # pmsampsize 1.1.3 is no help here: its search for the fourth criterion takes the lower end of the interval
    found = samplesize.riley_continuous(4, r2=0.5, mean=1.0, sd=2.0)
    for n, holds in ((found.mean, True), (found.mean - 1, False)):
        half = stats.t.ppf(0.975, n - 5) * np.sqrt(4 * 0.5 / n)
        assert (half <= 0.1) == holds
    for n, holds in ((found.shrinkage, True), (found.shrinkage - 1, False)):
        apparent = (0.5 * (n - 5) + 4) / (n - 1)
        assert (1 + 2 / (n * np.log(1 - apparent)) >= 0.9) == holds
    assert samplesize.riley_continuous(4, r2=0.5, mean=0.0, sd=2.0).mean == 0


def test_r2_of_an_auc_is_that_of_a_simulated_cohort() -> None:
    rng = np.random.default_rng(1)
    y = rng.random(200_000) < 0.25
    x = rng.normal(size=len(y)) + y * np.sqrt(2) * stats.norm.ppf(0.8)
    fit = roc.fit_logistic(np.c_[np.ones(len(y)), x], y)
    eta = np.c_[np.ones(len(y)), x] @ fit.coefficients
    loglik, null = (y * eta - np.logaddexp(0, eta)).mean(), stats.bernoulli(0.25).entropy() * -1
    assert samplesize.r2_of_auc(0.8, 0.25) == pytest.approx(1 - np.exp(2 * (null - loglik)), abs=0.004)
    assert samplesize.r2_of_auc(0.5, 0.25) == pytest.approx(0, abs=1e-12)
    assert samplesize.r2_of_auc(0.999, 0.25) < samplesize.largest_r2_binary(0.25)


def test_a_sample_that_is_too_small_is_said_in_plain_words() -> None:
    found = samplesize.riley_binary(30, patients=90, prevalence=0.3, r2=0.15)
    said = samplesize.warnings("lasso on ct", events=27, patients=90, candidates=30, needed=found.needed,
                               carries=found.carries)  # fmt: skip
    assert "27 patients with the rarer outcome for 30 candidate variables, 0.9 each" in said[0]
    assert f"{found.needed} would be needed" in said[1]
    assert found.carries < 3
    assert samplesize.warnings("x", events=500, patients=5000, candidates=10, needed=900, carries=60) == []
