"""Calibration and clinical use of fitted classifiers: flexible curves, decision curves; several classes each against
the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from .. import bootstrap, tables
from ..artefacts import TableArtefacts
from ..estimates import Estimate, shown
from ..randomness import generator
from . import calibration, data, decision, evaluation_plots
from .artefacts import sentence
from .calibration import Flexible
from .classify_study import Study, numbers_of, percent, title

Key = tuple[str, str]
Where = tuple[Key, str, str]  # (set, model), part, class

CROSS_VALIDATED = "cross-validated"
SMOOTH_BOOTSTRAPS = 200  # each fits a curve
FEWEST = 10  # patients below whom a decision curve says nothing
PANELS, LINES = 9, 6  # of a figure; all of them are in the CSV


@dataclass
class Use:
    """Flexible calibration curves and rows of `decision.curves` by (set, model), part and class."""

    curves: dict[Where, Flexible] = field(default_factory=dict)
    decisions: dict[Where, pd.DataFrame] = field(default_factory=dict)
    told: dict[Where, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # probabilities and outcomes


def wanted(study: Study) -> list[int]:
    """Classes that are judged against the rest: of two classes the positive one."""
    return [1] if study.binary else list(range(len(study.classes)))


def suffix(study: Study, k: int) -> str:
    """What the keys of metrics end with where there are several classes."""
    return "" if study.binary else f"_{study.classes[k]}"


def assess(study: Study, key: Key, part: str, y: np.ndarray, p: np.ndarray, use: Use) -> dict[str, Estimate]:
    """Slope, in the large, ICI, E50 and E90 of patients y (n,), p (n, K); curves and decision curves go into `use`.

    Of training itself there are the slope and in the large alone: they are apparent, and no model is used there.
    """
    settings, apparent = study.settings, part == "training"
    samples = 0 if apparent else min(settings.bootstraps, SMOOTH_BOOTSTRAPS)
    counts = bootstrap.counts(
        np.zeros(len(y)), samples, generator(study.seed, "analyse", study.name, "calibration", part)
    )
    found: dict[str, Estimate] = {}
    for k in wanted(study):
        truth, told = y == k, p[:, k]
        values, curve = calibration.assess(truth, told, counts, level=settings.level, seed=study.seed)
        own = (name for name in values if not apparent or name not in calibration.INDICES)
        found |= {f"{name}{suffix(study, k)}": values[name] for name in own}
        if apparent or not np.isfinite(told).all() or len(y) < FEWEST or truth.all() or not truth.any():
            continue
        where = (key, part, study.classes[k])
        use.told[where] = (told, truth)
        if len(curve.predicted):
            use.curves[where] = curve
        use.decisions[where] = decision.curves(
            truth, told, decision.grid(*settings.decision_thresholds),
            generator(study.seed, "analyse", study.name, "decision", part),
            samples=settings.bootstraps, level=settings.level,
        )  # fmt: skip
    return found


def write(study: Study, use: Use, results: dict, artefacts: TableArtefacts) -> None:
    _write(study, use, results, artefacts, "", "")


def write_validation(study: Study, use: Use, others: dict, artefacts: TableArtefacts) -> None:
    """The same of validation schemes: `others` are their metrics by kind."""
    results: dict = {}
    for kind, own in others.items():
        for arm, models in own["results"].items():
            for model, entry in models.items():
                found = results.setdefault(arm, {}).setdefault(model, {"parts": {}})
                if "calibration_slope" + suffix(study, wanted(study)[0]) in entry:
                    found["parts"][kind] = entry
    if results:
        _write(study, use, results, artefacts, "validation-", OUT_OF_SAMPLE)


FIRST = "the first probability of each patient by a model that was fitted without the patient"
OUT_OF_SAMPLE = f"Further validation: {FIRST}"


def _write(study: Study, use: Use, results: dict, artefacts: TableArtefacts, prefix: str, note: str) -> None:
    _table(study, results, artefacts, prefix, note)
    _useful(study, use, artefacts, prefix, note)
    if use.curves:
        _calibration(study, use, artefacts, prefix, note)
    if use.decisions:
        _decision(study, use, artefacts, prefix, note)


def _table(study: Study, results: dict, artefacts: TableArtefacts, prefix: str, note: str) -> None:
    rows = []
    names = {"calibration_slope": "slope", "calibration_in_the_large": "in the large", "ici": "ICI", "e50": "E50",
             "e90": "E90"}  # fmt: skip
    for arm, models in results.items():
        for model, entry in models.items():
            for part, values in entry["parts"].items():
                for k in wanted(study):
                    cells = {
                        shown_as: shown(values[name], 3)
                        for key, shown_as in names.items()
                        if (name := f"{key}{suffix(study, k)}") in values
                    }
                    named = {} if study.binary else {"class": study.classes[k]}
                    rows.append({"features": arm, "model": model, "part": part, **named, **numbers_of(study, part),
                                 **cells, "Brier score": shown(values["brier"], 3)})  # fmt: skip
    artefacts.table(
        pd.DataFrame(rows),
        f"{prefix}calibration",
        f"{title(study)}: calibration{_of(prefix)}",
        sentence(
            note,
            f"Outcome {study.settings.outcome}{'' if study.binary else ', each class against the rest'}; slope (1 is "
            "perfect, below 1: probabilities are too extreme, as those of an overfit model) and in the large (0 is "
            "perfect, below 0: too high) on the logit scale with Wald intervals",
            "ICI, E50, E90: mean, median and 90th percentile of the distance between the predicted probability and the "
            f"flexible curve, {percent(study)} percentile intervals of {_samples(study)} bootstrap samples of "
            "patients; above 0 for a perfect model too, the more so the fewer patients",
            "Brier score with a BCa interval" + ("" if study.binary else ", over all classes"),
            "" if prefix else "Training is apparent",
        ),
    )


def _samples(study: Study) -> int:
    return min(study.settings.bootstraps, SMOOTH_BOOTSTRAPS)


def _common(study: Study, where: Where) -> dict[str, str]:
    (arm, model), part, name = where
    return {"part": part, "class": name, "features": arm, "model": model}


def _useful(study: Study, use: Use, artefacts: TableArtefacts, prefix: str, note: str) -> None:
    rows = []
    for where, frame in use.decisions.items():
        ranges = decision.in_words(decision.useful(frame))
        model = frame[frame["strategy"].eq("model")]
        best = model.loc[model["gain"].idxmax()]
        rows.append(
            {
                **_common(study, where),
                "patients": len(use.told[where][0]),
                "better than all and none at thresholds": ranges or "none",
                "largest gain in net benefit": shown({k: best[g] for k, g in GAIN.items()}, 3),
                "at threshold": decision.text(best["threshold"]),
            }
        )
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            f"{prefix}decision",
            f"{title(study)}: where the models are of use{_of(prefix)}",
            sentence(
                note,
                f"Outcome {study.settings.outcome}; thresholds of the probability at which treating by the model has a "
                f"higher net benefit than treating all and treating none: the lower bound of the pointwise "
                f"{percent(study)} band of the paired gain is above 0 ({study.settings.bootstraps} bootstrap samples "
                f"of patients); {_looked_at(study)}, of which one counts only if somebody would act at it",
            ),
        )


def _looked_at(study: Study) -> str:
    low, high = study.settings.decision_thresholds
    return f"thresholds from {low:g} to {high:g}"


GAIN = {"value": "gain", "lower": "gain_lower", "upper": "gain_upper"}


def _shown(study: Study, places: list[Where]) -> list[str]:
    """Parts that are drawn: those held out, or else out-of-fold predictions; or kinds of validation."""
    found = [part for part in tables.PARTS if part in data.HELD_OUT and any(w[1] == part for w in places)]
    return found or [CROSS_VALIDATED] * any(w[1] == CROSS_VALIDATED for w in places) or [w[1] for w in places]


def _of(prefix: str) -> str:
    return " in further validation" if prefix else ""


def _panel(study: Study, where: Where) -> str:
    return where[1] if study.binary else f"{where[1]}, {where[2]}"


def _calibration(study: Study, use: Use, artefacts: TableArtefacts, prefix: str, note: str) -> None:
    parts = _shown(study, list(use.curves))
    places = [where for where in use.curves if where[1] in parts]
    if len(places) > PANELS:
        # external where there is one; of validations the first that the study names
        places = [where for where in places if where[1] == parts[0 if prefix else -1]]
    panels = {
        f"{arm}, {model}\n{_panel(study, where)}": (use.curves[where], *use.told[where])
        for where in places[:PANELS]
        for arm, model in [where[0]]
    }
    figure, _ = evaluation_plots.calibration(panels)
    columns = ["part", "class", "features", "model", *Flexible._fields]
    frames = [pd.DataFrame(curve._asdict()).assign(**_common(study, where)) for where, curve in use.curves.items()]
    artefacts.figure(
        figure,
        f"{prefix}calibration",
        f"{title(study)}: calibration curves{_of(prefix)}",
        sentence(
            note,
            f"Observed share of outcome {study.settings.outcome} by loess against the predicted probability, with "
            f"pointwise {percent(study)} bootstrap bands ({_samples(study)} samples of patients); dashed: perfect; "
            "below, how many patients with (up) and without the outcome (down) were told what",
            _numbers(study, [where[1] for where in places]),
            f"{len(panels)} of {len(use.curves)} curves are drawn, all are in the CSV"
            if len(panels) < len(use.curves)
            else "",
        ),
        pd.concat(frames, ignore_index=True)[columns],
    )


def _decision(study: Study, use: Use, artefacts: TableArtefacts, prefix: str, note: str) -> None:
    parts = _shown(study, list(use.decisions))
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    for where, frame in use.decisions.items():
        if where[1] in (parts if study.binary else parts[-1:]):
            (arm, model), panel = where[0], panels.setdefault(_panel(study, where), {})
            if len(panel) < LINES:
                panel[f"{arm}, {model}"] = frame
    panels = dict(list(panels.items())[:PANELS])
    figure, _ = evaluation_plots.decision(panels)
    frames = [frame.assign(**_common(study, where)) for where, frame in use.decisions.items()]
    columns = ["part", "class", "features", "model", *decision.COLUMNS]
    lines = sum(len(panel) for panel in panels.values())
    artefacts.figure(
        figure,
        f"{prefix}decision",
        f"{title(study)}: decision curves{_of(prefix)}",
        sentence(
            note,
            f"Net benefit per patient of treating by the model, all and none (0), for outcome {study.settings.outcome}"
            f"{'' if study.binary else ', each class against the rest'}, with pointwise {percent(study)} bootstrap "
            f"bands ({study.settings.bootstraps} samples of patients; drawn where a panel has one model, all in the "
            f"CSV); {_looked_at(study)}",
            _numbers(study, [*parts] if study.binary else parts[-1:]),
            f"{lines} of {len(use.decisions)} curves are drawn, all are in the CSV"
            if lines < len(use.decisions)
            else "",
        ),
        pd.concat(frames, ignore_index=True)[columns],
    )


def _numbers(study: Study, parts: list[str]) -> str:
    return ", ".join(
        f"{part} {values['patients']} patients" + (f" ({values['positive']} positive)" if study.binary else "")
        for part in dict.fromkeys(parts)
        for values in [numbers_of(study, part)]
    )
