"""Survival: models with and without radiomics, compared on patients that none of them has seen.

This module runs the analysis; `survive_study` reads its tables, `survive_evaluate` judges the models, `survive_tables`
and `survive_figures` write what the report shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger, tables
from ..artefacts import TableArtefacts
from ..config.clinical import ColumnSettings
from ..config.survival import SurvivalAnalysis
from ..files import write_json
from ..jobs import SILENT, Log
from ..words import in_words
from . import (
    chains,
    coxmodel,
    data,
    survive_evaluate,
    survive_explain,
    survive_figures,
    survive_groups,
    survive_null,
    survive_tables,
)
from .artefacts import write_skops
from .schemas import SURVIVAL
from .survive_study import Study, read

EVENTS_PER_VARIABLE = 10


def analyse(
    name: str,
    settings: SurvivalAnalysis,
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
    """Fit every model on training, evaluate it on every part, compare each with the first; write the folder.

    Parameters
    ----------
    features
        feature tables by set, for all sets that `settings.models` name.
    outcome
        the declared outcome, type time-to-event with `time`, `event` and `unit`.
    ledgers
        of every model behind the features.
    root, folder
        results folder of the study, and the folder of this analysis in it.
    permutations
        tables of all shards of `survive_null.permute`, in any order; none where `settings.permutations` is 0.
    scans
        scan table, for subgroups by scanner.
    columns
        declarations of clinical columns.

    Raises
    ------
    UserError
        if a model behind the features has seen a patient of the split, or a set or column does not exist. Data that
        cannot carry the analysis (no events, too few patients) give null estimates and a warning instead.
    """
    where = f"analyses: {name}"
    study = read(name, settings, seed, features, patients, split, outcome, scans, columns, where)
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=where)
    study.chosen = data.chosen_elsewhere(ids[training], ledgers, study.warn)
    fitted, crossed = _fit(study, log)
    log.progress("models", len(settings.models), len(settings.models))
    null = survive_null.gather(study, permutations)
    judged = survive_evaluate.evaluate(study, fitted, crossed, null, log)
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": [
            f"{model}: Harrell's C {in_words(found['c_index'])} on {found['c_index']['n']} {part} patients."
            for model, result in judged.results.items()
            for part, found in result["parts"].items()
            if part in data.HELD_OUT
        ],
        "split": settings.split,
        "outcome": settings.outcome,
        "unit": study.unit,
        "times": list(study.times),
        "seed": seed,
        "cohort": study.counts,
        "results": judged.results,
        "comparisons": judged.comparisons,
        "warnings": study.warnings,
    }
    artefacts = TableArtefacts(folder, root)
    _write_predictions(study, judged, folder)
    survive_tables.write(study, fitted, judged, artefacts)
    survive_explain.write(study, fitted, artefacts)
    survive_figures.write(study, judged, null, artefacts)
    survive_groups.write(study, judged.results, settings.title or name, artefacts)
    artefacts.write()
    for key, fit in fitted.items():
        if fit:
            write_skops(fit.chain, folder / "models" / f"{key}.skops")
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split,
        seen={"training": ids[training]},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    write_json(folder / "metrics.json", metrics)
    return metrics


def _fit(study: Study, log: Log) -> tuple[dict[str, chains.Fitted | None], chains.CrossValidation]:
    settings, training = study.settings, study.part("training")
    y = study.follow_up[training]
    events = int((y[:, 1] > 0).sum())
    if not events:
        return dict.fromkeys(settings.models), chains.CrossValidation(n=int(training.sum()))
    rows = {key: table[training] for key, table in study.tables.items()}
    fitted = chains.fit_all(rows, y, settings, study.stream("fit"), study.model_seed)
    for key, fit in fitted.items():
        if fit.stacked:
            if fit.chain.rescued_:
                study.warn(f"{key}: the indices of its models separate early from late events; they got a ridge.")
            continue
        front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]
        _say_constant(study, key, rows[key])
        selected, names = len(fit.columns(rows)[0]), front.get_feature_names_out()
        if not selected:
            study.warn(f"{key}: no variable was selected; every patient has the same index.")
        elif hasattr(model, "coef_") and events < EVENTS_PER_VARIABLE * selected:
            study.warn(
                f"{key}: {events} events of training for {selected} variables, {events / selected:.1f} per variable; "
                f"below {EVENTS_PER_VARIABLE} coefficients are unreliable: use fewer clinical columns, or write "
                "a selection step {kind: top, count: a smaller number}."
            )
        if getattr(model, "rescued_", False):
            strong = names[int(np.argmax(np.abs(model.coef_)))]
            study.warn(
                f"{key}: the likelihood has no maximum (a variable separates early from late events, most of all "
                f"{strong!r}); every variable got a ridge of {coxmodel.RESCUE} per event. Look whether that column "
                "holds the outcome under another name, merge its rare categories, or leave it out."
            )
    drawn = survive_evaluate.draw(study, training, "training")
    crossed = chains.cross_validate(rows, y, settings, study.stream("cross"), study.model_seed, drawn)
    if crossed.folds < settings.resampling.folds:
        study.warn(f"Cross-validation uses {max(crossed.folds, 0)} folds: training has too few events for more.")
    return dict(fitted), crossed


def _say_constant(study: Study, key: str, table: pd.DataFrame) -> None:
    clinical = study.settings.models[key].clinical
    constant = [c for c in clinical if c in table.columns and table[c].nunique(dropna=True) < 2]
    if constant:
        study.warn(
            f"{key}: column {constant[0]!r}{' and others' * (len(constant) > 1)} has one value in all training "
            "patients and stands in no model; leave it out of clinical:."
        )


def _write_predictions(study: Study, judged: survive_evaluate.Judged, folder: Path) -> None:
    base = study.frame[["centre", "patient", "part"]].reset_index(drop=True)
    frames = [
        base.assign(model=key, fold="main", time=study.follow_up[:, 0], event=study.follow_up[:, 1], index=index,
                    group=judged.groups[key])
        for key, index in judged.indices.items()
    ]  # fmt: skip
    table = pd.concat(frames, ignore_index=True).sort_values(["model", "patient"])
    tables.write(table, folder / "predictions.parquet", SURVIVAL)
