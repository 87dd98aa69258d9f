"""Performance of fitted classifiers by centre, sex, age group, scanner, and whether the groups differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..artefacts import TableArtefacts
from ..estimates import Estimate, p_text, shown
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
        if here.any() and np.isfinite(p[here]).all():
            found[part] = within(study, f"{label}, {part}", p, here)
    return found


def within(study: Study, label: str, p: np.ndarray, here: np.ndarray) -> dict[str, Any]:
    """The same of some patients `here` (n,), all of whom have probabilities in p (n, K)."""
    masks = {name: mask[here] for name, mask in study.groups_of.items() if mask[here].any()}
    entry: dict[str, Any] = {}
    for k in wanted(study):
        found, rows = judged(masks, study.outcome[here] == k, p[here, k], level=study.settings.level)
        entry |= {f"{measure}{suffix(study, k)}": own for measure, own in found.items()}
        _say(study, label + ("" if study.binary else f", {study.classes[k]}"), rows, found["auc"]["differences"])
    return entry


def judged(
    masks: dict[str, np.ndarray], truth: np.ndarray, told: np.ndarray, *, level: float
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Both measures of patients with outcomes and probabilities (n,) by groups (masks (n,) by label): estimates and
    tests for metrics.json, and the rows of the AUC."""
    found: dict[str, Any] = {}

    def in_the_large(here: np.ndarray) -> Estimate:
        return roc.calibration(truth[here], told[here], level=level)["calibration_in_the_large"]

    measures = (subgroups.by_auc(truth, told, level=level), subgroups.by_interval(in_the_large))
    of_auc = pd.DataFrame()
    for name, measure in zip(MEASURES, measures, strict=True):
        rows, differences = subgroups.performance(masks, measure, truth)
        found[name] = subgroups.for_metrics(rows, differences, level=level)
        of_auc = rows if name == "auc" else of_auc
    return found, of_auc


def _say(study: Study, what: str, rows: pd.DataFrame, differences: list[dict[str, Any]]) -> None:
    for row in differences:
        if row["p_holm"] is None or row["p_holm"] >= DIFFERENT:
            continue
        own = rows[rows["column"].eq(row["column"]) & rows["value"].notna()]
        values = ", ".join(f"{r['group']} {r['value']:.2f} (n = {r['n']})" for r in own.to_dict("records"))
        study.warn(
            f"{what}: the AUC differs between groups of {row['column']} (p {p_text(row['p_holm'])} after Holm): "
            f"{values}. The AUC of all patients hides this: look at the group with the lowest before the model is "
            "used there."
        )


def write(study: Study, results: dict[str, Any], others: dict[str, Any], artefacts: TableArtefacts) -> None:
    """Tables of held-out parts and of validation schemes (`others`, their metrics by kind), and the figure."""
    rows: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for (arm, model), part, measures, _ in _places(results, others):
        for k in wanted(study):
            named = {} if study.binary else {"class": study.classes[k]}
            common = {"features": arm, "model": model, "part": part, **named}
            found = {name: measures[f"{name}{suffix(study, k)}"] for name in MEASURES}
            more_rows, more_tests = tabulated(found)
            rows += [common | row for row in more_rows]
            tests += [common | row for row in more_tests]
    if not rows:
        return
    artefacts.table(
        pd.DataFrame(rows),
        "subgroups",
        f"{title(study)}: performance by group",
        sentence(
            f"Outcome {study.settings.outcome}; held-out patients, and predictions of models that were fitted without "
            f"the patient in further validation; AUC with DeLong's and calibration in the large with Wald's "
            f"{percent(study)} interval; no estimate below 10 patients or 5 with or without the outcome"
        ),
    )
    artefacts.table(
        pd.DataFrame(tests),
        "subgroup-differences",
        f"{title(study)}: differences between groups",
        sentence(TESTS),
    )
    _forest(study, results, others, artefacts)


TESTS = (
    "Cochran's Q between the groups with an estimate, AUC on the logit scale; p corrected by Holm over the columns, "
    "for each model, part and measure. With few or small groups the test has little power: a large p does not show "
    "that they agree"
)


def tabulated(found: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the table of groups and of the table of tests, from what `judged` found."""
    rows, tests = [], []
    for group, auc in found["auc"]["groups"].items():
        values = {shown_as: shown(found[name]["groups"][group]) for name, shown_as in MEASURES.items()}
        why = auc["method"].removeprefix("not estimated: ") if auc["value"] is None else ""
        rows.append({"group": group, "patients": auc["n"], "with outcome": auc["events"], **values, "why not": why})
    for name, shown_as in MEASURES.items():
        tests += [{"measure": shown_as} | subgroups.test_row(t) for t in found[name]["differences"]]
    return rows, tests


Place = tuple[tuple[str, str], str, dict[str, Any], dict[str, Any]]


def _places(results: dict[str, Any], others: dict[str, Any]) -> list[Place]:
    """(set, model), part or kind of validation, its groups, and its estimates for all patients."""
    found: list[Place] = [
        ((arm, model), part, measures, entry["parts"][part])
        for arm, models in results.items()
        for model, entry in models.items()
        for part, measures in entry["subgroups"].items()
    ]
    found += [
        ((arm, model), kind, entry["subgroups"], entry)
        for kind, own in others.items()
        for arm, models in own["results"].items()
        for model, entry in models.items()
        if "subgroups" in entry
    ]
    return found


def _forest(study: Study, results: dict[str, Any], others: dict[str, Any], artefacts: TableArtefacts) -> None:
    blocks: dict[str, list[pd.DataFrame]] = {}
    places = _places(results, others)
    parts = list(dict.fromkeys(part for _, part, _, _ in places))
    drawn_parts = [part for part in parts if part in data.HELD_OUT] or parts
    for (arm, model), part, measures, overall in places:
        for k in wanted(study):
            key = "auc_delong" if study.binary else f"auc_{study.classes[k]}"
            named = f"{arm}, {model}" + ("" if study.binary else f", {study.classes[k]}")
            lines = _lines(study, overall.get(key, overall["auc"]), measures[f"auc{suffix(study, k)}"]["groups"])
            if len(drawn_parts) > 1:
                lines["label"] = part + ", " + lines["label"]
            blocks.setdefault(named, []).append(lines.assign(part=part, model=named))
    rows = pd.concat([frame for frames in blocks.values() for frame in frames], ignore_index=True)
    rows = rows.sort_values("part", key=lambda v: v.map(parts.index), kind="stable")  # the lines of a part together
    drawn = rows[rows["model"].isin(list(blocks)[:MODELS]) & rows["part"].isin(drawn_parts)]
    if not drawn["value"].notna().any():
        return
    artefacts.figure(
        evaluation_plots.groups(drawn, "AUC", 0.5),
        "subgroups",
        f"{title(study)}: AUC by group",
        sentence(
            f"AUC of {' and '.join(drawn_parts)} patients by group with DeLong's {percent(study)} intervals; n "
            "patients, events: patients with the outcome; groups without an estimate are in the table",
            f"{MODELS} of {len(blocks)} models are drawn, all are in the CSV" if len(blocks) > MODELS else "",
            "Further validation is in the CSV" if len(parts) > len(drawn_parts) else "",
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
