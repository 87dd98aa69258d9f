"""Classification: known effects are found, noise is not, nothing outside training is ever used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.analysis import artefacts, chain, classifiers, classify, classify_null, roc, selection, tuning
from polycentric.analysis.schemas import CLASSIFICATION
from polycentric.config.classification import ClassificationAnalysis
from polycentric.errors import UserError
from polycentric.estimates import permutation_p
from polycentric.tables.schemas import ARTEFACTS
from pydantic import ValidationError
from scipy import stats
from sklearn.linear_model import LogisticRegression

KEEP_ALL = [{"kind": "correlation"}]


def top(count: int) -> list[dict]:
    return [{"kind": "variance"}, {"kind": "correlation"}, {"kind": "top", "count": count}]


def choose(x: np.ndarray, y: np.ndarray, *steps: dict) -> np.ndarray:
    return selection.choose(x, y, selection.steps(steps))


def settings(**more: Any) -> ClassificationAnalysis:
    quick = {"bootstraps": 50, "permutations": 0, "trees": 20, "resampling": {"folds": 3, "repeats": 1},
             "explain": {"permutations": 0, "dependence": 0, "shap": False}}  # fmt: skip
    base = {"split": "main", "outcome": "response", "features": ("mixed",), "models": ("lasso",)}
    return ClassificationAnalysis(**(base | quick | more))


def run(cohort: cohorts.Cohort, chosen: ClassificationAnalysis, name: str = "a", ledgers: list[Path] = []) -> dict:  # noqa: B006
    folder = cohort.root / "analyses" / name
    inputs = {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
              "outcome": cohorts.OUTCOMES["response"], "ledgers": ledgers}  # fmt: skip
    return classify.analyse(
        name,
        chosen,
        **inputs,
        permutations=cohorts.null(classify_null.permute, name, chosen, folder, **inputs),
        root=cohort.root,
        folder=folder,
        settings_json="{}",
        code="c",
    )


def test_a_planted_effect_is_recovered(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 1600, "south": 900}, external="south", features=5, test=0.2)
    metrics = run(cohort, settings(models=("logistic",), selection=KEEP_ALL))
    variables = pd.read_csv(tmp_path / "analyses/a/tables/variables.csv").set_index("variable")
    n = metrics["cohort"]["parts"]["training"]["patients"]
    # the error of a slope of 1 on a standard normal: 1 / sqrt(n E[p (1 - p) x^2])
    x = np.linspace(-8, 8, 4001)
    p = 1 / (1 + np.exp(-x))
    error = 1 / np.sqrt(n * np.trapezoid(stats.norm.pdf(x) * p * (1 - p) * x**2, x))
    assert variables["coefficient_per_sd"]["f0"] / variables["sd"]["f0"] == pytest.approx(1, abs=3 * error)
    # AUC of a standard normal x with P(y = 1 | x) = expit(x), by quadrature
    density = stats.norm.pdf(x)
    upper = density * p / np.trapezoid(density * p, x)
    lower = density * (1 - p) / np.trapezoid(density * (1 - p), x)
    truth = np.trapezoid(upper * np.r_[0, np.cumsum((lower[1:] + lower[:-1]) / 2 * np.diff(x))], x)
    for part in ("test", "external"):
        values = metrics["results"]["mixed"]["logistic"]["parts"][part]
        half = (values["auc_delong"]["upper"] - values["auc_delong"]["lower"]) / 2
        assert values["auc"]["value"] == pytest.approx(truth, abs=1.6 * half)  # about three standard errors
        slope = values["calibration_slope"]
        assert slope["value"] == pytest.approx(1, abs=1.6 * (slope["upper"] - slope["lower"]) / 2)


def test_noise_with_many_features_stays_noise(tmp_path: Path) -> None:
    # 400 features of pure noise: selection before the split would find an AUC near 1
    cohort = cohorts.write(tmp_path, sizes={"north": 70, "south": 30}, external="south", features=400, signal=0.0)
    metrics = run(cohort, settings(models=("ridge",), permutations=9, level=0.999))
    entry = metrics["results"]["mixed"]["ridge"]
    for part in ("test", "external"):
        auc = entry["parts"][part]["auc_delong"]
        assert auc["lower"] < 0.5 < auc["upper"]
        assert entry["permutation"][part]["n"] == 9
    assert entry["parts"]["training"]["auc"]["value"] > 0.8  # what the apparent figure would have claimed


def test_permutation_p_of_noise_is_uniform() -> None:
    rng = np.random.default_rng(3)
    chosen = settings(models=("logistic",), selection=top(2))
    values = []
    for data in range(25):
        x = pd.DataFrame(rng.normal(size=(60, 40)), columns=[f"f{k}" for k in range(40)])
        y = rng.permutation(np.repeat([0, 1], 30))
        aucs = []
        for k in range(20):
            labels = y[:30] if k == 0 else rng.permutation(y[:30])
            if len(np.unique(labels)) < 2:
                continue
            fit = tuning.fit_models(["logistic"], x[:30], labels, chosen, rng=np.random.default_rng(data), seed=1,
                                    out_of_fold=False)["logistic"]  # fmt: skip
            aucs.append(roc.auc(y[30:], fit.probabilities(x[30:])[:, 1]))
        values.append(permutation_p(aucs[0], np.array(aucs[1:])))
    assert stats.kstest(values, "uniform").pvalue > 0.001
    assert 0.3 < np.mean(values) < 0.7


def test_nothing_outside_training_reaches_the_model(tmp_path: Path) -> None:
    """The fitted chain is the same, byte for byte, whatever test and external patients look like."""
    chosen = settings(models=("lasso", "random-forest", "elastic-net"), clinical=("age_years", "stage"),
                      selection=top(3))  # fmt: skip
    first = cohorts.write(tmp_path / "a", sizes={"north": 50, "south": 20}, external="south", features=30, signal=3)
    metrics = run(first, chosen)
    second = cohorts.write(tmp_path / "b", sizes={"north": 50, "south": 20}, external="south", features=30, signal=3)
    split = tables.read(second.split, cohorts.SPLIT).set_index("patient")["part"]
    outside = set(split.index[split != "training"])
    frame = tables.read(second.features["mixed"], cohorts.FEATURES)
    columns = [f"f{k}" for k in range(30)]
    rows = frame["patient"].isin(outside)
    frame.loc[rows, columns] = np.nan
    frame.loc[rows, "f3"] = 1e6
    tables.write(frame, second.features["mixed"], cohorts.FEATURES)
    people = tables.read(second.patients, cohorts.PATIENTS)
    rows = people["patient"].isin(outside)
    people.loc[rows, "response"] = people.loc[rows, "response"].map({"yes": "no", "no": "yes"})
    people.loc[rows, "stage"] = "IV"
    tables.write(people, second.patients, cohorts.PATIENTS)
    changed = run(second, chosen)
    for model in chosen.models:
        path = f"analyses/a/models/mixed--{model}.skops"
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
        one, two = (m["results"]["mixed"][model] for m in (metrics, changed))
        assert one["threshold"] == two["threshold"]
        assert one["parts"]["test"]["brier"]["value"] != two["parts"]["test"]["brier"]["value"]


def test_the_front_learns_from_training_rows_only() -> None:
    x = pd.DataFrame({"a": [1.0, 2.0, np.nan, 5.0], "b": [3.0, 3.0, 3.0, 3.0], "c": ["x", "y", "x", None]})
    front = chain.Front(("c",), ()).fit(x, np.array([0, 1, 0, 1]))
    assert list(front.get_feature_names_out()) == ["c=y", "a"]  # b is constant, x the reference of c
    z = front.transform(pd.DataFrame({"a": [np.nan, 2.0], "b": [9.0, 9.0], "c": ["z", "y"]}))
    a = np.array([1.0, 2.0, 2.0, 5.0])
    assert z[:, 1] == pytest.approx(((2 - a.mean()) / a.std(), (2 - a.mean()) / a.std()))
    c = np.array([0.0, 1.0, 0.0, 0.0])  # the missing one has the median of the indicator
    assert z[:, 0] == pytest.approx(((0 - c.mean()) / c.std(), (1 - c.mean()) / c.std()))


def test_selection_by_hand() -> None:
    y = np.repeat([0, 1], 20)
    rng = np.random.default_rng(0)
    strong = y + 0.3 * rng.normal(size=40)
    weak = y + 2 * rng.normal(size=40)
    noise = rng.normal(size=40)
    x = np.c_[noise, strong**3, weak, strong, np.ones(40)]
    # strong and its cube are one feature by rank; the first by position stands for both
    assert choose(x, y, {"kind": "correlation", "above": 0.9}).tolist() == [1, 2, 0]
    assert choose(x, y, {"kind": "top", "count": 2}).tolist() == [1, 3]
    assert set(choose(x, y, {"kind": "test", "p": 0.05})) >= {1, 3}
    strength, p = selection.mann_whitney(x, y)
    expected = [stats.mannwhitneyu(c[y == 1], c[y == 0], method="asymptotic", use_continuity=False) for c in x.T]
    assert p == pytest.approx([e.pvalue if np.isfinite(e.pvalue) else 1 for e in expected], abs=1e-12)
    assert strength == pytest.approx([abs(e.statistic / 400 - 0.5) for e in expected])


def test_penalised_models_are_the_stated_ones() -> None:
    """They agree with saga, which does not penalise the constant."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 6))
    y = (rng.random(120) < 1 / (1 + np.exp(-(x[:, 0] + 1)))).astype(int)
    for kind, ratio in (("lasso", 1), ("elastic-net", 0.5), ("ridge", 0)):
        mine = classifiers.build(kind, {"penalty": 0.03}, trees=1, balanced=False, seed=0).fit(x, y)
        other = LogisticRegression(l1_ratio=ratio, C=1 / (120 * 0.03), solver="saga", tol=1e-10, max_iter=50000)
        other.fit(x, y)
        assert mine.coef_[0] == pytest.approx(other.coef_[0], abs=1e-6)
        assert mine.intercept_ == pytest.approx(other.intercept_, abs=1e-6)
    none = classifiers.build("lasso", {"penalty": 0.5}, trees=1, balanced=False, seed=0).fit(x, y)
    assert not none.coef_.any()


def test_twin_sets_share_the_selection_of_one(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 90, "south": 30}, external="south", features=40,
                           sets=("mixed", "homogeneous"))  # fmt: skip
    both = ("mixed", "homogeneous")
    metrics = run(cohort, settings(features=both, models=("ridge",), select_on="mixed", selection=top(4)))
    variables = pd.read_csv(tmp_path / "analyses/a/tables/variables.csv")
    chosen = {s: list(v["variable"]) for s, v in variables.groupby("features")}
    assert chosen["mixed"] == chosen["homogeneous"]
    run(cohort, settings(features=both, models=("ridge",), select_on="homogeneous", selection=top(4)), name="back")
    back = pd.read_csv(tmp_path / "analyses/back/tables/variables.csv")
    back = {s: list(v["variable"]) for s, v in back.groupby("features")}
    assert back["mixed"] == back["homogeneous"] != chosen["mixed"]
    run(cohort, settings(features=both, models=("ridge",), selection=top(4)), name="own")
    own = pd.read_csv(tmp_path / "analyses/own/tables/variables.csv")
    own = {s: list(v["variable"]) for s, v in own.groupby("features")}
    assert own == {"mixed": chosen["mixed"], "homogeneous": back["homogeneous"]}
    assert {c["part"] for c in metrics["comparisons"]} == {"test", "external"}
    compared = metrics["comparisons"][0]
    parts = [metrics["results"][s]["ridge"]["parts"][compared["part"]]["auc"]["value"] for s in both]
    assert compared["difference"]["value"] == pytest.approx(parts[0] - parts[1])


def test_a_leak_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 20, "south": 9}, external="south")
    seen = tables.read(cohort.split, cohorts.SPLIT)
    for part in ("training", "test", "external"):
        patient = seen.loc[seen["part"] == part, "patient"].iloc[0]
        path = tmp_path / "generator.json"
        ledger.write(path, name="decontrast", stage="synthesize", split="synthesis", seen={"training": [patient]},
                     settings="", code="")  # fmt: skip
        with pytest.raises(UserError, match="decontrast"):
            run(cohort, settings(), ledgers=[path])
    assert not (tmp_path / "analyses/a/metrics.json").exists()


@pytest.mark.parametrize("case", ["tiny", "one class", "no test", "one class in test", "no training"])
def test_tiny_data_warn_instead_of_crash(tmp_path: Path, case: str) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 9, "south": 8}, external="south", features=12)
    split = tables.read(cohort.split, cohorts.SPLIT)
    people = tables.read(cohort.patients, cohorts.PATIENTS)
    if case == "one class":
        people["response"] = "yes"
    elif case == "one class in test":
        people.loc[split["part"] == "test", "response"] = "no"
    elif case == "no test":
        split["part"] = "training"
    elif case == "no training":
        split["part"] = "test"
    tables.write(people, cohort.patients, cohorts.PATIENTS)
    tables.write(split, cohort.split, cohorts.SPLIT)
    metrics = run(cohort, settings(models=("lasso", "random-forest", "logistic"), clinical=("stage",), permutations=2))
    folder = tmp_path / "analyses/a"
    assert metrics["warnings"]
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    for row in tables.read(folder / "manifest.tsv", ARTEFACTS).itertuples():
        assert (tmp_path / row.path).exists()
    assert (folder / "figures/summary.svg").exists()
    assert (folder / "ledger.json").exists()
    predictions = tables.read(folder / "predictions.parquet", CLASSIFICATION)
    assert len(predictions) == 3 * 17
    if case in ("one class", "no training"):
        assert predictions["probability"].isna().all()
        assert not list(folder.glob("models/*"))
    if case == "one class in test":
        assert metrics["results"]["mixed"]["lasso"]["parts"]["test"]["auc"]["value"] is None


def test_same_inputs_give_same_bytes_and_a_model_that_can_be_used_again(tmp_path: Path) -> None:
    chosen = settings(models=("lasso", "random-forest"), permutations=2, clinical=("stage",))
    files = []
    for folder in ("a", "b"):
        cohort = cohorts.write(tmp_path / folder, sizes={"north": 30, "south": 9}, external="south", features=10)
        run(cohort, chosen)
        found = sorted((tmp_path / folder / "analyses").rglob("*.*"))
        files.append({p.relative_to(tmp_path / folder).as_posix(): p.read_bytes() for p in found})
    assert len(files[0]) > 12
    assert [k for k in files[0] if files[0][k] != files[1][k]] == []
    path = tmp_path / "a/analyses/a/models/mixed--random-forest.skops"
    model = artefacts.read_skops(path)
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient")
    x = table[[f"f{k}" for k in range(10)]].assign(stage=cohort.frame.set_index("patient")["stage"].astype(object))
    predictions = tables.read(tmp_path / "a/analyses/a/predictions.parquet", CLASSIFICATION)
    predictions = predictions[predictions["model"] == "random-forest"].set_index("patient")["probability"]
    assert model.predict_proba(x)[:, 1] == pytest.approx(predictions.loc[x.index].to_numpy(), abs=1e-15)


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="nothing to classify with"):
        settings(features=())
    with pytest.raises(ValidationError, match="select_on"):
        settings(select_on="other")
