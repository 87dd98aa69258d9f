"""Whole classifications: several classes, lesions, validation, ensembles, equations, kept models, bad tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.analysis import apply, classify, classify_null, roc
from polycentric.analysis.schemas import APPLIED, CLASSIFICATION
from polycentric.config.classification import Application, ClassificationAnalysis
from polycentric.config.clinical import MulticlassOutcome
from polycentric.errors import UserError
from polycentric.tables.schemas import ARTEFACTS
from pydantic import ValidationError
from scipy import special

NOTHING = {"permutations": 0, "dependence": 0, "shap": False}


def settings(**more: Any) -> ClassificationAnalysis:
    base = {"split": "main", "outcome": "response", "features": ("mixed",), "models": ("ridge",), "bootstraps": 50,
            "permutations": 0, "trees": 20, "resampling": {"folds": 3, "repeats": 1}, "explain": NOTHING}  # fmt: skip
    return ClassificationAnalysis.model_validate(base | more)


def run(cohort: cohorts.Cohort, chosen: ClassificationAnalysis, outcome: Any = cohorts.OUTCOMES["response"]) -> dict:
    folder = cohort.root / "analyses/a"
    inputs = {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
              "outcome": outcome, "ledgers": []}  # fmt: skip
    return classify.analyse(
        "a", chosen, **inputs, root=cohort.root, folder=folder,
        permutations=cohorts.null(classify_null.permute, "a", chosen, folder, **inputs),
        settings_json=json.dumps({"analysis": chosen.model_dump(mode="json")}), code="c",
    )  # fmt: skip


def graded(frame: pd.DataFrame) -> pd.DataFrame:
    """Three classes of which the first two differ by the outcome that f0 drives, the third is old age."""
    return frame.assign(grade=np.where(frame["age_years"] > 65, "old", np.where(frame["response"] == "yes", "b", "a")))


GRADE = MulticlassOutcome(column="grade")
SIZES = {"north": 60, "east": 60, "south": 30}


def by_hand(table: pd.DataFrame, equation: pd.DataFrame) -> pd.Series:
    """Log odds from raw values and the published numbers alone."""
    total = pd.Series(0.0, index=table.index)
    for row in equation.itertuples():
        if row.variable == "(constant)":
            total += row.coefficient
            continue
        name, _, level = row.variable.partition("=")
        column = table[name]
        value = column.eq(level).astype(float).where(column.notna()) if level else column
        total += row.coefficient * value.fillna(row.missing)
    return total


def test_the_equation_reproduces_predictions_from_raw_values(tmp_path: Path) -> None:
    def gaps(frame: pd.DataFrame) -> pd.DataFrame:
        frame = graded(frame)
        frame.loc[frame.index % 7 == 0, ["age_years", "stage"]] = None
        return frame.assign(grade=graded(frame.assign(age_years=frame["age_years"].fillna(50)))["grade"])

    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south", change=gaps)
    linear = ("logistic", "lasso", "linear-svm", "pls-da", "nearest-centroid")
    for outcome, models in ((cohorts.OUTCOMES["response"], linear), (GRADE, ("ridge", "elastic-net"))):
        run(cohort, settings(models=models, clinical=("age_years", "stage")), outcome)
        equations = pd.read_csv(tmp_path / "analyses/a/tables/equations.csv")
        found = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)
        people = tables.read(cohort.patients, cohorts.PATIENTS).set_index("patient")[["age_years", "stage"]]
        people = people.astype({"age_years": float, "stage": object})
        raw = tables.read(cohort.features["mixed"], cohorts.FEATURES).set_index("patient").join(people)
        for model in models:
            own = found[found["model"] == model].set_index("patient")
            parts = {name: by_hand(raw, part) for name, part in equations[equations["model"] == model].groupby("class")}
            if len(parts) == 1:
                expected = special.expit(parts["yes"].loc[own.index])
                assert own["probability"].to_numpy(float) == pytest.approx(expected.to_numpy(), abs=1e-10)
                continue
            expected = special.softmax(pd.DataFrame(parts).loc[own.index].to_numpy(), axis=1)
            mine = own[[f"probability_{name}" for name in parts]].to_numpy(float)
            assert mine == pytest.approx(expected, abs=1e-10)


def test_several_classes_are_told_apart_and_their_numbers_are_coherent(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 300, "south": 100}, external="south", signal=3.0, change=graded)
    chosen = settings(models=("ridge", "pls-da"), clinical=("age_years",), permutations=3, agreements={
        "both": ["mixed/ridge", "mixed/pls-da"]})  # fmt: skip
    metrics = run(cohort, chosen, GRADE)
    assert metrics["classes"] == ["a", "b", "old"]
    found = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)
    names = [f"probability_{c}" for c in metrics["classes"]]
    assert found[names].sum(axis=1).to_numpy(float) == pytest.approx(1)
    own = found[(found["model"] == "ridge") & (found["part"] == "test")]
    entry = metrics["results"]["mixed"]["ridge"]
    assert entry["parts"]["test"]["auc"]["value"] > 0.85
    called = np.argmax(own[names].to_numpy(float), axis=1)
    assert called.tolist() == own["predicted"].astype(int).tolist()
    accuracy = np.mean([metrics["classes"][k] == c for k, c in zip(called, own["class"], strict=True)])
    assert entry["parts"]["test"]["accuracy"]["value"] == pytest.approx(accuracy)
    confusion = pd.read_csv(tmp_path / "analyses/a/tables/confusion.csv")
    block = confusion[(confusion["model"] == "ridge") & (confusion["part"] == "test")].set_index("observed")
    assert sum(block.loc[c, f"called {c}"] for c in metrics["classes"]) == pytest.approx(accuracy * len(own))
    assert all(0 < entry["permutation"]["test"]["mean"] < 0.75 for _ in (1,))
    both = metrics["agreements"]["both"]["parts"]["test"]
    assert 0 < both["coverage"]["value"] <= 1


def test_validation_beside_the_split_never_meets_external_patients(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south", features=4, signal=2.0)
    metrics = run(cohort, settings(
        models=("ridge", "pls-da"), ensembles={"mean": ["mixed/ridge", "mixed/pls-da"]},
        validation=[{"kind": "cross-validation", "folds": 3, "repeats": 2}, {"kind": "leave-centre-out"},
                    {"kind": "random-splits", "count": 8}],
    ))  # fmt: skip
    external = set(cohort.frame.loc[cohort.frame["role"] == "external", "patient"])
    pool = set(cohort.frame["patient"]) - external
    folder = tmp_path / "analyses/a/validation"
    for kind in ("cross-validation", "leave-centre-out", "random-splits"):
        frame = pd.read_csv(folder / f"{kind}.predictions.csv")
        assert not set(frame["patient"]) & external
        seen = ledger.read(folder / f"{kind}.ledger.json")["seen"]["training"]
        assert set(seen) == pool
        assert metrics["validation"][kind]["results"]["mixed"]["ridge"]["auc"]["value"] > 0.7
        if kind == "cross-validation":
            assert set(frame[frame["model"] == "ridge"].groupby("patient").size()) == {2}
        if kind == "leave-centre-out":
            assert (frame["fold"] == frame["centre"]).all()
            # by hand: the AUCs within centres, weighted by patients
            own = frame[frame["model"] == "ridge"]
            aucs = {
                c: roc.auc(b["outcome"] == "yes", b["probability_yes"].to_numpy()) for c, b in own.groupby("centre")
            }
            expected = sum(aucs[c] * n for c, n in own["centre"].value_counts().items()) / len(own)
            assert metrics["validation"][kind]["results"]["mixed"]["ridge"]["auc"]["value"] == pytest.approx(expected)
        # an ensemble is the mean of its members, here and in the split
        wide = frame.pivot_table(index=["patient", "repeat"], columns="model", values="probability_yes")
        assert wide["mean"].to_numpy() == pytest.approx((wide["ridge"] + wide["pls-da"]).to_numpy() / 2)
    splits = metrics["validation"]["random-splits"]["results"]["mixed"]["ridge"]
    chosen = metrics["results"]["mixed"]["ridge"]["parts"]["test"]["auc"]["value"]
    assert splits["chosen_split"] == pytest.approx(chosen)
    assert splits["share_below_chosen"] == pytest.approx(np.mean(np.array(splits["aucs"]) < chosen))


def test_validation_is_judged_by_one_prediction_of_each_patient(tmp_path: Path) -> None:
    """Every number again from the predictions that were written, by other libraries or by hand."""
    from sklearn.metrics import brier_score_loss, roc_auc_score
    from statsmodels.genmod import families
    from statsmodels.genmod.generalized_linear_model import GLM

    cohort = cohorts.write(tmp_path, sizes={"north": 90, "east": 90, "south": 30}, external="south", signal=1.5)
    kinds = ("cross-validation", "leave-centre-out", "random-splits")
    schemes = [{"kind": kinds[0], "folds": 3, "repeats": 2}, {"kind": kinds[1]}, {"kind": kinds[2], "count": 6}]
    metrics = run(cohort, settings(validation=schemes))
    folder = tmp_path / "analyses/a"
    table = pd.read_csv(folder / "tables/validation-calibration.csv").set_index("part")
    curves = pd.read_csv(folder / "figures/validation-calibration.csv")
    decision = pd.read_csv(folder / "figures/validation-decision.csv")
    groups = pd.read_csv(folder / "tables/subgroups.csv")
    for kind in kinds:
        entry = metrics["validation"][kind]["results"]["mixed"]["ridge"]
        each = pd.read_csv(folder / f"validation/{kind}.predictions.csv").drop_duplicates("patient")
        y, p = each["outcome"].eq("yes").to_numpy(), each["probability_yes"].to_numpy()
        assert table.loc[kind, "patients"] == len(each)
        assert table.loc[kind, "positive"] == y.sum()
        assert entry["brier"]["value"] == pytest.approx(brier_score_loss(y, p))
        assert entry["brier"]["lower"] < entry["brier"]["value"] < entry["brier"]["upper"]
        logit = special.logit(p)
        slope = GLM(y.astype(float), np.c_[np.ones(len(y)), logit], family=families.Binomial()).fit()
        assert entry["calibration_slope"]["value"] == pytest.approx(slope.params[1], rel=1e-6)
        large = GLM(y.astype(float), np.ones(len(y)), offset=logit, family=families.Binomial()).fit()
        assert entry["calibration_in_the_large"]["value"] == pytest.approx(large.params[0], abs=1e-6)
        curve = curves[curves["part"].eq(kind)]
        assert (curve["lower"] <= curve["upper"]).all()
        assert entry["ici"]["value"] > 0
        line = decision[decision["part"].eq(kind) & decision["strategy"].eq("model")].set_index("threshold")
        by_hand = np.mean((p >= 0.4) & y) - np.mean((p >= 0.4) & ~y) * 0.4 / 0.6
        assert line.loc[0.4, "net_benefit"] == pytest.approx(by_hand)
        found = entry["subgroups"]["auc"]["groups"]
        assert set(found) == {"centre: east", "centre: north"}
        for centre, block in each.groupby("centre"):
            expected = roc_auc_score(block["outcome"].eq("yes"), block["probability_yes"])
            assert found[f"centre: {centre}"]["value"] == pytest.approx(expected)
        assert entry["subgroups"]["auc"]["differences"][0]["groups"] == 2
        assert groups["part"].eq(kind).sum() == 2


def test_thresholds_and_combined_rules_by_hand(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 200, "south": 80}, external="south", signal=2.0)
    metrics = run(cohort, settings(models=("ridge", "nearest-centroid"), sensitivities=(0.95,), agreements={
        "both": ["mixed/ridge", "mixed/nearest-centroid"]}))  # fmt: skip
    found = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)
    training = found[(found["model"] == "ridge") & (found["part"] == "training")]
    entry = metrics["results"]["mixed"]["ridge"]
    at = entry["thresholds"]["sensitivity 0.95"]["value"]
    positive = training.loc[training["outcome"] == 1, "cross_validated"]
    assert (positive >= at).mean() >= 0.95 > (positive > positive[positive >= at].min()).mean()
    test = found[(found["model"] == "ridge") & (found["part"] == "external")]
    calls = entry["operating"]["sensitivity 0.95"]["external"]
    tp = ((test["probability"] >= at) & (test["outcome"] == 1)).sum()
    fp = ((test["probability"] >= at) & (test["outcome"] == 0)).sum()
    positives = (test["outcome"] == 1).sum()
    assert calls["precision"]["value"] == pytest.approx(tp / (tp + fp))
    assert calls["f1"]["value"] == pytest.approx(2 * tp / (tp + fp + positives))
    assert calls["balanced_accuracy"]["value"] == pytest.approx((tp / positives + 1 - fp / (len(test) - positives)) / 2)
    assert calls["f1"]["lower"] < calls["f1"]["value"] < calls["f1"]["upper"]
    both = found[found["part"] == "external"].pivot(index="patient", columns="model", values="predicted").astype(float)
    truth = test.set_index("patient")["outcome"].reindex(both.index)
    agree = both["ridge"] == both["nearest-centroid"]
    rule = metrics["agreements"]["both"]["parts"]["external"]
    assert rule["coverage"]["value"] == pytest.approx(agree.mean())
    assert rule["accuracy"]["value"] == pytest.approx((both.loc[agree, "ridge"] == truth[agree]).mean())
    together = (both == 1).all(axis=1)
    assert rule["sensitivity_both_positive"]["value"] == pytest.approx(together[truth == 1].mean())


def test_twins_selected_on_either_are_compared_in_pairs(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 300, "south": 60}, external="south", sets=("mixed", "clean"))
    metrics = run(cohort, settings(features=("mixed", "clean"), select_on=("mixed", "clean"), bootstraps=2000))
    assert set(metrics["results"]) == {"mixed-by-mixed", "clean-by-mixed", "mixed-by-clean", "clean-by-clean"}
    variables = pd.read_csv(tmp_path / "analyses/a/tables/variables.csv")
    chosen = {name: set(block["variable"]) for name, block in variables.groupby("features")}
    assert chosen["mixed-by-mixed"] == chosen["clean-by-mixed"]
    assert chosen["mixed-by-clean"] == chosen["clean-by-clean"]
    for row in metrics["comparisons"]:
        pair = {row["first"]["set"], row["second"]["set"]}
        assert pair not in ({"mixed-by-mixed", "clean-by-clean"}, {"mixed-by-clean", "clean-by-mixed"})
        if row["z"]:  # DeLong and the bootstrap estimate the same standard error (pROC: 1.412 and 1.405)
            half = (row["difference"]["upper"] - row["difference"]["lower"]) / 2
            spread = (row["difference_bootstrap"]["upper"] - row["difference_bootstrap"]["lower"]) / 2
            assert spread == pytest.approx(half, rel=0.15)
            assert row["p_bootstrap"] == pytest.approx(row["p"], abs=0.08)


def test_lesions_are_fitted_and_judged_per_patient(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 150, "south": 60}, external="south", signal=2.0)
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES)
    rng = np.random.default_rng(5)
    more = []
    for k in range(3):  # lesions of their own: f0 of a lesion drives its own event
        own = table.assign(roi=f"L{k}", f0=rng.normal(size=len(table)))
        own["event"] = (rng.random(len(own)) < special.expit(3 * own["f0"] - 2.5)).astype(float)
        more.append(own)
    lesions = pd.concat(more, ignore_index=True)
    tables.write(lesions, cohort.features["mixed"], cohorts.FEATURES)
    any_event = lesions.groupby("patient")["event"].max()
    people = tables.read(cohort.patients, cohorts.PATIENTS)
    people["response"] = np.where(people["patient"].map(any_event) > 0, "yes", "no")
    tables.write(people, cohort.patients, cohorts.PATIENTS)
    metrics = run(cohort, settings(lesions={"join": "noisy-or", "outcome": "event"}, bootstraps=200))
    external = metrics["results"]["mixed"]["ridge"]["parts"]["external"]
    assert external["auc"]["n"] == 60
    assert external["auc_lesions"]["n"] == 180
    assert external["auc"]["value"] > 0.75
    assert external["auc_lesions"]["lower"] < external["auc_lesions"]["value"] < external["auc_lesions"]["upper"]
    variables = pd.read_csv(tmp_path / "analyses/a/tables/variables.csv")
    assert "event" not in set(variables["variable"])
    # a lesion's log odds rise by 3 per unit of f0; the ridge takes a little away
    slope = variables.set_index("variable").loc["f0", "coefficient_per_unit"]
    assert 1.8 < slope < 4
    # applied to the same table, lesions are joined the same way
    made = apply.apply(
        "again", Application(model="a/mixed/ridge", features="mixed"), seed=1,
        models=[tmp_path / "analyses/a/models/mixed--ridge.skops"], record=tmp_path / "analyses/a/ledger.json",
        features=cohort.features["mixed"], patients=cohort.patients, outcome=None, columns=None,
        folder=tmp_path / "applied/again",
    )  # fmt: skip
    assert made["patients"] == 210
    found = tables.read(tmp_path / "applied/again/predictions.parquet", APPLIED).set_index("patient")
    before = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION).set_index("patient")
    np.testing.assert_array_equal(found["probability_yes"].reindex(before.index), before["probability"])


def test_a_kept_model_gives_the_same_predictions_on_a_table(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south", signal=2.0)
    models = ("lasso", "rbf-svm", "random-forest", "pls-da", "xgboost", "nearest-centroid")
    metrics = run(
        cohort, settings(models=models, clinical=("stage",), ensembles={"two": ["mixed/lasso", "mixed/pls-da"]})
    )
    before = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION)

    def applied(files: list[str], features: Path = cohort.features["mixed"]) -> dict:
        return apply.apply(
            "again", Application(model="a/mixed/lasso", features="mixed", outcome="response"), seed=1,
            models=[tmp_path / f"analyses/a/models/mixed--{name}.skops" for name in files],
            record=tmp_path / "analyses/a/ledger.json", features=features, patients=cohort.patients,
            outcome=cohorts.OUTCOMES["response"], columns=None, folder=tmp_path / "applied/again",
        )  # fmt: skip

    for name, files in [*((m, [m]) for m in models), ("two", ["lasso", "pls-da"])]:
        made = applied(files)
        found = tables.read(tmp_path / "applied/again/predictions.parquet", APPLIED).set_index("patient")
        own = before[before["model"] == name].set_index("patient")
        np.testing.assert_array_equal(found["probability_yes"].reindex(own.index), own["probability"])
        assert (found["seen"].reindex(own.index).eq("yes") == own["part"].eq("training")).all()
        held = own[own["part"] != "training"]
        expected = roc.auc(held["outcome"] == 1, held["probability"].to_numpy(float))
        assert made["performance"]["auc_delong"]["value"] == pytest.approx(expected)
        assert made["seen"] == metrics["cohort"]["parts"]["training"]["patients"]
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES).drop(columns=["f0", "f1"])
    tables.write(table, tmp_path / "less.parquet", cohorts.FEATURES)
    with pytest.raises(UserError, match=r"lack .* columns of the model, such as 'f0'"):
        applied(["lasso"], tmp_path / "less.parquet")


def test_a_kept_model_calls_at_a_given_threshold_and_one_chosen_on_the_judged_is_named(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 120, "east": 60, "south": 60}, external="south", signal=1.5)
    metrics = run(cohort, settings())
    own = tables.read(tmp_path / "analyses/a/predictions.parquet", CLASSIFICATION).set_index("patient")
    held = own[own["part"] != "training"]
    y, p = held["outcome"].to_numpy(float) > 0, held["probability"].to_numpy(float)

    def applied(
        threshold: float | None, patients: Path = cohort.patients, outcome: Any = cohorts.OUTCOMES["response"]
    ) -> dict:
        return apply.apply(
            "there", Application(model="a/mixed/ridge", features="mixed", outcome="response", threshold=threshold),
            seed=1, models=[tmp_path / "analyses/a/models/mixed--ridge.skops"],
            record=tmp_path / "analyses/a/ledger.json", features=cohort.features["mixed"], patients=patients,
            outcome=outcome, columns=None, folder=tmp_path / "applied/there",
        )  # fmt: skip

    def codes(made: dict) -> list[str]:
        return [w.split(":")[0] for w in made["warnings"] if w.startswith("LEAK")]

    from_training = metrics["results"]["mixed"]["ridge"]["threshold"]["value"]
    made = applied(from_training)
    assert codes(made) == []
    called = tables.read(tmp_path / "applied/there/predictions.parquet", APPLIED).set_index("patient")["predicted"]
    np.testing.assert_array_equal(called.reindex(held.index), p >= from_training)
    for key, value in {
        "sensitivity": (p >= from_training)[y].mean(), "specificity": (p < from_training)[~y].mean(),
        "precision": y[p >= from_training].mean(), "accuracy": ((p >= from_training) == y).mean(),
    }.items():  # fmt: skip
        found = made["performance"][key]
        assert found["value"] == pytest.approx(value)
        assert found["lower"] < found["value"] < found["upper"]
    rates = [made["performance"][key]["value"] for key in ("sensitivity", "specificity")]
    balanced = made["performance"]["balanced_accuracy"]
    assert balanced["value"] == pytest.approx(np.mean(rates))
    assert balanced["lower"] < balanced["value"] < balanced["upper"]
    # the analysis judged its parts at this threshold, too
    parts = metrics["results"]["mixed"]["ridge"]["parts"]
    hits = sum(parts[part]["accuracy"]["value"] * parts[part]["accuracy"]["n"] for part in ("test", "external"))
    assert made["performance"]["accuracy"]["value"] == pytest.approx(hits / len(held))

    # planted: chosen on the patients who are judged; the table has those who trained the model, or strangers alone
    chosen = roc.youden(y, p)
    assert chosen != from_training
    assert codes(applied(chosen)) == ["LEAK_THRESHOLD"]
    people = tables.read(cohort.patients, cohorts.PATIENTS)
    tables.write(people[people["patient"].isin(held.index)], tmp_path / "strangers.tsv", cohorts.PATIENTS)
    assert codes(applied(chosen, tmp_path / "strangers.tsv")) == ["LEAK_THRESHOLD"]
    assert codes(applied(from_training, tmp_path / "strangers.tsv")) == []
    assert "sensitivity" not in applied(None)["performance"]
    assert codes(applied(chosen, outcome=None)) == []


def test_a_threshold_is_for_two_classes(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south", change=graded)
    run(cohort, settings(), GRADE)
    with pytest.raises(UserError, match="apply: there: threshold: the model knows 3 classes"):
        apply.apply(
            "there", Application(model="a/mixed/ridge", features="mixed", threshold=0.3), seed=1,
            models=[tmp_path / "analyses/a/models/mixed--ridge.skops"], record=tmp_path / "analyses/a/ledger.json",
            features=cohort.features["mixed"], patients=cohort.patients, outcome=None, columns=None,
            folder=tmp_path / "applied/there",
        )  # fmt: skip
    for wrong in (0, 1, 37):
        with pytest.raises(ValidationError, match="threshold"):
            Application(model="a/mixed/ridge", features="mixed", threshold=wrong)


def test_an_applied_model_is_judged_on_patients_it_has_not_seen(tmp_path: Path) -> None:
    from statsmodels.genmod import families
    from statsmodels.genmod.generalized_linear_model import GLM

    rng = np.random.default_rng(4)
    cohort = cohorts.write(
        tmp_path, sizes={"north": 120, "south": 120}, external="south", signal=2.0,
        change=lambda frame: frame.assign(sex=rng.choice(["female", "male"], len(frame))),
    )  # fmt: skip
    run(cohort, settings(models=("lasso",)))
    wanted = {"sex": [], "age_years": [60], "manufacturer": []}
    made = apply.apply(
        "again", Application(model="a/mixed/lasso", features="mixed", outcome="response", subgroups=wanted),
        models=[tmp_path / "analyses/a/models/mixed--lasso.skops"], record=tmp_path / "analyses/a/ledger.json",
        features=cohort.features["mixed"], patients=cohort.patients, outcome=cohorts.OUTCOMES["response"],
        columns=None, folder=tmp_path / "applied/again", scans=cohort.scans, root=tmp_path,
    )["performance"]  # fmt: skip
    found = tables.read(tmp_path / "applied/again/predictions.parquet", APPLIED).set_index("patient")
    found = found[found["seen"].eq("no")].join(cohort.frame.set_index("patient")["sex"])
    y, p = found["outcome"].to_numpy(float), found["probability_yes"].to_numpy(float)
    assert made["auc"]["n"] == len(y)
    assert made["auc"]["lower"] < roc.auc(y == 1, p) == made["auc"]["value"] < made["auc"]["upper"]
    assert made["brier"]["value"] == pytest.approx(np.mean((p - y) ** 2))
    design = np.c_[np.ones(len(y)), special.logit(np.clip(p, 1e-3, 1 - 1e-3))]
    slope = GLM(y, design, family=families.Binomial()).fit().params[1]
    assert made["calibration_slope"]["value"] == pytest.approx(slope, rel=1e-6)
    assert made["ici"]["value"] > 0
    groups = made["subgroups"]["auc"]["groups"]
    own = found[found["sex"].eq("male")]
    assert groups["sex: male"]["value"] == pytest.approx(
        roc.auc(own["outcome"] == 1, own["probability_yes"].to_numpy())
    )
    assert {"centre: north", "centre: south", "age_years: below 60", "manufacturer: Beta"} <= set(groups)
    assert {t["column"] for t in made["subgroups"]["auc"]["differences"]} == {"centre", *wanted}
    curve = pd.read_csv(tmp_path / "applied/again/figures/decision.csv")
    line = curve[curve["strategy"].eq("model")].set_index("threshold")["net_benefit"]
    assert line[0.3] == pytest.approx(np.mean((p >= 0.3) & (y == 1)) - np.mean((p >= 0.3) & (y == 0)) * 3 / 7)
    listed = tables.read(tmp_path / "applied/again/manifest.tsv", ARTEFACTS)["path"]
    assert all((tmp_path / path).is_file() for path in listed)
    assert "applied/again/figures/calibration.svg" in set(listed)


def test_who_has_no_prediction_or_outcome_is_counted_and_nobody_may_be_left(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 90, "south": 40}, external="south", features=2)
    run(cohort, settings(models=("ridge",)))

    def applied(patients: Path, features: Path) -> dict:
        return apply.apply(
            "again", Application(model="a/mixed/ridge", features="mixed", outcome="response",
                                 subgroups={"age_years": [60]}),
            models=[tmp_path / "analyses/a/models/mixed--ridge.skops"], record=tmp_path / "analyses/a/ledger.json",
            features=features, patients=patients, outcome=cohorts.OUTCOMES["response"], columns=None,
            folder=tmp_path / "applied/again", scans=cohort.scans, root=tmp_path,
        )  # fmt: skip

    frame = cohort.frame.copy()
    south = frame.index[frame["centre"].eq("south")]
    frame.loc[south[:4], "response"] = None
    tables.write(frame, tmp_path / "patients.tsv", cohorts.PATIENTS)
    table = tables.read(cohort.features["mixed"], cohorts.FEATURES)
    table.loc[table["patient"].isin(frame.loc[south[-7:], "patient"]), ["status", "reason"]] = ["rejected", "X: y"]
    tables.write(table, tmp_path / "features.parquet", cohorts.FEATURES)
    made = applied(tmp_path / "patients.tsv", tmp_path / "features.parquet")
    assert (made["patients"], made["without_features"], made["without_outcome"]) == (123, 7, 4)
    assert any(w.startswith("7 of 130 patients") for w in made["warnings"])
    assert any(w.startswith("4 of 123 patients") for w in made["warnings"])
    assert made["performance"]["auc"]["n"] == 123 - 4 - made["seen"]
    # everybody has been seen: there is nobody to judge, and no group of them
    seen = ledger.read(tmp_path / "analyses/a/ledger.json")["seen"]["training"]
    tables.write(frame[frame["patient"].isin(seen)], tmp_path / "seen.tsv", cohorts.PATIENTS)
    made = applied(tmp_path / "seen.tsv", tmp_path / "features.parquet")
    assert made["patients"] == made["seen"] == len(seen)
    assert made["performance"]["auc"]["value"] is None


def test_explanations_name_what_drives_the_outcome(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 250, "south": 100}, external="south", signal=3.0)
    run(cohort, settings(models=("lasso", "random-forest", "xgboost"), explain={"permutations": 3, "dependence": 1}))
    folder = tmp_path / "analyses/a"
    importance = pd.read_csv(folder / "tables/importance.csv")
    for _, block in importance.groupby(["model", "part"]):
        first = block.sort_values("loss_of_auc").iloc[-1]
        assert first["variable"] == "f0"
        assert first["lower"] > 0.05
    shapley = pd.read_csv(folder / "figures/shapley.csv")
    for _, block in shapley.groupby("model"):
        assert block.groupby("variable")["shapley"].apply(lambda v: v.abs().mean()).idxmax() == "f0"
        own = block[block["variable"] == "f0"]
        assert np.corrcoef(own["value"], own["shapley"])[0, 1] > 0.7
    dependence = pd.read_csv(folder / "figures/dependence.csv")
    for _, block in dependence[dependence["variable"] == "f0"].groupby("model"):
        ends = block.sort_values("value")["mean_probability"]
        assert ends.iloc[-1] - ends.iloc[0] > 0.4
        assert block["value"].min() == pytest.approx(-1.64, abs=0.4)  # in the unit of the table, not standardised


def strange(case: str, frame: pd.DataFrame, features: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    if case == "separated":
        features["f0"] = np.where(frame["response"] == "yes", 1.0, -1.0) + 0.01 * features["f1"]
    elif case == "constant":
        features["f0"] = 3.0
    elif case == "missing":
        frame.loc[::3, "response"] = None
    elif case == "other words":
        frame["response"] = frame["response"].map({"yes": "ja", "no": "nein"})
    elif case == "text":
        features["f0"] = [f"{v:.2f} mm" for v in features["f0"]]
    return frame, features


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("separated", "logistic on mixed: the fit did not converge; the classes may be separable, by 'f0'"),
        ("constant", "mixed: f0: without two different values in training"),
        ("missing", "without the outcome (column 'response' is empty)"),
        ("other words", "No patient has the value 'yes' in column 'response'; it holds 'ja', 'nein'"),
        ("text", "column 'f0' is text with"),
    ],
)
def test_bad_tables_warn_by_name_and_say_what_to_do(tmp_path: Path, case: str, words: str) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 50, "south": 20}, external="south")
    people, table = strange(
        case, tables.read(cohort.patients, cohorts.PATIENTS), tables.read(cohort.features["mixed"], cohorts.FEATURES)
    )
    tables.write(people, cohort.patients, cohorts.PATIENTS)
    tables.write(table, cohort.features["mixed"], cohorts.FEATURES)
    metrics = run(cohort, settings(models=("logistic",), selection=[]))
    assert any(words in warning for warning in metrics["warnings"]), metrics["warnings"]
    assert (tmp_path / "analyses/a/figures/summary.svg").exists()


def test_classes_that_training_lacks_are_left_out_with_a_warning(tmp_path: Path) -> None:
    def rare(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            grade=np.where(frame["centre"] == "south", "c", np.where(frame["response"] == "yes", "b", "a"))
        )

    cohort = cohorts.write(tmp_path, sizes={"north": 60, "south": 10}, external="south", change=rare)
    metrics = run(cohort, settings(), GRADE)
    assert metrics["classes"] == ["a", "b"]
    assert any("No training patient has the class 'c' in column 'grade'" in w for w in metrics["warnings"])
    assert metrics["cohort"]["used"] == 60


def test_settings_say_what_to_write() -> None:
    for more, words in (
        ({"selection": {"keep": 3}}, "write a list of steps"),
        ({"ensembles": {"both": ["mixed/ridge", "mixed/lasso"]}}, "there is no 'mixed/lasso'"),
        ({"agreements": {"both": ["mixed/ridge", "mixed/ridge"]}}, "write two different models"),
        ({"select_on": ["mixed", "other"]}, "'other' is not one of features"),
        ({"validation": [{"kind": "leave-centre-out"}, {"kind": "leave-centre-out"}]}, "names a kind twice"),
    ):
        with pytest.raises(ValidationError, match=words):
            settings(**more)
    with pytest.raises(ValidationError, match="write analysis/set/model"):
        Application(model="lasso", features="mixed")
