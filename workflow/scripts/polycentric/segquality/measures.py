"""Measures of agreement of two masks on one grid; spacing along (z, y, x) in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Agreement of a mask with its reference.

    dice : 2 |A and B| / (|A| + |B|).
    hd95_voxel_max_mm : the larger of the two directed 95th percentiles of the distances of border voxels' centres to
        the nearest border voxel of the other mask. Tools differ in this by more than 100 mm (Podobnik and Vrtovec
        2024, arXiv 2410.02630), so the definition is in the name.
    nsd_voxel : share of the border voxels of both masks that lie within the tolerance of the other's border.
    volume_difference_ml, volume_difference_percent : mask minus reference; percent of the reference.
    """

    dice: float
    hd95_voxel_max_mm: float
    nsd_voxel: float
    volume_difference_ml: float
    volume_difference_percent: float


def agreement(
    mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float], tolerance_mm: float
) -> Agreement:
    """Compare two boolean masks (z, y, x).

    If one is empty, Dice and surface Dice are 0 and the distance is infinite; if both are, all is perfect by
    convention and distances are 0. Nothing is left out silently.
    """
    mask, reference = mask.astype(bool), reference.astype(bool)
    if mask.shape != reference.shape:
        raise ValueError(f"masks of shapes {mask.shape} and {reference.shape} are not on one grid")
    voxel_ml = float(np.prod(spacing)) / 1000.0
    a, b = int(mask.sum()), int(reference.sum())
    difference = (a - b) * voxel_ml
    percent = 100.0 * (a - b) / b if b else (0.0 if a == 0 else float("inf"))
    if a == 0 and b == 0:
        return Agreement(1.0, 0.0, 1.0, 0.0, 0.0)
    if a == 0 or b == 0:
        return Agreement(0.0, float("inf"), 0.0, difference, percent)
    dice = 2 * int((mask & reference).sum()) / (a + b)
    to_reference, to_mask = border_distances(mask, reference, spacing)
    hd95 = max(float(np.percentile(to_reference, 95)), float(np.percentile(to_mask, 95)))
    near = int((to_reference <= tolerance_mm).sum()) + int((to_mask <= tolerance_mm).sum())
    return Agreement(dice, hd95, near / (len(to_reference) + len(to_mask)), difference, percent)


def border(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask that have a face neighbour outside it; beyond the array is outside."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))


def border_distances(
    mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm of the border voxels of each of two masks, not empty, to the nearest of the other."""
    from scipy.spatial import cKDTree

    a, b = (np.argwhere(border(x)) * np.asarray(spacing) for x in (mask, reference))
    return cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
