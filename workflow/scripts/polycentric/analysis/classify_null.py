"""The null distribution of a classification: the whole chain with permuted outcomes of the training patients.

Held-out patients keep their outcomes and only say how well chance does on them. The fitted chains are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import ledger
from ..config.classification import ClassificationAnalysis
from ..config.clinical import ColumnSettings
from ..jobs import SILENT, Log
from . import data, multiclass, permutations
from .classify_fit import Key, key_of, predict
from .classify_study import Study, read

Null = dict[Key, dict[str, np.ndarray]]


def permute(
    name: str,
    settings: ClassificationAnalysis,
    numbers: Sequence[int],
    *,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    ledgers: list[Path],
    path: Path,
    columns: Mapping[str, ColumnSettings] | None = None,
    log: Log = SILENT,
) -> None:
    """Write the AUC of every model, ensemble and held-out part in the permutations `numbers` to `path`.

    Parameters are those of `classify.analyse`.

    Raises
    ------
    UserError
        as `classify.analyse`: what it refuses is refused before 1,000 chains are fitted.
    """
    settings = settings.model_copy(update={"subgroups": {}})  # these judge, and may need the scans
    study = read(name, settings, seed, features, patients, split, outcome, columns)
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=study.where)
    permutations.write(numbers, lambda number: _run(study, number), path, log)


def gather(study: Study, paths: Sequence[Path]) -> Null:
    """AUCs (permutations,) by model or ensemble and held-out part, from the tables of all shards."""
    null: Null = {}
    places = _places(study)
    if places:
        found = permutations.gather(paths, study.settings.permutations, places, study.where)
        for (model, part), values in found.items():
            null.setdefault(key_of(model), {})[part] = values
    return null


def _places(study: Study) -> list[permutations.Place]:
    """Models, as set/model, and parts whose AUCs are asked for; none where nothing is fitted or held out."""
    if not study.part("training").any():
        return []
    models = [f"{arm}/{model}" for arm in study.arms for model in study.settings.models]
    models += [f"ensemble/{name}" for name in study.settings.ensembles]
    return [(model, part) for model in models for part in data.HELD_OUT if study.part(part).any()]


def _run(study: Study, number: int) -> dict[permutations.Place, float]:
    training = study.part("training")
    held, rows = ~training, study.rows(training)
    places = _places(study)
    if len(np.unique(study.targets()[rows])) < 2:
        return dict.fromkeys(places, np.nan)
    found = predict(study, training, _permuted(study, number), held, ("permutation", number))
    return {
        (model, part): multiclass.discrimination(study.outcome[held][here], found[key_of(model)][here])
        for model, part in places
        for here in [study.part(part)[held]]
    }


def _permuted(study: Study, number: int) -> np.ndarray:
    """Outcomes of the rows of training: patients are permuted, or lesions where these have outcomes of their own."""
    training, lesions = study.part("training"), study.settings.lesions
    rows = study.rows(training)
    centre = study.frame["centre"].to_numpy() if study.settings.permute_within else None

    def permuted(outcome: np.ndarray, at: np.ndarray | None) -> np.ndarray:
        return permutations.permuted(outcome, study.seed, study.name, number, at)

    if study.patient is None or lesions is None:
        return permuted(study.outcome[training], None if centre is None else centre[training])
    if lesions.outcome is not None:
        return permuted(study.targets()[rows], None if centre is None else centre[study.patient][rows])
    whole = study.outcome.copy()
    whole[training] = permuted(study.outcome[training], None if centre is None else centre[training])
    return whole[study.patient][rows]
