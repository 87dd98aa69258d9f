"""The steps of a view. Each takes a volume and returns one, whatever happened to other scans."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config.views import Clip, Custom, Gaussian, MinMax, Resample, Round, View, Window, ZScore
from ..errors import ScanError, UserError
from ..grids import aligned, onto
from ..volumes import Volume


def apply(view: View, volume: Volume) -> Volume:
    """All steps of a view in their order. A view without steps returns the volume as it is, in its own type.

    Raises
    ------
    ScanError
        VIEW_NOT_FINITE for NaN or infinite intensities, VIEW_FLAT where a step needs contrast and there is none.
    """
    if not np.isfinite(volume.array).all():
        raise ScanError("VIEW_NOT_FINITE", "the image has intensities that are NaN or infinite")
    for step in view.sequence():
        volume = STEPS[type(step)](step, volume)
    return volume


def custom(step: Custom, volume: Volume) -> Volume:
    """A user's own step; what it raises fails the scan, and its grid is what it returns."""
    spec = importlib.util.spec_from_file_location(Path(step.file).stem, step.file)
    if spec is None or spec.loader is None:
        raise UserError(f"steps: uses: {step.uses!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks a class's module up there
    spec.loader.exec_module(module)
    result = getattr(module, step.uses.rpartition(":")[2]).model_validate(step.settings)(volume)
    if not isinstance(result, Volume):
        raise TypeError(f"{step.uses} returned {type(result).__name__}, not a Volume")
    return result


def resample(step: Resample, volume: Volume) -> Volume:
    """Onto the centre-aligned grid of the wanted spacing, in float32; nearest keeps the type."""
    result = onto(volume, aligned(volume.geometry, step.spacing_mm), step.interpolation, "float32")
    return _typed(result, volume) if step.interpolation == "nearest" else result


def clip(step: Clip, volume: Volume) -> Volume:
    """Limit intensities; whole bounds keep the type."""
    return _typed(volume.with_array(np.clip(_float(volume), step.low, step.high)), volume, (step.low, step.high))


def window(step: Window, volume: Volume) -> Volume:
    """(I - level) / width + 1/2, clipped to 0..1, mapped onto the output range."""
    share = np.clip((_float(volume) - step.level) / step.width + 0.5, 0, 1)
    return volume.with_array(_onto_range(share, step.output))


def z_score(step: ZScore, volume: Volume) -> Volume:
    """(I - mean) / SD with the population SD of the voxels that count."""
    array = volume.array.astype(np.float64)
    counted = array if step.above is None else array[array > step.above]
    if counted.size == 0 or (deviation := counted.std()) == 0:
        raise ScanError("VIEW_FLAT", "z-score needs at least two different intensities")
    return volume.with_array(((array - counted.mean()) / deviation).astype(np.float32))


def min_max(step: MinMax, volume: Volume) -> Volume:
    """The two percentiles go to the ends of the output range; what lies outside is clipped."""
    low, high = np.percentile(volume.array, step.percentiles)
    if low == high:
        raise ScanError("VIEW_FLAT", "min-max needs at least two different intensities")
    return volume.with_array(_onto_range(np.clip((_float(volume) - low) / (high - low), 0, 1), step.output))


def gaussian(step: Gaussian, volume: Volume) -> Volume:
    """Gaussian smoothing, sigma in mm along every axis, truncated at 4 sigma, edges repeated."""
    from scipy.ndimage import gaussian_filter

    sigma = [step.sigma_mm / s for s in volume.geometry.spacing[::-1]]
    return volume.with_array(gaussian_filter(_float(volume), sigma, mode="nearest"))


def round_(step: Round, volume: Volume) -> Volume:
    return volume.with_array(np.rint(volume.array))


STEPS: dict[type, Callable[[Any, Volume], Volume]] = {
    Resample: resample,
    Clip: clip,
    Window: window,
    ZScore: z_score,
    MinMax: min_max,
    Gaussian: gaussian,
    Custom: custom,
    Round: round_,
}


def _float(volume: Volume) -> np.ndarray:
    return volume.array.astype(np.float32, copy=False)


def _onto_range(share: np.ndarray, output: tuple[float, float]) -> np.ndarray:
    return (output[0] + share * (output[1] - output[0])).astype(np.float32, copy=False)


def _typed(result: Volume, source: Volume, bounds: tuple[float, ...] = ()) -> Volume:
    """Back to the source's integer type where no value can change by it."""
    dtype = source.array.dtype
    if dtype.kind not in "iu" or any(b != int(b) for b in bounds):
        return result
    limits = np.iinfo(dtype)
    if any(not limits.min <= b <= limits.max for b in bounds):
        return result
    return replace(result, array=result.array.astype(dtype))
