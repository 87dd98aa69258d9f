"""Interpolation on a part of a grid, axis by axis: a voxel's value does not depend on which part is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..grids import crop_geometry
from ..volumes import Geometry, Volume


def resample(image: Volume, grid: Geometry, low: Sequence[int], high: Sequence[int], interpolation: str) -> Volume:
    """Values of `image` on the voxels `low` to `high` (x, y, z, both included) of `grid`, float64.

    `grid` has the axes and the centre of the image's own grid (`grids.aligned`). `interpolation` is nearest, linear or
    bspline (cubic, with ITK's coefficients and its mirror boundary); beyond the centre of an edge voxel nearest and
    linear take the nearest value (IBSI reference manual, section 2.4).
    """
    array = _coefficients(image) if interpolation == "bspline" else image.array
    taps = []
    for n, s, m, t, a, b in zip(
        image.geometry.size, image.geometry.spacing, grid.size, grid.spacing, low, high, strict=True
    ):
        # from the whole grid's centre, so that rounding is the same in every part
        position = (np.arange(a, b + 1) * t + 0.5 * ((n - 1) * s - (m - 1) * t)) / s
        taps.append(_taps(position, n, interpolation))
    # cut before the first pass: later axes need only the voxels that their taps touch
    cuts = [(min(int(i.min()) for i, _ in tap), max(int(i.max()) for i, _ in tap) + 1) for tap in taps]
    array = array[tuple(slice(*cut) for cut in cuts[::-1])].astype(np.float64)
    for axis, (tap, (start, _)) in enumerate(zip(taps[::-1], cuts[::-1], strict=True)):
        shape = [1, 1, 1]
        shape[axis] = -1
        total: np.ndarray | None = None
        for index, weight in tap:
            term = array.take(index - start, axis=axis) * weight.reshape(shape)
            total = term if total is None else np.add(total, term, out=total)
        assert total is not None
        array = total
    return Volume(array, crop_geometry(grid, low, high))


def _taps(position: np.ndarray, size: int, interpolation: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices and weights that make up the values at continuous indices."""
    if interpolation == "nearest":
        # halves go up, whichever way rounding tipped them
        index = np.clip(np.floor(np.round(position, 9) + 0.5).astype(int), 0, size - 1)
        return [(index, np.ones(len(position)))]
    if interpolation == "linear":
        position = np.clip(position, 0, size - 1)
        first = np.minimum(np.floor(position).astype(int), max(size - 2, 0))
        rest = position - first
        return [(first, 1 - rest), (np.minimum(first + 1, size - 1), rest)]
    first = np.floor(position).astype(int)
    u = position - first
    weights = [(1 - u) ** 3 / 6, 2 / 3 - u**2 + u**3 / 2, 2 / 3 - (1 - u) ** 2 + (1 - u) ** 3 / 2, u**3 / 6]
    period = max(2 * (size - 1), 1)
    taps = []
    for n, weight in enumerate(weights):
        index = (first + n - 1) % period
        taps.append((np.minimum(index, period - index) if size > 1 else np.zeros_like(index), weight))
    return taps


def _coefficients(image: Volume) -> np.ndarray:
    """Coefficients of the cubic B-spline through the voxels."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return sitk.GetArrayFromImage(sitk.BSplineDecomposition(sitk.Cast(image.to_sitk(), sitk.sitkFloat64), 3))
