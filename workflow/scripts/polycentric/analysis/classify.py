"""Classification of an outcome: chains fitted on training, evaluated on every other part.

`classify_study` reads, `tuning` fits, `classify_evaluate` and `schemes` judge, `explain` explains; `classify_tables`
and `classify_figures` write what the report shows; `classify_calibration`, `classify_groups` and `classify_size` judge
and write: calibration and decision curves, groups of patients, sample size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import ledger, tables
from ..artefacts import TableArtefacts
from ..config.classification import ClassificationAnalysis
from ..config.clinical import ColumnSettings
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..words import in_words
from . import (
    classify_calibration,
    classify_evaluate,
    classify_figures,
    classify_groups,
    classify_null,
    classify_size,
    classify_tables,
    data,
    explain,
    multiclass,
    schemes,
    tuning,
)
from .artefacts import write_skops
from .classify_evaluate import Scored
from .classify_fit import fit_arm, key_of
from .classify_study import Study, read


def analyse(
    name: str,
    settings: ClassificationAnalysis,
    *,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    permutations: Sequence[Path] = (),
    scans: Path | None = None,
    columns: Mapping[str, ColumnSettings] | None = None,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Fit and evaluate every model on every feature set; write the analysis folder; return the metrics.

    Parameters
    ----------
    features
        feature tables by set, for all of `settings.features`.
    outcome
        the declared outcome: type binary with `column` and `positive`, horizon, or multiclass.
    permutations
        tables of all shards of `classify_null.permute`, in any order; none where `settings.permutations` is 0.
    scans
        scan table, for subgroups by scanner.
    columns
        declarations of clinical columns.
    ledgers
        of every model behind the features.
    root, folder
        results folder of the study, and the folder of this analysis in it.

    Raises
    ------
    UserError
        if a model behind the features has seen a patient of the split, or a set or column does not exist. Data that
        cannot carry the analysis (one class, too few patients) give null estimates and a warning instead.
    """
    study = read(name, settings, seed, features, patients, split, outcome, columns, scans)
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=study.where)
    study.chosen = data.chosen_elsewhere(ids[training], ledgers, study.warn)
    fitted = _fit_all(study, log)
    scored = _score(study, fitted)
    drawn = {
        part: multiclass.weights(
            study.outcome[study.part(part)],
            len(study.classes),
            settings.bootstraps,
            generator(seed, "analyse", name, "bootstrap", part),
        )
        for part in tables.PARTS
    }
    null = classify_null.gather(study, permutations)
    judged = classify_evaluate.evaluate(study, scored, drawn, null)
    others = schemes.run(study, scored, drawn, log)
    reasons = explain.run(study, scored, drawn, log)
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": [
            f"{arm}, {model}: AUC {in_words(found['auc'])} on {found['auc']['n']} {part} patients."
            for arm, models in judged.results.items()
            for model, result in models.items()
            for part, found in result["parts"].items()
            if part in data.HELD_OUT
        ],
        "split": settings.split,
        "outcome": settings.outcome,
        "classes": list(study.classes),
        "seed": seed,
        "cohort": study.counts,
        "results": judged.results,
        "comparisons": judged.comparisons,
        "agreements": judged.agreements,
        "validation": others.metrics,
        "warnings": study.warnings,
    }
    artefacts = TableArtefacts(folder, root)
    classify_tables.write(study, scored, judged, others, reasons, artefacts)
    classify_figures.write(study, scored, judged, others, reasons, null, drawn, artefacts)
    classify_calibration.write(study, judged.use, judged.results, artefacts)
    classify_calibration.write_validation(study, others.use, others.metrics, artefacts)
    classify_groups.write(study, judged.results, others.metrics, artefacts)
    classify_size.write(study, judged.results, artefacts)
    artefacts.write()
    for (arm, model), fit in fitted.items():
        if fit:
            fit.front.labels_ = [study.classes[k] for k in fit.present]  # a kept model says what it predicts
            write_skops(fit.chain, folder / "models" / f"{arm}--{model}.skops")
    record = {"name": name, "stage": "analyse", "split": settings.split, "upstream": ledgers,
              "settings": settings_json, "code": code}  # fmt: skip
    ledger.write(folder / "ledger.json", seen={"training": ids[training]}, **record)
    for kind, seen in others.seen.items():
        ledger.write(folder / "validation" / f"{kind}.ledger.json", seen={"training": seen}, **record)
    write_json(folder / "metrics.json", metrics)
    return metrics


Fits = dict[tuple[str, str], tuning.Fitted | None]


def _fit_all(study: Study, log: Log) -> Fits:
    settings, training = study.settings, study.part("training")
    y = study.targets()[study.rows(training)]
    if len(np.unique(y)) < 2:
        return {(arm, model): None for arm in study.arms for model in settings.models}
    fitted: Fits = {}
    for done, arm in enumerate(study.arms, start=1):
        fits = fit_arm(study, arm, training, y, ("fit",), out_of_fold=True)
        for model, fit in fits.items():
            fitted[arm, model] = fit
            _warn(study, arm, model, fit, y)
        log.progress("models", done, len(study.arms), set=arm)
    return fitted


def _warn(study: Study, arm: str, model: str, fit: tuning.Fitted, y: np.ndarray) -> None:
    front = fit.front
    coefficients = getattr(fit.model, "coef_", None)
    if not len(front.chosen_):
        study.warn(f"{model} on {arm}: no feature was selected; every patient gets the same probability.")
    elif coefficients is not None and not np.any(coefficients):
        study.warn(f"{model} on {arm}: every coefficient is zero; every patient gets the same probability.")
    smaller = int(np.bincount(y)[np.unique(y)].min())
    if model == "logistic" and smaller < 10 * len(front.chosen_):
        study.warn(
            f"logistic on {arm}: {smaller} patients in the smaller class for {len(front.chosen_)} "
            "coefficients; below 10 per coefficient an unpenalised model is unreliable: write selection: [..., {kind: "
            "top, count: a smaller number}], or a penalised model."
        )
    if not fit.converged:
        names = front.get_feature_names_out()
        largest = f"{names[int(np.abs(coefficients).max(axis=0).argmax())]!r}" if np.any(coefficients) else "a variable"
        study.warn(
            f"{model} on {arm}: the fit did not converge; the classes may be separable, by {largest} most of all. "
            "Where nothing was penalised the model has a small ridge now; use ridge or lasso, or leave the variable "
            "out if it is known only after the outcome."
        )
    if fit.folds < study.settings.resampling.folds:
        study.warn(
            f"Cross-validation uses {max(fit.folds, 0)} folds: the smaller class of training has no more patients."
            if fit.folds >= 2
            else "The smaller class of training has fewer than two patients: nothing is tuned or cross-validated."
        )


def _score(study: Study, fitted: Fits) -> dict[tuple[str, str], Scored]:
    """Probabilities of all patients by all models and ensembles."""
    n, k, training = len(study.frame), len(study.classes), study.part("training")
    every = np.ones(n, dtype=bool)
    scored: dict[tuple[str, str], Scored] = {}
    for key, fit in fitted.items():
        p, unseen = np.full((n, k), np.nan), np.full((n, k), np.nan)
        rows_p = rows_unseen = None
        if fit:
            rows_p = fit.probabilities(study.arms[key[0]].table)
            p = study.joined(rows_p, study.rows(every))
            unseen[training] = study.joined(fit.out_of_fold, study.rows(training))
            rows_unseen = fit.out_of_fold
        scored[key] = Scored(p, unseen, fit, rows_p, rows_unseen)
    for name, members in study.settings.ensembles.items():
        parts = [scored[key_of(member)] for member in members]
        scored["ensemble", name] = Scored(
            np.mean([part.p for part in parts], axis=0), np.mean([part.unseen for part in parts], axis=0), None
        )
    return scored
