"""Steps that shape the histogram: equalisation, matching, landmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...config.steps import Clahe, Equalise, HistogramMatch, Nyul
from ...errors import ScanError
from ...volumes import Volume
from ..arrays import by_slice, counted, flat
from ..context import Context


def equalise(step: Equalise, volume: Volume, context: Context) -> Volume:
    """The cumulative histogram at the intensity, linear between the centres of bins; 0 to 1 (as scikit-image)."""
    values = counted(step, volume, context)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise flat("equalise")
    counts, edges = np.histogram(values, bins=step.bins, range=(low, high))
    share = np.cumsum(counts) / values.size
    centres = (edges[:-1] + edges[1:]) / 2
    return by_slice(volume, lambda plane: np.interp(plane, centres, share))


def clahe(step: Clahe, volume: Volume, context: Context) -> Volume:
    """Contrast-limited adaptive histogram equalisation: Zuiderveld, Graphics Gems IV (1994) 474-485.

    Histograms of tiles are clipped, what is cut off is spread evenly below the limit, and the cumulative histograms
    of the nearest tiles are interpolated linearly at every voxel. Bins lie between the image's lowest and highest
    intensity; the last tiles are completed by mirroring. The result lies between 0 and 1, float32.
    """
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise flat("clahe")

    def numbers(plane: np.ndarray) -> np.ndarray:
        share = (plane.astype(np.float64) - low) / (high - low)
        return np.minimum(share * step.bins, step.bins - 1).astype(np.int16)

    result = np.empty(volume.array.shape, np.float32)
    if step.planes == "slices":
        for z, plane in enumerate(volume.array):
            binned = numbers(plane)[None]
            result[z] = _interpolated(
                binned, 0, _maps(lambda k, b=binned: b[k], binned.shape, step), binned.shape, step
            )
        return volume.with_array(result)
    shape = volume.array.shape
    maps = _maps(lambda k: numbers(volume.array[k]), shape, step)
    for z, plane in enumerate(volume.array):
        result[z] = _interpolated(numbers(plane)[None], z, maps, shape, step)
    return volume.with_array(result)


def _tile(n: int, tiles: int) -> tuple[int, int]:
    """Voxels per tile and number of tiles along an axis."""
    length = max(n // tiles, 1)
    return length, math.ceil(n / length)


def _maps(plane: Any, shape: Sequence[int], step: Clahe) -> np.ndarray:
    """Cumulative clipped histogram of every tile, (z, y, x tiles, bins)."""
    (lz, nz), (ly, ny), (lx, nx) = (_tile(n, step.tiles) for n in shape)
    counts = np.zeros((nz, ny, nx, step.bins))
    rows, columns = (_mirrored(n, length * tiles) for n, length, tiles in ((shape[1], ly, ny), (shape[2], lx, nx)))
    tile = (np.arange(rows.size) // ly)[:, None] * nx + np.arange(columns.size) // lx
    for z, k in enumerate(_mirrored(shape[0], lz * nz)):
        number = tile * step.bins + plane(k)[np.ix_(rows, columns)]
        counts[z // lz] += np.bincount(number.ravel(), minlength=ny * nx * step.bins).reshape(ny, nx, step.bins)
    voxels = lz * ly * lx
    limit = max(step.clip_limit * voxels, voxels / step.bins, 1.0)
    return np.cumsum(_clipped(counts, limit), axis=-1) / voxels


def _mirrored(n: int, wanted: int) -> np.ndarray:
    """Indices 0 to n - 1, continued to a number of them by mirroring at the last voxel."""
    index = np.arange(wanted)
    return np.where(index < n, index, np.maximum(2 * (n - 1) - index, 0))


def _clipped(counts: np.ndarray, limit: float) -> np.ndarray:
    """Clip histograms (..., bins) and spread the excess evenly over the bins below the limit."""
    result = np.minimum(counts, limit)
    excess = counts.sum(-1) - result.sum(-1)
    for _ in range(counts.shape[-1]):
        room = limit - result
        open_ = room > 0
        if not (excess > 1e-9).any():
            break
        share = excess / np.maximum(open_.sum(-1), 1)
        added = np.minimum(np.where(open_, share[..., None], 0.0), room)
        result += added
        excess = excess - added.sum(-1)
    return result


def _interpolated(binned: np.ndarray, z: int, maps: np.ndarray, shape: Sequence[int], step: Clahe) -> np.ndarray:
    """The maps of the eight nearest tiles at one plane (1, y, x) of bin numbers."""
    near = []
    for n, at in zip(shape, (np.array([z]), np.arange(shape[1]), np.arange(shape[2])), strict=True):
        length, tiles = _tile(n, step.tiles)
        position = (at + 0.5) / length - 0.5
        base = np.floor(position).astype(int)
        weight = position - base
        near.append([(np.clip(base + e, 0, tiles - 1), weight if e else 1 - weight) for e in (0, 1)])
    result = np.zeros(binned.shape[1:])
    for tz, wz in near[0]:
        for ty, wy in near[1]:
            for tx, wx in near[2]:
                weight = wz[0] * wy[:, None] * wx[None, :]
                result += weight * maps[tz[0], ty[:, None], tx[None, :], binned[0]]
    return result


def histogram_match(step: HistogramMatch, volume: Volume, context: Context) -> Volume:
    """Quantile to quantile: the image's own quantile function onto the standard's, linear in between."""
    standard = np.array(context.parameters("histogram-match")["quantiles"])
    own = _quantiles(counted(step, volume, context), step.levels)
    return _mapped(volume, own, standard, "histogram-match", extrapolate=False)


def histogram_of(step: HistogramMatch, volume: Volume, context: Context) -> dict[str, Any]:
    values = _quantiles(counted(step, volume, context), step.levels)
    if values[0] == values[-1]:
        raise flat("histogram-match")
    return {"quantiles": values.tolist()}


def histogram_fit(step: HistogramMatch, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scans' mean quantile function: the barycentre of their histograms, to which none is far."""
    return {"quantiles": _mean(parts, "quantiles"), "scans": len(parts)}


def nyul(step: Nyul, volume: Volume, context: Context) -> Volume:
    """Landmarks onto the standard ones, linear in between and beyond with the slope of the outer pieces.

    Nyul, Udupa and Zhang, IEEE TMI 19 (2000) 143-150, with the percentiles of Shah et al., Med Image Anal 15 (2011)
    267-282.
    """
    own = np.percentile(counted(step, volume, context), step.percentiles)
    return _mapped(volume, own, np.array(context.parameters("nyul")["landmarks"]), "nyul", extrapolate=True)


def nyul_of(step: Nyul, volume: Volume, context: Context) -> dict[str, Any]:
    landmarks = np.percentile(counted(step, volume, context), step.percentiles).astype(np.float64)
    if landmarks[0] == landmarks[-1]:
        raise flat("nyul")
    share = (landmarks - landmarks[0]) / (landmarks[-1] - landmarks[0])
    return {"landmarks": (step.output[0] + share * (step.output[1] - step.output[0])).tolist()}


def nyul_fit(step: Nyul, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of the scans' landmarks on the standard scale."""
    return {"landmarks": _mean(parts, "landmarks"), "scans": len(parts)}


def _quantiles(values: np.ndarray, levels: int) -> np.ndarray:
    """Quantiles at equal steps of probability from 0 to 1."""
    return np.quantile(values, np.linspace(0, 1, levels + 1)).astype(np.float64)


def _mean(parts: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [math.fsum(column) / len(parts) for column in zip(*(p[key] for p in parts), strict=True)]


def _mapped(volume: Volume, own: np.ndarray, standard: np.ndarray, kind: str, *, extrapolate: bool) -> Volume:
    """Piecewise linear map; where several landmarks of the image coincide, they go to the mean of the standard's."""
    own = np.asarray(own, dtype=np.float64)
    knots, which = np.unique(own, return_inverse=True)
    if knots.size < 2:
        raise flat(kind)
    targets = np.bincount(which, standard) / np.bincount(which)
    slopes = np.diff(targets) / np.diff(knots)
    if not np.isfinite(slopes).all():
        raise ScanError("VIEW_FLAT", f"{kind}: landmarks of the image coincide")

    def mapped(plane: np.ndarray) -> np.ndarray:
        values = plane.astype(np.float64)
        result = np.interp(values, knots, targets)
        if extrapolate:
            result += np.minimum(values - knots[0], 0) * slopes[0] + np.maximum(values - knots[-1], 0) * slopes[-1]
        return result

    return by_slice(volume, mapped)
