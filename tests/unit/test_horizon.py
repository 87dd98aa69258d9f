"""Outcomes at a horizon: known answers by hand and on Lung1, through classification, exploration, split and flow."""

from __future__ import annotations

import json
from pathlib import Path

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import outcomes, tables
from polycentric.analysis import classify, data, explore
from polycentric.cohort import read_clinical
from polycentric.cohort.flow import flow_rows
from polycentric.config import plan
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.clinical import AtHorizon, ClinicalSettings, read_outcome
from polycentric.config.explore import ExplorationAnalysis
from polycentric.config.splits import Split
from polycentric.config.study import load
from polycentric.errors import UserError
from polycentric.split import assign
from pydantic import ValidationError

OVERALL = {"type": "time-to-event", "time": "time_days", "event": "event"}
DECLARED = {
    "overall": OVERALL,
    "dead-2y": {"type": "horizon", "of": "overall", "at_days": 730},
    "dead-2y-all": {"type": "horizon", "of": "overall", "at_days": 730, "censored": "no-event"},
}


def clinical(**changes) -> ClinicalSettings:
    return ClinicalSettings.model_validate({"outcomes": DECLARED | changes})


# dead before, dead on the day, dead after, censored before, on the day, after, unknown, dead at time zero
FRAME = pd.DataFrame(
    {
        "centre": [*"aaaabbbb"],
        "time_days": [100, 730, 731, 729, 730, 900, None, 0],
        "event": [1, 1, 1, 0, 0, 0, 1, 1],
    }
)


def test_by_hand() -> None:
    values, lost = outcomes.horizon(FRAME, clinical().resolved("dead-2y"), "here")
    np.testing.assert_array_equal(values, [1, 1, 0, np.nan, 0, 0, np.nan, np.nan])
    assert lost.tolist() == [False] * 3 + [True] + [False] * 4
    values, _ = outcomes.horizon(FRAME, clinical().resolved("dead-2y-all"), "here")
    np.testing.assert_array_equal(values, [1, 1, 0, 0, 0, 0, np.nan, np.nan])
    counts = data.horizon_counts(FRAME, clinical().resolved("dead-2y"), "here")
    assert [counts[k] for k in ("event", "no_event", "censored_before", "without_follow_up")] == [2, 3, 1, 2]
    assert counts["censored_before_by_centre"] == {"a": 1, "b": 0}
    assert counts["rule"] == "1 patients last seen before 730 days without the event of overall are left out"


@pytest.mark.parametrize(("unit", "factor"), [("days", 1), ("weeks", 7), ("months", 365.25 / 12), ("years", 365.25)])
def test_the_unit_of_the_time_does_not_matter(unit: str, factor: float) -> None:
    rng = np.random.default_rng(1)
    days = rng.uniform(1, 1500, 200)
    frame = pd.DataFrame({"centre": "a", "time_days": days / factor, "event": rng.integers(0, 2, 200)})
    settings = clinical(overall=OVERALL | {"unit": unit})
    values, _ = outcomes.horizon(frame, settings.resolved("dead-2y"), "here")
    expected = np.where(days <= 730, np.where(frame["event"] == 1, 1, np.nan), 0)
    np.testing.assert_array_equal(values, expected)


def test_without_censoring_it_is_the_time_alone() -> None:
    time = np.random.default_rng(0).exponential(600, 500) + 1
    frame = pd.DataFrame({"centre": "a", "time_days": time, "event": 1})
    values, lost = outcomes.horizon(frame, clinical().resolved("dead-2y"), "here")
    np.testing.assert_array_equal(values, (time <= 730).astype(float))
    assert not lost.any()


def test_settings() -> None:
    own = clinical()
    assert own.outcome_columns() == ("time_days", "event")
    resolved = own.resolved("dead-2y")
    assert isinstance(resolved, AtHorizon)
    assert read_outcome(json.loads(resolved.model_dump_json())) == resolved
    with pytest.raises(ValidationError, match=r"outcomes.late.of: 'dead' is no time-to-event outcome; write one of"):
        clinical(late={"type": "horizon", "of": "dead", "at_days": 5})


def test_a_horizon_that_says_nothing_is_told(tmp_path: Path) -> None:
    FRAME.assign(patient_id=range(8)).to_csv(tmp_path / "c.csv", index=False)
    assert len(read_clinical(tmp_path / "c.csv", clinical())) == 8
    early = clinical(early={"type": "horizon", "of": "overall", "at_days": 50})
    with pytest.raises(UserError, match=r"early.at_days: all 6 patients .* have no event .* Write a longer time") as e:
        read_clinical(tmp_path / "c.csv", early)
    assert "1 problem:" in e.value.messages[0]


def test_the_flow_counts_the_censored() -> None:
    people = FRAME.assign(patient=[f"p{k}" for k in range(8)], clinical=True)
    empty = {c: [] for c in ("centre", "path", "patient", "use", "code", "scan", "modality", "verdict", "excluded",
                             "structures")}  # fmt: skip
    own = clinical()
    horizons = {name: own.resolved(name) for name in ("dead-2y", "dead-2y-all")}
    rows = flow_rows(pd.DataFrame(empty), pd.DataFrame(empty), people, ["a", "b"], horizons)
    found = {(r["centre"], r["box"]): r["patients"] for r in rows if r["step"] > 10}
    assert found == {
        ("a", "patients censored before dead-2y"): 1,
        ("b", "patients censored before dead-2y"): 0,
        ("a", "patients censored before dead-2y-all, counted as without it"): 1,
        ("b", "patients censored before dead-2y-all, counted as without it"): 0,
    }


def test_analyses_take_it(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 300, "south": 120}, external="south", features=4, signal=1.5)
    declared = clinical().resolved("dead-2y")
    people = tables.read(cohort.patients, cohorts.PATIENTS)
    lost = int(((people["event"] == 0) & (people["time_days"] < 730)).sum())
    dead = int(((people["event"] == 1) & (people["time_days"] <= 730)).sum())
    alive = int((people["time_days"] > 730).sum() + ((people["time_days"] == 730) & (people["event"] == 0)).sum())
    assert lost > 0
    common = {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
              "ledgers": [], "root": tmp_path, "settings_json": "{}", "code": "c", "outcome": declared}  # fmt: skip
    settings = ClassificationAnalysis(
        split="main", outcome="dead-2y", features=("mixed",), models=("ridge",), bootstraps=20, permutations=0,
        resampling={"folds": 2, "repeats": 1},
    )  # fmt: skip
    metrics = classify.analyse("c", settings, folder=tmp_path / "analyses/c", **common)
    counts = metrics["cohort"]
    assert counts["used"] == dead + alive == len(people) - lost
    assert sum(part["positive"] for part in counts["parts"].values()) == dead
    assert counts["horizon"]["censored_before"] == lost == sum(counts["horizon"]["censored_before_by_part"].values())
    text = f"{lost} patients last seen before 730 days without the event of overall are left out."
    assert text in metrics["warnings"]
    # f0 drives the hazard, so that it tells who is dead
    assert metrics["results"]["mixed"]["ridge"]["parts"]["external"]["auc"]["value"] > 0.75
    explored = ExplorationAnalysis(kind="exploration", features=("mixed",), outcome="dead-2y", bootstraps=20)
    metrics = explore.analyse("e", explored, folder=tmp_path / "analyses/e", **(common | {"split": None}))
    target = metrics["results"]["dead-2y"]
    assert target["classes"] == {"no event": alive, "event": dead}
    assert target["unknown"] == lost
    assert target["rule"] == text.removesuffix(".")
    assert target["strongest"]["feature"] == "f0"


def test_it_stratifies_a_split(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 200}, external=None, features=2)
    own = {"dead-2y": clinical().resolved("dead-2y")}
    split = assign(
        "s", Split(of="clinical", test=0.5, stratify=("dead-2y",)), seed=1, patients=cohort.patients, outcomes=own,
        output=tmp_path / "s.tsv",
    ).set_index("patient")  # fmt: skip
    frame = cohort.frame.set_index("patient")
    values = outcomes.horizon(frame, own["dead-2y"], "here")[0]
    assert split["stratum"].value_counts().to_dict() == {
        "dead-2y=event": int(values.eq(1).sum()),
        "dead-2y=no event": int(values.eq(0).sum()),
        "dead-2y=missing": int(values.isna().sum()),
    }
    for _, group in split.groupby("stratum"):
        assert abs((group["part"] == "test").sum() - len(group) / 2) < 1


def test_jobs_get_all_that_it_takes() -> None:
    study = load(
        {
            "study": "s",
            "centres": {"north": {"simulate": {"patients": 4}}},
            "clinical": {"outcomes": DECLARED, "columns": {"stage": {"type": "ordinal", "values": ["I", "II"]}}},
            "splits": {"main": {"test": 0.5, "stratify": ["dead-2y"]}},
            "analyses": {"c": {"kind": "classification", "split": "main", "outcome": "dead-2y", "clinical": ["stage"]}},
        }
    )
    job = json.loads(plan.settings(study, "classify", {"analysis": "c"}))
    assert read_outcome(job["outcome"]).follow_up.time == "time_days"
    assert job["columns"]["stage"]["values"] == ["I", "II"]
    job = json.loads(plan.settings(study, "split", {"split": "main"}))
    assert read_outcome(job["outcomes"]["dead-2y"]).follow_up.event == "event"


@pytest.mark.realdata
def test_lung1_at_two_years(realdata) -> None:
    frame = pd.read_csv(realdata("lung1") / "clinical.csv")
    settings = ClinicalSettings.model_validate(
        {
            "outcomes": {
                "overall": {"type": "time-to-event", "time": "Survival.time", "event": "deadstatus.event"},
                "dead-2y": {"type": "horizon", "of": "overall", "at_days": 730},
            }
        }
    )
    frame["centre"] = "maastro"
    values, lost = outcomes.horizon(frame, settings.resolved("dead-2y"), "here")
    time, event = frame["Survival.time"], frame["deadstatus.event"]
    assert len(frame) == 422
    assert int(values.sum()) == len(frame.query("`deadstatus.event` == 1 and `Survival.time` <= 730"))
    assert int(lost.sum()) == int(((time < 730) & (event == 0)).sum())
    assert int(values.eq(0).sum()) == int((time > 730).sum() + ((time == 730) & (event == 0)).sum())
