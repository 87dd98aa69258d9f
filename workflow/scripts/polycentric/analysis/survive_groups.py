"""Performance of survival models by centre, sex, age group, scanner, and whether the groups differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ..artefacts import TableArtefacts
from ..estimates import Estimate, estimate, normal_quantile, p_text, shown
from . import data, evaluation_plots, subgroups, survival
from .artefacts import sentence
from .subgroups import Measured
from .survive_study import Study

MEASURES = {"c_index": "Harrell's C", "observed_to_expected": "observed / expected risk"}
MODELS = 6  # in the figure
DIFFERENT = 0.05


def assess(study: Study, key: str, index: np.ndarray, risk: np.ndarray, harrell: Any) -> dict[str, Any]:
    """C and observed over expected risk at the first time in every group of held-out patients, and tests, by part.

    `index` (n,) and `risk` (n,) of all patients by one model (risk NaN where it predicts none); `harrell` gives the C
    of rows (n,) as an estimate. Differences are corrected after Holm over the columns, for each model, part and
    measure; those of C become warnings.
    """
    found: dict[str, Any] = {}
    for part in data.HELD_OUT:
        here = study.part(part)
        if not here.any() or not np.isfinite(index[here]).all():
            continue
        masks = {name: mask & here for name, mask in study.groups.items() if (mask & here).any()}
        entry = {}
        measures = {"c_index": lambda rows: _concordance(study, rows, index, harrell)}
        if study.times and study.settings.competing is None and np.isfinite(risk[here]).all():
            measures["observed_to_expected"] = lambda rows: _ratio(study, rows, risk)
        for name, measure in measures.items():
            rows, differences = subgroups.performance(masks, measure, study.event, both=False)
            entry[name] = subgroups.for_metrics(rows, differences, level=study.settings.level)
        _say(study, f"{key}, {part}", entry["c_index"])
        found[part] = entry
    return found


def _concordance(study: Study, rows: np.ndarray, index: np.ndarray, harrell: Any) -> Measured:
    """C with its BCa interval; groups are compared on the logit scale with the infinitesimal jackknife's error."""
    found: Estimate = harrell(rows)
    c = found["value"]
    if c is None or not 0 < c < 1:
        return Measured(found, math.nan, math.nan)
    error = survival.concordance_error(study.follow_up[rows, 0], study.event[rows], index[rows])
    return Measured(found, math.log(c / (1 - c)), error / (c * (1 - c)))


def _ratio(study: Study, rows: np.ndarray, risk: np.ndarray) -> Measured:
    """Risk by Kaplan-Meier over the mean predicted risk at the first time, compared on the log scale."""
    t, level = study.times[0], study.settings.level
    time, event = study.follow_up[rows, 0], study.event[rows]
    value, error = log_ratio(time, event, float(risk[rows].mean()), t)
    half = normal_quantile(level) * error
    ratio = [math.exp(v) if math.isfinite(v) else math.nan for v in (value, value - half, value + half)]
    method = f"observed (Kaplan-Meier) over mean predicted risk at {t:g} {study.unit}, log scale, Greenwood"
    return Measured(estimate(*ratio, method=method, n=len(time), level=level, events=int(event.sum())), value, error)


def log_ratio(time: np.ndarray, event: np.ndarray, expected: float, t: float) -> tuple[float, float]:
    """Log of observed over expected risk by t, and its error: Greenwood's of the observed risk (Debray et al. 2017, BMJ
    356:i6460, appendix). NaN where nobody is followed beyond t, or nobody or everybody had the event by then."""
    curve = survival.kaplan_meier(time, event, interval="log")
    early = curve.time <= t
    alive = float(curve.at(np.array([t]))[0])
    if time.max() <= t or not 0 < alive < 1 or expected <= 0:
        return math.nan, math.nan
    events, at_risk = curve.events[early], curve.at_risk[early]
    greenwood = float(np.sum(events / (at_risk * (at_risk - events))))
    return math.log((1 - alive) / expected), alive * math.sqrt(greenwood) / (1 - alive)


def _say(study: Study, what: str, found: dict[str, Any]) -> None:
    for test in found["differences"]:
        if test["p_holm"] is None or test["p_holm"] >= DIFFERENT:
            continue
        own = {g: v for g, v in found["groups"].items() if g.startswith(f"{test['column']}: ")}
        values = ", ".join(
            f"{g.partition(': ')[2]} {v['value']:.2f} (n = {v['n']})" for g, v in own.items() if v["value"] is not None
        )
        study.warn(
            f"{what}: Harrell's C differs between groups of {test['column']} (p {p_text(test['p_holm'])} after Holm): "
            f"{values}. The C of all patients hides this: look at the group with the lowest before the model is used "
            "there."
        )


def write(study: Study, results: dict[str, Any], title: str, artefacts: TableArtefacts) -> None:
    rows: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for key, entry in results.items():
        for part, measures in entry["subgroups"].items():
            common = {"model": key, "part": part}
            for group, c in measures["c_index"]["groups"].items():
                values = {
                    words: shown(measures[name]["groups"][group])
                    for name, words in MEASURES.items()
                    if name in measures
                }
                why = c["method"].removeprefix("not estimated: ") if c["value"] is None else ""
                rows.append({**common, "group": group, "patients": c["n"], "events": c["events"], **values,
                             "why not": why})  # fmt: skip
            tests += [
                {**common, "measure": MEASURES[name]} | subgroups.test_row(test)
                for name, found in measures.items()
                for test in found["differences"]
            ]
    if not rows:
        return
    ratios = any("observed_to_expected" in found for e in results.values() for found in e["subgroups"].values())
    percent = f"{100 * study.settings.level:g} %"
    ratio = ""
    if ratios:
        at = f"{study.times[0]:g} {study.unit}"
        ratio = f"observed (Kaplan-Meier) over mean predicted risk at {at} with intervals from Greenwood's error; "
    artefacts.table(
        pd.DataFrame(rows),
        "subgroups",
        f"{title}: performance by group",
        sentence(
            f"Outcome {study.settings.outcome}; held-out patients; Harrell's C with BCa bootstrap {percent} intervals; "
            f"{ratio}no estimate below 10 patients or 5 events"
        ),
    )
    artefacts.table(
        pd.DataFrame(tests),
        "subgroup-differences",
        f"{title}: differences between groups",
        sentence(
            "Cochran's Q between the groups with an estimate, C on the logit scale, ratios on the log scale; p "
            "corrected by Holm over the columns, for each model, part and measure",
            "With few or small groups the test has little power: a large p does not show that they agree",
        ),
    )
    _forest(study, results, title, percent, artefacts)


def _forest(study: Study, results: dict[str, Any], title: str, percent: str, artefacts: TableArtefacts) -> None:
    blocks = []
    parts = [part for part in data.HELD_OUT if study.part(part).any()]
    for key, entry in results.items():
        for part, measures in entry["subgroups"].items():
            frame = pd.DataFrame(
                [
                    dict(zip(("column", "group"), name.split(": ", 1), strict=True)) | own
                    for name, own in measures["c_index"]["groups"].items()
                ]
            )
            lines = subgroups.forest_rows(entry["parts"][part]["c_index"], frame)
            if len(parts) > 1:
                lines["label"] = part + ", " + lines["label"]
            blocks.append(lines.assign(part=part, model=key))
    rows = pd.concat(blocks, ignore_index=True)
    if not rows["value"].notna().any():
        return
    rows = rows.sort_values("part", key=lambda v: v.map(parts.index), kind="stable")
    names = list(results)
    artefacts.figure(
        evaluation_plots.groups(rows[rows["model"].isin(names[:MODELS])], "Harrell's C", 0.5),
        "subgroups",
        f"{title}: Harrell's C by group",
        sentence(
            f"Harrell's C of {' and '.join(parts)} patients by group with BCa bootstrap {percent} intervals; n "
            "patients; groups without an estimate are in the table",
            f"{MODELS} of {len(names)} models are drawn, all are in the CSV" if len(names) > MODELS else "",
        ),
        rows[["part", "model", "group", "label", "value", "lower", "upper"]],
    )
