"""Curation of real exports: expected verdicts and codes, of the whole way from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from polycentric import tables
from polycentric.config.curation import CurationSettings
from polycentric.curation import curate
from polycentric.index import build
from polycentric.jobs import SILENT
from polycentric.tables.private import FILES, INDEX
from polycentric.tables.schemas import CURATION

pytestmark = pytest.mark.realdata


def run(folder: Path, out: Path, **settings: object) -> pd.DataFrame:
    """Candidates with the folder of their first file; every file of the index has its row."""
    build("x", folder, output=out / "index.parquet", log=SILENT)
    curate(
        "x", out / "index.parquet", settings=CurationSettings(**settings), salt=b"s" * 32,
        curation=out / "curation.parquet", files=out / "files.parquet", log=SILENT,
    )  # fmt: skip
    files = tables.read(out / "files.parquet", FILES)
    assert set(files["path"]) == set(tables.read(out / "index.parquet", INDEX)["path"])
    rows = tables.read(out / "curation.parquet", CURATION)
    where = files[files["use"].isin(["slice", "rejected"])].groupby("scan")["path"].min().str.rsplit("/", n=1).str[0]
    return rows.assign(where=rows["scan"].map(where))


# each volume in the folder: verdict, codes, slices
FRAGMENTS: dict[str, list[tuple[str, str, int]]] = {
    "anatomical/001": [("accept", "", 4)],
    "failing/gantrytilting/001": [("repair", "GEOM_GANTRY_TILT;KERNEL_MISSING", 4)],
    "failing/notavolume/001": [("reject", "GEOM_SINGLE_POSITION", 4)],
    # one study in two folders
    "failing/slicecount/001": [("repair", "DUP_EXACT", 4)],
    "failing/sliceincrement/001": [("reject", "GEOM_MISSING_SLICE;KERNEL_MISSING", 4)],
    "failing/sliceincrement/002": [("reject", "GEOM_MISSING_SLICE;GEOM_GANTRY_TILT;KERNEL_MISSING", 4)],
    "failing/sliceorientation/001": [("reject", "GEOM_MATRIX_MIXED", 4)],
    "ge/anatomical/001_single_slice": [("reject", "TOO_FEW_SLICES", 1)],
    "ge/dti/001": [("reject", "DUP_POSITION_DIFF_PIXELS", 8)],
    "generic/anatomical/002_non_isotropic": [("flag", "GEOM_ANISO_PIXEL;RESCALE_VARIES", 4)],
    # five encodings of one series in five folders: four slices remain
    "generic/compressed/001": [("repair", "TS_COMPRESSED_OK;SERIES_MIXED_TS;DUP_EXACT", 4)],
    "generic/rgb/001": [("reject", "SECONDARY_CAPTURE", 4)],
    "hitachi/anatomical/001": [("accept", "", 4)],
    "hyperfine/anatomical/001": [("flag", "MULTIFRAME_ENHANCED;GEOM_ANISO_PIXEL", 8)],
    "philips/fmri/001": [("reject", "DUP_POSITION_DIFF_PIXELS", 8)],
    "philips_enhanced/anatomical/001": [("accept", "MULTIFRAME_ENHANCED", 8)],
    "philips_enhanced/fmri/001": [("repair", "MULTIFRAME_ENHANCED;SERIES_MULTI_ACQ", 8)] * 4,
    "siemens/dti_classic/001": [("repair", "SERIES_MULTI_ACQ", 4)] * 2,
    "siemens/fmri/001": [("reject", "MOSAIC", 2)],
    "siemens_multiframe/anatomical/001": [("accept", "MULTIFRAME_ENHANCED", 8)],
}


def test_scanner_fragments(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    rows = run(realdata("dicom_defects"), tmp_path, modalities=("CT", "MR"), axial_tolerance_deg=None)
    found = {
        where: sorted(zip(own["verdict"], own["codes"], own["slices"], strict=True))
        for where, own in rows.groupby("where")
    }
    assert {where: found.get(where) for where in FRAGMENTS} == FRAGMENTS


def test_fragments_of_a_sagittal_brain_are_not_axial(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    folder = realdata("dicom_defects") / "siemens/anatomical/001"
    assert run(folder, tmp_path, modalities=("MR",))["excluded"].tolist() == ["GEOM_NOT_AXIAL"]
    assert run(folder, tmp_path, preset="any-mr")["verdict"].tolist() == ["accept"]


def test_tilted_head_with_varying_distance(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    rows = run(realdata("gantry_tilt"), tmp_path)
    assert rows["excluded"].tolist() == ["GEOM_VARIABLE_SPACING"]
    codes = set(rows.loc[0, "codes"].split(";"))
    assert {"GEOM_VARIABLE_SPACING", "GEOM_GANTRY_TILT", "THICKNESS_MIXED"} <= codes
    assert "sheared by 18.5 degrees" in rows.loc[0, "reason"]
    assert "from 1.081 to 6.999 mm" in rows.loc[0, "reason"]
    # two blocks of slices in one series: repairs cannot be combined, so it stays rejected
    repair = {"verdicts": {"GEOM_VARIABLE_SPACING": "repair", "THICKNESS_MIXED": "flag"}}
    assert run(realdata("gantry_tilt"), tmp_path, **repair)["verdict"].tolist() == ["reject"]


def test_abdomen_without_patient(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    folder = realdata("chaos_ct")
    rows = run(folder, tmp_path)
    assert rows["codes"].tolist() == ["PATIENT_ID_EMPTY;THICKNESS_NE_SPACING"]
    assert rows["excluded"].tolist() == ["PATIENT_ID_EMPTY"]
    assert rows.loc[0, ["slices", "spacing_z_mm", "thickness_mm", "contrast_tag"]].tolist() == [78, 2.0, 3.2, "yes"]
    rows = run(folder, tmp_path, patient_from_path="^(Data_3D)/", preset="abdomen-ct-mr")
    assert rows["verdict"].tolist() == ["repair"]


def test_sarcomas(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    rows = run(realdata("sts"), tmp_path, modalities=("CT", "MR", "PT"))
    assert len(rows) == 18
    assert rows.groupby("modality").size().to_dict() == {"CT": 6, "MR": 6, "PT": 6}
    assert set(rows["verdict"]) == {"flag"}
    assert rows.groupby("modality")["codes"].unique().map(list).to_dict() == {
        "CT": ["RT_SOPREF_STALE"], "MR": ["RT_SOPREF_STALE"], "PT": ["RESCALE_VARIES;RT_SOPREF_STALE"],
    }  # fmt: skip
    files = tables.read(tmp_path / "files.parquet", FILES)
    assert (files.loc[(files["modality"] == "PT") & (files["use"] == "slice"), "suv_factor"] == 1.0).all()
    assert rows["patient"].nunique() == 6


def test_bone_scan(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    """Stored as secondary capture, but of type PRIMARY: an acquisition; no position, and none is wanted."""
    rows = run(realdata("bone_scan"), tmp_path, preset="nm")
    assert rows[["verdict", "codes", "slices"]].values.tolist() == [
        ["flag", "TS_COMPRESSED_OK;TS_LOSSY;SERIES_MIXED_TS", 2]
    ]
    assert run(realdata("bone_scan"), tmp_path)["excluded"].tolist() == ["MODALITY_WRONG"]


def test_phantoms(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    rows = run(realdata("ibsi"), tmp_path, modalities=("CT", "MR"), axial_tolerance_deg=None)
    assert rows.groupby("modality").size().to_dict() == {"CT": 10, "MR": 1}
    assert set(rows.loc[rows["modality"] == "CT", "codes"]) == {"KERNEL_MISSING"}
    enhanced = rows[rows["modality"] == "MR"].iloc[0]
    assert (enhanced["verdict"], enhanced["codes"], enhanced["slices"]) == ("accept", "MULTIFRAME_ENHANCED", 4)
    lung = rows[rows["where"].str.contains("radiomics_phantom")].iloc[0]
    assert (lung["slices"], lung["spacing_z_mm"], lung["structures"]) == (60, 3.0, 1)
