"""Feature tables that were made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.features import ImportedSet
from ..errors import UserError
from ..files import canonical_json
from ..jobs import SILENT, Log
from ..shards import Row
from ..tables.schemas import FEATURES
from .shard import frame_of


def import_table(
    set_name: str,
    settings: ImportedSet,
    *,
    table: Path,
    pseudonym: Callable[[str, str], str],
    output: Path,
    withdrawn: Collection[str] = (),
    fold: str = "main",
    log: Log = SILENT,
) -> None:
    """Read a feature table into schema features, one row with status ok per patient and ROI.

    `pseudonym` turns a centre and an original patient identifier into the pseudonym. The rows belong to no
    scan of the study: their scan is `imported-<pseudonym>`, and a second row of a patient and ROI is
    `imported-<pseudonym>-2`, rejected with FEATURE_ROW_DUPLICATE.
    Dropped columns named `diagnostics_*` stay readable in the text column `diagnostics`.

    Raises
    ------
    UserError
        for absent columns, patterns that do not match, text in feature columns, and duplicates unless allowed.
    """
    where = f"features: {set_name}"
    frame = read_table(table, settings.sheet, where)
    keys = [c for c in (settings.columns.patient, settings.columns.roi, settings.columns.centre) if c is not None]
    if absent := [c for c in keys if c not in frame.columns]:
        shown = ", ".join(map(str, frame.columns[:8]))
        raise UserError(f"{where}: columns: the table has no column {absent}; it begins with {shown}, ...")

    patients = _captured(frame[settings.columns.patient], settings.patient_pattern, f"{where}: patient_pattern")
    whole = settings.rois[0] if len(settings.rois) == 1 else "whole"
    rois = pd.Series(whole, index=frame.index)
    if settings.columns.roi is not None:
        rois = _captured(frame[settings.columns.roi], settings.roi_pattern, f"{where}: roi_pattern")
    if absent := sorted({*settings.rois} - {*rois}):
        raise UserError(f"{where}: rois: {absent} are not in the table; it has {sorted({*rois})[:10]}")
    centres = frame[settings.columns.centre].astype(str) if settings.columns.centre else None

    dropped = [c for c in frame.columns if c not in keys and any(fnmatchcase(str(c), p) for p in settings.drop)]
    features = [c for c in frame.columns if c not in keys and c not in dropped]
    text = [c for c in features if not pd.api.types.is_numeric_dtype(frame[c])]
    if text:
        raise UserError(
            f"{where}: {len(text)} columns hold text, not numbers ({', '.join(map(str, text[:5]))}): "
            f"name them under `drop`"
        )
    if clash := sorted({*features} & {*FEATURES.columns}):
        raise UserError(f"{where}: columns {clash} have names that Polycentric uses itself: name them under `drop`")
    diagnostics = [c for c in dropped if str(c).startswith("diagnostics_")]
    values = frame[features].to_numpy(dtype=float, na_value=np.nan)

    rows: list[Row] = []
    first: dict[tuple[str, str], int] = {}
    copies: dict[tuple[str, str], int] = {}
    wanted = [i for i in range(len(frame)) if not settings.rois or rois.iloc[i] in settings.rois]
    for i in wanted:
        centre = settings.centre or centres.iloc[i]
        name, roi = pseudonym(centre, patients.iloc[i]), rois.iloc[i]
        if name in withdrawn:
            continue
        row: Row = {
            "centre": centre,
            "patient": name,
            "session": "imported",
            "scan": f"imported-{name}",
            "set": set_name,
            "view": "",
            "source": "",
            "roi": roi,
            "fold": fold,
            "status": "ok",
            "reason": "",
            "diagnostics": canonical_json({c: _plain(frame[c].iloc[i]) for c in diagnostics}),
        }
        if (name, roi) in first:
            number = copies[name, roi] = copies.get((name, roi), 1) + 1
            differing = int((~_equal(values[i], values[first[name, roi]])).sum())
            how = f"{differing} of {len(features)} features differ" if differing else "with equal values"
            row |= {
                "scan": f"imported-{name}-{number}",
                "status": "rejected",
                "reason": f"FEATURE_ROW_DUPLICATE: row {number} of this patient and ROI, {how}; the first is used",
            }
        else:
            first[name, roi] = i
        rows.append(row | dict(zip(map(str, features), values[i].tolist(), strict=True)))
    if copies and settings.duplicates == "error":
        raise UserError(
            f"{where}: {len(copies)} patients have more than one row of the same ROI. Remove the rows, or write "
            f"`duplicates: first` to use the first of each and code the others as rejected."
        )
    log.event(
        "imported",
        rows=len(frame),
        taken=len(rows),
        other_rois=len(frame) - len(wanted),
        duplicates=sum(row["status"] != "ok" for row in rows),
        patients=len({row["patient"] for row in rows}),
        features=len(features),
        dropped=len(dropped),
    )
    log.event("dropped", quiet=True, columns=[str(c) for c in dropped])
    result = frame_of(rows).sort_values(["centre", "patient", "scan", "roi"], kind="stable", ignore_index=True)
    tables.write(result, output, FEATURES)


def read_table(path: Path, sheet: str | None, where: str) -> pd.DataFrame:
    """A table from CSV, TSV, XLSX or Parquet, by suffix."""
    if not path.is_file():
        raise UserError(f"{where}: table: there is no file {path.name}; check the path in the study file")
    suffix = path.suffix.lower()
    if suffix == ".xlsx":
        return pd.read_excel(path, sheet_name=0 if sheet is None else sheet)
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix in (".csv", ".tsv", ".txt"):
        return pd.read_csv(path, sep="," if suffix == ".csv" else "\t")
    raise UserError(f"{where}: table: {path.name} must end in .csv, .tsv, .xlsx or .parquet")


def _captured(column: pd.Series, pattern: str | None, where: str) -> pd.Series:
    """The column as text, or the first group of a pattern in it."""
    text = column.astype("string").str.strip()
    if text.isna().any():
        raise UserError(f"{where}: column {column.name!r} has {int(text.isna().sum())} empty cells; remove those rows")
    if pattern is None:
        return text.astype(object)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}: {pattern!r} is no regular expression: {error}") from None
    if compiled.groups < 1:
        raise UserError(f"{where}: {pattern!r} needs a group in parentheses around the part to keep")
    matches = [compiled.search(value) for value in text]
    if wrong := [i for i, m in enumerate(matches) if m is None]:
        raise UserError(f"{where}: {pattern!r} does not match {len(wrong)} rows, the first is row {wrong[0] + 1}")
    return pd.Series([m.group(1) for m in matches if m is not None], index=column.index)


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value)
