"""Survival: Cox models with and without radiomics, compared on patients that none of them has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger, tables
from ..artefacts import TableArtefacts
from ..config.analyses import SurvivalAnalysis
from ..config.clinical import ColumnSettings
from ..estimates import Estimate, estimate, finite, normal_quantile, p_of_z, p_text, percentiles, permutation_p, shown
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator, integer_seed
from ..words import in_words
from . import cox, coxmodel, data, plots, survival
from .artefacts import sentence, write_skops
from .schemas import SURVIVAL

EVENTS_PER_VARIABLE = 10


@dataclass
class Study:
    """What one analysis works on: patients with known follow-up and features in every model, in one order."""

    name: str
    settings: SurvivalAnalysis
    seed: int
    unit: str
    frame: pd.DataFrame
    follow_up: np.ndarray
    tables: dict[str, pd.DataFrame]
    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def part(self, part: str) -> np.ndarray:
        return self.frame["part"].eq(part).to_numpy()

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    @property
    def event(self) -> np.ndarray:
        return self.follow_up[:, 1] > 0


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
    columns: Mapping[str, ColumnSettings] | None = None,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Fit every Cox model on training, evaluate it on every part, compare each with the first; write the folder.

    Parameters
    ----------
    features
        feature tables by set, for all sets that `settings.models` name.
    outcome
        the declared outcome, type time-to-event with `time`, `event` and `unit`.
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
        cannot carry the analysis (no events, too few patients) give null estimates and a warning instead.
    """
    where = f"analyses: {name}"
    study = _study(name, settings, seed, features, patients, split, outcome, columns, where)
    training = study.part("training")
    ids = study.frame["patient"]
    ledger.refuse(ids[training], ids[~training], ledgers, split=settings.split, where=where)
    _check(study)
    fitted = _fit_all(study, log)
    indices = {key: fit.index(study.tables[key]) if fit else np.full(len(ids), np.nan) for key, fit in fitted.items()}
    drawn = {
        part: survival.draw(
            int(study.part(part).sum()), settings.bootstraps, generator(seed, "analyse", name, "bootstrap", part)
        )
        for part in tables.PARTS
    }
    null = _permutations(study, log)
    cuts = {key: _cut(settings, index[training]) for key, index in indices.items()}
    groups = {key: _group(index, cuts[key]) for key, index in indices.items()}
    results = {
        key: _evaluate(study, fitted[key], indices[key], groups[key], cuts[key], drawn, null.get(key, {}))
        for key in settings.models
    }
    comparisons = _comparisons(study, indices, drawn)
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": [
            f"{model}: Harrell's C {in_words(found['c_index'])} on {found['c_index']['n']} {part} patients."
            for model, result in results.items()
            for part, found in result["parts"].items()
            if part in data.HELD_OUT
        ],
        "split": settings.split,
        "outcome": settings.outcome,
        "unit": study.unit,
        "seed": seed,
        "cohort": study.counts,
        "results": results,
        "comparisons": comparisons,
        "warnings": study.warnings,
    }
    artefacts = TableArtefacts(folder, root)
    _write_predictions(study, indices, groups, folder)
    _write_tables(study, fitted, results, comparisons, artefacts)
    _write_figures(study, indices, groups, results, null, artefacts)
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


def _study(
    name: str,
    settings: SurvivalAnalysis,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    columns: Mapping[str, ColumnSettings] | None,
    where: str,
) -> Study:
    frame = data.cohort(patients, split, where)
    follow_up = data.survival(frame, outcome, settings.horizon_days, where)
    usable = follow_up["time"].notna()
    counts: dict[str, Any] = {"patients": len(frame), "without_outcome": int((~usable).sum()), "sets": {}}
    per_set: dict[str, pd.DataFrame] = {}
    for set_name in sorted({m.features for m in settings.models.values() if m.features is not None}):
        per_set[set_name], counts["sets"][set_name] = data.features(
            features[set_name], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
        )
        usable &= frame.index.isin(per_set[set_name].index)
    per_model = {}
    for key, model in settings.models.items():
        table = data.clinical(frame, model.clinical, where, columns)[usable]
        if model.features is not None:
            table = pd.concat([table, per_set[model.features].loc[table.index]], axis=1)
        per_model[key] = table
    frame, follow_up = frame[usable], follow_up[usable]
    per_model, warnings = data.predictors(per_model, frame, settings, where)
    counts["used"] = len(frame)
    counts["parts"] = {
        part: {
            "patients": int(frame["part"].eq(part).sum()),
            "events": int(follow_up.loc[frame["part"].eq(part), "event"].sum()),
        }
        for part in tables.PARTS
    }
    unit = str(getattr(outcome, "unit", "days"))
    return Study(name, settings, seed, unit, frame, follow_up.to_numpy(dtype=float), per_model, counts, warnings)


def _check(study: Study) -> None:
    counts = study.counts
    if lost := counts["patients"] - counts["used"]:
        study.warn(
            f"{lost} of {counts['patients']} patients of the split are left out: {counts['without_outcome']} without "
            "follow-up after time zero, the others without features in every set."
        )
    for part, numbers in counts["parts"].items():
        n, events = numbers["patients"], numbers["events"]
        if n and not events:
            study.warn(f"No event among the {n} patients of the {part} part: nothing can be estimated there.")
        elif n and events < 20:
            study.warn(f"The {part} part has {events} events among {n} patients: its estimates are very uncertain.")
    if not counts["parts"]["training"]["patients"]:
        study.warn("No patient in training: no model was fitted.")
    if not any(counts["parts"][part]["patients"] for part in data.HELD_OUT):
        study.warn("No patient outside training: there is no estimate of performance.")


def _fit_all(study: Study, log: Log) -> dict[str, coxmodel.Fitted | None]:
    settings, training = study.settings, study.part("training")
    y = study.follow_up[training]
    fitted: dict[str, coxmodel.Fitted | None] = dict.fromkeys(settings.models)
    events = int((y[:, 1] > 0).sum())
    if not events:
        return fitted
    for done, key in enumerate(settings.models, start=1):
        fit = _fit(study, key, y, ("fit",), cross_validate=True)
        fitted[key] = fit
        front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]
        selected = len(front.chosen_)
        if not selected:
            study.warn(f"{key}: no variable was selected; every patient has the same index.")
        elif events < EVENTS_PER_VARIABLE * selected:
            study.warn(
                f"{key}: {events} events of training for {selected} variables, {events / selected:.1f} per variable; "
                f"below {EVENTS_PER_VARIABLE} coefficients are unreliable: use fewer clinical columns, or write "
                "selection: {keep: a smaller number}."
            )
        if model.rescued_:
            study.warn(
                f"{key}: the likelihood has no maximum (a variable separates early from late events); every variable "
                f"got a ridge of {coxmodel.RESCUE} per event."
            )
        if fit.folds < settings.resampling.folds:
            study.warn(f"Cross-validation uses {max(fit.folds, 0)} folds: training has too few events for more.")
        log.progress("models", done, len(settings.models), model=key)
    return fitted


def _fit(
    study: Study, key: str, y: np.ndarray, stream: tuple[str | int, ...], *, cross_validate: bool
) -> coxmodel.Fitted:
    return coxmodel.fit(
        study.tables[key][study.part("training")],
        y,
        study.settings,
        study.settings.models[key].clinical,
        rng=generator(study.seed, "analyse", study.name, "folds", *stream),
        seed=integer_seed(study.seed, "analyse", study.name, key),
        cross_validate=cross_validate,
    )


def _cut(settings: SurvivalAnalysis, index: np.ndarray) -> float:
    if not len(index) or not np.isfinite(index).all():
        return math.nan
    return float(np.quantile(index, {"median": 0.5, "upper-quartile": 0.75}[settings.cut]))


def _group(index: np.ndarray, cut: float) -> np.ndarray:
    if not math.isfinite(cut):
        return np.full(len(index), "", dtype=object)
    return np.where(index > cut, "high", "low").astype(object)


def _c(study: Study, part: str, index: np.ndarray, drawn: np.ndarray) -> Estimate:
    here = study.part(part)
    time, event = study.follow_up[here, 0], study.event[here]
    samples = survival.bootstrap_concordance(time, event, index[here], drawn)
    lower, upper, used = percentiles(samples, study.settings.level)
    return estimate(
        survival.concordance(time, event, index[here]),
        lower,
        upper,
        method=f"Harrell's C, percentile bootstrap over patients, {used} samples",
        n=int(here.sum()),
        level=study.settings.level,
        seed=study.seed,
        events=int(event.sum()),
    )


def _evaluate(
    study: Study,
    fit: coxmodel.Fitted | None,
    index: np.ndarray,
    group: np.ndarray,
    cut: float,
    drawn: dict[str, np.ndarray],
    null: dict[str, np.ndarray],
) -> dict[str, Any]:
    level = study.settings.level
    parts: dict[str, Any] = {}
    for part in tables.PARTS:
        here = study.part(part)
        if not here.any():
            continue
        time, event, n = study.follow_up[here, 0], study.event[here], int(here.sum())
        c = _c(study, part, index, drawn[part])
        if part == "training":
            c["method"] += "; apparent: the same patients fitted the model"
        chi, p = survival.log_rank(time, event, group[here])
        parts[part] = {
            "c_index": c,
            "calibration_slope": _cox_one(index[here], time, event, level, n, "Wald, Cox regression on the index"),
            "log_hazard_ratio_high_low": _cox_one(
                (group[here] == "high").astype(float), time, event, level, n, "Wald, Cox regression on the risk group"
            ),
            "log_rank": {"chi_squared": finite(chi), "p": finite(p), "n": n},
        }
    cross = estimate(
        fit.cross_validated if fit else math.nan,
        method="Harrell's C of pairs within the same fold; no interval, since folds share patients",
        n=int(study.part("training").sum()),
        level=level,
        seed=study.seed,
    )
    apparent = parts.get("training", {}).get("c_index", {}).get("value")
    optimism = apparent - cross["value"] if apparent is not None and cross["value"] is not None else math.nan
    centres = {}
    for centre in sorted(study.frame["centre"].unique()):
        for part in data.HELD_OUT:
            here = study.part(part) & study.frame["centre"].eq(centre).to_numpy()
            if here.any():
                rng = generator(study.seed, "analyse", study.name, "bootstrap", part, centre)
                draws = survival.draw(int(here.sum()), study.settings.bootstraps, rng)
                time, event = study.follow_up[here, 0], study.event[here]
                samples = survival.bootstrap_concordance(time, event, index[here], draws)
                lower, upper, used = percentiles(samples, level)
                centres[f"{centre} ({part})"] = estimate(
                    survival.concordance(time, event, index[here]), lower, upper,
                    method=f"Harrell's C, percentile bootstrap over patients, {used} samples", n=int(here.sum()),
                    level=level, seed=study.seed, events=int(event.sum()),
                )  # fmt: skip
    permutation = {}
    for part, values in null.items():
        known = values[np.isfinite(values)]
        observed = parts[part]["c_index"]["value"]
        permutation[part] = {
            "observed": observed,
            "mean": finite(known.mean()) if len(known) else None,
            "upper": finite(np.quantile(known, 0.95)) if len(known) else None,
            "p": finite(permutation_p(math.nan if observed is None else observed, values)),
            "n": len(known),
            "seed": study.seed,
            "method": "C with permuted follow-up of training, whole chain; upper: 95th percentile; one-sided p",
        }
    return {
        "parts": parts,
        "cross_validated_c_index": cross,
        "optimism": estimate(
            optimism, method="apparent less cross-validated C of training", n=cross["n"], level=level, seed=study.seed
        ),
        "centres": centres,
        "cut": {"value": finite(cut), "method": f"{study.settings.cut} of the index of training patients"},
        "ridge_per_event": fit.ridge if fit else None,
        "variables": len(fit.chain.named_steps["front"].chosen_) if fit else 0,
        "permutation": permutation,
    }


def _cox_one(x: np.ndarray, time: np.ndarray, event: np.ndarray, level: float, n: int, method: str) -> Estimate:
    value = error = math.nan
    if n > 2 and np.isfinite(x).all() and np.ptp(x) > 1e-9 and event.any():
        fit = cox.fit(x[:, None], time, event)
        if fit.converged:
            value, error = float(fit.coefficients[0]), float(fit.errors[0])
    half = normal_quantile(level) * error
    return estimate(value, value - half, value + half, method=method, n=n, level=level, events=int(event.sum()))


def _permutations(study: Study, log: Log) -> dict[str, dict[str, np.ndarray]]:
    """C of every held-out part after the follow-up of training was permuted and the whole chain was run again."""
    settings, training = study.settings, study.part("training")
    y = study.follow_up[training]
    parts = [part for part in data.HELD_OUT if study.part(part).any()]
    null = {key: {part: np.full(settings.permutations, np.nan) for part in parts} for key in settings.models}
    if not (y[:, 1] > 0).any() or not parts:
        return null
    held_out = {part: (study.part(part), study.follow_up[study.part(part), 0], study.event[study.part(part)])
                for part in parts}  # fmt: skip
    for run in range(settings.permutations):
        order = generator(study.seed, "analyse", study.name, "permutation", run).permutation(len(y))
        for key in settings.models:
            fit = _fit(study, key, y[order], ("permutation", run), cross_validate=False)
            index = fit.index(study.tables[key])
            for part, (here, time, event) in held_out.items():
                null[key][part][run] = survival.concordance(time, event, index[here])
        if (run + 1) % max(1, settings.permutations // 10) == 0:
            log.progress("permutations", run + 1, settings.permutations)
    return null


def _comparisons(study: Study, indices: dict[str, np.ndarray], drawn: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Difference of C of every further model and the first, on the same patients and bootstrap samples."""
    first, *others = study.settings.models
    level = study.settings.level
    rows = []
    for key in others:
        for part in tables.PARTS:
            here = study.part(part)
            if not here.any():
                continue
            time, event = study.follow_up[here, 0], study.event[here]
            values, samples = [], []
            for model in (key, first):
                values.append(survival.concordance(time, event, indices[model][here]))
                samples.append(survival.bootstrap_concordance(time, event, indices[model][here], drawn[part]))
            difference = samples[0] - samples[1]
            lower, upper, used = percentiles(difference, level)
            known = difference[np.isfinite(difference)]
            spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
            value = values[0] - values[1]
            rows.append(
                {
                    "part": part,
                    "first": {"model": key},
                    "second": {"model": first},
                    "difference": estimate(
                        value,
                        lower,
                        upper,
                        method=f"difference of Harrell's C, percentile paired bootstrap, {used} samples"
                        + ("; apparent" if part == "training" else ""),
                        n=int(here.sum()),
                        level=level,
                        seed=study.seed,
                        events=int(event.sum()),
                    ),
                    "p": finite(p_of_z(value / spread)) if spread > 0 and part != "training" else None,
                }
            )
    return rows


def _write_predictions(
    study: Study, indices: dict[str, np.ndarray], groups: dict[str, np.ndarray], folder: Path
) -> None:
    base = study.frame[["centre", "patient", "part"]].reset_index(drop=True)
    frames = [
        base.assign(model=key, fold="main", time=study.follow_up[:, 0], event=study.follow_up[:, 1], index=index,
                    group=groups[key])
        for key, index in indices.items()
    ]  # fmt: skip
    table = pd.concat(frames, ignore_index=True).sort_values(["model", "patient"])
    tables.write(table, folder / "predictions.parquet", SURVIVAL)


def _variables(study: Study, key: str, fit: coxmodel.Fitted) -> pd.DataFrame:
    """Coefficients of a fitted model per unit and per SD, with intervals and the proportional-hazards test."""
    front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]
    training = study.part("training")
    z = front.transform(study.tables[key][training])
    names = list(front.get_feature_names_out())
    beta, error, half = model.coef_, model.errors_, normal_quantile(study.settings.level) * model.errors_
    penalised = np.arange(len(names)) >= (0 if model.rescued_ else model.free)
    penalised &= model.ridge > 0 or model.rescued_
    p_zph = np.full(len(names) + 1, np.nan)
    if not penalised.any():  # the score test needs the maximum of the likelihood, where the other scores are zero
        p_zph = cox.proportional_hazards(z, study.follow_up[training, 0], study.event[training], beta)[1]
        if p_zph[-1] < 0.05:
            study.warn(f"{key}: hazards may not be proportional (global p {p_zph[-1]:.3f}); see its variables.")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z_value = np.where(error > 0, beta / error, np.nan)
        frame = pd.DataFrame(
            {
                "model": key,
                "variable": names,
                "coefficient_per_unit": beta / front.scale_,
                "hazard_ratio_per_unit": np.exp(beta / front.scale_),
                "hazard_ratio_per_sd": np.exp(beta),
                "lower": np.exp(beta - half),
                "upper": np.exp(beta + half),
                "p": [p_of_z(v) for v in z_value],
                "penalised": penalised,
                "proportional_hazards_p": p_zph[: len(names)],
                "mean": front.mean_,
                "sd": front.scale_,
            }
        )
    frame.loc[frame["penalised"], "p"] = np.nan
    return frame


def _write_tables(
    study: Study,
    fitted: dict[str, coxmodel.Fitted | None],
    results: dict[str, Any],
    comparisons: list[dict[str, Any]],
    artefacts: TableArtefacts,
) -> None:
    settings = study.settings
    title = settings.title or study.name
    percent = f"{100 * settings.level:g} %"
    outcome = f"Outcome {settings.outcome}" + (
        f", follow-up cut at {settings.horizon_days:g} days" if settings.horizon_days else ""
    )
    performance, centres = [], []
    for key, entry in results.items():
        for part, values in entry["parts"].items():
            ratio = values["log_hazard_ratio_high_low"]
            row = {
                "model": key,
                "part": part,
                "patients": values["c_index"]["n"],
                "events": values["c_index"]["events"],
                "C": shown(values["c_index"]),
                "C, cross-validated": shown(entry["cross_validated_c_index"]) if part == "training" else "",
                "optimism": shown(entry["optimism"]) if part == "training" else "",
                "calibration slope": shown(values["calibration_slope"]) if part != "training" else "",
                "hazard ratio, high to low risk": _ratio(ratio),
                "log-rank p": p_text(values["log_rank"]["p"]) if part != "training" else "",
                "permutation p": p_text(entry["permutation"].get(part, {}).get("p")),
            }
            performance.append(row)
        for centre, value in entry["centres"].items():
            centres.append({"model": key, "centre": centre, "patients": value["n"], "events": value["events"],
                            "C": shown(value)})  # fmt: skip
    artefacts.table(
        pd.DataFrame(performance),
        "performance",
        f"{title}: performance",
        sentence(
            f"{outcome}; Harrell's C with {percent} intervals by bootstrap over patients ({settings.bootstraps} "
            "samples)",
            "The C of training is apparent; optimism is its excess over cross-validation of the whole chain",
            f"Risk groups are cut at the training {settings.cut.replace('-', ' ')} of the prognostic index",
            f"Permutation p: {settings.permutations} runs of the whole chain with permuted follow-up",
        ),
    )
    artefacts.table(
        pd.DataFrame(centres, columns=["model", "centre", "patients", "events", "C"]),
        "centres",
        f"{title}: performance by centre",
        sentence(f"{outcome}; Harrell's C with {percent} bootstrap intervals for every centre and held-out part"),
    )
    frames = [_variables(study, key, fit) for key, fit in fitted.items() if fit]
    if frames:
        artefacts.table(
            pd.concat(frames, ignore_index=True),
            "variables",
            f"{title}: hazard ratios",
            sentence(
                f"Cox regression (Efron) on training; hazard ratios per unit and per standard deviation of training, "
                f"with Wald's {percent} intervals (per SD)",
                "Intervals of penalised variables are approximate and, like all here, do not know of the selection; "
                "these variables have no p value",
                "Proportional hazards: score test against time on the Kaplan-Meier scale",
            ),
        )
    if comparisons:
        rows = [
            {
                "part": c["part"],
                "model": c["first"]["model"],
                "against": c["second"]["model"],
                "patients": c["difference"]["n"],
                "events": c["difference"]["events"],
                "difference of C": shown(c["difference"], 3),
                "p": p_text(c["p"]),
            }
            for c in comparisons
        ]
        artefacts.table(
            pd.DataFrame(rows),
            "comparisons",
            f"{title}: comparison of models",
            sentence(f"{outcome}; difference of Harrell's C on the same patients with {percent} paired bootstrap "
                     "intervals; p from the bootstrap standard error; training is apparent and has none"),
        )  # fmt: skip


def _ratio(log_ratio: Estimate) -> str:
    if log_ratio["value"] is None or max(abs(log_ratio["lower"]), abs(log_ratio["upper"])) > 20:
        return "not estimable"
    return shown({k: math.exp(log_ratio[k]) for k in ("value", "lower", "upper")})


def _write_figures(
    study: Study,
    indices: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
    results: dict[str, Any],
    null: dict[str, dict[str, np.ndarray]],
    artefacts: TableArtefacts,
) -> None:
    settings = study.settings
    title = settings.title or study.name
    percent = f"{100 * settings.level:g} %"
    primary = settings.primary or list(settings.models)[-1]
    shown_parts = [p for p in tables.PARTS if study.part(p).any() and np.isfinite(indices[primary]).all()]
    if len(shown_parts) > 3:
        shown_parts.remove("validation")
    columns = ["part", "group", "time", "survival", "lower", "upper", "at_risk", "events"]
    if shown_parts:
        panels, notes = {}, {}
        for part in shown_parts:
            here = study.part(part)
            panels[part] = pd.DataFrame(
                {"time": study.follow_up[here, 0], "event": study.follow_up[here, 1], "group": groups[primary][here]}
            )
            p = p_text(results[primary]["parts"][part]["log_rank"]["p"])
            notes[part] = "apparent" if part == "training" else f"log-rank p {p if '<' in p else '= ' + p}" * bool(p)
        figure, numbers = plots.survival_curves(panels, notes, study.unit, settings.level)
    else:
        figure, numbers = plots.empty("No survival curves: no model could be fitted."), pd.DataFrame(columns=columns)
    counts = ", ".join(f"{part} {v['patients']} patients ({v['events']} events)"
                       for part, v in study.counts["parts"].items() if v["patients"])  # fmt: skip
    artefacts.figure(
        figure,
        "summary",
        f"{title}: Kaplan-Meier curves by predicted risk",
        sentence(
            settings.question,
            f"Kaplan-Meier curves of outcome {settings.outcome} with {percent} intervals by risk group of model "
            f"{primary}, cut at the training {settings.cut.replace('-', ' ')} of its index; {counts}; ticks are "
            "censored patients, the numbers below are patients at risk",
            settings.caption,
        ),
        numbers,
    )
    rows = [
        {"group": key, "label": f"{key}, {part} (n = {v['c_index']['n']})" + " apparent" * (part == "training"),
         **{k: v["c_index"][k] for k in ("value", "lower", "upper")}}
        for part in tables.PARTS
        for key, entry in results.items()
        if (v := entry["parts"].get(part)) is not None
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["group", "label", "value", "lower", "upper"])
    frame = frame.astype(dict.fromkeys(("value", "lower", "upper"), float))
    if frame["value"].notna().any():
        artefacts.figure(
            plots.forest(frame, "Harrell's C", 0.5),
            "concordance",
            f"{title}: concordance",
            sentence(f"Harrell's C of every model and part with {percent} bootstrap intervals; {counts}"),
            frame,
        )
    values = [
        {"label": f"{key}, {part}", "kind": kind, "value": value}
        for key, by_part in null.items()
        for part, samples in by_part.items()
        for kind, value in [
            ("observed", results[key]["parts"][part]["c_index"]["value"]),
            *(("null", v) for v in samples),
        ]
    ]
    distribution = pd.DataFrame(values, columns=["label", "kind", "value"]).astype({"value": float})
    if distribution.loc[distribution["kind"] == "null", "value"].notna().any():
        artefacts.figure(
            plots.null(distribution, "Harrell's C"),
            "null",
            f"{title}: null distribution",
            sentence(f"Harrell's C of {settings.permutations} runs of the whole chain with permuted follow-up of the "
                     "training patients (grey) against the observed C"),
            distribution,
        )  # fmt: skip
