"""From the analytic chest to Hounsfield units on a scanner's grid."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from ..config.simulate import Scanner
from .anatomy import Anatomy, Array

AIR, FAT, MUSCLE, LUNG, BONE = -1000.0, -100.0, 45.0, -850.0, 350.0
FWHM_PER_SD = math.sqrt(8 * math.log(2))


def render(
    chest: Anatomy, x: Array, y: Array, z: Array, *, blood_hu: float, tumour_hu: float, pixel_mm: float
) -> Array:
    """Sample the chest: x (nx,), y (ny,), z (nz,) or (nz, ny) in a tilted scan; returns float32 HU (nz, ny, nx).

    Edges are as wide as a pixel, which stands for the partial volume effect in the plane.
    """
    x3 = x.astype(np.float32)[None, None, :]
    y3 = y.astype(np.float32)[None, :, None]
    z3 = (z[:, None] if z.ndim == 1 else z).astype(np.float32)[:, :, None]

    def cover(distance: Array, width: float = pixel_mm) -> Array:
        return np.clip(0.5 + distance / np.float32(width), 0, 1)

    body = chest.body_mm(x3, y3)
    tissue = FAT + (MUSCLE - FAT) * cover(body - chest.fat_mm, 2 * pixel_mm)
    plane = AIR + (tissue - AIR) * cover(body)
    plane = plane + (BONE - plane) * cover(chest.spine_mm(x3, y3))
    hu = np.broadcast_to(plane, (z3.shape[0], y.size, x.size)).astype(np.float32)
    lung = cover(np.maximum(chest.lung_mm(1, x3, y3, z3), chest.lung_mm(-1, x3, y3, z3)))
    # the texture is faint and smooth, and costs most: only where there is lung
    k, j, i = np.nonzero(lung)
    texture = np.zeros_like(hu)
    zz = np.broadcast_to(z3[:, :, 0], (z3.shape[0], y.size))[k, j]
    texture[k, j, i] = 20 * chest.lung_texture(x3[0, 0, i], y3[0, j, 0], zz)
    hu += (LUNG + texture - hu) * lung
    for *ends, first, last in chest.vessels:
        _vessel(hu, lung, (x3, y3, z3), np.array(ends), first, last, blood_hu, pixel_mm)
    hu += (blood_hu - hu) * cover(chest.blood_mm(x3, y3, z3))
    return _tumour(hu, chest, (x3, y3, z3), tumour_hu, pixel_mm)


def _box(grid: tuple[Array, Array, Array], low: Array, high: Array) -> tuple[slice, slice, slice]:
    """The part of the grid that may hold points between two corners."""
    x, y, z = grid
    bottom, top = z.min(axis=(1, 2)), z.max(axis=(1, 2))
    found = [
        np.flatnonzero((top >= low[2]) & (bottom <= high[2])),
        np.flatnonzero((y[0, :, 0] >= low[1]) & (y[0, :, 0] <= high[1])),
        np.flatnonzero((x[0, 0] >= low[0]) & (x[0, 0] <= high[0])),
    ]
    return tuple(slice(f[0], f[-1] + 1) if f.size else slice(0, 0) for f in found)  # type: ignore[return-value]


def _part(grid: tuple[Array, Array, Array], box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
    x, y, z = grid
    return x[:, :, box[2]], y[:, box[1]], z[box[0], box[1] if z.shape[1] > 1 else slice(None)]


def _vessel(
    hu: Array, lung: Array, grid: tuple[Array, Array, Array], ends: Array, first: float, last: float,
    blood_hu: float, pixel_mm: float,
) -> None:  # fmt: skip
    start, end = ends[:3], ends[3:]
    reach = first + pixel_mm
    box = _box(grid, np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    x, y, z = _part(grid, box)
    along = end - start
    t = ((x - start[0]) * along[0] + (y - start[1]) * along[1] + (z - start[2]) * along[2]) / np.float32(along @ along)
    t = np.clip(t, 0, 1).astype(np.float32)
    distance = np.sqrt(
        (x - start[0] - t * along[0]) ** 2 + (y - start[1] - t * along[1]) ** 2 + (z - start[2] - t * along[2]) ** 2
    )
    # a vessel thinner than a pixel fills a part of it only
    radius = first + (last - first) * t
    share = np.clip(0.5 + (radius - distance) / pixel_mm, 0, 1) * np.minimum(1, (2 * radius / pixel_mm) ** 2)
    hu[box] += ((blood_hu - hu[box]) * share * lung[box]).astype(np.float32)


def _tumour(hu: Array, chest: Anatomy, grid: tuple[Array, Array, Array], tumour_hu: float, pixel_mm: float) -> Array:
    surface = np.stack([p.ravel() for p in chest.tumour.surface(1.2)])
    box = _box(grid, surface.min(axis=1) - pixel_mm, surface.max(axis=1) + pixel_mm)
    x, y, z = _part(grid, box)
    share = np.clip(0.5 + chest.tumour.inside_mm(x, y, z) / pixel_mm, 0, 1)
    hu[box] += ((tumour_hu + chest.tumour_texture(x, y, z) - hu[box]) * share).astype(np.float32)
    return hu


def scan(
    chest: Anatomy, scanner: Scanner, x: Array, y: Array, z: Array, *, blood_hu: float, tumour_hu: float,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Image the chest: slices average over their thickness; then blur, noise of the kernel's grain, offset.

    Returns HU (nz, ny, nx), float32. `noise_hu` is the standard deviation of the noise after the kernel.
    """
    dx, dy, dz = scanner.spacing_mm
    thickness = scanner.thickness_mm or dz
    samples = min(3, math.ceil(thickness / 2.5))
    offsets = (np.arange(samples) - (samples - 1) / 2) * thickness / samples
    hu = sum(
        render(chest, x, y, z + shift, blood_hu=blood_hu, tumour_hu=tumour_hu, pixel_mm=max(dx, dy))
        for shift in offsets
    ) / np.float32(samples)
    blur = (0.0, scanner.fwhm_mm / FWHM_PER_SD / dy, scanner.fwhm_mm / FWHM_PER_SD / dx)
    hu = gaussian_filter(hu, blur, mode="nearest")
    noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), blur, mode="wrap")
    return hu + noise * np.float32(scanner.noise_hu / _grain(blur)) + np.float32(scanner.offset_hu)


def _grain(blur: tuple[float, float, float]) -> float:
    """Standard deviation that filtering leaves of white noise of variance 1: the L2 norm of the kernel."""
    norm = 1.0
    for sd in blur[1:]:
        impulse = np.zeros(2 * math.ceil(6 * sd) + 3)
        impulse[impulse.size // 2] = 1
        norm *= float(np.linalg.norm(gaussian_filter(impulse, sd)))
    return norm
