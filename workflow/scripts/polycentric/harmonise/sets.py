"""A feature set made from another one by harmonisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger as ledgers
from .. import tables
from ..config.features import HarmonisedSet
from ..errors import UserError
from ..feature_names import columns
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT
from ..where import holds
from . import phantom as phantoms
from .combat import ComBat
from .scores import NormalScores


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
    phantom: Path | None = None,
    upstream: Sequence[Path] = (),
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> None:
    """Fit ComBat on training patients of a split, or on phantom scans, and apply it to every row of a feature set.

    Each ROI is harmonised for itself by patients; location and scale of phantoms hold for all ROIs. `phantom` is the
    table of `settings.phantom.features`; None: phantoms are rows of `features`. Writes the new set (schema features),
    the parameters as JSON and the ledger. Rows that are not ok pass through as they are.

    Raises
    ------
    UserError
        for missing batches or covariates, unseen batches, training patients that an upstream model has seen, or
        phantoms among the patients that a split holds out.
    """
    where = f"features: {set_name}"
    frame = tables.read(features, FEATURES)
    names = columns(frame)
    parts = tables.read(split, SPLIT).set_index("patient")["part"]
    facts = Facts(tables.read(scans, SCANS), tables.read(patients, PATIENTS))
    ok = frame["status"].eq("ok")
    part = frame["patient"].map(parts)
    training = part.eq("training").fillna(False).astype(bool)

    judged, seen_phantoms = None, []
    if settings.phantom is not None:
        source = frame if phantom is None else tables.read(phantom, FEATURES)
        rows = source[source["status"].eq("ok")].reset_index(drop=True)
        if settings.phantom.where is not None:
            rows = rows[holds(settings.phantom.where, facts.of(rows), where=f"{where}: phantom: where")]
        seen_phantoms = sorted(set(rows["patient"]))
        held_out = [p for p in seen_phantoms if parts.get(p) in ("test", "validation", "external")]
        if held_out:
            raise UserError(
                f"{where}: phantom: {len(held_out)} of {len(seen_phantoms)} phantoms are held out by split "
                f"{settings.split!r} ({held_out[0]} is in {parts[held_out[0]]}). Leave phantoms out of the split."
            )
        training &= ~frame["patient"].isin(seen_phantoms)
        judged = _judge(settings, rows, facts, names, where)
        fates = judged.features["fate"].value_counts().sort_index()
        log.event("phantoms", subjects=judged.subjects, retests=judged.retests, **fates.astype(int).to_dict())

    by_patients = settings.fit == "patients"
    batch = facts.batches(frame, settings.batches, ok, where)
    covariates = _covariates(frame, settings.covariates, facts.patients, ok, training & ok, where)
    fitted_on = set(frame.loc[ok & training, "patient"]) if by_patients else set()
    seen = sorted(fitted_on | {*seen_phantoms})
    ledgers.refuse(seen, (), upstream, split=settings.split, where=where)
    result = frame.copy()
    result["set"] = set_name
    record: dict[str, Any] = {}
    rois = sorted(frame.loc[ok, "roi"].unique())
    values = frame[names].to_numpy(dtype=float)
    options = {"parametric": settings.parametric, "mean_only": settings.mean_only, "reference": settings.reference}
    for number, roi in enumerate(rois, start=1):
        rows = (ok & frame["roi"].eq(roi)).to_numpy()
        fit = rows & training.to_numpy()
        difference = scores = None
        if by_patients:
            if not fit.any():
                raise UserError(f"{where}: no training patient of split {settings.split!r} has features of ROI {roi!r}")
            if settings.scale == "normal-scores":
                scores = NormalScores.fit(values[fit])
                values[rows] = scores.transform(values[rows])
            combat = ComBat(**options, unseen=settings.unseen)
            combat.fit(values[fit], batch=batch[fit], covariates=covariates[fit],
                       phantom=judged.link if judged else None)  # fmt: skip
            if settings.parametric and not settings.mean_only:
                difference = _stopping_difference(combat, options, values[fit], batch[fit], covariates[fit])
        else:
            combat = judged.combat.set_params(unseen=settings.unseen)
        result.loc[rows, names] = combat.transform(values[rows], batch=batch[rows], covariates=covariates[rows])
        record[str(roi)] = combat.parameters() | {"stopping_difference": difference}
        if scores is not None:
            record[str(roi)] |= {"normal_scores": scores.parameters()}
        unchanged = int((~combat.adjusted_).sum())
        log.progress("regions", number, len(rois), roi=roi, training=int(fit.sum()), unchanged_features=unchanged)
    kept = names
    if not by_patients:
        fates = judged.features.set_index("feature")["fate"]
        kept = [n for n in names if fates[n] in ("concordant", "harmonised")]
        if not kept:
            raise UserError(
                f"{where}: no feature agrees between the batches of the phantom scans, with or without harmonisation "
                f"({fates.value_counts().to_dict()}); lower phantom: ccc, or choose another batch"
            )
        result = result.drop(columns=[n for n in names if n not in kept])
    tables.write(result, output, FEATURES)
    model_record = {
        "schema_version": 2,
        "method": "combat",
        "fit": settings.fit,
        "batch": list(settings.batches),
        "features": names,
        "kept": kept,
        "rois": record,
        "phantom": None if judged is None else _listed(judged, settings.phantom.ccc),
    }
    write_json(model, model_record)
    ledgers.write(
        ledger,
        name=set_name,
        stage="harmonise",
        split=settings.split,
        seen={"training": seen},
        upstream=upstream,
        settings=settings_json,
        code=code,
    )


def _judge(settings: HarmonisedSet, rows: pd.DataFrame, facts: Facts, names: list[str], where: str) -> phantoms.Judged:
    assert settings.phantom is not None
    if missing := [n for n in names if n not in rows.columns]:
        raise UserError(
            f"{where}: phantom: their feature set lacks {len(missing)} of the {len(names)} features, such as "
            f"{missing[0]!r}; extract both with the same recipe"
        )
    rows = rows.assign(**{"|visit": facts.visits(rows)}).sort_values(
        ["centre", "patient", "roi", "|visit", "scan"], kind="stable", ignore_index=True
    )
    every = pd.Series(True, index=rows.index)
    return phantoms.judge(
        rows[names].to_numpy(dtype=float),
        (rows["patient"].astype(str) + "\x1f" + rows["roi"].astype(str)).to_numpy(dtype=object),
        facts.batches(rows, settings.batches, every, f"{where}: phantom"),
        names,
        limit=settings.phantom.ccc,
        settings={"parametric": settings.parametric, "mean_only": settings.mean_only, "reference": settings.reference},
        where=where,
    )


def _listed(judged: phantoms.Judged, limit: float) -> dict[str, Any]:
    table = judged.features.astype(object).where(judged.features.notna(), None)
    counts = {"subjects": judged.subjects, "retests": judged.retests, "limit": limit}
    return counts | {"features": table.to_dict("list")}


def _stopping_difference(
    combat: ComBat, options: dict[str, Any], values: np.ndarray, batch: np.ndarray, covariates: np.ndarray
) -> float:
    """Largest difference between full convergence and neuroCombat's stopping rule, in SD of a feature."""
    early = ComBat(**options, stopping="neurocombat").fit(values, batch=batch, covariates=covariates)
    known = {"batch": batch, "covariates": covariates}
    difference = np.abs(combat.transform(values, **known) - early.transform(values, **known))
    scaled = difference / np.where(combat.adjusted_, combat.scale_, np.nan)
    return float(np.nanmax(scaled)) if np.isfinite(scaled).any() else 0.0


class Facts:
    """What is known of the scan and of the patient behind each row of a feature table."""

    def __init__(self, scans: pd.DataFrame, patients: pd.DataFrame) -> None:
        self.scans = scans.set_index("scan")
        self.patients = patients.set_index("patient")

    def column(self, rows: pd.DataFrame, name: str, where: str) -> pd.Series:
        """A column of the rows, of their scans, or of their patients."""
        if name in ("centre", "patient", "session", "scan", "roi", "source", "view", "set"):
            return rows[name]
        if name in self.scans.columns:
            return rows["scan"].map(self.scans[name])
        if name in self.patients.columns:
            return rows["patient"].map(self.patients[name])
        known = ", ".join(dict.fromkeys(["centre", *map(str, self.scans.columns), *map(str, self.patients.columns)]))
        raise UserError(f"{where}: the scans and patients have no column {name!r}; write one of {known}")

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """All of them side by side, for conditions."""
        keys = ["centre", "patient", "session", "scan", "roi", "source", "view", "set"]
        names = [n for n in dict.fromkeys([*self.scans.columns, *self.patients.columns]) if n not in keys]
        return pd.concat([rows[keys], *(self.column(rows, n, "").rename(n) for n in names)], axis=1)

    def visits(self, rows: pd.DataFrame) -> pd.Series:
        """Number of the visit, where the table of scans has it; else 0."""
        if "timepoint" not in self.scans.columns:
            return pd.Series(0.0, index=rows.index)
        return rows["scan"].map(self.scans["timepoint"]).astype(float).fillna(0.0)

    def batches(self, rows: pd.DataFrame, names: Sequence[str], ok: pd.Series, where: str) -> np.ndarray:
        """The batch of every row; several columns are joined."""
        found = []
        for name in names:
            values = self.column(rows, name, f"{where}: batch").astype("string").fillna("")
            if missing := int((values.eq("") & ok).sum()):
                raise UserError(
                    f"{where}: batch: {missing} rows have no {name} (their scan does not tell, or the features were "
                    f"imported): choose another batch, such as centre"
                )
            found.append(values)
        joined = found[0]
        for values in found[1:]:
            joined = joined + " / " + values
        return joined.to_numpy(dtype=object)


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
