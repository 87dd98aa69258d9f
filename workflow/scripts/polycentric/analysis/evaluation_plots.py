"""Figures of calibration and of decision curves, one panel per part of the split or per class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import figures
from .calibration import Flexible

ROW = 3  # panels side by side
DIAGONAL = {"color": "#999999", "linewidth": 0.7, "linestyle": (0, (4, 3))}


def calibration(
    panels: Mapping[str, tuple[Flexible, np.ndarray, np.ndarray]],
) -> tuple[Figure, pd.DataFrame]:
    """Flexible curves with their bands and, below, how many patients with and without the outcome were told what.

    A panel is (curve, probability (n,), outcome (n,)). Returns the figure and the plotted numbers.
    """
    figure, axes = _panels(len(panels), 88 if len(panels) < ROW else 76)  # narrower, and as high as they are wide
    rows = []
    edges = np.linspace(0, 1, 41)
    for axis, (title, (curve, probability, outcome)) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], **DIAGONAL)
        axis.fill_between(curve.predicted, curve.lower, curve.upper, color=figures.COLOURS[0], alpha=0.15, linewidth=0)
        axis.plot(curve.predicted, curve.observed, color=figures.COLOURS[0])
        for sign, there, colour in ((1, outcome > 0, figures.COLOURS[1]), (-1, outcome <= 0, figures.COLOURS[2])):
            count, _ = np.histogram(probability[there], edges)
            height = 0.07 * count / max(count.max(), 1)
            axis.vlines((edges[:-1] + edges[1:]) / 2, -0.1, -0.1 + sign * height, color=colour, linewidth=1.2)
        axis.set(title=title, xlabel="predicted probability", ylabel="observed share", xlim=(-0.01, 1.01))
        axis.set(ylim=(-0.19, 1.01), yticks=np.linspace(0, 1, 6))
        axis.set_aspect("equal")
        numbers = dict(zip(("predicted", "observed", "lower", "upper"), curve, strict=True))
        rows.append(pd.DataFrame(numbers).assign(panel=title))
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    return figure, frame


def decision(panels: Mapping[str, Mapping[str, pd.DataFrame]]) -> tuple[Figure, pd.DataFrame]:
    """Net benefit of one or several models (rows of `decision.curves` by label) with bands, of all, and of none.

    The band is drawn where a panel has one model. Returns the figure and the plotted numbers.
    """
    figure, axes = _panels(len(panels), 86)
    rows = []
    for axis, (title, models) in zip(axes, panels.items(), strict=True):
        axis.axhline(0, color="#999999", linewidth=0.7, label="treat none")
        for number, (label, frame) in enumerate(models.items()):
            model = frame[frame["strategy"].eq("model")]
            colour = figures.COLOURS[number % len(figures.COLOURS)]
            if len(models) == 1:
                axis.fill_between(
                    model["threshold"], model["lower"], model["upper"], color=colour, alpha=0.15, linewidth=0
                )
            axis.plot(model["threshold"], model["net_benefit"], color=colour, label=label)
            rows.append(frame.assign(panel=title, model=label))
        everyone = next(iter(models.values()))
        everyone = everyone[everyone["strategy"].eq("all")]
        axis.plot(everyone["threshold"], everyone["net_benefit"], label="treat all", **DIAGONAL)
        top = max(0.02, *(float(f["net_benefit"].max()) for f in models.values()))
        axis.set(title=title, xlabel="threshold probability", ylabel="net benefit", ylim=(-0.2 * top, 1.05 * top))
    _legend(figure, axes)
    return figure, pd.concat(rows, ignore_index=True)


def groups(rows: pd.DataFrame, xlabel: str, reference: float) -> Figure:
    """Estimates with intervals by group (`label`, one line each) and model (a colour each).

    Columns: label, model, value, lower, upper.
    """
    labels, models = list(dict.fromkeys(rows["label"])), list(dict.fromkeys(rows["model"]))
    line = 4 + 2 * len(models)
    figure, axis = figures.new(width_mm=150, height_mm=20 + line * len(labels) + 4 * len(models))
    axis.axvline(reference, color="#999999", linewidth=0.7, linestyle=(0, (4, 3)))
    for number, name in enumerate(models):
        own = rows[rows["model"].eq(name) & rows["value"].notna()]
        at = own["label"].map(labels.index) + (number - (len(models) - 1) / 2) * 0.7 / len(models)
        colour = figures.COLOURS[number % len(figures.COLOURS)]
        axis.hlines(at, own["lower"], own["upper"], color=colour, linewidth=1)
        axis.plot(own["value"], at, "s", color=colour, label=name)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel=xlabel, ylim=(len(labels) - 0.5, -0.5))
    _legend(figure, [axis])
    return figure


def _legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = 2 if figure.get_figwidth() > 4 else 1  # inches: beside each other, long names pass the edge of one panel
    figure.legend(found.values(), found.keys(), loc="outside lower left", ncols=columns, handlelength=1.4)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` axes in rows of up to three; `height` of a row in mm."""
    columns, rows = min(count, ROW), -(-count // ROW)
    figure, axes = figures.new(
        width_mm=min(75 * columns + 5, 180), height_mm=height * rows, columns=columns, rows=rows, squeeze=False
    )
    for axis in axes.ravel()[count:]:
        axis.set_axis_off()
    return figure, list(axes.ravel()[:count])
