"""The reference engine: PyRadiomics (pyradiomics-bhklab), told everything and remembering nothing."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import radiomics
import SimpleITK as sitk
from radiomics import featureextractor, imageoperations

from ..config.features import Recipe

INTERPOLATORS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}
logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)
radiomics.setVerbosity(logging.CRITICAL + 1)
_plain_bin_edges = imageoperations.getBinEdges


def _bin_edges(values: np.ndarray, **settings: Any) -> np.ndarray:
    """PyRadiomics' bin edges, or edges from `binAnchor` upwards where that setting is given.

    IBSI section 2.7 (fixed bin size): bins start at the lower bound of the resegmentation range; PyRadiomics starts at
    the multiple of the bin width below the ROI's minimum, so that grey levels would depend on the ROI.
    """
    anchor = settings.get("binAnchor")
    if anchor is None or settings.get("binCount") is not None:
        return _plain_bin_edges(values, **settings)
    return np.arange(anchor, values.max() + 2 * settings["binWidth"], settings["binWidth"])


imageoperations.getBinEdges = _bin_edges  # without binAnchor it is PyRadiomics' own function


def settings_of(recipe: Recipe) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, list[str]]]:
    """The recipe in PyRadiomics' words: settings, image types and feature classes."""
    settings: dict[str, Any] = {
        "distances": list(recipe.distances),
        "voxelArrayShift": recipe.voxel_array_shift,
        "minimumROIDimensions": recipe.minimum_roi_dimensions,
        "minimumROISize": recipe.minimum_roi_voxels,
        "force2D": recipe.two_dimensional,
        "additionalInfo": False,
        "label": 1,
        "resampledPixelSpacing": None,
    }
    settings |= {"binWidth": recipe.bin_width} if recipe.bin_count is None else {"binCount": recipe.bin_count}
    if recipe.grid == "pyradiomics":
        settings["interpolator"] = INTERPOLATORS[recipe.interpolation]
        if recipe.spacing_mm is not None:
            settings["resampledPixelSpacing"] = list(recipe.spacing_mm)
        if recipe.resegment_range is not None:
            settings["resegmentRange"] = list(recipe.resegment_range)
    settings |= recipe.further_settings

    images: dict[str, dict[str, Any]] = {}
    if recipe.original:
        images["Original"] = {}
    if recipe.log_sigmas_mm:
        images["LoG"] = {"sigma": list(recipe.log_sigmas_mm)}
    if recipe.wavelet:
        images["Wavelet"] = {"wavelet": recipe.wavelet}
    images |= recipe.further_image_types
    return settings, images, {name: list(features) for name, features in recipe.classes.items()}


def compute(
    image: sitk.Image,
    mask: sitk.Image,
    settings: dict[str, Any],
    images: dict[str, dict[str, Any]],
    classes: dict[str, list[str]],
) -> dict[str, Any]:
    """Features (and diagnostics, with `additionalInfo`) of the voxels of `image` where `mask` is 1.

    Raises
    ------
    ValueError
        with PyRadiomics' words where the ROI cannot be used.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    extractor = featureextractor.RadiomicsFeatureExtractor(**settings)
    extractor.enabledImagetypes = images
    extractor.enabledFeatures = classes
    return dict(extractor.execute(image, mask, label=1))
