"""Make masks: outline the region on the images of a shard with a trained network."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import ledger as ledgers
from ..errors import ScanError, UserError
from ..files import canonical_json, fragment, sha256_file
from ..inference import guard, sliding
from ..inference import precision as precisions
from ..inference.prepare import prepare
from ..jobs import SILENT, Log
from ..networks import devices
from ..networks import weights as weight_files
from ..training import patches
from .model import unet

if TYPE_CHECKING:
    from ..config.segmentation import Segmentation
    from ..shards import Item, Row

PROGRESS_S = 10.0
THREADS = 3  # one reads, one computes, one finishes


def segment_shard(
    source: str,
    settings: Segmentation,
    *,
    weights: Path,
    ledger: Path,
    view: Path,
    volumes: Path,
    root: Path,
    manifest: Path,
    fold: str,
    settings_json: str,
    code: str,
    device: str,
    log: Log = SILENT,
) -> None:
    """Write mask source `source` (the name of the model) of a shard and its manifest.

    `view` is the shard's manifest of the view, `volumes` that of the scans, whose grids the masks take. A scan in which
    nothing is found is `rejected` with SEG_EMPTY.
    """
    from .. import shards, tables
    from ..tables import schemas

    where = f"segmentation: {source}"
    record = ledgers.read(ledger)
    place = devices.prepare(settings.device or device, settings.threads)
    rows = tables.read(view, schemas.VIEWS).to_dict("records")
    grids = {row["scan"]: row for row in tables.read(volumes, schemas.VOLUMES).to_dict("records")}
    outliner = Outliner(settings, weights, place, where, log)
    log.event("model", name=record["name"], device=place.type, scans=len(rows))
    shapes = [[int(row[f"size_{a}"]) for a in "zyx"] for row in rows if row["status"] == "ok"]
    if (settings.device or device) == "auto" and place.type == "cpu" and shapes:
        outliner.refuse_long(shapes)
    state = sha256_file(weights)
    items, found = [], {}
    for row in rows:
        key = {name: row[name] for name in schemas.SCAN} | {"source": source, "fold": fold, "roi": settings.roi}
        grid = grids.get(row["scan"], {"status": "missing", "reason": ""})
        geometry = canonical_json({c: str(grid.get(c)) for c in schemas.GRID})
        inputs = (str(row["status"]), str(row["reason"]), str(row["sha256"]), geometry, state, place.type)
        items.append(shards.Item(row["scan"], key, inputs))
        found[row["scan"]] = (row, grid)

    # one thread computes, a scan at a time; the others read the next scan and finish the last one meanwhile
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(settings.threads,)) as engine:

        def work(item: Item, folder: Path) -> list[Row]:
            return [mask_row(*found[item.key], outliner, settings, root, folder, engine)]

        made = shards.process(
            items, work, folder=manifest.with_suffix(""), root=root, settings=settings_json, code=code, log=log,
            threads=THREADS,
        )  # fmt: skip
    tables.write(made, manifest, schemas.MASKS)


def mask_row(
    row: dict[str, Any], grid: dict[str, Any], outliner: Outliner, settings: Segmentation, root: Path, folder: Path,
    engine: Executor,
) -> Row:  # fmt: skip
    """Outline the image of a manifest row; write the mask on the scan's own grid. `engine` computes.

    The probability, not the mask, is brought to that grid, so that its surface is as smooth as the grid allows.
    """
    from .. import volumes

    for given in (row, grid):
        if given["status"] != "ok":
            return {"status": "missing", "reason": f"SOURCE_{given['status'].upper()}: {given['reason']}"}
    image = volumes.read(root / row["path"], row)
    probability = image.with_array(engine.submit(outliner, image.array).result())
    geometry = volumes.Geometry.from_columns(grid)
    if geometry != image.geometry:
        probability = volumes.resample(probability, geometry, interpolation="linear", fill=0.0)
    mask = probability.array > settings.inference.threshold
    if settings.inference.largest_component:
        mask = largest_component(mask)
    if not mask.any():
        raise ScanError("SEG_EMPTY", f"no voxel with a probability above {settings.inference.threshold:g}")
    path = folder / f"{row['scan']}--{fragment(settings.roi)}.nii"
    volumes.write(volumes.Volume(mask.astype(np.uint8), geometry), path)
    voxels = int(mask.sum())
    return {"path": path, "voxels": voxels, "volume_ml": voxels * geometry.voxel_ml}


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, by 26 neighbours; of equal ones the first in memory order."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    if count < 2:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


class Probability(nn.Module):
    """A network followed by the logistic function."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.network(x))


class Outliner:
    """The network, loaded once and when first needed; maps HU (z, y, x) to the region's probability, float32."""

    def __init__(self, settings: Segmentation, weights: Path, device: torch.device, where: str, log: Log) -> None:
        self.settings, self.weights, self.device, self.where, self.log = settings, weights, device, where, log
        window = settings.inference.window or settings.patch
        self.window = patches.full_size(window)
        self.stride = patches.full_size(settings.inference.stride or tuple(max(1, w // 2) for w in window))
        trained, wanted = weight_files.facts(weights)["settings"], settings.model_dump(mode="json")
        if any(trained[part] != wanted[part] for part in ("dimensions", "width", "depth", "hu_range")):
            raise UserError(f"{where}: {weights.name} belongs to another network; train the model again.")

    @cached_property
    def network(self) -> nn.Module:
        tensors, _ = weight_files.read(self.weights)
        network = unet(self.settings)
        weight_files.into(network, tensors, "network")
        return prepare(Probability(network), channels_last=self.device.type == "cuda").to(self.device)

    def refuse_long(self, shapes: list[list[int]]) -> None:
        windows = [(self.window, self.stride)] * len(shapes)
        guard.refuse_long(self.network, windows, shapes, batch=self.settings.inference.batch, where=self.where)

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        told = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                self.log.event("windows", done=done, total=total)

        # TF32 on a GPU: a probability needs no more
        network = precisions.within(self.network, "tf32" if self.device.type == "cuda" else "fp32", self.device)
        return sliding.slide(
            patches.scale(hu, self.settings.hu_range)[None],
            network,
            window=self.window,
            stride=self.stride,
            batch=self.settings.inference.batch,
            device=self.device,
            progress=progress,
        )[0]
