"""Features of one ROI of one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.features import Recipe
from ..errors import ScanError
from ..grids import aligned, box, crop, crop_geometry, mask_onto, onto, same, to_indices, to_points
from ..volumes import Geometry, Volume
from . import engine

WAVELET_MARGIN = 8  # voxels; from there on wavelet features do not change in a bit
LOG_MARGIN = 12  # standard deviations; from there on features of ITK's recursive filter change by less than 4e-9


@dataclass(frozen=True)
class Features:
    """Feature values by PyRadiomics' names (NaN where undefined), and facts on how they came about."""

    values: dict[str, float]
    facts: dict[str, Any]


def extract(image: Volume, mask: Volume, recipe: Recipe) -> Features:
    """Features of the voxels of `image` inside `mask`, which may lie on another grid.

    Raises
    ------
    ScanError
        ROI_EMPTY, ROI_SINGLE_VOXEL, ROI_OUTSIDE, ROI_NOT_FINITE, ROI_FLAT, ROI_RESEGMENTED_AWAY, or ROI_UNUSABLE with
        PyRadiomics' words.
    """
    if box(mask.array > 0) is None:
        raise ScanError("ROI_EMPTY", "the mask has no voxel")
    if int(np.count_nonzero(mask.array)) == 1:
        raise ScanError("ROI_SINGLE_VOXEL", "the mask has a single voxel")
    facts: dict[str, Any] = {"diagnostics_Mask-original_VoxelNum": int(np.count_nonzero(mask.array))}
    facts["diagnostics_Versions_PyRadiomics"] = "pyradiomics-bhklab " + _version("pyradiomics-bhklab")
    facts["diagnostics_Versions_SimpleITK"] = _version("SimpleITK")
    return (_ibsi if recipe.grid == "ibsi" else _pyradiomics)(image, mask, recipe, facts)


def _ibsi(image: Volume, mask: Volume, recipe: Recipe, facts: dict[str, Any]) -> Features:
    image, mask = _on_one_grid(image, mask, recipe)
    inside = _check(image, mask)
    facts |= _facts(image, inside)

    settings, images, classes = engine.settings_of(recipe)
    low, high = recipe.resegment_range or (-math.inf, math.inf)
    if recipe.resegment_sigma is not None:
        kept = inside[(inside >= low) & (inside <= high)]
        if len(kept) < 2:
            raise ScanError("ROI_RESEGMENTED_AWAY", "fewer than two voxels lie in the resegmentation range")
        spread = recipe.resegment_sigma * kept.std()
        low, high = max(low, kept.mean() - spread), min(high, kept.mean() + spread)
    if math.isfinite(low) or math.isfinite(high):
        kept = inside[(inside >= low) & (inside <= high)]
        if len(kept) < 2:
            raise ScanError("ROI_RESEGMENTED_AWAY", "fewer than two voxels lie in the resegmentation range")
        settings["resegmentRange"] = [float(low), float(high)]
        facts["diagnostics_Mask-resegmented_VoxelNum"] = len(kept)
    if recipe.resegment_range is not None and recipe.bin_count is None and "Original" in images:
        # filtered images have another scale: their bins keep PyRadiomics' anchor
        images["Original"] = {"binAnchor": float(recipe.resegment_range[0])}
    return Features(_values(_compute(image, mask, settings, images, classes)), facts)


def _pyradiomics(image: Volume, mask: Volume, recipe: Recipe, facts: dict[str, Any]) -> Features:
    mask = mask_onto(mask, image.geometry, "nearest")
    _check(image, mask)
    settings, images, classes = engine.settings_of(recipe)
    result = _compute(image, mask, settings | {"additionalInfo": True}, images, classes)
    kept = ("Image-original_", "Mask-original_", "Image-interpolated_", "Mask-interpolated_")
    kinds = ("VoxelNum", "VolumeNum", "Minimum", "Maximum", "Mean", "Size", "Spacing", "BoundingBox")
    for name, value in result.items():
        if name.startswith(tuple("diagnostics_" + k for k in kept)) and name.endswith(kinds):
            facts[name] = [_number(v) for v in value] if isinstance(value, tuple) else _number(value)
    return Features(_values(result), facts)


def _on_one_grid(image: Volume, mask: Volume, recipe: Recipe) -> tuple[Volume, Volume]:
    """Image and mask on the recipe's grid, cut down to the ROI and as much around it as the filters see."""
    grid = image.geometry if recipe.spacing_mm is None else aligned(image.geometry, recipe.spacing_mm)
    first, last = _range_on(grid, mask, margin=1)
    mask = mask_onto(mask, crop_geometry(grid, first, last), recipe.mask_interpolation)
    bounds = box(mask.array)
    if bounds is None:
        raise ScanError("ROI_EMPTY", "the mask has no voxel left after resampling")
    if recipe.further_image_types:
        margin = max(grid.size)  # their scale depends on the whole image
    else:
        sigma = max(recipe.log_sigmas_mm, default=0)
        margin = max(WAVELET_MARGIN if recipe.wavelet else 0, math.ceil(LOG_MARGIN * sigma / min(grid.spacing)))
    low = [max(0, f + a - margin) for f, a in zip(first, bounds[0], strict=True)]
    high = [min(n - 1, f + b + margin) for f, b, n in zip(first, bounds[1], grid.size, strict=True)]

    array = np.zeros([b - a + 1 for a, b in zip(low, high, strict=True)][::-1], np.uint8)
    inner = tuple(slice(a, b + 1) for a, b in zip(bounds[0][::-1], bounds[1][::-1], strict=True))
    at = [f + a - lo for f, a, lo in zip(first, bounds[0], low, strict=True)][::-1]
    part = mask.array[inner]
    array[tuple(slice(o, o + n) for o, n in zip(at, part.shape, strict=True))] = part

    if grid is image.geometry:
        result = crop(image, low, high)
        result = result.with_array(result.array.astype(np.float64))
    else:
        result = onto(image, crop_geometry(grid, low, high), recipe.interpolation)
    if recipe.round_intensities:
        result = result.with_array(np.rint(result.array))
    return result, Volume(array, result.geometry)


def _range_on(grid: Geometry, mask: Volume, margin: int) -> tuple[list[int], list[int]]:
    """Indices of `grid` that hold the bounding box of a mask, and a margin of voxels."""
    bounds = box(mask.array > 0)
    assert bounds is not None
    low, high = np.array(bounds[0]) - 0.5, np.array(bounds[1]) + 0.5
    corners = np.array([[(low, high)[(n >> a) & 1][a] for a in range(3)] for n in range(8)])
    indices = to_indices(grid, to_points(mask.geometry, corners))
    first = np.maximum(np.floor(indices.min(0)).astype(int) - margin, 0)
    last = np.minimum(np.ceil(indices.max(0)).astype(int) + margin, np.array(grid.size) - 1)
    if (first > last).any():
        raise ScanError("ROI_OUTSIDE", "the mask lies outside of the image")
    return first.tolist(), last.tolist()


def _check(image: Volume, mask: Volume) -> np.ndarray:
    """Intensities inside the mask, if they can be measured."""
    inside = image.array[mask.array > 0]
    if len(inside) == 0:
        raise ScanError("ROI_OUTSIDE", "no voxel of the mask lies inside the image")
    if not np.isfinite(inside).all():
        raise ScanError("ROI_NOT_FINITE", "intensities inside the mask are NaN or infinite")
    if inside.min() == inside.max():
        raise ScanError("ROI_FLAT", "all intensities inside the mask are equal: texture is undefined")
    return inside


def _compute(
    image: Volume, mask: Volume, settings: dict[str, Any], images: dict[str, Any], classes: dict[str, Any]
) -> dict[str, Any]:
    assert same(image.geometry, mask.geometry)
    outline = Volume(mask.array, image.geometry).to_sitk()
    try:
        with np.errstate(all="ignore"):
            return engine.compute(image.to_sitk(), outline, settings, images, classes)
    except ValueError as error:
        raise ScanError("ROI_UNUSABLE", f"PyRadiomics refuses the ROI: {error}") from error


def _facts(image: Volume, inside: np.ndarray) -> dict[str, Any]:
    return {
        "diagnostics_Mask-interpolated_VoxelNum": len(inside),
        "diagnostics_Mask-interpolated_Minimum": float(inside.min()),
        "diagnostics_Mask-interpolated_Maximum": float(inside.max()),
        "diagnostics_Mask-interpolated_Mean": float(inside.mean()),
        "diagnostics_Image-interpolated_Spacing": list(image.geometry.spacing),
    }


def _values(result: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.real(v)) for name, v in result.items() if not name.startswith("diagnostics_")}


def _number(value: Any) -> int | float | str:
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if isinstance(value, (float, np.floating)) else str(value)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
