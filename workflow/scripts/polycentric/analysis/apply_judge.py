"""How a kept classifier does on patients whom it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import bootstrap
from ..artefacts import TableArtefacts
from ..config.classification import ClassificationAnalysis
from ..estimates import shown
from ..randomness import generator
from . import calibration, classify_groups, decision, evaluation_plots, multiclass, roc
from .artefacts import sentence
from .classify_calibration import FEWEST, SMOOTH_BOOTSTRAPS
from .thresholds import at_threshold


@dataclass(frozen=True)
class Applied:
    """Patients with a known outcome: positions in `classes` y (n,), probabilities p (n, K), masks (n,) by group; the
    analysis that fitted the model, and the threshold that calls two classes."""

    name: str
    seed: int
    analysis: ClassificationAnalysis
    classes: list[str]
    y: np.ndarray
    p: np.ndarray
    groups: dict[str, np.ndarray]
    threshold: float | None = None

    @property
    def level(self) -> float:
        return self.analysis.level

    @property
    def bootstraps(self) -> int:
        return self.analysis.bootstraps

    def stream(self, *names: str) -> np.random.Generator:
        return generator(self.seed, "apply", self.name, *names)


def judge(applied: Applied, artefacts: TableArtefacts) -> dict[str, Any]:
    """AUC, Brier score, calibration and groups for metrics.json; tables, calibration and decision curves beside."""
    y, p, level, seed = applied.y, applied.p, applied.level, applied.seed
    binary = p.shape[1] == 2
    drawn = multiclass.weights(y, p.shape[1], applied.bootstraps, applied.stream("bootstrap"))
    counts = bootstrap.counts(np.zeros(len(y)), applied.bootstraps, applied.stream("patients"))
    found: dict[str, Any] = {"auc": multiclass.auc(y, p, drawn, level=level, seed=seed)}
    found["brier"] = multiclass.brier(y, p, counts, level=level, seed=seed)
    if applied.threshold is not None:
        found |= at_threshold(y, p[:, 1], applied.threshold, level=level)
    thresholds = decision.grid(*applied.analysis.decision_thresholds)
    curves, decisions, groups, tests = {}, {}, [], []
    for k in [1] if binary else range(p.shape[1]):
        truth, told, name = y == k, p[:, k], applied.classes[k]
        of, label = ("", {}) if binary else (f"_{name}", {"class": name})
        found[f"auc_delong{of}"] = roc.delong(truth, told, level=level)
        values, curve = calibration.assess(truth, told, counts[:SMOOTH_BOOTSTRAPS], level=level, seed=seed)
        found |= {f"{key}{of}": value for key, value in values.items()}
        if len(curve.predicted):
            curves[name] = (curve, told, truth)
        if len(y) >= FEWEST and truth.any() and not truth.all():
            decisions[name] = decision.curves(
                truth,
                told,
                thresholds,
                applied.stream("decision"),
                samples=applied.bootstraps,
                level=level,
            )
        found[f"subgroups{of}"], _ = classify_groups.judged(applied.groups, truth, told, level=level)
        rows, more = classify_groups.tabulated(found[f"subgroups{of}"])
        groups += [label | row for row in rows]
        tests += [label | row for row in more]
    _write(applied, found, curves, decisions, artefacts)
    if groups:
        percent = f"{100 * level:g} %"
        caption = f"AUC with DeLong's and calibration in the large with Wald's {percent} interval, by group"
        artefacts.table(pd.DataFrame(groups), "subgroups", f"{applied.name}: performance by group", sentence(caption))
        title = f"{applied.name}: differences between groups"
        artefacts.table(pd.DataFrame(tests), "subgroup-differences", title, sentence(classify_groups.TESTS))
    return found


def _write(
    applied: Applied,
    found: dict[str, Any],
    curves: dict[str, Any],
    decisions: dict[str, pd.DataFrame],
    artefacts: TableArtefacts,
) -> None:
    n, percent = len(applied.y), f"{100 * applied.level:g} %"
    unseen = f"{n} patients whom the model has not seen"
    estimates = {key: value for key, value in found.items() if not key.startswith("subgroups")}
    table = pd.DataFrame(
        [{"estimate": key.replace("_", " "), "value": shown(value, 3), "method": value["method"]}
         for key, value in estimates.items()]
    )  # fmt: skip
    artefacts.table(table, "performance", f"{applied.name}: performance", sentence(f"{unseen}; {percent} intervals"))
    if curves:
        figure, frame = evaluation_plots.calibration(curves)
        caption = (
            f"Observed share of the outcome by loess against the predicted probability of {unseen}, with pointwise "
            f"{percent} bootstrap bands; dashed: perfect; below, how many patients with (up) and without the outcome "
            "(down) were told what"
        )
        artefacts.figure(figure, "calibration", f"{applied.name}: calibration", sentence(caption), frame)
    if decisions:
        figure, frame = evaluation_plots.decision({name: {"model": rows} for name, rows in decisions.items()})
        useful = "; ".join(
            f"{name}: {decision.in_words(decision.useful(rows)) or 'none'}" for name, rows in decisions.items()
        )
        caption = (
            f"Net benefit per patient of treating by the model, all and none (0), {unseen}, with pointwise {percent} "
            f"bootstrap bands ({applied.bootstraps} samples). Thresholds at which the model is surely better than "
            f"both: {useful}"
        )
        artefacts.figure(figure, "decision", f"{applied.name}: decision curve", sentence(caption), frame)
