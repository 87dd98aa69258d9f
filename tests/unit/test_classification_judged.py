"""Calibration, decision curves, groups, and sample size of whole classifications, against what was planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.analysis import classify, decision, roc, subgroups, thresholds
from polycentric.analysis.schemas import CLASSIFICATION
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.clinical import MulticlassOutcome
from polycentric.errors import UserError
from sklearn.metrics import balanced_accuracy_score, f1_score

NOTHING = {"permutations": 0, "dependence": 0, "shap": False}


def run(cohort: cohorts.Cohort, outcome: Any = cohorts.OUTCOMES["response"], **more: Any) -> dict:
    base = {"split": "main", "outcome": "response", "features": ("mixed",), "models": ("logistic",), "bootstraps": 50,
            "permutations": 0, "resampling": {"folds": 3, "repeats": 1}, "explain": NOTHING,
            "selection": []}  # fmt: skip
    chosen = ClassificationAnalysis.model_validate(base | more)
    return classify.analyse(
        "a", chosen, seed=1, features=cohort.features, patients=cohort.patients, scans=cohort.scans,
        split=cohort.split, outcome=outcome, ledgers=[], root=cohort.root, folder=cohort.root / "analyses/a",
        settings_json=json.dumps({"analysis": chosen.model_dump(mode="json")}), code="c",
    )  # fmt: skip


def entry(metrics: dict, model: str = "logistic") -> dict:
    return metrics["results"]["mixed"][model]


def listed(root: Path) -> pd.DataFrame:
    manifest = pd.read_csv(root / "analyses/a/manifest.tsv", sep="\t", comment="#")
    return manifest.set_index(manifest["path"].map(lambda path: Path(path).stem) + "." + manifest["kind"])


def test_an_overfit_model_has_a_slope_below_one_and_a_simple_one_of_one(tmp_path: Path) -> None:
    honest = cohorts.write(tmp_path / "one", sizes={"north": 1000, "south": 800}, external="south", features=2)
    found = entry(run(honest))["parts"]["external"]
    slope = found["calibration_slope"]
    assert slope["lower"] < 1 < slope["upper"]
    assert slope["upper"] - slope["lower"] < 0.5
    assert abs(found["calibration_in_the_large"]["value"]) < 0.25
    assert found["ici"]["value"] < 0.05
    assert found["ici"]["lower"] <= found["ici"]["upper"] < 0.12
    assert found["e50"]["value"] < found["e90"]["value"]
    overfit = cohorts.write(tmp_path / "many", sizes={"north": 150, "south": 800}, external="south", features=20)
    worse = entry(run(overfit))["parts"]
    assert worse["external"]["calibration_slope"]["upper"] < 1
    assert worse["external"]["ici"]["value"] > 2 * found["ici"]["value"]
    assert worse["training"]["calibration_slope"]["value"] == pytest.approx(1, abs=0.05)  # apparent, of a fit
    assert "ici" not in worse["training"]
    assert worse["cross-validated"]["calibration_slope"]["value"] < 1
    # the curve is drawn with its numbers, and lies near the diagonal where the model is calibrated
    for root in (tmp_path / "one", tmp_path / "many"):
        assert {"calibration.figure", "calibration.table", "decision.figure", "decision.table"} <= set(
            listed(root).index
        )
    curve = pd.read_csv(tmp_path / "one/analyses/a/figures/calibration.csv")
    assert set(curve["part"]) == {"test", "external", "cross-validated"}
    own = curve[curve["part"].eq("external")]
    assert (own["lower"] <= own["observed"] + 0.02).mean() > 0.9
    assert (own["observed"] - own["predicted"]).abs().mean() < 0.05


def test_decision_curves_are_those_of_the_predictions_and_a_useless_model_is_of_no_use(tmp_path: Path) -> None:
    useless = cohorts.write(tmp_path / "noise", sizes={"north": 200, "south": 300}, external="south", signal=0.0)
    run(useless)
    table = pd.read_csv(tmp_path / "noise/analyses/a/tables/decision.csv").set_index("part")
    assert table.loc["external", "better than all and none at thresholds"] == "none"
    rows = pd.read_csv(tmp_path / "noise/analyses/a/figures/decision.csv", keep_default_na=False, na_values=[""])
    own = rows[rows["part"].eq("external") & rows["strategy"].eq("model")]
    assert (own["gain_lower"] <= 0).all()
    useful = cohorts.write(tmp_path / "good", sizes={"north": 300, "south": 300}, external="south", signal=2.0)
    run(useful)
    table = pd.read_csv(tmp_path / "good/analyses/a/tables/decision.csv").set_index("part")
    assert table.loc["external", "better than all and none at thresholds"] != "none"
    rows = pd.read_csv(tmp_path / "good/analyses/a/figures/decision.csv", keep_default_na=False, na_values=[""])
    assert set(rows["strategy"]) == {"model", "all", "none"}
    found = tables.read(tmp_path / "good/analyses/a/predictions.parquet", CLASSIFICATION)
    people = found[found["part"].eq("external")]
    y, p = people["outcome"].to_numpy(float), people["probability"].to_numpy(float)
    at = rows[rows["part"].eq("external") & rows["strategy"].eq("model") & np.isclose(rows["threshold"], 0.3)]
    by_hand = ((p >= 0.3) & (y == 1)).mean() - ((p >= 0.3) & (y == 0)).mean() * 0.3 / 0.7
    assert at["net_benefit"].item() == pytest.approx(by_hand)
    assert decision.COLUMNS[0] == "threshold"
    # a range of thresholds: the same numbers, and nothing is said of others
    run(useful, decision_thresholds=[0.25, 0.45])
    narrow = pd.read_csv(tmp_path / "good/analyses/a/figures/decision.csv", keep_default_na=False, na_values=[""])
    assert sorted(set(narrow["threshold"])) == pytest.approx(np.arange(25, 46) / 100)
    both = narrow.merge(rows, on=["part", "class", "features", "model", "threshold", "strategy"])
    assert len(both) == len(narrow)
    assert both["net_benefit_x"].to_numpy() == pytest.approx(both["net_benefit_y"].to_numpy())
    table = pd.read_csv(tmp_path / "good/analyses/a/tables/decision.csv")
    assert table["at threshold"].between(0.25, 0.45).all()


def test_a_group_in_which_the_model_fails_is_named(tmp_path: Path) -> None:
    def sexes(frame: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(3)
        frame = frame.assign(sex=rng.choice(["f", "m"], len(frame)))
        chance = np.where(rng.random(len(frame)) < 0.5, "yes", "no")
        return frame.assign(response=frame["response"].where(frame["sex"].eq("f"), chance))

    cohort = cohorts.write(tmp_path, sizes={"north": 400, "east": 400, "south": 200}, external="south", features=3,
                           signal=3.0, change=sexes, test=0.5)  # fmt: skip
    metrics = run(cohort, subgroups={"sex": (), "age_years": (60,), "manufacturer": ()})
    found = entry(metrics)["subgroups"]["test"]["auc"]
    tests = {row["column"]: row for row in found["differences"]}
    assert list(tests) == ["centre", "sex", "age_years", "manufacturer"]
    assert tests["sex"]["p_holm"] < 0.001
    assert tests["centre"]["p_holm"] > 0.05
    assert tests["manufacturer"]["groups"] == 1  # one scanner in the test patients: nothing to compare
    people = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)
    people = people[people["part"].eq("test")].set_index("patient")
    sex = cohort.frame.set_index("patient")["sex"].loc[people.index]
    for name in "fm":
        own = people[sex.eq(name).to_numpy()]
        expected = roc.delong(own["outcome"].to_numpy(float) == 1, own["probability"].to_numpy(float))
        assert found["groups"][f"sex: {name}"]["value"] == pytest.approx(expected["value"])
        assert found["groups"][f"sex: {name}"]["n"] == len(own)
    said = [text for text in metrics["warnings"] if "differs between groups" in text]
    assert any("logistic on mixed, test: the AUC differs between groups of sex" in text for text in said)
    assert not any("groups of age_years" in text or "groups of centre" in text for text in said)
    assert {"subgroups.figure", "subgroups.table", "subgroup-differences.table"} <= set(listed(tmp_path).index)
    with pytest.raises(UserError, match="subgroups: there is no column 'gender'"):
        run(cohort, subgroups={"gender": ()})


def test_thirty_candidates_for_fifty_patients_are_warned_of_and_three_for_many_are_not(tmp_path: Path) -> None:
    small = cohorts.write(tmp_path / "few", sizes={"north": 71, "south": 40}, external="south", features=30)
    metrics = run(small, models=("ridge", "lasso"))
    found = entry(metrics, "ridge")["sample_size"]
    n = metrics["cohort"]["parts"]["training"]
    assert (found["patients"], found["candidates"]) == (n["patients"], 30)
    assert 45 <= n["patients"] <= 55
    assert found["events"] == min(n["by_class"].values())
    assert found["riley"]["needed"] > 10 * found["patients"]
    said = [text for text in metrics["warnings"] if "candidate variables" in text]
    assert len(said) == 2  # events per variable and Riley's criteria, once for both models
    assert all(text.startswith("mixed (ridge, lasso): ") for text in said)
    assert "sample-size.table" in listed(tmp_path / "few").index
    large = cohorts.write(tmp_path / "lot", sizes={"north": 1500, "south": 40}, external="south", features=3)
    assert not [text for text in run(large)["warnings"] if "candidate variables" in text]


def test_each_of_several_classes_is_judged_against_the_rest(tmp_path: Path) -> None:
    def graded(frame: pd.DataFrame) -> pd.DataFrame:
        young = np.where(frame["response"].eq("yes"), "b", "a")
        return frame.assign(grade=np.where(frame["age_years"] > 65, "old", young))

    cohort = cohorts.write(tmp_path, sizes={"north": 500, "south": 200}, external="south", signal=2.0, change=graded)
    metrics = run(cohort, MulticlassOutcome(column="grade"), models=("ridge",), clinical=("age_years",),
                  validation=[{"kind": "cross-validation", "folds": 3, "repeats": 1}])  # fmt: skip
    found = entry(metrics, "ridge")
    # the line of everybody is that of the class in further validation, too
    lines = pd.read_csv(tmp_path / "analyses/a/figures/subgroups.csv")
    lines = lines[lines["part"].eq("cross-validation") & lines["group"].eq("all")].set_index("model")["value"]
    each = pd.read_csv(tmp_path / "analyses/a/validation/cross-validation.predictions.csv")
    for name in ("a", "b", "old"):
        auc = roc.auc(each["outcome"].eq(name).to_numpy(), each[f"probability_{name}"].to_numpy())
        assert lines[f"mixed, ridge, {name}"] == pytest.approx(auc)
    people = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)
    people = people[people["part"].eq("external")]
    for name in ("a", "b", "old"):
        own = roc.calibration(people["class"].eq(name).to_numpy(), people[f"probability_{name}"].to_numpy(float))
        values = found["parts"]["external"]
        assert values[f"calibration_slope_{name}"]["value"] == pytest.approx(own["calibration_slope"]["value"])
        assert values[f"ici_{name}"]["value"] > 0
        assert f"auc_{name}" in found["subgroups"]["external"]
    curves = pd.read_csv(tmp_path / "analyses/a/figures/decision.csv")
    assert set(curves["class"]) == {"a", "b", "old"}
    assert found["sample_size"]["events"] == min(metrics["cohort"]["parts"]["training"]["by_class"].values())


def test_patients_without_a_value_are_a_group_of_their_own_which_counts_in_no_test() -> None:
    rng = np.random.default_rng(4)
    outcome = rng.random(300) < 0.5
    score = outcome + rng.normal(size=300)
    sex = np.where(rng.random(300) < 0.5, "f", "m").astype(object)
    age = rng.normal(60, 10, 300)
    lacking = rng.random(300) < 0.2
    frame = pd.DataFrame({"sex": sex, "age": age}).mask(np.column_stack([lacking, lacking]))
    wanted = {"sex": (), "age": (60.0,)}
    masks = subgroups.groups(frame, wanted, None, np.ones(300, dtype=bool), "here")
    for name in wanted:
        of_column = {label: mask for label, mask in masks.items() if label.startswith(name)}
        assert np.array_equal(np.sum(list(of_column.values()), axis=0), np.ones(300))
        assert np.array_equal(of_column[f"{name}: no value"], lacking)
    rows, tests = subgroups.performance(masks, subgroups.by_auc(outcome, score), outcome)
    unknown = rows[rows["group"] == "no value"]
    assert unknown["n"].tolist() == [lacking.sum()] * 2
    assert unknown["value"].isna().all()
    assert unknown["why_not"].ne("").all()
    known = {label: mask for label, mask in masks.items() if not label.endswith("no value")}
    pd.testing.assert_frame_equal(tests, subgroups.performance(known, subgroups.by_auc(outcome, score), outcome)[1])


def test_calls_of_a_threshold_equal_scikit_learn_and_have_intervals_where_all_are_called_alike() -> None:
    rng = np.random.default_rng(8)
    y = (rng.random(40) < 0.4).astype(int)
    score = rng.random(40)
    for threshold in (0.5, 2.0, -1.0):  # some, nobody, everybody is called positive
        called = (score >= threshold).astype(int)
        found = thresholds.at_threshold(y, score, threshold, level=0.95)
        for key, value in (("f1", f1_score(y, called)), ("balanced_accuracy", balanced_accuracy_score(y, called))):
            assert found[key]["value"] == pytest.approx(value)
            assert found[key]["upper"] - found[key]["lower"] > 0.1
            assert 0 <= found[key]["lower"] <= value <= found[key]["upper"] <= 1
    assert all(
        thresholds.at_threshold(y * 0, score, 0.5, level=0.95)[key]["value"] is None for key in ("f1", "sensitivity")
    )
