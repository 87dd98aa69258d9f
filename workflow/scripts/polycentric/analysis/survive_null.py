"""The null distribution of a survival analysis: the whole chain with permuted follow-up of the training patients.

Held-out patients keep their follow-up and only say how well chance does on them. The fitted chains are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import ledger
from ..config.clinical import ColumnSettings
from ..config.survival import SurvivalAnalysis
from ..jobs import SILENT, Log
from . import chains, data, permutations, survival
from .survive_study import Study, read

Null = dict[str, dict[str, np.ndarray]]


def permute(
    name: str,
    settings: SurvivalAnalysis,
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
    """Write Harrell's C of every model and held-out part in the permutations `numbers` to `path`.

    Parameters are those of `survive.analyse`.

    Raises
    ------
    UserError
        as `survive.analyse`: what it refuses is refused before 1,000 chains are fitted.
    """
    settings = settings.model_copy(update={"subgroups": {}})  # these judge, and may need the scans
    study = read(name, settings, seed, features, patients, split, outcome, None, columns, f"analyses: {name}")
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=study.where)
    permutations.write(numbers, lambda number: _run(study, number), path, log)


def gather(study: Study, paths: Sequence[Path]) -> Null:
    """C (permutations,) by model and held-out part, from the tables of all shards."""
    null: Null = {model: {} for model in study.settings.models}
    places = _places(study)
    if places:
        found = permutations.gather(paths, study.settings.permutations, places, study.where)
        for (model, part), values in found.items():
            null[model][part] = values
    return null


def _places(study: Study) -> list[permutations.Place]:
    """Models and parts whose C is asked for; none where nothing is held out."""
    return [(model, part) for model in study.settings.models for part in data.HELD_OUT if study.part(part).any()]


def _run(study: Study, number: int) -> dict[permutations.Place, float]:
    training = study.part("training")
    y = study.follow_up[training]
    places = _places(study)
    if not (y[:, 1] > 0).any():
        return dict.fromkeys(places, np.nan)
    centre = study.frame["centre"].to_numpy()[training] if study.settings.permute_within else None
    fits = chains.fit_all(
        study.tables_of(training),
        permutations.permuted(y, study.seed, study.name, number, centre),
        study.settings,
        study.stream("permutation", number),
        study.model_seed,
    )
    held = {part: study.part(part) for _, part in places}
    values = {}
    for part, here in held.items():
        rows = study.tables_of(here)
        for model in study.settings.models:
            time, event = study.follow_up[here, 0], study.event[here]
            values[model, part] = survival.concordance(time, event, fits[model].index(rows))
    return {place: values[place] for place in places}
