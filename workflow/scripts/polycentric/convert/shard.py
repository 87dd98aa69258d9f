"""Convert the scans of a shard: volumes first, then the masks of those that succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import tables
from ..config.codes import Verdict
from ..config.curation import ConvertSettings
from ..jobs import Log
from ..tables.private import FILES
from ..tables.schemas import SHARD
from .masks import write_masks
from .volume import write_volumes


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
        Verdicts on the codes that conversion finds; the default ones where a code is absent.
    """
    scans = tables.read(shard, SHARD).to_dict("records")
    used = tables.read(files, FILES)
    shared = {
        "settings": settings,
        "verdicts": verdicts or {},
        "root": root,
        "shard": shard.stem,
        "code": code,
        "log": log,
        "workers": workers,
    }
    made = write_volumes(scans, used, folder_of_centre, volumes, settings_json=settings_json, **shared)
    good = {row["scan"] for row in made if row["status"] == "ok"}
    write_masks(scans, used, folder_of_centre, good, masks, **shared)
