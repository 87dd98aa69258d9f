"""A finished simulated study against the truth that was planted, and against identities that must stay inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from polycentric import tables, volumes
from polycentric.tables.private import PSEUDONYMS
from polycentric.tables.schemas import FEATURES, FLOW, MASKS, PATIENTS, SCANS, VOLUMES
from polycentric.tables.simulate import TRUTH

pytestmark = pytest.mark.study
SHARDS = ("north-0", "south-0")


@pytest.fixture(scope="module")
def root(finished: Path) -> Path:
    return finished / "results" / "smoke"


@pytest.fixture(scope="module")
def truth(finished: Path, root: Path) -> pd.DataFrame:
    """The truth by pseudonym."""
    names = tables.read(finished / "private" / "smoke" / "pseudonyms.tsv", PSEUDONYMS)
    names = names[names["kind"] == "patient"].rename(columns={"original": "patient_id", "pseudonym": "patient"})
    frame = tables.read(root / "simulated" / "truth.parquet", TRUTH)
    return frame.merge(names[["centre", "patient_id", "patient"]], on=["centre", "patient_id"]).set_index("patient")


def test_every_planted_scan_and_contour_came_through(root: Path, truth: pd.DataFrame) -> None:
    patients = tables.read(root / "cohort" / "patients.tsv", PATIENTS).set_index("patient")
    assert patients["scans"].reindex(truth.index).tolist() == truth["scans_expected"].tolist()
    masks = tables.read_all([root / "masks" / "manual" / "main" / f"{s}.tsv" for s in SHARDS], MASKS)
    found = masks[masks["status"] == "ok"]["patient"].value_counts().reindex(truth.index).fillna(0)
    assert found.tolist() == truth["masks_expected"].tolist()


def test_volumes_of_the_contours_are_the_planted_ones(root: Path, truth: pd.DataFrame) -> None:
    masks = tables.read_all([root / "masks" / "manual" / "main" / f"{s}.tsv" for s in SHARDS], MASKS)
    masks = masks[masks["status"] == "ok"].set_index("patient")
    planted = truth["volume_ml"].reindex(masks.index)
    # slices of 6 mm through tumours of 30 to 60 mm: the sum of discs is within a few percent of the solid
    assert (masks["contour_volume_ml"] / planted - 1).abs().max() < 0.08
    assert (masks["volume_ml"] / masks["contour_volume_ml"] - 1).abs().max() < 0.08


def test_blood_has_the_planted_attenuation(root: Path, truth: pd.DataFrame) -> None:
    """The brightest large compartment inside the body but for bone: contrast patients stand out by what was planted."""
    rows = tables.read_all([root / "volumes" / f"{s}.tsv" for s in SHARDS], VOLUMES).set_index("patient")
    bright = {}
    for patient, row in rows.iterrows():
        array = volumes.read(root / row["path"], row).array
        middle = array[array.shape[0] // 4 : -array.shape[0] // 4]
        bright[patient] = np.percentile(middle[middle > -50], 90)
    contrast = truth["contrast"] == "yes"
    values = pd.Series(bright).reindex(truth.index)
    assert values[contrast].min() > values[~contrast].max() + 50


def test_contrast_and_flow_are_those_of_the_truth(root: Path, truth: pd.DataFrame) -> None:
    scans = tables.read(root / "cohort" / "scans.tsv", SCANS).set_index("patient")
    assert scans["contrast"].tolist() == truth["contrast"].reindex(scans.index).tolist()
    flow = tables.read(root / "cohort" / "flow.tsv", FLOW)
    accepted = flow[flow["box"] == "accepted"].set_index("centre")["scans"]
    assert accepted.to_dict() == truth.groupby("centre")["scans_expected"].sum().to_dict()


def test_no_identity_leaves_the_private_folder(finished: Path, root: Path) -> None:
    secrets: set[str] = set()
    for path in sorted((root / "simulated").rglob("*")):
        if path.is_file() and path.suffix not in (".csv", ".tsv", ".parquet", ".json"):
            try:
                data = pydicom.dcmread(path, stop_before_pixels=True)
            except pydicom.errors.InvalidDicomError:
                continue
            for key in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                secrets.add(str(data.get(key, "")))
    secrets = {s for s in secrets if len(s) > 5}
    assert len(secrets) > 20
    checked = 0
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if inside.parts[0] == "simulated":
            continue
        assert not any(secret in inside.as_posix() for secret in secrets), inside
        if path.is_file():
            content = path.read_bytes()
            leaked = [secret for secret in secrets if secret.encode() in content]
            assert leaked == [], f"{inside} holds {leaked}"
            checked += 1
    assert checked > 150


def test_training_saw_training_patients_only(root: Path) -> None:
    from polycentric.tables.schemas import SPLIT

    split = tables.read(root / "cohort" / "splits" / "images.tsv", SPLIT).set_index("patient")["part"]
    for model in ("decontrast", "unet"):
        ledger = json.loads((root / "models" / model / "main" / "ledger.json").read_text())
        seen = {patient for patients in ledger["seen"].values() for patient in patients}
        assert seen
        assert set(split.reindex(sorted(seen))) == {"training"}


def test_analyses_read_the_feature_sets_that_they_name(root: Path) -> None:
    metrics = json.loads((root / "analyses" / "survival" / "metrics.json").read_text())
    # every model is compared with the one that the study file names first
    assert {c["second"]["model"] for c in metrics["comparisons"]} == {"clinical"}
    mixed = tables.read(root / "features" / "mixed.parquet", FEATURES)
    other = tables.read(root / "features" / "homogeneous.parquet", FEATURES)
    assert set(mixed["set"]) == {"mixed"}
    assert set(other["set"]) == {"homogeneous"}
    # the generator changed the images, so their features differ; shape comes from the same masks
    assert not mixed["original_firstorder_Mean"].equals(other["original_firstorder_Mean"])
    assert mixed["original_shape_MeshVolume"].equals(other["original_shape_MeshVolume"])


def test_audit_finds_a_changed_and_a_lost_file(project: Path) -> None:
    import graph

    study = ("--configfile", "config/studies/smoke.yaml")
    graph.snakemake(project, "audit", *study)
    files = sorted((project / "results" / "smoke" / "volumes" / "north-0").glob("*.nii"))
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"\x01")
    files[1].unlink()
    done = graph.snakemake(project, "audit", *study, check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"changed: volumes/north-0/{files[0].name}" in text
    assert f"lost: volumes/north-0/{files[1].name}" in text


def test_snakemake_writes_its_own_report(project: Path) -> None:
    import graph

    graph.snakemake(project, "--configfile", "config/studies/smoke.yaml", "--report", "report.zip")
    assert (project / "report.zip").stat().st_size > 500_000
