"""Small helpers of steps: values that count, slice-wise work that bounds memory, types."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from ..config.steps import Counted
from ..errors import ScanError
from ..volumes import Volume
from .context import Context


def counted(step: Counted, volume: Volume, context: Context) -> np.ndarray:
    """The voxels (n) from which a step takes its measures, in the image's own type.

    Raises
    ------
    ScanError
        VIEW_NOTHING_COUNTS if there are none.
    """
    array = volume.array
    if step.inside is None and step.above is None:
        return array.reshape(-1)
    chosen = np.ones(array.shape, bool) if step.inside is None else context.region(step.inside, volume.geometry)
    if step.above is not None:
        chosen &= array > step.above
    values = array[chosen]
    if values.size == 0:
        raise ScanError("VIEW_NOTHING_COUNTS", f"{step.kind}: no voxel lies above {step.above:g}")
    return values


def by_slice(volume: Volume, function: Callable[[np.ndarray], np.ndarray], dtype: type = np.float32) -> Volume:
    """Apply a function of values to one axial plane after the other, so that no large float64 copy arises."""
    result = np.empty(volume.array.shape, dtype)
    for z, plane in enumerate(volume.array):
        result[z] = function(plane)
    return volume.with_array(result)


def moments(values: np.ndarray) -> tuple[int, float, float]:
    """Number, mean and population SD, in float64 over chunks added exactly: no copy of the image arises."""
    values = values.reshape(-1)
    chunks = range(0, values.size, 1 << 20)
    mean = math.fsum(float(values[i : i + (1 << 20)].sum(dtype=np.float64)) for i in chunks) / values.size
    squares = (((values[i : i + (1 << 20)].astype(np.float64) - mean) ** 2).sum() for i in chunks)
    return values.size, mean, math.sqrt(math.fsum(float(s) for s in squares) / values.size)


def pooled(parts: Iterable[tuple[int, float, float]]) -> tuple[int, float, float]:
    """Number, mean and population SD of several sets of values together, from those of each."""
    parts = list(parts)
    n = sum(p[0] for p in parts)
    mean = math.fsum(p[0] * p[1] for p in parts) / n
    variance = math.fsum(p[0] * (p[2] ** 2 + (p[1] - mean) ** 2) for p in parts) / n
    return n, mean, math.sqrt(variance)


def as_float(volume: Volume) -> np.ndarray:
    return volume.array.astype(np.float32, copy=False)


def typed(result: Volume, source: Volume, bounds: tuple[float, ...] = ()) -> Volume:
    """Back to the source's integer type where no value can change by it."""
    dtype = source.array.dtype
    if dtype.kind not in "iu" or any(b != int(b) for b in bounds):
        return result
    limits = np.iinfo(dtype)
    if any(not limits.min <= b <= limits.max for b in bounds):
        return result
    return replace(result, array=result.array.astype(dtype))


def flat(kind: str) -> ScanError:
    return ScanError("VIEW_FLAT", f"{kind} needs at least two different intensities")
