"""Single scans for tests of conversion: slices of any type, and the rows of the table of files that name them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import tiny_dicom
from polycentric import tables, volumes
from polycentric.config.curation import ConvertSettings
from polycentric.convert.volume import write_volumes
from polycentric.files import hash_of
from polycentric.jobs import Log
from polycentric.tables.private import FILES
from polycentric.volumes import Geometry
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless


def make(
    array: np.ndarray, *, bits: int | None = None, syntax: str = ExplicitVRLittleEndian, **tags: object
) -> FileDataset:
    """A slice, or several frames, of any integer type."""
    data = tiny_dicom.series(1, rows=array.shape[-2], columns=array.shape[-1])[0]
    data.BitsAllocated = 8 * array.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(array.dtype.kind == "i")
    if array.ndim == 3:
        data.NumberOfFrames = len(array)
    for key, value in tags.items():
        setattr(data, key, value)
    data.PixelData = array.tobytes()
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        data.compress(syntax, generate_instance_uid=False)
    else:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = array.astype(array.dtype.newbyteorder(">")).tobytes()
            if array.dtype.itemsize == 1:  # words of two bytes
                data.PixelData = array.reshape(-1).view(np.uint16).byteswap().tobytes()
            data["PixelData"].VR = "OW"
    return data


def save(data: FileDataset, path: Path) -> Path:
    fresh = pydicom.Dataset()  # without an encoding of its own, so that any can be written
    fresh.update(data)
    fresh.file_meta = data.file_meta
    fresh.save_as(path, enforce_file_format=True)
    return path


def scan(
    folder: Path, planes: list[dict], geometry: Geometry, modality: str = "CT", verdicts: dict | None = None, **options
) -> tuple[dict, volumes.Volume | None]:
    """The row and the volume of one scan whose files are given as rows of the table of files."""
    used = pd.DataFrame(
        [
            {"centre": "north", "use": "slice", "scan": "s", "order": n, "reading": "ok", "size": 1, "sop_instance": ""}
            | geometry.columns()
            | row
            for n, row in enumerate(planes)
        ]
    ).reindex(columns=list(FILES.columns))
    tables.write(used.astype(object).where(used.notna(), None), folder / "files.parquet", FILES)
    used = tables.read(folder / "files.parquet", FILES)
    row = dict.fromkeys(("centre", "patient", "session"), "x") | {
        "scan": "s", "modality": modality, "files_sha256": hash_of([r["path"] for r in planes])
    }  # fmt: skip
    out = folder / "out"
    made = write_volumes(
        [row], used, folder, out / "s.tsv", settings=ConvertSettings(**options), verdicts=verdicts or {}, root=out,
        shard="a", settings_json=json.dumps([verdicts, options]), code="", log=Log(), workers=1,
    )[0]  # fmt: skip
    return made, volumes.read(out / made["path"]) if made["status"] == "ok" else None


def slices(folder: Path, array: np.ndarray, name: str = "", **tags: object) -> list[dict]:
    """Save each plane of a stack; rows of the table of files."""
    rows = []
    for number, plane in enumerate(array):
        path = save(make(plane, **tags), folder / f"{name}{number:03d}.dcm")
        rows.append({"path": path.name, "slope": 1.0, "intercept": 0.0})
    return rows
