"""Pictures: slices with outlines per centre; what a model made beside what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import figures, tables, volumes
from ..jobs import Log
from ..tables import schemas
from .results import number as number_text
from .writing import plural

OUTLINE_NAMES = ("orange", "light blue", "pink", "green", "yellow")


@dataclass(frozen=True)
class Picture:
    """A picture file with its words."""

    path: Path
    title: str
    caption: str


def window_text(window: tuple[int, int]) -> str:
    return f"window {number_text(window[0])} to {number_text(window[1])} HU"


def masks_of(scan: str, masks: pd.DataFrame, root: Path) -> list[tuple[str, volumes.Volume]]:
    """(source and roi, mask) of a scan, in order."""
    rows = masks[(masks["scan"] == scan) & (masks["status"] == "ok")].sort_values(["source", "roi", "fold"])
    return [(f"{r['source']}: {r['roi']}", volumes.read(root / r["path"])) for r in rows.to_dict("records")]


def best_slice(shape: tuple[int, ...], outlines: Sequence[np.ndarray]) -> int:
    """The slice in which the outlined regions are largest; the middle one without any."""
    area = sum((m.astype(bool).sum(axis=(1, 2)) for m in outlines), np.zeros(shape[0], dtype=int))
    return int(area.argmax()) if area.any() else shape[0] // 2


def scans(
    manifests: Sequence[Path],
    masks: Mapping[str, Sequence[Path]],
    root: Path,
    folder: Path,
    *,
    number: int,
    window: tuple[int, int],
    log: Log,
) -> list[Picture]:
    """One picture per centre with slices of up to `number` scans, those with outlines first."""
    rows = tables.read_all(list(manifests), schemas.VOLUMES)
    rows = rows[rows["status"] == "ok"]
    outlined = tables.read_all([p for source in sorted(masks) for p in masks[source]], schemas.MASKS)
    has = set(outlined.loc[outlined["status"] == "ok", "scan"])
    result = []
    centres = sorted(rows["centre"].unique())
    for count, centre in enumerate(centres, start=1):
        own = rows[rows["centre"] == centre].assign(bare=lambda r: ~r["scan"].isin(has))
        own = own.sort_values(["bare", "scan"]).drop_duplicates("patient").head(number)
        panels, names = [], []
        for row in own.to_dict("records"):
            volume = volumes.read(root / row["path"], row)
            found = [(n, m) for n, m in masks_of(row["scan"], outlined, root) if m.array.shape == volume.array.shape]
            names += [n for n, _ in found if n not in names]
            ordered = [next((m.array for n, m in found if n == name), None) for name in names]
            index = best_slice(volume.array.shape, [m.array for _, m in found])
            outlines = tuple(m[index] > 0 if m is not None else np.zeros(volume.array.shape[1:], bool) for m in ordered)
            sx, sy, _ = volume.geometry.spacing
            title = f"{row['patient'][:12]} · slice {index + 1} of {volume.array.shape[0]}"
            panels.append(figures.Panel(volume.array[index], (sx, sy), window, title, outlines))
        if panels:
            path = folder / f"scans-{centre}.jpg"
            figures.picture(path, panels, columns=max(number, 1), width_mm=60 * max(number, 1) + 10)
            caption = f"{plural(len(panels), 'scan')} of {centre}, {window_text(window)}."
            if names:
                legend = (f"{n} {OUTLINE_NAMES[k % len(OUTLINE_NAMES)]}" for k, n in enumerate(names))
                caption += f" Outlines: {', '.join(legend)}."
            result.append(Picture(path, f"Scans of {centre}", caption))
        log.progress("pictures of centres", count, len(centres))
    return result


def synthetic_views(study: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(view, the view it is made from, the model) of every view that a model makes."""
    result = []
    for name, view in sorted((study.get("views") or {}).items()):
        source = view.get("from", view.get("from_", view.get("source")))
        if view.get("synthesis") and source:
            result.append((name, source, view["synthesis"]))
    return result


def translations(
    view: str,
    source: str,
    model: str,
    manifests: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Sequence[Path]],
    root: Path,
    path: Path,
    *,
    held_out: set[str] | None,
    prefer: set[str] | None,
    number: int,
    window: tuple[int, int],
    difference: int,
) -> Picture | None:
    """Source, synthetic image and difference of up to `number` scans that the model has not seen.

    Scans of `prefer` (those that the model is meant to translate) come first, then in the order of their ids, one per
    centre before a second of any: no picture is chosen by how it looks.
    """
    a, b = (tables.read_all(list(manifests[v]), schemas.VIEWS) for v in (source, view))
    rows = a[a["status"] == "ok"].merge(
        b[b["status"] == "ok"], on=["centre", "patient", "scan"], suffixes=("", "_made")
    )
    rows = rows[(rows["sha256"] != rows["sha256_made"])]
    if held_out is not None and rows["patient"].isin(held_out).any():
        rows = rows[rows["patient"].isin(held_out)]
        unseen = " of patients that the model has not seen"
    else:
        unseen = ""
    if rows.empty or number == 0:
        return None
    rows = rows.assign(other=~rows["scan"].isin(prefer or set())).sort_values(["other", "centre", "scan"])
    rows = (
        rows.assign(turn=rows.groupby("centre").cumcount())
        .sort_values(["other", "turn", "centre", "scan"])
        .head(number)
    )
    outlined = tables.read_all([p for s in sorted(masks) for p in masks[s]], schemas.MASKS)
    panels = []
    for row in rows.to_dict("records"):
        before = volumes.read(root / row["path"], row)
        made = {c: row[f"{c}_made"] for c in schemas.GRID}
        after = volumes.read(root / row["path_made"], made)
        if before.array.shape != after.array.shape:
            continue
        regions = [
            volumes.resample(volumes.moved(m, row), before.geometry, interpolation="nearest").array
            for _, m in masks_of(row["scan"], outlined, root)
        ]
        index = best_slice(before.array.shape, regions)
        sx, sy, _ = before.geometry.spacing
        one, two = before.array[index].astype(float), after.array[index].astype(float)
        panels += [
            figures.Panel(one, (sx, sy), window, f"{row['centre']} · {source}"),
            figures.Panel(two, (sx, sy), window, f"{view}: synthetic"),
            figures.Panel(two - one, (sx, sy), (-difference, difference), "synthetic − source", map="difference"),
        ]
    if not panels:
        return None
    figures.picture(path, panels, columns=3, width_mm=170)
    caption = (
        f"{plural(len(panels) // 3, 'scan')}{unseen}: {source} (left), {view} as made by {model} (middle), both with "
        f"{window_text(window)}, and the difference (right, ±{difference} HU)."
    )
    return Picture(path, f"{source} to {view}", caption)
