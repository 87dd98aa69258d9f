"""Training curves, drawn from each model's history."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import figures
from .inputs import ModelFiles


def curves(models: Mapping[str, ModelFiles]) -> list[dict[str, Any]]:
    """A figure per model that has a history: every column against the first, which counts iterations or epochs."""
    result = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in models.items():
            if files.history is None:
                continue
            history = pd.read_csv(files.history)
            columns = [c for c in history.columns[1:] if pd.api.types.is_numeric_dtype(history[c])]
            if history.empty or not columns:
                continue
            step = history.columns[0]
            path = Path(folder) / "curve.svg"
            _draw(history, step, columns, path)
            last = history.iloc[-1]
            result.append(
                {
                    "title": f"Training of {name}",
                    "caption": f"Losses by {step.replace('_', ' ')}; {len(history)} rows, the last at {last[step]:g}.",
                    "uri": "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
                    "data": "data:text/csv;base64," + base64.b64encode(files.history.read_bytes()).decode(),
                    "data_name": f"{name}-history.csv",
                    "name": f"{name}-history.svg",
                }
            )
    return result


def _draw(history: pd.DataFrame, step: str, columns: list[str], path: Path) -> None:
    fig, axis = figures.new(110, 66)
    for index, column in enumerate(columns):
        line = "-" if index < len(figures.COLOURS) - 1 else "--"
        colour = figures.COLOURS[index % (len(figures.COLOURS) - 1)]
        known = history[[step, column]].dropna()
        axis.plot(known[step], known[column], line, color=colour, label=column.replace("_", " "), linewidth=1.1)
    values = history[columns].to_numpy()
    if (values[~pd.isna(values)] > 0).all():
        axis.set_yscale("log")
    axis.set_xlabel(step.replace("_", " "))
    axis.set_ylabel("loss")
    axis.grid(axis="y")
    fig.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    figures.save(fig, path)
