"""Body, lungs and spine of a CT scan on a coarse upright grid.

Classical segmentation after Hu, Hoffman and Reinhardt, IEEE TMI 20 (2001) 490-498: air inside the body by threshold
and connectivity, airways removed, smoothing by morphology. The spine and the mirrored lungs follow Primakov et al.,
Nat Commun 13 (2022) 3423 (supplement, "Lung region isolation").
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..grids import onto
from ..volumes import Geometry, Volume

COARSE_MM = 2.0
BODY_HU, LUNG_HU, BONE_HU = -500.0, -400.0, (-500.0, 1300.0)
SMALLEST_LUNGS_ML, SMALLEST_PART_ML = 300.0, 50.0
FIRST_SLICES = 5
SPINE_REACH_MM, SOLID_BONE_HU = 60.0, 150.0
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def upright(volume: Volume, mm: float) -> Volume:
    """The image on a grid along the patient's axes (z to the head, y to the back, x to the left) of about `mm`.

    Small voxels are averaged over whole blocks first, so that noise and structures below the grid are smoothed.
    """
    small = _averaged(volume, mm)
    matrix = np.array(small.geometry.direction).reshape(3, 3)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (
        np.array(small.geometry.size) - 1
    )
    points = np.array(small.geometry.origin) + (corners * small.geometry.spacing) @ matrix.T
    first, last = points.min(0), points.max(0)
    along = [int(np.argmax(np.abs(matrix[axis]))) for axis in range(3)]
    spacing = tuple(small.geometry.spacing[a] for a in along)
    size = tuple(max(1, round((b - a) / s) + 1) for a, b, s in zip(first, last, spacing, strict=True))
    geometry = Geometry(size, spacing, tuple(map(float, first)))
    if len(set(along)) == 3 and np.allclose(np.abs(matrix).max(axis=1), 1, atol=1e-4):
        return onto(small, geometry, "nearest", "float32")
    return onto(small, geometry, "linear", "float32")


def _averaged(volume: Volume, mm: float) -> Volume:
    factors = [
        max(1, min(n, round(mm / s))) for s, n in zip(volume.geometry.spacing, volume.geometry.size, strict=True)
    ]
    counts = [n // f for n, f in zip(volume.geometry.size, factors, strict=True)]
    (fx, fy, fz), (nx, ny, nz) = factors, counts
    array = np.empty((nz, ny, nx), np.float32)
    for k in range(nz):
        slab = volume.array[k * fz : (k + 1) * fz, : ny * fy, : nx * fx]
        array[k] = slab.reshape(fz, ny, fy, nx, fx).mean(axis=(0, 2, 4), dtype=np.float64)
    old = volume.geometry
    spacing = tuple(s * f for s, f in zip(old.spacing, factors, strict=True))
    shift = [(f - 1) / 2 * s for s, f in zip(old.spacing, factors, strict=True)]
    origin = np.array(old.origin) + np.array(old.direction).reshape(3, 3) @ shift
    return Volume(array, Geometry((nx, ny, nz), spacing, tuple(map(float, origin)), old.direction))


def body(scan: Volume, threshold_hu: float = BODY_HU) -> np.ndarray:
    """The body without the couch, holes filled in the slice (z, y, x): largest part after an opening by 6 mm."""
    solid = scan.array > threshold_hu
    radius = 6.0
    core = _largest(_opened(solid, radius, scan.geometry.spacing))
    # lost by the opening: what lies within its radius of the core and is solid
    patient = solid & grown(core, radius, scan.geometry.spacing)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in patient])


def lungs(scan: Volume, patient: np.ndarray) -> np.ndarray:
    """Both lungs with their vessels, without trachea and main bronchi (z, y, x); nothing if below 300 mL."""
    hu, voxel_ml = scan.array, scan.geometry.voxel_ml
    gas = (hu < LUNG_HU) & patient
    gas &= ~_airways(scan, gas)
    # thin bridges between lung and bowel or skin are cut by the size of what remains
    labels, count = ndimage.label(gas)
    if count == 0:
        return np.zeros(hu.shape, bool)
    numbers = np.arange(count + 1)
    volume_ml = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
    level = ndimage.median(hu, labels, numbers[1:])
    keep = np.zeros(count + 1, bool)
    # gas in stomach and bowel is air; the most emphysematous lung is not
    keep[1:] = (volume_ml[1:] > SMALLEST_PART_ML) & (np.asarray(level) > -985)
    result = keep[labels]
    del labels
    if result.sum() * voxel_ml < SMALLEST_LUNGS_ML:
        return np.zeros(hu.shape, bool)
    return _smoothed(result, scan.geometry.spacing) & patient


def _airways(scan: Volume, gas: np.ndarray) -> np.ndarray:
    """Trachea and main bronchi: followed from slice to slice, from the head on, while the section stays small.

    A section is tracheal if it is small, near the level of air, and touches what was tracheal in the slice above; the
    first one is a round small section of air near the middle of the body.
    """
    hu = scan.array
    area_cm2 = scan.geometry.spacing[0] * scan.geometry.spacing[1] / 100
    result = np.zeros(gas.shape, bool)
    previous = np.zeros(gas.shape[1:], bool)
    started = False
    for z in range(gas.shape[0] - 1, -1, -1):
        # lung beside a bronchus is denser than its lumen
        air = gas[z] & (hu[z] < -900)
        labels, count = ndimage.label(air)
        now = np.zeros_like(previous)
        if count:
            size = np.bincount(labels.ravel(), minlength=count + 1) * area_cm2
            mean = ndimage.mean(hu[z], labels, np.arange(count + 1))
            for number in range(1, count + 1):
                if not 0.3 < size[number] < 8.0 or mean[number] > -930:
                    continue
                part = labels == number
                if (started and (part & previous).any()) or (not started and _central(part, gas[z])):
                    now |= part
        if now.any():
            started = True
            # the wall and the partial volume around the lumen
            previous = ndimage.binary_dilation(now, iterations=2)
            result[z] = previous & gas[z]
        elif started:
            previous = ndimage.binary_erosion(previous)
    return result


def _central(part: np.ndarray, gas: np.ndarray) -> bool:
    """Whether a section is compact and in the middle of the picture from side to side."""
    rows, columns = np.nonzero(part)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    compact = part.sum() > 0.5 * height * width and max(height, width) < 2.5 * min(height, width)
    return bool(compact and 0.3 < columns.mean() / part.shape[1] < 0.7)


def _smoothed(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Vessels, hilum and small nodules closed: slice by slice by a disc of 8 mm, holes filled, each lung by itself."""
    labels, _ = ndimage.label(ndimage.binary_opening(mask, IN_PLANE))
    result = mask.copy()
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        if part is None or (own := labels[part] == number).sum() < 100:
            continue
        # the smallest box keeps the work small; a border lets the closing spread
        pad = [(0, 0), *((round(10 / s) + 1,) * 2 for s in spacing[1::-1])]
        wide = np.pad(own, pad)
        for plane in wide:
            if plane.any():
                plane[:] = ndimage.binary_fill_holes(_closed(plane, 8.0, spacing))
        inner = tuple(slice(a, wide.shape[i] - b) for i, (a, b) in enumerate(pad))
        result[part] |= wide[inner]
    return result


def _closed(plane: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    grow = ndimage.distance_transform_edt(~plane, sampling=spacing[1::-1]) <= radius_mm
    return ndimage.distance_transform_edt(grow, sampling=spacing[1::-1]) > radius_mm


def _opened(mask: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Opening by a disc in the slice; beyond the border of the image the body goes on."""
    result = np.zeros_like(mask)
    pad = [(round(radius_mm / s) + 1,) * 2 for s in spacing[1::-1]]
    for z, plane in enumerate(mask):
        if not plane.any():
            continue
        wide = np.pad(plane, pad, mode="edge")
        core = ndimage.distance_transform_edt(wide, sampling=spacing[1::-1]) > radius_mm
        if core.any():
            opened = ndimage.distance_transform_edt(~core, sampling=spacing[1::-1]) <= radius_mm
            result[z] = opened[tuple(slice(a, n - b) for n, (a, b) in zip(opened.shape, pad, strict=True))]
    return result & mask


def grown(mask: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """A mask grown by a disc in every slice."""
    result = mask.copy()
    for z, plane in enumerate(mask):
        if plane.any() and radius_mm > 0:
            result[z] = ndimage.distance_transform_edt(~plane, sampling=spacing[1::-1]) <= radius_mm
    return result


def spine(scan: Volume, patient: np.ndarray, lungs_: np.ndarray, smoothing: float) -> np.ndarray:
    """Position of the spine along x, in voxels, for every slice: the axis about which the lungs are mirrored.

    In each slice with lung the bone window (level 400, width 1800 HU) is projected along y and smoothed by a moving
    average of seventh order; its peak is the slice's own position. The first five slices start the course, exponential
    smoothing continues it: S_t = a x_t + (1 - a) S_(t-1). Slices without lung take their neighbour's position.
    Departures: what is darker than bone does not count, the peak is looked for behind the middle of the body and
    within 60 mm of it, so that sternum, scapulae and arms do not count, and it is taken as the centre of the bone
    within 20 mm.
    """
    low, high = BONE_HU
    x_mm = scan.geometry.spacing[0]
    present = np.flatnonzero(lungs_.any(axis=(1, 2)))
    middle = float(np.median([ndimage.center_of_mass(patient[z])[1] for z in present]))
    columns = np.arange(scan.array.shape[2])
    near = np.abs(columns - middle) * x_mm <= SPINE_REACH_MM
    own: list[float] = []
    for z in present:
        back = int(ndimage.center_of_mass(patient[z])[0])
        hu = scan.array[z, back:] * patient[z, back:]
        bone = np.clip((hu - low) / (high - low), 0, 1) * (hu > SOLID_BONE_HU)
        profile = np.where(near, bone.sum(axis=0), 0.0)
        peak = int(np.argmax(ndimage.uniform_filter1d(profile, 7, mode="constant")))
        around = profile * (np.abs(columns - peak) * x_mm <= 20)
        if around.sum() > 0:
            own.append(float((around * columns).sum() / around.sum()))
        else:
            own.append(own[-1] if own else middle)
    at = float(np.mean(own[:FIRST_SLICES]))
    smooth = []
    for x in own:
        at = smoothing * x + (1 - smoothing) * at
        smooth.append(at)
    return np.interp(np.arange(scan.array.shape[0]), present, smooth)


def mirrored(mask: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """A mask (z, y, x) flipped in every slice about a position along x, in voxels."""
    result = np.zeros_like(mask)
    columns = np.arange(mask.shape[2])
    for z, plane in enumerate(mask):
        source = np.rint(2 * axis[z] - columns).astype(int)
        inside = (source >= 0) & (source < columns.size)
        result[z][:, inside] = plane[:, source[inside]]
    return result


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())
