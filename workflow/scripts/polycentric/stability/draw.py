"""Figures of stability. Each function returns a figure and the plotted numbers."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import feature_names, figures
from ..concordance import WORDS
from ..config.stability import StabilityAnalysis


def by_class(table: pd.DataFrame, settings: StabilityAnalysis) -> tuple[Figure, pd.DataFrame]:
    """What decides, by feature class: one panel per design, a dot per feature, counts of those that pass."""
    designs = list(settings.designs)
    classes = feature_names.in_order(table["class"])
    columns = min(len(designs), 3)
    rows = -(-len(designs) // columns)
    width = min(180, 40 + 70 * columns)
    figure, axes = figures.new(width, rows * (22 + 9 * len(classes)), columns, rows, squeeze=False, sharey=True)
    for axis in axes.flat[len(designs) :]:
        axis.set_axis_off()
    size = 2.6 if len(table) > 400 * len(designs) else 4.5  # dots of few features would not be seen
    lowest = max(-1.0, min(-0.02, float(np.nanmin(table["decides"])) - 0.03)) if table["decides"].notna().any() else 0
    for axis, key in zip(axes.flat, designs, strict=False):
        design, part = settings.designs[key], table[table["design"].eq(key)]
        for line, kind in enumerate(classes):
            here = part[part["class"].eq(kind)]
            values = np.sort(here["decides"].dropna().to_numpy())
            offsets = ((np.arange(len(values)) * 7) % 11 - 5) / 18
            colour = figures.COLOURS[line % 7]
            axis.plot(values, line + offsets, ".", color=colour, markersize=size, markeredgewidth=0, alpha=0.6,
                      rasterized=len(table) > 2000)  # fmt: skip
            if len(values):
                axis.plot([np.median(values)] * 2, [line - 0.36, line + 0.36], color="#222222", linewidth=1.3)
            axis.annotate(f"{int(here['passes'].sum())}/{len(here)}", (1.02, line), xycoords=("axes fraction", "data"),
                          va="center", fontsize=6.5, color="#222222")  # fmt: skip
        axis.axvline(design.above, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
        words = WORDS[design.statistic.replace("-", "_")]
        axis.set(xlim=(lowest, 1.01), ylim=(len(classes) - 0.5, -0.5), title=key)
        axis.set_xlabel(f"lower bound of {words}" if design.bound == "lower" else words)
        axis.grid(axis="x")
        axis.set_yticks(range(len(classes)), classes)
    return figure, table[["design", "feature", "class", "decides", "passes"]]


def heat_map(table: pd.DataFrame, settings: StabilityAnalysis) -> tuple[Figure, pd.DataFrame]:
    """Designs by features, coloured by the statistic that the design uses; classes are separated and named."""
    values = {}
    for key, design in settings.designs.items():
        part = table[table["design"].eq(key)].set_index("feature")
        values[key] = part[design.statistic.replace("-", "_")]
    frame = pd.DataFrame(values)
    classes = table.drop_duplicates("feature").set_index("feature")["class"].reindex(frame.index)
    order = {kind: i for i, kind in enumerate(feature_names.in_order(classes))}
    lowest = frame.min(axis=1, skipna=True).fillna(-2)
    keys = pd.DataFrame({"class": classes.map(order), "lowest": -lowest, "name": frame.index}, index=frame.index)
    frame = frame.loc[keys.sort_values(["class", "lowest", "name"], kind="stable").index]
    classes = classes.loc[frame.index]
    figure, axis = figures.new(170, 26 + 9 * len(settings.designs))
    shown = np.ma.masked_invalid(frame.to_numpy(dtype=float).T)
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="#c8c8c8")
    picture = axis.imshow(shown, aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest",
                          extent=(0, len(frame), len(settings.designs), 0))  # fmt: skip
    start = 0
    for number, (kind, size) in enumerate(classes.groupby(classes, sort=False).size().items()):
        if start:
            axis.axvline(start, color="white", linewidth=1.2)
        # neighbouring names of narrow classes would run into one another, so they alternate between two lines
        axis.annotate(f"{kind}\n{size}" if number % 2 == 0 else f"\n\n{kind}\n{size}", (start + size / 2, 0),
                      xycoords=("data", "axes fraction"), xytext=(0, -3), textcoords="offset points", ha="center",
                      va="top", fontsize=6.5)  # fmt: skip
        start += size
    axis.set_yticks(np.arange(len(settings.designs)) + 0.5, list(settings.designs))
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    bar = figure.colorbar(picture, ax=axis, location="right", fraction=0.03, pad=0.01, extend="min")
    bar.set_label("ICC or CCC")
    bar.outline.set_linewidth(0.4)
    return figure, frame.assign(**{"class": classes}).reset_index(names="feature")
