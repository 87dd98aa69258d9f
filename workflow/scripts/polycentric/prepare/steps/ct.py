"""Steps for CT: the body without the couch, the lungs alone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...config.steps import Body, Lungs
from ...errors import ScanError
from ...grids import box, crop
from ...volumes import Volume
from .. import thorax
from ..context import Context, inside


def body(step: Body, volume: Volume, context: Context) -> Volume:
    """The patient's body, holes filled in the slice; the rest becomes air. Keeps whole types.

    The coarse body (largest connected part after an opening) says which voxels above the threshold are the patient's;
    the outline is that of the threshold at full resolution, opened in the slice.
    """
    coarse = thorax.upright(volume, thorax.COARSE_MM)
    patient = thorax.body(coarse, step.threshold_hu)
    if not patient.any():
        raise ScanError("VIEW_NO_BODY", f"nothing lies above {step.threshold_hu:g} HU: is the image in HU?")
    near = ndimage.binary_dilation(patient, iterations=2)
    allowed = inside(Volume(near.astype(np.uint8), coarse.geometry), volume.geometry, "nearest")
    width = max(1, round(step.opening_mm / min(volume.geometry.spacing[:2])))
    square = np.ones((width, width), bool)
    mask = np.zeros(volume.array.shape, bool)
    for z, plane in enumerate(volume.array):
        opened = ndimage.binary_opening((plane > step.threshold_hu) & allowed[z], square)
        mask[z] = ndimage.binary_fill_holes(opened)
    context.note("body", volume_ml=float(mask.sum()) * volume.geometry.voxel_ml)
    return _outside(volume, mask, step.outside)


def lungs(step: Lungs, volume: Volume, context: Context) -> Volume:
    """The region of the lungs as in Primakov et al. (2022), "Lung region isolation"; the rest becomes air.

    Lungs are found on a coarse grid (see `thorax`), united with their mirror image about the spine slice by slice,
    limited to the body, and grown by a disc in the slice.

    Raises
    ------
    ScanError
        VIEW_NO_LUNGS if less than 300 mL of lung are found.
    """
    coarse = thorax.upright(volume, thorax.COARSE_MM)
    patient = thorax.body(coarse)
    found = thorax.lungs(coarse, patient)
    if not found.any():
        raise ScanError("VIEW_NO_LUNGS", "no lungs were found: the image must be a CT of the chest in HU")
    mask, volume_ml = found, float(found.sum()) * coarse.geometry.voxel_ml
    if step.mirror:
        spine = thorax.spine(coarse, patient, found, step.smoothing)
        mask = (found | thorax.mirrored(found, spine)) & patient
    mask = thorax.grown(mask, step.margin_mm, coarse.geometry.spacing)
    fine = inside(Volume(mask.astype(np.uint8), coarse.geometry), volume.geometry)
    context.note("lungs", lungs_ml=volume_ml, region_ml=float(fine.sum()) * volume.geometry.voxel_ml)
    result = _outside(volume, fine, step.outside)
    if not step.crop:
        return result
    bounds = box(fine)
    assert bounds is not None
    nx, ny, _ = volume.geometry.size
    return crop(result, (0, 0, bounds[0][2]), (nx - 1, ny - 1, bounds[1][2]))


def _outside(volume: Volume, mask: np.ndarray, value: float) -> Volume:
    dtype = volume.array.dtype
    whole = dtype.kind in "iu" and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    array = volume.array if whole or dtype.kind == "f" else volume.array.astype(np.float32)
    return volume.with_array(np.where(mask, array, array.dtype.type(value)))
