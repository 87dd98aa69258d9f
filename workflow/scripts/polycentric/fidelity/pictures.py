"""Figures and pictures of the analysis of fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import figures
from ..artefacts import Artefacts
from ..volumes import Volume
from . import measures

if TYPE_CHECKING:
    from ..config.image_analyses import FidelityAnalysis

SHORT = {"mae_hu": "MAE, HU", "psnr_db": "PSNR, dB", "ssim": "SSIM"}


def triptych(
    path: Path, source: Volume, synthetic: Volume, within: np.ndarray, settings: FidelityAnalysis, hounsfield: bool
) -> None:
    """Source, synthetic and, of CT, difference, in the axial slice with most enhanced blood or in the middle one."""
    low, high = measures.TISSUES["enhanced blood"]
    enhanced = within & (source.array >= low) & (source.array < high) & hounsfield
    z = int(np.argmax(enhanced.sum(axis=(1, 2)))) if enhanced.any() else source.array.shape[0] // 2
    a, b = (image.array[z].astype(np.float32) for image in (source, synthetic))
    spacing = source.geometry.spacing[:2]
    limit = settings.difference
    title = "source"
    if not hounsfield:  # no unit: brought to the window of the synthetic image, whose scale is shown
        values = source.array[within] if within.any() else source.array
        dark, bright = np.quantile(values.astype(np.float64), (0.01, 0.99))
        bottom, top = settings.window
        a = bottom + (a - dark) / max(bright - dark, 1e-6) * (top - bottom)
        title = "source, its own scale"
    panels = [
        figures.Panel(a, spacing, settings.window, title),
        figures.Panel(b, spacing, settings.window, "synthetic"),
    ]
    if hounsfield:
        panels.append(figures.Panel(b - a, spacing, (-limit, limit), "synthetic minus source", map="difference"))
    figures.picture(path, panels, columns=len(panels))


def preserved(out: Artefacts, structure: dict[str, Any], truth: dict[str, Any], counts: dict[str, Any]) -> None:
    """What is kept of the anatomy; beside it, where there are true images, how near source and synthetic come."""
    rows = [{"group": "structure", "measure": m, "images": "synthetic", **f} for m, f in structure.items()]
    rows += [{"group": "truth", "measure": m, "images": i, **f} for m, found in truth.items() for i, f in found.items()]
    frame = pd.DataFrame(rows)[["group", "measure", "images", "value", "lower", "upper", "n"]]
    data = out.csv(frame, "tables/preserved.csv")
    measures_of = list(truth)
    fig, axes = figures.new(
        width_mm=180 if truth else 110, height_mm=65, columns=1 + len(measures_of), squeeze=False,
        width_ratios=[2.2, *[1] * len(measures_of)],
    )  # fmt: skip
    shown = frame[(frame["group"] == "structure")].reset_index(drop=True)
    _points(axes[0, 0], shown, [f"{m} (n = {n})" for m, n in zip(shown["measure"], shown["n"], strict=True)], 0)
    axes[0, 0].axvline(1, color="#555555", linewidth=0.8, linestyle="--")
    axes[0, 0].set_xlabel("after against before (1: nothing lost, no seams)")
    for number, measure in enumerate(measures_of, start=1):
        part = frame[(frame["group"] == "truth") & (frame["measure"] == measure)].reset_index(drop=True)
        _points(axes[0, number], part, list(part["images"]) if number == 1 else [""] * len(part), 1)
        axes[0, number].set_xlabel(SHORT[measure])
    path = out.folder / "figures" / "structure.svg"
    figures.save(fig, path)
    caption = (
        f"Anatomy before and after, {counts['synthetic']['patients']} patients that the generator has not seen"
        + (
            "; right: source and synthetic images against the true image of the same person (mean absolute error, "
            f"peak signal-to-noise ratio, structural similarity; {n} patients)"
            if (n := max((f["n"] for found in truth.values() for f in found.values()), default=0))
            else ""
        )
        + ". Points: mean over patients; bars: 95 % intervals, bootstrap of patients."
    )
    out.add("figure", path, "Structure", caption, data)


def _points(axis: Any, frame: pd.DataFrame, labels: list[str], colour: int) -> None:
    for place, row in enumerate(frame.astype(dict.fromkeys(("value", "lower", "upper"), float)).itertuples()):
        if np.isfinite(row.value):
            axis.plot(row.value, place, "o", color=figures.COLOURS[colour])
        if np.isfinite(row.lower):
            axis.plot([row.lower, row.upper], [place, place], color=figures.COLOURS[colour])
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def figures_of(
    out: Artefacts,
    changes: dict[str, Any],
    distances: dict[str, Any],
    domains: dict[str, Any],
    hu_range: tuple[float, float],
    counts: dict[str, Any],
) -> None:
    """The summary (HU change by tissue, or histograms where the source has no HU), the histograms, their numbers."""
    patients, target = counts["synthetic"]["patients"], counts["target"]["patients"]
    if changes:
        frame = pd.DataFrame([{"tissue": tissue, **e} for tissue, e in changes.items()])
        frame = frame[["tissue", "value", "lower", "upper", "n"]]
        data = out.csv(frame, "tables/tissue.csv")
        fig, axis = figures.new(width_mm=110, height_mm=70)
        _points(axis, frame, [f"{t} (n = {n})" for t, n in zip(frame["tissue"], frame["n"], strict=True)], 0)
        axis.axvline(0, color="#555555", linewidth=0.6)
        axis.set_xlabel("synthetic minus source, HU")
        path = out.folder / "figures" / "summary.svg"
        figures.save(fig, path)
        caption = (
            f"Mean change in HU by tissue of the source image, {patients} patients that the generator has not seen; "
            "bars: 95 % intervals, bootstrap of patients. 'body, absolute': mean absolute change in the body."
        )
        out.add("figure", path, "Change by tissue", caption, data)

    edges = np.linspace(*hu_range, domains["synthetic"].histograms.shape[1] + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    columns = {domain: d.histograms.mean(axis=0) for domain, d in domains.items() if d.patients}
    data = out.csv(pd.DataFrame({"hu": middle, **columns}), "tables/histogram.csv")
    fig, axis = figures.new(width_mm=110, height_mm=70)
    for (domain, fractions), colour in zip(columns.items(), figures.COLOURS, strict=False):
        shown = np.where(fractions > 0, fractions, np.nan)
        axis.plot(middle, shown, label=f"{domain} (n = {counts[domain]['patients']})", color=colour, linewidth=1)
    axis.set_yscale("log")
    axis.set_xlabel("HU")
    axis.set_ylabel("fraction of voxels of the body")
    axis.legend()
    path = out.folder / "figures" / ("histogram.svg" if changes else "summary.svg")
    figures.save(fig, path)
    caption = (
        f"Histograms within the body, mean over patients: {patients} of the source domain, {target} of the target."
    )
    out.add("figure", path, "Histograms", caption, data)

    rows = [
        {"distance": label, "images": images, **{k: e[k] for k in ("value", "lower", "upper", "n", "method")}}
        for label, found in distances.items()
        for images, e in found.items()
    ]
    out.table(
        pd.DataFrame(rows),
        "tables/distances.csv",
        "Distances to the target",
        f"Of {patients} patients of the source domain, before and after translation, to {target} of the target domain; "
        "95 % intervals, bootstrap of patients.",
    )
