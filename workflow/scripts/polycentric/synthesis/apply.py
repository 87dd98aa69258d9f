"""Make a view: pass the images of a shard through a trained generator."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import ledger as ledgers
from ..errors import ScanError
from ..files import canonical_json, sha256_file
from ..jobs import SILENT, Log
from ..networks import devices
from ..training import patches
from . import domains
from .translate import PLANES, Direction, NotFinite, Translator, planes

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from ..shards import Item, Row

THREADS = 3  # one reads, one computes, one finishes


def synthesize_shard(
    view_name: str,
    settings: Synthesis,
    *,
    weights: Path,
    ledger: Path,
    source: Path,
    root: Path,
    manifest: Path,
    fold: str,
    settings_json: str,
    code: str,
    device: str,
    direction: Direction = "forward",
    scans: Path | None = None,
    patients: Path | None = None,
    also: Sequence[Path] = (),
    log: Log = SILENT,
) -> None:
    """Write view `view_name` of a shard and its manifest.

    `source` is the shard's manifest of the view to translate; images go to the folder named as `manifest` without its
    suffix. `direction` says which generator translates. `scans` and `patients` are the cohort's tables, needed if
    `inference: where` is set and for a model of several inputs, which also needs `also`, the shard's manifests of the
    views of the further ones. Of these, scans that are no first input, or that lack a further one, have no image.
    """
    from .. import shards, tables
    from ..tables import schemas
    from ..training import cohort

    where = f"views: {view_name}"
    record = ledgers.read(ledger)
    place = devices.prepare(settings.device or device, settings.threads)
    rows = tables.read(source, schemas.VIEWS).to_dict("records")
    chosen = {row["scan"] for row in rows}
    everyone = None if scans is None or patients is None else cohort.cohort(scans, patients)
    if settings.inference.where is not None:
        if everyone is None:
            raise ValueError("inference: where needs the tables of scans and patients")
        chosen &= set(cohort.select(everyone, settings.inference.where, where)["scan"])
    further = domains.beside(settings, [row for row in rows if row["scan"] in chosen], everyone, also, where)
    translator = Translator(settings, weights, place, where, log, direction)
    log.event("model", name=record["name"], device=place.type, precision=translator.precision, scans=len(rows),
              translated=len(chosen))  # fmt: skip
    if translator.why:
        log.event("precision", wanted=settings.inference.precision, used=translator.precision, reason=translator.why)
    shapes = [[int(row[f"size_{a}"]) for a in "zyx"] for row in rows if row["status"] == "ok" and row["scan"] in chosen]
    if (settings.device or device) == "auto" and place.type == "cpu" and shapes:
        translator.refuse_long(shapes)
    made_by = (sha256_file(weights), place.type, translator.precision, direction)
    items, sources = [], {}
    for row in rows:
        key = {name: row[name] for name in schemas.SCAN} | {"view": view_name, "fold": fold}
        translate = row["scan"] in chosen
        inputs = (str(row["status"]), str(row["reason"]), str(row["sha256"]), *made_by, str(translate))
        others, problem = further.get(row["scan"], ((), ""))
        if problem and row["status"] == "ok":
            row = row | {"status": "input", "reason": problem}
        inputs = (*inputs, *([problem] if problem else []), *(str(other["sha256"]) for other in others))
        items.append(shards.Item(row["scan"], key, inputs))
        sources[row["scan"]] = ((row, *others), translate)

    # one thread computes, a scan at a time; the others read the next scan and finish the last one meanwhile
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(settings.threads,)) as engine:

        def work(item: Item, folder: Path) -> list[Row]:
            own, translate = sources[item.key]
            return [view_row(own, translator if translate else None, root, folder, engine)]

        made = shards.process(
            items, work, folder=shards.folder_of(manifest), root=root, settings=settings_json, code=code, log=log,
            threads=THREADS,
        )  # fmt: skip
    tables.write(made, manifest, schemas.VIEWS)


def view_row(
    rows: Sequence[dict[str, Any]], translator: Translator | None, root: Path, folder: Path, engine: Executor
) -> Row:
    """Translate (or hand on) the image of a manifest row; write it on the same grid.

    `rows` are that of the first input and those of further ones. `engine` computes. No image is held as a whole.
    """
    from .. import volumes

    row = rows[0]
    if row["status"] != "ok":
        return {"status": "missing", "reason": f"SOURCE_{row['status'].upper()}: {row['reason']}"}
    images = [patches.open_nifti(root / one["path"]) for one in rows]
    geometry = volumes.Geometry.from_columns(row)
    for image in images:
        if geometry.size != image.shape[::-1]:
            raise ValueError(f"{row['scan']}: size {image.shape[::-1]} is not the manifest's {geometry.size}")
        fetch(image)
    path = folder / f"{row['scan']}.nii"
    facts: Row = {"path": path, **geometry.columns(), "moved": row.get("moved")}
    if translator is None:
        image = images[0]
        with volumes.writing(path, geometry, image.dtype.newbyteorder("=")) as put:
            for first in range(0, len(image), PLANES):
                put(planes(image, first, first + PLANES))
        return facts
    for precision in dict.fromkeys((translator.precision, "fp32")):
        try:
            with volumes.writing(path, geometry, translator.stored) as put:
                found = engine.submit(translator.translate, images, put, precision).result()
            return facts | {"diagnostics": canonical_json(found)}
        except NotFinite:
            translator.log.event("not finite", scan=row["scan"], precision=precision)
    raise ScanError("SYNTH_NOT_FINITE", "the generator makes values of this image that are not finite")


def fetch(image: np.memmap) -> None:
    """Read a file once, so that the system has it at hand when its planes are asked for."""
    with Path(image.filename).open("rb", buffering=0) as stream:
        buffer = bytearray(1 << 22)
        while stream.readinto(buffer):
            pass
