"""The one style of all figures and pictures: print size in mm, colour-blind-safe colours, the same bytes every time.

Figures are made without pyplot, so nothing is registered globally and no display is needed. Text in SVG is drawn as
paths: a figure looks the same in a browser, in a word processor and on a machine without the font.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .files import atomic

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito, Color Universal Design (2008), darkest contrasts first; yellow is left to fills
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
MM = 1 / 25.4
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.labelcolor": "#222222",
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.unicode_minus": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "patch.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "polycentric",
    "path.simplify": True,
}


def new(width_mm: float = 90, height_mm: float = 70, columns: int = 1, rows: int = 1, **kw: Any) -> tuple[Figure, Any]:
    """A figure of `width_mm` x `height_mm` and its axes: one Axes, or an array of them like `pyplot.subplots`.

    The figure has constrained layout; further keywords go to `Figure.subplots` (`sharex`, `width_ratios`, ...).
    """
    matplotlib.rcParams.update(STYLE)  # ticks and lines that are added later take the style, too
    figure = Figure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")
    return figure, figure.subplots(rows, columns, **kw)


def save(fig: Figure, path: str | Path) -> None:
    """Write a figure atomically as SVG, PNG or JPEG, by suffix; equal figures give equal bytes. Clears the figure."""
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}.get(kind)
    extra: dict[str, Any] = {"pil_kwargs": {"quality": 88, "optimize": True}} if kind in ("jpg", "jpeg") else {}
    with matplotlib.rc_context(STYLE), atomic(path) as temporary:
        fig.savefig(temporary, format=kind, metadata=metadata, **extra)
    fig.clear()


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write the plotted numbers atomically as CSV; floats in the shortest form that reads back exactly."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        frame.to_csv(stream, index=False, lineterminator="\n")


@dataclass(frozen=True)
class Panel:
    """One slice of a picture: `image` (y, x), `spacing` (x, y) in mm, `window` as (low, high) grey values.

    `outlines` are masks (y, x) whose edges are drawn, in the order of `COLOURS` from orange on; `map` is `grey`, or
    `difference`, which is red above and blue below zero with the window symmetric around it.
    """

    image: np.ndarray
    spacing: tuple[float, float]
    window: tuple[float, float]
    title: str = ""
    outlines: tuple[np.ndarray, ...] = ()
    map: Literal["grey", "difference"] = "grey"


def picture(
    path: str | Path,
    panels: Sequence[Panel],
    *,
    columns: int = 3,
    width_mm: float = 180,
    unit: str = "HU",
    scale_bar_mm: float | None = None,
) -> None:
    """Write a montage of slices: fixed windows, outlines, a scale bar, one colour bar per map; PNG or JPEG, by suffix.

    Panels of one map must share their window, or a shared colour bar would lie.

    Raises
    ------
    ValueError
        without panels, or when panels of one map have different windows.
    """
    if not panels:
        raise ValueError("a picture needs at least one panel")
    windows: dict[str, tuple[float, float]] = {}
    for panel in panels:
        if windows.setdefault(panel.map, panel.window) != panel.window:
            raise ValueError(f"panels of map {panel.map!r} have different windows and cannot share a colour bar")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    aspects = [p.image.shape[0] * p.spacing[1] / (p.image.shape[1] * p.spacing[0]) for p in panels]
    titled = any(p.title for p in panels)
    height_mm = rows * (width_mm / columns * max(aspects) + (5 if titled else 1)) + 11
    fig, axes = new(width_mm, height_mm, columns, rows, squeeze=False)
    shown: dict[str, Any] = {}
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        low, high = panel.window
        height, width = panel.image.shape
        sx, sy = panel.spacing
        colour_map = "gray" if panel.map == "grey" else "RdBu_r"
        extent = (0, width * sx, height * sy, 0)
        shown[panel.map] = axis.imshow(panel.image, cmap=colour_map, vmin=low, vmax=high, extent=extent)
        for number, mask in enumerate(panel.outlines):
            if mask.any() and not mask.all():
                x, y = (np.arange(width) + 0.5) * sx, (np.arange(height) + 0.5) * sy
                axis.contour(x, y, mask.astype(float), [0.5], colors=[_OUTLINES[number % len(_OUTLINES)]], linewidths=1)
        if panel.title:
            axis.set_title(panel.title, fontsize=7, fontweight="normal", pad=2)
        axis.set_axis_off()
    first = panels[0]
    extent_mm = first.image.shape[1] * first.spacing[0]
    length = scale_bar_mm or _round_length(extent_mm / 4)
    left, bottom = 0.04 * extent_mm, 0.95 * first.image.shape[0] * first.spacing[1]
    axis = axes.flat[0]
    axis.plot([left, left + length], [bottom, bottom], color="white", linewidth=2.4, solid_capstyle="butt")
    axis.text(left, bottom - 0.02 * extent_mm, f"{length / 10:g} cm" if length >= 10 else f"{length:g} mm",
              color="white", fontsize=6.5, va="bottom")  # fmt: skip
    for kind in sorted(shown, reverse=True):
        below = sorted({number % columns for number, panel in enumerate(panels) if panel.map == kind})
        bar = fig.colorbar(
            shown[kind],
            ax=[axes[-1, k] for k in below],
            location="bottom",
            fraction=0.05,
            pad=0.03,
            aspect=22 * len(below),
        )
        bar.set_label(unit if kind == "grey" else f"difference, {unit}", fontsize=6.5, labelpad=1)
        bar.ax.tick_params(labelsize=6, length=2)
        bar.outline.set_linewidth(0.4)
    save(fig, path)


_OUTLINES = ["#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442"]


def _round_length(length_mm: float) -> float:
    """The largest of 1, 2, 5 x 10^k mm that is not longer."""
    power = 10 ** math.floor(math.log10(length_mm))
    return max(step * power for step in (1, 2, 5) if step * power <= length_mm)
