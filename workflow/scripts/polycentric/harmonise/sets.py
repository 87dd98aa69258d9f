"""A feature set made from another one by harmonisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import ledger as ledgers
from .. import tables
from ..config.features import HarmonisedSet
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT
from .combat import ComBat


def harmonise(
    set_name: str,
    settings: HarmonisedSet,
    *,
    features: Path,
    scans: Path,
    patients: Path,
    split: Path,
    output: Path,
    model: Path,
    ledger: Path,
    upstream: Sequence[Path] = (),
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> None:
    """Fit ComBat on the training patients of a split and apply it to every row of a feature set.

    Each ROI is harmonised for itself. Writes the new set (schema features), the parameters as JSON and the ledger.
    Rows that are not ok pass through as they are.

    Raises
    ------
    UserError
        for missing batches or covariates, unseen batches, or training patients that an upstream model has seen.
    """
    where = f"features: {set_name}"
    frame = tables.read(features, FEATURES)
    names = [c for c in frame.columns if c not in FEATURES.columns and pd.api.types.is_float_dtype(frame[c])]
    parts = tables.read(split, SPLIT).set_index("patient")["part"]
    training = frame["patient"].map(parts).eq("training").fillna(False).astype(bool)
    ok = frame["status"].eq("ok")
    batch = _batches(frame, settings.batch, scans, ok, where)
    clinical = tables.read(patients, PATIENTS).set_index("patient")
    covariates = _covariates(frame, settings.covariates, clinical, ok, training & ok, where)

    fitted_on = frame.loc[ok & training, "patient"]
    ledgers.refuse_leaks(fitted_on, upstream, where=where)
    result = frame.copy()
    result["set"] = set_name
    record = {}
    rois = sorted(frame.loc[ok, "roi"].unique())
    for number, roi in enumerate(rois, start=1):
        rows = (ok & frame["roi"].eq(roi)).to_numpy()
        fit = rows & training.to_numpy()
        if not fit.any():
            raise UserError(f"{where}: no training patient of split {settings.split!r} has features of ROI {roi!r}")
        combat = ComBat(settings.parametric, settings.mean_only, settings.unseen, settings.reference)
        values = frame[names].to_numpy(dtype=float)
        combat.fit(values[fit], batch=batch[fit], covariates=covariates[fit])
        result.loc[rows, names] = combat.transform(values[rows], batch=batch[rows], covariates=covariates[rows])
        record[str(roi)] = combat.parameters()
        unchanged = int((~combat.adjusted_).sum())
        log.progress("regions", number, len(rois), roi=roi, training=int(fit.sum()), unchanged_features=unchanged)
    tables.write(result, output, FEATURES)
    write_json(
        model, {"schema_version": 1, "method": "combat", "batch": settings.batch, "features": names, "rois": record}
    )
    ledgers.write(
        ledger,
        name=set_name,
        stage="harmonise",
        split=settings.split,
        seen={"training": fitted_on},
        upstream=upstream,
        settings=settings_json,
        code=code,
    )


def _batches(frame: pd.DataFrame, column: str, scans: Path, ok: pd.Series, where: str) -> np.ndarray:
    """The batch of every row: its centre, or a column of its scan."""
    if column == "centre":
        return frame["centre"].to_numpy(dtype=object)
    table = tables.read(scans, SCANS).set_index("scan")
    if column not in table.columns:
        raise UserError(
            f"{where}: batch: the scans have no column {column!r}; write centre, manufacturer, model or kernel"
        )
    values = frame["scan"].map(table[column]).astype("string").fillna("")
    if missing := int((values.eq("") & ok).sum()):
        raise UserError(
            f"{where}: batch: {missing} rows have no {column} (their scan does not tell, or the features were "
            f"imported): choose another batch, such as centre"
        )
    return values.to_numpy(dtype=object)


def _covariates(
    frame: pd.DataFrame, names: Sequence[str], clinical: pd.DataFrame, ok: pd.Series, fit: pd.Series, where: str
) -> np.ndarray:
    """Covariates (rows, k): numbers as they are, text as indicators of every category but the first."""
    columns = []
    for name in names:
        if name not in clinical.columns:
            raise UserError(f"{where}: covariates: the clinical table has no column {name!r}")
        values = frame["patient"].map(clinical[name])
        if missing := int((values.isna() & ok).sum()):
            raise UserError(f"{where}: covariates: {name!r} is empty for {missing} rows; choose a complete column")
        if pd.api.types.is_bool_dtype(clinical[name]) or pd.api.types.is_numeric_dtype(clinical[name]):
            columns.append(values.astype("Float64").to_numpy(dtype=float, na_value=0.0))
            continue
        categories = sorted({str(v) for v in values[fit]})
        if unknown := sorted({str(v) for v in values[ok]} - {*categories}):
            raise UserError(f"{where}: covariates: {name!r} has values without training patients: {', '.join(unknown)}")
        columns.extend(values.astype("string").eq(c).fillna(False).to_numpy(dtype=float) for c in categories[1:])
    return np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))
