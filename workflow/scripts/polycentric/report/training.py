"""Training curves, drawn from each model's history, and what its pictures looked like at the end."""

from __future__ import annotations

import base64
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import figures
from ..files import read_json
from .inputs import ModelFiles


def curves(models: Mapping[str, ModelFiles]) -> list[dict[str, Any]]:
    """A figure per model that has a history: every column against the first, which counts iterations or epochs."""
    result = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in models.items():
            if files.history is None:
                continue
            history = pd.read_csv(files.history)
            columns = shown(history)
            if history.empty or not columns:
                continue
            step = history.columns[0]
            path = Path(folder) / "curve.svg"
            _draw(history, step, columns, path)
            last = history.iloc[-1]
            result.append(
                {
                    "title": f"Training of {name}",
                    "caption": " ".join(
                        [
                            f"{'Losses and variety' if any(map(_ratio, columns)) else 'Losses'} by "
                            f"{step.replace('_', ' ')}; {len(history)} rows, the last at {last[step]:g}.",
                            *judged(files),
                            *warnings(files),
                        ]
                    ),
                    "uri": "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
                    "data": "data:text/csv;base64," + base64.b64encode(files.history.read_bytes()).decode(),
                    "data_name": f"{name}-history.csv",
                    "name": f"{name}-history.svg",
                }
            )
    return result


def shown(history: pd.DataFrame) -> list[str]:
    """Columns to draw: losses but those that were not computed (0 throughout), and ratios of variety."""
    numbers = [c for c in history.columns[1:] if c != "warnings" and pd.api.types.is_numeric_dtype(history[c])]
    return [c for c in numbers if history[c].notna().any() and (_ratio(c) or (history[c] != 0).any())]


def judged(files: ModelFiles) -> list[str]:
    """How much of a patch the discriminators of a synthesis model see at once, in a sentence."""
    if files.settings is None or not files.settings.exists():
        return []
    record = read_json(files.settings)
    if (seen := record.get("discriminator_sees_voxels")) is None:
        return []
    patch = record["settings"]["patch"]
    size = " x ".join(map(str, patch))
    beyond = ", as much as a whole patch" if seen >= min(patch) else ""
    return [f"Each verdict of a discriminator sees {seen} voxels along each axis of patches of {size}{beyond}."]


def warnings(files: ModelFiles) -> list[str]:
    """What was amiss in a model's training, in sentences; each names the iterations."""
    if files.settings is None or not files.settings.exists():
        return []
    return [
        f"Warning, iterations {entry['first']:,} to {entry['last']:,}: {entry['text']}"
        for entry in read_json(files.settings).get("warnings", ())
    ]


def sheets(models: Mapping[str, ModelFiles]) -> list[dict[str, Any]]:
    """The last sheet of sample pictures of each model that has one."""
    result = []
    for name, files in models.items():
        if files.samples is None or not files.samples.exists():
            continue
        with zipfile.ZipFile(files.samples) as archive:
            if not (drawn := sorted(archive.namelist())):
                continue
            picture = archive.read(drawn[-1])
        result.append(
            {
                "title": f"Training patches of {name} after iteration {int(Path(drawn[-1]).stem):,}",
                "caption": "Middles of scans of training patients, at first those of the source, below them those "
                "of the target. Columns: the scan, translated, the difference (red: higher; white where the units "
                "differ), translated back.",
                "uri": "data:image/png;base64," + base64.b64encode(picture).decode(),
                "name": f"{name}-samples.png",
            }
        )
    return result


def _ratio(column: str) -> bool:
    return column.startswith("variety")


def _draw(history: pd.DataFrame, step: str, columns: list[str], path: Path) -> None:
    """Losses on the left axis, ratios of variety (mode collapse shows here) below them in an axis of their own."""
    ratios = [column for column in columns if _ratio(column)]
    columns = [column for column in columns if column not in ratios]
    if ratios:
        fig, (axis, below) = figures.new(110, 92, rows=2, height_ratios=[3, 1], sharex=True)
        for index, column in enumerate(ratios):
            known = history[[step, column]].dropna()
            way = column.removeprefix("variety_")
            below.plot(known[step], known[column], color=figures.COLOURS[index], label=f"variety, {way}", linewidth=1.1)
        below.axhline(1.0, color="#999999", linewidth=0.6)
        below.set_ylim(bottom=0)
        below.set_xlabel(step.replace("_", " "))
        below.set_ylabel("variety,\nreal = 1")
        below.grid(axis="y")
    else:
        fig, axis = figures.new(110, 66)
        axis.set_xlabel(step.replace("_", " "))
    for index, column in enumerate(columns):
        line = "-" if index < len(figures.COLOURS) - 1 else "--"
        colour = figures.COLOURS[index % (len(figures.COLOURS) - 1)]
        known = history[[step, column]].dropna()
        axis.plot(known[step], known[column], line, color=colour, label=column.replace("_", " "), linewidth=1.1)
    values = history[columns].to_numpy()
    if (values[~pd.isna(values)] > 0).all():
        axis.set_yscale("log")
    axis.set_ylabel("loss")
    axis.grid(axis="y")
    fig.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    figures.save(fig, path)
