"""Figures of a survival analysis: which are drawn and what their captions say; `survival_plots` draws them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import tables
from ..artefacts import TableArtefacts
from ..estimates import p_text
from . import calibrate, competing, data, decision, discrimination, plots, survival, survival_plots
from .artefacts import sentence
from .survive_evaluate import Judged
from .survive_null import Null
from .survive_study import Study
from .survive_tables import percent_of, title_of

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
    """Observed against predicted risk at the first time of interest: smooth curve and Kaplan-Meier of risk groups."""
    t, level, rows = study.times[0], study.settings.level, []
    for part in _judged_parts(study):
        here = study.part(part)
        time, event = study.follow_up[here, 0], study.event[here]
        risk = 1 - judged.predicted[study.primary][here, 0]
        low, high = np.quantile(risk, [0.02, 0.98]) if len(risk) > 1 else (0.0, 0.0)
        at = np.linspace(low, high, 60)
        curve = calibrate.smooth(time, event, risk, t, at)
        rows += [{"part": part, "kind": "curve", "predicted": a, "observed": o} for a, o in zip(at, curve, strict=True)]
        edges = np.quantile(risk, np.linspace(0, 1, QUANTILES + 1)[1:-1])
        which = np.searchsorted(edges, risk, side="right")
        for group in range(QUANTILES):
            members = which == group
            if members.sum() >= 2:
                km = survival.kaplan_meier(time[members], event[members], level=level, interval="log-log")
                lower, upper = km.between(np.array([t]))
                rows.append({"part": part, "kind": "group", "predicted": risk[members].mean(),
                             "observed": 1 - km.at(np.array([t]))[0], "lower": 1 - upper[0], "upper": 1 - lower[0],
                             "patients": int(members.sum())})  # fmt: skip
    frame = pd.DataFrame(rows, columns=["part", "kind", "predicted", "observed", "lower", "upper", "patients"])
    if frame["observed"].notna().any():
        artefacts.figure(
            survival_plots.calibration(frame, f"risk by {t:g} {study.unit}"),
            "calibration",
            f"{title_of(study)}: calibration at {t:g} {study.unit}",
            sentence(
                f"Observed against predicted risk of {study.settings.outcome} by {t:g} {study.unit}, model "
                f"{study.primary}: lines from Cox regression on a spline of the prediction, squares one minus "
                f"Kaplan-Meier of {QUANTILES} groups of predicted risk with {percent_of(study)} intervals; "
                f"{_counts(study)}"
            ),
            frame,
        )


def _predicted(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Mean predicted survival of the risk groups over their Kaplan-Meier curves."""
    rows = []
    groups, curve = judged.groups[study.primary], judged.grid[study.primary]
    for part in _judged_parts(study):
        for group in ("low", "high"):
            here = study.part(part) & (groups == group)
            if not here.any():
                continue
            km = survival.kaplan_meier(study.follow_up[here, 0], study.event[here], level=study.settings.level,
                                       interval=study.settings.interval)  # fmt: skip
            last = min(judged.steps[-1], km.time[-1])
            at = np.r_[0.0, km.time[km.time < last], last]
            rows += [
                {"part": part, "group": group, "kind": "observed", "time": t, "value": v, "lower": low, "upper": high}
                for t, v, low, high in zip(at, km.at(at), *km.between(at), strict=True)
            ]
            kept = judged.steps <= study.follow_up[here, 0].max()
            mean = curve[here][:, kept].mean(axis=0)
            rows += [
                {"part": part, "group": group, "kind": "predicted", "time": t, "value": v}
                for t, v in [(0.0, 1.0), *zip(judged.steps[kept], mean, strict=True)]
            ]
    frame = pd.DataFrame(rows)
    if len(frame):
        artefacts.figure(
            survival_plots.predicted(frame, study.unit),
            "predicted",
            f"{title_of(study)}: predicted over observed survival",
            sentence(
                f"Mean predicted survival (dashed) of the risk groups of model {study.primary} over Kaplan-Meier "
                f"curves (solid, pointwise {percent_of(study)} intervals); {_counts(study)}"
            ),
            frame,
        )


def _decision(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Net benefit of every model at the first time of interest."""
    t, rows = study.times[0], []
    low, high = study.settings.decision_thresholds
    thresholds = decision.grid(low, high)
    for part in _judged_parts(study):
        here = study.part(part)
        time, event = study.follow_up[here, 0], study.event[here]
        everyone = None
        for key in study.settings.models:
            risk = 1 - judged.predicted[key][here, 0]
            if not np.isfinite(risk).all():
                continue
            benefit, everyone = discrimination.net_benefit(time, event, risk, t, thresholds)
            rows += [{"part": part, "strategy": key, "threshold": a, "net_benefit": b}
                     for a, b in zip(thresholds, benefit, strict=True)]  # fmt: skip
        if everyone is not None:
            rows += [{"part": part, "strategy": "all", "threshold": a, "net_benefit": b}
                     for a, b in zip(thresholds, everyone, strict=True)]  # fmt: skip
    frame = pd.DataFrame(rows)
    if len(frame):
        artefacts.figure(
            survival_plots.decision(frame),
            "decision",
            f"{title_of(study)}: decision curves",
            sentence(
                f"Net benefit of treating patients whose predicted risk by {t:g} {study.unit} reaches a threshold, for "
                "every model, for treating all and for treating none (zero); observed risk by Kaplan-Meier; "
                f"thresholds from {low:g} to {high:g}; "
                f"{_counts(study)}"
            ),
            frame,
        )
