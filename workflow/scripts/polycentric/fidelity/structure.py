"""Whether a generator keeps the anatomy: the same thresholds and edges before and after it. numpy and scipy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# HU whose voxels make a region by themselves, the same before and after; enhanced blood is meant to change
REGIONS: dict[str, tuple[float, float]] = {"lung or gas": (-1100.0, -500.0), "bone": (400.0, 4000.0)}
EDGE_SHARE, EDGE_TOLERANCE = 0.05, 1


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice's coefficient of two masks; NaN if both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else float("nan")


def region_overlaps(source: np.ndarray, synthetic: np.ndarray, within: np.ndarray) -> dict[str, float]:
    """Dice of each of `REGIONS` before and after, in HU images (z, y, x); NaN where neither shows it."""
    found = {}
    for name, (low, high) in REGIONS.items():
        masks = [within & (image >= low) & (image < high) for image in (source, synthetic)]
        found[name] = dice(*masks)
    return found


def _gradient(image: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Magnitude of the gradient in HU per mm, of the image smoothed by one voxel; `spacing` (x, y, z)."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    parts = [
        np.gradient(smooth, step, axis=axis) for axis, step in enumerate(reversed(spacing)) if image.shape[axis] > 1
    ]
    return np.sqrt(sum(p * p for p in parts))


def edges_kept(
    source: np.ndarray, synthetic: np.ndarray, within: np.ndarray, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Correlation of gradient magnitudes within the body, and agreement of the strongest edges.

    Edges are the 5 % of the body's voxels with the steepest gradient, in either image by its own threshold; an edge
    voxel agrees if the other image has one within a voxel. `edge_agreement` is the harmonic mean of both shares.
    """
    if within.sum() < 20:
        return {"gradient_correlation": float("nan"), "edge_agreement": float("nan")}
    steep = [_gradient(image, spacing) for image in (source, synthetic)]
    a, b = (g[within].astype(np.float64) for g in steep)
    spread = float(a.std() * b.std())
    correlation = float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else float("nan")
    edges = [within & (g > np.quantile(v, 1 - EDGE_SHARE)) for g, v in zip(steep, (a, b), strict=True)]
    near = [ndimage.binary_dilation(e, np.ones((3,) * e.ndim, bool), EDGE_TOLERANCE) for e in edges]
    shares = [(e & n).sum() / e.sum() if e.any() else np.nan for e, n in ((edges[0], near[1]), (edges[1], near[0]))]
    total = shares[0] + shares[1]
    agreement = float(2 * shares[0] * shares[1] / total) if total > 0 else float(0 if total == 0 else np.nan)
    return {"gradient_correlation": correlation, "edge_agreement": agreement}
