"""The reference engine: PyRadiomics (pyradiomics-bhklab), told everything and remembering nothing."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import numpy as np
import radiomics
import SimpleITK as sitk
from radiomics import featureextractor, imageoperations

from ..config.features import Recipe
from ..errors import ScanError
from ..grids import box
from ..volumes import Geometry, Volume

INTERPOLATORS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}
logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)
radiomics.setVerbosity(logging.CRITICAL + 1)
_plain_bin_edges = imageoperations.getBinEdges


def bin_edges(values: np.ndarray, **settings: Any) -> np.ndarray:
    """PyRadiomics' bin edges, or edges from `binAnchor` upwards where that setting is given.

    IBSI section 2.7 (fixed bin size): bins start at the lower bound of the resegmentation range; PyRadiomics starts at
    the multiple of the bin width below the ROI's minimum, so that grey levels would depend on the ROI.
    """
    anchor = settings.get("binAnchor")
    if anchor is None or settings.get("binCount") is not None:
        return _plain_bin_edges(values, **settings)
    return np.arange(anchor, values.max() + 2 * settings["binWidth"], settings["binWidth"])


imageoperations.getBinEdges = bin_edges  # without binAnchor it is PyRadiomics' own function


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


class Prepared:
    """An image as PyRadiomics prepares it for an ROI: normalised, then resampled or cropped around the ROI."""

    def __init__(self, image: Volume, recipe: Recipe) -> None:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        self.settings = featureextractor.RadiomicsFeatureExtractor._getDefaultSettings() | settings_of(recipe)[0]
        self.original = image
        self.image = image
        if self.settings.get("normalize"):
            self.image = Volume.from_sitk(imageoperations.normalizeImage(image.to_sitk(), **self.settings))
        self._sitk: sitk.Image | None = None

    def domain(self, mask: Volume) -> tuple[Volume, np.ndarray]:
        """The image that the filters see, and the mask on its grid (bool; z, y, x); `mask` lies on the image's grid.

        Raises
        ------
        ScanError
            ROI_UNUSABLE with PyRadiomics' words.
        """
        settings = self.settings
        resample = settings.get("interpolator") is not None and settings.get("resampledPixelSpacing") is not None
        if not resample and not settings.get("preCrop"):
            return self.image, mask.array > 0
        if self._sitk is None:
            self._sitk = self.image.to_sitk()
        outline = Volume((mask.array > 0).astype(np.uint32), self.image.geometry).to_sitk()
        try:
            if resample:
                image, outline = imageoperations.resampleImage(self._sitk, outline, **settings)
            else:
                bounds, _ = imageoperations.checkMask(self._sitk, outline, **settings)
                image, outline = imageoperations.cropToTumorMask(self._sitk, outline, bounds, **settings)
        except (ValueError, RuntimeError) as error:
            raise ScanError("ROI_UNUSABLE", f"PyRadiomics refuses the ROI: {error}") from error
        return Volume.from_sitk(image), sitk.GetArrayFromImage(outline) > 0

    def facts(self, mask: Volume, part: Volume, mapped: np.ndarray) -> dict[str, Any]:
        """What PyRadiomics notes about image and mask, before and after resampling."""
        facts = self._image_facts | _mask_facts("original", mask.array > 0, self.original.geometry)
        if part is not self.image and self.settings.get("resampledPixelSpacing") is not None:
            facts |= image_facts("interpolated", part) | _mask_facts("interpolated", mapped, part.geometry)
        return facts

    @cached_property
    def _image_facts(self) -> dict[str, Any]:
        return image_facts("original", self.original)


def image_facts(prefix: str, image: Volume) -> dict[str, Any]:
    """Size, spacing and intensities of an image under PyRadiomics' names."""
    return {
        f"diagnostics_Image-{prefix}_Spacing": list(image.geometry.spacing),
        f"diagnostics_Image-{prefix}_Size": list(image.geometry.size),
        f"diagnostics_Image-{prefix}_Mean": float(image.array.mean(dtype=np.float64)),
        f"diagnostics_Image-{prefix}_Minimum": float(image.array.min()),
        f"diagnostics_Image-{prefix}_Maximum": float(image.array.max()),
    }


def _mask_facts(prefix: str, mask: np.ndarray, geometry: Geometry) -> dict[str, Any]:
    bounds = box(mask)
    assert bounds is not None
    size = [b - a + 1 for a, b in zip(*bounds, strict=True)]
    cut = mask[tuple(slice(a, b + 1) for a, b in zip(bounds[0][::-1], bounds[1][::-1], strict=True))]
    parts = sitk.ConnectedComponentImageFilter()
    parts.FullyConnectedOn()
    parts.Execute(sitk.GetImageFromArray(cut.astype(np.uint8)))
    return {
        f"diagnostics_Mask-{prefix}_Spacing": list(geometry.spacing),
        f"diagnostics_Mask-{prefix}_Size": list(geometry.size),
        f"diagnostics_Mask-{prefix}_BoundingBox": [*bounds[0], *size],
        f"diagnostics_Mask-{prefix}_VoxelNum": int(cut.sum()),
        f"diagnostics_Mask-{prefix}_VolumeNum": parts.GetObjectCount(),
    }
