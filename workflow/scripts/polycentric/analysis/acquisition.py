"""How scans were acquired: distributions of numbers and shares of categories, small multiples by group."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures

# columns of the scan table with their labels
NUMBERS = {
    "spacing_x_mm": "pixel spacing, mm",
    "spacing_z_mm": "slice distance, mm",
    "thickness_mm": "slice thickness, mm",
    "length_mm": "scan length, mm",
    "slices": "slices",
    "kvp": "tube voltage, kV",
    "exposure_mas": "exposure, mAs",
    "ctdi_mgy": "volume CT dose index, mGy",
}
CATEGORIES = {
    "modality": "modality",
    "manufacturer": "manufacturer",
    "model": "scanner model",
    "kernel": "convolution kernel",
    "contrast": "contrast agent",
    "body_part": "body part",
    "dose": "dose",
}
BINS, LEVELS, COLUMNS = 30, 6, 3
OTHER, MISSING = "other", "not stated"


def known(images: pd.DataFrame, names: dict[str, str]) -> list[str]:
    """Columns that the table has and that hold a value."""
    return [n for n in names if n in images.columns and (images[n].notna() & images[n].ne("")).any()]


def numbers(images: pd.DataFrame, by: str, groups: list[Any]) -> tuple[Figure, pd.DataFrame]:
    """Histogram of every known number of the scans, a row per group, with the median; and the plotted counts.

    Bars are scaled within a group, so that a small centre shows as well as a large one; n is known values of scans.
    """
    names = known(images, NUMBERS)
    figure, axes, _ = _panels(len(names), 14 + 7 * len(groups))
    rows: list[dict[str, Any]] = []
    for axis, name in zip(axes, names, strict=True):
        values = images[name].astype("Float64").astype(float)
        low, high = float(values.min()), float(values.max())
        margin = max(abs(low), 1.0) * 0.05
        limits = (low, high) if high > low else (low - margin, high + margin)
        edges = np.linspace(*limits, BINS + 1)
        labels = []
        for number, group in enumerate(groups):
            line = len(groups) - 1 - number  # the first group stands above
            own = values[images[by].eq(group)]
            present = own.dropna().to_numpy()
            labels.append(f"{group}, n = {len(present)}")
            counts, _ = np.histogram(present, edges)
            if not len(present):
                continue
            axis.bar(
                edges[:-1], 0.75 * counts / counts.max(), np.diff(edges), bottom=line, align="edge",
                color=figures.COLOURS[0], linewidth=0,
            )  # fmt: skip
            median = float(np.median(present))
            axis.plot([median, median], [line - 0.08, line + 0.8], color=figures.COLOURS[1], linewidth=1)
            rows += [
                dict(panel=name, group=str(group), **{"from": a, "to": b}, scans=int(c), missing=int(own.isna().sum()))
                for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
                if c
            ]  # fmt: skip
        axis.set_yticks(range(len(groups)), labels[::-1])
        axis.set(title=NUMBERS[name], ylim=(-0.2, len(groups)))
        axis.locator_params(axis="x", nbins=4)
    return figure, pd.DataFrame(rows, columns=["panel", "group", "from", "to", "scans", "missing"])


def categories(images: pd.DataFrame, by: str, groups: list[Any]) -> tuple[Figure, pd.DataFrame]:
    """Shares of every known category of the scans, a bar per group; the rarest levels together; and the counts."""
    names = [n for n in known(images, CATEGORIES) if n != by]
    figure, axes, legends = _panels(len(names), 15 + 6 * len(groups), legend_mm=3.4 * (LEVELS + 2))
    rows: list[dict[str, Any]] = []
    for axis, legend, name in zip(axes, legends, names, strict=True):
        texts = images[name].astype("object").where(images[name].notna() & images[name].ne(""), MISSING).astype(str)
        order = texts[texts != MISSING].value_counts().sort_index().sort_values(ascending=False, kind="stable").index
        shown = list(order[:LEVELS])
        drawn = texts.where(texts.isin([*shown, MISSING]), OTHER)
        left = np.zeros(len(groups))
        totals = np.array([int(images[by].eq(g).sum()) for g in groups])
        for number, level in enumerate([*shown, OTHER, MISSING]):
            counts = np.array([int((drawn[images[by].eq(g)] == level).sum()) for g in groups])
            if not counts.any():
                continue
            shares = 100 * counts / np.maximum(totals, 1)
            colour = {OTHER: "#8c8c8c", MISSING: "#dddddd"}.get(level, figures.COLOURS[number % len(figures.COLOURS)])
            text = level if len(level) <= 28 else level[:27] + "…"
            axis.barh(range(len(groups)), shares, left=left, height=0.7, color=colour, label=f"{text} ({counts.sum()})")
            left += shares
            rows += [
                {"panel": name, "group": str(g), "level": level, "scans": int(c), "of": int(n)}
                for g, c, n in zip(groups, counts, totals, strict=True)
            ]
        axis.set_yticks(range(len(groups)), [f"{g}, n = {n}" for g, n in zip(groups, totals, strict=True)])
        axis.set(title=CATEGORIES[name], xlim=(0, 100), xlabel="% of scans", ylim=(len(groups) - 0.5, -0.5))
        legend.legend(
            *axis.get_legend_handles_labels(), loc="upper left", fontsize=6, handlelength=1, labelspacing=0.25,
            borderaxespad=0,
        )  # fmt: skip
    return figure, pd.DataFrame(rows, columns=["panel", "group", "level", "scans", "of"])


def _panels(count: int, height_mm: float, legend_mm: float = 0.0) -> tuple[Figure, list[Any], list[Any]]:
    """Axes for `count` panels, and as many below them for legends if those have a height."""
    columns = min(COLUMNS, max(count, 1))
    lines = max(math.ceil(count / columns), 1)
    heights = [height_mm, legend_mm] if legend_mm else [height_mm]
    figure, axes = figures.new(
        width_mm=60 * columns, height_mm=lines * sum(heights), columns=columns, rows=lines * len(heights),
        squeeze=False, height_ratios=heights * lines,
    )  # fmt: skip
    panels, legends = list(axes[:: len(heights)].flat), list(axes[1::2].flat) if legend_mm else []
    for axis in (*panels[count:], *legends):
        axis.set_axis_off()
    return figure, panels[:count], legends[:count]
