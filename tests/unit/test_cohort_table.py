"""Table 1 against R (tests/golden/agreement.R)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.analysis import describe, group_tests
from polycentric.config.analyses import CohortAnalysis
from polycentric.config.clinical import ClinicalSettings
from polycentric.errors import UserError
from polycentric.tables.schemas import PATIENTS, SCANS

CLINICAL = ClinicalSettings.model_validate(
    {
        "columns": {
            "normal": {"type": "numeric", "unit": "mm"}, "skewed": {"type": "numeric"}, "spread": {"type": "numeric"},
            "sex": {"type": "categorical"}, "stage": {"type": "categorical"}, "group": {"type": "categorical"},
            "time": {"type": "numeric"}, "dead": {"type": "numeric"},
        },
        "outcomes": {
            "survival": {"type": "time-to-event", "time": "time", "event": "dead", "unit": "months"},
            "dead-1y": {"type": "horizon", "of": "survival", "at_days": 365.25},
            "severe": {"type": "binary", "column": "stage", "positive": "IV"},
        },
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def r() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[1] / "golden" / "agreement.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(r: dict[str, Any], tmp_path: Path) -> Any:
    def analysed(groups: str = "abc", **settings: Any) -> tuple[dict[str, Any], Path]:
        frame = pd.DataFrame(r["cohort"])
        frame = frame[frame["group"].isin(list(groups))]
        frame.insert(0, "patient", [f"p{n:03d}" for n in range(len(frame))])
        frame = frame.assign(centre="north", role="development", scans=0, clinical=True)
        tables.write(frame.to_dict("records"), tmp_path / "patients.tsv", PATIENTS)
        tables.write([], tmp_path / "scans.tsv", SCANS)
        metrics = describe.analyse(
            "cohort", CohortAnalysis(by="group", **settings) if "by" not in settings else CohortAnalysis(**settings),
            seed=1, patients=tmp_path / "patients.tsv", scans=tmp_path / "scans.tsv", split=None,
            outcomes=CLINICAL.outcomes, columns=CLINICAL.columns, root=tmp_path, folder=tmp_path / "a",
            settings_json="{}", code="c",
        )  # fmt: skip
        return {v["column"]: v for v in metrics["variables"]}, tmp_path / "a"

    return analysed


def test_three_groups_equal_r(r: dict[str, Any], run: Any) -> None:
    facts, _ = run(tests={"normal": "anova", "skewed": "kruskal-wallis"})
    golden = r["three"]
    for column, key in (("normal", "anova"), ("skewed", "kruskal"), ("sex", "chisq"), ("stage", "fisher")):
        assert facts[column]["p"] == pytest.approx(golden[key], abs=1e-8), column
    assert facts["spread"]["spread_test"] == "Levene"
    assert facts["spread"]["spread_p"] == pytest.approx(golden["levene"], abs=1e-8)
    assert facts["survival"]["test"] == "log-rank"
    assert facts["survival"]["p"] == pytest.approx(golden["logrank"], abs=1e-8)
    found = [[facts["survival"]["groups"][g][k] for k in ("median", "lower", "upper")] for g in "abc"]
    assert found == golden["median"]
    facts, _ = run(tests={"normal": "welch-anova"})
    assert facts["normal"]["p"] == pytest.approx(golden["welch"], abs=1e-8)


def test_two_groups_equal_r(r: dict[str, Any], run: Any) -> None:
    golden = r["two"]
    facts, folder = run("ab", correction="benjamini-hochberg")
    assert facts["normal"]["test"] == "Welch t"
    assert facts["normal"]["p"] == pytest.approx(golden["welch"], abs=1e-8)
    assert facts["skewed"]["test"] == "Mann-Whitney"
    assert facts["skewed"]["p"] == pytest.approx(golden["mannwhitney"], abs=1e-8)
    assert facts["skewed"]["shapiro_p"] <= golden["shapiro"][1] + 1e-10
    assert facts["sex"]["p"] == pytest.approx(golden["fisher"], abs=1e-8)
    assert facts["stage"]["p"] == pytest.approx(golden["stage"], abs=1e-8)
    written = pd.read_csv(folder / "tables/tests.csv").set_index("variable")
    assert written.loc["normal, mm", "p_corrected"] >= written.loc["normal, mm", "p"]
    facts, _ = run("ab", tests={"normal": "student-t", "sex": "two-proportion-z"}, spread="f")
    assert facts["normal"]["p"] == pytest.approx(golden["student"], abs=1e-8)
    assert facts["sex"]["p"] == pytest.approx(golden["prop"], abs=1e-8)
    assert facts["spread"]["spread_test"] == "F"
    assert facts["spread"]["spread_p"] == pytest.approx(golden["f"], abs=1e-10)
    facts, _ = run("ab", tests={"sex": "chi-squared"}, spread="levene")
    assert facts["sex"]["p"] == pytest.approx(golden["chisq"], abs=1e-8)
    assert facts["spread"]["spread_p"] == pytest.approx(golden["levene"], abs=1e-8)


def test_small_samples_without_ties_are_exact_as_in_r(r: dict[str, Any]) -> None:
    a, b = np.array([1.1, 2.3, 0.4, 5.6, 3.3]), np.array([2.2, 7.1, 6.4, 9.0, 8.8, 4.1])
    found = group_tests.numbers([a, b], test="mann-whitney", normality="decides", spread="auto")
    assert found.location.p == pytest.approx(r["exact"], abs=1e-10)


def test_groups_by_an_outcome(r: dict[str, Any], run: Any) -> None:
    """Who died within a year: counted by hand; the outcome and what it is made from are not compared with it."""
    frame = pd.DataFrame(r["cohort"])
    died = (frame["dead"] == 1) & (frame["time"] <= 12)
    passed = (frame["time"] > 12) | ((frame["time"] == 12) & (frame["dead"] == 0))
    facts, folder = run(by="dead-1y")
    assert {"survival", "dead-1y", "time", "dead"}.isdisjoint(facts)
    assert facts["normal"]["groups"]["event"]["n"] == died.sum()
    assert facts["normal"]["groups"]["no event"]["n"] == passed.sum()
    assert facts["normal"]["groups"]["event"]["mean"] == pytest.approx(frame.loc[died, "normal"].mean())
    table = pd.read_csv(folder / "tables/table1.csv", dtype=str)
    assert table.iloc[0][["event", "no event"]].tolist() == [str(died.sum()), str(passed.sum())]


def test_an_outcome_at_a_time_is_a_row(r: dict[str, Any], run: Any) -> None:
    frame = pd.DataFrame(r["cohort"])
    facts, _ = run()
    died = (frame["dead"] == 1) & (frame["time"] <= 12)
    assert {g: c["event"] for g, c in facts["dead-1y"]["groups"].items()} == died.groupby(
        frame["group"]
    ).sum().to_dict()
    assert facts["dead-1y"]["missing"] == ((frame["dead"] == 0) & (frame["time"] < 12)).sum()
    assert "time" not in facts


def test_missing_values_are_counted_by_group(run: Any, r: dict[str, Any]) -> None:
    before, r["cohort"]["normal"][0] = r["cohort"]["normal"][0], None
    try:
        facts, _ = run()
    finally:
        r["cohort"]["normal"][0] = before
    group = r["cohort"]["group"][0]
    assert facts["normal"]["missing_by_group"] == {g: int(g == group) for g in "abc"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tests": {"normal": "t"}}, "compares two groups, there are 3"),
        ({"tests": {"normal": "fisher"}}, "does not fit a number"),
        ({"tests": {"nowhere": "t"}}, "is not described"),
        ({"by": "survival"}, "type: horizon"),
        ({"columns": ("nowhere",)}, "of the outcomes"),
    ],
)
def test_mistakes_are_said(run: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(**settings)


def real(frame: pd.DataFrame, by: str, tmp_path: Path, **settings: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """Numbers and table 1 of real patients, from files as the workflow has them."""
    frame = frame.assign(centre="north", role="development", scans=0, clinical=True)
    frame.insert(0, "patient", [f"p{n:03d}" for n in range(len(frame))])
    tables.write(frame, tmp_path / "patients.tsv", PATIENTS)
    tables.write([], tmp_path / "scans.tsv", SCANS)
    outcomes = ClinicalSettings.model_validate(
        {"outcomes": {"survival": {"type": "time-to-event", "time": "Survival.time", "event": "deadstatus.event"}}}
    ).outcomes
    metrics = describe.analyse(
        "cohort", CohortAnalysis(by=by, **settings), seed=1, patients=tmp_path / "patients.tsv",
        scans=tmp_path / "scans.tsv", split=None, outcomes=outcomes if "Survival.time" in frame else {},
        columns=[c for c in frame if c not in PATIENTS.columns], root=tmp_path, folder=tmp_path / "a",
        settings_json="{}", code="c",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "a/tables/table1.csv", dtype=str, keep_default_na=False)
    return {v["column"]: v for v in metrics["variables"]}, table


GOLDEN = Path(__file__).parents[1] / "golden" / "cohort.json"


@pytest.mark.realdata
def test_asah_by_outcome_equals_r(realdata: Any, tmp_path: Path) -> None:
    """113 patients of pROC: every number of table 1 and every test of two groups (tests/golden/cohort.R)."""
    wanted = json.loads(GOLDEN.read_text())["asah"]
    frame = pd.read_csv(realdata("statistics") / "pROC_aSAH.csv").drop(columns="gos6").rename(
        columns={"outcome": "status"})  # fmt: skip
    found, table = real(frame, "status", tmp_path)
    for name in ("age", "s100b", "ndka"):
        own, r = found[name], wanted[name]
        for group, values in r["groups"].items():
            here = own["groups"][group]
            assert [here[k] for k in ("n", "mean", "sd")] == pytest.approx([values[k] for k in ("n", "mean", "sd")])
            assert [here[k] for k in ("q1", "median", "q3")] == pytest.approx(values["quartiles"])
        test = "welch" if own["shapiro_p"] >= 0.05 else "mannwhitney"
        assert own["test"] == {"welch": "Welch t", "mannwhitney": "Mann-Whitney"}[test]
        assert own["p"] == pytest.approx(r[test], rel=1e-8)
        assert own["smd"] == pytest.approx(r["smd"])
        assert own["shapiro_p"] == pytest.approx(r["shapiro"], rel=1e-6)
    assert {found[n]["test"] for n in ("age", "s100b")} == {"Welch t", "Mann-Whitney"}  # both are taken
    for name in ("gender", "wfns"):
        assert found[name]["test"].startswith("Fisher")
        assert found[name]["p"] == pytest.approx(wanted[name]["fisher"], rel=1e-7)
        assert found[name]["smd"] == pytest.approx(wanted[name]["smd"])
    assert [[found["wfns"]["groups"][g][str(k)] for g in ("Good", "Poor")] for k in range(1, 6)] == wanted["wfns"][
        "counts"
    ]
    assert table.loc[0, ["all", "Good", "Poor"]].tolist() == ["113", "72", "41"]
    women = table[table["level"].eq("Female")].iloc[0]
    assert women[["all", "Good", "Poor"]].tolist() == ["71 (63 %)", "50 (69 %)", "21 (51 %)"]
    assert women["p"] == f"{wanted['gender']['fisher']:.3f}"
    chosen = {"age": "student-t", "s100b": "t", "gender": "two-proportion-z", "wfns": "chi-squared"}
    found, _ = real(frame, "status", tmp_path, tests=chosen, spread="f")
    tests = [("age", "student"), ("s100b", "welch"), ("gender", "prop"), ("wfns", "chisq")]
    assert [found[n]["p"] for n, _ in tests] == pytest.approx([wanted[n][k] for n, k in tests], rel=1e-8)
    for name in ("age", "s100b", "ndka"):
        assert found[name]["spread_p"] == pytest.approx(wanted[name]["f"], rel=1e-6)


@pytest.mark.realdata
def test_lung1_by_histology_equals_r(realdata: Any, tmp_path: Path) -> None:
    """380 patients in four groups, with missing ages and a missing stage; medians of survival and the log-rank test."""
    wanted = json.loads(GOLDEN.read_text())["lung1"]
    frame = pd.read_csv(realdata("lung1") / "clinical.csv").drop(columns="PatientID")
    names = ("age", "gender", "Overall.Stage", "survival")
    found, table = real(frame, "Histology", tmp_path, columns=names)
    groups = sorted(wanted["n"])
    assert table.loc[0, groups].tolist() == [str(wanted["n"][g]) for g in groups]
    age = found["age"]
    for group in groups:
        values = wanted["age"]["groups"][group]
        here = age["groups"][group]
        assert [here[k] for k in ("n", "mean", "sd", "q1", "median", "q3")] == pytest.approx(
            [values["n"], values["mean"], values["sd"], *values["quartiles"]]
        )
    assert age["missing_by_group"] == wanted["age"]["missing"]
    assert age["shapiro_p"] == pytest.approx(wanted["age"]["shapiro"], rel=1e-5)
    assert age["spread_p"] == pytest.approx(wanted["age"]["levene"], rel=1e-8)
    expected = {"analysis of variance": "anova", "Kruskal-Wallis": "kruskal"}[age["test"]]
    assert age["p"] == pytest.approx(wanted["age"][expected], rel=1e-8)
    assert found["Overall.Stage"]["missing"] == wanted["stage"]["missing"]
    for name, r in (("age", "age"), ("gender", "gender"), ("Overall.Stage", "stage")):
        assert found[name]["smd"] == pytest.approx(wanted[r]["smd"]), name
        if name != "age":
            assert found[name]["test"] == "chi-squared"
            assert found[name]["p"] == pytest.approx(wanted[r]["chisq"], rel=1e-8)
    survival = found["survival"]
    assert survival["p"] == pytest.approx(wanted["survival"]["logrank"], rel=1e-8)
    assert [survival["groups"][g]["events"] for g in groups] == wanted["survival"]["events"]
    medians = [[survival["groups"][g][k] for k in ("median", "lower", "upper")] for g in groups]
    assert medians == wanted["survival"]["median"]
    if expected == "kruskal":
        holm = [found[n]["p_corrected"] for n in names]
        assert holm == pytest.approx([wanted["p_holm"][k] for k in ("age", "gender", "stage", "survival")])
