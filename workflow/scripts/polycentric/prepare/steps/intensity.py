"""Steps that treat each intensity by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...config.steps import (
    Absolute,
    BinCount,
    BinWidth,
    Clip,
    ContrastStretch,
    Linear,
    MinMax,
    Pack,
    Round,
    Shift,
    Suv,
    Window,
    ZScore,
)
from ...errors import ScanError
from ...volumes import Volume
from ..arrays import as_float, by_slice, counted, flat, moments, pooled, typed
from ..context import Context

SUV_UNIT = "SUVbw"


def clip(step: Clip, volume: Volume, context: Context) -> Volume:
    """Limit intensities; whole bounds keep the type."""
    return typed(volume.with_array(np.clip(as_float(volume), step.low, step.high)), volume, (step.low, step.high))


def window(step: Window, volume: Volume, context: Context) -> Volume:
    """(I - level) / width + 1/2, clipped to 0..1, mapped onto the output range."""
    return _stretched(volume, step.level - step.width / 2, step.level + step.width / 2, step.output)


def linear(step: Linear, volume: Volume, context: Context) -> Volume:
    """I * multiply + add, in float32."""
    return by_slice(volume, lambda plane: plane.astype(np.float64) * step.multiply + step.add)


def shift(step: Shift, volume: Volume, context: Context) -> Volume:
    """I - min(I) + lowest, in float32."""
    low = float(volume.array.min())
    return by_slice(volume, lambda plane: plane.astype(np.float64) - low + step.lowest)


def absolute(step: Absolute, volume: Volume, context: Context) -> Volume:
    """|I|, in float32."""
    return by_slice(volume, lambda plane: np.abs(plane.astype(np.float64)))


def z_score(step: ZScore, volume: Volume, context: Context) -> Volume:
    """(I - mean) / SD with the population SD of the voxels that count: the image's, or the training patients'."""
    if step.per == "plane":
        return _per_plane(step, volume, context, z_score)
    if step.of == "training":
        own = context.parameters("z-score")
        mean, deviation = own["mean"], own["sd"]
    else:
        _, mean, deviation = moments(counted(step, volume, context))
        # a mean that is not exact leaves a little of nothing in a constant image
        if deviation <= 1e-12 * max(abs(mean), 1e-300):
            raise flat("z-score")
    return by_slice(volume, lambda plane: (plane.astype(np.float64) - mean) / deviation)


def z_score_of(step: ZScore, volume: Volume, context: Context) -> dict[str, Any]:
    n, mean, deviation = moments(counted(step, volume, context))
    return {"n": n, "mean": mean, "sd": deviation}


def z_score_fit(step: ZScore, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and SD of all training voxels together."""
    n, mean, deviation = pooled((p["n"], p["mean"], p["sd"]) for p in parts)
    if deviation == 0:
        raise flat("z-score")
    return {"n": n, "mean": mean, "sd": deviation}


def min_max(step: MinMax, volume: Volume, context: Context) -> Volume:
    """The two percentiles go to the ends of the output range; what lies outside is clipped."""
    if step.per == "plane":
        return _per_plane(step, volume, context, min_max)
    low, high = _percentiles(step, volume, context)
    return _stretched(volume, low, high, step.output)


def contrast_stretch(step: ContrastStretch, volume: Volume, context: Context) -> Volume:
    """The two percentiles go to the image's own lowest and highest intensity; what lies outside is clipped."""
    low, high = _percentiles(step, volume, context)
    return _stretched(volume, low, high, (float(volume.array.min()), float(volume.array.max())))


def pack(step: Pack, volume: Volume, context: Context) -> Volume:
    """255 (I - low) / (high - low), rounded down or to the nearest, clipped to 0..255, as uint8."""
    rounded = np.floor if step.rounding == "down" else np.rint

    def packed(plane: np.ndarray) -> np.ndarray:
        return np.clip(rounded((plane.astype(np.float64) - step.low) * 255.0 / (step.high - step.low)), 0, 255)

    return by_slice(volume, packed, np.uint8)


def bin_width(step: BinWidth, volume: Volume, context: Context) -> Volume:
    """floor((I - start) / width) + 1 (IBSI manual, section 2.7, fixed bin size); int32, or centres in float32."""
    start = float(volume.array.min()) if step.start is None else step.start

    def numbers(plane: np.ndarray) -> np.ndarray:
        return np.maximum(np.floor((plane.astype(np.float64) - start) / step.width) + 1, 1)

    if step.values == "centre":
        return by_slice(volume, lambda plane: start + (numbers(plane) - 0.5) * step.width)
    return by_slice(volume, numbers, np.int32)


def bin_count(step: BinCount, volume: Volume, context: Context) -> Volume:
    """floor(N (I - min) / (max - min)) + 1, N for the maximum (IBSI manual, section 2.7, fixed bin number)."""
    values = counted(step, volume, context)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise flat("bin-count")

    def numbers(plane: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(step.bins * (plane.astype(np.float64) - low) / (high - low)) + 1, 1, step.bins)

    if step.values == "centre":
        return by_slice(volume, lambda plane: low + (numbers(plane) - 0.5) * (high - low) / step.bins)
    return by_slice(volume, numbers, np.int32)


def round_(step: Round, volume: Volume, context: Context) -> Volume:
    return volume.with_array(np.rint(volume.array))


def suv(step: Suv, volume: Volume, context: Context) -> Volume:
    """Refuse what is no uptake value by the scan's unit; limit what is."""
    if not (context.unit or "").startswith(SUV_UNIT):
        unit = context.unit or "unknown"
        raise ScanError("VIEW_NOT_SUV", f"the unit of the values is {unit}, not SUVbw (g/mL)")
    return volume if step.high is None else volume.with_array(np.minimum(as_float(volume), np.float32(step.high)))


def _percentiles(step: MinMax | ContrastStretch, volume: Volume, context: Context) -> tuple[float, float]:
    values = counted(step, volume, context)
    if step.percentiles == (0.0, 100.0):
        low, high = values.min(), values.max()
    else:
        low, high = np.percentile(values, step.percentiles)
    if low == high:
        raise flat(step.kind)
    return float(low), float(high)


def _per_plane(step: Any, volume: Volume, context: Context, function: Any) -> Volume:
    whole = step.model_copy(update={"per": "image"})
    planes = (Volume(volume.array[z : z + 1], volume.geometry) for z in range(len(volume.array)))
    return volume.with_array(np.concatenate([function(whole, plane, context).array for plane in planes]))


def _stretched(volume: Volume, low: float, high: float, output: tuple[float, float]) -> Volume:
    def stretched(plane: np.ndarray) -> np.ndarray:
        share = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1)
        return output[0] + share * (output[1] - output[0])

    return by_slice(volume, stretched)
