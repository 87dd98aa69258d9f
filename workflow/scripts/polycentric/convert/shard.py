"""Convert the scans of a shard: volumes first, then the masks of those that succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from .. import tables
from ..config.codes import Verdict
from ..config.curation import ConvertSettings, RoiSettings
from ..errors import ScanError
from ..files import fragment, hash_of
from ..jobs import Log
from ..shards import Item, Row, process
from ..tables.private import FILES, decode_path
from ..tables.schemas import MASKS, SHARD
from ..volumes import Geometry, Volume, write
from .contours import Region, choose, outline, rasterise, read_regions
from .volume import write_volumes

SOURCE, FOLD = "manual", "main"
_KEYS = ("centre", "patient", "session", "scan")


@dataclass(frozen=True)
class ScanItem(Item):
    """A scan with its private facts, which enter neither rows nor the hash of the item."""

    structures: tuple[Path, ...] = ()
    geometry: Geometry | None = None


def convert_shard(
    shard: Path,
    files: Path,
    folder_of_centre: Path,
    *,
    settings: ConvertSettings,
    root: Path,
    volumes: Path,
    masks: Path,
    settings_json: str,
    code: str,
    log: Log,
    verdicts: Mapping[str, Verdict] | None = None,
    workers: int = 1,
) -> None:
    """Write the volumes of a shard and the masks of the wanted regions, all on the scans' own grids.

    Parameters
    ----------
    shard
        Scans of the shard (schema `SHARD`).
    files
        Their files (private, schema `FILES`): order and geometry as curation settled them; nothing is guessed here.
    folder_of_centre
        Folder that the paths are relative to. It is no part of what a scan is made from, so the folder may move.
    root
        Results folder of the study; volumes go to ``volumes/{shard}/{scan}.nii`` below it, masks to
        ``masks/manual/main/{shard}/{scan}--{roi}.nii``.
    volumes, masks
        Output: manifests (schemas `VOLUMES` and `MASKS`).
    verdicts
        Verdicts on the codes that conversion finds; the default ones where a code is absent.
    """
    scans = tables.read(shard, SHARD)
    used = tables.read(files, FILES)
    name = shard.stem
    shared = {"root": root, "code": code, "log": log, "workers": workers}
    made = write_volumes(
        scans.to_dict("records"), used, folder_of_centre, volumes, settings=settings, verdicts=verdicts or {},
        shard=name, settings_json=settings_json, **shared,
    )  # fmt: skip
    shared["settings"] = settings_json
    items = [_item(row, used[used["scan"] == row["scan"]], folder_of_centre) for row in scans.to_dict("records")]

    good = {row["scan"] for row in made if row["status"] == "ok"}
    outlined = [_mask_item(item) for item in items if item.key in good]
    rows = process(outlined, partial(_masks, settings), folder=root / "masks" / SOURCE / FOLD / name, **shared)
    rows = [row if row.get("roi") else {**row, "roi": "*"} for row in rows]
    rows += [
        _mask_row(item) | {"roi": "*", "status": "missing", "reason": "the scan has no volume"}
        for item in items
        if item.key not in good
    ]
    tables.write(sorted(rows, key=lambda r: (r["scan"], r["roi"])), masks, MASKS)


def _item(row: Row, used: pd.DataFrame, folder: Path) -> ScanItem:
    slices = used[used["use"] == "slice"].sort_values("order")
    structures = used[used["use"] == "structure"].sort_values(["sop_instance", "content_sha256"])
    geometry = Geometry.from_columns(slices.iloc[0]) if len(slices) else None
    # other curation settings can order or space the same files differently
    settled = hash_of([None if geometry is None else geometry.columns(), *slices["sop_instance"].astype(str)])
    return ScanItem(
        key=row["scan"],
        row={key: row[key] for key in _KEYS},
        inputs=(row["files_sha256"], settled),
        structures=tuple(folder / decode_path(p) for p in structures["path"]),
        geometry=geometry,
    )


def _mask_row(item: ScanItem) -> Row:
    return {key: item.row[key] for key in _KEYS} | {"source": SOURCE, "fold": FOLD}


def _mask_item(item: ScanItem) -> ScanItem:
    return ScanItem(item.key, _mask_row(item), item.inputs, item.structures, item.geometry)


def _masks(settings: ConvertSettings, item: ScanItem, folder: Path) -> list[Row]:
    assert item.geometry is not None
    if not item.structures:
        missing = {
            "status": "rejected",
            "reason": "RT_ROI_MISSING: the scan has no contours",
            "codes": "RT_ROI_MISSING",
        }
        return [{"roi": name, **missing} for name in settings.rois]
    regions = [region for path in item.structures for region in read_regions(path, settings.rois)]
    return [_mask(name, roi, regions, settings, item, folder) for name, roi in settings.rois.items()]


def _mask(
    name: str, roi: RoiSettings, regions: list[Region], settings: ConvertSettings, item: ScanItem, folder: Path
) -> Row:
    """One region; what is wrong with it costs no other region its mask."""
    assert item.geometry is not None
    try:
        chosen, codes = choose(regions, roi)
        outlines = [outline(r.contours, item.geometry, settings.contour_tolerance_mm) for r in chosen]
        parts = [rasterise(o, item.geometry) for o in outlines]
        mask = np.maximum.reduce([p.mask for p in parts])
        if not mask.any():
            raise ScanError("MASK_EMPTY", "the contours hold no voxel centre")
    except ScanError as error:
        return {"roi": name, "status": "rejected", "reason": str(error), "codes": error.code}
    found = {*codes, *(code for o in outlines for code in o.codes)}
    if any(p.nested_voxels for p in parts):
        found.add("RT_NESTED")
    voxels = int(np.count_nonzero(mask))
    path = folder / f"{item.key}--{fragment(name)}.nii"
    write(Volume(mask, item.geometry), path)
    return {
        "roi": name,
        "path": str(path),
        "voxels": voxels,
        "volume_ml": voxels * item.geometry.voxel_ml,
        # regions that are taken together may overlap; then their contours enclose no single known volume
        "contour_volume_ml": parts[0].contour_volume_ml if len(parts) == 1 else None,
        "codes": ";".join(sorted(found)),
    }
