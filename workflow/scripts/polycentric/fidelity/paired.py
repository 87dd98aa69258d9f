"""Synthetic images against the true ones of the same patients, as the SynthRAD challenges measure them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Range = tuple[float, float]

CT_RANGE: Range = (-1024.0, 3071.0)
SIDE = 7
K1, K2 = 0.01, 0.03


def mean_absolute_error(truth: np.ndarray, image: np.ndarray, within: np.ndarray, limits: Range = CT_RANGE) -> float:
    """Mean absolute difference within a mask, both images clipped to the limits; NaN for an empty mask."""
    a, b = _clipped(limits, truth, image)
    return float(np.abs(a[within] - b[within]).mean()) if within.any() else float("nan")


def peak_signal_to_noise(truth: np.ndarray, image: np.ndarray, within: np.ndarray, limits: Range = CT_RANGE) -> float:
    """10 log10(range^2 / mean squared difference) within a mask, dB; infinite for equal images."""
    a, b = _clipped(limits, truth, image)
    if not within.any():
        return float("nan")
    error = float(((a[within] - b[within]) ** 2).mean())
    return float(10 * np.log10((limits[1] - limits[0]) ** 2 / error)) if error > 0 else float("inf")


def structural_similarity(truth: np.ndarray, image: np.ndarray, within: np.ndarray, limits: Range = CT_RANGE) -> float:
    """Mean structural similarity over a mask (Wang et al. 2004), truly three-dimensional: cubes of 7 voxels.

    A single plane has squares. Both images are clipped to the limits and set to the lower one outside the mask;
    unbiased variances, constants of the range between the limits. NaN where an axis has fewer than 7 voxels or the mask
    is empty.
    """
    if len(truth) == 1:
        truth, image, within = truth[0], image[0], within[0]
    if min(truth.shape) < SIDE or not within.any():
        return float("nan")
    a, b = (np.where(within, v, limits[0]) for v in _clipped(limits, truth, image))
    scale = limits[1] - limits[0]
    c1, c2 = (K1 * scale) ** 2, (K2 * scale) ** 2
    voxels = SIDE**truth.ndim
    unbiased = voxels / (voxels - 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, size=SIDE)

    ma, mb = mean(a), mean(b)
    va, vb = unbiased * (mean(a * a) - ma * ma), unbiased * (mean(b * b) - mb * mb)
    vab = unbiased * (mean(a * b) - ma * mb)
    found = ((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(found[within].mean())


MEASURES = {
    "mae_hu": ("mean absolute error, HU", mean_absolute_error),
    "psnr_db": ("peak signal-to-noise ratio, dB", peak_signal_to_noise),
    "ssim": ("structural similarity", structural_similarity),
}


def _clipped(limits: Range, *images: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.clip(i.astype(np.float64), *limits) for i in images)
