"""Rows of the index as slices: files of several frames give one row per frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import tables
from ..tables.private import INDEX
from .geometry import POSITION

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FRAMES = 20000
# times of change: a copied folder must give the same results; the others matter to pixels alone
_UNUSED = {
    "mtime_ns", "centre", "bits_allocated", "bits_stored", "high_bit", "signed", "photometric", "tilt_deg",
    "field_of_view_mm", "identity_removed",
}  # fmt: skip
SPACING = ["pixel_spacing_x_mm", "pixel_spacing_y_mm"]
# facts of a frame and the columns that they replace; where a frame is silent, the file's own value holds
_NUMBERS = {
    "thickness": "thickness_mm", "slope": "slope", "intercept": "intercept", "echo_time": "echo_time_ms",
    "b_value": "b_value",
}  # fmt: skip
_TEXTS = {"temporal": "temporal_position", "acquisition_time": "acquisition_time", "type": "image_type"}
_OWN = {"stack": "stack", "view": "view"}


def load(index: Path) -> pd.DataFrame:
    """The index by path, in numpy's types, each distinct text in memory once.

    An index of 600,000 files has 50 million values; pandas' own types and copies would take gigabytes.
    """
    import pyarrow.parquet as pq

    if (pq.read_schema(index).metadata or {}).get(b"schema", b"").decode() != INDEX.tag:
        tables.read(index, INDEX)  # says what to do
    names = [name for name in INDEX.columns if name not in _UNUSED]
    table = pq.read_table(index, columns=names).sort_by("path")
    return pd.DataFrame({name: _values(name, table.column(name)) for name in names}, copy=False)


def _values(name: str, column: pa.ChunkedArray) -> np.ndarray:
    kind = INDEX.columns[name].kind
    if kind == "text":
        coded = column.combine_chunks().dictionary_encode()
        texts = np.array(["", *coded.dictionary.to_pylist()], dtype=object)
        return texts[np.asarray(coded.indices.fill_null(-1)) + 1]
    if kind == "flag":
        return np.asarray(column.fill_null(False).combine_chunks().to_numpy(zero_copy_only=False), dtype=bool)
    return column.to_numpy().astype(float)


def expand(objects: pd.DataFrame) -> pd.DataFrame:
    """One row per frame, in a new index; `frame` counts the frames of a file from 0 and is NaN where it has one.

    Position and orientation come from the frame alone: those of the file, if it has them, hold for one frame at most.
    """
    counts = objects["frames"].fillna(1).clip(1, MOST_FRAMES).to_numpy(dtype=int)
    told = objects["frame_facts"].to_numpy() != ""
    if not ((counts > 1) | told).any():
        rows = objects.reset_index(drop=True).drop(columns="frame_facts")
        rows[["frame", "stack", "view"]] = np.nan, "", ""
        return rows
    facts: list[list[dict[str, Any]] | None] = [json.loads(t) if t else None for t in objects["frame_facts"]]
    counts = np.array([len(f) if f else n for f, n in zip(facts, counts, strict=True)])
    rows = objects.drop(columns="frame_facts").take(np.repeat(np.arange(len(objects)), counts)).reset_index(drop=True)
    number = np.concatenate([np.arange(n) for n in counts]).astype(float)
    many = np.repeat(counts > 1, counts)
    rows = rows.assign(frame=np.where(many, number, np.nan), stack="", view="")
    rows.loc[many, POSITION] = np.nan
    rows.loc[many, "orientation"] = ""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    labels = np.concatenate([start + np.arange(len(f)) for start, f in zip(starts, facts, strict=True) if f] or [[]])
    every = [frame for f in facts if f for frame in f]
    if every:
        labels = labels.astype(int)
        rows.loc[labels, POSITION] = _vectors(every, "position", 3)
        spacing = _vectors(every, "spacing", 2)
        rows.loc[labels, SPACING[::-1]] = np.where(np.isnan(spacing), rows.loc[labels, SPACING[::-1]], spacing)
        rows.loc[labels, "orientation"] = np.array([str(f.get("orientation") or "") for f in every], dtype=object)
        for fact, column in (_NUMBERS | _TEXTS | _OWN).items():
            empty = (None,) if fact in _NUMBERS else (None, "")
            given = np.array([f.get(fact) not in empty for f in every])
            kind = float if fact in _NUMBERS else str
            values = [kind(f[fact]) for f, there in zip(every, given, strict=True) if there]
            rows.loc[labels[given], column] = np.array(values, dtype=float if fact in _NUMBERS else object)
    return rows


def _vectors(frames: list[dict[str, Any]], fact: str, length: int) -> np.ndarray:
    """(n, length) numbers, NaN where a frame does not give them."""
    nothing = [np.nan] * length
    return np.array([f.get(fact) or nothing for f in frames], dtype=float).reshape(-1, length)
