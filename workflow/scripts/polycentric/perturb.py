"""Perturbations of an image and its masks: pure functions of image, masks, settings and a random stream.

Zwanenburg et al., Sci Rep 9 (2019) 614, name rotation, translation, noise, growth and contour randomisation as
stand-ins for test-retest images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special

from .config.perturb import Contour, Growth, Noise, Perturbation, Rotation, Thickness, Translation
from .errors import ScanError
from .grids import box, crop, crop_geometry, same, to_indices, to_points
from .volumes import Geometry, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Stream = Callable[..., np.random.Generator]
Point = tuple[float, float, float]


def perturb(
    image: Volume, steps: Sequence[Perturbation], stream: Stream
) -> tuple[Volume, Callable[[str, Volume], Volume]]:
    """Apply steps one after another to an image; the function that comes with it does the same to the mask of a region.

    Parameters
    ----------
    image
        of any type of numbers; whole numbers stay whole numbers of the same type, as from a scanner.
    stream
        gives the random generator of a step, `stream(step)`, and of a step and a region, `stream(step, roi)`, such as
        ``lambda *names: randomness.generator(seed, "perturb", set, perturbation, scan, *names)``. What becomes of a
        region does not depend on the others.

    Returns
    -------
    The image, and a function of the name and the mask (0 or 1) of a region. A mask may have a grid of its own, which
    it keeps or, for translations, which is shifted as far as the image's.

    Raises
    ------
    ScanError
        THICKNESS_BELOW_SPACING, THICKNESS_ABOVE_STACK; of the function PERTURBED_MASK_CUT if part of the mask leaves
        the image, and PERTURBED_MASK_EMPTY if no voxel of it is left.
    """
    grids = [image.geometry]
    dtype = image.array.dtype
    for number, step in enumerate(steps):
        match step:
            case Rotation():
                image = rotate(image, step, image.geometry)
            case Translation():
                image = translate(image, step, image.geometry)
            case Noise():
                image = add_noise(image, step, stream(number))
            case Thickness():
                image = thicken(image, step)
        grids.append(image.geometry)
    if dtype.kind in "iu" and image.array.dtype != dtype:
        limits, made = np.iinfo(dtype), image.array
        np.clip(np.rint(made, out=made), limits.min, limits.max, out=made)
        image = image.with_array(made.astype(dtype))

    def move(roi: str, mask: Volume) -> Volume:
        for number, step in enumerate(steps):
            match step:
                case Rotation():
                    mask = rotate(mask, step, grids[number], mask=True)
                case Translation():
                    mask = translate(mask, step, grids[number], mask=True)
                case Contour():
                    mask = move_contour(mask, step, stream(number, roi))
                case Growth():
                    mask = grow(mask, step.mm)
                case Thickness() if same(mask.geometry, grids[number]):
                    mask = replace(thicken(mask, step, mask=True), geometry=grids[number + 1])
            if not mask.array.any():
                raise ScanError("PERTURBED_MASK_EMPTY", f"nothing of the ROI is left after {step.kind}")
        return mask

    return image, move


def middle_mm(geometry: Geometry) -> Point:
    """Middle of a grid in the patient, mm (x, y, z)."""
    return tuple(map(float, to_points(geometry, (np.array([geometry.size]) - 1) / 2)[0]))


def _axes(geometry: Geometry) -> np.ndarray:
    return np.array(geometry.direction).reshape(3, 3)


def rotate(volume: Volume, settings: Rotation, grid: Geometry, *, mask: bool = False) -> Volume:
    """Turn an image about the middle and an axis of `grid`, that of the image, or a mask with it; each keeps its grid.

    Linear interpolation; masks are taken from 0.5 upwards. What comes from outside the image takes its smallest value.

    Raises
    ------
    ScanError
        PERTURBED_MASK_CUT if voxels of a mask would lie outside of its grid.
    """
    import SimpleITK as sitk

    axis, angle = _axes(grid)[:, "xyz".index(settings.axis)], math.radians(settings.degrees)
    # the transform takes points of the result to points of the source, so it turns the other way
    full = sitk.VersorRigid3DTransform()
    full.SetMatrix(sitk.VersorTransform([float(v) for v in axis], -angle).GetMatrix())
    full.SetCenter(middle_mm(grid))
    return _mask_through(volume, volume.geometry, full) if mask else _through(volume, volume.geometry, full)


def translate(volume: Volume, settings: Translation, grid: Geometry, *, mask: bool = False) -> Volume:
    """Sample an image, or a mask with it, on its grid shifted by a fraction of a voxel of `grid`, that of the image.

    Linear interpolation; masks are taken from 0.5 upwards. The content does not move in the patient.
    """
    import SimpleITK as sitk

    shift = _axes(grid) @ (np.array(grid.spacing) * settings.fraction)
    shifted = replace(
        volume.geometry, origin=tuple(float(a + b) for a, b in zip(volume.geometry.origin, shift, strict=True))
    )
    transform = sitk.Transform(3, sitk.sitkIdentity)
    return _mask_through(volume, shifted, transform) if mask else _through(volume, shifted, transform)


def _through(image: Volume, grid: Geometry, transform: sitk.Transform, fill: float | None = None) -> Volume:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    fill = float(image.array.min()) if fill is None else fill
    made = sitk.Resample(
        image.to_sitk(), grid.size, transform, sitk.sitkLinear, grid.origin, grid.spacing, grid.direction, fill,
        sitk.sitkFloat32,
    )  # fmt: skip
    array = sitk.GetArrayFromImage(made)
    # voxel positions are rounded at 1e-16, which single precision hides but for a zero between other values: it would
    # cross the edge of a bin
    least = 1e-9 * max(abs(fill), float(image.array.max()))
    for plane in array:
        plane[np.abs(plane) < least] = 0
    return Volume(array, grid)


def _mask_through(mask: Volume, grid: Geometry, transform: sitk.Transform) -> Volume:
    """A mask on a grid, computed where it comes to lie."""
    inside = mask.array > 0
    result = np.zeros(grid.size[::-1], np.uint8)
    bounds = box(inside)
    if bounds is None:
        return Volume(result, grid)
    low, high = np.array(bounds[0]), np.array(bounds[1])
    onto = transform.GetInverse()

    def places(indices: np.ndarray) -> np.ndarray:
        points = to_points(mask.geometry, indices)
        return to_indices(grid, np.array([onto.TransformPoint([float(v) for v in p]) for p in points]))

    corners = places(np.array(list(itertools.product(*zip(low - 1.0, high + 1.0, strict=True)))))
    size = np.array(grid.size)
    if (corners < 0).any() or (corners > size - 1).any():
        _check_inside(inside, places, size)
    first = np.clip(np.floor(corners.min(0)), 0, size - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0)), 0, size - 1).astype(int)
    # a margin of background keeps the interpolation as it is on the whole grid
    source = crop(
        mask.with_array(inside.astype(np.uint8)),
        np.maximum(low - 2, 0).tolist(),
        np.minimum(high + 2, np.array(mask.geometry.size) - 1).tolist(),
    )
    part = _through(source, crop_geometry(grid, first.tolist(), last.tolist()), transform, 0.0)
    result[tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))] = part.array >= 0.5
    return Volume(result, grid)


def _check_inside(inside: np.ndarray, places: Callable[[np.ndarray], np.ndarray], size: np.ndarray) -> None:
    """That no voxel comes to lie a voxel or more beyond the grid; the ends of rows show it, as a grid is convex."""
    z, y = np.nonzero(inside.any(axis=2))
    rows = inside[z, y]
    ends = np.concatenate([rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)])
    at = places(np.stack([ends, np.tile(y, 2), np.tile(z, 2)], axis=1).astype(float))
    if ((at <= -1) | (at >= size)).any():
        raise ScanError("PERTURBED_MASK_CUT", "part of the ROI comes to lie outside of the image")


def noise_sd(array: np.ndarray) -> float:
    """SD of white noise in an image (z, y, x): median absolute diagonal Haar detail in the slices, over 0.6745.

    Donoho and Johnstone, Biometrika 81 (1994) 425. Areas without any noise (air that was set to a constant) are left
    out, since they would say that there is none. Noise that a reconstruction has smoothed is underestimated.
    """
    found = []
    for plane in array:
        even = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2].astype(float)
        a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
        flat = (a == b) & (b == c) & (c == d)
        found.append(np.abs((a - b - c + d) / 2)[~flat].astype(np.float32))
    detail = np.concatenate(found)
    return float(np.median(detail) / special.ndtri(0.75)) if detail.size else 0.0


def add_noise(image: Volume, settings: Noise, rng: np.random.Generator) -> Volume:
    """Add white Gaussian noise with the SD of the settings, or with that of the image's own noise."""
    sd = settings.sd if settings.sd is not None else noise_sd(image.array)
    made = np.empty(image.array.shape, np.float32)
    for plane, old in zip(made, image.array, strict=True):
        plane[...] = old + rng.normal(0, sd, old.shape)
    return image.with_array(made)


SMOOTHING = 0.8  # voxels; enough to see a surface between voxels, little enough to keep small lesions


def distance_mm(mask: Volume) -> np.ndarray:
    """Signed distance of every voxel centre from the surface of a mask in mm, positive inside.

    Next to the surface, a mask smoothed by a Gaussian tells where between voxels the surface lies: across a plane it is
    the normal distribution function of the distance. Further away the distance to the nearest voxel of the other side
    is added to that voxel's own. The sign is always that of the mask.
    """
    inside = mask.array > 0
    spacing = np.array(mask.geometry.spacing[::-1])
    smooth, slope = _smoothed(inside, spacing)
    length = np.sqrt((slope**2).sum(axis=0))
    normal = slope / np.where(length > 0, length, 1)
    width = SMOOTHING * np.sqrt((normal**2 * spacing[:, None, None, None] ** 2).sum(axis=0))
    near = width * special.ndtri(np.clip(smooth, 1e-3, 1 - 1e-3))
    # a thin part may have gone over to the other side by smoothing
    near = np.where((near > 0) == inside, np.abs(near), 0.0)
    band = np.abs(smooth - 0.5) < 0.47
    least = 0.05 * spacing.min()

    def beyond(region: np.ndarray) -> np.ndarray:
        """Distance of the voxels of a region from its surface; 0 elsewhere."""
        if region.all() or not region.any():
            return np.where(region, np.inf, 0.0)
        distance, nearest = ndimage.distance_transform_edt(region, sampling=spacing, return_indices=True)
        far = distance - np.minimum(near[tuple(nearest)], distance / 2)
        return np.where(region, np.maximum(np.where(band, near, far), least), 0.0)

    return beyond(inside) - beyond(~inside)


def _smoothed(inside: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask smoothed by a Gaussian, and its gradient per mm (3, z, y, x)."""
    padded = np.pad(inside.astype(float), 1, mode="edge")
    steps = [ndimage.gaussian_filter(padded, SMOOTHING, order=np.eye(3, dtype=int)[k]) / spacing[k] for k in range(3)]
    inner = (slice(1, -1),) * 3
    return ndimage.gaussian_filter(padded, SMOOTHING)[inner], np.stack([step[inner] for step in steps])


def area_mm2(mask: Volume) -> float:
    """Area of the surface of a mask in mm2: the total variation of the smoothed mask (co-area formula)."""
    inside = np.pad(mask.array > 0, 4)
    slope = _smoothed(inside, np.array(mask.geometry.spacing[::-1]))[1]
    return float(np.sqrt((slope**2).sum(axis=0)).sum() * np.prod(mask.geometry.spacing))


def expected_dice(area_mm2: float, volume_mm3: float, sd_mm: float) -> float:
    """Dice to expect when the surface moves by N(0, sd) mm: 1 - area * sd * sqrt(2 / pi) / (2 volume).

    The symmetric difference is area * E|displacement| to first order in sd over the radius of curvature, and the
    volume stays the same on average. For a sphere of radius r: 1 - 1.197 sd / r.
    """
    return 1 - area_mm2 * sd_mm * math.sqrt(2 / math.pi) / (2 * volume_mm3)


def contour_sd_mm(mask: Volume, settings: Contour) -> float:
    """SD of the displacement: as in the settings, or the one whose expected Dice is that of the settings."""
    if settings.sd_mm is not None:
        return settings.sd_mm
    volume = float((mask.array > 0).sum()) * float(np.prod(mask.geometry.spacing))
    per_mm = 1 - expected_dice(area_mm2(mask), volume, 1.0)
    return (1 - settings.dice) / per_mm if per_mm > 0 else 0.0


def move_contour(mask: Volume, settings: Contour, rng: np.random.Generator) -> Volume:
    """Move the surface of a mask by a smooth Gaussian random field; `expected_dice` says how far it differs.

    The field is white noise smoothed by a Gaussian whose SD is the correlation length over sqrt(2), so that its
    correlation at a distance d is exp(-(d / length)^2 / 2), scaled by the norm of the kernel to the SD asked for.
    """
    inside = mask.array > 0
    if not inside.any():
        return mask
    sd = contour_sd_mm(_around(inside, 0, mask.geometry)[1], settings)
    # the surface moves by less than five SD; beyond, the field is not needed
    near, part = _around(inside, 5 * sd, mask.geometry)
    sigma = settings.length_mm / math.sqrt(2) / np.array(mask.geometry.spacing[::-1])
    field = _smooth_noise(part.array.shape, sigma, rng)
    moved = np.zeros(inside.shape, dtype=np.uint8)
    moved[near] = distance_mm(part) + sd * field > 0
    return mask.with_array(moved)


def _smooth_noise(shape: tuple[int, ...], sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stationary Gaussian field of mean 0 and variance 1: white noise, smoothed, over the norm of the kernel."""
    reach = [math.ceil(4 * s) for s in sigma]
    field = rng.normal(size=[n + 2 * r for n, r in zip(shape, reach, strict=True)])
    norm = 1.0
    for axis, (s, r) in enumerate(zip(sigma, reach, strict=True)):
        kernel = np.exp(-0.5 * (np.arange(-r, r + 1) / s) ** 2)
        kernel /= kernel.sum()
        field = ndimage.correlate1d(field, kernel, axis=axis, mode="constant")
        norm *= math.sqrt((kernel**2).sum())
    return field[tuple(slice(r, r + n) for n, r in zip(shape, reach, strict=True))] / norm


def _around(inside: np.ndarray, mm: float, grid: Geometry) -> tuple[tuple[slice, ...], Volume]:
    """The part of a mask that holds it and what lies within `mm` around it: where it is (z, y, x), and the part."""
    bounds = box(inside)
    assert bounds is not None
    margin = [math.ceil(mm / s) + 2 for s in grid.spacing]
    first = [max(0, a - m) for a, m in zip(bounds[0], margin, strict=True)]
    last = [min(n - 1, b + m) for n, b, m in zip(grid.size, bounds[1], margin, strict=True)]
    near = tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    return near, Volume(inside[near].astype(np.uint8), crop_geometry(grid, first, last))


def grow(mask: Volume, mm: float) -> Volume:
    """Move the surface of a mask outwards by `mm` (inwards if negative)."""
    inside = mask.array > 0
    if not inside.any():
        return mask
    near, part = _around(inside, max(mm, 0), mask.geometry)
    grown = np.zeros(inside.shape, np.uint8)
    grown[near] = distance_mm(part) + mm > 0
    return mask.with_array(grown)


def thicken(volume: Volume, settings: Thickness, *, mask: bool = False) -> Volume:
    """Average slices into thicker ones of `mm`, as long as whole ones fit, centred in the stack; a mask at 0.5.

    A new slice is the mean of the old ones weighted by how much of each lies in it.

    Raises
    ------
    ScanError
        THICKNESS_BELOW_SPACING if the slices are already further apart.
    """
    geometry = volume.geometry
    old, count = geometry.spacing[2], geometry.size[2]
    if settings.mm < old * (1 - 1e-6):
        raise ScanError(
            "THICKNESS_BELOW_SPACING", f"slices are {old:g} mm apart; they cannot become {settings.mm:g} mm"
        )
    new_count = math.floor(count * old / settings.mm + 1e-6)
    if new_count < 1:
        raise ScanError(
            "THICKNESS_ABOVE_STACK", f"{count} slices of {old:g} mm are less than one of {settings.mm:g} mm"
        )
    start = (count * old - new_count * settings.mm) / 2
    edges = start + settings.mm * np.arange(new_count + 1)
    low, high = old * np.arange(count), old * np.arange(1, count + 1)
    overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    weights = np.clip(overlap, 0, None) / settings.mm
    shift = (edges[0] + edges[1]) / 2 - old / 2
    grid = Geometry(
        (geometry.size[0], geometry.size[1], new_count),
        (geometry.spacing[0], geometry.spacing[1], float(settings.mm)),
        tuple(float(v) for v in np.array(geometry.origin) + shift * _axes(geometry)[:, 2]),
        geometry.direction,
    )

    made = np.empty((new_count, *volume.array.shape[1:]), np.uint8 if mask else np.float32)
    for plane, shares in zip(made, weights, strict=True):
        used = np.flatnonzero(shares)
        slices = volume.array[used] > 0 if mask else volume.array[used]
        mean = np.tensordot(shares[used], slices.astype(float), axes=(0, 0))
        plane[...] = mean >= 0.5 - 1e-9 if mask else mean
    return Volume(made, grid)
