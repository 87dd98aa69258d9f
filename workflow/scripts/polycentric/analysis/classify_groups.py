"""Performance of fitted classifiers by centre, sex, age group, scanner, and whether the groups differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ..artefacts import TableArtefacts
from ..estimates import Estimate, estimate, finite, p_text, shown
from . import data, evaluation_plots, roc, subgroups
from .artefacts import sentence
from .classify_calibration import suffix, wanted
from .classify_study import Study, percent, title

MEASURES = {"auc": "AUC", "calibration_in_the_large": "calibration in the large"}
MODELS = 6  # in the figure
DIFFERENT = 0.05


def assess(study: Study, label: str, p: np.ndarray) -> dict[str, Any]:
    """AUC and calibration in the large in every group of held-out patients, and the tests between groups, by part.

    p (n, K) of all patients. Differences are corrected after Holm over the columns, for each model, part and measure;
    those of the AUC become warnings.
    """
    found: dict[str, Any] = {}
    for part in data.HELD_OUT:
        here = study.part(part)
        if not here.any() or not np.isfinite(p[here]).all():
            continue
        masks = {name: mask[here] for name, mask in study.groups_of.items() if mask[here].any()}
        entry: dict[str, Any] = {}
        for k in wanted(study):
            truth, told = study.outcome[here] == k, p[here, k]
            for measure, by in (
                ("auc", subgroups.by_auc(truth, told, level=study.settings.level)),
                ("calibration_in_the_large", subgroups.by_interval(_in_the_large(study, truth, told))),
            ):
                rows, differences = subgroups.performance(masks, by, truth)
                entry[f"{measure}{suffix(study, k)}"] = {
                    "groups": {f"{r['column']}: {r['group']}": _estimate(study, r) for r in rows.to_dict("records")},
                    "differences": [
                        {name: finite(v) if isinstance(v, float) else v for name, v in row.items()}
                        for row in differences.to_dict("records")
                    ],
                }
                if measure == "auc":
                    _say(study, f"{label}, {part}{'' if study.binary else f', {study.classes[k]}'}", rows, differences)
        found[part] = entry
    return found


def _in_the_large(study: Study, truth: np.ndarray, told: np.ndarray) -> Any:
    def measure(here: np.ndarray) -> Estimate:
        return roc.calibration(truth[here], told[here], level=study.settings.level)["calibration_in_the_large"]

    return measure


def _estimate(study: Study, row: dict[str, Any]) -> Estimate:
    value, lower, upper = (math.nan if row[k] is None else row[k] for k in ("value", "lower", "upper"))
    method = f"not estimated: {row['why_not']}" if row["why_not"] else row["method"]
    return estimate(value, lower, upper, method=method, n=row["n"], level=study.settings.level, events=row["events"])


def _say(study: Study, what: str, rows: pd.DataFrame, differences: pd.DataFrame) -> None:
    for row in differences.to_dict("records"):
        if not row["p_holm"] < DIFFERENT:
            continue
        own = rows[rows["column"].eq(row["column"]) & rows["value"].notna()]
        values = ", ".join(f"{r['group']} {r['value']:.2f} (n = {r['n']})" for r in own.to_dict("records"))
        study.warn(
            f"{what}: the AUC differs between groups of {row['column']} (p {p_text(row['p_holm'])} after Holm): "
            f"{values}. The AUC of all patients hides this: look at the group with the lowest before the model is "
            "used there."
        )


def write(study: Study, results: dict[str, Any], artefacts: TableArtefacts) -> None:
    rows: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for arm, models in results.items():
        for model, entry in models.items():
            for part, measures in entry["subgroups"].items():
                for k in wanted(study):
                    named = {} if study.binary else {"class": study.classes[k]}
                    common = {"features": arm, "model": model, "part": part, **named}
                    found = {name: measures[f"{name}{suffix(study, k)}"] for name in MEASURES}
                    for group, auc in found["auc"]["groups"].items():
                        values = {shown_as: shown(found[name]["groups"][group]) for name, shown_as in MEASURES.items()}
                        why = auc["method"].removeprefix("not estimated: ") if auc["value"] is None else ""
                        rows.append({**common, "group": group, "patients": auc["n"], "with outcome": auc["events"],
                                     **values, "why not": why})  # fmt: skip
                    for name, shown_as in MEASURES.items():
                        tests += [
                            {**common, "measure": shown_as, "column": t["column"], "groups": t["groups"],
                             "Q": None if t["q"] is None else round(t["q"], 2),
                             "I squared": "" if t["i_squared"] is None else f"{100 * t['i_squared']:.0f} %",
                             "p": p_text(t["p"]), "p, Holm": p_text(t["p_holm"])}
                            for t in found[name]["differences"]
                        ]  # fmt: skip
    if not rows:
        return
    artefacts.table(
        pd.DataFrame(rows),
        "subgroups",
        f"{title(study)}: performance by group",
        sentence(
            f"Outcome {study.settings.outcome}; held-out patients; AUC with DeLong's and calibration in the large with "
            f"Wald's {percent(study)} interval; no estimate below 10 patients or 5 with or without the outcome"
        ),
    )
    artefacts.table(
        pd.DataFrame(tests),
        "subgroup-differences",
        f"{title(study)}: differences between groups",
        sentence(
            "Cochran's Q between the groups with an estimate, AUC on the logit scale; p corrected by Holm over the "
            "columns, for each model, part and measure",
            "With few or small groups the test has little power: a large p does not show that they agree",
        ),
    )
    _forest(study, results, artefacts)


def _forest(study: Study, results: dict[str, Any], artefacts: TableArtefacts) -> None:
    blocks: dict[str, list[pd.DataFrame]] = {}
    parts = [part for part in data.HELD_OUT if study.part(part).any()]
    for arm, models in results.items():
        for model, entry in models.items():
            for part, measures in entry["subgroups"].items():
                for k in wanted(study):
                    overall = entry["parts"][part]["auc_delong" if study.binary else f"auc_{study.classes[k]}"]
                    named = f"{arm}, {model}" + ("" if study.binary else f", {study.classes[k]}")
                    lines = _lines(study, overall, measures[f"auc{suffix(study, k)}"]["groups"])
                    if len(parts) > 1:
                        lines["label"] = part + ", " + lines["label"]
                    blocks.setdefault(named, []).append(lines.assign(part=part, model=named))
    rows = pd.concat([frame for frames in blocks.values() for frame in frames], ignore_index=True)
    if not rows["value"].notna().any():
        return
    rows = rows.sort_values("part", key=lambda v: v.map(parts.index), kind="stable")  # the lines of a part together
    drawn = rows[rows["model"].isin(list(blocks)[:MODELS])]
    artefacts.figure(
        evaluation_plots.groups(drawn, "AUC", 0.5),
        "subgroups",
        f"{title(study)}: AUC by group",
        sentence(
            f"AUC of {' and '.join(parts)} patients by group with DeLong's {percent(study)} intervals; n patients, "
            "events: patients with the outcome; groups without an estimate are in the table",
            f"{MODELS} of {len(blocks)} models are drawn, all are in the CSV" if len(blocks) > MODELS else "",
        ),
        rows[["part", "model", "group", "label", "value", "lower", "upper"]],
    )


def _lines(study: Study, overall: Estimate, groups: dict[str, Estimate]) -> pd.DataFrame:
    """Rows for the figure: all patients and each group with an estimate."""
    frame = pd.DataFrame(
        [dict(zip(("column", "group"), name.split(": ", 1), strict=True)) | own for name, own in groups.items()]
    )
    # of several classes each has other events, and a line serves all of them
    return subgroups.forest_rows(overall, frame if study.binary else frame.drop(columns="events"))
