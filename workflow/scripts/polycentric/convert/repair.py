"""Bring a stack of slices onto a regular grid: gantry tilt, uneven slice distances, missing slices.

The slices lie where they were acquired: at heights along their common normal, displaced within their planes. The grid
has the directions of the slices' rows and columns and their normal, so every slice lies in a plane of its own that is
parallel to the grid's planes. A tilted gantry shows as a displacement that grows with the height; undoing it moves the
slices within their planes only, and contours that were drawn on them lie in the planes of the grid as they are. Masks
go the same way in `masks`: they are drawn on the acquired planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volumes import Geometry

# a plane of the grid this close to a slice is that slice, as a share of the slice distance; where distances are
# even but for jitter, interpolating would blur the image for nothing
SNAP = {"": 0.1, "shear": 0.1, "interpolate": 0.1, "resample": 1e-3}
CODE = {"shear": "GEOM_GANTRY_TILT", "resample": "GEOM_VARIABLE_SPACING", "interpolate": "GEOM_MISSING_SLICE"}


@dataclass(frozen=True)
class Acquired:
    """Where the slices of a scan were acquired.

    heights
        position of each slice along the normal, ascending, mm.
    across
        displacement of each slice's first pixel along (rows, columns) against the first slice, mm; as many pairs.
    repair
        what curation planned: shear, resample, interpolate, or nothing.
    """

    heights: tuple[float, ...]
    across: tuple[tuple[float, float], ...]
    repair: str = ""

    @property
    def shifts_mm(self) -> np.ndarray:
        """(n, 2) displacement against the corner of the grid: of a sheared stack, where the outermost slice starts.

        Without shear what is left is jitter within the tolerance.
        """
        if self.repair != "shear":
            return np.zeros((len(self.heights), 2))
        across = np.asarray(self.across, dtype=np.float64).reshape(-1, 2)
        return across - across.min(axis=0)


def planes(acquired: Acquired, geometry: Geometry) -> list[tuple[int, int, float]]:
    """For each plane of the grid: the slices (lower, upper) that it lies between and the weight of the upper one.

    A plane that is a slice has lower == upper. Beyond the outermost slices these hold.
    """
    heights = np.asarray(acquired.heights, dtype=np.float64)
    step = geometry.spacing[2]
    normal = np.array(geometry.direction, dtype=np.float64).reshape(3, 3)[:, 2]
    targets = np.array(geometry.origin) @ normal + step * np.arange(geometry.size[2])
    result = []
    for target in targets:
        near = int(np.argmin(np.abs(heights - target)))
        upper = int(np.searchsorted(heights, target))
        if abs(heights[near] - target) <= SNAP[acquired.repair] * step or upper in (0, len(heights)):
            result.append((near, near, 0.0))
        else:
            lower = upper - 1
            result.append((lower, upper, float((target - heights[lower]) / (heights[upper] - heights[lower]))))
    return result


def synthetic(acquired: Acquired, geometry: Geometry) -> tuple[int, ...]:
    """Planes of the grid that are no acquired slice."""
    return tuple(number for number, (lower, upper, _) in enumerate(planes(acquired, geometry)) if lower != upper)


def to_grid(array: np.ndarray, acquired: Acquired, geometry: Geometry, fill: float) -> np.ndarray:
    """Resample a stack linearly onto the grid, in each slice's plane first, then between slices.

    Parameters
    ----------
    array
        slices (n, rows, columns) in the order of `acquired`; pixels as large as the grid's.
    geometry
        the grid; that of a sheared stack starts where the outermost slice starts, so that it covers all slices.
    fill
        value where no slice is, within the planes. Half a pixel beyond the outermost centres still belongs to a slice.

    Returns
    -------
    np.ndarray
        (size_z, size_y, size_x) of the same type; whole numbers are rounded to the nearest.
    """
    if len(array) != len(acquired.heights):
        raise ValueError(f"{len(array)} slices, {len(acquired.heights)} positions")
    columns, rows, count = geometry.size
    shifts = acquired.shifts_mm / np.array(geometry.spacing[:2])
    result = np.empty((count, rows, columns), dtype=array.dtype)
    placed: dict[int, np.ndarray] = {}

    def place(number: int) -> np.ndarray:
        if number not in placed:
            x, y = shifts[number]
            moved = _shift(_shift(array[number].astype(np.float32), y, rows, 0, fill), x, columns, 1, fill)
            placed[number] = moved
        return placed[number]

    for number, (lower, upper, weight) in enumerate(planes(acquired, geometry)):
        for old in [key for key in placed if key < lower]:
            del placed[old]
        plane = place(lower)
        if upper != lower:
            plane = plane + np.float32(weight) * (place(upper) - plane)
        result[number] = np.rint(plane) if array.dtype.kind in "iu" else plane
    return result


def _shift(plane: np.ndarray, shift: float, size: int, axis: int, fill: float) -> np.ndarray:
    """Move a plane by `shift` pixels along an axis into one that is `size` long there, linearly."""
    length = plane.shape[axis]
    if abs(shift) < 1e-6 and size == length:
        return plane
    source = np.arange(size) - shift
    lower = np.floor(source)
    weight = (source - lower).astype(np.float32)
    shape = (-1, 1) if axis == 0 else (1, -1)
    a = np.take(plane, np.clip(lower, 0, length - 1).astype(np.int64), axis=axis)
    b = np.take(plane, np.clip(lower + 1, 0, length - 1).astype(np.int64), axis=axis)
    moved = a + weight.reshape(shape) * (b - a)
    outside = ((source < -0.5) | (source > length - 0.5)).reshape(shape)
    return np.where(outside, np.float32(fill), moved)
