"""Steps for MR images: bias field, white matter as reference."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...config.steps import N4, WhiteStripe
from ...errors import ScanError
from ...volumes import Volume
from ..arrays import as_float, by_slice, counted, flat, moments
from ..context import Context
from .lesion import otsu_threshold

TAIL = 96.0
RARE = 0.2
FIELD_MM = 4.0


def n4(step: N4, volume: Volume, context: Context) -> Volume:
    """N4 bias field correction (Tustison et al., IEEE TMI 29 (2010) 1310-1320) by SimpleITK, one thread; float32.

    Voxels that are not positive have no logarithm and do not determine the field. The field comes from an image
    coarser by `shrink`, since its fit takes nearly all the time; it is evaluated and divided out at full resolution.

    Raises
    ------
    ScanError
        VIEW_NOT_POSITIVE if fewer than 1000 voxels determine the field.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    array = as_float(volume)
    chosen = array > 0
    if step.inside is not None:
        chosen &= context.region(step.inside, volume.geometry)
    elif step.foreground == "otsu":
        chosen &= array > otsu_threshold(array)
    if chosen.sum() < 1000:
        raise ScanError("VIEW_NOT_POSITIVE", "fewer than 1000 positive voxels could determine the bias field")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.geometry.spacing)
    mask = sitk.GetImageFromArray(chosen.astype(np.uint8))
    mask.CopyInformation(image)
    # no axis may shrink below the order of the spline
    wanted = [round(FIELD_MM / s) if step.shrink == "auto" else step.shrink for s in volume.geometry.spacing]
    factors = [max(1, min(f, n // 8)) for f, n in zip(wanted, volume.geometry.size, strict=True)]
    fit = sitk.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations(list(step.iterations))
    fit.SetConvergenceThreshold(step.convergence)
    fit.SetNumberOfControlPoints([step.control_points] * 3)
    fit.SetBiasFieldFullWidthAtHalfMaximum(step.fwhm)
    fit.SetWienerFilterNoise(step.noise)
    fit.SetNumberOfThreads(1)
    fit.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    field = sitk.GetArrayFromImage(fit.GetLogBiasFieldAsImage(image))
    np.exp(field, out=field)
    if step.correct == "region":
        field[~chosen] = 1
    context.note("n4", field=[float(field[chosen].min()), float(field[chosen].max())], voxels=int(chosen.sum()))
    return volume.with_array((array / field).astype(np.float32, copy=False))


def white_stripe(step: WhiteStripe, volume: Volume, context: Context) -> Volume:
    """(I - mean) / SD of the white stripe: Shinohara et al., NeuroImage: Clinical 6 (2014) 9-19, section 2.

    The stripe are the voxels within +-`width` in probability of the peak of white matter in the smoothed histogram.
    For T1 that is the last peak below the 96th percentile that reaches a fifth of the highest, otherwise the highest.
    """
    if step.inside is not None:
        values = counted(step.model_copy(update={"above": None}), volume, context)
    else:
        values = counted(step, volume, context)
    values = values.astype(np.float32)
    peak = white_matter_peak(values, step.contrast)
    at = float((values < peak).mean())
    low, high = np.quantile(values, [max(at - step.width, 0.0), min(at + step.width, 1.0)])
    stripe = values[(values > low) & (values < high)]
    if stripe.size == 0:
        raise flat("white-stripe")
    _, mean, deviation = moments(stripe)
    if deviation == 0:
        raise flat("white-stripe")
    context.note("white-stripe", peak=peak, mean=mean, sd=deviation, voxels=int(stripe.size))
    return by_slice(volume, lambda plane: (plane.astype(np.float64) - mean) / deviation)


def white_matter_peak(values: np.ndarray, contrast: str) -> float:
    """Intensity of the peak of white matter in the density of some values.

    The density is a Gaussian kernel estimate with Scott's bandwidth on a fine histogram.
    """
    if contrast == "t1":
        values = values[values <= np.percentile(values, TAIL)]
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise flat("white-stripe")
    bins = 2048
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    bandwidth = moments(values)[2] * values.size ** (-1 / 5)
    density = ndimage.gaussian_filter1d(counts.astype(float), bandwidth / (edges[1] - edges[0]), mode="constant")
    centres = (edges[:-1] + edges[1:]) / 2
    if contrast == "t1":
        inner = density[1:-1]
        peaks = 1 + np.flatnonzero((inner > density[:-2]) & (inner >= density[2:]) & (inner >= RARE * density.max()))
        if peaks.size:
            return float(centres[peaks[-1]])
    return float(centres[int(density.argmax())])
