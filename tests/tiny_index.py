"""Rows of an index without files behind them, and their curation: for facts that small DICOM files need not have."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tiny_dicom
from polycentric import tables
from polycentric.config.curation import CurationSettings
from polycentric.curation import curate
from polycentric.curation.candidates import Candidate
from polycentric.curation.curate import find, slices_of
from polycentric.curation.frames import load
from polycentric.curation.headers import patients_by_path
from polycentric.jobs import SILENT
from polycentric.tables.private import FILES, INDEX
from polycentric.tables.schemas import CURATION

SALT = b"s" * 32
MR, PET = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED = {
    "CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1", "PT": "1.2.840.10008.5.1.4.1.1.130"
}  # fmt: skip


def slices(count: int = 12, *, name: str = "a", spacing: float = 3.0, **columns: object) -> pd.DataFrame:
    """Axial CT slices as the index would have them; a column may be given as one value or as one per slice."""
    frame = pd.DataFrame({column: [None] * count for column in INDEX.columns})
    numbers = np.arange(count)
    facts: dict[str, object] = {
        "centre": "north", "path": [f"{name}/{n:04d}.dcm" for n in numbers], "size": 2000, "mtime_ns": 1,
        "reading": "ok", "transfer_syntax": "1.2.840.10008.1.2.1", "sop_class": tiny_dicom.CT,
        "sop_instance": [tiny_dicom.uid(name, n) for n in numbers], "modality": "CT", "patient_id": tiny_dicom.PATIENT,
        "study_uid": tiny_dicom.uid("study"), "series_uid": tiny_dicom.uid(name, "series"),
        "frame_uid": tiny_dicom.uid(name, "frame"), "study_date": "20200101", "image_type": "ORIGINAL\\PRIMARY\\AXIAL",
        "series_number": "1", "instance_number": numbers + 1.0, "acquisition_number": "1", "rows": 24, "columns": 32,
        "samples": 1, "bits_allocated": 16, "bits_stored": 16, "signed": 0, "photometric": "MONOCHROME2",
        "position_x_mm": -50.5, "position_y_mm": -40.25, "position_z_mm": 100.0 + spacing * numbers,
        "orientation": "1.0 0.0 0.0 0.0 1.0 0.0", "pixel_spacing_x_mm": 0.8, "pixel_spacing_y_mm": 0.8,
        "thickness_mm": spacing, "slope": 1.0, "intercept": -1024.0, "manufacturer": "ACME", "kernel": "B30f",
        "kvp": 120.0, "truncated": False, "contrast_tagged": False,
    }  # fmt: skip
    for column, value in (facts | columns).items():
        frame[column] = value
    return INDEX.check(frame, "index")


def magnetic(count: int = 12, **columns: object) -> pd.DataFrame:
    facts = {"modality": "MR", "sop_class": MR, "slope": None, "intercept": None, "kernel": "", "kvp": None}
    facts |= {"echo_time_ms": 4.6, "repetition_time_ms": 110.0, "field_t": 1.5}
    return slices(count, **(facts | columns))


def multiframe(frames: Sequence[dict[str, object]], *, modality: str = "CT", **columns: object) -> pd.DataFrame:
    """One file of several frames; `frames` says what differs from axial planes 3 mm apart."""
    shared = {
        "orientation": "1.0 0.0 0.0 0.0 1.0 0.0", "spacing": [0.8, 0.8], "thickness": 3.0, "slope": 1.0,
        "intercept": -1024.0, "stack": "1", "temporal": "", "echo_time": None, "b_value": None, "acquisition_time": "",
        "type": "ORIGINAL\\PRIMARY\\AXIAL", "view": "",
    }  # fmt: skip
    facts = [{**shared, "position": [-50.5, -40.25, 100.0 + 3.0 * n], **frame} for n, frame in enumerate(frames)]
    nowhere = {f"position_{a}_mm": None for a in "xyz"} | {"orientation": "", "pixel_spacing_x_mm": None}
    nowhere |= {"pixel_spacing_y_mm": None, "frames": len(frames), "frame_facts": json.dumps(facts)}
    kind = {"modality": modality, "sop_class": ENHANCED[modality]}
    return slices(1, **(nowhere | kind | columns))


def curated(*parts: pd.DataFrame, **settings: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables CURATION and FILES of a centre whose index holds these rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = pd.concat([p.astype(object) for p in parts], ignore_index=True)
        rows["path"] = [f"{n:05d}/{path}" for n, path in enumerate(rows["path"])]
        tables.write(rows, folder / "index.parquet", INDEX)
        curate(
            "north", folder / "index.parquet", settings=CurationSettings(**settings), salt=SALT,
            curation=folder / "curation.parquet", files=folder / "files.parquet", log=SILENT,
        )  # fmt: skip
        files = tables.read(folder / "files.parquet", FILES)
        assert set(files["path"]) == set(rows["path"])
        return tables.read(folder / "curation.parquet", CURATION), files


def candidates(*parts: pd.DataFrame, **settings: object) -> list[Candidate]:
    """Candidates of a centre whose index holds these rows, without writing tables of results."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "index.parquet"
        tables.write(pd.concat([p.astype(object) for p in parts], ignore_index=True), path, INDEX)
        return find(slices_of(patients_by_path(load(path), None)), CurationSettings(**settings))


def one(*parts: pd.DataFrame, **settings: object) -> tuple[pd.Series, pd.DataFrame]:
    rows, files = curated(*parts, **settings)
    assert len(rows) == 1, rows[["codes", "slices"]]
    return rows.iloc[0], files
