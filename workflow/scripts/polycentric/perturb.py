"""Perturbations of an image and its masks: pure functions of image, masks, settings and a random stream.

Image and masks are volumes on one grid; results are again on one grid. Zwanenburg et al., Sci Rep 9 (2019) 614, name
rotation, translation, noise, growth and contour randomisation as stand-ins for test-retest images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special

from .config.perturb import Contour, Growth, Noise, Perturbation, Rotation, Thickness, Translation
from .errors import ScanError
from .volumes import Geometry, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

Masks = dict[str, Volume]
Stream = Callable[..., np.random.Generator]


def perturb(
    image: Volume, masks: Mapping[str, Volume], steps: Sequence[Perturbation], stream: Stream
) -> tuple[Volume, Masks]:
    """Apply steps one after another; `stream(step, roi)` gives the random generator of a step and a region.

    Parameters
    ----------
    image, masks
        float image and masks (0 or 1) by region, on one grid.
    stream
        such as ``lambda *names: randomness.generator(seed, "perturb", set, perturbation, scan, *names)``.

    Returns
    -------
    Image and masks on one grid, which rotation, noise, contour and growth leave as it was.

    Raises
    ------
    ScanError
        PERTURBED_MASK_EMPTY if a mask has no voxel left.
    """
    made: Masks = dict(masks)
    for number, step in enumerate(steps):
        match step:
            case Rotation():
                union = np.any([m.array > 0 for m in made.values()], axis=0) if made else np.ones_like(image.array)
                image, made = rotate(image, made, step, centre_mm(image.with_array(union)))
            case Translation():
                image, made = translate(image, made, step)
            case Noise():
                image = add_noise(image, step, stream(number))
            case Contour():
                made = {roi: move_contour(mask, step, stream(number, roi)) for roi, mask in made.items()}
            case Growth():
                made = {roi: grow(mask, step.mm) for roi, mask in made.items()}
            case Thickness():
                image, made = thicken(image, made, step)
    for roi, mask in made.items():
        if not mask.array.any():
            raise ScanError(
                "PERTURBED_MASK_EMPTY", f"nothing of {roi} is left after {', '.join(s.kind for s in steps)}"
            )
    return image, made


def centre_mm(mask: Volume) -> tuple[float, float, float]:
    """Centre of gravity of a mask in the patient, mm (x, y, z)."""
    index = np.array(ndimage.center_of_mass(mask.array > 0))[::-1]
    return tuple(_point(mask.geometry, index))


def _point(geometry: Geometry, index: np.ndarray) -> np.ndarray:
    return np.array(geometry.origin) + _axes(geometry) @ (np.array(geometry.spacing) * index)


def _axes(geometry: Geometry) -> np.ndarray:
    return np.array(geometry.direction).reshape(3, 3)


def rotate(
    image: Volume, masks: Mapping[str, Volume], settings: Rotation, centre: tuple[float, float, float]
) -> tuple[Volume, Masks]:
    """Turn image and masks about `centre` (mm), on the grid as it was: linear interpolation, masks at 0.5.

    What comes from outside the image takes its smallest value.
    """
    import SimpleITK as sitk

    axis = _axes(image.geometry)[:, "xyz".index(settings.axis)]
    # the transform takes points of the result to points of the source, so it turns the other way
    transform = sitk.VersorTransform([float(v) for v in axis], -math.radians(settings.degrees))
    full = sitk.VersorRigid3DTransform()
    full.SetMatrix(transform.GetMatrix())
    full.SetCenter([float(v) for v in centre])
    return _resampled(image, masks, image.geometry, full)


def translate(image: Volume, masks: Mapping[str, Volume], settings: Translation) -> tuple[Volume, Masks]:
    """Sample image and masks on a grid that is shifted by a fraction of a voxel: linear, masks at 0.5."""
    import SimpleITK as sitk

    geometry = image.geometry
    grid = replace(geometry, origin=tuple(float(v) for v in _point(geometry, np.array(settings.fraction))))
    return _resampled(image, masks, grid, sitk.Transform(3, sitk.sitkIdentity))


def _resampled(
    image: Volume, masks: Mapping[str, Volume], grid: Geometry, transform: sitk.Transform
) -> tuple[Volume, Masks]:
    import SimpleITK as sitk

    def through(volume: Volume, fill: float) -> np.ndarray:
        source = sitk.Cast(volume.to_sitk(), sitk.sitkFloat64)
        made = sitk.Resample(
            source, grid.size, transform, sitk.sitkLinear, grid.origin, grid.spacing, grid.direction, fill
        )
        return sitk.GetArrayFromImage(made)

    fill = float(image.array.min())
    masks = {roi: Volume((through(m, 0.0) >= 0.5).astype(np.uint8), grid) for roi, m in masks.items()}
    return Volume(through(image, fill).astype(np.float32), grid), masks


def noise_sd(array: np.ndarray) -> float:
    """SD of white noise in an image (z, y, x): median absolute diagonal Haar detail in the slices, over 0.6745.

    Donoho and Johnstone, Biometrika 81 (1994) 425. Areas without any noise (air that was set to a constant) are left
    out, since they would say that there is none. Noise that a reconstruction has smoothed is underestimated.
    """
    even = array[:, : array.shape[1] // 2 * 2, : array.shape[2] // 2 * 2].astype(float)
    a, b, c, d = even[:, ::2, ::2], even[:, ::2, 1::2], even[:, 1::2, ::2], even[:, 1::2, 1::2]
    flat = (a == b) & (b == c) & (c == d)
    detail = ((a - b - c + d) / 2)[~flat]
    return float(np.median(np.abs(detail)) / special.ndtri(0.75)) if detail.size else 0.0


def add_noise(image: Volume, settings: Noise, rng: np.random.Generator) -> Volume:
    """Add white Gaussian noise with the SD of the settings, or with that of the image's own noise."""
    sd = settings.sd if settings.sd is not None else noise_sd(image.array)
    return image.with_array((image.array + rng.normal(0, sd, image.array.shape)).astype(np.float32))


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
    spacing = np.array(mask.geometry.spacing[::-1])
    box = tuple(slice(int(v.min()), int(v.max()) + 1) for v in np.nonzero(inside))
    sd = contour_sd_mm(_crop(mask, box, 2), settings)
    # the surface moves by less than five SD; beyond, the field is not needed
    margin = np.ceil(5 * sd / spacing).astype(int) + 1
    grown = tuple(
        slice(max(0, b.start - int(m)), min(n, b.stop + int(m)))
        for b, m, n in zip(box, margin, inside.shape, strict=True)
    )
    part = Volume(inside[grown].astype(np.uint8), replace(mask.geometry, size=_size(inside[grown])))
    sigma = settings.length_mm / math.sqrt(2) / spacing
    field = _smooth_noise(part.array.shape, sigma, rng)
    moved = np.zeros(inside.shape, dtype=np.uint8)
    moved[grown] = distance_mm(part) + sd * field > 0
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


def _crop(mask: Volume, box: tuple[slice, ...], margin: int) -> Volume:
    part = np.pad(mask.array[box] > 0, margin).astype(np.uint8)
    return Volume(part, replace(mask.geometry, size=_size(part)))


def _size(array: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(n) for n in array.shape[::-1])


def grow(mask: Volume, mm: float) -> Volume:
    """Move the surface of a mask outwards by `mm` (inwards if negative)."""
    if not (mask.array > 0).any():
        return mask
    return mask.with_array((distance_mm(mask) + mm > 0).astype(np.uint8))


def thicken(image: Volume, masks: Mapping[str, Volume], settings: Thickness) -> tuple[Volume, Masks]:
    """Average slices into thicker ones of `mm`, as long as whole ones fit, centred in the stack; masks at 0.5.

    A new slice is the mean of the old ones weighted by how much of each lies in it.

    Raises
    ------
    ScanError
        THICKNESS_BELOW_SPACING if the slices are already further apart.
    """
    geometry = image.geometry
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

    def averaged(array: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, array.astype(float), axes=(1, 0))

    made = {roi: Volume((averaged(m.array > 0) >= 0.5 - 1e-9).astype(np.uint8), grid) for roi, m in masks.items()}
    return Volume(averaged(image.array).astype(np.float32), grid), made
