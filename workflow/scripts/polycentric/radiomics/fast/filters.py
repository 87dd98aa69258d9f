"""Filtered images over the box of the ROIs, with PyRadiomics' names and values.

A filter sees the whole domain (an array with its spacing) but computes only what the box needs. LoG and wavelet are our
own; other image types come from PyRadiomics' own functions on the whole domain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pywt
import SimpleITK as sitk
from radiomics import imageoperations

from ...volumes import Volume
from . import kernels

Box = tuple[slice, slice, slice]  # z, y, x
LOG_REACH = 20  # standard deviations; from there on not a bit of a float32 value changes


def images(
    domain: Volume, box: Box, settings: dict[str, Any], kinds: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Name, array over `box` and settings of every image, in PyRadiomics' order."""
    for kind, custom in kinds.items():
        own = settings | custom
        if kind == "Original":
            yield "original", domain.array[box], own
        elif kind == "LoG":
            for sigma in own.get("sigma", []):
                if fits(domain, sigma):
                    yield f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D", laplacian(domain, box, sigma), own
        elif kind == "Wavelet" and own.get("level", 1) == 1 and own.get("start_level", 0) == 0:
            flat = own.get("force2Ddimension", 0) if own.get("force2D", False) else None
            for name, array in wavelets(domain.array, box, own.get("wavelet", "coif1"), flat):
                yield f"wavelet-{name}", array, own
        else:
            made = getattr(imageoperations, f"get{kind}Image")(domain.to_sitk(), None, **own)
            for image, name, _ in made:
                yield name, sitk.GetArrayFromImage(image)[box], own


def fits(domain: Volume, sigma: float) -> bool:
    """Whether PyRadiomics applies a LoG of this width: at least 4 voxels, and more than one width, along every axis."""
    size, spacing = np.array(domain.geometry.size), np.array(domain.geometry.spacing)
    return sigma > 0 and min(size) >= 4 and bool((size >= np.ceil(sigma / spacing) + 1).all())


def laplacian(domain: Volume, box: Box, sigma: float) -> np.ndarray:
    """Laplacian of Gaussian over `box`, float32, normalised across scales, as ITK's recursive filter gives it.

    Along each axis in turn the second derivative, then smoothing along the other two; each pass on no more lines than
    the next one needs.
    """
    spacing = domain.geometry.spacing[::-1]
    low, high = [], []
    for cut, n, step in zip(box, domain.array.shape, spacing, strict=True):
        reach = max(4, math.ceil(LOG_REACH * sigma / step))
        low.append(max(0, cut.start - reach))
        high.append(min(n, cut.stop + reach))
        if high[-1] - low[-1] < 4:
            low[-1], high[-1] = 0, n
    near = domain.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    inner = [slice(cut.start - a, cut.stop - a) for cut, a in zip(box, low, strict=True)]
    total = np.zeros([s.stop - s.start for s in inner], np.float32)
    for axis in (2, 1, 0):
        part = near
        for other in (axis, *(a for a in (2, 1, 0) if a != axis)):
            part = _recursive(part, other, inner[other], deriche(sigma, spacing[other], 2 if other == axis else 0))
        total = (total + part * np.float64(1.0 / spacing[axis] ** 2)).astype(np.float32)
    return total


def _recursive(array: np.ndarray, axis: int, keep: slice, weights: np.ndarray) -> np.ndarray:
    """Filter along an axis, keep a part of it; float32 as in ITK between its passes."""
    shape = list(array.shape)
    shape[axis] = keep.stop - keep.start
    result = np.empty(shape, np.float32)
    n = array.shape[axis]
    if axis == 2:  # lines side by side, so that the loop over them runs in the processor's wide registers
        rows, block = array.reshape(-1, n), 64
        flat = result.reshape(-1, shape[2])
        for start in range(0, len(rows), block):
            part = np.ascontiguousarray(rows[start : start + block].T, dtype=np.float64)
            flat[start : start + block] = _filtered(part, weights)[keep].T
    elif axis == 1:
        for z in range(len(array)):
            result[z] = _filtered(array[z].astype(np.float64), weights)[keep]
    else:
        for y in range(array.shape[1]):
            result[:, y] = _filtered(array[:, y].astype(np.float64), weights)[keep]
    return result


def _filtered(lines: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.empty_like(lines)
    kernels.recursive(lines, weights, out, np.empty_like(lines))
    return out


def deriche(sigma: float, spacing: float, order: int) -> np.ndarray:
    """Weights of the recursive Gaussian (order 0) or its second derivative times sigma squared (order 2), for
    `kernels.recursive`.

    The Gaussian and its derivatives are sums of two damped cosines, exp(l x) (a cos(w x) + b sin(w x)), with the
    constants that ITK uses. Source: Farneback and Westin 2006, section 4; order of operations as in ITK.
    """
    scale = sigma / spacing
    w1, l1, w2, l2 = 0.6681, -1.3932, 2.0787, -1.3732
    sin1, sin2, cos1, cos2 = (f(w / scale) for f in (math.sin, math.cos) for w in (w1, w2))
    exp1, exp2 = math.exp(l1 / scale), math.exp(l2 / scale)

    d4 = exp1 * exp1 * exp2 * exp2
    d3 = -2 * cos1 * exp1 * exp2 * exp2
    d3 += -2 * cos2 * exp2 * exp1 * exp1
    d2 = 4 * cos2 * cos1 * exp1 * exp2
    d2 += exp1 * exp1 + exp2 * exp2
    d1 = -2 * (exp2 * cos2 + exp1 * cos1)
    sd = 1.0 + d1 + d2 + d3 + d4
    dd = d1 + 2 * d2 + 3 * d3 + 4 * d4
    ed = d1 + 4 * d2 + 9 * d3 + 16 * d4

    def numerator(a1: float, b1: float, a2: float, b2: float) -> list[float]:
        n0 = a1 + a2
        n1 = exp2 * (b2 * sin2 - (a2 + 2 * a1) * cos2)
        n1 += exp1 * (b1 * sin1 - (a1 + 2 * a2) * cos1)
        n2 = (a1 + a2) * cos2 * cos1
        n2 -= b1 * cos2 * sin1 + b2 * cos1 * sin2
        n2 *= 2 * exp1 * exp2
        n2 += a2 * exp1 * exp1 + a1 * exp2 * exp2
        n3 = exp2 * exp1 * exp1 * (b2 * sin2 - a2 * cos2)
        n3 += exp1 * exp2 * exp2 * (b1 * sin1 - a1 * cos1)
        return [n0, n1, n2, n3]

    n = numerator(1.3530, 1.8151, -0.3531, 0.0902)
    if order == 0:
        factor = 1.0 / (2 * (n[0] + n[1] + n[2] + n[3]) / sd - n[0])
    else:
        second = numerator(-1.3563, 5.2318, 0.3446, -2.2355)
        sn0, sn2 = (v[0] + v[1] + v[2] + v[3] for v in (n, second))
        dn0, dn2 = (v[1] + 2 * v[2] + 3 * v[3] for v in (n, second))
        en0, en2 = (v[1] + 4 * v[2] + 9 * v[3] for v in (n, second))
        beta = -(2 * sn2 - sd * second[0]) / (2 * sn0 - sd * n[0])
        n = [b + beta * a for a, b in zip(n, second, strict=True)]
        sn, dn, en = sn2 + beta * sn0, dn2 + beta * dn0, en2 + beta * en0
        alpha = en * sd * sd - ed * sn * sd - 2 * dn * dd * sd + 2 * dd * dd * sn
        alpha /= sd * sd * sd
        factor = sigma * sigma / alpha
    n0, n1, n2, n3 = (v * factor for v in n)
    m = [n1 - d1 * n0, n2 - d2 * n0, n3 - d3 * n0, -d4 * n0]
    sn, sm = n0 + n1 + n2 + n3, m[0] + m[1] + m[2] + m[3]
    d = [d1, d2, d3, d4]
    return np.array([n0, n1, n2, n3, *m, *d, *(v * sn / sd for v in d), *(v * sm / sd for v in d)])


def wavelets(array: np.ndarray, box: Box, name: str, flat: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Sub-bands of the undecimated wavelet transform of one level over `box`, in PyRadiomics' order.

    An axis of odd length repeats its first voxel at the end, then every axis is periodic, as PyRadiomics has it.
    `flat` is an axis that is not transformed. Letters of a name are the axes from last to first.
    """
    reach = pywt.Wavelet(name).dec_len
    axes = [axis for axis in (2, 1, 0) if axis != flat]
    index = []
    for axis, (cut, n) in enumerate(zip(box, array.shape, strict=True)):
        around = reach if axis in axes else 0
        positions = np.arange(cut.start - around, cut.stop + around) % (n + n % 2)
        positions[positions == n] = 0
        index.append(positions)
    near = array[np.ix_(*index)]
    near = near if near.dtype == np.float32 else near.astype(np.float64)
    taps = dict(zip("LH", _taps(name, near.dtype.name), strict=True))

    def split(part: np.ndarray, letters: str) -> Iterator[tuple[str, np.ndarray]]:
        if len(letters) == len(axes):
            yield letters, part
            return
        for letter in "LH":
            axis = axes[len(letters)]
            wrapped = box[axis].start - array.shape[axis] - array.shape[axis] % 2
            yield from split(_convolve(part, axis, taps[letter], reach, wrapped), letters + letter)

    lowest = None
    for letters, part in split(near, ""):
        if lowest is None:
            lowest = letters, part
        else:
            yield letters, part
    assert lowest is not None
    yield lowest


@lru_cache(maxsize=16)
def _taps(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Low-pass and high-pass taps in PyWavelets' own rounding: for float32 it keeps a table that is not the float64
    one rounded. They are read off the answer to an impulse.
    """
    length = pywt.Wavelet(name).dec_len
    impulse = np.zeros(4 * length, dtype)
    impulse[2 * length] = 1
    first = 2 * length - length // 2
    low, high = pywt.swt(impulse, name, 1)[0]
    return low[first : first + length].copy(), high[first : first + length].copy()


def _convolve(array: np.ndarray, axis: int, taps: np.ndarray, margin: int, wrapped: int) -> np.ndarray:
    """Convolve along an axis whose margin of voxels on either side falls away; sums in the order of PyWavelets.

    `wrapped` is the first output's position minus the period: from -taps/2 on PyWavelets adds what it takes from
    beyond the end first, and backwards.
    """
    length, half = array.shape[axis] - 2 * margin, len(taps) // 2

    def total(first: int, stop: int, order: Iterable[int]) -> np.ndarray:
        result: np.ndarray | None = None
        for n in order:
            cut = [slice(None)] * 3
            cut[axis] = slice(margin + half - n + first, margin + half - n + stop)
            term = array[tuple(cut)] * taps[n]
            if result is None:
                result = term
            else:
                result += term
        assert result is not None
        return result

    regular = min(length, max(0, -half - wrapped))
    parts = [total(0, regular, range(len(taps)))] if regular else []
    for position in range(regular, length):
        beyond = position + wrapped + half
        parts.append(total(position, position + 1, [*range(beyond, -1, -1), *range(beyond + 1, len(taps))]))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
