"""Shape features of one ROI, in PyRadiomics' definitions."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from radiomics import cShape

from . import kernels


def shape(mask: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Features of a mask (z, y, x) cut down to its box; `spacing` (z, y, x) in mm."""
    padded = np.pad(mask.astype(np.uint8), 1)
    area, volume = mesh(padded, spacing)
    slice_, column, row, longest = diameters(padded, spacing)
    least, minor, major = _axes(mask, spacing)
    round_ = (36 * math.pi * volume**2) ** (1 / 3)
    return {
        "MeshVolume": volume,
        "VoxelVolume": int(mask.sum()) * math.prod(spacing),
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "Sphericity": round_ / area,
        "Compactness1": volume / (area**1.5 * math.sqrt(math.pi)),
        "Compactness2": 36 * math.pi * volume**2 / area**3,
        "SphericalDisproportion": area / round_,
        "Maximum3DDiameter": longest,
        "Maximum2DDiameterSlice": slice_,
        "Maximum2DDiameterColumn": column,
        "Maximum2DDiameterRow": row,
        "MajorAxisLength": 4 * math.sqrt(major),
        "MinorAxisLength": 4 * math.sqrt(minor),
        "LeastAxisLength": 4 * math.sqrt(least),
        "Elongation": math.sqrt(minor / major),
        "Flatness": math.sqrt(least / major),
    }


def mesh(padded: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, float]:
    """Area in mm2 and volume in mm3 of the mesh that PyRadiomics lays around a mask with a margin of one voxel."""
    counts, positions = np.zeros(256, np.int64), np.zeros((256, 3), np.int64)
    kernels.cubes(padded, counts, positions)
    volumes, normals = _pattern_volumes()
    areas = _pattern_areas(tuple(float(s) for s in spacing))
    volume = counts @ volumes + (positions * normals).sum()
    return float(counts @ areas), float(volume * math.prod(spacing))


@lru_cache(maxsize=64)
def _pattern_areas(spacing: tuple[float, float, float]) -> np.ndarray:
    """Area of the mesh inside each of the 256 patterns of 2 x 2 x 2 voxels, as PyRadiomics' own code has it."""
    steps = np.array(spacing)
    return np.array([cShape.calculate_coefficients(pattern, steps)[0] for pattern in _patterns()])


@lru_cache(maxsize=1)
def _pattern_volumes() -> tuple[np.ndarray, np.ndarray]:
    """Signed volume under each pattern's triangles at the origin, and how it grows with the index along z, y, x.

    A triangle adds det(a, b, c) / 6; moved by t it adds (t . (a x b + b x c + c x a)) / 6 more, linear in t. Both are
    read off PyRadiomics' own code by laying the pattern at index 0 and, beside an empty plane, at index 1.
    """
    unit = np.ones(3)

    def volume(mask: np.ndarray) -> float:
        return cShape.calculate_coefficients(np.ascontiguousarray(mask), unit)[1]

    patterns = _patterns()
    here = np.array([volume(p) for p in patterns])
    weights = 1 << np.arange(8)
    normals = np.empty((256, 3))
    for number, pattern in enumerate(patterns):
        for axis in range(3):
            moved = np.concatenate([np.zeros_like(pattern.take([0], axis)), pattern], axis=axis)
            before = int((moved.take([0, 1], axis).ravel() * weights).sum())
            normals[number, axis] = volume(moved) - here[before] - here[number]
    # the linear part at index 1 is the normal itself
    return np.round(here * 48) / 48, np.round(normals * 48) / 48


@lru_cache(maxsize=1)
def _patterns() -> tuple[np.ndarray, ...]:
    return tuple(((n >> np.arange(8)) & 1).astype(bool).reshape(2, 2, 2) for n in range(256))


def diameters(padded: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Largest distance in mm between vertices of the mesh within a slice (z), a column (y), a row (x), and in 3D.

    Only corners of the convex hull of a plane can be an end of a largest distance.
    """
    depth, height, width = (2 * n for n in padded.shape)
    far = np.iinfo(np.int32).max
    low_x, high_x = np.full((depth, height), far, np.int32), np.full((depth, height), -1, np.int32)
    low_y, high_y = np.full((depth, width), far, np.int32), np.full((depth, width), -1, np.int32)
    kernels.outline(padded, low_x, high_x, low_y, high_y)
    # per axis that is constant: tables (plane, line), the axes of line and position
    planes = {
        0: (low_x, high_x, 1, 2),
        1: (low_x.T, high_x.T, 0, 2),
        2: (low_y.T, high_y.T, 0, 1),
    }
    best = [0.0, 0.0, 0.0]
    corners = []
    for axis, (low, high, line, position) in planes.items():
        low, high = np.ascontiguousarray(low), np.ascontiguousarray(high)
        buffer = np.empty((2 * low.shape[1] + 2, 2), np.int64)
        for plane in np.flatnonzero((low <= high).any(axis=1)):
            n = kernels.hull(low[plane : plane + 1], high[plane : plane + 1], buffer)
            points = np.empty((n, 3))
            points[:, axis], points[:, line], points[:, position] = plane, buffer[:n, 0], buffer[:n, 1]
            points = points / 2 * spacing
            best[axis] = max(best[axis], kernels.widest(points))
            if axis == 0:
                corners.append(points)
    longest = kernels.widest(np.concatenate(corners))
    return tuple(math.sqrt(v) for v in (*best, longest))  # type: ignore[return-value]


def _axes(mask: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """Eigenvalues of the covariance of the voxels' positions, ascending, in mm2; sums of indices are exact."""
    axes = range(mask.ndim)
    number = int(mask.sum())
    lines = {}
    for a in axes:
        for b in range(a, mask.ndim):
            lines[a, b] = mask.sum(axis=tuple(c for c in axes if c not in (a, b)), dtype=np.int64)
    first = [int((lines[a, a] * np.arange(mask.shape[a])).sum()) for a in axes]
    covariance = np.empty((mask.ndim, mask.ndim))
    for (a, b), line in lines.items():
        if a == b:
            product = int((line * np.arange(mask.shape[a]) ** 2).sum())
        else:
            product = int((line * np.outer(np.arange(mask.shape[a]), np.arange(mask.shape[b]))).sum())
        value = (number * product - first[a] * first[b]) / number**2 * spacing[a] * spacing[b]
        covariance[a, b] = covariance[b, a] = value
    return [max(float(v), 0.0) if v > -1e-10 else math.nan for v in np.linalg.eigvalsh(covariance)]


def shape_2d(mask: np.ndarray, spacing: tuple[float, float]) -> dict[str, float]:
    """Features of a plane mask cut down to its box; `spacing` along its two axes in mm."""
    padded = np.ascontiguousarray(np.pad(mask.astype(bool), 1))
    perimeter, surface, diameter = cShape.calculate_coefficients2D(padded, np.array(spacing, dtype=float))
    minor, major = _axes(mask, spacing)
    sphericity = 2 * math.sqrt(math.pi * surface) / perimeter
    return {
        "MeshSurface": surface,
        "PixelSurface": int(mask.sum()) * math.prod(spacing),
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / surface,
        "Sphericity": sphericity,
        "SphericalDisproportion": 1 / sphericity,
        "MaximumDiameter": diameter,
        "MajorAxisLength": 4 * math.sqrt(major),
        "MinorAxisLength": 4 * math.sqrt(minor),
        "Elongation": math.sqrt(minor / major),
    }
