"""Figures of the exploration. Each function returns a figure and the plotted numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from .. import feature_names, figures

SHOWN = 15
GREY = "#8a8a8a"


def colours_of(kinds: Sequence[str]) -> dict[str, str]:
    """A colour per feature class, the same in every figure."""
    ordered = feature_names.in_order(kinds)
    return {kind: figures.COLOURS[i % 7] for i, kind in enumerate(ordered)}


def short(name: str, width: int = 34) -> str:
    """A feature name that fits beside an axis."""
    text = name.replace("_", " ")
    return text if len(text) <= width else text[: width // 2 - 1] + "…" + text[-(width // 2) :]


def associations(table: pd.DataFrame, classes: tuple[str, ...], alpha: float) -> tuple[Figure, pd.DataFrame]:
    """Left: -log10 p against AUC (two classes) or effect; right: the strongest features."""
    two = len(classes) == 2
    across = "auc" if two else "effect"
    figure, (left, right) = figures.new(180, 88, 2, 1, width_ratios=[1, 1.05])
    palette = colours_of(table["class"].tolist())
    with np.errstate(divide="ignore"):
        height = -np.log10(np.maximum(table["p"].to_numpy(dtype=float), 1e-300))
    size = 3.5 if len(table) > 200 else 6
    for kind, colour in palette.items():
        here = table["class"].eq(kind).to_numpy()
        left.plot(table.loc[here, across], height[here], ".", color=colour, markersize=size, markeredgewidth=0,
                  alpha=0.7, label=f"{kind} ({int(here.sum())})")  # fmt: skip
    tested = int(table["p"].notna().sum())
    if tested:
        left.axhline(-np.log10(alpha / tested), color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
        if passing := int((table["q"] < alpha).sum()):
            left.axhline(-np.log10(alpha * passing / tested), color="#555555", linewidth=0.8, linestyle=":")
    if two:
        left.axvline(0.5, color="#bbbbbb", linewidth=0.7)
    left.set(xlabel=f"AUC (above 0.5: higher in {classes[1]})" if two else "epsilon squared", ylabel="−log₁₀ p")
    left.set_ylim(bottom=0)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=0.8, handletextpad=0.1,
                markerscale=1.8)  # fmt: skip
    top = table.sort_values(["p", "feature"], kind="stable").head(SHOWN).reset_index(drop=True)
    for line, row in top.iterrows():
        colour = palette[row["class"]]
        if two:
            right.plot([row["auc_lower"], row["auc_upper"]], [line, line], color=colour, linewidth=1.1)
        right.plot([row[across]], [line], "s", color=colour, markersize=3.6)
    if two:
        right.axvline(0.5, color="#bbbbbb", linewidth=0.7)
    right.set_yticks(range(len(top)), [short(n) for n in top["feature"]], fontsize=6)
    right.set(ylim=(len(top) - 0.4, -0.6), xlabel="AUC" if two else "epsilon squared")
    columns = ["feature", "class", "n", across, *(["auc_lower", "auc_upper"] if two else []), "p", "p_bonferroni", "q"]
    return figure, table[columns]


def distributions(
    x: np.ndarray, names: list[str], labels: np.ndarray, classes: tuple[str, ...], centres: np.ndarray
) -> tuple[Figure, pd.DataFrame]:
    """Boxes by class for all patients and for every centre; x (patients, features), up to twelve features."""
    groups = {"all": np.ones(len(x), dtype=bool)}
    if len(set(centres)) > 1:
        groups |= {c: centres == c for c in sorted(set(centres))}
    across = min(4, len(names))
    lines = -(-len(names) // across)
    row_mm = 3.4 * len(groups) * max(2, len(classes)) * 0.8
    figure, axes = figures.new(180, lines * (17 + row_mm) + 8, across, lines, squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    step = 0.8 / len(classes)
    numbers = []
    for column, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        for line, (group, rows) in enumerate(groups.items()):
            for k, kind in enumerate(classes):
                values = x[rows & (labels == kind), column]
                values = values[np.isfinite(values)]
                if not len(values):
                    continue
                q = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
                y, colour = line - 0.4 + step * (k + 0.5), figures.COLOURS[k % 7]
                axis.plot([q[0], q[4]], [y, y], color=colour, linewidth=0.7)
                axis.barh(y, q[3] - q[1], left=q[1], height=0.75 * step, color=colour, edgecolor=colour, linewidth=0.5,
                          alpha=0.85)  # fmt: skip
                axis.plot([q[2]] * 2, [y - 0.38 * step, y + 0.38 * step], color="black", linewidth=1)
                numbers.append({"feature": name, "centre": group, "class": kind, "n": len(values)}
                               | dict(zip(("p5", "q1", "median", "q3", "p95"), q, strict=True)))  # fmt: skip
        axis.axhline(0.5, color="#cccccc", linewidth=0.6)
        axis.set_title("\n".join(textwrap.wrap(name.replace("_", " "), 26)), fontsize=6.3, fontweight="normal")
        axis.set_yticks(range(len(groups)), list(groups))
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.tick_params(axis="x", labelsize=6)
        axis.locator_params(axis="x", nbins=4)
        axis.ticklabel_format(axis="x", useOffset=False, scilimits=(-2, 4))
        axis.xaxis.get_offset_text().set_fontsize(6)
    from matplotlib.patches import Patch

    handles = [
        Patch(color=figures.COLOURS[k % 7], label=f"{kind} ({int((labels == kind).sum())})")
        for k, kind in enumerate(classes)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(classes), 6))
    return figure, pd.DataFrame(numbers)


def cluster(correlation: np.ndarray, limit: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Order of the features and the cluster of each: average linkage of 1 - |rho|, cut where rho is `limit`."""
    if len(correlation) < 2:
        return np.arange(len(correlation)), np.ones(len(correlation), dtype=int)
    distance = 1 - np.abs(np.where(np.isfinite(correlation), correlation, 0.0))
    np.fill_diagonal(distance, 0.0)
    linkage = hierarchy.linkage(squareform(np.round((distance + distance.T) / 2, 10), checks=False), "average")
    return hierarchy.leaves_list(linkage), hierarchy.fcluster(linkage, 1 - limit, "distance")


def representatives(correlation: np.ndarray, order: np.ndarray, clusters: np.ndarray, most: int = 300) -> np.ndarray:
    """The features to draw, in order: all, or the most central one of each cluster if there are more than `most`.

    Constant features and those without values correlate with nothing and are left out.
    """
    order = order[np.isfinite(np.diag(correlation)[order])]
    if len(order) <= most:
        return order
    strength = np.abs(np.where(np.isfinite(correlation), correlation, 0.0))
    central = set()
    for kind in np.unique(clusters[order]):
        members = order[clusters[order] == kind]
        central.add(int(members[np.argmax(np.round(strength[np.ix_(members, members)].sum(axis=0), 9))]))
    return np.array([i for i in order if int(i) in central])


def heat_map(
    correlation: np.ndarray, order: np.ndarray, clusters: np.ndarray, names: list[str]
) -> tuple[Figure, pd.DataFrame]:
    """Clustered correlations with a strip of feature classes; names are written where there is room for them."""
    ordered = correlation[np.ix_(order, order)]
    listed = [names[i] for i in order]
    kinds = feature_names.parts([n.rpartition(": ")[2] for n in listed])["class"].tolist()
    palette = colours_of(kinds)
    named = len(listed) <= 40
    figure, (strip, axis) = figures.new(160 if named else 130, 128 if named else 112, 2, 1, width_ratios=[1, 32])
    picture = axis.imshow(np.ma.masked_invalid(ordered), cmap=_diverging(), vmin=-1, vmax=1, interpolation="nearest",
                          aspect="auto")  # fmt: skip
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
    ordered_kinds = list(palette)
    codes = np.array([[ordered_kinds.index(k)] for k in kinds])
    strip.imshow(codes, cmap=matplotlib.colors.ListedColormap([palette[k] for k in ordered_kinds]), aspect="auto",
                 vmin=-0.5, vmax=len(ordered_kinds) - 0.5, interpolation="nearest")  # fmt: skip
    strip.set_xticks([])
    strip.set_yticks(range(len(listed)) if named else [], [short(n) for n in listed] if named else [], fontsize=5.5)
    strip.tick_params(length=0)
    for side in strip.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(picture, ax=axis, fraction=0.035, pad=0.02)
    bar.set_label("Spearman correlation")
    bar.outline.set_linewidth(0.4)
    from matplotlib.patches import Patch

    figure.legend(handles=[Patch(color=c, label=k) for k, c in palette.items()], loc="outside lower center", ncols=8,
                  columnspacing=1, handlelength=1)  # fmt: skip
    lower = np.where(np.tri(len(ordered), dtype=bool), np.round(ordered, 2) + 0.0, np.nan)  # + 0.0: no -0.0
    frame = pd.DataFrame(lower, columns=listed)
    frame.insert(0, "cluster", clusters[order])
    frame.insert(0, "feature", listed)
    return figure, frame


def _diverging() -> Any:
    return matplotlib.colormaps["RdBu_r"].with_extremes(bad="#c8c8c8")


def volume(table: pd.DataFrame, curves: Sequence[dict[str, Any]]) -> tuple[Figure, pd.DataFrame]:
    """Left: how features correlate with the volume, by class; right: precision and recall of the volume alone."""
    figure, axes = figures.new(170 if curves else 90, 72, 2 if curves else 1, 1, squeeze=False)
    left = axes[0, 0]
    palette = colours_of(table["class"].tolist())
    edges = np.linspace(-1, 1, 21)
    bottom = np.zeros(20)
    rows = []
    for kind, colour in palette.items():
        counts, _ = np.histogram(table.loc[table["class"].eq(kind), "rho_volume"].dropna(), edges)
        left.bar(edges[:-1], counts, width=0.1, bottom=bottom, align="edge", color=colour, edgecolor="white",
                 linewidth=0.3, label=kind)  # fmt: skip
        bottom = bottom + counts
        rows += [{"panel": "correlation", "class": kind, "from": a, "to": b, "features": int(c)}
                 for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True) if c]  # fmt: skip
    left.set(xlim=(-1.02, 1.02), xlabel="Spearman correlation with the volume", ylabel="features")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=0.8, handlelength=1)
    for number, curve in enumerate(curves):
        right, colour = axes[0, 1], figures.COLOURS[number % 7]
        found = curve["average_precision"]
        right.step(curve["recall"], curve["precision"], where="post", color=colour,
                   label=f"{curve['outcome']}: {found['value']:.2f}")  # fmt: skip
        right.axhline(curve["prevalence"], color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
        right.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), title="average precision", title_fontsize=7)
        rows += [{"panel": "precision-recall", "outcome": curve["outcome"], "recall": r, "precision": p}
                 for r, p in zip(curve["recall"], curve["precision"], strict=True)]  # fmt: skip
    return figure, pd.DataFrame(rows)


def missing(x: np.ndarray, names: list[str], centres: np.ndarray, most: int = 30) -> tuple[Figure, pd.DataFrame]:
    """Share of missing values by centre for the features that lack most."""
    lacking = (~np.isfinite(x)).mean(axis=0)
    order = [i for i in np.argsort(-lacking, kind="stable") if lacking[i] > 0][:most]
    groups = sorted(set(centres))
    share = np.array([[(~np.isfinite(x[centres == c][:, i])).mean() for c in groups] for i in order])
    figure, axis = figures.new(70 + 14 * len(groups) + 25, 28 + 4 * len(order))
    picture = axis.imshow(100 * share, cmap="cividis_r", vmin=0, vmax=max(1.0, 100 * float(share.max())), aspect="auto")
    for i, j in np.ndindex(*share.shape):
        value = 100 * share[i, j]
        axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=5.5,
                  color="white" if share[i, j] > 0.5 * share.max() else "#222222")  # fmt: skip
    axis.set_yticks(range(len(order)), [short(names[i]) for i in order], fontsize=6)
    axis.set_xticks(range(len(groups)), [f"{c}\n(n = {int((centres == c).sum())})" for c in groups])
    for side in axis.spines.values():
        side.set_visible(False)
    axis.tick_params(length=0)
    bar = figure.colorbar(picture, ax=axis, fraction=0.05, pad=0.02)
    bar.set_label("patients without a value, %")
    bar.outline.set_linewidth(0.4)
    frame = pd.DataFrame(100 * share, columns=groups)
    frame.insert(0, "feature", [names[i] for i in order])
    return figure, frame
