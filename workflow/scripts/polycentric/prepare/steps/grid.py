"""Steps that change the grid: resampling, sizes, boxes, planes side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...config.steps import CropAround, CropOrPad, Resample, Resize, SideBySide
from ...errors import ScanError
from ...grids import aligned, box, crop, onto, to_points
from ...volumes import Geometry, Volume
from ..arrays import typed
from ..context import Context

CUBIC_A = -0.75


def resample(step: Resample, volume: Volume, context: Context) -> Volume:
    """Onto the centre-aligned grid of the wanted spacing (IBSI), in float32; nearest keeps the type."""
    spacing = context.parameters("resample")["spacing_mm"] if step.spacing_mm == "mode" else step.spacing_mm
    return interpolate(volume, aligned(volume.geometry, spacing), step.interpolation)


def resize(step: Resize, volume: Volume, context: Context) -> Volume:
    """Another number of voxels over the same extent (edge to edge), in float32; nearest keeps the type."""
    old = volume.geometry
    size = tuple(new or n for new, n in zip(step.size, old.size, strict=True))
    spacing = tuple(s * n / m for s, n, m in zip(old.spacing, old.size, size, strict=True))
    shift = [(t - s) / 2 for s, t in zip(old.spacing, spacing, strict=True)]
    origin = np.array(old.origin) + np.array(old.direction).reshape(3, 3) @ shift
    new = Geometry(size, spacing, tuple(map(float, origin)), old.direction)
    return volume if size == old.size else interpolate(volume, new, step.interpolation)


def interpolate(volume: Volume, geometry: Geometry, interpolation: str) -> Volume:
    """Map onto a grid of the same directions; beyond the edge the nearest voxel counts."""
    if interpolation == "cubic":
        return _cubic(volume, geometry)
    if interpolation == "bspline" and min(n for n, m in zip(volume.geometry.size, geometry.size, strict=True)) == 1:
        return _flat_bspline(volume, geometry)
    result = onto(volume, geometry, interpolation, "float32")
    return typed(result, volume) if interpolation == "nearest" else result


def _cubic(volume: Volume, geometry: Geometry) -> Volume:
    """Cubic convolution (Keys, IEEE Trans. ASSP 29 (1981) 1153-1160, eq. 4) with a = -0.75, edges repeated.

    That value is what OpenCV and PyTorch call bicubic, 4 x 4 pixels in the plane.
    """
    old = volume.geometry
    direction = np.array(old.direction).reshape(3, 3)
    first = np.linalg.inv(direction) @ (np.array(geometry.origin) - np.array(old.origin)) / old.spacing
    array = volume.array.astype(np.float32, copy=False)
    # z first and x last: each pass runs over what the others left
    for axis, along in ((0, 2), (1, 1), (2, 0)):
        at = first[along] + np.arange(geometry.size[along]) * geometry.spacing[along] / old.spacing[along]
        whole = at.size == array.shape[axis] and np.allclose(at, np.arange(at.size), atol=1e-6)
        if array.shape[axis] > 1 and not whole:
            array = _along(array, axis, at)
        elif array.shape[axis] != at.size:
            array = np.repeat(array, at.size, axis)
    return Volume(np.ascontiguousarray(array), geometry)


def _along(array: np.ndarray, axis: int, at: np.ndarray) -> np.ndarray:
    base = np.floor(at).astype(int)
    result = None
    for offset in (-1, 0, 1, 2):
        weight = _keys(np.abs(at - base - offset)).astype(np.float32)
        taken = np.take(array, np.clip(base + offset, 0, array.shape[axis] - 1), axis)
        taken *= weight.reshape([-1 if a == axis else 1 for a in range(3)])
        result = taken if result is None else np.add(result, taken, out=result)
    assert result is not None
    return result


def _keys(t: np.ndarray) -> np.ndarray:
    a = CUBIC_A
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _flat_bspline(volume: Volume, geometry: Geometry) -> Volume:
    """The spline needs more than one voxel per axis: a single plane is repeated to five, which changes no value."""
    repeats = [5 if n == 1 else 1 for n in volume.geometry.size]
    array = volume.array
    for axis, n in enumerate(repeats[::-1]):
        array = np.repeat(array, n, axis)
    corner = np.array([[-2.0 if n == 5 else 0.0 for n in repeats]])
    origin = tuple(map(float, to_points(volume.geometry, corner)[0]))
    thick = Geometry(array.shape[::-1], volume.geometry.spacing, origin, volume.geometry.direction)
    return onto(Volume(array, thick), geometry, "bspline", "float32")


def crop_or_pad(step: CropOrPad, volume: Volume, context: Context) -> Volume:
    """Another number of voxels about the centre; of an odd difference the larger half goes to the end."""
    size = tuple(new or n for new, n in zip(step.size, volume.geometry.size, strict=True))
    first = [int((n - m) / 2) for n, m in zip(volume.geometry.size, size, strict=True)]
    fill = step.fill if step.fill is not None else volume.array.min()
    return extract(volume, first, size, fill)


def extract(volume: Volume, first: Sequence[int], size: Sequence[int], fill: float) -> Volume:
    """The part of a grid from index `first` (x, y, z; may be negative) of a size; what lies beyond is filled."""
    dtype = np.result_type(volume.array.dtype, np.min_scalar_type(fill)) if fill != int(fill) else volume.array.dtype
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max:
        dtype = np.dtype(np.float32)
    dtype = np.dtype(np.float32) if dtype == np.float16 else dtype
    array = np.full(tuple(size)[::-1], fill, dtype)
    source, target = [], []
    for start, length, n in zip(first, size, volume.geometry.size, strict=True):
        low, high = max(0, start), min(n, start + length)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    array[tuple(target[::-1])] = volume.array[tuple(source[::-1])]
    origin = to_points(volume.geometry, np.array([first], dtype=float))[0]
    old = volume.geometry
    return Volume(array, Geometry(tuple(size), old.spacing, tuple(map(float, origin)), old.direction))


def crop_around(step: CropAround, volume: Volume, context: Context) -> Volume:
    """The box of a region and a margin, as far as the image reaches."""
    return crop_to(volume, context.region(step.inside, volume.geometry), step.margin_mm)


def crop_to(volume: Volume, mask: np.ndarray, margin_mm: float = 0.0) -> Volume:
    bounds = box(mask)
    assert bounds is not None
    extra = [math.ceil(margin_mm / s - 1e-6) for s in volume.geometry.spacing]
    first = [max(0, a - e) for a, e in zip(bounds[0], extra, strict=True)]
    last = [min(n - 1, b + e) for n, b, e in zip(volume.geometry.size, bounds[1], extra, strict=True)]
    return crop(volume, first, last)


def side_by_side(step: SideBySide, volume: Volume, context: Context) -> Volume:
    """Planes z = 0, 1, ... from left to right in one plane (Ibrahim et al. 2023: anterior and posterior).

    Only the first plane keeps its position in the patient.
    """
    n = volume.array.shape[0]
    if n != step.planes:
        raise ScanError("VIEW_PLANES", f"side-by-side expects {step.planes} planes, the scan has {n}")
    array = np.concatenate(list(volume.array), axis=1)[None]
    old = volume.geometry
    size = (array.shape[2], array.shape[1], 1)
    return Volume(np.ascontiguousarray(array), Geometry(size, old.spacing, old.origin, old.direction))


def spacing_of(step: Resample, geometry: Geometry) -> dict[str, Any]:
    """A scan's share in the mode: its spacing, rounded to 0.001 mm."""
    return {"spacing_mm": [round(s, 3) for s in geometry.spacing]}


def mode(step: Resample, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The most frequent spacing in the plane (x and y together) and across; of equally frequent ones the smallest."""
    plane = Counter(tuple(p["spacing_mm"][:2]) for p in parts)
    across = Counter(p["spacing_mm"][2] for p in parts)
    x, y = min(plane, key=lambda k: (-plane[k], k))
    z = min(across, key=lambda k: (-across[k], k))
    return {"spacing_mm": [x, y, z], "scans_with_it": [plane[x, y], across[z]], "scans": len(parts)}
