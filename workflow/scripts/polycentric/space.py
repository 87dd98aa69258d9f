"""The space on disk that the images of a study will take, from the headers of its scans, before the first is made.

Counted are volumes, masks and views, which are nearly all of it: uncompressed, so that voxels give bytes. Not counted:
tables, figures, networks with their states of training, and exports.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import tables
from .errors import UserError
from .jobs import SILENT, Log
from .tables import Column, Schema
from .tables.schemas import CURATION, VIEWS, integer, text

SPACE = Schema(
    "space",
    1,
    {
        "stage": text("stage that writes the images", "convert", "prepare", "synthesize", "segment"),
        "name": text("view or mask source; volumes"),
        "scans": integer("scans that have them, at most"),
        "voxels": integer("voxels of all these images"),
        "bytes": integer("bytes of all these images"),
        "stays": Column("flag", "whether they stay after their last use"),
        "basis": text("how the number was found"),
    },
    key=("stage", "name"),
)
AXES = ("columns", "rows", "slices")
SPACINGS = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")
CT_BYTES, OTHER_BYTES, VIEW_BYTES, MASK_BYTES = 2, 4, 4, 1
GIB = 2**30


def estimate(curation: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """A row (schema `SPACE`) for the volumes, each mask source and each view.

    `plan` says what is made, as `config.plan` writes it: `views` by name (`from`, `steps` that change the grid, `onto`,
    `keep`, `synthesis`), `sources` (mask source: regions that are sought), `networks` (mask sources by networks).
    """
    scans = curation[curation["verdict"] != "reject"]
    known = scans[list(AXES)].notna().all(axis=1)
    size = scans.loc[known, list(AXES)].to_numpy(float)
    spacing = scans.loc[known, list(SPACINGS)].to_numpy(float)
    every, voxels = len(scans), size.prod(axis=1)
    # scans whose headers state no size count as the mean of the others
    scale = every / max(len(voxels), 1)
    headers = "size in the headers" + ("" if known.all() else f"; {every - len(voxels)} scans without one as the mean")
    per_voxel = np.where(scans.loc[known, "modality"] == "CT", CT_BYTES, OTHER_BYTES)
    rows = [_row("convert", "volumes", every, voxels.sum() * scale, (voxels * per_voxel).sum() * scale, True, headers)]
    outlined = scans.loc[known, "structures"].fillna(0).to_numpy(float) > 0
    for source, regions in plan["sources"].items():
        count = float(voxels[outlined].sum()) * regions
        basis = f"{headers}; {regions} regions of each scan with outlines"
        rows.append(_row("convert", source, int(outlined.sum()), count, count * MASK_BYTES, True, basis))
    grids: dict[str, tuple[np.ndarray, np.ndarray, str]] = {"scan": (size, spacing, headers)}
    while todo := [name for name in plan["views"] if name not in grids]:
        for name in todo:
            own = plan["views"][name]
            if own["from"] not in grids:
                continue
            grids[name] = _grid(grids[own["from"]], own)
            count = float(grids[name][0].prod(axis=1).sum()) * scale
            stage = "synthesize" if own["synthesis"] else "prepare"
            rows.append(_row(stage, name, every, count, count * VIEW_BYTES, own["keep"], grids[name][2]))
    for network in plan["networks"]:
        count = float(voxels.sum()) * scale
        rows.append(_row("segment", network, every, count, count * MASK_BYTES, True, headers))
    return pd.DataFrame(rows)


def _row(stage: str, name: str, scans: int, voxels: float, size: float, stays: bool, basis: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "name": name,
        "scans": scans,
        "voxels": round(voxels),
        "bytes": round(size),
        "stays": stays,
        "basis": basis,
    }


def _grid(source: tuple[np.ndarray, np.ndarray, str], own: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    """Sizes (scans, 3), spacings (scans, 3) in mm, and basis of a view, from those of what it is made from."""
    size, spacing, basis = source
    if own["onto"]:
        return size, spacing, "unknown: on the grid of another scan; counted on its own"
    for step in own["steps"]:
        wanted = step.get("spacing_mm") or step.get("size")
        if wanted is None or isinstance(wanted, str):
            basis = f"at most: {step['kind']} is not foreseen"
            continue
        new = np.broadcast_to(np.array(wanted, float), size.shape)
        if "spacing_mm" in step:
            new = np.where((new > 0) & np.isfinite(spacing), new, spacing)
            size, spacing = np.where(np.isfinite(spacing), np.ceil(size * spacing / new - 1e-6), size), new
            basis = "size and spacing in the headers, new spacing"
        else:
            spacing = spacing * np.where((new > 0) & (step["kind"] == "resize"), size / np.maximum(new, 1), 1)
            size, basis = np.where(new > 0, new, size), "new size"
    return size, spacing, basis


def present(root: Path, row: Mapping[str, Any]) -> int:
    """Bytes of images of a row that need not be made any more: they are there, or a view's that came and went.

    Listed images of views count as in the estimate, whatever their type. Nothing of a view is left to be made when its
    manifests tell of all scans, those that it is not made of included.
    """
    kind = {"volumes": "volumes"}.get(row["name"]) if row["stage"] == "convert" else None
    folder = kind or ("views" if row["stage"] in ("prepare", "synthesize") else "masks")
    place = root / folder / ("" if folder == "volumes" else row["name"])
    listed: set[Path] = set()
    size = told = 0
    for manifest in sorted(place.glob("*/*.tsv")) if folder == "views" else ():
        if ".for." in manifest.name:  # a lease, a copy of the manifest
            continue
        # its job begins just now, or it is of another version and will be made again
        with contextlib.suppress(FileNotFoundError, UserError):
            rows = tables.read(manifest, VIEWS)
            told += len(rows)
            rows = rows[rows["path"].ne("")]
            size += VIEW_BYTES * int(rows[["size_x", "size_y", "size_z"]].prod(axis=1).sum())
            listed |= {root / path for path in rows["path"]}
    if told >= row["scans"] > 0:
        return int(row["bytes"])
    for path in place.rglob("*.nii") if place.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # other jobs write and remove meanwhile
            size += 0 if path in listed else path.stat().st_size
    return size


def guard(root: Path, room: str, log: Log) -> None:
    """Stop a job that makes images if the disk has no room for all that are still to be made; `room` is the plan.

    Raises
    ------
    UserError
        if it has not, and the plan does not say `warn`.
    """
    plan = json.loads(room)
    check(root / "cohort" / "curation.parquet", plan, root=root, output=None, strict=plan["disk"] == "stop", log=log)


def check(
    curation: Path, plan: Mapping[str, Any], *, root: Path, output: Path | None, strict: bool, log: Log = SILENT
) -> None:
    """Write the estimate, and say whether the disk of `root` has room for what is not there yet.

    The file holds the estimate alone; what is there and what is free goes to the log.

    Raises
    ------
    UserError
        if it has not, and `strict`.
    """
    rows = estimate(tables.read(curation, CURATION), plan)
    if output is not None:
        tables.write(rows, output, SPACE)
    missing, lines = 0, []
    for row in rows.to_dict("records"):
        left = max(0, row["bytes"] - present(root, row))
        missing += left
        stays = "" if row["stays"] else ", does not stay"
        lines.append(f"{row['stage']} {row['name']}: {row['bytes'] / GIB:.2f} GiB{stays} ({row['basis']})")
        log.event("space", stage=row["stage"], name=row["name"], gib=round(row["bytes"] / GIB, 3), basis=row["basis"],
                  quiet=output is None)  # fmt: skip
    folder = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    log.event("space", all_gib=round(rows["bytes"].sum() / GIB, 2), missing_gib=round(missing / GIB, 2),
              free_gib=round(free / GIB, 2))  # fmt: skip
    if missing <= free:
        return
    messages = [
        f"{root}: the images still to be made take {missing / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free there. "
        "Free some space, put `results:` on another disk, or coarsen views by spacing_mm. Views with `keep: false` "
        "count too: they are there while they are read. `disk: warn` goes on all the same.",
        *(f"  - {line}" for line in lines),
    ]
    if strict:
        raise UserError(*messages)
    for message in messages:
        log.event(message)
