"""Noise of a CT scan, measured in the scan itself."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SLICES, WINDOW_MM = 15, 9.0


def noise_hu(array: np.ndarray, spacing: tuple[float, float, float], muscle_hu: float) -> float | None:
    """Global noise level: the mode of the local standard deviation in soft tissue, HU.

    After Christianson et al. (2015) AJR 205:W93: most windows of soft tissue hold no edge, so that the most frequent
    local deviation is the noise. `array` (z, y, x) at full resolution; 15 slices are enough. The deviation is without
    bias by the number of voxels of a window, but noise that is correlated over more than the window is underestimated.
    """
    count = array.shape[0]
    chosen = np.unique(np.linspace(0.1 * (count - 1), 0.9 * (count - 1), min(SLICES, count)).round().astype(int))
    size = tuple(2 * max(1, round(WINDOW_MM / (2 * s))) + 1 for s in spacing[1:])
    n = size[0] * size[1]
    found = []
    for k in chosen:
        plane = np.clip(array[k], -1024, 3071).astype(np.float32)
        mean = ndimage.uniform_filter(plane, size)
        spread = np.sqrt(np.maximum(ndimage.uniform_filter(plane * plane, size) - mean * mean, 0) * n / (n - 1))
        found.append(spread[np.abs(mean - muscle_hu) < 50])
    values = np.concatenate(found)
    if values.size < 2000:
        return None
    limit = float(np.percentile(values, 90))
    if limit <= 0:
        return 0.0
    counts, edges = np.histogram(values, bins=100, range=(0, limit))
    best = int(ndimage.gaussian_filter1d(counts.astype(float), 3, mode="nearest").argmax())
    return float((edges[best] + edges[best + 1]) / 2)
