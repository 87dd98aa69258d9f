"""Groups of patients by columns of the patient or the scan table, by which performance is shown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..errors import UserError
from ..tables.schemas import SCANS

SEVERAL = "several"


def groups(
    frame: pd.DataFrame, wanted: dict[str, tuple[float, ...]], scans: Path | None, training: np.ndarray, where: str
) -> dict[str, np.ndarray]:
    """Masks (n,) of the patients of `frame` by label, such as "sex: female" or "age_years: 60 or above".

    Numbers are divided at the given bounds (a bound belongs to the upper group), without bounds at the median of the
    training patients. A column of the scan table holds one value per patient, or the patient is in group "several".
    Patients without a value are in no group.
    """
    result: dict[str, np.ndarray] = {}
    images = tables.read(scans, SCANS) if scans is not None and wanted else None
    for name, bounds in wanted.items():
        values = _values(frame, name, images, where)
        numbers = pd.to_numeric(values, errors="coerce")
        if values.notna().any() and numbers.notna().sum() == values.notna().sum() and (bounds or values.nunique() > 6):
            at = numbers.to_numpy(dtype=float)
            known = at[training & np.isfinite(at)]
            edges = sorted(bounds) or ([float(np.median(known))] if len(known) else [])
            result |= {f"{name}: {label}": mask for label, mask in _by_bounds(at, edges)}
            continue
        if bounds:
            raise UserError(f"{where}: subgroups: {name!r} holds no numbers; write {name}: [] to take its values.")
        text = values.map(lambda v: None if pd.isna(v) else _text(v))
        for label in sorted(text.dropna().unique()):
            result[f"{name}: {label}"] = text.eq(label).to_numpy()
    return result


def _values(frame: pd.DataFrame, name: str, images: pd.DataFrame | None, where: str) -> pd.Series:
    if name in frame.columns:
        return frame[name].astype("object")
    if images is None or name not in images.columns:
        known = sorted({*map(str, frame.columns), *([] if images is None else map(str, images.columns))})
        raise UserError(f"{where}: subgroups: there is no column {name!r}; write one of {known}.")
    images = images[images["patient"].isin(frame.index)]
    known = images[images[name].notna() & images[name].astype(str).ne("")]
    each = known.groupby("patient")[name].agg(lambda v: v.iloc[0] if v.nunique() == 1 else SEVERAL)
    return each.reindex(frame.index).astype("object")


def _by_bounds(at: np.ndarray, edges: list[float]) -> list[tuple[str, np.ndarray]]:
    if not edges:
        return []
    parts = [(f"below {edges[0]:g}", at < edges[0])]
    parts += [(f"{a:g} to below {b:g}", (at >= a) & (at < b)) for a, b in pairwise(edges)]
    return [*parts, (f"{edges[-1]:g} or above", at >= edges[-1])]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
