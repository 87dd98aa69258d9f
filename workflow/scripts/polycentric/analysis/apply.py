"""Kept models applied to a feature table, without fitting anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger, outcomes, tables
from ..artefacts import TableArtefacts
from ..config.classification import Application, ClassificationAnalysis
from ..config.clinical import ColumnSettings
from ..config.survival import SurvivalAnalysis
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import PATIENTS
from . import apply_survival, data, leaks, subgroups
from .apply_judge import Applied, judge
from .artefacts import read_skops
from .classify_study import join, lesion_rows
from .schemas import APPLIED


def apply(
    name: str,
    settings: Application,
    *,
    models: list[Path],
    record: Path,
    features: Path | None,
    patients: Path,
    outcome: Any,
    columns: Mapping[str, ColumnSettings] | None,
    folder: Path,
    ledgers: Sequence[Path] = (),
    seed: int = 1,
    scans: Path | None = None,
    root: Path | None = None,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Write `predictions.parquet` of every patient of a feature table, `metrics.json`, and, with an outcome, tables and
    figures with their `manifest.tsv`; return the metrics.

    Parameters
    ----------
    models
        fitted chains (.skops); the probabilities of several are averaged, as in an ensemble.
    features
        the feature table, or None for a model of clinical columns alone.
    record
        ledger of the analysis that fitted them: how it read its tables, and whom it has seen.
    ledgers
        of every model behind the features.
    outcome
        the declared outcome, or None; performance is that of patients whom neither the model nor one behind its
        features has seen. A threshold that is the best one of these patients, and not of those who trained the model,
        is a warning.
    scans
        scan table, for groups by scanner.
    root
        results folder, to which paths in the manifest relate (default: `folder`).

    Raises
    ------
    UserError
        if the table lacks a column of the chain, or a threshold is given for several classes.
    """
    where = f"apply: {name}"
    entry = ledger.read(record)
    analysis = json.loads(entry["settings"])["analysis"]
    frame = tables.read(patients, PATIENTS).set_index("patient", drop=False).sort_index()
    seen = {
        patient
        for own in [entry, *(ledger.read(path) for path in ledgers)]
        for found in ledger.seen_by(own).values()
        for patient in found
    }
    warnings = [
        f"Features {own!r}: it is not known {what}; patients among them are not recognised as seen."
        for own, what in ledger.unknown([record, *ledgers]).items()
    ]
    artefacts = TableArtefacts(folder, root or folder)
    performance: dict[str, Any] = {}
    if analysis["kind"] == "survival":
        if settings.threshold is not None or settings.subgroups:
            raise UserError(f"{where}: threshold and subgroups are for classifiers; leave them out here.")
        followed = SurvivalAnalysis.model_validate(analysis)
        (path,) = models
        result, facts = apply_survival.predict(frame, followed, path, record, features, columns, where)
        result["seen"] = np.where(result["patient"].isin(seen), "yes", "no")
        if outcome is not None:
            performance = _survived(name, frame, followed, result, outcome, seed, where)
        artefacts.write()
        return _write(name, settings, result, len(frame), performance, folder, facts, warnings, log)
    fitted = ClassificationAnalysis.model_validate(analysis)
    if features is None and fitted.features:
        raise UserError(f"{where}: the model has features; write features: <set>.")
    of, patient = _features(features, frame, fitted, where)
    clinical = data.clinical(frame, fitted.clinical, where, columns)
    names = of.index if patient is None else frame.index[patient]
    table = pd.concat([clinical.loc[names].set_axis(of.index), of], axis=1)
    p, labels = [], []
    for path in models:
        chain = read_skops(path)
        front = chain.named_steps["front"]
        if missing := sorted(set(front.columns_) - set(table.columns)):
            raise UserError(
                f"{where}: features {settings.features!r} lack {len(missing)} columns of the model, such as "
                f"{missing[0]!r}: make them with the recipe that the model's features had."
            )
        p.append(chain.predict_proba(table) if len(table) else np.empty((0, len(front.labels_))))
        labels.append([str(label) for label in front.labels_])
    if any(other != labels[0] for other in labels):
        raise UserError(f"{where}: the models of the ensemble know different classes.")
    probability, classes = np.mean(p, axis=0), labels[0]
    ids = list(names)
    if patient is not None and len(ids):
        assert fitted.lesions is not None
        probability = join(probability, patient, fitted.lesions.join)
        ids = list(frame.index[np.unique(patient)])
    if settings.threshold is not None and len(classes) != 2:
        raise UserError(
            f"{where}: threshold: the model knows {len(classes)} classes, and calls the likeliest one; leave out "
            "threshold:."
        )
    result = frame.loc[ids, ["centre", "patient"]].reset_index(drop=True)
    result["seen"] = ["yes" if patient in seen else "no" for patient in ids]
    for k, label in enumerate(classes):
        result[f"probability_{label}"] = probability[:, k]
    if settings.threshold is not None:
        called = probability[:, 1] >= settings.threshold
        result["predicted"] = np.where(np.isfinite(probability[:, 1]), called, np.nan)
    if outcome is not None:
        y = _outcome(frame, outcome, classes, where).reindex(ids).to_numpy(dtype=float)
        result["outcome"] = y
        kept = np.isfinite(y) & result["seen"].eq("no").to_numpy()
        who = frame.loc[np.array(ids)[kept]] if kept.any() else frame.iloc[:0]
        by = {"centre": (), **settings.subgroups}
        groups = subgroups.groups(who, by, scans, np.ones(len(who), dtype=bool), where)
        applied = Applied(name, seed, fitted, classes, y[kept].astype(int), probability[kept], groups,
                          settings.threshold)  # fmt: skip
        performance = judge(applied, artefacts)
        if settings.threshold is not None:
            trained = np.isfinite(y) & np.isin(ids, entry["seen"]["training"])
            both = kept | trained
            traces = leaks.threshold(
                settings.threshold, y[both] > 0, probability[both, 1], trained[both], name="threshold"
            )
            warnings += leaks.check(traces, where)
    artefacts.write()
    return _write(name, settings, result, len(frame), performance, folder, {}, warnings, log)


def _write(
    name: str,
    settings: Application,
    result: pd.DataFrame,
    patients: int,
    performance: dict[str, Any],
    folder: Path,
    facts: dict[str, Any],
    warnings: list[str],
    log: Log,
) -> dict[str, Any]:
    if known := int(result["seen"].eq("yes").sum()):
        warnings.insert(
            0,
            f"{known} of {len(result)} patients were seen when the model, or one behind its features, was fitted: "
            "their predictions stand in the table (seen: yes) and count in no estimate.",
        )
    if lacking := patients - len(result):
        warnings.append(
            f"{lacking} of {patients} patients of the cohort have no row of features that is ok: they have no "
            "prediction."
        )
    told = next((c for c in ("time", "outcome") if c in result), None)
    unknown = int(result[told].isna().sum()) if told else None
    if unknown:
        warnings.append(
            f"{unknown} of {len(result)} patients have no outcome, or one that the model does not know: they count in "
            "no estimate."
        )
    tables.write(result.reset_index(drop=True).sort_values("patient"), folder / "predictions.parquet", APPLIED)
    metrics = {
        "schema_version": 1,
        "kind": "application",
        "application": name,
        "model": settings.model,
        "features": settings.features,
        "threshold": settings.threshold,
        "patients": len(result),
        "seen": known,
        "without_features": lacking,
        "without_outcome": unknown,
        **facts,
        "performance": performance,
        "warnings": warnings,
    }
    write_json(folder / "metrics.json", metrics)
    for text in warnings:
        log.event("warning", text=text)
    log.progress("patients", len(result), len(result))
    return metrics


def _survived(
    name: str, frame: pd.DataFrame, fitted: SurvivalAnalysis, result: pd.DataFrame, outcome: Any, seed: int, where: str
) -> dict[str, Any]:
    """Add time and event to the predictions; performance in patients whom no fit has seen."""
    followed = data.survival(frame.loc[result.index], outcome, fitted.horizon_days, where)
    result["time"], result["event"] = followed["time"], followed["event"]
    judged = (result["time"].notna() & result["seen"].eq("no")).to_numpy()
    kept = result[judged]
    cause = None
    if fitted.competing is not None:
        cause = data.causes(frame.loc[result.index], outcome, followed, fitted.competing)[judged]
    time, event, index = (kept[c].to_numpy(dtype=float) for c in ("time", "event", "index"))
    groups = kept["group"].to_numpy(dtype=object) if "group" in kept else None
    return apply_survival.performance(
        name, time, event > 0, index, groups, cause, samples=fitted.bootstraps, level=fitted.level, seed=seed
    )


def _features(
    path: Path | None, frame: pd.DataFrame, fitted: ClassificationAnalysis, where: str
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Rows of the chain (patients or lesions), and the position in `frame` of each lesion's patient."""
    if not fitted.features or path is None:
        return pd.DataFrame(index=frame.index), None
    if fitted.lesions:
        values, _ = lesion_rows(path, frame.index, fitted, fitted.lesions.model_copy(update={"outcome": None}), where)
        values = values.sort_index()
        return values, frame.index.get_indexer(values.index.get_level_values("patient"))
    values, _ = data.features(path, frame.index, rois=fitted.rois, aggregate=fitted.aggregate, where=where)
    return values, None


def _outcome(frame: pd.DataFrame, outcome: Any, classes: list[str], where: str) -> pd.Series:
    if outcome.type != "multiclass":
        return data.binary(frame, outcome, where)
    text = outcomes.as_text(outcomes.column(frame, outcome.column, where))
    return text.map({label: float(k) for k, label in enumerate(classes)}).astype(float)
