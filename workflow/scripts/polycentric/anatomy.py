"""What the image of a CT shows of the anatomy: the body, and two landmarks that divide it into axial layers.

The landmarks are found in each image by itself, so that images of different patients, scanners and heights of the scan
can be compared at the same place. numpy and scipy alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from .errors import ScanError

Landmarks = Literal["lungs", "diaphragm-to-pelvis", "body"]
DEFINITIONS: dict[str, str] = {
    "lungs": "lower: lowest axial slice in which the lungs cover 5 % of their largest section; upper: highest such "
    "slice. Lungs: air (-960 to -500 HU on a grid of 3 mm) within the body, pieces of at least 100 mL. A scan whose "
    "end the lungs reach is left out",
    "diaphragm-to-pelvis": "upper: lowest axial slice in which the lungs cover a quarter of the body's section; "
    "lower: highest slice below it that shows bone (above 300 HU, holes filled) of at least 4 cm2 in one piece, 35 mm "
    "or more beside the middle of the body, on both sides, and the slice 6 mm below does, too",
    "body": "the lowest and the highest axial slice that show the body: the ends of the scan, as a rule",
}
BODY_HU, AIR_HU, BONE_HU = -400.0, (-960.0, -500.0), 300.0
COARSE_MM = 3.0
SMALLEST_LUNG_ML, LUNG_SHARE, DOME_SHARE = 100.0, 0.05, 0.25
ILIUM_CM2, BESIDE_MM, AGAIN_MM = 4.0, 35.0, 6.0


def body(hu: np.ndarray) -> np.ndarray:
    """The patient in a CT (z, y, x): the largest piece above -400 HU, its holes in each axial slice filled."""
    labels, count = ndimage.label(hu > BODY_HU)
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(slice_) for slice_ in largest])


def landmarks(
    hu: np.ndarray, within: np.ndarray, spacing: tuple[float, float, float], kind: Landmarks
) -> tuple[int, int]:
    """Lower and upper landmark as slice numbers, both included.

    Parameters
    ----------
    hu
        Image (z, y, x), z from feet to head, HU.
    within
        The body in it.
    spacing
        Spacing (x, y, z) in mm.

    Raises
    ------
    ScanError
        LANDMARK_MISSING when the image does not show both.
    """
    if kind == "body":
        present = np.flatnonzero(within.any(axis=(1, 2)))
        if not present.size:
            raise ScanError("LANDMARK_MISSING", "no body in the image")
        return int(present[0]), int(present[-1])
    step = tuple(max(1, round(COARSE_MM / s)) for s in spacing[:2])
    coarse, inside = (_blocks(a, step) for a in (hu, within))
    cm2 = spacing[0] * step[0] * spacing[1] * step[1] / 100
    lungs = _lungs(coarse, inside > 0.5, cm2 * spacing[2] / 10)
    area = lungs.sum(axis=(1, 2)) * cm2
    if area.max(initial=0) == 0:
        raise ScanError("LANDMARK_MISSING", "no lung in the image")
    if kind == "lungs":
        present = np.flatnonzero(area >= LUNG_SHARE * area.max())
        lower, upper = int(present[0]), int(present[-1])
        for end, at in (("lower", lower == 0), ("upper", upper == len(area) - 1)):
            if at:
                raise ScanError("LANDMARK_MISSING", f"the lungs reach the {end} end of the scan")
        return lower, upper
    section = inside.sum(axis=(1, 2)) * cm2
    dome = np.flatnonzero(area >= DOME_SHARE * np.maximum(section, 1e-9))
    if not dome.size:
        raise ScanError("LANDMARK_MISSING", "the scan ends below the dome of the diaphragm")
    upper = int(dome[0])
    shows = [_ilium(coarse[z], inside[z] > 0.5, spacing[0] * step[0], cm2) for z in range(upper)]
    again = max(1, round(AGAIN_MM / spacing[2]))
    for z in range(upper - 1, again - 1, -1):
        if shows[z] and shows[z - again]:
            return z, upper
    raise ScanError("LANDMARK_MISSING", "the scan ends above the pelvis")


def layers_of(slices: np.ndarray, lower: int, upper: int, count: int) -> np.ndarray:
    """Layer of slices, 0 at the lower landmark to `count` - 1 at the upper one, by equal shares of the way; -1 beyond.

    Both landmarks belong to the layers.
    """
    share = (np.asarray(slices, dtype=float) - lower + 0.5) / (upper - lower + 1)
    return np.where((share >= 0) & (share < 1), np.floor(share * count), -1).astype(int)


def _blocks(array: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Mean over blocks of `step` (x, y) voxels of each slice, float32."""
    y, x = array.shape[1:]
    sx, sy = (min(s, n) for s, n in zip(step, (x, y), strict=True))
    shape = (y // sy, sy, x // sx, sx)
    return np.stack([p[: shape[0] * sy, : shape[2] * sx].reshape(shape).mean((1, 3), dtype=np.float32) for p in array])


def _lungs(hu: np.ndarray, within: np.ndarray, voxel_ml: float) -> np.ndarray:
    labels, count = ndimage.label(within & (hu > AIR_HU[0]) & (hu < AIR_HU[1]))
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    volume = np.bincount(labels.ravel()) * voxel_ml
    keep = volume >= SMALLEST_LUNG_ML
    keep[0] = False
    return keep[labels]


def _ilium(hu: np.ndarray, within: np.ndarray, mm: float, cm2: float) -> bool:
    """Whether a slice shows a large piece of bone on either side."""
    columns = np.flatnonzero(within.any(axis=0))
    if not columns.size:
        return False
    middle = (columns[0] + columns[-1]) / 2
    labels, count = ndimage.label(ndimage.binary_fill_holes(hu > BONE_HU))
    if count == 0:
        return False
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:] * cm2
    places = np.array([c[1] for c in ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))])
    large = areas >= ILIUM_CM2
    beside = (places - middle) * mm
    return bool((large & (beside >= BESIDE_MM)).any() and (large & (beside <= -BESIDE_MM)).any())
