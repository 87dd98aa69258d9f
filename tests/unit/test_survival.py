"""Survival: Cox, Kaplan-Meier, log-rank and C against R and other libraries; chains against planted effects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.analysis import artefacts, cox, survival, survive
from polycentric.analysis.schemas import SURVIVAL
from polycentric.config.survival import SurvivalAnalysis
from polycentric.errors import UserError
from polycentric.tables.schemas import ARTEFACTS
from pydantic import ValidationError
from scipy import optimize, stats
from unit.test_analysis import golden


def simulated(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hazard exp(0.7 x0 - 0.4 x1), censoring exponential; with ties, times are whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time = rng.exponential(np.exp(-(0.7 * x[:, 0] - 0.4 * x[:, 1])))
    censored = rng.exponential(2, n)
    observed = np.minimum(time, censored)
    return x, np.ceil(5 * observed) if ties else observed, time <= censored


@pytest.mark.realdata
def test_survival_agrees_with_r() -> None:
    d, r = golden()
    x, time, event = d[["age", "x1", "x2", "x3"]].to_numpy(), d["time"].to_numpy(), d["event"].to_numpy() > 0
    fit = cox.fit(x, time, event)
    assert fit.coefficients == pytest.approx(r["cox_efron_coef"], rel=1e-8)
    assert fit.errors == pytest.approx(r["cox_efron_se"], rel=1e-8)
    assert [fit.loglik_null, fit.loglik] == pytest.approx(r["cox_loglik"], rel=1e-9)
    breslow = cox.fit(x, time, event, ties="breslow")
    assert breslow.coefficients == pytest.approx(r["cox_breslow_coef"], rel=1e-8)
    chi, p = cox.proportional_hazards(x, time, event, fit.coefficients)
    assert chi == pytest.approx(r["coxzph_chisq"], rel=1e-8)
    assert p == pytest.approx(r["coxzph_p"], rel=1e-8)
    assert survival.log_rank(time, event, d["risk"].to_numpy()) == pytest.approx(r["logrank_chisq_p"], rel=1e-8)
    assert survival.log_rank(time, event, d["site"].to_numpy()) == pytest.approx(r["logrank3_chisq_p"], rel=1e-8)
    assert survival.concordance(time, event, x @ fit.coefficients) == pytest.approx(r["cox_concordance"][0], rel=1e-9)
    assert survival.concordance(time, event, d["pA"].to_numpy()) == pytest.approx(r["concordance_pA_time"][0], rel=1e-9)
    for k, group in enumerate(("high", "low")):
        rows = (d["risk"] == group).to_numpy()
        km = survival.kaplan_meier(time[rows], event[rows], interval="log")
        at = np.searchsorted(km.time, [12, 24], side="right") - 1
        assert km.at(np.array([12, 24])) == pytest.approx(r["km_12_24"][2 * k : 2 * k + 2], rel=1e-9)
        assert km.lower[at] == pytest.approx(r["km_lower_log"][2 * k : 2 * k + 2], rel=1e-9)
        assert km.median == r["km_median"][k]


def test_cox_agrees_with_statsmodels_with_ties() -> None:
    from statsmodels.duration.hazard_regression import PHReg

    x, time, event = simulated(150, 1, ties=True)
    for ties in ("efron", "breslow"):
        mine, other = cox.fit(x, time, event, ties=ties), PHReg(time, x, event.astype(int), ties=ties).fit()
        assert mine.coefficients == pytest.approx(other.params, rel=1e-6)
        assert mine.errors == pytest.approx(other.bse, rel=1e-6)
        assert mine.loglik == pytest.approx(other.llf, rel=1e-9)


def test_a_planted_hazard_ratio_is_recovered() -> None:
    x, time, event = simulated(2000, 2)
    fit = cox.fit(x, time, event)
    assert (np.abs(fit.coefficients - [0.7, -0.4, 0.0]) < 3 * fit.errors).all()
    z = fit.coefficients[2] / fit.errors[2]
    assert abs(z) < 3
    _, p = cox.proportional_hazards(x, time, event, fit.coefficients)
    assert p[-1] > 0.001
    # a hazard ratio that turns round is found: log HR +1 before, -1 after t = 0.5
    rng = np.random.default_rng(3)
    group = rng.integers(0, 2, 600).astype(float)
    early = rng.exponential(1 / np.exp(group))
    late = 0.5 + rng.exponential(1 / np.exp(-group))
    crossing = np.where(early < 0.5, early, late)
    fit = cox.fit(group[:, None], crossing, np.ones(600, dtype=bool))
    assert cox.proportional_hazards(group[:, None], crossing, np.ones(600, dtype=bool), fit.coefficients)[1][-1] < 1e-6


def test_the_ridge_is_the_maximum_of_its_objective() -> None:
    x, time, event = simulated(80, 4, ties=True)
    penalty = np.array([0.0, 5.0, 20.0])

    def objective(beta: np.ndarray) -> float:
        return -cox.partial_loglik(x @ beta, time, event) + (penalty * beta**2).sum() / 2

    other = optimize.minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-8})
    mine = cox.fit(x, time, event, ridge=penalty)
    assert mine.coefficients == pytest.approx(other.x, abs=1e-5)
    assert mine.converged


def test_a_monotone_likelihood_is_said() -> None:
    time = np.arange(1.0, 21.0)
    fit = cox.fit(-time[:, None], time, np.ones(20, dtype=bool))
    assert not fit.converged
    assert not cox.fit(time[:, None], time, np.zeros(20, dtype=bool)).converged


def test_score_tests_are_those_of_the_log_rank_and_of_single_fits() -> None:
    x, time, event = simulated(120, 5)
    group = (x[:, 0] > 0).astype(float)
    chi, p = cox.score_tests(np.c_[group, x, np.ones(120)], time, event)
    assert (chi[0], p[0]) == pytest.approx(survival.log_rank(time, event, group), rel=1e-9)  # equal without ties
    assert (chi[4], p[4]) == (0, 1)
    from statsmodels.duration.hazard_regression import PHReg

    for k in range(3):
        model = PHReg(time, x[:, [k]], event.astype(int))
        score, information = model.score(np.zeros(1)), -model.hessian(np.zeros((1,)))
        assert chi[k + 1] == pytest.approx(float(score[0] ** 2 / information[0, 0]), rel=1e-8)


def test_kaplan_meier_log_rank_and_c_agree_with_lifelines() -> None:
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import multivariate_logrank_test
    from lifelines.utils import concordance_index

    x, time, event = simulated(90, 6, ties=True)
    other = KaplanMeierFitter().fit(time, event)
    km = survival.kaplan_meier(time, event)
    times = np.arange(0, 12.0)
    assert km.at(times) == pytest.approx(other.predict(times).to_numpy())
    assert km.median == other.median_survival_time_
    group = np.digitize(x[:, 1], [-0.5, 0.5])
    expected = multivariate_logrank_test(time, group, event)
    assert survival.log_rank(time, event, group) == pytest.approx((expected.test_statistic, expected.p_value))
    score = np.round(x[:, 0], 1)
    assert survival.concordance(time, event, score) == pytest.approx(concordance_index(time, -score, event))
    drawn = survival.draw(90, 10, np.random.default_rng(0))
    samples = survival.bootstrap_concordance(time, event, score, drawn)
    for k in range(10):
        rows = np.repeat(np.arange(90), drawn[k].astype(int))
        assert samples[k] == pytest.approx(concordance_index(time[rows], -score[rows], event[rows]))


def settings(**more: Any) -> SurvivalAnalysis:
    models = {"clinical": {"clinical": ("age_years", "stage")},
              "radiomics": {"clinical": ("age_years", "stage"), "features": "mixed"}}  # fmt: skip
    quick = {"bootstraps": 50, "permutations": 0, "resampling": {"folds": 3, "repeats": 1}, "models": models}
    return SurvivalAnalysis(**({"split": "main", "outcome": "death"} | quick | more))


def run(cohort: cohorts.Cohort, chosen: SurvivalAnalysis, ledgers: list[Path] = []) -> dict:  # noqa: B006
    return survive.analyse(
        "os",
        chosen,
        seed=1,
        features=cohort.features,
        patients=cohort.patients,
        split=cohort.split,
        outcome=cohorts.OUTCOMES["death"],
        ledgers=ledgers,
        root=cohort.root,
        folder=cohort.root / "analyses/os",
        settings_json="{}",
        code="c",
    )


def test_radiomics_with_a_planted_effect_adds_to_clinical_noise(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 600, "south": 300}, external="south", features=5)
    metrics = run(cohort, settings(permutations=5, selection={"keep": None}, penalty=0))
    variables = pd.read_csv(tmp_path / "analyses/os/tables/variables.csv").set_index(["model", "variable"])
    row = variables.loc[("radiomics", "f0")]
    error = (np.log(row["upper"]) - np.log(row["lower"])) / (2 * 1.959964) / row["sd"]
    assert row["coefficient_per_unit"] == pytest.approx(1, abs=3 * error)
    assert row["proportional_hazards_p"] > 0.001
    # truth: of two patients, that with the higher risk dies first with probability E[expit(|d|)], d ~ N(0, 2)
    d = np.linspace(0, 12, 4001)
    truth = np.trapezoid(2 * stats.norm.pdf(d, scale=np.sqrt(2)) / (1 + np.exp(-d)), d)
    results = metrics["results"]
    for part in ("test", "external"):
        parts = {m: results[m]["parts"][part] for m in results}
        c = parts["radiomics"]["c_index"]
        # censoring favours early pairs a little, hence the further 0.02
        assert c["value"] == pytest.approx(truth, abs=0.02 + 1.6 * (c["upper"] - c["lower"]) / 2)
        assert parts["radiomics"]["calibration_slope"]["lower"] < 1 < parts["radiomics"]["calibration_slope"]["upper"]
        assert parts["radiomics"]["log_rank"]["p"] < 1e-6
        assert results["radiomics"]["permutation"][part]["p"] == pytest.approx(1 / 6)
        assert parts["clinical"]["c_index"]["lower"] < 0.55
    difference = {c["part"]: c["difference"] for c in metrics["comparisons"]}
    assert difference["external"]["lower"] > 0.1
    assert metrics["comparisons"][0]["p"] is None  # training is apparent
    assert results["radiomics"]["optimism"]["value"] < 0.05


def test_many_noise_features_do_not_predict(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 145}, external=None, features=300, signal=0)
    metrics = run(
        cohort, settings(models={"noise": {"features": "mixed"}}, permutations=9, level=0.999, bootstraps=4000)
    )
    noise = metrics["results"]["noise"]
    assert set(noise["parts"]) == {"training", "test"}
    c = noise["parts"]["test"]["c_index"]
    assert c["lower"] < 0.5 < c["upper"]
    assert noise["parts"]["training"]["c_index"]["value"] > 0.6  # what the apparent figure would have claimed
    assert noise["optimism"]["value"] > 0.05
    assert noise["permutation"]["test"]["n"] == 9


def test_nothing_outside_training_reaches_the_models(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        cohort = cohorts.write(tmp_path / folder, sizes={"north": 50, "south": 20}, external="south", features=20)
        if folder == "b":
            split = tables.read(cohort.split, cohorts.SPLIT)
            outside = set(split.loc[split["part"] != "training", "patient"])
            people = tables.read(cohort.patients, cohorts.PATIENTS)
            rows = people["patient"].isin(outside)
            people.loc[rows, "time_days"] = np.arange(1.0, rows.sum() + 1)
            tables.write(people, cohort.patients, cohorts.PATIENTS)
            frame = tables.read(cohort.features["mixed"], cohorts.FEATURES)
            frame.loc[frame["patient"].isin(outside), [f"f{k}" for k in range(20)]] *= -50
            tables.write(frame, cohort.features["mixed"], cohorts.FEATURES)
        run(cohort, settings())
    for model in ("clinical", "radiomics"):
        path = f"analyses/os/models/{model}.skops"
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    chain = artefacts.read_skops(tmp_path / "a/analyses/os/models/radiomics.skops")
    predictions = tables.read(tmp_path / "a/analyses/os/predictions.parquet", SURVIVAL)
    index = predictions[predictions["model"] == "radiomics"].set_index("patient")["index"]
    first = cohorts.write(tmp_path / "a", sizes={"north": 50, "south": 20}, external="south", features=20)
    people = first.frame.set_index("patient")[["age_years", "stage"]].astype({"stage": object})
    table = tables.read(first.features["mixed"], cohorts.FEATURES).set_index("patient")
    x = people.join(table[[f"f{k}" for k in range(20)]])
    assert chain.predict(x) == pytest.approx(index.loc[x.index].to_numpy(), abs=1e-12)


def test_a_leak_is_refused(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 20, "south": 9}, external="south")
    path = tmp_path / "segmenter.json"
    patient = tables.read(cohort.split, cohorts.SPLIT)["patient"].iloc[0]
    ledger.write(path, name="unet", stage="segment", split="segmentation", seen={"validation": [patient]}, settings="",
                 code="")  # fmt: skip
    with pytest.raises(UserError, match="unet"):
        run(cohort, settings(), ledgers=[path])


@pytest.mark.parametrize("case", ["tiny", "no events", "no test", "no training", "separated"])
def test_tiny_data_warn_instead_of_crash(tmp_path: Path, case: str) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 11, "south": 8}, external="south", features=12)
    split = tables.read(cohort.split, cohorts.SPLIT)
    people = tables.read(cohort.patients, cohorts.PATIENTS)
    if case == "no events":
        people["event"] = 0
    elif case == "separated":
        people["age_years"] = -people["time_days"]
        people["event"] = 1
    elif case == "no test":
        split["part"] = "training"
    elif case == "no training":
        split["part"] = "test"
    tables.write(people, cohort.patients, cohorts.PATIENTS)
    tables.write(split, cohort.split, cohorts.SPLIT)
    metrics = run(cohort, settings(permutations=2))
    folder = tmp_path / "analyses/os"
    assert metrics["warnings"]
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    for row in tables.read(folder / "manifest.tsv", ARTEFACTS).itertuples():
        assert (tmp_path / row.path).exists()
    assert (folder / "figures/summary.svg").exists()
    predictions = tables.read(folder / "predictions.parquet", SURVIVAL)
    assert len(predictions) == 2 * 19
    if case in ("no events", "no training"):
        assert predictions["index"].isna().all()
    else:
        assert np.isfinite(predictions["index"]).all()
    if case == "separated":
        assert any("no maximum" in w for w in metrics["warnings"])
    if case == "tiny":
        assert any("per variable" in w for w in metrics["warnings"])


def test_same_inputs_give_same_bytes(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        cohort = cohorts.write(tmp_path / folder, sizes={"north": 30, "south": 9}, external="south", features=10)
        run(cohort, settings(permutations=2, horizon_days=800))
        found = sorted((tmp_path / folder / "analyses").rglob("*.*"))
        files.append({p.relative_to(tmp_path / folder).as_posix(): p.read_bytes() for p in found})
    assert len(files[0]) > 12
    assert [k for k in files[0] if files[0][k] != files[1][k]] == []
    predictions = tables.read(tmp_path / "a/analyses/os/predictions.parquet", SURVIVAL)
    assert predictions["time"].max() <= 800


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="empty model"):
        settings(models={"nothing": {}})
    with pytest.raises(ValidationError, match="primary"):
        settings(primary="other")
