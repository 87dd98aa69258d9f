"""Sheets of sample pictures while a model trains: the same places of the same scans, in the same grey windows.

Pictures are written here, without the libraries that draw the figures: training needs numpy and torch alone.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import atomic

COLUMNS = ("source", "synthetic", "synthetic - source", "there and back")
Window = tuple[float, float]
TILE = 128  # least pixels along the longer side of a picture
GAP = 3


@dataclass(frozen=True)
class Line:
    """One scan: `pictures` are source, synthetic and back again, each (y, x) in [-1, 1].

    `own` is drawn from black to white in the scan and what came back, `other` in the synthetic one. `comparable` says
    whether both have one unit, so that a difference means something.
    """

    pictures: Sequence[np.ndarray]
    own: Window = (-1.0, 1.0)
    other: Window = (-1.0, 1.0)
    comparable: bool = True


def middle(shape: Sequence[int], size: Sequence[int], factor: int, grow: int = 2) -> tuple[slice, ...]:
    """The region in the middle of a volume (z, y, x): `size` along z, up to `grow` times that along y and x.

    Voxels along each axis are a multiple of `factor` where `size` is.
    """
    parts = []
    for axis, (n, s) in enumerate(zip(shape, size, strict=True)):
        length = s if axis == 0 else max(s, min(grow * s, n) // factor * factor)
        start = (n - length) // 2
        parts.append(slice(start, start + length))
    return tuple(parts)


def sheet(rows: Sequence[Line]) -> np.ndarray:
    """Pictures as one, RGB (y, x, 3): a row for each scan, its columns as `COLUMNS`.

    The difference is red above and blue below zero, a quarter of the synthetic image's window at full colour; it is
    left white where the two have no common unit.
    """
    lines = []
    for row in rows:
        source, synthetic, back = row.pictures
        change = synthetic - source if row.comparable else np.zeros_like(source)
        difference = colours(change / (0.25 * (row.other[1] - row.other[0])))
        tiles = [grey(source, row.own), grey(synthetic, row.other), difference, grey(back, row.own)]
        zoom = max(1, -(-TILE // max(source.shape)))
        lines.append([np.repeat(np.repeat(tile, zoom, 0), zoom, 1) for tile in tiles])
    height = [max(tile.shape[0] for tile in line) for line in lines]
    width = [max(line[k].shape[1] for line in lines) for k in range(len(COLUMNS))]
    result = np.full((sum(height) + GAP * (len(height) - 1), sum(width) + GAP * (len(width) - 1), 3), 255, np.uint8)
    y = 0
    for line, h in zip(lines, height, strict=True):
        x = 0
        for tile, w in zip(line, width, strict=True):
            result[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
            x += w + GAP
        y += h + GAP
    return result


def grey(values: np.ndarray, window: Window) -> np.ndarray:
    """Values (y, x) as grey RGB."""
    share = (values.astype(np.float32) - window[0]) / (window[1] - window[0])
    return np.repeat((np.clip(np.nan_to_num(share), 0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def colours(values: np.ndarray) -> np.ndarray:
    """Values (y, x) from -1 (blue) by 0 (white) to 1 (red) as RGB."""
    v = np.clip(np.nan_to_num(values.astype(np.float32)), -1, 1)[..., None]
    red, blue = np.array([178, 24, 43], np.float32), np.array([33, 102, 172], np.float32)
    white = np.float32(255)
    return (white + np.abs(v) * (np.where(v > 0, red, blue) - white)).round().astype(np.uint8)


def write_png(picture: np.ndarray, path: str | Path) -> None:
    """Write RGB (y, x, 3), uint8, as PNG (RFC 2083), atomically."""
    height, width, _ = picture.shape
    raw = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1).tobytes()
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def name(iteration: int) -> str:
    """File of the sheet after an iteration."""
    return f"{iteration:09d}.png"


def hand_over(drawn: Path, archive: Path, last: int) -> None:
    """Put the sheets up to iteration `last` into a zip archive without times; an empty one where none was drawn."""
    with atomic(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for path in sorted(drawn.glob("*.png")) if drawn.is_dir() else ():
            if int(path.stem) <= last:
                target.writestr(zipfile.ZipInfo(path.name), path.read_bytes())
