"""Patches of volumes, drawn from a stream of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

Shape = tuple[int, ...]

# NIfTI-1 data types (nifti1.h) that SimpleITK writes
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


def open_nifti(path: str | Path) -> np.ndarray:
    """Voxels (z, y, x) of an uncompressed 3D NIfTI file, read from disk as they are used.

    Patches of hundreds of scans are thus drawn without holding the scans in memory.

    Raises
    ------
    ValueError
        for a file of another kind, or one with a scale other than 1.
    """
    path = Path(path)
    header = np.fromfile(path, dtype="u1", count=352)
    if header.size < 348:
        raise ValueError(f"{path.name}: too short for NIfTI")
    order = "<" if header[:4].view("<i4")[0] == 348 else ">"
    if header[:4].view(order + "i4")[0] != 348 or bytes(header[344:347]) != b"n+1":
        raise ValueError(f"{path.name}: not an uncompressed NIfTI file")
    dimensions = header[40:56].view(order + "i2")
    code = int(header[70:72].view(order + "i2")[0])
    offset, slope, intercept = header[108:120].view(order + "f4")
    if dimensions[0] < 3 or any(int(n) > 1 for n in dimensions[4 : 1 + dimensions[0]]) or code not in _TYPES:
        raise ValueError(f"{path.name}: not a 3D volume of plain numbers")
    if slope not in (0, 1) or (slope == 1 and intercept != 0):
        raise ValueError(f"{path.name}: scaled values are not supported")
    shape = tuple(int(n) for n in dimensions[3:0:-1])
    return np.memmap(path, dtype=order + _TYPES[code], mode="r", offset=int(offset), shape=shape)


def scale(hu: np.ndarray, hu_range: tuple[float, float]) -> np.ndarray:
    """Clip HU to a range and map it to [-1, 1], float32."""
    low, high = hu_range
    return (np.clip(hu, low, high).astype(np.float32) - np.float32((low + high) / 2)) / np.float32((high - low) / 2)


def unscale(values: np.ndarray, hu_range: tuple[float, float]) -> np.ndarray:
    """Map [-1, 1] back to HU, clipped to the range, float32."""
    low, high = hu_range
    return np.clip(values, -1, 1).astype(np.float32) * np.float32((high - low) / 2) + np.float32((low + high) / 2)


def full_size(size: Sequence[int]) -> tuple[int, int, int]:
    """A size along x, y(, z), as settings give it, as (z, y, x); slices are one voxel thick."""
    return tuple(reversed((*size, 1) if len(size) == 2 else tuple(size)))  # type: ignore[return-value]


class PatchSampler:
    """Draws patches of `size` (z, y, x): a volume at random, then an origin at random within it.

    Of volumes with `centres` (flat indices of voxels), a share `focus` of the patches is centred on one of them, as far
    as the border of the volume allows. The state is that of the random stream alone.
    """

    def __init__(
        self,
        volumes: Sequence[np.ndarray],
        size: tuple[int, int, int],
        stream: np.random.Generator,
        *,
        centres: Sequence[np.ndarray] | None = None,
        focus: float = 0.0,
    ) -> None:
        for volume in volumes:
            if any(n < s for n, s in zip(volume.shape, size, strict=True)):
                raise ValueError(f"a volume of shape {volume.shape} is smaller than the patch {size}")
        self.volumes, self.size, self.stream = volumes, size, stream
        self.centres, self.focus = centres, focus

    def origin(self) -> tuple[int, tuple[int, int, int]]:
        """Number of a volume and the first voxel (z, y, x) of a patch in it."""
        number = int(self.stream.integers(len(self.volumes)))
        shape = self.volumes[number].shape
        spare = [n - s for n, s in zip(shape, self.size, strict=True)]
        if self.centres is not None and self.stream.random() < self.focus and len(self.centres[number]):
            flat = self.centres[number][int(self.stream.integers(len(self.centres[number])))]
            centre = np.unravel_index(int(flat), shape)
            start = (min(max(int(c) - s // 2, 0), free) for c, s, free in zip(centre, self.size, spare, strict=True))
        else:
            start = (int(self.stream.integers(free + 1)) for free in spare)
        return number, tuple(start)  # type: ignore[return-value]

    def state(self) -> dict[str, Any]:
        return self.stream.bit_generator.state

    def restore(self, state: dict[str, Any]) -> None:
        self.stream.bit_generator.state = state


def cut(volume: np.ndarray, origin: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The patch of a volume at an origin."""
    return volume[tuple(slice(o, o + s) for o, s in zip(origin, size, strict=True))]


def batch(patches: Sequence[np.ndarray], dimensions: int) -> np.ndarray:
    """Patches (z, y, x) as (batch, 1, [z,] y, x), without z for two dimensions."""
    stacked = np.stack(patches)[:, None]
    return stacked[:, :, 0] if dimensions == 2 else stacked


def checked(
    rows: list[dict[str, Any]], root: Path, size: tuple[int, int, int], hu_range: tuple[float, float], where: str
) -> list[np.ndarray]:
    """Volumes of manifest rows, read from disk as they are used; all mistakes are listed at once.

    Raises
    ------
    UserError
        for volumes that are missing, smaller than the patch, with NaN, or constant within the range of HU.
    """
    volumes, problems = [], []
    for row in rows:
        scan = row["scan"]
        try:
            volume = open_nifti(root / row["path"])
        except (OSError, ValueError) as error:
            problems.append(f"{where}: scan {scan} cannot be read ({error}); run snakemake again to make it anew.")
            continue
        volumes.append(volume)
        if any(n < s for n, s in zip(volume.shape, size, strict=True)):
            have, need = " x ".join(map(str, volume.shape[::-1])), " x ".join(map(str, size[::-1]))
            problems.append(
                f"{where}: scan {scan} has {have} voxels, fewer than the patch of {need}. Write a smaller patch, a "
                f"finer spacing for its view, or a `where` that leaves the scan out."
            )
            continue
        low, high = np.inf, -np.inf
        for slab in volume:
            low, high = np.minimum(low, slab.min()), np.maximum(high, slab.max())  # both pass NaN on
        if not np.isfinite([low, high]).all():
            problems.append(f"{where}: scan {scan} holds NaN or infinite values; leave it out by `where`.")
        elif np.clip(low, *hu_range) == np.clip(high, *hu_range):
            problems.append(
                f"{where}: scan {scan} is constant within the range {list(hu_range)} (its values: {low:g} to "
                f"{high:g}); leave it out by `where`, or look at its view."
            )
    if problems:
        raise UserError(*problems)
    return volumes
