"""Survival: Cox, Kaplan-Meier, log-rank and C against R and other libraries; chains against planted effects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
import yaml
from polycentric import bootstrap, ledger, tables
from polycentric.analysis import (
    apply,
    artefacts,
    chains,
    cox,
    survival,
    survive,
    survive_explain,
    survive_null,
    survive_study,
)
from polycentric.analysis.schemas import APPLIED, SURVIVAL
from polycentric.artefacts import TableArtefacts
from polycentric.config.classification import Application
from polycentric.config.survival import SurvivalAnalysis
from polycentric.errors import UserError
from polycentric.randomness import generator
from polycentric.tables.schemas import ARTEFACTS
from pydantic import ValidationError
from scipy import optimize, stats


def simulated(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hazard exp(0.7 x0 - 0.4 x1), censoring exponential; with ties, times are whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time = rng.exponential(np.exp(-(0.7 * x[:, 0] - 0.4 * x[:, 1])))
    censored = rng.exponential(2, n)
    observed = np.minimum(time, censored)
    return x, np.ceil(5 * observed) if ties else observed, time <= censored


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
    drawn = bootstrap.counts(np.zeros(90), 10, np.random.default_rng(0))
    samples = survival.bootstrap_concordance(time, event, score, drawn)
    for k in range(10):
        rows = np.repeat(np.arange(90), drawn[k].astype(int))
        assert samples[k] == pytest.approx(concordance_index(time[rows], -score[rows], event[rows]))


def settings(**more: Any) -> SurvivalAnalysis:
    models = {"clinical": {"clinical": ("age_years", "stage")},
              "radiomics": {"clinical": ("age_years", "stage"), "features": "mixed"}}  # fmt: skip
    quick = {"bootstraps": 50, "permutations": 0, "resampling": {"folds": 3, "repeats": 1}, "models": models,
             "explain": {"permutations": 1, "dependence": 1}}  # fmt: skip
    return SurvivalAnalysis(**({"split": "main", "outcome": "death"} | quick | more))


def run(cohort: cohorts.Cohort, chosen: SurvivalAnalysis, ledgers: list[Path] = []) -> dict:  # noqa: B006
    folder = cohort.root / "analyses/os"
    inputs = {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
              "outcome": cohorts.OUTCOMES["death"], "ledgers": ledgers}  # fmt: skip
    return survive.analyse(
        "os",
        chosen,
        **inputs,
        permutations=cohorts.null(survive_null.permute, "os", chosen, folder, **inputs),
        scans=cohort.scans,
        root=cohort.root,
        folder=folder,
        settings_json=json.dumps({"analysis": chosen.model_dump(mode="json")}),
        code="c",
    )


def test_radiomics_with_a_planted_effect_adds_to_clinical_noise(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 600, "south": 300}, external="south", features=5)
    metrics = run(cohort, settings(permutations=5, selection=[{"kind": "correlation"}], penalty=0))
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


def test_a_column_that_is_the_event_is_refused(tmp_path: Path) -> None:
    def copied(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(stage=np.where(frame["event"].eq(1), "autopsy", "none"))

    cohort = cohorts.write(tmp_path, sizes={"north": 60, "south": 20}, external="south", change=copied)
    with pytest.raises(UserError, match="LEAK_OUTCOME: table 'clinical': 'stage'"):
        run(cohort, settings())


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


def test_a_stack_is_a_cox_model_of_the_indices_of_its_models(tmp_path: Path) -> None:
    """Models 1 to 7 of study 4: three of columns, four of their prognostic indices."""
    raw = yaml.safe_load(Path("config/studies/glioblastoma-survival.yaml").read_text())["analyses"]["survival"]
    models = raw["models"]
    assert [len(m.get("stack", ())) for m in models.values()] == [0, 0, 0, 2, 2, 2, 3]
    models["clinical"]["clinical"] = ["age_years"]
    models["vasari"]["clinical"] = ["stage"]
    models["radiomics"]["features"] = "mixed"
    changes = {"split": "main", "outcome": "death", "bootstraps": 20, "permutations": 2,
               "resampling": {"folds": 3, "repeats": 1}, "subgroups": {"stage": [], "manufacturer": []},
               "decision_thresholds": [0.1, 0.5]}  # fmt: skip
    chosen = SurvivalAnalysis(**(raw | {"models": models} | changes))
    cohort = cohorts.write(tmp_path, sizes={"north": 120, "south": 40}, external="south", features=25)
    metrics = run(cohort, chosen)
    assert {c["first"]["model"] for c in metrics["comparisons"]} == set(models) - {"clinical"}
    thresholds = pd.read_csv(tmp_path / "analyses/os/figures/decision.csv")["threshold"]
    assert (thresholds.min(), thresholds.max(), thresholds.nunique()) == (0.1, 0.5, 41)
    held_out = [c for c in metrics["comparisons"] if c["part"] != "training" and c["p"] is not None]
    assert held_out
    assert all(c["p_holm"] >= c["p"] for c in held_out)
    predictions = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    wide = predictions.pivot(index="patient", columns="model", values="index")
    rows = predictions[predictions["model"] == "all"].set_index("patient")
    training = rows.index[rows["part"] == "training"]
    fit = cox.fit(wide.loc[training, ["clinical", "radiomics"]].to_numpy(), rows.loc[training, "time"].to_numpy(),
                  rows.loc[training, "event"].to_numpy() > 0)  # fmt: skip
    expected = wide[["clinical", "radiomics"]].to_numpy() @ fit.coefficients
    assert wide["clinical-radiomics"].to_numpy() == pytest.approx(expected)
    stack = artefacts.read_skops(tmp_path / "analyses/os/models/clinical-radiomics.skops")
    assert stack.coef_ == pytest.approx(fit.coefficients)
    # the printed equation predicts by hand what the model predicts
    equation = pd.read_csv(tmp_path / "analyses/os/tables/equations.csv").query("model == 'clinical'").set_index("term")
    by_hand = equation.loc["age_years", "coefficient"] * (
        cohort.frame.set_index("patient")["age_years"] - equation.loc["age_years", "less"]
    )
    assert by_hand.loc[wide.index].to_numpy() == pytest.approx(wide["clinical"].to_numpy())
    base = equation.loc["baseline survival at 365 days", "coefficient"]
    chain = artefacts.read_skops(tmp_path / "analyses/os/models/clinical.skops")
    z = chain.named_steps["front"].transform(cohort.frame[["age_years"]])
    predicted = chain.named_steps["model"].survival(z, np.array([365.0]))[:, 0]
    assert base ** np.exp(by_hand.to_numpy()) == pytest.approx(predicted)
    part = metrics["results"]["all"]["parts"]["external"]
    assert part["misspecification"]["degrees"] == 3
    assert part["at 365 days"]["auc"]["lower"] <= part["at 365 days"]["auc"]["value"]
    groups = metrics["results"]["all"]["subgroups"]["external"]["c_index"]["groups"]
    assert {"centre: south", "stage: I", "manufacturer: Beta"} <= set(groups)
    names = {
        row.path.rpartition("/")[2]
        for row in tables.read(tmp_path / "analyses/os/manifest.tsv", ARTEFACTS).itertuples()
    }
    assert {
        "summary.svg",
        "calibration.svg",
        "predicted.svg",
        "decision.svg",
        "equations.csv",
        "sample-size.csv",
        "subgroups.svg",
        "subgroup-differences.csv",
        "decision.csv",
    } <= names
    assert any("Riley" in w and "radiomics" in w for w in metrics["warnings"])


def test_cross_validated_indices_do_not_favour_the_model_that_overfits() -> None:
    rng = np.random.default_rng(8)
    n = 150
    known = rng.normal(size=n)
    noise = pd.DataFrame(rng.normal(size=(n, 40)), columns=[f"f{k}" for k in range(40)])
    time, lost = rng.exponential(np.exp(-0.8 * known)), rng.exponential(2, n)
    y = np.c_[np.minimum(time, lost), time <= lost]
    given = {"clinical": pd.DataFrame({"age": known}), "noise": noise}
    weights = {}
    for kind in ("fitted", "cross-validated"):
        models = {"clinical": {"clinical": ["age"], "method": "cox"}, "noise": {"features": "x", "method": "cox"},
                  "both": {"stack": ["clinical", "noise"], "indices": kind}}  # fmt: skip
        chosen = settings(models=models, resampling={"folds": 5, "repeats": 1})
        fit = chains.fit_all(given, y, chosen, lambda *names: generator(1, *names), 0)["both"]
        weights[kind] = abs(fit.chain.coef_[1] / fit.chain.coef_[0])
    assert weights["fitted"] > 0.7
    assert weights["cross-validated"] < 0.4


@pytest.mark.parametrize("method", ["cox", "forest", "boosting"])
def test_a_stack_predicts_the_risk_of_new_patients(method: str) -> None:
    """The mean predicted risk of new patients is their true one, also where indices of a model have another zero."""
    rng = np.random.default_rng(1)
    n, t = 600, 0.5
    x = pd.DataFrame(rng.normal(size=(n, 3))).add_prefix("f")
    age = pd.DataFrame({"age": rng.normal(size=n)})
    hazard = np.exp(0.8 * x["f0"] + 0.5 * age["age"]).to_numpy()
    death, lost = rng.exponential(1 / hazard), rng.uniform(0.5, 3, n)
    y = np.c_[np.minimum(death, lost), death <= lost]
    models = {"clinical": {"clinical": ["age"], "method": "cox"}, "image": {"features": "x", "method": method},
              "both": {"stack": ["clinical", "image"]}}  # fmt: skip
    chosen = settings(models=models, trees=30, resampling={"folds": 3, "repeats": 1})
    given, new = ({"clinical": age[rows], "image": x[rows]} for rows in (slice(0, 200), slice(200, n)))
    fit = chains.fit_all(given, y[:200], chosen, lambda *names: generator(1, *names), 0)["both"]
    risk = 1 - fit.survival(new, np.array([t]))[:, 0].mean()
    # a share of 200 patients has an error of 0.035
    assert risk == pytest.approx(np.mean(1 - np.exp(-t * hazard[200:])), abs=0.08)


def test_a_clinical_column_that_a_centre_lacks_is_dropped(tmp_path: Path) -> None:
    cohort = cohorts.write(
        tmp_path, sizes={"north": 60, "south": 30}, external="south",
        change=lambda frame: frame.assign(stage=frame["stage"].where(frame["centre"].ne("south"))),
    )  # fmt: skip
    models = {"clinical": {"clinical": ["age_years", "stage"], "method": "cox"}}
    metrics = run(cohort, settings(models=models, absent_variable="drop"))
    assert "No patient of south has a value of stage, so no model uses it." in metrics["warnings"]
    assert metrics["results"]["clinical"]["variables"] == 1


@pytest.mark.parametrize("method", ["cox", "lasso", "elastic-net", "forest", "boosting"])
def test_every_method_predicts_new_patients_and_is_kept(tmp_path: Path, method: str) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 160}, external=None, features=6)
    more = {"eliminate": "aic"} if method == "cox" else {}
    models = {"clinical": {"clinical": ["age_years"]},
              "radiomics": {"features": "mixed", "clinical": ["age_years"], "method": method, **more}}  # fmt: skip
    metrics = run(cohort, settings(models=models, trees=40, cut="maximal", bootstraps=20))
    result = metrics["results"]["radiomics"]
    assert result["parts"]["test"]["c_index"]["value"] > 0.62
    assert 0.6 < result["cross_validated_c_index"]["value"] < 0.85
    assert result["cut"]["p"] < 0.05
    label = next(key for key in result["parts"]["test"] if key.startswith("at "))
    assert result["parts"]["test"][label]["scaled_brier"]["value"] > 0
    chain = artefacts.read_skops(tmp_path / "analyses/os/models/radiomics.skops")
    predictions = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    index = predictions[predictions["model"] == "radiomics"].set_index("patient")["index"]
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient")
    x = cohort.frame.set_index("patient")[["age_years"]].join(table[[f"f{k}" for k in range(6)]])
    assert chain.predict(x) == pytest.approx(index.loc[x.index].to_numpy(), abs=1e-12)


def gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Every ninth age and every seventh stage is missing."""
    k = np.arange(len(frame))
    return frame.assign(age_years=frame["age_years"].where(k % 9 > 0), stage=frame["stage"].where(k % 7 > 0))


def by_hand(table: pd.DataFrame, equation: pd.DataFrame) -> pd.Series:
    """Prognostic index from raw values and the printed numbers alone."""
    total = pd.Series(0.0, index=table.index)
    for row in equation[~equation["term"].str.startswith("baseline")].itertuples():
        name, _, level = row.term.partition("=")
        column = table[name]
        value = column.eq(level).astype(float).where(column.notna()) if level else column
        total += row.coefficient * (value.fillna(row.missing) - row.less)
    return total


def test_kept_models_give_the_same_predictions_on_a_table(tmp_path: Path) -> None:
    """As the rule `apply` does it; and the printed equation says the same of patients with missing values."""
    cohort = cohorts.write(tmp_path, sizes={"north": 60, "south": 30}, external="south", features=4, change=gaps)
    clinical = ("age_years", "stage")
    models = {
        "clinical": {"clinical": clinical, "method": "cox"},
        "ridge": {"clinical": clinical, "features": "mixed"},
        "lasso": {"features": "mixed", "method": "lasso"},
        "forest": {"features": "mixed", "method": "forest"},
        "boosting": {"features": "mixed", "method": "boosting"},
        "both": {"stack": ("clinical", "lasso")},
    }
    chosen = settings(
        models=models, trees=10, cut="upper-quartile", times_days=(200, 400), bootstraps=5,
        resampling={"folds": 2, "repeats": 1}, explain={"permutations": 0, "dependence": 0, "shap": False},
    )  # fmt: skip
    metrics = run(cohort, chosen)
    before = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)

    def applied(model: str, features: Path | None = cohort.features["mixed"], **more: Any) -> dict[str, Any]:
        own = Application(model=f"os/{model}", features=None if features is None else "mixed", outcome="death")
        return apply.apply(
            "again", own, models=[tmp_path / f"analyses/os/models/{model}.skops"],
            record=tmp_path / "analyses/os/ledger.json", features=features, patients=cohort.patients,
            outcome=cohorts.OUTCOMES["death"], columns=None, folder=tmp_path / "applied/again", **more,
        )  # fmt: skip

    raw = cohort.frame.set_index("patient")[list(clinical)]
    raw = raw.join(tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient").filter(regex="^f[0-9]"))
    equations = pd.read_csv(tmp_path / "analyses/os/tables/equations.csv").groupby("model")
    for model in models:
        made = applied(model, None if model == "clinical" else cohort.features["mixed"])
        found = tables.read(tmp_path / "applied/again/predictions.parquet", APPLIED).set_index("patient")
        own = before[before["model"] == model].set_index("patient")
        np.testing.assert_array_equal(found["index"].reindex(own.index), own["index"])
        assert (found["group"].reindex(own.index) == own["group"]).all()
        assert (found["seen"].reindex(own.index).eq("yes") == own["part"].eq("training")).all()
        assert (found["survival_at_200"] >= found["survival_at_400"]).all()
        held = own[own["part"] != "training"]
        expected = survival.concordance(
            held["time"].to_numpy(float), held["event"].to_numpy() > 0, held["index"].to_numpy(float)
        )
        c = made["performance"]["c_index"]
        assert c["value"] == pytest.approx(expected)
        assert c["lower"] < c["value"] < c["upper"]
        assert c["n"] == len(held)
        assert made["cut"] == metrics["results"][model]["cut"]["value"]
        if model in ("clinical", "ridge", "lasso"):
            equation = equations.get_group(model)
            index = by_hand(raw, equation)
            assert index.loc[found.index].to_numpy() == pytest.approx(found["index"].to_numpy())
            base = equation.set_index("term").loc["baseline survival at 400 days", "coefficient"]
            predicted = base ** np.exp(index.loc[found.index].to_numpy())
            assert predicted == pytest.approx(found["survival_at_400"].to_numpy())
    with pytest.raises(UserError, match="write features"):
        applied("lasso", None)
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES).drop(columns=["f0", "f1"])
    tables.write(table, tmp_path / "less.parquet", cohorts.FEATURES)
    with pytest.raises(UserError, match=r"lack .* columns of the model, such as 'f0'"):
        applied("both", tmp_path / "less.parquet")


def test_explanations_name_what_drives_survival(tmp_path: Path) -> None:
    """f0 alone drives the hazard: shuffled, nothing is left of C; a curve says in which direction and how far."""
    cohort = cohorts.write(tmp_path, sizes={"north": 240}, external=None, features=4)
    models = {name: {"features": "mixed", "method": name} for name in ("cox", "forest", "boosting")}
    chosen = settings(
        models=models | {"both": {"stack": ("cox", "forest"), "indices": "fitted"}}, trees=40, penalty=0, selection=(),
        explain={"permutations": 20, "dependence": 1}, bootstraps=200, times_days=(300,),
    )  # fmt: skip
    columns = (cohort.features, cohort.patients, cohort.split, cohorts.OUTCOMES["death"], None, None, "analyses: os")
    study = survive_study.read("os", chosen, 1, *columns)
    training, test = study.part("training"), study.part("test")
    y = study.follow_up
    fitted = chains.fit_all(study.tables_of(training), y[training], chosen, lambda *n: generator(1, *n), 1)
    for key in models:
        rows = {r["variable"]: r for r in survive_explain.importance(study, key, fitted[key])}
        reached = survival.concordance(y[test, 0], y[test, 1] > 0, fitted[key].index(study.tables_of(test)))
        assert set(rows) == {"f0", "f1", "f2", "f3"}
        assert rows["f0"]["lower"] > 0
        assert max(rows, key=lambda name: rows[name]["loss_of_c"]) == "f0"
        assert rows["f0"]["loss_of_c"] == pytest.approx(reached - 0.5, abs=0.08)
        assert rows["f0"]["lower"] < rows["f0"]["loss_of_c"] < rows["f0"]["upper"]
        assert rows["f3"]["lower"] < 0.01
    assert {r["variable"] for r in survive_explain.importance(study, "both", fitted["both"])} == {"cox", "forest"}
    # partial dependence of a Cox model by its definition
    curve = pd.DataFrame(survive_explain.dependence(study, fitted["cox"]))
    assert set(curve["variable"]) == {"f0"}
    table = study.tables["cox"][training]
    at = curve.iloc[3]
    moved = {"cox": table.assign(f0=at["value"])}
    assert at["mean_survival"] == pytest.approx(fitted["cox"].survival(moved, np.array([300.0])).mean())
    assert curve["mean_survival"].is_monotonic_decreasing
    assert curve["value"].min() == pytest.approx(table["f0"].quantile(0.05))
    # Shapley values and a constant add up to the log hazard
    found = pd.concat(survive_explain.shapley(study, fitted["boosting"])).pivot(
        index="patient", columns="variable", values="shapley"
    )
    index = pd.Series(fitted["boosting"].index(study.tables), study.frame["patient"].to_numpy())[found.index]
    rest = index.to_numpy() - found.sum(axis=1).to_numpy()
    assert np.ptp(rest) < 1e-5
    assert found.abs().mean().idxmax() == "f0"
    assert list(survive_explain.shapley(study, fitted["forest"])) == []
    folder = TableArtefacts(tmp_path / "out", tmp_path)
    survive_explain.write(study, dict(fitted), folder)
    folder.write()
    assert {p.name for p in (tmp_path / "out/tables").iterdir()} == {"importance.csv", "dependence.csv", "shapley.csv"}


def test_competing_events_give_incidences_and_gray(tmp_path: Path) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        other = (frame["event"] == 0) & (np.arange(len(frame)) % 2 == 0)
        return frame.assign(event=np.where(other, "other", np.where(frame["event"] == 1, "dead", "alive")))

    cohort = cohorts.write(tmp_path, sizes={"north": 120}, external=None, change=change)
    metrics = run(cohort, settings(competing="other"))
    parts = metrics["cohort"]["parts"]
    assert parts["training"]["competing"] > 10
    test = metrics["results"]["radiomics"]["parts"]["test"]
    assert test["log_rank"]["test"] == "Gray"
    assert not [key for key in test if key.startswith("at ")]
    curve = pd.read_csv(tmp_path / "analyses/os/figures/summary.csv")
    assert curve.groupby(["part", "group"])["value"].apply(lambda v: v.is_monotonic_increasing).all()
    assert any("cause-specific" in w for w in metrics["warnings"])
    # nobody is lost by a competing event; the incidence is not one minus Kaplan-Meier
    from lifelines import AalenJohansenFitter, KaplanMeierFitter

    rows = pd.read_csv(tmp_path / "analyses/os/tables/follow-up.csv").set_index("part")
    frame = tables.read(tmp_path / "analyses/os/predictions.parquet", SURVIVAL)
    people = frame[frame["model"].eq("radiomics") & frame["part"].eq("test")].set_index("patient")
    status = cohort.frame.set_index("patient")["event"].loc[people.index].map({"alive": 0, "dead": 1, "other": 2})
    time = people["time"].astype(float)
    lost = KaplanMeierFitter().fit(time, status == 0)
    assert float(rows.loc["test", "median follow-up"]) == lost.median_survival_time_
    assert rows.loc["test", "competing events"] == (status == 2).sum()
    (column,) = (c for c in rows.columns if c.startswith("incidence at"))
    assert not [c for c in rows.columns if "survival" in c]
    made = apply.apply(
        "again", Application(model="os/radiomics", features="mixed", outcome="death"),
        models=[tmp_path / "analyses/os/models/radiomics.skops"], record=tmp_path / "analyses/os/ledger.json",
        features=cohort.features["mixed"], patients=cohort.patients, outcome=cohorts.OUTCOMES["death"], columns=None,
        folder=tmp_path / "applied/again",
    )  # fmt: skip
    assert made["performance"]["log_rank"] == test["log_rank"]  # of the same patients
    groups = pd.read_csv(tmp_path / "analyses/os/tables/subgroups.csv")
    assert not [c for c in groups.columns if "expected" in c]  # no risk is predicted
    fit = AalenJohansenFitter(jitter_level=1e-9, seed=1).fit(time, status, event_of_interest=1)
    found = fit.cumulative_density_.iloc[:, 0]
    expected = found[found.index <= float(column.split()[2]) + 0.5].iloc[-1]
    assert float(rows.loc["test", column].split()[0]) == pytest.approx(expected, abs=0.0051)
    lost = run(cohort, settings(competing="relapse"))
    assert any("no patient has the value 'relapse'" in w for w in lost["warnings"])


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("five events", "has 5 events"),
        ("time zero", "3 patients have a time of zero or less in column 'time_days'"),
        ("constant", "column 'age_years' has one value"),
        ("text", "column 'stage' is text with"),
        ("separated", "most of all 'age_years'"),
        ("missing", "4 without follow-up"),
        ("late", "Nobody of the test part is followed beyond"),
    ],
)
def test_bad_tables_are_said_with_column_and_remedy(tmp_path: Path, case: str, words: str) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        if case == "five events":
            frame["event"] = (np.arange(len(frame)) < 5).astype(int)
        elif case == "time zero":
            frame.loc[:2, "time_days"] = 0
        elif case == "constant":
            frame["age_years"] = 60.0
        elif case == "text":
            frame["stage"] = [f"about {k}" for k in range(len(frame))]
        elif case == "separated":
            frame = frame.assign(age_years=-frame["time_days"], event=1)
        elif case == "missing":
            frame["event"] = frame["event"].astype(object).where(np.arange(len(frame)) >= 4, None)
        return frame

    cohort = cohorts.write(
        tmp_path, sizes={"north": 60}, external=None, change=change, test=0.3 * (case != "five events")
    )
    chosen = settings(bootstraps=5, times_days=(99999,) if case == "late" else ())
    metrics = run(cohort, chosen)
    assert any(words in w for w in metrics["warnings"]), metrics["warnings"]
    assert (tmp_path / "analyses/os/manifest.tsv").exists()


@pytest.mark.realdata
def test_lung1_clinical_survival_equals_r(realdata: Any) -> None:
    wanted = json.loads((Path(__file__).parents[1] / "golden/survival.json").read_text())["lung1"]
    frame = pd.read_csv(realdata("lung1") / "clinical.csv")
    time, event = frame["Survival.time"].to_numpy(float), frame["deadstatus.event"].to_numpy() > 0
    km = survival.kaplan_meier(time, event)
    assert km.at(np.array([365, 730])) == pytest.approx(wanted["survival"], rel=1e-8)
    lower, upper = km.between(np.array([365, 730]))
    assert [*lower, *upper] == pytest.approx([*wanted["lower"], *wanted["upper"]], rel=1e-8)
    assert [km.median, *km.median_interval] == wanted["median"]
    known = frame["Histology"].notna().to_numpy()
    chi, _ = survival.log_rank(time[known], event[known], frame["Histology"][known].to_numpy())
    assert chi == pytest.approx(wanted["histology"][0], rel=1e-8)
    x = np.c_[frame["age"], frame["gender"] == "male", frame["clinical.T.Stage"] >= 3].astype(float)
    rows = np.isfinite(x).all(axis=1) & frame["clinical.T.Stage"].notna().to_numpy()
    assert (rows.sum(), event[rows].sum()) == (wanted["n"], wanted["events"])
    x, time, event = x[rows], time[rows], event[rows]
    fit = cox.fit(x, time, event)
    assert fit.coefficients == pytest.approx(wanted["coef"], rel=1e-8)
    assert fit.errors == pytest.approx(wanted["se"], rel=1e-8)
    assert [fit.loglik_null, fit.loglik] == pytest.approx(wanted["loglik"], rel=1e-9)
    index = x @ fit.coefficients
    c = [survival.concordance(time, event, index), survival.concordance_error(time, event, index)]
    assert c == pytest.approx(wanted["concordance"], rel=1e-8)
    assert cox.proportional_hazards(x, time, event, fit.coefficients)[0] == pytest.approx(wanted["zph"], rel=1e-8)


@pytest.mark.realdata
def test_145_lung1_patients_with_the_authors_features(realdata: Any) -> None:
    """Volume equals R; nested cross-validation of a selected chain claims no more than volume alone does."""
    wanted = json.loads((Path(__file__).parents[1] / "golden/survival.json").read_text())["lung1"]["volume"]
    table = pd.read_excel(realdata("lung1") / "pyradiomics_features.xlsx")
    table["PatientID"] = table["Patient"].str.extract(r"^(LUNG1-\d{3})_", expand=False)
    table = table[table["ROI"].eq("GTV-1_mask")].drop_duplicates("PatientID")
    frame = table.merge(pd.read_csv(realdata("lung1") / "clinical.csv"), on="PatientID")
    y = frame[["Survival.time", "deadstatus.event"]].to_numpy(float)
    x = np.log(frame[["original_shape_MeshVolume"]].to_numpy(float))
    fit = cox.fit(x, y[:, 0], y[:, 1] > 0)
    assert (len(y), y[:, 1].sum()) == (wanted["n"], wanted["events"])
    assert [fit.coefficients[0], fit.errors[0]] == pytest.approx([wanted["coef"], wanted["se"]], rel=1e-8)
    c = [survival.concordance(y[:, 0], y[:, 1] > 0, x[:, 0])]
    c.append(survival.concordance_error(y[:, 0], y[:, 1] > 0, x[:, 0]))
    assert c == pytest.approx(wanted["concordance"], rel=1e-8)
    features = frame.filter(regex="^original_").select_dtypes("number").astype(float)
    chosen = settings(models={"radiomics": {"features": "authors"}})
    found = chains.cross_validate({"radiomics": features}, y, chosen, lambda *names: generator(2, *names), 0)
    # Aerts 2014 reports C 0.65 to 0.69 for a signature trained and tested elsewhere; volume alone is at 0.62 here
    assert 0.52 < found.c["radiomics"] < 0.69


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="empty model"):
        settings(models={"nothing": {}})
    with pytest.raises(ValidationError, match="primary"):
        settings(primary="other")
    a = {"clinical": ("age_years",)}
    for models, words in (
        ({"a": a, "b": {"stack": ["a", "c"]}}, "no model of columns"),
        ({"a": a, "b": {"stack": ["a", "a"]}}, "two different"),
        ({"a": a, "b": a, "c": {"stack": ["a", "b"], "features": "x"}}, "no columns of its own"),
        ({"a": a | {"eliminate": 0.1}}, "method: cox"),
    ):
        with pytest.raises(ValidationError, match=words):
            settings(models=models)
    with pytest.raises(ValidationError, match="horizon_days"):
        settings(horizon_days=300, times_days=(365,))
