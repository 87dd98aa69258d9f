"""Histogram and spectra of an axial slice. numpy alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

RADIAL_BINS = 32
# frequencies along x (one half suffices, the spectrum of a real image is symmetric) and along y
PLANE_BINS = (32, 64)


def grey(hu: np.ndarray, within: np.ndarray, hu_range: tuple[float, float]) -> np.ndarray:
    """Grey values floor(255 (x - low) / (high - low)), clipped to 0 to 255, 0 outside the body, uint8.

    Kalantar et al. 2023, equation 10.
    """
    low, high = hu_range
    scaled = np.floor(255 * (hu.astype(np.float32) - low) / (high - low))
    return np.where(within, np.clip(scaled, 0, 255), 0).astype(np.uint8)


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Fractions of values between edges; what lies beyond counts in the outermost bins. Zeros without values."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    return counts / max(1, counts.sum())


@lru_cache(maxsize=8)
def _places(
    shape: tuple[int, int], spacing: tuple[float, float], highest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Taper, radial bin and plane bin of each frequency of `rfft2`; what lies beyond falls into a last bin.

    The circle and the plane share `highest` (cycles per mm). Constant parts of rows and columns belong to the lowest
    bins; the mean of the slice is taken off before.
    """
    rows, columns = shape
    down, across = np.fft.fftfreq(rows, spacing[1])[:, None], np.fft.rfftfreq(columns, spacing[0])[None]
    radial = np.floor(np.hypot(down, across) / highest * RADIAL_BINS).astype(int)
    radial = np.minimum(radial, RADIAL_BINS)
    x = np.floor(across / highest * PLANE_BINS[0]).astype(int)
    y = np.floor((down / highest + 1) / 2 * PLANE_BINS[1]).astype(int)
    inside = (x < PLANE_BINS[0]) & (y >= 0) & (y < PLANE_BINS[1])
    plane = np.where(inside, np.clip(y, 0, PLANE_BINS[1] - 1) * PLANE_BINS[0] + x, PLANE_BINS[0] * PLANE_BINS[1])
    taper = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[1:-1]
    return taper, radial.ravel(), plane.ravel()


def spectra(
    hu: np.ndarray, spacing: tuple[float, float], hu_range: tuple[float, float], highest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decimal logs of the power of a slice (y, x): by radius (32,), and by frequency along y and x (64 * 32,).

    The slice is clipped to the range, scaled to [-1, 1], freed of its mean and tapered by a Hann window; the power is
    per pixel and the mean of all frequencies of a bin. Bins up to `highest` cycles per mm; NaN where the grid has no
    frequency, such as beyond half a cycle per pixel. `spacing` is (x, y) in mm.
    """
    low, high = hu_range
    image = (np.clip(hu, low, high).astype(np.float64) - (low + high) / 2) / ((high - low) / 2)
    taper, radial, plane = _places(hu.shape, spacing, highest)
    power = (np.abs(np.fft.rfft2((image - image.mean()) * taper)) ** 2 / hu.size).ravel()
    found = []
    for place, bins in ((radial, RADIAL_BINS), (plane, PLANE_BINS[0] * PLANE_BINS[1])):
        counts = np.bincount(place, minlength=bins + 1)[:bins]
        sums = np.bincount(place, power, minlength=bins + 1)[:bins]
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        found.append(np.log10(mean + 1e-12))
    return found[0], found[1]
