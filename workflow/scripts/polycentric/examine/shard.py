"""Examine the scans of a shard."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .. import tables
from ..config.examine import ExamineSettings
from ..errors import ScanError
from ..files import hash_of
from ..jobs import Log
from ..shards import Item, Row, process
from ..tables.schemas import EXAMINED, VOLUMES
from ..volumes import Geometry, read
from .facts import UNKNOWN, facts_of

_KEYS = ("centre", "patient", "session", "scan", "modality")


def examine_shard(
    volumes: Path,
    *,
    settings: ExamineSettings,
    root: Path,
    examined: Path,
    settings_json: str,
    code: str,
    log: Log,
    workers: int = 1,
) -> None:
    """Write what the images of a shard show (schema `EXAMINED`), a row per scan of the manifest of volumes.

    Scans without a volume have status ``missing``; those of other modalities than CT are ok with unknown facts.

    Parameters
    ----------
    volumes
        Manifest of the converted scans (schema `VOLUMES`).
    root
        Results folder of the study.
    examined
        Output; the records that let a re-run skip scans lie in the folder of the same name beside it.
    """
    rows = tables.read(volumes, VOLUMES).to_dict("records")
    good = [row for row in rows if row["status"] == "ok"]
    where = {row["scan"]: root / row["path"] for row in good}
    grids = {row["scan"]: Geometry.from_columns(row) for row in good}
    items = [
        Item(row["scan"], {key: row[key] for key in _KEYS}, (row["sha256"], row["modality"], hash_of(_grid(row))))
        for row in good
    ]
    work = partial(_examine, settings, where, grids)
    made = process(
        items, work, folder=examined.parent / examined.stem, root=root, settings=settings_json, code=code, log=log,
        workers=workers,
    )  # fmt: skip
    made = [{**UNKNOWN, **row} for row in made]
    made += [
        {key: row[key] for key in _KEYS} | UNKNOWN | {"status": "missing", "reason": "the scan has no volume"}
        for row in rows
        if row["status"] != "ok"
    ]
    tables.write(sorted(made, key=lambda row: row["scan"]), examined, EXAMINED)


def _grid(row: Row) -> list[str]:
    return [str(value) for value in Geometry.from_columns(row).columns().values()]


def _examine(
    settings: ExamineSettings, where: dict[str, Path], grids: dict[str, Geometry], item: Item, folder: Path
) -> list[Row]:
    if item.row["modality"] != "CT":
        return [dict(UNKNOWN)]
    path = where[item.key]
    if not path.exists():
        raise ScanError("VOLUME_MISSING", "the volume is not where its manifest says")
    return [facts_of(read(path, grids[item.key].columns()), settings)]
