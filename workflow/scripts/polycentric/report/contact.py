"""Contact sheets: a middle axial and coronal slice of many scans of a centre at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .. import pictures, tables
from ..jobs import SILENT, Log
from ..tables import schemas
from .gallery import Picture
from .writing import plural

CELL, GAP, LABEL, COLUMNS = 96, 4, 13, 10
MOST = 240  # of all centres together: some 1.5 MB of the report, 3 MB if they were all noise
PAPER, INK = (17, 17, 17), (190, 190, 190)


def sheets(
    manifests: Sequence[Path], root: Path, folder: Path, *, number: int, window: tuple[int, int], log: Log = SILENT
) -> list[Picture]:
    """One JPEG per centre with up to `number` scans (fewer where all centres would pass `MOST`).

    Scans come in the order of their pseudonyms, which nobody chose; the caption says how many are left out. A scan
    that cannot be read leaves an empty cell: the sheet must not fail for it.
    """
    rows = tables.read_all(list(manifests), schemas.VOLUMES)
    rows = rows[rows["status"] == "ok"]
    centres = sorted(rows["centre"].unique())
    number = min(number, MOST // max(len(centres), 1))
    result = []
    for count, centre in enumerate(centres, start=1):
        own = rows[rows["centre"] == centre].sort_values("scan")
        if number == 0:
            continue
        shown = own.head(number)
        path = folder / f"contact-{count}.jpg"
        pictures.save(_sheet(shown, root, window), path)
        rest = "" if len(shown) == len(own) else f", the first by pseudonym of {len(own)}"
        caption = (
            f"Middle axial (above) and coronal slice of {plural(len(shown), 'scan')} of {centre}{rest}. CT is shown "
            f"from {window[0]} to {window[1]} HU, other images in windows of their own."
        )
        result.append(Picture(path, f"Contact sheet of {centre}", caption))
        log.progress("contact sheets", count, len(centres))
    return result


def _sheet(rows: pd.DataFrame, root: Path, window: tuple[int, int]) -> Image.Image:
    columns = min(COLUMNS, len(rows))
    cells = [_cell(root, row, window) for row in rows.to_dict("records")]
    width, height = CELL + GAP, max(c.height for c in cells) + GAP
    lines = -(-len(cells) // columns)
    canvas = Image.new("RGB", (columns * width + GAP, lines * height + GAP), PAPER)
    for number, cell in enumerate(cells):
        canvas.paste(cell, (GAP + number % columns * width, GAP + number // columns * height))
    return canvas


def _cell(root: Path, row: dict, window: tuple[int, int]) -> Image.Image:
    """The slices of one scan at one scale, with its pseudonym."""
    parts = _slices(root, row, window)
    cell = Image.new("RGB", (CELL, LABEL + sum(p.shape[0] + 2 for p in parts)), PAPER)
    pictures.write_text(cell, (1, 0), pictures.plain(str(row["scan"]), 14), 9, INK)
    y = LABEL
    for part in parts:
        cell.paste(Image.fromarray(part), ((CELL - part.shape[1]) // 2, y))
        y += part.shape[0] + 2
    return cell


def _slices(root: Path, row: dict, window: tuple[int, int]) -> list[np.ndarray]:
    try:
        volume = pictures.open_volume(root / row["path"], row)
        array, spacing = pictures.upright(volume)
    except (OSError, ValueError, RuntimeError):
        return []
    planes: tuple[pictures.Plane, ...] = ("axial", "coronal") if volume.geometry.size[2] > 3 else ("axial",)
    low, high, _ = pictures.window(row["modality"], str(row["unit"]), array, window)
    cuts = []
    for plane in planes:
        index = array.shape[pictures.AXES[plane]] // 2
        values, mm_x, mm_y = pictures.cut(array, spacing, plane, index)
        cuts.append((values, values.shape[1] * mm_x, values.shape[0] * mm_y))
    mm = max(max(width, height) for _, width, height in cuts) / CELL
    return [
        pictures.scaled(pictures.grey(values, low, high), pictures.pixels_of(width, height, mm))
        for values, width, height in cuts
    ]
