"""Figures of the comparison of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import figures
from ..artefacts import Artefacts

if TYPE_CHECKING:
    from ..config.profiles import ProfileSettings

MARKERS = "os^Dv<>P*X"


def comparison(
    out: Artefacts, summary: dict[str, Any], layers: pd.DataFrame, profile: ProfileSettings, sizes: dict[str, int]
) -> None:
    """The summary (all models by all metrics, against real images) and the metrics by layer."""
    rows = [
        {"images": label, "metric": metric, "title": facts["title"], "form": facts["form"], "better": facts["better"]}
        | {"distance": facts["images"], "real": facts["real"]}
        | {k: facts[k] for k in ("value", "lower", "upper", "n")}
        for label, found in summary.items()
        for metric, facts in found.items()
        if "form" in facts
    ]
    frame = pd.DataFrame(rows)
    data = out.table(
        frame, "tables/models.csv", "All metrics by model",
        "Mean over layers of the distance to real images, the same between two halves of real images, and the former "
        "against the latter as ratio (or difference, for kernel distances) with 95 % interval, bootstrap of patients.",
    )  # fmt: skip
    path = out.folder / "figures" / "summary.svg"
    _summary(frame, path)
    side = ", ".join(f"{label} {n}" for label, n in sizes.items())
    out.add(
        "figure", path, "Distance to real images",
        "Mean over axial layers of the distance to real images, against that between two halves of the real images "
        f"(dashed: as near as real images are). Patients on each side: {side}. Bars: 95 % intervals, bootstrap of "
        "patients. Arrows: the interval goes on beyond the axis.",
        data,
    )  # fmt: skip
    path = out.folder / "figures" / "layers.svg"
    _layers(layers, path)
    data = out.csv(layers, "tables/layers.csv")
    out.add(
        "figure", path, "Distance to real images by layer",
        f"By axial layer, from feet to head (landmarks: {profile.landmarks}), against real images of the same layer; "
        f"dashed: as near as real images are. Patients on each side: {side}. Bands: 95 % intervals.",
        data,
    )  # fmt: skip


def colours(labels: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each of several models."""
    return {
        label: (figures.COLOURS[i % (len(figures.COLOURS) - 1)], MARKERS[i % len(MARKERS)])
        for i, label in enumerate(labels)
    }


def _summary(frame: pd.DataFrame, path: Any) -> None:
    metrics = list(dict.fromkeys(frame["metric"]))
    labels = list(dict.fromkeys(frame["images"]))
    style = colours(labels)
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    height = lines * (17 + 4.2 * len(labels))
    fig, axes = figures.new(width_mm=180, height_mm=height, columns=columns, rows=lines, squeeze=False)
    for number, axis in enumerate(axes.ravel()):
        if number >= len(metrics):
            axis.set_visible(False)
            continue
        part = frame[frame["metric"] == metrics[number]].set_index("images")
        ratio = part["form"].iloc[0] == "ratio"
        values = part[["value", "lower", "upper"]].astype(float)
        for place, label in enumerate(labels):
            if label not in part.index or not np.isfinite(values.loc[label, "value"]):
                continue
            value, lower, upper = values.loc[label]
            colour, marker = style[label]
            axis.plot(value, place, marker, color=colour, clip_on=False)
            if np.isfinite(lower):
                axis.plot([lower, upper], [place, place], color=colour)
        axis.axvline(1 if ratio else 0, color="#555555", linewidth=0.8, linestyle="--")
        if ratio and values["value"].max() > 5:
            axis.set_xscale("log")
        axis.set_yticks(range(len(labels)), labels if number % columns == 0 else [""] * len(labels))
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_title(part["title"].iloc[0].partition(" (")[0], fontsize=7)
        better = part["better"].iloc[0]
        axis.set_xlabel(("ratio to real" if ratio else "difference from real") + f", {better} is better")
    figures.save(fig, path)


def _layers(layers: pd.DataFrame, path: Any) -> None:
    metrics = list(dict.fromkeys(layers["metric"]))
    labels = list(dict.fromkeys(layers["images"]))
    style = colours(labels)
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    fig, axes = figures.new(width_mm=180, height_mm=12 + 45 * lines, columns=columns, rows=lines, squeeze=False)
    for number, axis in enumerate(axes.ravel()):
        if number >= len(metrics):
            axis.set_visible(False)
            continue
        part = layers[layers["metric"] == metrics[number]]
        ratio = part["form"].iloc[0] == "ratio"
        for label in labels:
            own = part[part["images"] == label]
            colour, marker = style[label]
            line = axis.plot(own["layer"], own["against_baseline"], marker, color=colour, label=label, markersize=3)[0]
            line.set_linestyle("-")
            line.set_linewidth(1)
            if len(labels) <= 3:
                axis.fill_between(own["layer"], own["lower"], own["upper"], color=colour, alpha=0.18, linewidth=0)
        axis.axhline(1 if ratio else 0, color="#555555", linewidth=0.8, linestyle="--")
        if ratio and part["against_baseline"].max() > 5:
            axis.set_yscale("log")
        axis.set_title(part["title"].iloc[0].partition(" (")[0], fontsize=7)
        axis.set_xlabel("axial layer (1 = lowest)")
        axis.set_ylabel("ratio to real images" if ratio else "difference from real images")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    figures.save(fig, path)
