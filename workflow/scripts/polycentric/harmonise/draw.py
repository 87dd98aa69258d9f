"""Figures of harmonisation. Each function returns a figure and the plotted numbers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from .predict import prepare

if TYPE_CHECKING:
    from .analysis import Rows

COLOURS = {"before": figures.COLOURS[1], "after": figures.COLOURS[0]}
LINES = {"training": "-", "held out": (0, (3, 2))}
SIGNS = "os^Dv<>P"


def fates(features: pd.DataFrame, limit: float) -> tuple[Figure, pd.DataFrame]:
    """Concordance of phantom scans before (x) and after (y) harmonisation, a dot per feature, by fate."""
    figure, axis = figures.new(100, 80)
    shown = features.assign(x=features["ccc_before"].astype(float), y=features["ccc_after"].astype(float))
    lowest = min(0.0, float(shown[["x", "y"]].min().min(skipna=True)))
    edge = lowest - 0.06
    shown["y"] = shown["y"].where(shown["fate"].isin(["harmonised", "not concordant"]), edge)
    for number, (fate, part) in enumerate(shown.groupby("fate", sort=True)):
        x = part["x"].fillna(edge)
        style = {"markersize": 3, "markeredgewidth": 0, "alpha": 0.7, "rasterized": len(shown) > 2000}
        axis.plot(x, part["y"], SIGNS[number], color=figures.COLOURS[number], label=f"{fate} ({len(part)})", **style)
    axis.axhline(limit, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
    axis.axvline(limit, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
    axis.set(xlim=(edge - 0.02, 1.02), ylim=(edge - 0.02, 1.02))
    axis.set(xlabel="concordance between batches before", ylabel="after harmonisation")
    axis.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return figure, features[["feature", "fate", "ccc_retest", "ccc_before", "ccc_after"]]


def summary(variance: pd.DataFrame, aucs: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Left: cumulative share of features by eta squared; right: AUC of the classifiers."""
    figure, (left, right) = figures.new(180, 82, 2, 1, width_ratios=[1, 1.05])
    rows = []
    for (part, when), frame in variance.groupby(["part", "when"], sort=False):
        values = np.sort(frame["eta2"].dropna().to_numpy())
        share = 100 * np.arange(1, len(values) + 1) / max(len(values), 1)
        left.step(np.r_[0, values, 1], np.r_[0, share, 100], where="post", color=COLOURS[when],
                  linestyle=LINES[part], label=f"{when}, {part}")  # fmt: skip
        rows += [
            {"panel": "variance", "part": part, "when": when, "eta2": v, "share_percent": s}
            for v, s in zip(values, share, strict=True)
        ]
    for _, frame in variance.groupby("part", sort=False):
        left.axvline(frame["chance"].mean(), color="#777777", linewidth=0.8, linestyle=":")
    left.set(xlim=(0, max(0.3, float(variance["eta2"].max()) * 1.03)), ylim=(0, 101))
    left.set(xlabel="variance explained by the batch (eta squared)", ylabel="features at or below, %")
    left.legend(loc="lower right")
    labels = []
    for line, ((classifier, part), frame) in enumerate(aucs.groupby(["classifier", "part"], sort=False)):
        labels.append(f"{classifier},\n{part} (n = {int(frame['n'].iloc[0])})")
        for shift, when in ((-0.16, "before"), (0.16, "after")):
            row = frame[frame["when"].eq(when)].iloc[0]
            y = line + shift
            if np.isfinite(row["null_lower"]):
                label = "permuted" if not line and when == "before" else None
                ends = [row["null_lower"], row["null_upper"]]
                right.plot(ends, [y, y], color="#bbbbbb", linewidth=5, solid_capstyle="butt", label=label)
            right.plot([row["lower"], row["upper"]], [y, y], color=COLOURS[when], linewidth=1.1)
            right.plot([row["value"]], [y], "s", color=COLOURS[when], label=when if not line else None)
            rows.append({"panel": "classifiers"} | row.to_dict())
    right.axvline(0.5, color="#777777", linewidth=0.8, linestyle=":")
    right.set_yticks(range(len(labels)), labels)
    right.set(ylim=(len(labels) - 0.4, -0.6), xlabel="AUC of predicting the batch")
    low = min(0.35, float(np.nanmin(aucs[["value", "lower"]].to_numpy())) - 0.02)
    right.set_xlim(max(0.0, low), 1.01)
    right.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, columnspacing=1)
    return figure, pd.DataFrame(rows)


def distributions(rows: Rows, names: list[str]) -> tuple[Figure, pd.DataFrame]:
    """Boxes by batch, before above after, a column per feature; four features side by side."""
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    batches = sorted(set(rows.batch))
    figure, axes = figures.new(180, lines * (16 + 8 * len(batches)), columns, lines, squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    numbers = []
    places = {("before", "training"): -0.28, ("before", "held out"): -0.1, ("after", "training"): 0.1,
              ("after", "held out"): 0.28}  # fmt: skip
    for axis, name in zip(axes.flat, names, strict=False):
        column = rows.names.index(name)
        for line, batch in enumerate(batches):
            for (when, part), shift in places.items():
                values = rows.values[when][(rows.batch == batch) & rows.of(part), column]
                values = values[np.isfinite(values)]
                if not len(values):
                    continue
                q = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
                y, colour = line + shift, COLOURS[when]
                axis.plot([q[0], q[4]], [y, y], color=colour, linewidth=0.7)
                axis.barh(y, q[3] - q[1], left=q[1], height=0.15, color=colour if part == "training" else "white",
                          edgecolor=colour, linewidth=0.7)  # fmt: skip
                axis.plot([q[2]] * 2, [y - 0.075, y + 0.075], color="black", linewidth=1)
                numbers.append(
                    {"feature": name, "batch": batch, "when": when, "part": part, "n": len(values)}
                    | dict(zip(("p5", "q1", "median", "q3", "p95"), q, strict=True))
                )
        axis.set_title("\n".join(textwrap.wrap(name.replace("_", " "), 24)), fontsize=6.5, fontweight="normal")
        axis.set_yticks(range(len(batches)), batches)
        axis.set_ylim(len(batches) - 0.5, -0.5)
        axis.tick_params(axis="x", labelsize=6)
        axis.locator_params(axis="x", nbins=4)
        axis.ticklabel_format(axis="x", useOffset=False, scilimits=(-2, 4))
        axis.xaxis.get_offset_text().set_fontsize(6)
    from matplotlib.patches import Patch

    held = rows.of("held out").any()
    handles = [Patch(color=COLOURS[w], label=f"{w}, training") for w in ("before", "after")]
    if held:
        handles += [Patch(facecolor="white", edgecolor=COLOURS[w], label=f"{w}, held out") for w in ("before", "after")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure, pd.DataFrame(numbers)


def components(rows: Rows) -> tuple[Figure, pd.DataFrame]:
    """Two panels, before and after: principal components of training rows, held-out rows projected."""
    figure, axes = figures.new(170, 82, 2, 1, squeeze=False)
    batches = sorted(set(rows.batch))
    numbers = []
    training = rows.of("training")
    for axis, (when, values) in zip(axes[0], rows.values.items(), strict=True):
        made = prepare(values[training], values)
        centred = made.training - made.training.mean(axis=0)
        _, s, vectors = np.linalg.svd(centred, full_matrices=False)
        vectors = vectors[:2] * np.sign(vectors[:2].sum(axis=1, keepdims=True) + 1e-300)
        scores = made.others @ vectors.T
        share = 100 * s[:2] ** 2 / max(float((s**2).sum()), 1e-300)
        for number, batch in enumerate(batches):
            here = rows.batch == batch
            colour, sign = figures.COLOURS[number % 7], SIGNS[(number // 7) % len(SIGNS)]
            a, b = scores[here & training], scores[here & ~training]
            axis.plot(a[:, 0], a[:, 1], sign, color=colour, markersize=2.6, markeredgewidth=0, alpha=0.75,
                      label=f"{batch} ({len(a)})" if when == "before" else None)  # fmt: skip
            axis.plot(b[:, 0], b[:, 1], sign, markerfacecolor="none", color=colour, markersize=3.2, markeredgewidth=0.6)
            axis.plot(*a.mean(axis=0), "X", color=colour, markersize=8, markeredgecolor="white", markeredgewidth=0.8)
        axis.set(title=when, xlabel=f"component 1 ({share[0]:.0f} % of variance)")
        axis.set_ylabel(f"component 2 ({share[1]:.0f} %)")
        # the far end of a few rows must not press the others together
        for set_limits, values_ in ((axis.set_xlim, scores[:, 0]), (axis.set_ylim, scores[:, 1])):
            low, high = np.quantile(values_, [0.01, 0.99])
            margin = 0.25 * (high - low) + 1e-9
            set_limits(low - margin, high + margin)
        for i in range(len(scores)):
            numbers.append({"when": when, "batch": rows.batch[i], "part": rows.part[i], "component_1": scores[i, 0],
                            "component_2": scores[i, 1]})  # fmt: skip
    figure.legend(loc="outside right upper", title="batch (training)", title_fontsize=7, markerscale=1.6)
    return figure, pd.DataFrame(numbers)
