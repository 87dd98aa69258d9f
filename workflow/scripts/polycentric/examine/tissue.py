"""Body, lungs and muscle of a CT scan on the coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .coarse import Coarse

BODY_HU, LUNG_HU = -300.0, -400.0
SMALLEST_LUNGS_ML = 300.0
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Tissue:
    """Masks on the coarse grid: `body` without table, holes filled; `lungs` without airways outside them.

    `air_hu` is the level of the air around the patient, `truncated` says whether the body leaves the image sideways.
    """

    body: np.ndarray
    lungs: np.ndarray
    air_hu: float | None
    truncated: bool


def find(scan: Coarse) -> Tissue:
    """Separate the patient from table and air, and the lungs from other gas."""
    solid = scan.hu > BODY_HU
    # a thin table or clothes hang on by few voxels
    width = scan.voxels(6)
    body = largest(ndimage.binary_opening(solid, IN_PLANE, iterations=width))
    body = ndimage.binary_dilation(body, IN_PLANE, iterations=width) & solid
    edge = np.ones(scan.hu.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    rim_mm = (body & edge).sum(axis=(1, 2)) * min(scan.spacing[1:])
    truncated = bool(np.median(rim_mm) > 40)
    air = _air_level(scan)
    gas, filled = _inner_gas(scan, body, air, truncated)
    return Tissue(filled, _lungs(scan, gas, air), air, truncated)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())


@dataclass(frozen=True)
class _Parts:
    """Connected parts of a mask with the number of voxels and the mean value of each; 0 is the rest."""

    labels: np.ndarray
    voxels: np.ndarray
    mean: np.ndarray


def _parts(mask: np.ndarray, values: np.ndarray, structure: np.ndarray | None = None) -> _Parts:
    labels, count = ndimage.label(mask, structure)
    own = labels[mask]
    voxels = np.bincount(own, minlength=count + 1)
    return _Parts(labels, voxels, np.bincount(own, values[mask], count + 1) / np.maximum(voxels, 1))


def _air_level(scan: Coarse) -> float | None:
    """The peak of the values below -800 HU along the rim of the images, without what stands for no data at all."""
    rim = np.ones(scan.hu.shape[1:], bool)
    rim[tuple(slice(n // 10, n - n // 10) for n in rim.shape)] = False
    values = scan.hu[:, rim]
    values = values[values < -800]
    if values.size < 1000:
        return None
    counts, edges = np.histogram(values, bins=np.arange(-1026, -798, 4))
    best = int(np.argmax(counts))
    # corners outside the round field of view hold the lowest value; air then makes a second peak
    other = counts.copy()
    other[max(0, best - 2) : best + 3] = 0
    if edges[best] <= -1018 and other.max() > 0.02 * counts.sum():
        best = int(np.argmax(other))
    return float(edges[best] + 2)


def _inner_gas(scan: Coarse, body: np.ndarray, air: float | None, truncated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gas inside the body, slice by slice, and the body with it.

    Gas that reaches the border of the image lies outside. A small field of view may cut through lungs: where the body
    itself is cut, gas at one border that is clearly above the level of air and mostly surrounded by the body is lung.
    """
    thin = (scan.hu < LUNG_HU) & ~body
    parts = _parts(thin, scan.hu, IN_PLANE)
    outside = np.zeros(parts.voxels.size, bool)
    for side in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
        outside[np.unique(parts.labels[side])] = True
    if truncated:
        ring = ndimage.binary_dilation(thin, IN_PLANE) & ~thin
        grown = ndimage.grey_dilation(parts.labels, footprint=IN_PLANE)
        around = np.bincount(grown[ring], minlength=outside.size)
        near = ndimage.binary_dilation(body, IN_PLANE)  # walls blur into the gas
        solid = np.bincount(grown[ring & near], minlength=outside.size)
        lunglike = parts.mean > (-1000.0 if air is None else air) + 60
        lunglike &= (parts.voxels * scan.voxel_cm2 > 10) & (solid > 0.35 * around)
        for corner in (np.s_[:, 0, 0], np.s_[:, 0, -1], np.s_[:, -1, 0], np.s_[:, -1, -1]):
            lunglike[np.unique(parts.labels[corner])] = False
        lunglike[np.intersect1d(parts.labels[:, :, 0], parts.labels[:, :, -1])] = False
        outside &= ~lunglike
    outside[0] = True
    gas = ~outside[parts.labels]
    # something solid within gas, such as a vessel in the lung, belongs inside
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in body | gas])
    return gas, filled


def _lungs(scan: Coarse, gas: np.ndarray, air: float | None) -> np.ndarray:
    """Large connected gas above the level of air: neither bowel gas nor trachea, larynx or pharynx."""
    level = -1000.0 if air is None else air
    sections = _parts(gas, scan.hu, IN_PLANE)
    small = (sections.voxels * scan.voxel_cm2 < 9)[sections.labels] & gas
    lowest = np.full(sections.voxels.size, np.inf)
    np.minimum.at(lowest, sections.labels[small], scan.hu[small])
    airway = lowest < level + 60
    parts = _parts(gas & ~airway[sections.labels], scan.hu)
    # the middle of bowel gas is air, that of the most emphysematous lung is not
    core = ndimage.binary_erosion(parts.labels > 0, IN_PLANE, iterations=2, border_value=1)
    own, count = parts.labels[core], parts.voxels.size
    middle = np.bincount(own, scan.hu[core], count) / np.maximum(np.bincount(own, minlength=count), 1)
    large = (parts.voxels * scan.voxel_ml > 50) & (middle > level + 25) & (middle < -500)
    large[0] = False
    lungs = large[parts.labels]
    return lungs if lungs.sum() * scan.voxel_ml >= SMALLEST_LUNGS_ML else np.zeros_like(gas)


def muscle_hu(scan: Coarse, tissue: Tissue) -> float | None:
    """Level of the back muscles, HU: the reference that errors of calibration move together with the blood.

    The erector muscles fill the hindmost part of the trunk beside the spine at every height. The peak of the histogram
    leaves out fat, bone and the skin.
    """
    muscle = np.zeros_like(tissue.body)
    inner = ndimage.binary_erosion(tissue.body, IN_PLANE, iterations=scan.voxels(9, 1))
    for k, plane in enumerate(tissue.body):
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if rows.size < 10:
            continue
        first, last = rows[0], rows[-1]
        left, right = columns[0], columns[-1]
        middle = (left + right) / 2
        reach = round(80 / scan.spacing[2])
        top = round(last - 0.27 * (last - first))
        low, high = max(0, round(middle - reach)), round(middle + reach) + 1
        muscle[k, top : last + 1, low:high] = inner[k, top : last + 1, low:high]
    values = _uniform(scan, muscle, -40, 140)
    if values.size * scan.voxel_ml < 30:
        return None
    return peak(values, -40, 140)


def _uniform(scan: Coarse, mask: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values within a mask between bounds whose neighbours in the plane are within them too."""
    fits = (scan.hu > low) & (scan.hu < high)
    fits = ndimage.binary_erosion(fits, IN_PLANE)
    return scan.hu[mask & fits]


def peak(values: np.ndarray, low: float, high: float) -> float:
    """Mode: the top of a histogram smoothed by 6 HU."""
    counts, edges = np.histogram(values, bins=np.arange(low, high + 2, 2.0))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 3, mode="constant")
    return float(edges[int(smooth.argmax())] + 1)


def fat_hu(scan: Coarse, tissue: Tissue) -> float | None:
    """Level of fat, HU: a second reference, for patients whose muscles are full of fat."""
    values = _uniform(scan, tissue.body, -200, -20)
    if values.size * scan.voxel_ml < 50:
        return None
    return peak(values, -200, -20)
