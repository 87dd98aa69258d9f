"""How fitted classifiers come to their probabilities: importance, Shapley values, partial dependence, equations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..estimates import percentiles
from ..jobs import Log
from ..randomness import generator
from . import classifiers, data, multiclass, treeshap
from .chain import sources
from .classify_evaluate import Key, Scored
from .classify_study import Study
from .multiclass import Drawn
from .tuning import Fitted

MOST = 30  # variables of a model that are shuffled: those that matter most in training
POINTS = 21  # of a curve of partial dependence


@dataclass(frozen=True)
class Reasons:
    """Tables with a column for the arm (`features`) and the model; empty where there is nothing to say.

    `importance`: loss of AUC when a variable is shuffled; `shapley`: a row per held-out patient and variable;
    `dependence`: mean probability of training patients with a variable set to a value; `equations`: coefficients per
    unit, with what stands in for a missing value.
    """

    importance: pd.DataFrame
    shapley: pd.DataFrame
    dependence: pd.DataFrame
    equations: pd.DataFrame


def run(study: Study, scored: dict[Key, Scored], drawn: dict[str, Drawn], log: Log) -> Reasons:
    importance, shapley, dependence, equations = [], [], [], []
    kept = {key: own for key, own in scored.items() if own.fit is not None and len(own.fit.front.chosen_)}
    for done, ((arm, model), own) in enumerate(kept.items(), start=1):
        fit = own.fit
        assert fit is not None
        tag = {"features": arm, "model": model}
        importance += [tag | row for row in _importance(study, arm, model, fit, drawn)]
        if study.settings.explain.shap:
            shapley += [block.assign(**tag) for block in _shapley(study, arm, model, fit)]
        dependence += [tag | row for row in _dependence(study, arm, fit)]
        if classifiers.linear(fit.model):
            equations.append(equation(fit, study.classes).assign(**tag))
        log.progress("explanations", done, len(kept), set=arm, model=model)

    def table(blocks: list[pd.DataFrame]) -> pd.DataFrame:
        if not blocks:
            return pd.DataFrame()
        frame = pd.concat(blocks, ignore_index=True)
        return frame[["features", "model", *(c for c in frame.columns if c not in ("features", "model"))]]

    return Reasons(pd.DataFrame(importance), table(shapley), pd.DataFrame(dependence), table(equations))


def strength(fit: Fitted) -> np.ndarray:
    """What each column of the model weighs in training (p,): coefficients per SD or importances; 1 where unknown."""
    model = fit.model
    if classifiers.linear(model):
        return np.abs(model.coef_).sum(axis=0)  # type: ignore[attr-defined]
    return np.asarray(getattr(model, "feature_importances_", np.ones(len(fit.front.chosen_))))


def _ranked(fit: Fitted) -> dict[str, list[int]]:
    """Input columns that the model uses, the weightiest first."""
    weight = strength(fit)
    found = {name: columns for name, columns in sources(fit.front).items() if weight[columns].any()}
    return dict(sorted(found.items(), key=lambda item: -round(float(weight[item[1]].sum()), 12)))


def _predict(fit: Fitted, z: np.ndarray) -> np.ndarray:
    return fit.model.predict_proba(z)  # type: ignore[attr-defined]


def _importance(
    study: Study, arm: str, model: str, fit: Fitted, drawn: dict[str, Drawn]
) -> Iterator[dict[str, object]]:
    """Permutation importance on held-out patients (Breiman 2001): AUC minus the mean AUC with the variable shuffled."""
    repeats, level = study.settings.explain.permutations, study.settings.level
    for part in data.HELD_OUT if repeats and len(fit.present) == len(study.classes) else ():
        here = study.part(part)
        y = study.outcome[here]
        if len(np.unique(y)) < len(study.classes):
            continue
        rows = study.rows(here)
        z = fit.front.transform(study.arms[arm].table[rows])
        p = study.joined(_predict(fit, z), rows)
        value, samples = multiclass.discrimination(y, p), multiclass.bootstrap_values(y, p, drawn[part])
        rng = generator(study.seed, "analyse", study.name, "importance", arm, model, part)
        for name, columns in list(_ranked(fit).items())[:MOST]:
            lost, lost_samples = 0.0, np.zeros(len(samples))
            for _ in range(repeats):
                shuffled = z.copy()
                shuffled[:, columns] = z[rng.permutation(len(z))][:, columns]
                q = study.joined(_predict(fit, shuffled), rows)
                lost += (value - multiclass.discrimination(y, q)) / repeats
                lost_samples += (samples - multiclass.bootstrap_values(y, q, drawn[part])) / repeats
            lower, upper, _ = percentiles(lost_samples, level)
            yield {"part": part, "variable": name, "loss_of_auc": lost, "lower": lower, "upper": upper,
                   "patients": len(y)}  # fmt: skip


def shapley(fit: Fitted, z: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Shapley values (n, K or 1, p) of a tree model and their scale; None for other models."""
    if hasattr(fit.model, "shapley"):
        return fit.model.shapley(z), "log odds"
    if hasattr(fit.model, "estimators_") and hasattr(fit.model, "feature_importances_"):
        found = treeshap.forest(fit.model, z)
        return (found[:, 1:] if found.shape[1] == 2 else found), "probability"
    return None


def _shapley(study: Study, arm: str, model: str, fit: Fitted) -> Iterator[pd.DataFrame]:
    held = study.rows(~study.part("training"))
    if not held.any() or shapley(fit, np.zeros((1, len(fit.front.chosen_)))) is None:
        return
    z = fit.front.transform(study.arms[arm].table[held])
    found = shapley(fit, z)
    assert found is not None
    values, scale = found
    owner = np.flatnonzero(held) if study.patient is None else study.patient[held]
    ids = study.frame["patient"].to_numpy()[owner]
    names = [str(name) for name in fit.front.get_feature_names_out()]
    for k in range(values.shape[1]):
        for column, name in enumerate(names):
            yield pd.DataFrame(
                {
                    "class": study.classes[1] if values.shape[1] == 1 else study.classes[fit.present[k]],
                    "patient": ids,
                    "variable": name,
                    "value": z[:, column] * fit.front.scale_[column] + fit.front.mean_[column],
                    "standardised": z[:, column],
                    "shapley": values[:, k, column],
                    "scale": scale,
                }
            )


def _dependence(study: Study, arm: str, fit: Fitted) -> Iterator[dict[str, object]]:
    """Partial dependence (Friedman 2001, Ann Stat 29:1189) between the 5th and 95th percentile of training."""
    most = study.settings.explain.dependence
    z = fit.front.transform(study.arms[arm].table[study.rows(study.part("training"))])
    for name, columns in list(_ranked(fit).items())[:most]:
        if len(columns) > 1 or name in fit.front.categories_:
            continue
        column = columns[0]
        scale, mean = fit.front.scale_[column], fit.front.mean_[column]
        for point in np.unique(np.quantile(z[:, column], np.linspace(0.05, 0.95, POINTS))):
            moved = z.copy()
            moved[:, column] = point
            p = _predict(fit, moved).mean(axis=0)
            for k, code in enumerate(fit.present):
                if len(study.classes) > 2 or code == 1:
                    yield {"class": study.classes[code], "variable": name, "value": float(point * scale + mean),
                           "mean_probability": float(p[k])}  # fmt: skip


def equation(fit: Fitted, classes: tuple[str, ...]) -> pd.DataFrame:
    """The model as numbers to compute by hand (TRIPOD item 15a): log odds = constant + sum of coefficient * value.

    Two classes: the probability of the positive one is 1 / (1 + exp(-log odds)); several: exp(log odds) of a class
    divided by the sum over classes. `missing` is what stands in for a missing value (median imputation).
    Standardisation is undone; indicators (`stage=II`) are 1 or 0.
    """
    front, model = fit.front, fit.model
    names = [str(name) for name in front.get_feature_names_out()]
    fills = front.medians_[front.chosen_] if front.imputer_ is None else np.full(len(names), np.nan)
    blocks = []
    for row, (slopes, constant) in enumerate(zip(model.coef_, model.intercept_, strict=True)):  # type: ignore[attr-defined]
        per_unit = slopes / front.scale_
        used = np.flatnonzero(slopes != 0)
        code = fit.present[1] if len(fit.present) == 2 else fit.present[row]
        blocks.append(
            pd.DataFrame(
                {
                    "class": classes[code],
                    "variable": ["(constant)", *(names[k] for k in used)],
                    "coefficient": [float(constant - (per_unit * front.mean_).sum()), *per_unit[used]],
                    "missing": [np.nan, *fills[used]],
                }
            )
        )
    return pd.concat(blocks, ignore_index=True)
