"""Drawings of survival analyses. Each function returns a figure, and the plotted numbers where the caller has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from . import plots
from .plots import GROUP_COLOURS

EVERYBODY = "treat all"  # no name of a model has a space
DIAGONAL = {"color": "#999999", "linewidth": 0.7, "linestyle": (0, (4, 3))}


class Steps(NamedTuple):
    """A curve of one group: values and interval from each time on, at risk and events there, times of censoring.

    `follow_up` are the times of its patients.
    """

    time: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    censored: np.ndarray
    follow_up: np.ndarray


def curves(
    panels: Mapping[str, Mapping[str, Steps]], notes: dict[str, str], unit: str, what: str
) -> tuple[Figure, pd.DataFrame]:
    """Survival or cumulative incidence (`what`) of risk groups with a risk table below, one column per panel."""
    figure, axes = figures.new(
        width_mm=min(80 * len(panels) + 10, 180), height_mm=88, columns=len(panels), rows=2, squeeze=False,
        height_ratios=[5, 1], sharex="col",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    start = 1.0 if what == "survival" else 0.0
    for column, (title, groups) in enumerate(panels.items()):
        axis, table = axes[0, column], axes[1, column]
        ticks = plots.ticks(max(float(s.follow_up.max()) for s in groups.values()))
        for line, group in enumerate(("low", "high")):
            if group not in groups:
                continue
            s, colour = groups[group], GROUP_COLOURS[group]
            time = np.r_[0.0, s.time]
            axis.step(time, np.r_[start, s.value], where="post", color=colour,
                      label=f"{group} risk (n = {len(s.follow_up)}, events = {int(s.events.sum())})")  # fmt: skip
            axis.fill_between(time, np.r_[start, s.lower], np.r_[start, s.upper], step="post", color=colour,
                              alpha=0.12, linewidth=0)  # fmt: skip
            level = np.r_[start, s.value][np.searchsorted(s.time, s.censored, side="right")]
            axis.plot(s.censored, level, "|", color=colour, markersize=4, markeredgewidth=0.7)
            for tick in ticks:
                count = int((s.follow_up >= tick).sum())
                table.text(tick, 0.75 - 0.5 * line, str(count), ha="center", va="center", color=colour, fontsize=7)
            values = zip(s.time, s.value, s.lower, s.upper, s.at_risk, s.events, strict=True)
            rows += [
                dict(zip(("part", "group", "time", "value", "lower", "upper", "at_risk", "events"),
                         (title, group, *v), strict=True))
                for v in values
            ]  # fmt: skip
        axis.set(title=f"{title}\n{notes.get(title, '')}".rstrip(), ylim=(0, 1.3))
        axis.set_ylabel("survival" if what == "survival" else "cumulative incidence")
        axis.set_yticks(np.linspace(0, 1, 6))
        axis.set_xlim(left=-0.03 * ticks[-1])
        axis.legend(loc="upper right", handlelength=1.2)
        table.set(yticks=[0.25, 0.75], yticklabels=["high", "low"], ylim=(0, 1), xlabel=f"time, {unit} (at risk above)")
        table.set_xticks(ticks)
        table.tick_params(axis="y", length=0, pad=8)
        for side in ("left", "bottom"):
            table.spines[side].set_visible(False)
    return figure, pd.DataFrame(rows)


def calibration(rows: pd.DataFrame, unit: str) -> Figure:
    """Observed against predicted risk: smooth curves with bands (`kind` curve) and groups with intervals, a row of
    panels per time and a column per part."""
    times, parts = list(dict.fromkeys(rows["time"])), list(dict.fromkeys(rows["part"]))
    width = min(75 * len(parts) + 5, 180)
    figure, axes = figures.new(width_mm=width, height_mm=(width / len(parts) + 4) * len(times), columns=len(parts),
                               rows=len(times), squeeze=False)  # fmt: skip
    for line, t in zip(axes, times, strict=True):
        for axis, part in zip(line, parts, strict=True):
            here = rows[(rows["part"] == part) & (rows["time"] == t)]
            curve, groups = here[here["kind"] == "curve"], here[here["kind"] == "group"]
            axis.plot([0, 1], [0, 1], **DIAGONAL)
            axis.fill_between(curve["predicted"], curve["lower"].astype(float), curve["upper"].astype(float),
                              color=figures.COLOURS[0], alpha=0.15, linewidth=0)  # fmt: skip
            axis.plot(curve["predicted"], curve["observed"], color=figures.COLOURS[0])
            axis.vlines(groups["predicted"], groups["lower"], groups["upper"], color=figures.COLOURS[1], linewidth=1)
            axis.plot(groups["predicted"], groups["observed"], "s", color=figures.COLOURS[1], markersize=3.5)
            what = f"risk by {t:g} {unit}"
            axis.set(title=part, xlabel=f"predicted {what}", ylabel=f"observed {what}", xlim=(-0.01, 1.01),
                     ylim=(-0.01, 1.01))  # fmt: skip
            axis.set_aspect("equal")
    return figure


def predicted(rows: pd.DataFrame, unit: str) -> Figure:
    """Mean predicted (dashed) over observed survival (solid, with intervals) of risk groups, one panel per part."""
    parts = list(dict.fromkeys(rows["part"]))
    figure, axes = figures.new(width_mm=min(75 * len(parts) + 5, 180), height_mm=70, columns=len(parts), squeeze=False)
    for axis, part in zip(axes[0], parts, strict=True):
        for group in ("low", "high"):
            here = rows[(rows["part"] == part) & (rows["group"] == group)]
            colour = GROUP_COLOURS[group]
            seen, mean = here[here["kind"] == "observed"], here[here["kind"] == "predicted"]
            axis.step(seen["time"], seen["value"], where="post", color=colour, label=f"{group} risk, observed")
            axis.fill_between(seen["time"], seen["lower"].astype(float), seen["upper"].astype(float), step="post",
                              color=colour, alpha=0.12, linewidth=0)  # fmt: skip
            axis.plot(
                mean["time"], mean["value"], color=colour, linestyle=(0, (4, 2)), label=f"{group} risk, predicted"
            )
        axis.set(title=part, xlabel=f"time, {unit}", ylabel="survival", ylim=(0, 1.35), xlim=(0, None))
        axis.set_yticks(np.linspace(0, 1, 6))
        axis.legend(loc="upper right", handlelength=1.8, ncols=2)
    return figure


def decision(rows: pd.DataFrame, unit: str) -> Figure:
    """Net benefit against the threshold, a row of panels per time and a column per part; bands of a single model."""
    times, parts = list(dict.fromkeys(rows["time"])), list(dict.fromkeys(rows["part"]))
    models = [s for s in dict.fromkeys(rows["strategy"]) if s != EVERYBODY]
    figure, axes = figures.new(width_mm=min(80 * len(parts) + 5, 180), height_mm=70 * len(times), columns=len(parts),
                               rows=len(times), squeeze=False)  # fmt: skip
    top = max(float(rows["net_benefit"].max()), 0.01)
    for line, t in zip(axes, times, strict=True):
        for axis, part in zip(line, parts, strict=True):
            axis.axhline(0, color="#999999", linewidth=0.7)
            own = rows[(rows["part"] == part) & (rows["time"] == t)]
            for number, strategy in enumerate(models):
                here, colour = own[own["strategy"] == strategy], figures.COLOURS[number % len(figures.COLOURS)]
                if len(models) == 1:
                    axis.fill_between(here["threshold"], here["lower"], here["upper"], color=colour, alpha=0.15,
                                      linewidth=0)  # fmt: skip
                axis.plot(here["threshold"], here["net_benefit"], label=strategy, color=colour)
            everyone = own[own["strategy"] == EVERYBODY]
            axis.plot(everyone["threshold"], everyone["net_benefit"], label=EVERYBODY, **DIAGONAL)
            axis.set(title=f"{part}, {t:g} {unit}", xlabel="threshold risk", ylabel="net benefit",
                     ylim=(-0.15 * top, 1.05 * top))  # fmt: skip
            axis.legend(loc="upper right", handlelength=1.4)
    return figure
