"""Make a view: pass the images of a shard through a trained generator."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import ledger as ledgers
from ..errors import UserError
from ..files import sha256_file
from ..inference import guard, sliding
from ..jobs import SILENT, Log
from ..networks import devices
from ..networks import weights as weight_files
from ..networks.generator import Generator
from ..training import patches
from .cyclegan import generator

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from ..shards import Item, Row

PROGRESS_S = 10.0


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
    scans: Path | None = None,
    patients: Path | None = None,
    log: Log = SILENT,
) -> None:
    """Write view `view_name` of a shard and its manifest.

    `source` is the shard's manifest of the view to translate; images go to the folder named as `manifest` without its
    suffix. `scans` and `patients` are the cohort's tables, needed if `inference: where` is set.
    """
    from .. import shards, tables
    from ..tables import schemas
    from ..training import cohort

    where = f"views: {view_name}"
    record = ledgers.read(ledger)
    place = devices.prepare(settings.device or device, settings.threads)
    rows = tables.read(source, schemas.VIEWS).to_dict("records")
    chosen = {row["scan"] for row in rows}
    if settings.inference.where is not None:
        if scans is None or patients is None:
            raise ValueError("inference: where needs the tables of scans and patients")
        chosen &= set(cohort.select(cohort.cohort(scans, patients), settings.inference.where, where)["scan"])
    translator = Translator(settings, weights, place, where, log)
    log.event("model", name=record["name"], device=place.type, scans=len(rows), translated=len(chosen))
    shapes = [[int(row[f"size_{a}"]) for a in "zyx"] for row in rows if row["status"] == "ok" and row["scan"] in chosen]
    if (settings.device or device) == "auto" and place.type == "cpu" and shapes:
        translator.refuse_long(shapes)
    state = sha256_file(weights)
    items, sources = [], {}
    for row in rows:
        key = {name: row[name] for name in schemas.SCAN} | {"view": view_name, "fold": fold}
        translate = row["scan"] in chosen
        inputs = (str(row["status"]), str(row["reason"]), str(row["sha256"]), state, place.type, str(translate))
        items.append(shards.Item(row["scan"], key, inputs))
        sources[row["scan"]] = (row, translate)

    def work(item: Item, folder: Path) -> list[Row]:
        row, translate = sources[item.key]
        return [view_row(row, translator if translate else None, root, folder)]

    made = shards.process(
        items, work, folder=manifest.with_suffix(""), root=root, settings=settings_json, code=code, log=log
    )
    tables.write(made, manifest, schemas.VIEWS)


def view_row(row: dict[str, Any], translator: Translator | None, root: Path, folder: Path) -> Row:
    """Translate (or hand on) the image of a manifest row; write it as int16 HU on the same grid."""
    from .. import volumes

    if row["status"] != "ok":
        return {"status": "missing", "reason": f"SOURCE_{row['status'].upper()}: {row['reason']}"}
    volume = volumes.read(root / row["path"], row)
    if translator is not None:
        volume = volume.with_array(translator(volume.array))
    path = folder / f"{row['scan']}.nii"
    volumes.write(volume, path)
    return {"path": path, **volume.geometry.columns(), "moved": row.get("moved")}


class Translator:
    """The forward generator, loaded once and when first needed; maps HU (z, y, x) to int16 HU.

    What lies beyond the model's range of HU (metal, or lung if the range is narrow) is not the generator's business:
    the part that is clipped off is added again. The result is rounded to whole HU: the error of at most 0.5 HU is far
    below noise, and the files are half of float32's.
    """

    def __init__(self, settings: Synthesis, weights: Path, device: torch.device, where: str, log: Log) -> None:
        self.settings, self.weights, self.device, self.where, self.log = settings, weights, device, where, log
        inference = settings.inference
        self.window = patches.full_size(inference.window or settings.patch)
        stride = inference.stride or tuple(max(1, w // 4) for w in inference.window or settings.patch)
        self.stride = patches.full_size(stride)
        trained, wanted = weight_files.facts(weights)["settings"], settings.model_dump(mode="json")
        if any(trained[part] != wanted[part] for part in ("dimensions", "generator", "hu_range")):
            raise UserError(f"{where}: {weights.name} belongs to another generator; train the model again.")

    @cached_property
    def network(self) -> Generator:
        tensors, _ = weight_files.read(self.weights)
        network = generator(self.settings)
        weight_files.into(network, tensors, "forward")
        return network.to(self.device).eval()

    def refuse_long(self, shapes: list[list[int]]) -> None:
        batch = self.settings.inference.batch
        guard.refuse_long(self.network, shapes, window=self.window, stride=self.stride, batch=batch, where=self.where)

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        told = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                self.log.event("windows", done=done, total=total)

        values = sliding.slide(
            patches.scale(hu, self.settings.hu_range),
            self.network,
            window=self.window,
            stride=self.stride,
            batch=self.settings.inference.batch,
            device=self.device,
            progress=progress,
        )
        beyond = hu - np.clip(hu, *self.settings.hu_range)
        return np.rint(patches.unscale(values, self.settings.hu_range) + beyond).astype(np.int16)
