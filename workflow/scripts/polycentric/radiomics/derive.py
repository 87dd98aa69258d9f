"""ROIs made from other ROIs: margins, rings, parts within a threshold."""

from __future__ import annotations

import math

import numpy as np

from ..config.features import DerivedRoi
from ..errors import ScanError
from ..grids import box, crop, onto, same
from ..volumes import Volume


def derive(mask: Volume, image: Volume, rule: DerivedRoi) -> Volume:
    """The ROI that `rule` makes from `mask`, on the mask's grid; thresholds compare with `image`.

    Raises
    ------
    ScanError
        ROI_EMPTY where `mask` has no voxel.
    """
    array = mask.array > 0
    bounds = box(array)
    if bounds is None:
        raise ScanError("ROI_EMPTY", f"the mask of {rule.of} has no voxel")
    outward = max(0.0, rule.margin_mm or 0.0, rule.ring_mm[1] if rule.ring_mm else 0.0)
    steps = [math.ceil(outward / s) + 1 for s in mask.geometry.spacing]
    first = [max(0, a - n) for a, n in zip(bounds[0], steps, strict=True)]
    last = [min(size - 1, b + n) for size, b, n in zip(mask.geometry.size, bounds[1], steps, strict=True)]
    part = crop(mask.with_array(array.astype(np.uint8)), first, last)
    kept = part.array > 0
    if rule.margin_mm is not None and rule.margin_mm != 0:
        kept = distance(part) <= rule.margin_mm
    elif rule.ring_mm is not None:
        depth = distance(part)
        kept = (depth > rule.ring_mm[0]) & (depth <= rule.ring_mm[1])
    if rule.above is not None or rule.below is not None:
        seen = crop(image, first, last) if same(image.geometry, mask.geometry) else onto(image, part.geometry, "linear")
        if rule.above is not None:
            kept = kept & (seen.array >= rule.above)
        if rule.below is not None:
            kept = kept & (seen.array < rule.below)
    result = np.zeros(array.shape, np.uint8)
    result[tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))] = kept
    return mask.with_array(result)


def distance(mask: Volume) -> np.ndarray:
    """Signed distance in mm of every voxel centre (z, y, x) to an ROI: outside to the nearest voxel centre inside, > 0;
    inside to the nearest voxel centre outside, < 0. Beyond the edge of the array counts as outside.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    spacing = mask.geometry.spacing

    def to(array: np.ndarray) -> np.ndarray:
        image = sitk.GetImageFromArray(array.astype(np.uint8))
        image.SetSpacing(spacing)
        return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))

    inside = np.pad(mask.array > 0, 1)
    result = np.where(inside, -to(~inside), to(inside))
    return result[1:-1, 1:-1, 1:-1]
