"""Tables of one shard as curation would write them, straight from DICOM series, for tests of conversion alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from polycentric import tables
from polycentric.config.curation import ConvertSettings
from polycentric.convert.masks import write_masks
from polycentric.files import sha256_file
from polycentric.jobs import SILENT, Log
from polycentric.tables.private import FILES, encode_path
from polycentric.tables.schemas import MASKS
from polycentric.volumes import Geometry

KEYS = {"centre": "north", "patient": "p1", "session": "s1"}


def geometry_of(slices: Sequence[pydicom.Dataset]) -> tuple[list[int], Geometry, np.ndarray, np.ndarray]:
    """Order along the normal, grid, positions along the normal and displacements in the planes (n, 2)."""
    cosines = np.array([float(v) for v in slices[0].ImageOrientationPatient])
    axes = np.stack([cosines[:3], cosines[3:], np.cross(cosines[:3], cosines[3:])], axis=1)
    corners = np.array([[float(v) for v in s.ImagePositionPatient] for s in slices])
    order = [int(n) for n in np.argsort(corners @ axes[:, 2], kind="stable")]
    local = corners[order] @ axes
    step = float(np.median(np.diff(local[:, 2])))
    rows, columns = (float(v) for v in slices[0].PixelSpacing)
    size = (int(slices[0].Columns), int(slices[0].Rows), len(slices))
    grid = Geometry(size, (columns, rows, step), tuple(corners[order[0]]), tuple(map(float, axes.ravel())))
    return order, grid, local[:, 2], local[:, :2] - local[0, :2]


def slice_rows(
    slices: Sequence[pydicom.Dataset], scan: str = "a", grid: Geometry | None = None, repair: str = ""
) -> list[dict[str, Any]]:
    order, own, along, across = geometry_of(slices)
    return [
        KEYS
        | {"scan": scan, "use": "slice", "order": place, "path": f"{scan}-{number}.dcm", "size": 1}
        | {"position_mm": along[place], "offset_x_mm": across[place, 0], "offset_y_mm": across[place, 1]}
        | {"geometry_repair": repair, "sop_instance": str(slices[number].SOPInstanceUID)}
        | (grid or own).columns()
        for place, number in enumerate(order)
    ]


def structure_row(folder: Path, path: str, scan: str = "a", **facts: Any) -> dict[str, Any]:
    return KEYS | {
        "scan": scan,
        "use": "structure",
        "path": encode_path(path),
        "size": 1,
        "sop_instance": facts.pop("sop_instance", path.encode(errors="replace").decode()),
        "content_sha256": sha256_file(folder / path),
        "structure": json.dumps({"kind": "RTSTRUCT", "label": "", "saved": "", "regions": [], "frames": []} | facts),
    }


def masks(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    settings: ConvertSettings,
    root: Path,
    *,
    verdicts: Mapping[str, Any] | None = None,
    good: set[str] | None = None,
    log: Log = SILENT,
    code: str = "code",
) -> dict[str, pd.DataFrame]:
    """The manifests of all sources."""
    frame = pd.DataFrame(list(rows))
    missing = {name: None for name in FILES.columns if name not in frame}
    used = FILES.check(frame.assign(**missing), "files")
    scans = sorted({str(r["scan"]) for r in rows})
    shard = [KEYS | {"scan": s, "modality": "CT", "files_sha256": "0"} for s in scans]
    manifests = {source: root / "masks" / source / "main" / "north-0.tsv" for source in settings.sources}
    write_masks(
        shard, used, folder, set(scans) if good is None else good, manifests, settings=settings,
        verdicts=verdicts or {}, root=root, shard="north-0", code=code, log=log,
    )  # fmt: skip
    return {source: tables.read(path, MASKS).set_index("roi") for source, path in manifests.items()}
