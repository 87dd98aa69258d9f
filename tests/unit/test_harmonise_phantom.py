"""The phantom route: which features stay, and patients moved by what phantoms measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.config.features import HarmonisedSet
from polycentric.config.harmonise import HarmonisationAnalysis
from polycentric.errors import UserError
from polycentric.harmonise import harmonise
from polycentric.harmonise.analysis import analyse
from polycentric.tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT

# what a kernel does to each feature, and how far repeats differ (SD of the phantoms' inserts: 1)
STEADY = [f"steady{i}" for i in range(4)]  # the same with both kernels
SHIFTED = [f"shifted{i}" for i in range(12)]  # kernel C: 1 + 2 x
ERRATIC = ["erratic"]  # kernel C measures something else, repeatably
NOISY = ["noisy"]  # no repeat is like another
NAMES = STEADY + SHIFTED + ERRATIC + NOISY


def measure(rng: np.random.Generator, truth: np.ndarray, other: float, kernel: str) -> dict[str, float]:
    values = dict(zip(STEADY + SHIFTED, truth, strict=True)) | {"erratic": truth[0], "noisy": rng.normal()}
    if kernel == "C":
        values |= {n: 1 + 2 * values[n] for n in SHIFTED} | {"erratic": other}
    return {n: values[n] + 0.05 * rng.normal() for n in NAMES}


def cohort(root: Path, *, phantoms_in_split: bool = False) -> dict[str, Path]:
    """12 inserts of a phantom, twice with each kernel; 200 patients, the kernel tells nothing about them."""
    rng = np.random.default_rng(5)
    rows, patients, scans, split = [], [], [], []

    def add(patient: str, scan: str, roi: str, kernel: str, values: dict[str, float], part: str | None, visit: str):
        key = {"centre": "north", "patient": patient, "session": visit, "scan": scan}
        if not any(s["scan"] == scan for s in scans):
            record = dict.fromkeys(SCANS.columns) | key | {"role": "development", "shard": "north-0", "modality": "CT"}
            scans.append(record | {"contrast": "no", "verdict": "accept", "kernel": kernel})
        if not any(p["patient"] == patient for p in patients):
            phantom = "yes" if part is None else "no"
            patients.append({"centre": "north", "patient": patient, "role": "development", "scans": 1,
                             "clinical": True, "phantom": phantom})  # fmt: skip
            if part or phantoms_in_split:
                split.append({"centre": "north", "patient": patient, "part": part or "test", "stratum": ""})
        rows.append(key | {"set": "ct", "view": "ct", "source": "manual", "roi": roi, "fold": "main", "status": "ok",
                           "reason": "", "diagnostics": "{}"} | values)  # fmt: skip

    for insert in range(12):
        truth, other = rng.normal(size=16), rng.normal()
        for kernel in "BC":
            for repeat in "12":
                add("phantom", f"phantom-{kernel}-{repeat}", f"insert-{insert}", kernel,
                    measure(rng, truth, other, kernel), None, repeat)  # fmt: skip
    for n in range(200):
        kernel = "BC"[n % 2]
        # patients lie elsewhere than the phantom: their features are around 3
        values = measure(rng, rng.normal(3, 1, size=16), rng.normal(3, 1), kernel)
        add(f"p{n:03d}", f"scan-{n:03d}", "tumour", kernel, values, "training" if n % 4 else "test", "1")
    paths = {n: root / f"{n}.tsv" for n in ("patients", "scans", "split")} | {"features": root / "features.parquet"}
    for name, frame, schema in (("features", rows, FEATURES), ("patients", patients, PATIENTS), ("scans", scans, SCANS),
                                ("split", split, SPLIT)):  # fmt: skip
        tables.write(pd.DataFrame(frame), paths[name], schema)
    return paths


def run(root: Path, paths: dict[str, Path], **changes) -> tuple[pd.DataFrame, dict]:
    settings = HarmonisedSet.model_validate(
        {"kind": "harmonised", "of": "ct", "split": "main", "fit": "phantom", "batch": "kernel",
         "phantom": {"where": "phantom == 'yes'"}, "reference": "B"} | changes
    )  # fmt: skip
    harmonise("combat", settings, **paths, output=root / "out.parquet", model=root / "model.json",
              ledger=root / "ledger.json")  # fmt: skip
    return tables.read(root / "out.parquet", FEATURES), json.loads((root / "model.json").read_text())


def test_fates_and_patients(tmp_path):
    paths = cohort(tmp_path)
    after, model = run(tmp_path, paths)
    fates = dict(zip(model["phantom"]["features"]["feature"], model["phantom"]["features"]["fate"], strict=True))
    assert {n: fates[n] for n in STEADY} == dict.fromkeys(STEADY, "concordant")
    assert {n: fates[n] for n in SHIFTED} == dict.fromkeys(SHIFTED, "harmonised")
    assert (fates["erratic"], fates["noisy"]) == ("not concordant", "not repeatable")
    assert sorted(model["kept"]) == sorted(STEADY + SHIFTED)
    assert {*after.columns} & {*NAMES} == {*STEADY, *SHIFTED}

    before = tables.read(paths["features"], FEATURES)
    pd.testing.assert_frame_equal(after[STEADY], before[STEADY])
    patients = before["patient"].ne("phantom")
    kernel = before["scan"].map(tables.read(paths["scans"], SCANS).set_index("scan")["kernel"])
    sharp, soft = patients & kernel.eq("C"), patients & kernel.eq("B")
    pd.testing.assert_frame_equal(after.loc[soft, SHIFTED], before.loc[soft, SHIFTED])  # the reference
    # by the phantom's location and scale, patients of kernel C come back to 3 with SD 1, before: 7 with SD 2
    assert before.loc[sharp, SHIFTED].mean().mean() == pytest.approx(7, abs=0.2)
    assert after.loc[sharp, SHIFTED].mean().mean() == pytest.approx(3, abs=0.25)
    assert after.loc[sharp, SHIFTED].std().mean() == pytest.approx(1, abs=0.1)
    judged = pd.DataFrame(model["phantom"]["features"]).set_index("feature")
    # a subject that is harmonised by the others agrees less than one that was in the fit
    shifted = judged.loc[SHIFTED]
    assert (shifted["ccc_after"] <= shifted["ccc_after_in_sample"] + 1e-9).mean() > 0.8
    assert shifted["ccc_before"].max() < 0.9 < shifted["ccc_after"].min()


def test_the_analysis_tells_the_fates(tmp_path):
    paths = cohort(tmp_path)
    run(tmp_path, paths)
    settings = HarmonisationAnalysis(
        kind="harmonisation", features=("ct", "combat"), split="main", batch="kernel", trees=5, repeats=1,
        bootstraps=20, permutations=20,
    )  # fmt: skip
    metrics = analyse(
        "fates", settings, seed=1, features={"ct": paths["features"], "combat": tmp_path / "out.parquet"},
        scans=paths["scans"], patients=paths["patients"], split=paths["split"], parameters=tmp_path / "model.json",
        ledgers=[tmp_path / "ledger.json"], root=tmp_path, folder=tmp_path / "fates",
    )  # fmt: skip
    fates = {"concordant": 4, "harmonised": 12, "not concordant": 1, "not repeatable": 1}
    assert metrics["fit"]["phantom"] == {"subjects": 12, "retests": 24, "fates": fates}
    assert "12 harmonised, 1 not concordant, 1 not repeatable." in metrics["summary"][-1]
    table = pd.read_csv(tmp_path / "fates" / "tables" / "phantom.csv").set_index("feature")
    assert table.loc[SHIFTED, "ccc_before"].max() < 0.9 < table.loc[SHIFTED, "ccc_after"].min()
    assert (tmp_path / "fates" / "figures" / "phantom.svg").is_file()


def test_ledger_names_the_phantoms_and_no_patient(tmp_path):
    run(tmp_path, cohort(tmp_path))
    assert ledger.read(tmp_path / "ledger.json")["seen"] == {"training": ["phantom"]}


def test_phantoms_that_a_split_holds_out_are_refused(tmp_path):
    with pytest.raises(UserError, match="Leave phantoms out of the split"):
        run(tmp_path, cohort(tmp_path, phantoms_in_split=True))


def test_patients_do_not_change_the_fit(tmp_path):
    _, model = run(tmp_path, paths := cohort(tmp_path))
    frame = tables.read(paths["features"], FEATURES)
    frame.loc[frame["patient"].ne("phantom"), NAMES] += 50.0
    tables.write(frame, paths["features"], FEATURES)
    _, again = run(tmp_path, paths)
    assert model == again


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phantom": {"where": "phantom == 'no'"}}, "held out"),
        ({"batch": "centre"}, "at least 3 subjects and 2 batches"),
        ({"phantom": {"where": "phantom == 'yes'", "ccc": 0.99999}}, "no feature agrees"),
    ],
)
def test_mistakes_are_told(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, cohort(tmp_path), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "patients"}, "named but not used"),
        ({"phantom": None}, "say which scans are phantoms"),
        ({"unseen": "phantom"}, "error or identity"),
        ({"covariates": ["age"]}, "phantoms have none"),
        ({"phantom": {}}, "write where"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        HarmonisedSet.model_validate(
            {"kind": "harmonised", "of": "ct", "split": "main", "fit": "phantom", "phantom": {"where": "x == 1"}}
            | changes
        )
