"""What a survival analysis says of its models: groups of patients, cross-validation, bands of curves, BCa intervals."""

from __future__ import annotations

import math
from pathlib import Path

import cohorts
import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index
from polycentric import tables
from polycentric.analysis import calibrate, chains, discrimination, subgroups, survival, survive, survive_evaluate
from polycentric.analysis.artefacts import read_skops
from polycentric.analysis.schemas import SURVIVAL
from polycentric.config.survival import SurvivalAnalysis
from polycentric.estimates import bca_interval
from polycentric.randomness import generator
from scipy import stats


def settings(**more: object) -> SurvivalAnalysis:
    base = {"split": "main", "outcome": "death", "bootstraps": 60, "permutations": 0, "times_days": (250, 500),
            "resampling": {"folds": 3, "repeats": 1},
            "models": {"signal": {"features": "mixed", "method": "cox"}}}  # fmt: skip
    return SurvivalAnalysis.model_validate(base | more)


def run(cohort: cohorts.Cohort, chosen: SurvivalAnalysis) -> dict:
    return survive.analyse(
        "os", chosen, seed=1, features=cohort.features, patients=cohort.patients, split=cohort.split,
        outcome=cohorts.OUTCOMES["death"], ledgers=[], scans=cohort.scans, root=cohort.root,
        folder=cohort.root / "analyses/os", settings_json="{}", code="c",
    )  # fmt: skip


def test_a_group_in_which_the_model_fails_is_named(tmp_path: Path) -> None:
    """The follow-up of men has nothing to do with f0. Numbers again by lifelines and by hand."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(3)
        frame = frame.assign(sex=rng.choice(["female", "male"], len(frame)))
        men = np.flatnonzero(frame["sex"] == "male")
        follow_up = ["time_days", "event"]
        frame.loc[men, follow_up] = frame.loc[rng.permutation(men), follow_up].to_numpy()
        return frame

    cohort = cohorts.write(tmp_path, sizes={"north": 300, "south": 160}, external="south", signal=1.5, features=2,
                           change=change)  # fmt: skip
    metrics = run(cohort, settings(subgroups={"sex": [], "age_years": [60], "stage": []}))
    said = [w for w in metrics["warnings"] if "Harrell's C differs between groups of sex" in w]
    assert any("female 0." in w and "male 0." in w for w in said)
    assert not any("groups of age_years" in w for w in metrics["warnings"])
    found = metrics["results"]["signal"]["subgroups"]["external"]
    frame = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    frame = frame[frame["part"].eq("external")].set_index("patient").join(cohort.frame.set_index("patient")["sex"])
    logits, errors = [], []
    for sex in ("female", "male"):
        own = frame[frame["sex"].eq(sex)]
        time, event, index = (own[k].to_numpy(float) for k in ("time", "event", "index"))
        c = concordance_index(time, -index, event)
        assert found["c_index"]["groups"][f"sex: {sex}"]["value"] == pytest.approx(c)
        logits.append(math.log(c / (1 - c)))
        errors.append(survival.concordance_error(time, event > 0, index) / (c * (1 - c)))
        ratio = found["observed_to_expected"]["groups"][f"sex: {sex}"]
        assert ratio["lower"] < ratio["value"] < ratio["upper"]
    z = (logits[0] - logits[1]) / math.hypot(*errors)
    (test,) = (t for t in found["c_index"]["differences"] if t["column"] == "sex")
    assert test["p"] == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert test["p_holm"] == pytest.approx(3 * test["p"])  # the smallest of three; there is one centre
    table = pd.read_csv(tmp_path / "analyses/os/tables/subgroup-differences.csv")
    assert set(table["column"]) == {"centre", "sex", "age_years", "stage"}


def test_observed_over_expected_risk_of_a_group_is_that_of_lifelines(tmp_path: Path) -> None:
    """One group of everybody: its ratio is that of the part, whose value stands in the results by another way."""
    cohort = cohorts.write(
        tmp_path, sizes={"north": 100, "south": 60}, external="south",
        change=lambda frame: frame.assign(stage=np.where(np.arange(len(frame)) % 20 == 0, "IV", "I")),
    )  # fmt: skip
    metrics = run(cohort, settings(subgroups={"stage": []}))
    found = metrics["results"]["signal"]["subgroups"]["external"]
    whole = metrics["results"]["signal"]["parts"]["external"]["at 250 days"]["observed_to_expected"]
    assert found["observed_to_expected"]["groups"]["centre: south"]["value"] == pytest.approx(whole["value"])
    few = found["c_index"]["groups"]["stage: IV"]
    assert few["value"] is None
    assert few["method"] == "not estimated: 3 patients, fewer than 10"
    assert found["c_index"]["groups"]["stage: I"]["value"] is not None


def levels(count: int, n: int) -> np.ndarray:
    """How often groups that do not differ are said to, by C and by observed over expected risk, at 5 %."""
    rng, rejected = np.random.default_rng(12), np.zeros(2)
    for _ in range(count):
        logs, errors = np.zeros((2, 2)), np.zeros((2, 2))
        for group in range(2):
            x = rng.normal(size=n)
            death, lost = rng.exponential(1 / np.exp(0.8 * x)), rng.uniform(0, 4, n)
            time, event = np.minimum(death, lost), death <= lost
            c = survival.concordance(time, event, x)
            logs[0, group] = math.log(c / (1 - c))
            errors[0, group] = survival.concordance_error(time, event, x) / (c * (1 - c))
            expected = float(np.mean(1 - np.exp(-0.7 * np.exp(0.8 * x))))
            logs[1, group], errors[1, group] = survive_evaluate.survive_groups.log_ratio(time, event, expected, 0.7)
        for k in range(2):
            rejected[k] += subgroups.heterogeneity(logs[k], errors[k]).p < 0.05
    return rejected / count


def test_groups_that_do_not_differ_are_seldom_said_to() -> None:
    """Three standard errors of the simulation and two points beyond 5 % are allowed."""
    assert (levels(300, 60) <= 0.05 + 0.02 + 3 * math.sqrt(0.05 * 0.95 / 300)).all()


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 150, 500])
def test_groups_that_do_not_differ_are_seldom_said_to_in_2000_cohorts(n: int) -> None:
    assert (levels(2000, n) <= 0.05 + 0.02 + 3 * math.sqrt(0.05 * 0.95 / 2000)).all()


def test_cross_validated_c_has_an_interval_from_drawn_patients() -> None:
    rng = np.random.default_rng(6)
    n = 60
    x = pd.DataFrame(rng.normal(size=(n, 3))).add_prefix("f")
    death, lost = rng.exponential(1 / np.exp(x["f0"])), rng.uniform(0, 3, n)
    y = np.c_[np.minimum(death, lost), death <= lost]
    drawn = np.vstack([np.ones(n), 1 - np.eye(n), rng.multinomial(n, np.full(n, 1 / n), size=200)])
    found = chains.cross_validate({"signal": x}, y, settings(), lambda *names: generator(1, *names), 0, drawn)
    assert found.samples["signal"][0] == pytest.approx(found.c["signal"])
    # without a patient: from weights of patients, and from sums of pairs
    assert found.samples["signal"][1 : n + 1] == pytest.approx(found.knives["signal"])
    interval = found.estimate("signal", level=0.95, seed=1)
    assert interval["lower"] < interval["value"] < interval["upper"]
    assert interval["method"].endswith("261 samples")


def test_every_estimate_of_the_analysis_has_an_interval(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 140, "south": 60}, external="south", signal=1.0)
    metrics = run(cohort, settings())
    bare = []

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            if {"value", "method", "n"} <= set(node):
                bare.extend([path] if node["value"] is not None and node["lower"] is None else [])
                return
            for key, value in node.items():
                walk(value, f"{path}/{key}")

    walk(metrics["results"], "")
    assert bare == []
    parts = metrics["results"]["signal"]["parts"]["external"]
    for value in (
        parts["uno_c"],
        parts["at 250 days"]["auc"],
        parts["at 250 days"]["brier"],
        parts["integrated_brier"],
    ):
        assert "BCa bootstrap over patients, 60 samples" in value["method"]
        assert value["lower"] < value["value"] < value["upper"]
    curve = pd.read_csv(tmp_path / "analyses/os/figures/calibration.csv")
    assert {(p, t) for p, t in zip(curve["part"], curve["time"], strict=True)} >= {("external", 250), ("external", 500)}
    smooth = curve[curve["kind"].eq("curve") & curve["part"].eq("external")]
    assert (smooth["lower"] <= smooth["upper"]).all()
    assert smooth["lower"].lt(smooth["observed"]).mean() > 0.9
    decision = pd.read_csv(tmp_path / "analyses/os/figures/decision.csv")
    assert set(decision["strategy"]) == {"signal", "treat all"}
    assert (decision["lower"] <= decision["upper"]).all()


def test_a_model_called_all_has_a_decision_curve_of_its_own(tmp_path: Path) -> None:
    """Net benefit again from the predicted risk of the kept model, by lifelines."""
    cohort = cohorts.write(tmp_path, sizes={"north": 90, "south": 60}, external="south", features=2)
    models = {"clinical": {"clinical": ["age_years"], "method": "cox"}, "all": {"features": "mixed", "method": "cox"}}
    run(cohort, settings(models=models, times_days=(250,)))
    curve = pd.read_csv(tmp_path / "analyses/os/figures/decision.csv")
    curve = curve[curve["part"].eq("external")]
    assert set(curve["strategy"]) == {"clinical", "all", "treat all"}
    frame = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    rows = frame[frame["model"].eq("all")].set_index("patient")
    chain = read_skops(tmp_path / "analyses/os/models/all.skops")
    features = tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient").loc[rows.index]
    z = chain.named_steps["front"].transform(features)
    risk = 1 - chain.named_steps["model"].survival(z, np.array([250.0]))[:, 0]
    part, treated = rows["part"].eq("external").to_numpy(), risk >= 0.3
    here = rows[part & treated]
    observed = 1 - KaplanMeierFitter().fit(here["time"].astype(float), here["event"].astype(float)).predict(250)
    by_hand = (part & treated).sum() / part.sum() * (observed - (1 - observed) * 0.3 / 0.7)
    line = curve[curve["strategy"].eq("all")].set_index("threshold")["net_benefit"]
    assert line[0.3] == pytest.approx(by_hand)


def test_net_benefit_of_samples_is_that_of_the_drawn_patients() -> None:
    rng = np.random.default_rng(2)
    n, at = 80, np.array([0.2, 0.5, 0.7])
    x = rng.normal(size=n)
    death, lost = rng.exponential(1 / np.exp(x)), rng.uniform(0, 3, n)
    time, event, risk = np.minimum(death, lost), death <= lost, 1 - np.exp(-0.6 * np.exp(x))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=5).astype(float)
    model, everyone = discrimination.net_benefit(time, event, risk, 0.6, at, counts)
    for k in range(5):
        rows = np.repeat(np.arange(n), counts[k].astype(int))
        own = discrimination.net_benefit(time[rows], event[rows], risk[rows], 0.6, at)
        assert model[k] == pytest.approx(own[0])
        assert everyone[k] == pytest.approx(own[1])
        # by hand: the share that is treated times (observed risk less that of the others at the odds)
        chosen = risk[rows] >= 0.5
        observed = 1 - KaplanMeierFitter().fit(time[rows][chosen], event[rows][chosen]).predict(0.6)
        assert model[k, 1] == pytest.approx(chosen.mean() * (observed - (1 - observed)))
    found = discrimination.decision(time, event, risk, 0.6, at, counts, level=0.9)
    assert found.model[0] == pytest.approx(discrimination.net_benefit(time, event, risk, 0.6, at)[0])
    assert found.gain[1:] == pytest.approx(np.quantile(model - np.maximum(everyone, 0), [0.05, 0.95], axis=0))


def test_the_band_of_a_calibration_curve_holds_the_truth() -> None:
    """A true model: observed is predicted, and the 95 % band misses it about as often as it should."""
    rng, missed = np.random.default_rng(9), []
    for _ in range(20):
        x = rng.normal(size=150)
        death, lost = rng.exponential(1 / np.exp(x)), rng.uniform(0, 3, 150)
        time, event, risk = np.minimum(death, lost), death <= lost, 1 - np.exp(-0.6 * np.exp(x))
        counts = rng.multinomial(150, np.full(150, 1 / 150), size=60).astype(float)
        curve, indices = calibrate.curve(time, event, risk, 0.6, counts, level=0.95, points=9)
        missed.append(np.mean((curve.predicted < curve.lower) | (curve.predicted > curve.upper)))
        assert indices.min() >= 0
    assert np.mean(missed) < 0.2


def test_leaving_out_blocks_gives_the_acceleration_of_leaving_out_patients() -> None:
    rng = np.random.default_rng(5)
    values = rng.exponential(size=1500)
    counts = survive_evaluate.without(1500)
    assert counts.shape == (survive_evaluate.KNIVES, 1500)
    assert (counts == 0).sum(axis=0).tolist() == [1] * 1500
    samples = rng.multinomial(1500, np.full(1500, 1 / 1500), size=4000) @ values / 1500
    blocks = bca_interval(values.mean(), samples, counts @ values / counts.sum(axis=1), 0.95)
    each = bca_interval(values.mean(), samples, (values.sum() - values) / 1499, 0.95)
    width = each.upper - each.lower
    assert blocks[:2] == pytest.approx(each[:2], abs=0.02 * width)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_ties_are_those_of_the_setting(tmp_path: Path, ties: str) -> None:
    """Times in steps of 90 days, so that most are tied: hazard ratios of a model and of a stack by statsmodels."""
    from statsmodels.duration.hazard_regression import PHReg

    cohort = cohorts.write(
        tmp_path, sizes={"north": 150}, external=None, signal=1.5, features=2,
        change=lambda frame: frame.assign(time_days=90 * np.ceil(frame["time_days"] / 90)),
    )  # fmt: skip
    models = {
        "one": {"clinical": ["age_years"], "method": "cox"},
        "two": {"features": "mixed", "method": "cox", "selection": []},
        "both": {"stack": ["one", "two"], "indices": "fitted"},
    }
    run(cohort, settings(ties=ties, models=models, bootstraps=5))
    frame = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    frame = frame[frame["part"].eq("training")]
    wide = frame.pivot_table(index="patient", columns="model", values="index")
    own = frame[frame["model"].eq("one")].set_index("patient").loc[wide.index]
    table = pd.read_csv(tmp_path / "analyses/os/tables/variables.csv").set_index(["model", "variable"])
    found = table["coefficient_per_unit"]
    features = tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient")[["f0", "f1"]]
    for name, x, columns in (("two", features, ["f0", "f1"]), ("both", wide, ["one", "two"])):
        fit = PHReg(own["time"].to_numpy(), x.loc[wide.index, columns].to_numpy(), own["event"].to_numpy(), ties=ties)
        assert found[name].loc[columns].to_numpy() == pytest.approx(fit.fit().params, rel=1e-5)
    other = PHReg(own["time"].to_numpy(), features.loc[wide.index].to_numpy(), own["event"].to_numpy(),
                  ties="efron" if ties == "breslow" else "breslow").fit().params  # fmt: skip
    assert abs(found["two"].loc["f0"] - other[0]) > 0.01
