"""Analyses by the rules of the workflow on tables that are already there: one that is refused, others, and `apply`."""

from __future__ import annotations

import json
from pathlib import Path

import cohorts
import graph
import numpy as np
import pandas as pd
import pytest
import yaml
from polycentric import tables
from polycentric.analysis.schemas import APPLIED, SURVIVAL

WORDS = {"type": "categorical"}
SIMULATED = {"simulate": {"patients": 40}}
QUICK = {"split": "main", "bootstraps": 20, "permutations": 0, "resampling": {"folds": 3, "repeats": 1}}
SILENT = {"permutations": 0, "dependence": 0, "shap": False}
STUDY = {
    "study": "tables",
    "seed": 1,
    "centres": {"north": SIMULATED, "south": {"role": "external", **SIMULATED}},
    "clinical": {
        "columns": {"age_years": {"type": "numeric"}, "smokes": WORDS, "one": WORDS, "two": WORDS},
        "outcomes": {
            "response": {"type": "binary", "column": "response", "positive": "yes"},
            "death": {"type": "time-to-event", "time": "time_days", "event": "event"},
        },
    },
    "splits": {"main": {"test": 0.3}},
    "views": {"ct": {"from": "scan", "spacing_mm": [6, 6, 6]}},
    "features": {"mixed": {"view": "ct", "masks": "manual", "recipe": "toy"}},
    "analyses": {
        "good": QUICK | {"kind": "classification", "outcome": "response", "features": ["mixed"], "models": ["ridge"],
                         "explain": SILENT},
        "bad": QUICK | {"kind": "classification", "outcome": "response", "features": ["mixed"], "models": ["ridge"],
                        "clinical": ["smokes"], "explain": SILENT},
        "survival": QUICK | {"kind": "survival", "outcome": "death", "explain": SILENT,
                             "models": {"clinical": {"clinical": ["age_years"], "method": "cox"}}},
        "said": {"kind": "agreement", "scale": "nominal", "columns": {"first": "one", "second": "two"},
                 "bootstraps": 50},
        "votes": {"kind": "survey", "table": "answers.csv", "bootstraps": 50},
        "kinds": {"kind": "association", "features": ["mixed"], "clinical": ["age_years"]},
    },
    "apply": {"again": {"model": "survival/clinical", "outcome": "death"}},
}  # fmt: skip


@pytest.mark.study
def test_a_refused_analysis_stops_itself_alone(tmp_path: Path) -> None:
    """A column that the study file declares and the table lacks; the others are finished, and a model is applied."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        said = np.where(np.arange(len(frame)) % 3 > 0, "yes", "no")
        return frame.assign(one=said, two=np.where(np.arange(len(frame)) % 10 > 0, said, "no"))

    folder = graph.copy_project(tmp_path)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    root = folder / "results" / "tables"
    cohort = cohorts.write(root, sizes={"north": 60, "south": 30}, external="south", features=4, change=change)
    rows = [
        {"reader": r, "item": i, "truth": "ab"[i % 2], "answer": "ab"[(i + (i % 5 == r)) % 2]}
        for r in range(3)
        for i in range(20)
    ]
    pd.DataFrame(rows).to_csv(folder / "answers.csv", index=False)
    allowed = ("classify", "survive", "apply_model", "agree", "survey", "associate")
    targets = [f"results/tables/analyses/{name}/metrics.json" for name in STUDY["analyses"]]
    targets.append("results/tables/applied/again/predictions.parquet")
    done = graph.snakemake(
        folder, "--configfile", "study.yaml", "--allowed-rules", *allowed, "--", *targets, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "analyses: bad" in said, said
    assert "smokes" in said
    assert not (root / "analyses/bad/metrics.json").exists()
    metrics = {
        name: json.loads((root / f"analyses/{name}/metrics.json").read_text())
        for name in STUDY["analyses"]
        if name != "bad"
    }
    assert metrics["good"]["results"]
    assert metrics["survival"]["results"]
    agreed = metrics["said"]["estimates"]["first and second"]["agreement"]
    assert agreed["value"] == pytest.approx((cohort.frame["one"] == cohort.frame["two"]).mean())
    # four of twenty items are called wrongly by each reader
    assert metrics["votes"]["estimates"]["survey"]["overall"]["value"] == pytest.approx(0.8)
    assert metrics["kinds"]["pairs"]["mixed and clinical"]["pairs"] == 4
    before = tables.read(root / "analyses/survival/predictions.parquet", SURVIVAL).set_index("patient")
    found = tables.read(root / "applied/again/predictions.parquet", APPLIED).set_index("patient")
    assert (found["index"] == before["index"].reindex(found.index)).all()
    assert len(found) == len(cohort.frame)
    c = json.loads((root / "applied/again/metrics.json").read_text())["performance"]["c_index"]
    assert c["n"] == (before["part"] != "training").sum()
