"""The steps of a view. Each takes a volume and returns one, whatever happened to other scans.

A step is `function(settings, volume, context) -> Volume`. One that can be fitted on training patients has two more:
what it takes from one scan, and what it makes of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import steps as settings
from ...config.views import View
from ...errors import ScanError
from ...volumes import Volume
from ..context import Context
from . import ct, custom, filters, grid, histogram, intensity, lesion, mri

Function = Callable[[Any, Volume, Context], Volume]
STEPS: dict[type, Function] = {
    settings.Resample: grid.resample,
    settings.Resize: grid.resize,
    settings.CropOrPad: grid.crop_or_pad,
    settings.CropAround: grid.crop_around,
    settings.SideBySide: grid.side_by_side,
    settings.Clip: intensity.clip,
    settings.Window: intensity.window,
    settings.Linear: intensity.linear,
    settings.Shift: intensity.shift,
    settings.Absolute: intensity.absolute,
    settings.MinMax: intensity.min_max,
    settings.ContrastStretch: intensity.contrast_stretch,
    settings.ZScore: intensity.z_score,
    settings.Pack: intensity.pack,
    settings.BinWidth: intensity.bin_width,
    settings.BinCount: intensity.bin_count,
    settings.Round: intensity.round_,
    settings.Suv: intensity.suv,
    settings.Gaussian: filters.gaussian,
    settings.Median: filters.median,
    settings.Diffusion: filters.diffusion,
    settings.NonLocalMeans: filters.non_local_means,
    settings.Frequency: filters.frequency,
    settings.Equalise: histogram.equalise,
    settings.Clahe: histogram.clahe,
    settings.HistogramMatch: histogram.histogram_match,
    settings.Nyul: histogram.nyul,
    settings.N4: mri.n4,
    settings.WhiteStripe: mri.white_stripe,
    settings.Body: ct.body,
    settings.Lungs: ct.lungs,
    settings.Attenuate: lesion.attenuate,
    settings.OtsuCrop: lesion.otsu_crop,
    settings.Custom: custom.custom,
}


@dataclass(frozen=True)
class Fitting:
    """What a scan contributes, as JSON, and the parameters made of all contributions in the order of the scans."""

    measure: Callable[[Any, Volume, Context], dict[str, Any]]
    combine: Callable[[Any, Sequence[Mapping[str, Any]]], dict[str, Any]]


FITTINGS: dict[type, Fitting] = {
    settings.Resample: Fitting(lambda step, volume, _: grid.spacing_of(step, volume.geometry), grid.mode),
    settings.ZScore: Fitting(intensity.z_score_of, intensity.z_score_fit),
    settings.Frequency: Fitting(filters.frequency_of, filters.frequency_fit),
    settings.HistogramMatch: Fitting(histogram.histogram_of, histogram.histogram_fit),
    settings.Nyul: Fitting(histogram.nyul_of, histogram.nyul_fit),
}


def apply(view: View, volume: Volume, context: Context | None = None, *, until: int | None = None) -> Volume:
    """All steps of a view in their order. A view without steps returns the volume as it is, in its own type.

    `context` holds masks, fitted parameters and the unit, for steps that need them; `until` stops before the step of
    that number.

    Raises
    ------
    ScanError
        VIEW_NOT_FINITE for NaN or infinite intensities, before the first step or after any; VIEW_FLAT where a step
        needs contrast and there is none; others by step.
    """
    context = context or Context()
    if not _finite(volume.array):
        raise ScanError("VIEW_NOT_FINITE", "the image has intensities that are NaN or infinite")
    for number, step in enumerate(view.sequence()[:until]):
        volume = STEPS[type(step)](step, volume, context.at(number))
        if not _finite(volume.array):
            raise ScanError("VIEW_NOT_FINITE", f"{step.kind} gives intensities that are NaN or infinite")
    return volume


def _finite(array: np.ndarray) -> bool:
    """Whether all values are finite; extremes carry NaN and infinity, and no mask of the image's size is needed."""
    return array.dtype.kind != "f" or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
