"""Agreement on planted differences."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.agreement import analyse
from polycentric.agreement.compare import relative_difference
from polycentric.config.agreement import FeatureAgreementAnalysis
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.tables.schemas import ARTEFACTS, FEATURES, MASKS

# four features a class; ours = theirs x (1 + planted)
PLANTED = {
    "original_shape_MeshVolume": 0.0,
    "original_shape_Sphericity": 0.004,
    "original_glcm_Contrast": 0.02,
    "log-sigma-1-0-mm-3D_glcm_Contrast": -0.03,
    "log-sigma-1-0-mm-3D_firstorder_Mean": 0.2,
}


def table(path: Path, name: str, patients: list[str], factor: dict[str, float], voxels: int) -> None:
    rows = []
    for patient in patients:
        row = {"centre": "c", "patient": patient, "session": "s", "scan": f"{name}-{patient}", "set": name, "view": ""}
        row |= {"source": "", "roi": "GTV-1", "fold": "main", "status": "ok", "reason": ""}
        facts = {"diagnostics_Mask-original_VoxelNum": voxels, "diagnostics_Versions_PyRadiomics": name}
        row["diagnostics"] = json.dumps(facts)
        rows.append(row | {f: (ord(patient) - 90.0) * (1 + x) for f, x in factor.items()} | {f"only_in_{name}": 1.0})
    tables.write(pd.DataFrame(rows), path, FEATURES)


def run(root: Path, known: Path | None = None) -> Path:
    table(root / "ours.parquet", "ours", ["a", "b"], PLANTED, 1000)
    table(root / "theirs.parquet", "theirs", ["b", "a", "z"], dict.fromkeys(PLANTED, 0.0), 990)
    rows = []
    for patient, volume in (("a", 100.2), ("b", 50.5)):
        row = dict.fromkeys(MASKS.columns) | {
            "centre": "c",
            "patient": patient,
            "session": "s",
            "scan": f"ours-{patient}",
        }
        row |= {"source": "manual", "fold": "main", "roi": "GTV-1", "status": "ok", "reason": "", "codes": ""}
        rows.append(row | {"path": "x", "sha256": "y", "volume_ml": volume, "contour_volume_ml": volume * 1.001})
    tables.write(rows, root / "masks.tsv", MASKS)
    folder = root / "analyses" / "agreement"
    analyse(
        "agreement",
        FeatureAgreementAnalysis(kind="feature-agreement", features=("ours", "theirs")),
        features={"ours": root / "ours.parquet", "theirs": root / "theirs.parquet"},
        masks=[root / "masks.tsv"],
        known_volumes=known,
        pseudonym=lambda centre, patient: patient.lower(),
        root=root,
        folder=folder,
    )
    return folder


def test_planted_differences_are_counted(tmp_path):
    folder = run(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["all"]["within_0.01"]["count"] == 4
    assert metrics["all"]["within_0.05"]["count"] == 8
    assert metrics["all"]["within_0.05"]["n"] == 10
    assert {k: v["within_0.01"]["value"] for k, v in metrics["patients"].items()} == {"a GTV-1": 0.4, "b GTV-1": 0.4}
    classes = pd.read_csv(folder / "tables" / "classes.csv").set_index("class")
    assert classes["within_0.01"].to_dict() == {"firstorder": 0, "glcm": 0, "shape": 4}
    assert classes["within_0.05"].to_dict() == {"firstorder": 0, "glcm": 4, "shape": 4}
    everything = pd.read_csv(folder / "tables" / "features.csv")
    for name, planted in PLANTED.items():
        found = everything[everything["feature"].eq(name)]["relative_difference"]
        np.testing.assert_allclose(found, abs(planted), atol=1e-12)
    curve = pd.read_csv(folder / "figures" / "summary.csv")
    at = curve[curve["class"].eq("all") & curve["relative_difference"].between(0.0099, 0.0101)]
    assert at["share_percent"].tolist() == [40.0]


def test_differences_are_explained_by_what_was_measured(tmp_path):
    table_ = pd.read_csv(run(tmp_path) / "tables" / "explanation.csv")
    for patient in "ab":
        rows = table_[table_["patient"].eq(patient)].set_index("statement")["value"]
        assert rows["voxels of the mask on the scan's grid: 1000 ours, 990 theirs; difference"] == 10
        assert rows["explained by: rasterisation; features"] == 3
    assert "PyRadiomics: ours ours, theirs theirs" in table_["statement"].tolist()


def test_volumes(tmp_path):
    known = tmp_path / "known.csv"
    rows = ["A,GTV-1,100,analytic", "B,GTV-1,50,analytic", "A,GTV-1,90,published", "Q,GTV-1,1,analytic"]
    known.write_text("\n".join(["patient_id,roi,volume_ml,source", *rows]))
    volumes = pd.read_csv(run(tmp_path, known) / "tables" / "volumes.csv")
    assert volumes["patient"].tolist() == ["a", "a", "b"]
    np.testing.assert_allclose(volumes["mask_difference"], [0.002, 100.2 / 90 - 1, 0.01], rtol=1e-9)
    assert volumes["acceptable"].astype("string").fillna("").tolist() == ["True", "", "False"]


def test_artefacts_are_declared_and_stable(tmp_path):
    folder = run(tmp_path / "one")
    again = run(tmp_path / "two")
    manifest = tables.read(folder / "manifest.tsv", ARTEFACTS)
    assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} >= {
        Path("metrics.json"), Path("ledger.json"), Path("figures/summary.svg"), Path("tables/features.csv")
    }  # fmt: skip
    for row in manifest.to_dict("records"):
        assert sha256_file(tmp_path / "one" / row["path"]) == row["sha256"]
        assert (tmp_path / "two" / row["path"]).read_bytes() == (tmp_path / "one" / row["path"]).read_bytes()
    assert (folder / "metrics.json").read_bytes() == (again / "metrics.json").read_bytes()
    assert ET.parse(folder / "figures" / "summary.svg").getroot().tag.endswith("svg")


def test_nothing_in_common(tmp_path):
    run(tmp_path)
    table(tmp_path / "theirs.parquet", "theirs", ["x"], PLANTED, 1)
    settings = FeatureAgreementAnalysis(kind="feature-agreement", features=("ours", "theirs"))
    with pytest.raises(UserError, match="in common"):
        analyse(
            "agreement", settings, features={n: tmp_path / f"{n}.parquet" for n in ("ours", "theirs")},
            masks=[tmp_path / "masks.tsv"], known_volumes=None, pseudonym=max, root=tmp_path, folder=tmp_path / "a",
        )  # fmt: skip


def test_relative_difference():
    ours, theirs = np.array([0.0, 1.0, -2.0, 3.0]), np.array([0.0, 0.0, -1.0, 4.0])
    assert relative_difference(ours, theirs).tolist() == [0.0, np.inf, 1.0, 0.25]
