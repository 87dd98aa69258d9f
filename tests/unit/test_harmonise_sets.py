"""A harmonised feature set: training patients only, known shifts, covariates, ledger."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.config.features import HarmonisedSet
from polycentric.errors import UserError
from polycentric.harmonise import harmonise
from polycentric.tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT

NAMES = [f"f{i}" for i in range(8)]
CENTRES = ("north", "south", "east")


def cohort(root: Path, seed: int = 0, change_test: float = 0.0) -> dict[str, Path]:
    """360 patients; south measures 4 higher and twice as wide; one in four is a test patient; east is external."""
    rng = np.random.default_rng(seed)
    rows, patients, scans, split = [], [], [], []
    for n in range(360):
        centre = CENTRES[n % 3]
        part = "external" if centre == "east" else "test" if n % 4 == 3 else "training"
        patient = f"p{n:03d}"
        key = {"centre": centre, "patient": patient}
        age, values = rng.normal(60, 9), rng.normal(size=8)
        measured = 10 + 0.1 * (age - 60) + values
        if centre == "south":
            measured = measured + 4 + values
        if part == "test":
            measured = measured + change_test
        keys = key | {"session": "s", "scan": f"scan{n:03d}"}
        row = keys | {"set": "mixed", "view": "ct", "source": "manual", "roi": "tumour", "fold": "main"}
        row |= {"status": "ok", "reason": "", "diagnostics": "{}"} | {f"f{i}": v for i, v in enumerate(measured)}
        if n == 5:
            row |= {"status": "rejected", "reason": "ROI_EMPTY: the mask has no voxel"} | {
                f"f{i}": np.nan for i in range(8)
            }
        rows.append(row)
        role = "external" if centre == "east" else "development"
        patients.append(key | {"role": role, "scans": 1, "clinical": True, "age": age, "sex": "mf"[n % 2]})
        split.append(key | {"part": part, "stratum": ""})
        scan = dict.fromkeys(SCANS.columns) | keys | {"role": role, "shard": f"{centre}-0", "modality": "CT"}
        scans.append(scan | {"contrast": "no", "verdict": "accept", "manufacturer": centre.upper()})
    paths = {n: root / f"{n}.tsv" for n in ("patients", "scans", "split")} | {"features": root / "features.parquet"}
    tables.write(pd.DataFrame(rows), paths["features"], FEATURES)
    tables.write(pd.DataFrame(patients), paths["patients"], PATIENTS)
    tables.write(pd.DataFrame(scans), paths["scans"], SCANS)
    tables.write(pd.DataFrame(split), paths["split"], SPLIT)
    return paths


def run(root: Path, paths: dict[str, Path], upstream=(), **changes) -> pd.DataFrame:
    settings = HarmonisedSet.model_validate(
        {"kind": "harmonised", "of": "mixed", "split": "main", "covariates": ["age", "sex"], "unseen": "identity"}
        | changes
    )
    harmonise(
        "combat", settings, **paths, output=root / "out.parquet", model=root / "model.json",
        ledger=root / "ledger.json", upstream=upstream,
    )  # fmt: skip
    return tables.read(root / "out.parquet", FEATURES)


def test_centres_are_aligned_and_external_rows_stay(tmp_path):
    paths = cohort(tmp_path)
    before, after = tables.read(paths["features"], FEATURES), run(tmp_path, paths)
    assert after["set"].unique().tolist() == ["combat"]
    external = before["centre"].eq("east")
    pd.testing.assert_frame_equal(after.loc[external, NAMES], before.loc[external, NAMES])
    for frame, low, high in ((before, 3.3, 4.7), (after, -0.7, 0.7)):
        test = frame[frame["patient"].isin([f"p{n:03d}" for n in range(360) if n % 4 == 3])]
        difference = test[test["centre"].eq("south")][NAMES].mean() - test[test["centre"].eq("north")][NAMES].mean()
        assert low < difference.mean() < high
    rejected = after[after["status"].eq("rejected")]
    assert rejected["reason"].tolist() == ["ROI_EMPTY: the mask has no voxel"]
    assert rejected[NAMES].isna().all(axis=None)


def test_test_patients_change_nothing_but_their_own_rows(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    a = run(one, cohort(one))
    b = run(other, cohort(other, change_test=100.0))
    assert (one / "model.json").read_bytes() == (other / "model.json").read_bytes()
    training = a["patient"].isin([f"p{n:03d}" for n in range(360) if n % 4 != 3])
    pd.testing.assert_frame_equal(a[training], b[training])


def test_ledger_names_the_training_patients(tmp_path):
    paths = cohort(tmp_path)
    run(tmp_path, paths)
    seen = ledger.read(tmp_path / "ledger.json")["seen"]
    expected = [f"p{n:03d}" for n in range(360) if n % 3 != 2 and n % 4 != 3]
    assert seen == {"training": expected}
    assert {*json.loads((tmp_path / "model.json").read_text())["rois"]} == {"tumour"}

    # a generator upstream that has seen a training patient is a leak
    first = tmp_path / "generator.json"
    seen = {"training": [expected[0]]}
    ledger.write(first, name="generator", stage="synthesis", split="s", seen=seen, settings="", code="")
    with pytest.raises(UserError, match="generator"):
        run(tmp_path, paths, upstream=[first])
    # a scaler of the images that was fitted on the training part of the same split is a part of the chain
    for split, allowed in (("main", True), ("other", False)):
        ledger.write(first, name="scaler", stage="prepare", split=split, seen=seen, settings="", code="")
        if allowed:
            run(tmp_path, paths, upstream=[first])
        else:
            with pytest.raises(UserError, match="scaler"):
                run(tmp_path, paths, upstream=[first])


def test_batches_from_scans_equal_those_from_centres(tmp_path):
    paths = cohort(tmp_path)
    pd.testing.assert_frame_equal(run(tmp_path, paths), run(tmp_path, paths, batch="manufacturer"))


def test_normal_scores_leave_no_floor_behind(tmp_path):
    """Skewed features whose floor is 0 in every centre: as they are, the floors come apart; as scores they do not."""
    paths = cohort(tmp_path)
    frame = tables.read(paths["features"], FEATURES)
    rng = np.random.default_rng(2)
    factor = np.where(frame["centre"].eq("south"), 3.0, 1.0)[:, None]
    frame[NAMES] = rng.lognormal(0, 1.5, size=(len(frame), 8)) * factor
    tables.write(frame, paths["features"], FEATURES)
    floors = {}
    for scale in ("original", "normal-scores"):
        after = run(tmp_path, paths, scale=scale, covariates=[])
        values = {c: after.loc[after["centre"].eq(c), NAMES] for c in ("north", "south")}
        floors[scale] = np.abs(values["north"].quantile(0.02) - values["south"].quantile(0.02)).mean()
        floors[scale] /= pd.concat(values.values()).std().mean()
        difference = values["north"].mean() - values["south"].mean()
        assert np.abs(difference / pd.concat(values.values()).std()).mean() < 0.2
    scores = after.loc[after["centre"].ne("east"), NAMES]
    assert np.abs(scores.skew()).max() < 0.5  # normal, whatever the feature was
    assert floors["normal-scores"] < 0.5
    assert floors["original"] < 0.2  # a shared factor is what ComBat's scale removes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unseen": "error"}, "batch east has no training rows"),
        ({"batch": "colour"}, "no column 'colour'"),
        ({"covariates": ["weight"]}, "no column 'weight'"),
        ({"reference": "west"}, "no training rows"),
    ],
)
def test_mistakes_are_told(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, cohort(tmp_path), **changes)
