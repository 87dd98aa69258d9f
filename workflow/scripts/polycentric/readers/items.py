"""Choose slices and bring them all into one form, so that nothing but the picture tells the arms apart."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import tables, volumes
from ..randomness import generator
from ..tables import schemas
from ..where import holds

MIDDLE = (0.2, 0.8)  # part of a scan that slices are drawn from: its ends are often empty


@dataclass(frozen=True)
class Item:
    """One image to show: its blinded `id`, `pixels` int16 (y, x) HU, and the private `row` of the key."""

    id: str
    pixels: np.ndarray
    row: dict[str, object]


def candidates(
    manifests: Sequence[Path], scans: Path, split: Path, parts: Sequence[str], where: str | None, label: str
) -> pd.DataFrame:
    """Manifest rows of one arm: volumes that exist, of patients in `parts`, of scans that `where` holds for."""
    rows = tables.read_all(list(manifests), schemas.VIEWS)
    chosen = tables.read(scans, schemas.SCANS)
    if where is not None:
        chosen = chosen[holds(where, chosen, where=f"{label}: where")]
    members = tables.read(split, schemas.SPLIT)
    patients = set(members.loc[members["part"].isin(parts), "patient"])
    keep = (rows["status"] == "ok") & rows["patient"].isin(patients) & rows["scan"].isin(chosen["scan"])
    return rows[keep].sort_values("scan").reset_index(drop=True)


def draw(rows: pd.DataFrame, number: int, seed: int, name: str, arm: str) -> list[tuple[int, int]]:
    """(row, slice) pairs: one slice of every scan before a second of any; at most `number`."""
    order = generator(seed, "readers", name, arm).permutation(len(rows))
    slices = {}
    for index in order:
        depth = int(rows["size_z"].iloc[index])
        low, high = int(MIDDLE[0] * (depth - 1)), int(np.ceil(MIDDLE[1] * (depth - 1)))
        stream = generator(seed, "readers", name, arm, rows["scan"].iloc[index])
        slices[index] = (low + stream.permutation(high - low + 1)).tolist()
    pairs: list[tuple[int, int]] = []
    while len(pairs) < number and any(slices.values()):
        pairs += [(int(index), slices[index].pop()) for index in order if slices[index]]
    return pairs[:number]


def cut(volume: volumes.Volume, index: int, size: int, pixel_mm: float, range_hu: tuple[int, int]) -> np.ndarray:
    """Slice `index` as int16 (size, size) on pixels of `pixel_mm`, centred, clipped to `range_hu`; linear."""
    from scipy.ndimage import map_coordinates

    image = volume.array[index].astype(np.float64)
    sx, sy, _ = volume.geometry.spacing
    offset = (np.arange(size) - (size - 1) / 2) * pixel_mm
    rows = (image.shape[0] - 1) / 2 + offset / sy
    columns = (image.shape[1] - 1) / 2 + offset / sx
    grid = np.meshgrid(rows, columns, indexing="ij")
    values = map_coordinates(image, grid, order=1, mode="constant", cval=range_hu[0])
    return np.clip(np.rint(values), *range_hu).astype("<i2")


def item_id(secret: bytes, *names: str) -> str:
    return hmac.new(secret, "\x1f".join(("reader-item", *names)).encode(), hashlib.sha256).hexdigest()[:16]
