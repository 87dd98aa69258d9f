"""Steps that filter: smoothing, de-noising, energy of frequency bands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

from ...config.steps import Diffusion, Frequency, Gaussian, Median, NonLocalMeans
from ...errors import ScanError
from ...volumes import Volume
from ..arrays import as_float, flat, moments, pooled
from ..context import Context

TRUNCATE = 4.0
CLOSE = 0.05
SLICES = 32  # that energies are measured on


def gaussian(step: Gaussian, volume: Volume, context: Context) -> Volume:
    """Gaussian smoothing, sigma in mm along every axis, truncated at 4 sigma, edges repeated."""
    sigma = [step.sigma_mm / s for s in volume.geometry.spacing[::-1]]
    return volume.with_array(ndimage.gaussian_filter(as_float(volume), sigma, mode="nearest", truncate=TRUNCATE))


def median(step: Median, volume: Volume, context: Context) -> Volume:
    """Median of (2 r + 1) voxels per axis, edges repeated; keeps the type."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    radius = [step.radius, step.radius, step.radius if step.planes == "volume" else 0]
    image = sitk.Median(sitk.GetImageFromArray(volume.array), radius)
    return volume.with_array(sitk.GetArrayFromImage(image))


def diffusion(step: Diffusion, volume: Volume, context: Context) -> Volume:
    """Anisotropic diffusion by SimpleITK, with the largest stable step of time for the scan's spacing.

    gradient: Perona and Malik, IEEE TPAMI 12 (1990) 629-639; curvature: Whitaker and Xue, ICIP 2001 (modified
    curvature diffusion).
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if min(volume.array.shape) == 1:
        image = sitk.GetImageFromArray(np.squeeze(as_float(volume)))
        image.SetSpacing([s for s, n in zip(volume.geometry.spacing, volume.geometry.size, strict=True) if n > 1])
    else:
        image = sitk.GetImageFromArray(as_float(volume))
        image.SetSpacing(volume.geometry.spacing)
    run = sitk.GradientAnisotropicDiffusion if step.method == "gradient" else sitk.CurvatureAnisotropicDiffusion
    # ITK: stable below the smallest spacing / 2^(dimension + 1)
    time_step = min(image.GetSpacing()) / 2 ** (image.GetDimension() + 1)
    result = run(image, time_step, step.conductance, 1, step.iterations)
    return volume.with_array(sitk.GetArrayFromImage(result).reshape(volume.array.shape))


def non_local_means(step: NonLocalMeans, volume: Volume, context: Context) -> Volume:
    """Non-local means in the slice: Buades, Coll and Morel, CVPR 2005, computed as Darbon et al., ISBI 2008.

    The weight of a pixel is exp(-max(d - 2 noise^2, 0) / h^2), d the mean squared difference of the surroundings and
    h = strength * noise; edges are mirrored.
    """
    noise = step.noise if step.noise is not None else noise_of(volume.array)
    if noise == 0:
        return volume.with_array(as_float(volume))
    context.note("non-local-means", noise=noise)
    result = np.empty(volume.array.shape, np.float32)
    for z, plane in enumerate(volume.array):
        result[z] = _means(plane.astype(np.float64), noise, step)
    return volume.with_array(result)


def _means(plane: np.ndarray, noise: float, step: NonLocalMeans) -> np.ndarray:
    """The means of one slice. Two pixels weigh the same for each other: half of the offsets give all weights."""
    reach, half = step.search, step.patch
    rows, columns = plane.shape
    pad = reach + half
    wide = np.pad(plane, pad, mode="reflect" if min(plane.shape) > pad else "symmetric")

    def part(top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return wide[pad + top : pad + bottom, pad + left : pad + right]

    total, weights = plane.copy(), np.ones_like(plane)
    for dy in range(reach + 1):
        for dx in range(-reach if dy else 1, reach + 1):
            # of every pixel q of the slice, or of the slice moved back by the offset: how it resembles q + offset
            top, left, right = -dy, min(0, -dx), columns + max(0, -dx)
            here = part(top - half, rows + half, left - half, right + half)
            there = part(top - half + dy, rows + half + dy, left - half + dx, right + half + dx)
            distance = ndimage.uniform_filter((here - there) ** 2, 2 * half + 1)[half:-half, half:-half]
            weight = np.exp(np.minimum(2 * noise**2 - distance, 0) / (step.strength * noise) ** 2)
            forth = weight[dy:, -left : -left + columns]
            back = weight[:rows, -left - dx : -left - dx + columns]
            total += forth * part(dy, rows + dy, dx, columns + dx)
            total += back * part(-dy, rows - dy, -dx, columns - dx)
            weights += forth
            weights += back
    return total / weights


def noise_of(array: np.ndarray) -> float:
    """Standard deviation of white noise in the slices: Immerkaer, CVIU 64 (1996) 300-302, with a median.

    The operator annihilates constants, ramps and curvature; the median of its absolute values over all slices is
    hardly moved by edges. Padding where the operator gives exactly 0 does not count.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=float)
    step = max(1, len(array) // 16)
    found = [np.abs(ndimage.convolve(p.astype(float), kernel)[1:-1, 1:-1]).ravel() for p in array[::step]]
    values = np.concatenate(found)
    values = values[values > 0]
    return float(np.median(values) / 0.6744897501960817 / 6) if values.size else 0.0


def frequency(step: Frequency, volume: Volume, context: Context) -> Volume:
    """I' = L_n + sum_i f_i (L_(i-1) - L_i), with factors f_i that bring the SD of every band of I' to the reference.

    L_i is the image smoothed by sigma_i, L_0 the image. Philipsen et al., IEEE TMI 34 (2015) 1965-1975 (localised
    energy-based normalisation); for CT kernels Gallardo-Estrella et al., Eur Radiol 26 (2016) 478-486, who apply the
    ratios of the SDs again and again, since bands overlap; here the factors of a single application are found so. The
    patent of study 6 (claim 9) asks for "normalizing each image frequency relative to the frequency range" and gives
    no method.
    """
    wanted = np.array(context.parameters("frequency")["bands"] if step.reference == "training" else step.reference)
    chosen = _chosen(step, volume, context)
    parts = list(_parts(step, volume, SLICES))
    sample = Volume(np.concatenate([volume.array[part] for part in parts]), volume.geometry)
    inside = None if chosen is None else np.concatenate([chosen[part] for part in parts])
    covariances = _covariances(step, sample, inside)
    factors = np.ones(len(wanted))
    for _ in range(step.iterations):
        whole = np.append(factors, 1.0)
        energy = np.sqrt(np.maximum(np.einsum("i,kij,j->k", whole, covariances, whole), 0))
        if energy.min() <= 0:
            raise flat("frequency")
        ratio = wanted / energy
        if np.abs(ratio - 1).max() <= CLOSE:
            break
        factors *= ratio
    context.note("frequency", factors=[float(f) for f in factors])
    return _weighted(step, volume, factors)


def frequency_of(step: Frequency, volume: Volume, context: Context) -> dict[str, Any]:
    chosen = _chosen(step, volume, context)
    parts = list(_parts(step, volume, SLICES))
    sample = Volume(np.concatenate([volume.array[part] for part in parts]), volume.geometry)
    inside = None if chosen is None else np.concatenate([chosen[part] for part in parts])
    return {"bands": _energies(step, sample, inside)}


def frequency_fit(step: Frequency, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of the scans' energies, band by band."""
    bands = [math.fsum(p["bands"][i] for p in parts) / len(parts) for i in range(len(step.sigmas_mm))]
    return {"bands": bands, "scans": len(parts)}


def _chosen(step: Frequency, volume: Volume, context: Context) -> np.ndarray | None:
    chosen = None if step.inside is None else context.region(step.inside, volume.geometry)
    if step.above is not None:
        chosen = (volume.array > step.above) & (True if chosen is None else chosen)
        if not chosen.any():
            raise ScanError("VIEW_NOTHING_COUNTS", f"{step.kind}: no voxel lies above {step.above:g}")
    return chosen


def _parts(step: Frequency, volume: Volume, most: int | None = None) -> Iterator[slice]:
    """Slabs that can be filtered by themselves: slices where bands lie within them; `most` evenly spaced ones."""
    n = len(volume.array)
    every = 1 if most is None else max(1, math.ceil(n / most))
    yield from (slice(z, z + 1) for z in range(every // 2, n, every)) if step.in_plane else [slice(0, n)]


def _smoothed(step: Frequency, slab: np.ndarray, spacing: tuple[float, float, float]) -> Iterator[np.ndarray]:
    """A slab (z, y, x; float32) and its smoothed versions, one after the other."""
    yield slab
    before = 0.0
    for sigma in step.sigmas_mm:
        # a Gaussian after a Gaussian: variances add
        more = math.sqrt(sigma**2 - before**2)
        along_z, along_y, along_x = (_operator(n, more / s) for n, s in zip(slab.shape, spacing[::-1], strict=True))
        slab = np.matmul(along_y, np.matmul(slab, along_x.T))
        if not step.in_plane:
            slab = np.tensordot(along_z, slab, 1)
        before = sigma
        yield slab


@lru_cache(maxsize=32)
def _operator(n: int, sigma: float) -> np.ndarray:
    """SciPy's Gaussian filter of n values, edges repeated, as a matrix: for wide ones products are faster."""
    matrix = ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="nearest", truncate=TRUNCATE)
    return matrix.astype(np.float32)


def _bands(step: Frequency, slab: np.ndarray, spacing: tuple[float, float, float]) -> Iterator[np.ndarray]:
    """What each smoothing takes away, finest first."""
    return (fine - coarse for fine, coarse in itertools.pairwise(_smoothed(step, slab, spacing)))


def _energies(step: Frequency, volume: Volume, chosen: np.ndarray | None) -> list[float]:
    """SD of every band over the voxels that count."""
    found: list[list[tuple[int, float, float]]] = [[] for _ in step.sigmas_mm]
    for part in _parts(step, volume):
        inside = None if chosen is None else chosen[part]
        if inside is not None and not inside.any():
            continue
        slab = volume.array[part].astype(np.float32)
        for number, band in enumerate(_bands(step, slab, volume.geometry.spacing)):
            found[number].append(moments(band if inside is None else band[inside]))
    if not found[0]:
        raise _nothing(step)
    energies = [pooled(own)[2] for own in found]
    if min(energies) <= 0:
        raise flat("frequency")
    return energies


def _covariances(step: Frequency, volume: Volume, chosen: np.ndarray | None) -> np.ndarray:
    """Covariances (band, part, part) of each band of the image's parts: its bands and, last, what is left of it.

    Bands overlap: band k of the image with its bands weighted by f has the variance f' C_k f.
    """
    parts = len(step.sigmas_mm) + 1
    n, sums, squares = 0, np.zeros((parts - 1, parts)), np.zeros((parts - 1, parts, parts))
    for part in _parts(step, volume):
        inside = None if chosen is None else chosen[part]
        if inside is not None and not inside.any():
            continue
        slabs = list(_smoothed(step, volume.array[part].astype(np.float32), volume.geometry.spacing))
        own = [fine - coarse for fine, coarse in itertools.pairwise(slabs)] + slabs[-1:]
        split = [list(_bands(step, one, volume.geometry.spacing)) for one in own]
        for k in range(parts - 1):
            values = np.stack([(one[k] if inside is None else one[k][inside]).ravel() for one in split]).astype(float)
            sums[k] += values.sum(axis=1)
            squares[k] += values @ values.T
        n += values.shape[1]
    if n == 0:
        raise _nothing(step)
    means = sums / n
    return squares / n - means[:, :, None] * means[:, None, :]


def _nothing(step: Frequency) -> ScanError:
    return ScanError("VIEW_NOTHING_COUNTS", f"{step.kind}: no voxel counts in the slices that are measured")


def _weighted(step: Frequency, volume: Volume, factors: np.ndarray) -> Volume:
    result = np.empty(volume.array.shape, np.float32)
    for part in _parts(step, volume):
        slabs = list(_smoothed(step, volume.array[part].astype(np.float32), volume.geometry.spacing))
        total = slabs[-1].copy()
        for factor, (fine, coarse) in zip(factors, itertools.pairwise(slabs), strict=True):
            total += np.float32(factor) * (fine - coarse)
        result[part] = total
    return volume.with_array(result)
