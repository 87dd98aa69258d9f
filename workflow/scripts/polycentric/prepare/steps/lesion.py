"""Steps that bring out a lesion or the head: attenuation by distance, Otsu's threshold."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...config.steps import Attenuate, OtsuCrop
from ...grids import box, crop
from ...volumes import Volume
from ..arrays import as_float, flat
from ..context import Context
from .grid import crop_to

BINS = 256


def attenuate(step: Attenuate, volume: Volume, context: Context) -> Volume:
    """I * f with f = floor + (1 - floor) exp(-d^2 / (2 sigma^2)), d the distance to the lesion in mm, 0 inside.

    Keek et al. (2022) write of "a Gaussian smoothing filter ... gradually decreasing the intensity values around the
    lesion from a factor of 1.0 to 0.2" and give no width; the factor here is exactly 1 in the lesion. Intensities
    should be positive: a factor draws towards 0.
    """
    lesion = context.region(step.inside, volume.geometry)
    # far from the lesion the factor is the floor: distances are needed within 8 sigma only
    far = 8 * step.sigma_mm
    bounds = box(lesion)
    assert bounds is not None
    reach = [int(np.ceil(far / s)) for s in volume.geometry.spacing]
    first = [max(0, a - r) for a, r in zip(bounds[0], reach, strict=True)]
    last = [min(n - 1, b + r) for n, b, r in zip(volume.geometry.size, bounds[1], reach, strict=True)]
    near = crop(Volume(lesion, volume.geometry), first, last).array
    squared = np.zeros(near.shape, np.float32)
    indices = ndimage.distance_transform_edt(
        ~near, sampling=volume.geometry.spacing[::-1], return_distances=False, return_indices=True
    )
    for axis, s in enumerate(volume.geometry.spacing[::-1]):
        own = np.arange(near.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
        squared += ((indices[axis] - own) * np.float32(s)) ** 2
    result = as_float(volume) * np.float32(step.floor)
    z, y, x = (slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    factor = step.floor + (1 - step.floor) * np.exp(-squared / np.float32(2 * step.sigma_mm**2))
    result[z, y, x] = as_float(volume)[z, y, x] * factor
    return volume.with_array(result)


def otsu_crop(step: OtsuCrop, volume: Volume, context: Context) -> Volume:
    """Largest connected part above Otsu's threshold, holes filled: crop to its box, the rest to `background`."""
    threshold = otsu_threshold(volume.array)
    labels, count = ndimage.label(volume.array > threshold)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        head = labels == int(sizes.argmax())
    else:
        head = labels > 0
    del labels
    # air in the sinuses and dark brain belong to the head
    head = ndimage.binary_fill_holes(head)
    for plane in head:
        plane |= ndimage.binary_fill_holes(plane)
    context.note("otsu-crop", threshold=threshold, volume_ml=float(head.sum()) * volume.geometry.voxel_ml)
    array = np.where(head, as_float(volume), np.float32(step.background))
    return crop_to(volume.with_array(array), head, step.margin_mm)


def otsu_threshold(array: np.ndarray) -> float:
    """Threshold that maximises the variance between two classes: Otsu, IEEE TSMC 9 (1979) 62-66; 256 bins.

    It is the upper edge of the last bin of the lower class.
    """
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise flat("Otsu's threshold")
    counts, edges = np.histogram(array, bins=BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(float)[:-1]
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    mean_below = total[:-1] / np.maximum(below, 1)
    mean_above = (total[-1] - total[:-1]) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * (mean_below - mean_above) ** 2))])
