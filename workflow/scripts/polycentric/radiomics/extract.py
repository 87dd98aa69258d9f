"""Features of the ROIs of one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..config.features import Recipe
from ..errors import ScanError, UserError
from ..grids import aligned, box, crop, crop_geometry, mask_onto, same, to_indices, to_points
from ..volumes import Geometry, Volume
from .resample import resample

LOG_MARGIN = 20  # standard deviations; from there on not a bit changes in what ITK's recursive filter gives


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
        ROI_EMPTY, ROI_SINGLE_VOXEL, ROI_OUTSIDE, ROI_NOT_FINITE, ROI_FLAT, ROI_RESEGMENTED_AWAY, ROI_BINS, or
        ROI_UNUSABLE.
    """
    result = extract_rois(image, {"": mask}, recipe)[""]
    if isinstance(result, ScanError):
        raise result
    return result


def extract_rois(image: Volume, masks: Mapping[str, Volume], recipe: Recipe) -> dict[str, Features | ScanError]:
    """Features of every ROI of an image, which is prepared and filtered once; an ROI that cannot be measured gives its
    error.

    Masks are taken from `masks` one after the other, so that a mapping may load them as they are asked for. What an ROI
    gives does not depend on the others.
    """
    results = (_ibsi if recipe.grid == "ibsi" else _pyradiomics)(image, masks, recipe)
    return {name: _noted(results[name], recipe) for name in masks}


def check_recipe(recipe: Recipe) -> None:
    """Whether the recipe's filters can be computed with what is installed.

    Raises
    ------
    UserError
        for wavelets that do not exist, and for image types that PyRadiomics would leave out with a warning.
    """
    import pywt

    if recipe.wavelet is not None and recipe.wavelet not in pywt.wavelist(kind="discrete"):
        raise UserError(f"recipe: there is no discrete wavelet {recipe.wavelet!r}; write one such as coif1, db2, haar")
    if "LBP2D" in recipe.further_image_types and find_spec("skimage") is None:
        raise UserError("recipe: LBP2D needs scikit-image: install it in the environment `radiomics`, or remove LBP2D")
    if "LBP3D" in recipe.further_image_types:
        raise UserError("recipe: PyRadiomics' LBP3D does not run with the present SciPy: remove LBP3D")


@dataclass(frozen=True)
class _Roi:
    """An ROI on the grid of the features: first index (x, y, z) and mask cut down to its box, and facts."""

    first: tuple[int, int, int]
    mask: np.ndarray
    facts: dict[str, Any]

    @property
    def last(self) -> tuple[int, int, int]:
        return tuple(a + n - 1 for a, n in zip(self.first, self.mask.shape[::-1], strict=True))  # type: ignore[return-value]


Results = dict[str, Features | ScanError]


def _noted(result: Features | ScanError, recipe: Recipe) -> Features | ScanError:
    """The result with a note on LoG images that PyRadiomics leaves out: the image must be wider than the filter."""
    if isinstance(result, ScanError) or not {*recipe.classes} - {"shape", "shape2D"}:
        return result
    labels = [f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in recipe.log_sigmas_mm]
    missing = [label for label in labels if not any(name.startswith(f"{label}_") for name in result.values)]
    return replace(result, facts=result.facts | {"diagnostics_Missing": missing}) if missing else result


def _load(masks: Mapping[str, Volume], name: str, recipe: Recipe) -> tuple[Volume, dict[str, Any]]:
    """A mask that has voxels, and first facts."""
    mask = masks[name]
    if not np.isfinite(mask.array).all():
        raise ScanError("MASK_NOT_FINITE", "the mask has values that are NaN or infinite")
    if (number := int(np.count_nonzero(mask.array > 0))) == 0:
        raise ScanError("ROI_EMPTY", "the mask has no voxel")
    if number == 1:
        raise ScanError("ROI_SINGLE_VOXEL", "the mask has a single voxel")
    facts = {"diagnostics_Mask-original_VoxelNum": number, "diagnostics_Engine": recipe.engine}
    for package in ("pyradiomics-bhklab", "SimpleITK", *(("numba",) if recipe.engine == "fast" else ())):
        label = "PyRadiomics" if package.startswith("pyradiomics") else package
        facts[f"diagnostics_Versions_{label}"] = (f"{package} " if label != package else "") + _version(package)
    return mask, facts


def _ibsi(image: Volume, masks: Mapping[str, Volume], recipe: Recipe) -> Results:
    grid = image.geometry if recipe.spacing_mm is None else aligned(image.geometry, recipe.spacing_mm)
    results: Results = {}
    rois: dict[str, _Roi] = {}
    for name in masks:
        try:
            mask, facts = _load(masks, name, recipe)
            rois[name] = _onto_grid(mask, grid, recipe, facts)
        except ScanError as error:
            results[name] = error
    reach = {name: _reach(roi, grid, recipe) for name, roi in rois.items()}
    for low, high, members in groups(reach):
        part = _part(image, grid, low, high, recipe)
        moved = {
            name: replace(rois[name], first=tuple(a - b for a, b in zip(rois[name].first, low, strict=True)))
            for name in members
        }
        if recipe.engine == "fast":
            results |= _fast(part, moved, recipe, _resegmented_ibsi)
            continue
        for name, roi in moved.items():
            first, last = ([a - b for a, b in zip(corner, low, strict=True)] for corner in reach[name])
            own = tuple(a - b for a, b in zip(roi.first, first, strict=True))
            results[name] = _attempt(_reference_ibsi, crop(part, first, last), replace(roi, first=own), recipe)
    return results


def _onto_grid(mask: Volume, grid: Geometry, recipe: Recipe, facts: dict[str, Any]) -> _Roi:
    first, last = _range_on(grid, mask, margin=1)
    mapped = mask_onto(mask, crop_geometry(grid, first, last), recipe.mask_interpolation)
    bounds = box(mapped.array)
    if bounds is None:
        raise ScanError("ROI_EMPTY", "the mask has no voxel left after resampling")
    inner = tuple(slice(a, b + 1) for a, b in zip(bounds[0][::-1], bounds[1][::-1], strict=True))
    start = tuple(f + a for f, a in zip(first, bounds[0], strict=True))
    return _Roi(start, mapped.array[inner] > 0, facts)


def _reach(roi: _Roi, grid: Geometry, recipe: Recipe) -> tuple[list[int], list[int]]:
    """First and last index of what the filters see of the grid; an axis on which they reach its end is taken whole,
    since wavelets are periodic there."""
    low, high = [], []
    for first, last, size, step in zip(roi.first, roi.last, grid.size, grid.spacing, strict=True):
        margin = math.ceil(LOG_MARGIN * max(recipe.log_sigmas_mm, default=0) / step)
        if recipe.wavelet:
            import pywt

            margin = max(margin, pywt.Wavelet(recipe.wavelet).dec_len)
        if recipe.further_image_types:
            margin = size  # their scale depends on the whole image
        whole = margin > 0 and (first - margin < 0 or last + margin >= size)
        low.append(0 if whole else first - margin)
        high.append(size - 1 if whole else last + margin)
    return low, high


def groups(boxes: Mapping[str, tuple[list[int], list[int]]]) -> Iterator[tuple[list[int], list[int], list[str]]]:
    """Boxes (first and last index), put together where one around them is no larger than they are, with their names."""
    made = [(list(low), list(high), [name]) for name, (low, high) in boxes.items()]

    def volume(low: Sequence[int], high: Sequence[int]) -> int:
        return math.prod(b - a + 1 for a, b in zip(low, high, strict=True))

    merged = True
    while merged:
        merged = False
        for i in range(len(made)):
            for j in range(i + 1, len(made)):
                low = [min(pair) for pair in zip(made[i][0], made[j][0], strict=True)]
                high = [max(pair) for pair in zip(made[i][1], made[j][1], strict=True)]
                if volume(low, high) <= volume(*made[i][:2]) + volume(*made[j][:2]):
                    made[i] = (low, high, made[i][2] + made[j][2])
                    del made[j]
                    merged = True
                    break
            if merged:
                break
    yield from made


def _part(image: Volume, grid: Geometry, low: list[int], high: list[int], recipe: Recipe) -> Volume:
    """The image on a part of the recipe's grid, float64."""
    if grid is image.geometry:
        result = crop(image, low, high)
        result = result.with_array(result.array.astype(np.float64))
    else:
        result = resample(image, grid, low, high, recipe.interpolation)
    return result.with_array(np.rint(result.array)) if recipe.round_intensities else result


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


def _check(inside: np.ndarray) -> np.ndarray:
    """Intensities inside the mask, if they can be measured."""
    if len(inside) == 0:
        raise ScanError("ROI_OUTSIDE", "no voxel of the mask lies inside the image")
    if not np.isfinite(inside).all():
        raise ScanError("ROI_NOT_FINITE", "intensities inside the mask are NaN or infinite")
    if inside.min() == inside.max():
        raise ScanError("ROI_FLAT", "all intensities inside the mask are equal: texture is undefined")
    return inside


def _check_size(mask: np.ndarray, recipe: Recipe) -> None:
    """PyRadiomics' conditions on an ROI, in our words."""
    number = int(mask.sum())
    spans = sum(
        int(np.ptp(np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))))) > 0 for axis in range(3)
    )
    if number <= 1:
        raise ScanError("ROI_SINGLE_VOXEL", "the mask has a single voxel on the grid of the features")
    if spans < recipe.minimum_roi_dimensions:
        raise ScanError(
            "ROI_UNUSABLE",
            f"the ROI is more than one voxel wide along {spans} axes, minimum_roi_dimensions "
            f"asks for {recipe.minimum_roi_dimensions}",
        )
    if recipe.minimum_roi_voxels is not None and number <= recipe.minimum_roi_voxels:
        raise ScanError(
            "ROI_UNUSABLE", f"the ROI has {number} voxels, not more than minimum_roi_voxels {recipe.minimum_roi_voxels}"
        )


def _inside(part: Volume, roi: _Roi) -> np.ndarray:
    cut = tuple(slice(a, b + 1) for a, b in zip(roi.first[::-1], roi.last[::-1], strict=True))
    return part.array[cut]


def _fast(part: Volume, rois: dict[str, _Roi], recipe: Recipe, resegmented: Callable[..., Any]) -> Results:
    """Features by the fast engine of ROIs on the grid of `part`."""
    from . import engine, fast

    settings, images, classes = engine.settings_of(recipe)
    results: Results = {}
    outlines: dict[str, fast.Outline] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, roi in rois.items():
        try:
            values = _inside(part, roi)
            inside = _check(values[roi.mask])
            _check_size(roi.mask, recipe)
            facts[name] = roi.facts | (_facts(part, inside) if recipe.grid == "ibsi" else {})
            low, high = resegmented(inside, recipe, settings)
            whole = kept = roi.mask
            first = roi.first
            if math.isfinite(low) or math.isfinite(high):
                kept = whole & (values >= low) & (values <= high)
                if (number := int(kept.sum())) < 2:
                    raise ScanError("ROI_RESEGMENTED_AWAY", "fewer than two voxels lie in the resegmentation range")
                _check_size(kept, recipe)
                facts[name]["diagnostics_Mask-resegmented_VoxelNum"] = number
                if settings.get("resegmentShape"):
                    whole = kept
                if recipe.grid == "pyradiomics":  # PyRadiomics measures the shape within the box of what is kept
                    bounds = box(kept)
                    assert bounds is not None
                    cut = tuple(slice(a, b + 1) for a, b in zip(bounds[0][::-1], bounds[1][::-1], strict=True))
                    whole, kept = whole[cut], kept[cut]
                    first = tuple(f + a for f, a in zip(first, bounds[0], strict=True))
            outlines[name] = fast.Outline(first[::-1], whole, kept)
        except ScanError as error:
            results[name] = error
    if "Original" in images and _anchor(recipe) is not None:
        images["Original"] = {"binAnchor": _anchor(recipe)}
    with np.errstate(all="ignore"):
        found = fast.compute(part, outlines, settings, images, classes) if outlines else {}
    for name, values in found.items():
        results[name] = values if isinstance(values, ScanError) else Features(values, facts[name])
    return results


def _anchor(recipe: Recipe) -> float | None:
    """Where bins of the unfiltered image start; filtered images have another scale and keep PyRadiomics' anchor."""
    if recipe.grid == "ibsi" and recipe.resegment_range is not None and recipe.bin_count is None:
        return float(recipe.resegment_range[0])
    return None


def _resegmented_ibsi(inside: np.ndarray, recipe: Recipe, settings: dict[str, Any]) -> tuple[float, float]:
    """Intensities that an ROI keeps: the range first, then a multiple of the standard deviation of what is left."""
    low, high = recipe.resegment_range or (-math.inf, math.inf)
    if recipe.resegment_sigma is not None:
        kept = inside[(inside >= low) & (inside <= high)]
        if len(kept) < 2:
            raise ScanError("ROI_RESEGMENTED_AWAY", "fewer than two voxels lie in the resegmentation range")
        spread = recipe.resegment_sigma * kept.std()
        low, high = max(low, kept.mean() - spread), min(high, kept.mean() + spread)
    return float(low), float(high)


def _resegmented_pyradiomics(inside: np.ndarray, recipe: Recipe, settings: dict[str, Any]) -> tuple[float, float]:
    """Intensities that an ROI keeps by PyRadiomics' resegmentRange and resegmentMode."""
    bounds = settings.get("resegmentRange")
    if bounds is None:
        return -math.inf, math.inf
    if not 1 <= len(bounds) <= 2:
        raise ScanError("ROI_UNUSABLE", f"resegmentRange has {len(bounds)} values: write one or two")
    mode = settings.get("resegmentMode", "absolute")
    if mode == "relative":
        limits = [inside.max() * v for v in sorted(bounds)]
    elif mode == "sigma":
        limits = [inside.mean() + inside.std() * v for v in sorted(bounds)]
    else:
        limits = sorted(bounds)
    return float(limits[0]), float(limits[1]) if len(limits) == 2 else math.inf


def _reference_ibsi(part: Volume, roi: _Roi, recipe: Recipe) -> Features:
    """Features by PyRadiomics of an ROI on the grid of `part`."""
    from . import engine

    inside = _check(_inside(part, roi)[roi.mask])
    facts = roi.facts | _facts(part, inside)
    settings, images, classes = engine.settings_of(recipe)
    low, high = _resegmented_ibsi(inside, recipe, settings)
    shapes: dict[str, Any] = {}
    outline = _outline(part, roi)
    if math.isfinite(low) or math.isfinite(high):
        kept = inside[(inside >= low) & (inside <= high)]
        if len(kept) < 2:
            raise ScanError("ROI_RESEGMENTED_AWAY", "fewer than two voxels lie in the resegmentation range")
        facts["diagnostics_Mask-resegmented_VoxelNum"] = len(kept)
        if not settings.get("resegmentShape"):
            # PyRadiomics would measure the shape within the box of what is kept only
            own = {k: v for k, v in classes.items() if k.startswith("shape")}
            classes = {k: v for k, v in classes.items() if k not in own}
            shapes = _compute(part, outline, settings, {}, own) if own else {}
        settings["resegmentRange"] = [float(low), float(high)]
    if "Original" in images and _anchor(recipe) is not None:
        images["Original"] = {"binAnchor": _anchor(recipe)}
    return Features(_values(shapes | _compute(part, outline, settings, images, classes)), facts)


def _outline(part: Volume, roi: _Roi) -> Volume:
    array = np.zeros(part.array.shape, np.uint8)
    cut = tuple(slice(a, b + 1) for a, b in zip(roi.first[::-1], roi.last[::-1], strict=True))
    array[cut] = roi.mask
    return Volume(array, part.geometry)


def _pyradiomics(image: Volume, masks: Mapping[str, Volume], recipe: Recipe) -> Results:
    """Features on the grid that PyRadiomics makes, by its own functions, or on the image's own grid."""
    from . import engine

    prepared = engine.Prepared(image, recipe) if recipe.engine == "fast" else None
    results: Results = {}
    together: dict[str, _Roi] = {}
    for name in masks:
        try:
            mask, facts = _load(masks, name, recipe)
            _range_on(image.geometry, mask, margin=0)
            outline = mask_onto(mask, image.geometry, "nearest")
            _check(image.array[outline.array > 0])
            if prepared is None:
                results[name] = _reference_pyradiomics(image, outline, recipe, facts)
                continue
            part, mapped = prepared.domain(outline)
            bounds = box(mapped)
            if bounds is None:
                raise ScanError("ROI_EMPTY", "the mask has no voxel left after resampling")
            cut = tuple(slice(a, b + 1) for a, b in zip(bounds[0][::-1], bounds[1][::-1], strict=True))
            facts |= prepared.facts(outline, part, mapped)
            roi = _Roi(bounds[0], mapped[cut], facts)
            if part is prepared.image:
                together[name] = roi
            else:
                results |= _fast(part, {name: roi}, recipe, _resegmented_pyradiomics)
        except ScanError as error:
            results[name] = error
    if prepared is not None and together:
        results |= _fast(prepared.image, together, recipe, _resegmented_pyradiomics)
    return results


def _reference_pyradiomics(image: Volume, mask: Volume, recipe: Recipe, facts: dict[str, Any]) -> Features:
    from . import engine

    settings, images, classes = engine.settings_of(recipe)
    result = _compute(image, mask, settings | {"additionalInfo": True}, images, classes)
    facts = dict(facts)
    kept = ("Image-original_", "Mask-original_", "Image-interpolated_", "Mask-interpolated_")
    kinds = ("VoxelNum", "VolumeNum", "Minimum", "Maximum", "Mean", "Size", "Spacing", "BoundingBox")
    for name, value in result.items():
        if name.startswith(tuple("diagnostics_" + k for k in kept)) and name.endswith(kinds):
            facts[name] = [_number(v) for v in value] if isinstance(value, tuple) else _number(value)
    return Features(_values(result), facts)


def _attempt(work: Callable[..., Features], *given: Any) -> Features | ScanError:
    try:
        return work(*given)
    except ScanError as error:
        return error


def _compute(
    image: Volume, mask: Volume, settings: dict[str, Any], images: dict[str, Any], classes: dict[str, Any]
) -> dict[str, Any]:
    from . import engine

    assert same(image.geometry, mask.geometry)
    if images.keys() - {"Original"} and not np.isfinite(image.array).all():
        raise ScanError("ROI_NOT_FINITE", "the image has values that are NaN or infinite, which filters would spread")
    outline = Volume(mask.array, image.geometry).to_sitk()
    try:
        with np.errstate(all="ignore"):
            return engine.compute(image.to_sitk(), outline, settings, images, classes)
    except (ValueError, RuntimeError) as error:
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
