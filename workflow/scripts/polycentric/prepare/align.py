"""Scans of one patient on one grid by the scanner's positions, and how well they lie upon each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..config.views import Onto
from ..errors import ScanError
from ..volumes import Geometry, Volume, resample

COARSE_MM = 3.0
BINS = 32
REACH_MM = 24.0


def onto_reference(onto: Onto, volume: Volume, fixed: Volume | None, grid: Geometry) -> tuple[Volume, dict[str, Any]]:
    """A volume on the grid of a reference, float32, and facts: overlap, misalignment and its vector in mm.

    `fixed` is the reference image, None for the reference itself.

    Raises
    ------
    ScanError
        VIEW_OVERLAP or VIEW_MISALIGNED where the settings refuse the scan.
    """
    fill = float(volume.array.min()) if onto.fill is None else onto.fill
    array = volume.array if onto.interpolation == "nearest" else volume.array.astype(np.float32, copy=False)
    moved = resample(Volume(array, volume.geometry), grid, interpolation=onto.interpolation, fill=fill)
    covered = resample(Volume(np.ones(array.shape, np.uint8), volume.geometry), grid, interpolation="nearest")
    overlap = float(covered.array.mean())
    if overlap == 0 or overlap < onto.smallest_overlap:
        raise ScanError("VIEW_OVERLAP", f"the image covers {overlap:.0%} of the grid it is brought to")
    facts: dict[str, Any] = {"overlap_share": overlap, "misalignment_mm": 0.0, "shift_mm": [0.0, 0.0, 0.0]}
    if fixed is not None:
        shift = misalignment(fixed, volume)
        distance = None if shift is None else float(np.linalg.norm(shift))
        facts |= {"misalignment_mm": distance, "shift_mm": None if shift is None else [float(s) for s in shift]}
        limit = onto.largest_misalignment_mm
        if limit is not None and (distance is None or distance > limit):
            said = "cannot be told" if distance is None else f"is {distance:.1f} mm"
            raise ScanError("VIEW_MISALIGNED", f"the misalignment {said}; {limit:g} mm are allowed")
    return moved, facts


def misalignment(fixed: Volume, moving: Volume) -> np.ndarray | None:
    """Translation (x, y, z; mm, LPS) of `moving` that would align it best with `fixed`; None where nothing is seen.

    The figure is the maximum of the normalised mutual information (Studholme, Hill and Hawkes, Pattern Recognit 32
    (1999) 71-86) over translations up to 24 mm, searched axis by axis on a grid of 3 mm and refined between its points
    by a parabola. Rotation and motion of organs show in it only as far as a translation mends them.
    """
    pair = _pair(fixed, moving)
    if pair is None:
        return None
    grid, a, b, seen_one, seen_other = pair
    steps = [max(1, int(REACH_MM // s)) for s in grid.spacing]
    # an axis of few voxels cannot be judged: half of it has to remain
    steps = [min(s, n // 4) for s, n in zip(steps, grid.size, strict=True)]
    cache: dict[tuple[int, ...], float] = {}

    def score(at: tuple[int, ...]) -> float:
        if at not in cache:
            cache[at] = _information(a, b, seen_one, seen_other, at)
        return cache[at]

    best = (0, 0, 0)
    for _ in range(10):
        before = best
        for axis in range(3):
            line = [(*best[:axis], k, *best[axis + 1 :]) for k in range(-steps[axis], steps[axis] + 1)]
            best = max(line, key=lambda at: (score(at), -sum(k * k for k in at)))
        if best == before:
            break
    shift = []
    for axis in range(3):
        here = score(best)
        if abs(best[axis]) >= steps[axis]:
            shift.append(best[axis] * grid.spacing[axis])
            continue
        left, right = (score((*best[:axis], best[axis] + d, *best[axis + 1 :])) for d in (-1, 1))
        bend = left - 2 * here + right
        shift.append((best[axis] + (0.5 * (left - right) / bend if bend < 0 else 0.0)) * grid.spacing[axis])
    return np.array(grid.direction).reshape(3, 3) @ np.array(shift)


def normalised_information(fixed: Volume, moving: Volume) -> float:
    """Normalised mutual information of two images where they lie, on the grid of `misalignment`."""
    pair = _pair(fixed, moving)
    return -math.inf if pair is None else _information(*pair[1:], (0, 0, 0))


def _pair(fixed: Volume, moving: Volume) -> tuple[Geometry, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Both images in bins on a coarse grid of the first, and where each is seen; None where that is too little."""
    grid = coarse(fixed.geometry)
    seen_one, seen_other = _inside(fixed, grid), _inside(moving, grid)
    if (seen_one & seen_other).sum() < 1000:
        return None
    one, other = (smooth(volume, COARSE_MM, grid).array for volume in (fixed, moving))
    low, high = np.percentile(one[seen_one], (1, 99)), np.percentile(other[seen_other], (1, 99))
    if low[0] == low[1] or high[0] == high[1]:
        return None
    return grid, _bins(one, *low), _bins(other, *high), seen_one, seen_other


def coarse(geometry: Geometry, mm: float = COARSE_MM) -> Geometry:
    """A grid of about `mm` over the same extent, never finer than the image's own."""
    spacing = tuple(max(s, mm) for s in geometry.spacing)
    size = tuple(
        max(1, math.floor(n * s / t)) for n, s, t in zip(geometry.size, geometry.spacing, spacing, strict=True)
    )
    shift = [
        0.5 * ((n - 1) * s - (m - 1) * t)
        for n, s, m, t in zip(geometry.size, geometry.spacing, size, spacing, strict=True)
    ]
    origin = np.array(geometry.origin) + np.array(geometry.direction).reshape(3, 3) @ shift
    return Geometry(size, spacing, tuple(map(float, origin)), geometry.direction)


def smooth(volume: Volume, mm: float, grid: Geometry) -> Volume:
    """An image on a coarser grid, smoothed for it along the axes on which its voxels are smaller than `mm`."""
    from scipy.ndimage import gaussian_filter

    sigma = [0.4 * mm / s if s < mm else 0.0 for s in volume.geometry.spacing[::-1]]
    return resample(volume.with_array(gaussian_filter(volume.array.astype(np.float32), sigma)), grid)


def _inside(volume: Volume, grid: Geometry) -> np.ndarray:
    ones = Volume(np.ones(volume.array.shape, np.uint8), volume.geometry)
    return resample(ones, grid, interpolation="nearest").array > 0


def _bins(array: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((array - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)


def _information(a: np.ndarray, b: np.ndarray, seen_a: np.ndarray, seen_b: np.ndarray, at: tuple[int, ...]) -> float:
    """Normalised mutual information of a and b moved by whole voxels (x, y, z)."""
    here, there = [], []
    for n, k in zip(a.shape, at[::-1], strict=True):
        here.append(slice(max(0, k), n + min(0, k)))
        there.append(slice(max(0, -k), n - max(0, k)))
    both = seen_a[tuple(here)] & seen_b[tuple(there)]
    if both.sum() < 500:
        return -math.inf
    joint = np.bincount(a[tuple(here)][both] * BINS + b[tuple(there)][both], minlength=BINS * BINS)
    share = joint.reshape(BINS, BINS) / joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    whole = entropy(share.ravel())
    return (entropy(share.sum(0)) + entropy(share.sum(1))) / whole if whole > 0 else -math.inf
