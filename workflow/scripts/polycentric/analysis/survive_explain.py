"""How fitted survival models come to their index: permutation importance, partial dependence, Shapley values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import bootstrap
from ..artefacts import TableArtefacts
from ..estimates import percentiles
from ..randomness import generator
from . import chains, data, survival
from .artefacts import sentence
from .chain import Front, sources
from .survive_study import Study
from .survive_tables import percent_of, title_of

MOST = 30  # variables of a model that are shuffled
POINTS = 21  # of a curve of partial dependence


class Inside(NamedTuple):
    """A model seen from its own columns: standardised values (n, p), the columns of each variable (the weightiest
    first), and the index of such values."""

    z: np.ndarray
    columns: dict[str, list[int]]
    index: Callable[[np.ndarray], np.ndarray]


def write(study: Study, fitted: dict[str, chains.Fitted | None], artefacts: TableArtefacts) -> None:
    """Write the tables of explanations; Shapley values are a file beside them, a row per patient and variable."""
    known = {key: fit for key, fit in fitted.items() if fit}
    found = pd.DataFrame([{"model": k} | row for k, fit in known.items() for row in importance(study, k, fit)])
    if len(found):
        artefacts.table(
            found,
            "importance",
            f"{title_of(study)}: permutation importance",
            sentence(
                "Loss of Harrell's C on held-out patients when a variable is shuffled among them, mean of "
                f"{study.settings.explain.permutations} shuffles, with {percent_of(study)} percentile intervals of the "
                "bootstrap over patients; below 0 the variable did harm",
                "The variables of a stack are the indices of its models",
            ),
        )
    found = pd.DataFrame([{"model": k} | row for k, fit in known.items() for row in dependence(study, fit)])
    if len(found):
        artefacts.table(
            found,
            "dependence",
            f"{title_of(study)}: partial dependence",
            sentence(
                f"Mean predicted survival at {study.times[0]:g} {study.unit} of training patients when a variable is "
                "set to a value, between its 5th and 95th percentile"
            ),
        )
    blocks = [block.assign(model=k) for k, fit in known.items() for block in shapley(study, fit)]
    if blocks:
        artefacts.csv(pd.concat(blocks, ignore_index=True), "tables/shapley.csv")


def inside(fit: chains.Fitted, tables: chains.Tables) -> Inside:
    if isinstance(fit.chain, chains.Stack):
        weight, chain = np.abs(fit.chain.coef_), fit.chain
        order = np.argsort(-np.round(weight, 12), kind="stable")
        columns = {chain.names[k]: [int(k)] for k in order if weight[k] > 0}
        return Inside(chain.indices(tables), columns, lambda z: z @ chain.coef_)
    front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]
    weight = np.abs(getattr(model, "coef_", np.ones(len(front.chosen_))))
    found = {name: at for name, at in sources(front).items() if weight[at].any()}
    ranked = sorted(found.items(), key=lambda item: -round(float(weight[item[1]].sum()), 12))
    return Inside(front.transform(tables[fit.name]), dict(ranked), model.predict)


def importance(study: Study, key: str, fit: chains.Fitted) -> Iterator[dict[str, object]]:
    """Loss of C on held-out patients with a variable shuffled (Breiman 2001), mean of the shuffles."""
    repeats, level = study.settings.explain.permutations, study.settings.level
    for part in data.HELD_OUT if repeats else ():
        here = study.part(part)
        time, event, n = study.follow_up[here, 0], study.event[here], int(here.sum())
        if not n:
            continue
        own = inside(fit, study.tables_of(here))
        base = survival.pairs(time, event, own.index(own.z))
        pairs = base.comparable.sum()
        if not pairs:
            continue
        stream = generator(study.seed, "analyse", study.name, "bootstrap", part)
        drawn = bootstrap.counts(np.zeros(n), study.settings.bootstraps, stream)
        total = ((drawn @ base.comparable) * drawn).sum(axis=1)
        rng = generator(study.seed, "analyse", study.name, "importance", key, part)
        for name, columns in list(own.columns.items())[:MOST]:
            lost = base.concordant.copy()
            for _ in range(repeats):
                shuffled = own.z.copy()
                shuffled[:, columns] = own.z[rng.permutation(n)][:, columns]
                lost -= survival.pairs(time, event, own.index(shuffled)).concordant / repeats
            with np.errstate(divide="ignore", invalid="ignore"):
                lower, upper, _ = percentiles(((drawn @ lost) * drawn).sum(axis=1) / total, level)
            yield {"part": part, "variable": name, "loss_of_c": float(lost.sum() / pairs), "lower": lower,
                   "upper": upper, "patients": n, "events": int(event.sum())}  # fmt: skip


def dependence(study: Study, fit: chains.Fitted) -> Iterator[dict[str, object]]:
    """Mean predicted survival at the first time with a variable set to a value (Friedman 2001)."""
    most = study.settings.explain.dependence
    if not most or fit.stacked or study.settings.competing is not None or not study.times:
        return
    own = inside(fit, study.tables_of(study.part("training")))
    front: Front = fit.chain.named_steps["front"]  # type: ignore[union-attr]
    model = fit.chain.named_steps["model"]  # type: ignore[union-attr]
    for name, columns in list(own.columns.items())[:most]:
        if len(columns) > 1 or name in front.categories_:
            continue
        column = columns[0]
        for point in np.unique(np.quantile(own.z[:, column], np.linspace(0.05, 0.95, POINTS))):
            moved = own.z.copy()
            moved[:, column] = point
            value = float(point * front.scale_[column] + front.mean_[column])
            predicted = model.survival(moved, np.array(study.times[:1], dtype=float))[:, 0]
            yield {"variable": name, "value": value, "mean_survival": float(predicted.mean())}


def shapley(study: Study, fit: chains.Fitted) -> Iterator[pd.DataFrame]:
    """Shapley values of boosted trees on held-out patients, in log hazard."""
    held = ~study.part("training")
    if not study.settings.explain.shap or fit.stacked or not held.any():
        return
    front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]  # type: ignore[union-attr]
    if not hasattr(model, "shapley"):
        return
    z = front.transform(study.tables[fit.name][held])
    values = model.shapley(z)
    for k, name in enumerate(front.get_feature_names_out()):
        yield pd.DataFrame(
            {
                "patient": study.frame["patient"].to_numpy()[held],
                "variable": str(name),
                "value": z[:, k] * front.scale_[k] + front.mean_[k],
                "shapley": values[:, k],
            }
        )
