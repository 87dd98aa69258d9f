"""Classification of a binary outcome: chains fitted on training, evaluated on every other part."""

from __future__ import annotations

import itertools
import math
import warnings as python_warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.exceptions import ConvergenceWarning

from .. import ledger, tables
from ..artefacts import TableArtefacts
from ..config.analyses import ClassificationAnalysis
from ..config.clinical import ColumnSettings
from ..errors import UserError
from ..estimates import Estimate, estimate, finite, holm, p_text, percentiles, permutation_p, shown, wilson
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator, integer_seed
from ..words import in_words
from . import classifiers, data, plots, roc
from .artefacts import sentence, write_skops
from .schemas import CLASSIFICATION

CLINICAL = "clinical"  # the name of a set without features


@dataclass
class Study:
    """What one analysis works on: patients with a known outcome and features in every set, in one order."""

    name: str
    settings: ClassificationAnalysis
    seed: int
    frame: pd.DataFrame
    outcome: np.ndarray
    sets: dict[str, pd.DataFrame]
    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def part(self, part: str) -> np.ndarray:
        return self.frame["part"].eq(part).to_numpy()

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


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
    columns: Mapping[str, ColumnSettings] | None = None,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Fit and evaluate every model on every feature set; write the analysis folder; return the metrics.

    Parameters
    ----------
    features
        feature tables by set, for all of `settings.features`.
    outcome
        the declared outcome, type binary with `column` and `positive`, or type horizon.
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
    where = f"analyses: {name}"
    study = _study(name, settings, seed, features, patients, split, outcome, columns, where)
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=where)
    _check(study)
    fitted = _fit_all(study, log)
    drawn = {
        part: roc.weights(
            study.outcome[study.part(part)], settings.bootstraps, generator(seed, "analyse", name, "bootstrap", part)
        )
        for part in tables.PARTS
    }
    probabilities = {key: fit.probability(study.sets[key[0]]) if fit else np.full(len(ids), np.nan)
                     for key, fit in fitted.items()}  # fmt: skip
    null = _permutations(study, log) if training.any() else {}
    results: dict[str, Any] = {}
    for (set_name, model), probability in probabilities.items():
        entry = _evaluate(study, fitted[set_name, model], probability, drawn)
        observed = {part: entry["parts"][part]["auc"]["value"] for part in data.HELD_OUT if part in entry["parts"]}
        entry["permutation"] = _against_null(null.get((set_name, model), {}), observed, seed)
        results.setdefault(set_name, {})[model] = entry
    comparisons = _comparisons(study, probabilities, drawn)
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": [
            f"{set_name}, {model}: AUC {in_words(found['auc'])} on {found['auc']['n']} {part} patients."
            for set_name, models in results.items()
            for model, result in models.items()
            for part, found in result["parts"].items()
            if part in data.HELD_OUT
        ],
        "split": settings.split,
        "outcome": settings.outcome,
        "seed": seed,
        "cohort": study.counts,
        "results": results,
        "comparisons": comparisons,
        "warnings": study.warnings,
    }
    _write_tables(study, fitted, probabilities, results, comparisons, null, drawn, TableArtefacts(folder, root))
    for (set_name, model), fit in fitted.items():
        if fit:
            write_skops(fit.chain, folder / "models" / f"{set_name}--{model}.skops")
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


def _study(
    name: str,
    settings: ClassificationAnalysis,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    columns: Mapping[str, ColumnSettings] | None,
    where: str,
) -> Study:
    frame = data.cohort(patients, split, where)
    y = data.binary(frame, outcome, where)
    clinical = data.clinical(frame, settings.clinical, where, columns)
    per_set: dict[str, pd.DataFrame] = {}
    counts: dict[str, Any] = {"patients": len(frame), "without_outcome": int(y.isna().sum()), "sets": {}}
    if outcome.type == "horizon":
        counts["horizon"] = data.horizon_counts(frame, outcome, where)
    for set_name in settings.features:
        per_set[set_name], counts["sets"][set_name] = data.features(
            features[set_name], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
        )
    usable = y.notna()
    for table in per_set.values():
        usable &= frame.index.isin(table.index)
    if settings.select_on is not None:
        shared = set.intersection(*(set(table.columns) for table in per_set.values()))
        if not shared:
            raise UserError(
                f"{where}: the sets {list(per_set)} share no feature, so none can be selected on "
                f"{settings.select_on!r}: use one recipe for all of them, or remove select_on."
            )
        per_set = {key: table[sorted(shared)] for key, table in per_set.items()}
    frame, y, clinical = frame[usable], y[usable], clinical[usable]
    tables_ = {key: pd.concat([clinical, table.loc[frame.index]], axis=1) for key, table in per_set.items()}
    tables_, warnings = data.predictors(tables_ or {CLINICAL: clinical}, frame, settings, where)
    counts["used"] = len(frame)
    counts["parts"] = {
        part: {
            "patients": int(frame["part"].eq(part).sum()),
            "positive": int(y[frame["part"].eq(part)].sum()),
        }
        for part in tables.PARTS
    }
    return Study(name, settings, seed, frame, y.to_numpy(dtype=int), tables_, counts, warnings)


def _check(study: Study) -> None:
    """Say in plain words what the data cannot carry."""
    counts = study.counts
    if counts.get("horizon", {}).get("censored_before"):
        study.warn(f"{counts['horizon']['rule']}.")
    if lost := counts["patients"] - counts["used"]:
        study.warn(
            f"{lost} of {counts['patients']} patients of the split are left out: {counts['without_outcome']} without "
            "the outcome, the others without features in every set."
        )
    for part, numbers in counts["parts"].items():
        n, positive = numbers["patients"], numbers["positive"]
        smaller = min(positive, n - positive)
        if n and not smaller:
            study.warn(f"All {n} patients of the {part} part have the same outcome: nothing can be estimated there.")
        elif n and smaller < 10 and part != "training":
            study.warn(f"The smaller class of the {part} part has {smaller} patients: estimates are very uncertain.")
        elif part == "training" and n and smaller < 20:
            study.warn(
                f"Training has {smaller} patients in its smaller class: any model will be unstable, and choices by "
                "cross-validation are close to chance."
            )
    if not counts["parts"]["training"]["patients"]:
        study.warn("No patient in training: no model was fitted.")
    if not any(counts["parts"][part]["patients"] for part in data.HELD_OUT):
        study.warn("No patient outside training: there is no estimate of performance.")


def _fit_all(study: Study, log: Log) -> dict[tuple[str, str], classifiers.Fitted | None]:
    settings, training = study.settings, study.part("training")
    y = study.outcome[training]
    keys = list(itertools.product(study.sets, settings.models))
    if len(np.unique(y)) < 2:
        return dict.fromkeys(keys)
    fitted: dict[tuple[str, str], classifiers.Fitted | None] = {}
    for done, (set_name, model) in enumerate(keys, start=1):
        fit, converged = _fit(study, set_name, model, y, ("fit",), out_of_fold=True)
        fitted[set_name, model] = fit
        front = fit.chain.named_steps["front"]
        if not len(front.chosen_):
            study.warn(f"{model} on {set_name}: no feature was selected; every patient gets the same probability.")
        coefficients = getattr(fit.chain.named_steps["model"], "coef_", None)
        if coefficients is not None and not np.any(coefficients):
            study.warn(f"{model} on {set_name}: every coefficient is zero; every patient gets the same probability.")
        smaller = int(min(y.sum(), len(y) - y.sum()))
        if model == "logistic" and smaller < 10 * len(front.chosen_):
            study.warn(
                f"logistic on {set_name}: {smaller} patients in the smaller class for {len(front.chosen_)} "
                "coefficients; below 10 per coefficient an unpenalised model is unreliable: write keep: a smaller "
                "number, or a penalised model."
            )
        if not converged:
            study.warn(f"{model} on {set_name}: the fit did not converge; the classes may be separable.")
        if fit.folds < settings.resampling.folds:
            study.warn(f"Cross-validation uses {fit.folds} folds: the smaller class of training has no more patients.")
        log.progress("models", done, len(keys), set=set_name, model=model)
    return fitted


def _fit(
    study: Study, set_name: str, model: str, y: np.ndarray, stream: tuple[str | int, ...], *, out_of_fold: bool
) -> tuple[classifiers.Fitted, bool]:
    training = study.part("training")
    reference = study.settings.select_on
    choose_on = study.sets[reference][training] if reference is not None and reference != set_name else None
    names = ("analyse", study.name, "folds", *stream)  # the same folds for every set and model
    with (
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        python_warnings.catch_warnings(record=True) as caught,
    ):
        python_warnings.simplefilter("always", ConvergenceWarning)
        fit = classifiers.fit(
            model,  # type: ignore[arg-type]
            study.sets[set_name][training],
            y,
            study.settings,
            rng=generator(study.seed, *names),
            seed=integer_seed(study.seed, "analyse", study.name, set_name, model),
            choose_on=choose_on,
            out_of_fold=out_of_fold,
        )
    return fit, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _evaluate(
    study: Study,
    fit: classifiers.Fitted | None,
    probability: np.ndarray,
    drawn: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    settings, training = study.settings, study.part("training")
    y_training = study.outcome[training]
    out_of_fold = fit.out_of_fold if fit else np.full(int(training.sum()), np.nan)
    threshold = roc.youden(y_training, out_of_fold) if np.isfinite(out_of_fold).all() else math.nan
    source = "Youden, out-of-fold probabilities of training"
    if not math.isfinite(threshold):
        threshold, source = 0.5, "0.5, since training gives no Youden threshold"
    parts: dict[str, Any] = {}
    for part in tables.PARTS:
        here = study.part(part)
        if not here.any():
            continue
        parts[part] = _performance(study, study.outcome[here], probability[here], drawn[part], threshold)
    apparent = parts.get("training", {})
    for key in ("auc", "auc_delong"):
        if key in apparent:
            apparent[key]["method"] += "; apparent: the same patients fitted the model"
    if training.any():
        parts["cross-validated"] = _performance(study, y_training, out_of_fold, drawn["training"], threshold)
        for value in parts["cross-validated"].values():
            value["method"] += "; out-of-fold probabilities of training, averaged over repeats"
    centres = {}
    for centre in sorted(study.frame["centre"].unique()):
        for part in data.HELD_OUT:
            here = study.part(part) & study.frame["centre"].eq(centre).to_numpy()
            if here.any():
                centres[f"{centre} ({part})"] = {
                    "auc_delong": roc.delong(study.outcome[here], probability[here], level=settings.level)
                }
    return {
        "parts": parts,
        "centres": centres,
        "threshold": {"value": finite(threshold), "method": source},
        "penalty": fit.penalty if fit else None,
        "features_selected": len(fit.chain.named_steps["front"].chosen_) if fit else 0,
    }


def _performance(
    study: Study, y: np.ndarray, p: np.ndarray, drawn: tuple[np.ndarray, np.ndarray], threshold: float
) -> dict[str, Estimate]:
    level, n = study.settings.level, len(y)
    result = {
        "auc": roc.bootstrap(y, p, drawn, level=level, seed=study.seed),
        "auc_delong": roc.delong(y, p, level=level),
        **roc.calibration(y, p, level=level),
        "brier": estimate(float(np.mean((p - y) ** 2)), method="mean squared difference", n=n, level=level),
    }
    known = bool(np.isfinite(p).all())
    called, positive = p >= threshold, y == 1
    for key, among, right in (
        ("accuracy", np.ones(n, dtype=bool), called == positive),
        ("sensitivity", positive, called),
        ("specificity", ~positive, ~called),
    ):
        total = int(among.sum()) if known else 0
        result[key] = wilson(int((right & among).sum()) if known else 0, total, level=level)
    return result


Null = dict[tuple[str, str], dict[str, np.ndarray]]


def _permutations(study: Study, log: Log) -> Null:
    """AUC of every held-out part after the outcomes of training were permuted and the whole chain was run again."""
    settings, training = study.settings, study.part("training")
    y = study.outcome[training]
    keys = list(itertools.product(study.sets, settings.models))
    parts = [part for part in data.HELD_OUT if study.part(part).any()]
    null = {key: {part: np.full(settings.permutations, np.nan) for part in parts} for key in keys}
    if len(np.unique(y)) < 2 or not parts:
        return null
    for run in range(settings.permutations):
        permuted = generator(study.seed, "analyse", study.name, "permutation", run).permutation(y)
        for set_name, model in keys:
            fit, _ = _fit(study, set_name, model, permuted, ("permutation", run), out_of_fold=False)
            p = fit.probability(study.sets[set_name][~training])
            for part in parts:
                here = study.part(part)[~training]
                null[set_name, model][part][run] = roc.auc(study.outcome[~training][here], p[here])
        if (run + 1) % max(1, settings.permutations // 10) == 0:
            log.progress("permutations", run + 1, settings.permutations)
    return null


def _against_null(null: dict[str, np.ndarray], observed: dict[str, float | None], seed: int) -> dict[str, Any]:
    result = {}
    for part, values in null.items():
        value = observed.get(part)
        known = values[np.isfinite(values)]
        result[part] = {
            "observed": value,
            "mean": finite(known.mean()) if len(known) else None,
            "upper": finite(np.quantile(known, 0.95)) if len(known) else None,
            "p": finite(permutation_p(math.nan if value is None else value, values)),
            "n": len(known),
            "seed": seed,
            "method": "AUC with permuted outcomes of training, whole chain; upper: 95th percentile; one-sided p",
        }
    return result


def _comparisons(
    study: Study,
    probabilities: dict[tuple[str, str], np.ndarray],
    drawn: dict[str, tuple[np.ndarray, np.ndarray]],
) -> list[dict[str, Any]]:
    """Paired comparisons of models that differ in the set or in the model, on the same patients."""
    rows: list[dict[str, Any]] = []
    level = study.settings.level
    for part in data.HELD_OUT:
        here = study.part(part)
        if not here.any():
            continue
        block = []
        for (a, p), (b, q) in itertools.combinations(probabilities.items(), 2):
            if (a[0] != b[0]) == (a[1] != b[1]):
                continue
            y, first, second = study.outcome[here], p[here], q[here]
            test = roc.delong_paired(y, first, second, level=level)
            samples = roc.bootstrap_auc(y, first, drawn[part]) - roc.bootstrap_auc(y, second, drawn[part])
            lower, upper, used = percentiles(samples, level)
            block.append(
                {
                    "part": part,
                    "first": {"set": a[0], "model": a[1]},
                    "second": {"set": b[0], "model": b[1]},
                    "difference": estimate(
                        test.difference, test.lower, test.upper, method="DeLong, paired", n=len(y), level=level
                    ),
                    "difference_bootstrap": estimate(
                        test.difference,
                        lower,
                        upper,
                        method=f"percentile paired bootstrap within each class, {used} samples",
                        n=len(y),
                        level=level,
                        seed=study.seed,
                    ),
                    "z": finite(test.z),
                    "p": finite(test.p),
                }
            )
        for row, p_holm in zip(block, holm([math.nan if r["p"] is None else r["p"] for r in block]), strict=True):
            row["p_holm"] = finite(p_holm)
        rows += block
    return rows


def _write_tables(
    study: Study,
    fitted: dict[tuple[str, str], classifiers.Fitted | None],
    probabilities: dict[tuple[str, str], np.ndarray],
    results: dict[str, Any],
    comparisons: list[dict[str, Any]],
    null: Null,
    drawn: dict[str, tuple[np.ndarray, np.ndarray]],
    artefacts: TableArtefacts,
) -> None:
    settings = study.settings
    title = settings.title or study.name
    percent = f"{100 * settings.level:g} %"
    predictions, performance, centres, importances = [], [], [], []
    for (set_name, model), probability in probabilities.items():
        entry, fit = results[set_name][model], fitted[set_name, model]
        threshold = entry["threshold"]["value"]
        frame = study.frame[["centre", "patient", "part"]].reset_index(drop=True)
        frame = frame.assign(
            model=model, fold="main", set=set_name, outcome=study.outcome, probability=probability, threshold=threshold
        )
        frame["cross_validated"] = np.nan
        if fit:
            frame.loc[study.part("training"), "cross_validated"] = fit.out_of_fold
        frame["predicted"] = np.where(np.isfinite(probability), probability >= threshold, np.nan)
        predictions.append(frame)
        for part, values in entry["parts"].items():
            numbers = study.counts["parts"]["training" if part == "cross-validated" else part]
            performance.append(
                {
                    "features": set_name,
                    "model": model,
                    "part": part,
                    "patients": numbers["patients"],
                    "positive": numbers["positive"],
                    "AUC": shown(values["auc"]),
                    "AUC, DeLong": shown(values["auc_delong"]),
                    "sensitivity": shown(values["sensitivity"]),
                    "specificity": shown(values["specificity"]),
                    "accuracy": shown(values["accuracy"]),
                    "calibration slope": shown(values["calibration_slope"]),
                    "calibration in the large": shown(values["calibration_in_the_large"]),
                    "permutation p": p_text(entry["permutation"].get(part, {}).get("p")),
                }
            )
        for centre, values in entry["centres"].items():
            auc = values["auc_delong"]
            centres.append({"features": set_name, "model": model, "centre": centre, "patients": auc["n"],
                            "AUC, DeLong": shown(auc)})  # fmt: skip
        if fit:
            importances.append(classifiers.importance(fit.chain).assign(features=set_name, model=model))
    tables.write(
        pd.concat(predictions, ignore_index=True).sort_values(["set", "model", "patient"]),
        artefacts.folder / "predictions.parquet",
        CLASSIFICATION,
    )
    outcome = f"Outcome {settings.outcome}"
    artefacts.table(
        pd.DataFrame(performance),
        "performance",
        f"{title}: performance",
        sentence(
            f"{outcome}; estimates with {percent} intervals (AUC: stratified bootstrap, {settings.bootstraps} samples; "
            "proportions: Wilson; calibration: Wald). The threshold comes from training. Training rows are apparent "
            "performance of the patients who fitted the model; cross-validated rows are their out-of-fold predictions",
            f"Permutation p: {settings.permutations} runs of the whole chain with permuted outcomes",
        ),
    )
    artefacts.table(
        pd.DataFrame(centres, columns=["features", "model", "centre", "patients", "AUC, DeLong"]),
        "centres",
        f"{title}: performance by centre",
        sentence(f"{outcome}; AUC with DeLong's {percent} interval for every centre and held-out part"),
    )
    if importances:
        columns = ["features", "model"]
        frame = pd.concat(importances, ignore_index=True)
        artefacts.table(
            frame[columns + [c for c in frame.columns if c not in columns]],
            "variables",
            f"{title}: selected variables",
            "Variables of each fitted model: coefficient of the log odds per training standard deviation, or "
            "importance in a random forest; mean and sd are those of training.",
        )
    if comparisons:
        rows = [
            {
                "part": c["part"],
                "first": f"{c['first']['model']} on {c['first']['set']}",
                "second": f"{c['second']['model']} on {c['second']['set']}",
                "patients": c["difference"]["n"],
                "difference of AUC, DeLong": shown(c["difference"]),
                "difference of AUC, bootstrap": shown(c["difference_bootstrap"]),
                "p": p_text(c["p"]),
                "p, Holm": p_text(c["p_holm"]),
            }
            for c in comparisons
        ]
        artefacts.table(
            pd.DataFrame(rows),
            "comparisons",
            f"{title}: paired comparisons",
            sentence(f"{outcome}; first minus second on the same patients with {percent} intervals; p of DeLong's "
                     "paired test, corrected by Holm within each part"),
        )  # fmt: skip
    _roc_figure(study, probabilities, results, drawn, artefacts, title, percent)
    if settings.permutations and any(np.isfinite(v).any() for parts in null.values() for v in parts.values()):
        _null_figure(study, null, results, artefacts, title)
    artefacts.write()


def _roc_figure(
    study: Study,
    probabilities: dict[tuple[str, str], np.ndarray],
    results: dict[str, Any],
    drawn: dict[str, tuple[np.ndarray, np.ndarray]],
    artefacts: TableArtefacts,
    title: str,
    percent: str,
) -> None:
    settings, grid = study.settings, np.linspace(0, 1, 51)
    curves, titles, rows = [], {}, []
    for part in data.HELD_OUT:
        here = study.part(part)
        y = study.outcome[here]
        if len(np.unique(y)) < 2:
            continue
        for (set_name, model), probability in probabilities.items():
            p = probability[here]
            if not np.isfinite(p).all():
                continue
            false, true = roc.curve(y, p)
            lower = upper = np.empty(0)
            if settings.bootstraps >= 20:
                lower, upper = roc.curve_band(y, p, drawn[part], grid, level=settings.level)
            auc = results[set_name][model]["parts"][part]["auc"]
            label = f"{set_name}, {model}\nAUC {shown(auc)}"
            titles[part] = f"{part} (n = {len(y)}, positive = {int(y.sum())})"
            curves.append(plots.Curve(part, label, false, true, grid, lower, upper))
            common = {"part": part, "features": set_name, "model": model}
            rows += [{**common, "false_positive_rate": f, "sensitivity": t} for f, t in zip(false, true, strict=True)]
            rows += [{**common, "false_positive_rate": g, "lower": lo, "upper": up}
                     for g, lo, up in zip(grid[: len(lower)], lower, upper, strict=True)]  # fmt: skip
    if curves:
        figure = plots.roc(curves, titles)
    else:
        figure = plots.empty("No ROC curve: no part outside training has patients of both classes and a fitted model.")
    columns = ["part", "features", "model", "false_positive_rate", "sensitivity", "lower", "upper"]
    numbers = ", ".join(f"{part} {values['patients']} patients ({values['positive']} positive)"
                        for part, values in study.counts["parts"].items() if values["patients"])  # fmt: skip
    artefacts.figure(
        figure,
        "summary",
        f"{title}: ROC curves",
        sentence(
            settings.question,
            f"ROC curves of outcome {settings.outcome} with pointwise {percent} bootstrap bands (drawn "
            f"for up to three curves, all of them in the CSV); {numbers}",
            settings.caption,
        ),
        pd.DataFrame(rows, columns=columns),
    )


def _null_figure(study: Study, null: Null, results: dict[str, Any], artefacts: TableArtefacts, title: str) -> None:
    rows = []
    for (set_name, model), parts in null.items():
        for part, values in parts.items():
            label = f"{set_name}, {model}, {part}"
            rows.append({"label": label, "kind": "observed",
                         "value": results[set_name][model]["parts"][part]["auc"]["value"]})  # fmt: skip
            rows += [{"label": label, "kind": "null", "value": value} for value in values]
    frame = pd.DataFrame(rows).astype({"value": float})
    artefacts.figure(
        plots.null(frame, "AUC"),
        "null",
        f"{title}: null distribution",
        sentence(f"AUC of {study.settings.permutations} runs of the whole chain with permuted outcomes of the "
                 "training patients (grey) against the observed AUC"),
        frame,
    )  # fmt: skip
