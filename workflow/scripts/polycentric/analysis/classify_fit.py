"""Fits of all models of an arm, and of all arms, on given patients."""

from __future__ import annotations

import numpy as np

from ..randomness import generator, integer_seed
from . import tuning
from .classify_study import Study

Key = tuple[str, str]


def fit_arm(
    study: Study, arm: str, patients: np.ndarray, y: np.ndarray, stream: tuple[str | int, ...], *, out_of_fold: bool
) -> dict[str, tuning.Fitted]:
    """Chains of all models of an arm, fitted on the rows of patients (bool); y is the outcome of these rows."""
    rows = study.rows(patients)
    own = study.arms[arm]
    return tuning.fit_models(
        study.settings.models,
        own.table[rows],
        y,
        study.settings,
        rng=generator(study.seed, "analyse", study.name, "folds", *stream),  # the same folds for every arm and model
        seed=integer_seed(study.seed, "analyse", study.name, arm),
        classes=len(study.classes),
        choose_on=None if own.reference is None else own.reference[rows],
        groups=study.groups(rows),
        out_of_fold=out_of_fold,
    )


def predict(
    study: Study, train: np.ndarray, y: np.ndarray, test: np.ndarray, stream: tuple[str | int, ...]
) -> dict[Key, np.ndarray]:
    """Probabilities (test patients, K) of every model and ensemble fitted on training patients; y is the outcome of
    their rows."""
    found: dict[Key, np.ndarray] = {}
    for arm in study.arms:
        for model, fit in fit_arm(study, arm, train, y, stream, out_of_fold=False).items():
            p = fit.probabilities(study.arms[arm].table[study.rows(test)])
            found[arm, model] = study.joined(p, study.rows(test))
    for name, members in study.settings.ensembles.items():
        found["ensemble", name] = np.mean([found[key_of(member)] for member in members], axis=0)
    return found


def key_of(member: str) -> Key:
    """Arm and model of `arm/model`."""
    arm, _, model = member.partition("/")
    return arm, model
