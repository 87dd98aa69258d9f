"""Measures on images and histograms."""

from __future__ import annotations

import numpy as np

# HU of the source image by which tissues are told apart, lowest included, highest not
TISSUES: dict[str, tuple[float, float]] = {
    "air": (-1000.0, -950.0),
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -30.0),
    "soft tissue": (-30.0, 100.0),
    "enhanced blood": (100.0, 400.0),
    "bone": (400.0, 3000.0),
}


def tissue_change(source: np.ndarray, synthetic: np.ndarray, within: np.ndarray) -> dict[str, tuple[float, int]]:
    """Mean of synthetic minus source in HU and number of voxels, by tissue of the source; NaN without voxels."""
    change = {}
    for tissue, (low, high) in TISSUES.items():
        chosen = within & (source >= low) & (source < high)
        voxels = int(chosen.sum())
        difference = synthetic[chosen].astype(np.float64) - source[chosen]
        change[tissue] = (float(difference.mean()) if voxels else float("nan"), voxels)
    return change


def histogram(hu: np.ndarray, bins: int, hu_range: tuple[float, float]) -> np.ndarray:
    """Fractions of voxels in equal bins of a range; voxels beyond it count in the outermost bins."""
    counts, _ = np.histogram(np.clip(hu, *hu_range), bins=bins, range=hu_range)
    return counts / max(1, counts.sum())


def log_spectrum(hu: np.ndarray, hu_range: tuple[float, float], bins: int = 32) -> np.ndarray:
    """Mean over axial slices of the decimal log of the radial power spectrum, up to half a cycle per voxel.

    Slices (z, y, x) are clipped to the range, scaled to [-1, 1], freed of their mean and tapered by a Hann window.
    Frequencies are in cycles per voxel, so that images of one view, which share their spacing, can be compared.
    """
    low, high = hu_range
    image = (np.clip(hu, low, high).astype(np.float64) - (low + high) / 2) / ((high - low) / 2)
    image -= image.mean(axis=(1, 2), keepdims=True)
    taper = np.hanning(hu.shape[1])[:, None] * np.hanning(hu.shape[2])
    frequency = np.hypot(np.fft.fftfreq(hu.shape[1])[:, None], np.fft.rfftfreq(hu.shape[2]))
    place = np.minimum((frequency * 2 * bins).astype(int), bins)  # the corners beyond half a cycle are left out
    counts = np.bincount(place.ravel(), minlength=bins + 1)[:bins]
    total = np.zeros(bins)
    for slice_ in image:
        power = np.abs(np.fft.rfft2(slice_ * taper)) ** 2 / slice_.size
        radial = np.bincount(place.ravel(), power.ravel(), minlength=bins + 1)[:bins] / np.maximum(counts, 1)
        total += np.log10(radial + 1e-12)
    return np.where(counts > 0, total / len(image), np.nan)
