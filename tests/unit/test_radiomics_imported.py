"""Imported feature tables: patients, ROIs, duplicates, and the real table of Lung1."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from polycentric import tables
from polycentric.config.features import ImportedSet
from polycentric.errors import UserError
from polycentric.jobs import Log
from polycentric.radiomics import import_table
from polycentric.tables.schemas import FEATURES

TABLE = pd.DataFrame(
    {
        "id": ["B-2_ct", "A-1_ct", "A-1_mr", "C-3_ct"],
        "mask": ["GTV_mask", "GTV_mask", "GTV_mask", "node_mask"],
        "diagnostics_Mask-original_VoxelNum": [10, 20, 20, 30],
        "note": ["x", "y", "z", "w"],
        "shape_Volume": [1.5, 2.5, 2.5, 3.5],
        "glcm_Contrast": [None, 0.1, 0.2, 0.3],
    }
)


def pseudonym(value: str, centre: str = "north") -> str:
    return "P" + hashlib.sha256(f"salt {centre} {value}".encode()).hexdigest()[:8]


def by_kind(kind: str, centre: str, value: str) -> str:
    return pseudonym(value, centre) if kind == "patient" else f"{kind}-{pseudonym(value, centre)}"


def settings(**changes) -> ImportedSet:
    base = {
        "kind": "imported",
        "table": "table.csv",
        "centre": "north",
        "columns": {"patient": "id", "roi": "mask"},
        "patient_pattern": r"^(\w-\d)_",
        "roi_pattern": "^(.+)_mask$",
        "drop": ["diagnostics_*", "note"],
        "duplicates": "first",
    }
    return ImportedSet.model_validate(base | changes)


def imported(tmp_path: Path, table: pd.DataFrame = TABLE, suffix: str = ".csv", **changes) -> pd.DataFrame:
    path = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_parquet(path)
    output = tmp_path / "features.parquet"
    import_table("theirs", settings(**changes), files=[path], identify=by_kind, output=output)
    return tables.read(output, FEATURES)


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_rows(tmp_path, suffix):
    frame = imported(tmp_path, suffix=suffix).set_index("scan")
    assert len(frame) == 4
    a, b = (frame.loc[f"imported-{pseudonym(p)}"] for p in ("A-1", "B-2"))
    assert (a["roi"], a["status"], a["shape_Volume"], a["glcm_Contrast"]) == ("GTV", "ok", 2.5, 0.1)
    assert pd.isna(b["glcm_Contrast"])
    assert json.loads(b["diagnostics"]) == {"diagnostics_Mask-original_VoxelNum": 10}
    second = frame.loc[f"imported-{pseudonym('A-1')}-2"]
    assert second["status"] == "rejected"
    assert second["reason"].startswith("FEATURE_ROW_DUPLICATE: row 2 of this patient and ROI, 1 of 2 features differ")
    assert "note" not in frame.columns


def test_selection_of_rois(tmp_path):
    assert imported(tmp_path, rois=["node"])["roi"].tolist() == ["node"]


def test_no_identifier_is_left(tmp_path):
    stream = io.StringIO()
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    output = tmp_path / "o.parquet"
    log = Log(stream)
    import_table("theirs", settings(), files=[tmp_path / "t.csv"], identify=by_kind, output=output, log=log)
    text = tables.read(output, FEATURES).to_csv() + stream.getvalue()
    assert not any(p in text for p in ("A-1", "B-2", "C-3"))
    assert '"other_rois": 0' in stream.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duplicates": "error"}, "duplicates: first"),
        ({"columns": {"patient": "Patient", "roi": "mask"}}, "no column"),
        ({"drop": ["diagnostics_*"]}, "hold text"),
        ({"rois": ["GTV-9"]}, "not in the table"),
        ({"patient_pattern": r"^X(\d)"}, "does not match column .id. in rows 2, 3, 4, 5"),
    ],
)
def test_mistakes_are_told(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        imported(tmp_path, **changes)


@pytest.mark.realdata
def test_lung1_table(realdata, tmp_path):
    chosen = ImportedSet.model_validate(
        {
            "kind": "imported",
            "table": "pyradiomics_features.xlsx",
            "centre": "lung1",
            "columns": {"patient": "Patient", "roi": "ROI"},
            "patient_pattern": r"^(LUNG1-\d{3})_",
            "roi_pattern": "^(.+)_mask$",
            "rois": ["GTV-1"],
            "duplicates": "first",
        }
    )
    output = tmp_path / "authors.parquet"
    table = realdata("lung1") / "pyradiomics_features.xlsx"
    import_table("authors", chosen, files=[table], identify=by_kind, output=output)
    frame = tables.read(output, FEATURES)
    ok = frame[frame["status"].eq("ok")]
    assert len(ok) == ok["patient"].nunique() == 145
    twice = frame[frame["status"].eq("rejected")]
    assert {*twice["patient"]} == {pseudonym("LUNG1-002", "lung1"), pseudonym("LUNG1-003", "lung1")}
    assert twice["reason"].str.contains("with equal values").all()
    assert sum(c.startswith(("original_", "log-", "wavelet-")) for c in frame.columns) == 1218
    first = ok.set_index("patient").loc[pseudonym("LUNG1-001", "lung1")]
    assert json.loads(first["diagnostics"])["diagnostics_Mask-original_VoxelNum"] == 54449
    assert first["original_shape_VoxelVolume"] == 155517
