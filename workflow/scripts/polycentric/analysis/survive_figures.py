"""Figures of a survival analysis: which are drawn and what their captions say; `survival_plots` draws them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import tables
from ..artefacts import TableArtefacts
from ..estimates import p_text, shown
from . import competing, data, decision, plots, survival, survival_plots
from .artefacts import sentence
from .survive_evaluate import SMOOTH_BOOTSTRAPS, Judged
from .survive_null import Null
from .survive_study import Study
from .survive_tables import percent_of, title_of

COLUMNS = ("net_benefit", "lower", "upper", "gain", "gain_lower", "gain_upper")
QUANTILES = 4  # groups of predicted risk in the calibration plot


def write(study: Study, judged: Judged, null: Null, artefacts: TableArtefacts) -> None:
    """Write every figure of the analysis; each says so when there is nothing to draw or is left out."""
    _summary(study, judged, artefacts)
    _concordance(study, judged, artefacts)
    _null(study, judged, null, artefacts)
    if study.settings.competing is None and np.isfinite(judged.indices[study.primary]).all() and study.times:
        _calibration(study, judged, artefacts)
        _predicted(study, judged, artefacts)
        _decision(study, judged, artefacts)


def _counts(study: Study) -> str:
    return ", ".join(
        f"{part} {v['patients']} patients ({v['events']} events)"
        for part, v in study.counts["parts"].items()
        if v["patients"]
    )


def _shown_parts(study: Study) -> list[str]:
    parts = [p for p in tables.PARTS if study.part(p).any()]
    if len(parts) > 3:
        parts.remove("validation")
    return parts


def _summary(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    settings, primary = study.settings, study.primary
    cut = {"median": "median", "upper-quartile": "75th percentile", "maximal": "most significant cut"}[settings.cut]
    drawn = "Cumulative incidence" if settings.competing is not None else "Kaplan-Meier curves"
    columns = ["part", "group", "time", "value", "lower", "upper", "at_risk", "events"]
    parts = _shown_parts(study) if (judged.groups[primary] != "").all() else []
    if parts:
        panels, notes = {}, {}
        for part in parts:
            here = study.part(part)
            panels[part] = {
                group: _steps(study, here & (judged.groups[primary] == group))
                for group in ("low", "high")
                if (here & (judged.groups[primary] == group)).any()
            }
            test = judged.results[primary]["parts"][part]["log_rank"]
            p = p_text(test["p"])
            notes[part] = (
                "apparent" if part == "training" else f"{test['test']} p {p if '<' in p else '= ' + p}" * bool(p)
            )
        figure, numbers = survival_plots.curves(
            panels, notes, study.unit, "incidence" if settings.competing is not None else "survival"
        )
    else:
        figure, numbers = plots.empty("No survival curves: no model could be fitted."), pd.DataFrame(columns=columns)
    artefacts.figure(
        figure,
        "summary",
        f"{title_of(study)}: {drawn} by predicted risk",
        sentence(
            settings.question,
            f"{drawn} of outcome {settings.outcome} with pointwise {percent_of(study)} intervals by risk group of "
            f"model {primary}, cut at the {cut} of its index in training; {_counts(study)}; ticks are censored "
            "patients, the numbers below are patients at risk",
            settings.caption,
        ),
        numbers,
    )


def _steps(study: Study, here: np.ndarray) -> survival_plots.Steps:
    settings, time = study.settings, study.follow_up[here, 0]
    if settings.competing is not None:
        found = competing.aalen_johansen(time, study.cause[here], level=settings.level)
        value, events = found.incidence, found.events
        left = found.at_risk - np.bincount(np.searchsorted(found.time, time[study.cause[here] > 0]),
                                           minlength=len(found.time))  # fmt: skip
    else:
        found = survival.kaplan_meier(time, study.event[here], level=settings.level, interval=settings.interval)
        value, events = found.survival, found.events
        left = found.at_risk - found.events
    censored = found.time[left > np.r_[found.at_risk[1:], 0]]
    return survival_plots.Steps(found.time, value, found.lower, found.upper, found.at_risk, events, censored, time)


def _concordance(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = [
        {"group": key, "label": f"{key}, {part} (n = {v['c_index']['n']})" + " apparent" * (part == "training"),
         **{k: v["c_index"][k] for k in ("value", "lower", "upper")}}
        for part in tables.PARTS
        for key, entry in judged.results.items()
        if (v := entry["parts"].get(part)) is not None
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["group", "label", "value", "lower", "upper"])
    frame = frame.astype(dict.fromkeys(("value", "lower", "upper"), float))
    if frame["value"].notna().any():
        artefacts.figure(
            plots.forest(frame, "Harrell's C", 0.5),
            "concordance",
            f"{title_of(study)}: concordance",
            sentence(f"Harrell's C of every model and part with {percent_of(study)} bootstrap intervals; "
                     f"{_counts(study)}"),
            frame,
        )  # fmt: skip


def _null(study: Study, judged: Judged, null: Null, artefacts: TableArtefacts) -> None:
    values = [
        {"label": f"{key}, {part}", "kind": kind, "value": value}
        for key, by_part in null.items()
        for part, samples in by_part.items()
        for kind, value in [
            ("observed", judged.results[key]["parts"][part]["c_index"]["value"]),
            *(("null", v) for v in samples),
        ]
    ]
    distribution = pd.DataFrame(values, columns=["label", "kind", "value"]).astype({"value": float})
    if distribution.loc[distribution["kind"] == "null", "value"].notna().any():
        artefacts.figure(
            plots.null(distribution, "Harrell's C"),
            "null",
            f"{title_of(study)}: null distribution",
            sentence(f"Harrell's C of {study.settings.permutations} runs of the whole chain with permuted follow-up of "
                     f"the training patients{study.settings.permuted_where} (grey) against the observed C"),
            distribution,
        )  # fmt: skip


def _judged_parts(study: Study) -> list[str]:
    """Held-out parts that are followed beyond the first time of interest; training where there is none."""
    t = study.times[0]
    parts = [
        p for p in (*data.HELD_OUT, "training") if study.part(p).any() and study.follow_up[study.part(p), 0].max() > t
    ]
    held = [p for p in parts if p != "training"]
    return held or parts


def _calibration(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Observed against predicted risk at every time of interest: smooth curve and Kaplan-Meier of risk groups."""
    level, rows = study.settings.level, []
    for (key, part, t), curve in judged.curves.items():
        here, common = study.part(part), {"model": key, "part": part, "time": t}
        time, event = study.follow_up[here, 0], study.event[here]
        rows += [
            {**common, "kind": "curve", "predicted": a, "observed": o, "lower": low, "upper": high}
            for a, o, low, high in zip(*curve, strict=True)
        ]
        risk = 1 - judged.predicted[key][here, study.times.index(t)]
        edges = np.quantile(risk, np.linspace(0, 1, QUANTILES + 1)[1:-1])
        which = np.searchsorted(edges, risk, side="right")
        for group in range(QUANTILES):
            members = which == group
            if members.sum() >= 2:
                km = survival.kaplan_meier(time[members], event[members], level=level, interval="log-log")
                lower, upper = km.between(np.array([t]))
                rows.append({**common, "kind": "group", "predicted": risk[members].mean(),
                             "observed": 1 - km.at(np.array([t]))[0], "lower": 1 - upper[0], "upper": 1 - lower[0],
                             "patients": int(members.sum())})  # fmt: skip
    columns = ["model", "part", "time", "kind", "predicted", "observed", "lower", "upper", "patients"]
    frame = pd.DataFrame(rows, columns=columns)
    drawn = frame[frame["model"].eq(study.primary) & frame["part"].isin(_judged_parts(study))]
    if drawn["observed"].notna().any():
        artefacts.figure(
            survival_plots.calibration(drawn, study.unit),
            "calibration",
            f"{title_of(study)}: calibration at a time",
            sentence(
                f"Observed against predicted risk of {study.settings.outcome}, model {study.primary}: lines from Cox "
                f"regression on a spline of the prediction with pointwise {percent_of(study)} bands of "
                f"{min(study.settings.bootstraps, SMOOTH_BOOTSTRAPS)} bootstrap samples of patients, squares one minus "
                f"Kaplan-Meier of {QUANTILES} groups of predicted risk with {percent_of(study)} intervals; "
                f"{_counts(study)}",
                "All models and parts are in the CSV" if len(drawn) < len(frame) else "",
            ),
            frame,
        )


def _predicted(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Mean predicted survival of the risk groups over their Kaplan-Meier curves."""
    rows: list[dict] = []
    for key in study.settings.models:
        if np.isfinite(judged.indices[key]).all():
            rows += _predicted_rows(study, judged, key)
    frame = pd.DataFrame(rows)
    drawn = frame[frame["model"].eq(study.primary)] if len(frame) else frame
    if len(drawn):
        artefacts.figure(
            survival_plots.predicted(drawn, study.unit),
            "predicted",
            f"{title_of(study)}: predicted over observed survival",
            sentence(
                f"Mean predicted survival (dashed) of the risk groups of model {study.primary} over Kaplan-Meier "
                f"curves (solid, pointwise {percent_of(study)} intervals); {_counts(study)}",
                "All models are in the CSV" if len(drawn) < len(frame) else "",
            ),
            frame,
        )


def _predicted_rows(study: Study, judged: Judged, key: str) -> list[dict]:
    rows: list[dict] = []
    groups, curve = judged.groups[key], judged.grid[key]
    for part in _judged_parts(study):
        for group in ("low", "high"):
            here = study.part(part) & (groups == group)
            if not here.any():
                continue
            km = survival.kaplan_meier(study.follow_up[here, 0], study.event[here], level=study.settings.level,
                                       interval=study.settings.interval)  # fmt: skip
            last = min(judged.steps[-1], km.time[-1])
            at = np.r_[0.0, km.time[km.time < last], last]
            common = {"model": key, "part": part, "group": group}
            rows += [
                {**common, "kind": "observed", "time": t, "value": v, "lower": low, "upper": high}
                for t, v, low, high in zip(at, km.at(at), *km.between(at), strict=True)
            ]
            kept = judged.steps <= study.follow_up[here, 0].max()
            mean = curve[here][:, kept].mean(axis=0)
            rows += [
                {**common, "kind": "predicted", "time": t, "value": v}
                for t, v in [(0.0, 1.0), *zip(judged.steps[kept], mean, strict=True)]
            ]
    return rows


def _decision(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Net benefit of every model at every time of interest."""
    rows, useful = [], []
    for (key, part, t), found in judged.decisions.items():
        common = {"part": part, "time": t}
        for strategy, values in ((key, found.model), (survival_plots.EVERYBODY, found.everyone)):
            gain = found.gain if strategy == key else np.full((3, len(found.thresholds)), np.nan)
            rows += [
                {**common, "strategy": strategy, "threshold": a, **dict(zip(COLUMNS, v, strict=True))}
                for a, *v in zip(found.thresholds, *values, *gain, strict=True)
            ]
        best = int(np.argmax(found.gain[0]))
        better = decision.in_words(decision.spans(found.thresholds, found.gain[1] > 0))
        useful.append(
            {"model": key, "part": part, "time": f"{t:g} {study.unit}", "patients": int(study.part(part).sum()),
             "better than all and none at thresholds": better or "none",
             "largest gain in net benefit": shown(dict(zip(("value", "lower", "upper"), found.gain[:, best],
                                                           strict=True)), 3),
             "at threshold": decision.text(found.thresholds[best])}
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    if not len(frame):
        return
    frame = frame.drop_duplicates(["part", "time", "strategy", "threshold"])  # treating all is the same for each model
    samples = min(study.settings.bootstraps, SMOOTH_BOOTSTRAPS)
    low, high = study.settings.decision_thresholds
    artefacts.figure(
        survival_plots.decision(frame[frame["part"].isin(_judged_parts(study))], study.unit),
        "decision",
        f"{title_of(study)}: decision curves",
        sentence(
            "Net benefit of treating patients whose predicted risk reaches a threshold, for every model, for treating "
            f"all and for treating none (zero); thresholds from {low:g} to {high:g}; observed risk by Kaplan-Meier; "
            f"pointwise {percent_of(study)} bands of "
            f"{samples} bootstrap samples of patients stand in the CSV, and are drawn where there is one model; "
            f"{_counts(study)}"
        ),
        frame,
    )
    artefacts.table(
        pd.DataFrame(useful),
        "decision",
        f"{title_of(study)}: where the models are of use",
        sentence(
            f"Outcome {study.settings.outcome}; thresholds of predicted risk at which treating by the model has a "
            "higher net benefit than treating all and treating none: the lower bound of the pointwise "
            f"{percent_of(study)} band of the paired gain is above 0 ({samples} bootstrap samples of patients)"
        ),
    )
