"""The picture of one scan: three planes, outlines, legend, caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import pictures
from ..config.quicklook import QuicklookSettings
from ..pictures import AXES, OUTLINES, Plane
from ..shards import Row
from ..volumes import Volume

GAP, LINE, TEXT = 6, 15, 12
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
MOST_PLANES = 4  # of a planar scan
PLANAR = ("NM", "CR", "DX", "MG", "RF", "XA", "US", "OP", "SM")  # modalities whose planes do not form a volume
LEFT_EDGE = {"axial": "R", "coronal": "R", "sagittal": "A"}  # what lies at the left edge of a plane
PAPER, INK, FAINT = (17, 17, 17), (235, 235, 235), (150, 150, 150)


@dataclass(frozen=True)
class Outlined:
    """A mask with its name for the legend and the number of its colour."""

    name: str
    colour: int
    path: Path


@dataclass(frozen=True)
class Panel:
    """A slice with the same cuts of the masks, the mm of a pixel along x and y, and what lies at its left edge."""

    title: str
    values: np.ndarray
    masks: tuple[np.ndarray | None, ...]
    mm_x: float
    mm_y: float
    left: str = ""

    @property
    def width_mm(self) -> float:
        return self.values.shape[1] * self.mm_x

    @property
    def height_mm(self) -> float:
        return self.values.shape[0] * self.mm_y


def draw(
    volume: Path, row: Row, outlines: Sequence[Outlined], settings: QuicklookSettings, codes: str, path: Path
) -> str:
    """Write the picture of a scan; return the window in words.

    Volumes are shown in axial, coronal and sagittal slices, all at one scale of mm per pixel; a scan of a single plane
    and planar scans show their planes, at most four. The caption has pseudonyms, grid, window and codes only.
    """
    image = pictures.open_volume(volume, row)
    # masks lie on the scan's own grid
    masks = [pictures.open_volume(o.path, row) for o in outlines]
    low, high, words = pictures.window(row["modality"], str(row["unit"]), image.array, settings.window_hu)
    panels = _panels(image, masks, settings, planar=row["modality"] in PLANAR)
    tallest, total = max(p.height_mm for p in panels), sum(p.width_mm for p in panels)
    # one scale for all; a long spine must not make the picture a thread, nor a wide detector a wall
    mm = max(tallest / settings.height, total / (4 * settings.height))
    drawn = [_panel(p, mm, low, high, [o.colour for o in outlines]) for p in panels]
    lines = _caption(row, image, words, codes)
    legend = list(dict.fromkeys((pictures.plain(o.name, 40), o.colour) for o in outlines))
    width = max(sum(d.shape[1] for d in drawn) + GAP * (len(drawn) + 1), 420)
    top = GAP + LINE
    height = top + max(d.shape[0] for d in drawn) + GAP + LINE * (len(lines) + _rows(legend, width)) + GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    x = GAP
    for panel, pixels in zip(panels, drawn, strict=True):
        pictures.write_text(canvas, (x, 3), panel.title, TEXT - 1, FAINT)
        canvas.paste(Image.fromarray(pixels), (x, top))
        pictures.write_text(canvas, (x + 3, top + pixels.shape[0] // 2 - TEXT // 2), panel.left, TEXT - 1, INK)
        x += pixels.shape[1] + GAP
    y = top + max(d.shape[0] for d in drawn) + GAP
    for number, line in enumerate(lines):
        pictures.write_text(canvas, (GAP, y), line, TEXT, INK if number == 0 else FAINT)
        y += LINE
    x = GAP
    for name, colour in legend:
        if x > GAP and x + _width(name) > width:
            x, y = GAP, y + LINE
        x = pictures.write_text(canvas, (x, y), name, TEXT, OUTLINES[colour % len(OUTLINES)]) + 3 * GAP
    pictures.save(canvas, path)
    return words


def _width(name: str) -> int:
    return 8 * len(name) + 3 * GAP


def _rows(legend: Sequence[tuple[str, int]], width: int) -> int:
    """Lines that the legend may take, at most."""
    return sum(_width(name) for name, _ in legend) // max(width - 2 * GAP, 1) + len(legend[:1]) if legend else 0


def _panels(image: Volume, masks: Sequence[Volume], settings: QuicklookSettings, *, planar: bool) -> list[Panel]:
    if planar or image.geometry.size[2] < 4:
        x, y, _ = image.geometry.spacing
        count = min(image.geometry.size[2], MOST_PLANES)
        return [
            Panel(f"plane {k + 1} of {image.geometry.size[2]}", image.array[k], tuple(m.array[k] for m in masks), x, y)
            for k in range(count)
        ]
    array, spacing = pictures.upright(image)
    regions = [pictures.upright(m)[0] for m in masks]
    centre = _centre(regions, array.shape) if settings.through == "masks" else tuple(n // 2 for n in array.shape)
    panels = []
    for plane in PLANES:
        index = centre[AXES[plane]]
        values, mm_x, mm_y = pictures.cut(array, spacing, plane, index)
        cuts = tuple(pictures.cut(r, spacing, plane, index)[0] for r in regions)
        title = f"{plane} {index + 1} of {array.shape[AXES[plane]]}"
        panels.append(Panel(title, values, cuts, mm_x, mm_y, LEFT_EDGE[plane]))
    return panels


def _centre(regions: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where the planes cut: through the largest region, each at the slice nearest to its centroid that it touches."""
    largest = max(regions, key=lambda r: int(np.count_nonzero(r)), default=None)
    if largest is None or not largest.any():
        return tuple(n // 2 for n in shape)
    result = []
    for axis in range(3):
        area = np.count_nonzero(largest, axis=tuple(a for a in range(3) if a != axis))
        touched = np.flatnonzero(area)
        mean = float((np.arange(len(area)) * area).sum() / area.sum())
        result.append(int(touched[np.abs(touched - mean).argmin()]))
    return tuple(result)


def _panel(panel: Panel, mm: float, low: float, high: float, colours: Sequence[int]) -> np.ndarray:
    size = pictures.pixels_of(panel.width_mm, panel.height_mm, mm)
    picture = pictures.scaled(pictures.grey(panel.values, low, high), size)
    masks: list[np.ndarray | None] = [None] * (max(colours, default=-1) + 1)
    for colour, mask in zip(colours, panel.masks, strict=True):
        masks[colour] = pictures.scaled_mask(mask, size) if mask is not None else None
    return pictures.outlined(picture, masks)


def _caption(row: Row, image: Volume, window: str, codes: str) -> list[str]:
    size, spacing = image.geometry.size, image.geometry.spacing
    grid = f"{size[0]} x {size[1]} x {size[2]} voxels of {spacing[0]:.3g} x {spacing[1]:.3g} x {spacing[2]:.3g} mm"
    lines = [f"{row['centre']}  {row['patient']}  {row['scan']}  {row['modality']}", f"{grid}, window {window}"]
    listed = codes.split(";") if codes else []
    shown = ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
    return [pictures.plain(line, 110) for line in (*lines, *([shown] if shown else []))]
