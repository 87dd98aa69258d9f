"""Whether decoded values can be what the headers say: Hounsfield units, and the sign of the stored words."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label

AIR_HU = -1000.0
LUNG_HU = (-960.0, -600.0)
BODY_MM = 250.0
MIXED_HU = 250.0  # standard deviation in a block that lies across an edge
PLANES = 8  # that are looked at: air is in all of them or in too few
SIGN_PAIRS = 200
LIMITS_12_BIT = (4095, 2047)


def _some(array: np.ndarray, count: int) -> np.ndarray:
    """At most `count` planes, evenly over the volume."""
    return array[np.unique(np.linspace(0, len(array) - 1, min(count, len(array))).round().astype(int))]


def air_peak(array: np.ndarray) -> float | None:
    """Most frequent value of the air around the body, in the units of `array`; None if too little air is there.

    Air is what is dark and even and takes most of the border of the image, about 1000 units below a brighter material
    of at least the same noise. Blocks of one value, or of far lower ones, are padding: a scan that is cut to the body,
    or whose surroundings were erased, is not judged.

    Parameters
    ----------
    array
        volume (z, y, x).
    """
    size = 8 if min(array.shape[1:]) >= 128 else 4
    planes = _some(array, PLANES)
    count, rows, columns = planes.shape[0], planes.shape[1] // size, planes.shape[2] // size
    if rows < 4 or columns < 4:
        return None
    # of large blocks every second pixel of every second row: enough for a mean, and four times as fast
    every, side = size // 4, 4
    values = planes[:, : rows * size : every, : columns * size : every].astype(np.float32)
    # (plane, block row, block column, pixels of the block)
    blocks = values.reshape(count, rows, side, columns, side).transpose(0, 1, 3, 2, 4).reshape(count, rows, columns, -1)
    means, noise = blocks.mean(axis=-1), blocks.std(axis=-1)
    constant, mixed = noise == 0, noise > MIXED_HU
    # padding, also where its edge runs through a block; the way to the border leads through it
    padding = constant | (mixed & constant.any() & (blocks.min(axis=-1) == means[constant].min(initial=np.inf)))
    empty = constant | mixed
    for _ in range(2):  # a second time where padding is no single value: it was compressed with loss
        if (~empty).sum() < 50:
            return None
        low, high = np.percentile(means[~empty], [2, 95])
        if high - low < 500:
            return None
        dark = ~empty & (means < (low + high) / 2)
        tissue = ~empty & ~dark
        outside = _outside(dark, padding)
        if outside.sum() < max(50, 0.02 * outside.size) or not tissue.any():
            return None
        # the even half: the other half may hold the table, clothes and the body's edge
        even = outside & (noise <= np.median(noise[outside]))
        quiet = np.percentile(noise[tissue], 50)
        if np.median(noise[even]) > 1.5 * quiet:
            return None
        peak = _peak(blocks[even])
        contrast = float(np.median(means[tissue & (noise <= quiet)])) - peak
        if contrast < 1500:
            # where values are cut off at that of air, most air is one value, and what is left is cloth or foam
            erased = constant & (np.abs(means - peak) < 500)
            return peak if contrast > 500 and erased.sum() < outside.sum() else None
        empty |= means < peak + 500
        padding |= means < peak + 500
    return None


def _outside(dark: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Dark blocks that hang together with the border, in planes most of whose border is dark or padding.

    In a cut-out of the chest lung reaches the border too, but hardly along most of it.
    """
    outside = np.zeros_like(dark)
    for number in range(len(dark)):
        pieces, found = label(dark[number] | padding[number])
        border = np.concatenate([pieces[0], pieces[-1], pieces[1:-1, 0], pieces[1:-1, -1]])
        if found and np.mean(border > 0) > 0.6:
            outside[number] = np.isin(pieces, np.setdiff1d(border, 0)) & dark[number]
    return outside


def _peak(values: np.ndarray) -> float:
    """Mode of values, from a histogram of bins of one, smoothed over eleven."""
    low, high = np.floor(np.percentile(values, [0.5, 99.5]))
    counts, edges = np.histogram(values, bins=np.arange(low - 6, high + 7) - 0.5)
    smooth = np.convolve(counts, np.ones(11), mode="same")
    top = np.flatnonzero(smooth >= 0.98 * smooth.max())
    return float((edges[top[0]] + edges[top[-1]] + 1) / 2)


def air_is_off(array: np.ndarray, field_mm: float, tolerance_hu: float) -> float | None:
    """Where the air lies if that is not where it should be.

    Parameters
    ----------
    field_mm
        width of the image; what lies in lung's range in a narrow one may be lung.
    """
    peak = air_peak(array)
    if peak is None or abs(peak - AIR_HU) <= tolerance_hu:
        return None
    return None if field_mm < BODY_MM and LUNG_HU[0] < peak < LUNG_HU[1] else peak


def proves_hounsfield(array: np.ndarray, tolerance_hu: float = 50.0) -> bool:
    """Whether values without rescaling are Hounsfield units already: the dark peak is air, and there is bone.

    Stored values without a rescaling have air at 0 or 24; nothing but Hounsfield units has it at -1000.
    """
    values = _some(array, 4 * PLANES)
    dark = values[values < -500]
    if array.max() <= 500 or dark.size < 0.01 * values.size:
        return False
    counts, edges = np.histogram(dark, bins=np.arange(-4000, -489, 10))
    return bool(counts.any()) and abs(float(edges[np.argmax(counts)]) + 5 - AIR_HU) <= tolerance_hu


def not_hounsfield(array: np.ndarray, low: float, high: float) -> str:
    """Why the values of a CT, from `low` to `high`, cannot be Hounsfield units, or nothing."""
    if high - low < 100:
        return f"all values lie between {low:g} and {high:g}"
    if low >= 0 and high <= 255:
        return f"values from {low:g} to {high:g} are those of a picture of 8 bits"
    middle = np.median(_some(array, PLANES)[:, ::4, ::4])
    if abs(middle) > 10000:
        return f"the median value is {middle:g}"
    return ""


def clipped(array: np.ndarray, top: float, stored_high: float) -> int:
    """Voxels at the highest value `top`, if that is a limit of 12 bits and more of them than values just below tell."""
    if stored_high not in LIMITS_12_BIT and top != 3071:
        return 0
    at = below = 0
    for plane in array:  # which the processor's cache holds
        at += int(np.count_nonzero(plane == top))
        below += int(np.count_nonzero(plane >= top - 20))
    below -= at
    return at if at >= 10 and at > below / 4 else 0


def sign_is_wrong(array: np.ndarray, bits: int, signed: bool, padding: list[int]) -> bool:
    """Whether stored words make a smoother image with the other sign than with the declared one.

    Only neighbours whose highest bit differs can tell: read with the right sign they are near each other (at zero, or
    at half the range), with the wrong one they are a whole range apart. Values that mean padding, and the ends of the
    range, which are used for it, do not count.

    Parameters
    ----------
    array
        stored values (z, y, x), whole numbers.
    bits
        bits stored.
    """
    if array.dtype.kind not in "iu" or bits < 2 or bits > 32:
        return False
    planes = _some(array, PLANES)
    top = 1 << (bits - 1)
    low, high = (-top, top - 1) if signed else (0, 2 * top - 1)
    if not ((planes.min() < 0 <= planes.max()) if signed else (planes.min() < top <= planes.max())):
        return False
    left, right = planes[:, :, :-1], planes[:, :, 1:]
    differ = (left < 0) != (right < 0) if signed else (left < top) != (right < top)
    left, right = left[differ].astype(np.int64), right[differ].astype(np.int64)
    void = np.array(sorted({low, high, *padding, *(p - 2 * top for p in padding), *(p + 2 * top for p in padding)}))
    counts = ~(np.isin(left, void) | np.isin(right, void))
    apart = np.abs(left[counts] - right[counts])
    return len(apart) >= SIGN_PAIRS and float(np.mean(apart > top)) > 0.9


def with_other_sign(array: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """The same words read with the other sign, of the same size if that holds them."""
    words = array.astype(np.int64)
    words = words & ((1 << bits) - 1) if signed else words - ((words >> (bits - 1)) << bits)
    size = array.dtype.itemsize
    return words.astype(f"{'u' if signed else 'i'}{size}")
