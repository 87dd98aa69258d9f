"""Slices of volumes as small pictures: the body's own planes, true proportions, grey windows, outlines. No matplotlib.

Volumes are mapped into memory, so that a slice costs the reading of a slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import atomic
from .volumes import Geometry, Volume, read
from .volumes import upright as upright

Plane = Literal["axial", "coronal", "sagittal"]
AXES: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
# Okabe and Ito without black and blue, which vanish on grey; bright ones first
OUTLINES = ((230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0))
OUTLINE_NAMES = ("orange", "light blue", "pink", "green", "yellow", "red")
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_HEADER, _LITTLE = 352, b"\x5c\x01\x00\x00"


def open_volume(path: str | Path, row: Any) -> Volume:
    """A volume as conversion wrote it (uncompressed NIfTI-1), mapped read-only; `row`, its manifest row, has the grid.

    What was written otherwise is read as a whole.
    """
    geometry = Geometry.from_columns(row)
    with Path(path).open("rb") as stream:
        head = stream.read(_HEADER)
    kind = _DTYPES.get(int.from_bytes(head[70:72], "little"))
    size = tuple(int(v) for v in np.frombuffer(head[42:48], "<i2"))
    start = float(np.frombuffer(head[108:112], "<f4")[0]) if len(head) == _HEADER else 0.0
    slope, intercept = np.frombuffer(head[112:120], "<f4") if len(head) == _HEADER else (0.0, 0.0)
    plain = (
        head[:4] == _LITTLE and head[344:347] == b"n+1" and start == _HEADER and (slope, intercept) in ((0, 0), (1, 0))
    )
    if not plain or kind is None or size != geometry.size:
        return read(path, row)
    return Volume(np.memmap(path, f"<{kind}", "r", _HEADER, geometry.size[::-1]), geometry)


def cut(array: np.ndarray, spacing: Sequence[float], plane: Plane, index: int) -> tuple[np.ndarray, float, float]:
    """A slice of an upright array as it is looked at, and the mm of a pixel along x and y.

    Axial slices are seen from the feet (the patient's left is on the right), coronal ones from the front, sagittal
    ones from the patient's left with the front on the left; the head is up.
    """
    x, y, z = spacing
    if plane == "axial":
        return array[index], x, y
    if plane == "coronal":
        return array[::-1, index, :], x, z
    return array[::-1, :, index], y, z


def window(modality: str, unit: str, values: np.ndarray, window_hu: tuple[float, float]) -> tuple[float, float, str]:
    """Grey window by what the values are: from, to, and in words with the unit.

    CT in HU gets `window_hu`; PET in SUV 0 to 10; all else the 1st and 99.5th percentile of the values (of a sample of
    at most some hundred thousand), those at the minimum left out if they are many, since they are background.
    """
    if unit == "HU" or (not unit and modality == "CT"):
        return *window_hu, f"{window_hu[0]:g} to {window_hu[1]:g} HU"
    if unit.startswith("SUV"):
        return 0.0, 10.0, "SUV 0 to 10"
    step = max(1, round((values.size / 200_000) ** (1 / 3)))
    sample = np.asarray(values[tuple(slice(None, None, step if n > 16 else 1) for n in values.shape)], dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0, "no values"
    inside = sample[sample > sample.min()]
    low, high = np.percentile(inside if inside.size > 0.05 * sample.size else sample, [1, 99.5])
    if high <= low:
        low, high = float(sample.min()), float(max(sample.max(), sample.min() + 1))
    name = unit if unit and unit != "arbitrary" else "arbitrary units"
    return float(low), float(high), f"{low:.4g} to {high:.4g} {name}"


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """8-bit grey values of a window; what is not finite is black."""
    scaled = (np.asarray(values, dtype=np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255).astype(np.uint8)


def pixels_of(width_mm: float, height_mm: float, mm: float) -> tuple[int, int]:
    """Width and height in pixels of `mm` each."""
    return max(1, round(width_mm / mm)), max(1, round(height_mm / mm))


def scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A grey picture at another size (width, height): averaged when it shrinks, linear when it grows."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    shrinks = size[0] < image.width and size[1] < image.height
    return np.asarray(image.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR))


def scaled_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size (width, height): the value at the centre of each new pixel."""
    rows = ((np.arange(size[1]) + 0.5) * mask.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * mask.shape[1] / size[0]).astype(int)
    return np.asarray(mask[rows][:, columns]) > 0


def edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a neighbour (left, right, above, below) outside it; beyond the picture is outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def outlined(picture: np.ndarray, masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """A grey picture (y, x) as RGB with the edges of masks of its size; where edges meet they are dashed in turn."""
    result = np.repeat(picture[:, :, None], 3, axis=2)
    edges = [np.zeros(picture.shape, bool) if m is None else edge(m) for m in masks]
    if not edges:
        return result
    count = np.sum(edges, axis=0)
    turn = (np.add.outer(np.arange(picture.shape[0]), np.arange(picture.shape[1])) // 3) % np.maximum(count, 1)
    seen = np.zeros(picture.shape, int)
    for number, line in enumerate(edges):
        result[line & (seen == turn)] = OUTLINES[number % len(OUTLINES)]
        seen += line
    return result


def plain(text: str, length: int = 48) -> str:
    """Text for a picture: printable ASCII, at most `length` characters."""
    kept = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return kept if len(kept) <= length else kept[: length - 3] + "..."


def write_text(canvas: Image.Image, at: tuple[int, int], text: str, size: int, colour: Iterable[int]) -> int:
    """Write a line of text; return where it ends."""
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(canvas)
    draw.text(at, text, font=font, fill=tuple(colour))
    return at[0] + round(draw.textlength(text, font=font))


def save(canvas: Image.Image, path: Path) -> None:
    """Write PNG or JPEG atomically; equal pictures give equal bytes."""
    extra = {"quality": 80, "optimize": True} if path.suffix == ".jpg" else {"optimize": True}
    with atomic(path) as temporary:
        canvas.save(temporary, **extra)
