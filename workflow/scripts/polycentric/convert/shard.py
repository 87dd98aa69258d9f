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
from ..config.curation import ConvertSettings
from ..errors import ScanError
from ..files import hash_of
from ..jobs import Log
from ..shards import Item, Row, process
from ..tables.private import FILES, decode_path
from ..tables.schemas import SHARD, VOLUMES
from ..volumes import Geometry, Volume, write
from .masks import write_masks
from .pixels import decode

_KEYS = ("centre", "patient", "session", "scan")


@dataclass(frozen=True)
class ScanItem(Item):
    """A scan with its private facts, which enter neither rows nor the hash of the item."""

    slices: tuple[Path, ...] = ()
    geometry: Geometry | None = None


def convert_shard(
    shard: Path,
    files: Path,
    folder_of_centre: Path,
    *,
    settings: ConvertSettings,
    root: Path,
    volumes: Path,
    masks: Mapping[str, Path],
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
        ``masks/{source}/main/{shard}/{scan}--{roi}.nii``.
    volumes
        Output: manifest (schema `VOLUMES`).
    masks
        Output: a manifest (schema `MASKS`) for every mask source of the settings.
    verdicts
        Verdicts of the study file on the codes that conversion finds; the others are the default ones.
    """
    scans = tables.read(shard, SHARD)
    used = tables.read(files, FILES)
    items = [_item(row, used[used["scan"] == row["scan"]], folder_of_centre) for row in scans.to_dict("records")]
    name = shard.stem
    shared = {"root": root, "settings": settings_json, "code": code, "log": log, "workers": workers}
    made = process(items, partial(_volume, settings), folder=root / "volumes" / name, **shared)
    tables.write(made, volumes, VOLUMES)

    good = {row["scan"] for row in made if row["status"] == "ok"}
    write_masks(
        scans.to_dict("records"), used, folder_of_centre, good, masks, settings=settings, verdicts=verdicts or {},
        root=root, shard=name, code=code, log=log, workers=workers,
    )  # fmt: skip


def _item(row: Row, used: pd.DataFrame, folder: Path) -> ScanItem:
    slices = used[used["use"] == "slice"].sort_values("order")
    geometry = Geometry.from_columns(slices.iloc[0]) if len(slices) else None
    # other curation settings can order or space the same files differently
    settled = hash_of([None if geometry is None else geometry.columns(), *slices["sop_instance"].astype(str)])
    return ScanItem(
        key=row["scan"],
        row={key: row[key] for key in _KEYS} | {"modality": row["modality"]},
        inputs=(row["files_sha256"], settled),
        slices=tuple(folder / decode_path(p) for p in slices["path"]),
        geometry=geometry,
    )


def _volume(settings: ConvertSettings, item: ScanItem, folder: Path) -> list[Row]:
    if item.geometry is None:
        raise ScanError("GEOM_NO_POSITION", "curation accepted the scan although it has no grid")
    decoded = decode(item.slices, item.geometry.size)
    array, codes = decoded.array, ""
    if settings.clip_below_hu is not None and item.row["modality"] == "CT":
        low = array < settings.clip_below_hu
        if low.any():
            codes = "HU_IMPLAUSIBLE"
            array = np.where(low, array.dtype.type(settings.clip_below_hu), array)
    path = folder / f"{item.key}.nii"
    write(Volume(array, item.geometry), path)
    return [{"path": str(path), "pixels_sha256": decoded.sha256, "codes": codes, **item.geometry.columns()}]
