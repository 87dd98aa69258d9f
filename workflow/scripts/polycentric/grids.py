"""Grids: the centre-aligned grid of IBSI, cropping, and mapping of images and masks between grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from .volumes import Geometry, Volume


def aligned(geometry: Geometry, spacing_mm: Sequence[float]) -> Geometry:
    """Grid of another spacing (x, y, z in mm; 0 keeps an axis) with the same centre, at least as large.

    IBSI reference manual, section 2.4 (interpolation): n' = ceil(n s / s'), grids aligned by centre.
    """
    spacing = tuple(
        float(new) if new > 0 else float(old) for new, old in zip(spacing_mm, geometry.spacing, strict=True)
    )
    if np.allclose(spacing, geometry.spacing, rtol=1e-6, atol=0):
        return geometry
    # 1e-6 of a voxel: a ratio that is whole but for rounding must not add a slice
    size = tuple(
        max(1, math.ceil(n * s / t - 1e-6)) for n, s, t in zip(geometry.size, geometry.spacing, spacing, strict=True)
    )
    shift = [
        0.5 * ((n - 1) * s - (m - 1) * t)
        for n, s, m, t in zip(geometry.size, geometry.spacing, size, spacing, strict=True)
    ]
    origin = np.array(geometry.origin) + np.array(geometry.direction).reshape(3, 3) @ shift
    return Geometry(size, spacing, tuple(map(float, origin)), geometry.direction)


def same(one: Geometry, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
    """Whether two grids have the same size and their corners lie within a tolerance of each other."""
    return one.size == other.size and corner_distance_mm(one, other) <= tolerance_mm


def corner_distance_mm(one: Geometry, other: Geometry) -> float:
    """Largest distance in mm between the corresponding corners (centres of corner voxels) of two grids."""
    return float(np.linalg.norm(_corners(one) - _corners(other), axis=1).max())


def _corners(geometry: Geometry) -> np.ndarray:
    corners = itertools.product(*((0, n - 1) for n in geometry.size))
    return to_points(geometry, np.array(list(corners), dtype=float))


def to_points(geometry: Geometry, indices: np.ndarray) -> np.ndarray:
    """Points (n, 3) in mm, LPS, of continuous indices (n, 3) ordered x, y, z."""
    direction = np.array(geometry.direction).reshape(3, 3)
    return np.array(geometry.origin) + (indices * geometry.spacing) @ direction.T


def to_indices(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Continuous indices (n, 3) ordered x, y, z of points (n, 3) in mm, LPS."""
    direction = np.array(geometry.direction).reshape(3, 3)
    return (points - np.array(geometry.origin)) @ np.linalg.inv(direction).T / geometry.spacing


def box(mask: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """First and last index (x, y, z) of the set voxels of a mask (z, y, x); None if there is none."""
    bounds = []
    for axis in (2, 1, 0):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(hits):
            return None
        bounds.append((int(hits[0]), int(hits[-1])))
    return tuple(b[0] for b in bounds), tuple(b[1] for b in bounds)


def crop_geometry(geometry: Geometry, first: Sequence[int], last: Sequence[int]) -> Geometry:
    """The part of a grid from index `first` to index `last` (x, y, z, both included)."""
    origin = to_points(geometry, np.array([first], dtype=float))[0]
    size = tuple(int(b - a + 1) for a, b in zip(first, last, strict=True))
    return Geometry(size, geometry.spacing, tuple(map(float, origin)), geometry.direction)


def crop(volume: Volume, first: Sequence[int], last: Sequence[int]) -> Volume:
    """The part of a volume from index `first` to index `last` (x, y, z, both included)."""
    z, y, x = (slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    return Volume(np.ascontiguousarray(volume.array[z, y, x]), crop_geometry(volume.geometry, first, last))


def onto(volume: Volume, geometry: Geometry, interpolation: str, dtype: str = "float64") -> Volume:
    """Map a volume onto a grid; beyond its edge the nearest voxel counts (IBSI).

    `interpolation` is nearest, linear or bspline (cubic, with ITK's mirror boundary); `dtype` float64 or float32.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    kind = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}[interpolation]
    image = sitk.Resample(
        volume.to_sitk(), geometry.size, sitk.Transform(3, sitk.sitkIdentity), kind,
        geometry.origin, geometry.spacing, geometry.direction, 0.0,
        {"float64": sitk.sitkFloat64, "float32": sitk.sitkFloat32}[dtype], True,
    )  # fmt: skip
    return Volume(sitk.GetArrayFromImage(image), geometry)


def mask_onto(mask: Volume, geometry: Geometry, interpolation: str = "linear") -> Volume:
    """Map a mask onto a grid: nearest voxel, or linear interpolation taken from 0.5 upwards (IBSI); uint8."""
    array = mask.array > 0
    bounds = box(array)
    if bounds is None:
        return Volume(np.zeros(geometry.size[::-1], np.uint8), geometry)
    if same(mask.geometry, geometry):
        return Volume(array.astype(np.uint8), geometry)
    # a margin of background keeps the interpolation as it is on the whole grid
    first = [max(0, a - 2) for a in bounds[0]]
    last = [min(n - 1, b + 2) for n, b in zip(mask.geometry.size, bounds[1], strict=True)]
    small = crop(mask.with_array(array.astype(np.uint8)), first, last)
    return Volume((onto(small, geometry, interpolation).array >= 0.5).astype(np.uint8), geometry)
