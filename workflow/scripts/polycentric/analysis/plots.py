"""Figures of the analyses. Each function returns a figure and, where the caller has none, the plotted numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures


def empty(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axis = figures.new(width_mm=90, height_mm=40)
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return figure


BANDS = 3  # bands are drawn for at most this many curves


@dataclass(frozen=True)
class Curve:
    """A ROC curve with its label and, on a grid of false positive rates, its band."""

    panel: str
    label: str
    false: np.ndarray
    true: np.ndarray
    grid: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def roc(curves: Sequence[Curve], titles: dict[str, str]) -> Figure:
    """ROC curves, one panel per part; `titles` gives the panels' titles in order."""
    labels = list(dict.fromkeys(c.label.split("\n")[0] for c in curves))
    width, legend = min(75 * len(titles) + 5, 180), 4 + 7 * len(labels)
    panel_height = width / len(titles) + 2
    figure, axes = figures.new(
        width_mm=width, height_mm=panel_height + legend, columns=len(titles), rows=2, squeeze=False,
        height_ratios=[panel_height, legend],
    )  # fmt: skip
    for axis, below, (panel, title) in zip(axes[0], axes[1], titles.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.7, linestyle=(0, (4, 3)))
        for c in curves:
            if c.panel != panel:
                continue
            colour = figures.COLOURS[labels.index(c.label.split("\n")[0]) % len(figures.COLOURS)]
            # the bands of many curves hide one another; the intervals of the AUC stand in the legend and the CSV
            if len(c.lower) and len(labels) <= BANDS:
                axis.fill_between(c.grid, c.lower, c.upper, color=colour, alpha=0.12, linewidth=0)
            axis.plot(c.false, c.true, color=colour, label=c.label)
        axis.set(title=title, xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axis.set_aspect("equal")
        below.set_axis_off()
        below.legend(*axis.get_legend_handles_labels(), loc="upper left", handlelength=1.4, borderaxespad=0)
    return figure


def null(
    rows: pd.DataFrame,
    xlabel: str,
    chance: float = 0.5,
    words: tuple[str, str] = ("permuted outcomes", "observed"),
) -> Figure:
    """Null distributions (`kind` null) with the observed values (`kind` observed); one line per `label`."""
    labels = list(dict.fromkeys(rows["label"]))
    figure, axis = figures.new(width_mm=120, height_mm=18 + 9 * len(labels))
    for line, label in enumerate(labels):
        here = rows[rows["label"] == label]
        values = here.loc[here["kind"] == "null", "value"].dropna()
        offsets = (np.arange(len(values)) % 7 - 3) / 18
        axis.plot(values, line + offsets, ".", color="#aaaaaa", markersize=2.5, label=words[0] * (not line))
        observed = here.loc[here["kind"] == "observed", "value"]
        axis.plot(observed, [line] * len(observed), "D", color=figures.COLOURS[1], label=words[1] * (not line))
    axis.axvline(chance, color="#999999", linewidth=0.7, linestyle=(0, (4, 3)))
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel=xlabel, ylim=(len(labels) - 0.5, -0.5))
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def forest(rows: pd.DataFrame, xlabel: str, reference: float) -> Figure:
    """Estimates with intervals: columns panel (row group), label, value, lower, upper."""
    rows = rows.reset_index(drop=True)
    figure, axis = figures.new(width_mm=120, height_mm=20 + 6 * len(rows))
    groups = list(dict.fromkeys(rows["group"]))
    axis.axvline(reference, color="#999999", linewidth=0.7, linestyle=(0, (4, 3)))
    for line, row in rows.iterrows():
        colour = figures.COLOURS[groups.index(row["group"]) % len(figures.COLOURS)]
        axis.plot([row["lower"], row["upper"]], [line, line], color=colour, linewidth=1)
        axis.plot([row["value"]], [line], "s", color=colour)
    axis.set_yticks(range(len(rows)), rows["label"])
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    return figure


GROUP_COLOURS = {"low": figures.COLOURS[0], "high": figures.COLOURS[1]}


def ticks(longest: float) -> list[float]:
    """Zero and up to five round steps that do not pass the longest time."""
    raw = max(longest, 1e-9) / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    return [float(v) for v in np.arange(0, longest + 1e-9, step)]
