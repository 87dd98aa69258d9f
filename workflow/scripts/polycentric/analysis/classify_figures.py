"""Figures of a classification: ROC curves, null distributions, random splits, importance, Shapley values, "
"dependence."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures
from ..artefacts import TableArtefacts
from ..estimates import shown
from . import data, plots, roc
from .artefacts import sentence
from .classify_evaluate import Judged, Key, Scored
from .classify_null import Null
from .classify_study import Study, percent, title
from .explain import Reasons
from .multiclass import Drawn
from .schemes import Validation

TOP_IMPORTANCE, MODELS = 5, 7  # variables of a model, and models, in the figures of importance and dependence
TOP = 8  # variables of a model in a figure; all of them are in the CSV


def write(
    study: Study,
    scored: dict[Key, Scored],
    judged: Judged,
    others: Validation,
    reasons: Reasons,
    null: Null,
    drawn: dict[str, Drawn],
    artefacts: TableArtefacts,
) -> None:
    _roc(study, scored, judged, drawn, artefacts)
    if study.settings.permutations and any(np.isfinite(v).any() for parts in null.values() for v in parts.values()):
        _null(study, null, judged, artefacts)
    if "random-splits" in others.metrics:
        _splits(study, others, artefacts)
    if len(reasons.importance):
        _importance(study, reasons.importance, artefacts)
    if len(reasons.shapley):
        _shapley(study, reasons.shapley, artefacts)
    if len(reasons.dependence):
        _dependence(study, reasons.dependence, artefacts)


def _roc(
    study: Study,
    scored: dict[Key, Scored],
    judged: Judged,
    drawn: dict[str, Drawn],
    artefacts: TableArtefacts,
) -> None:
    settings, grid = study.settings, np.linspace(0, 1, 51)
    curves, titles, rows = [], {}, []
    wanted = [1] if study.binary else list(range(len(study.classes)))
    for part in data.HELD_OUT:
        here = study.part(part)
        for k in wanted:
            y = study.outcome[here] == k
            if len(np.unique(y)) < 2:
                continue
            panel = part if study.binary else f"{part}, {study.classes[k]}"
            for (arm, model), own in scored.items():
                p = own.p[here, k]
                if not np.isfinite(p).all():
                    continue
                false, true = roc.curve(y, p)
                lower = upper = np.empty(0)
                if settings.bootstraps >= 20 and study.binary:
                    lower, upper = roc.curve_band(y, p, (drawn[part][1], drawn[part][0]), grid, level=settings.level)
                values = judged.results[arm][model]["parts"][part]
                auc = values["auc" if study.binary else f"auc_{study.classes[k]}"]
                titles[panel] = f"{panel} (n = {len(y)}, positive = {int(y.sum())})"
                curves.append(plots.Curve(panel, f"{arm}, {model}\nAUC {shown(auc)}", false, true, grid, lower, upper))
                common = {"part": part, "class": study.classes[k], "features": arm, "model": model}
                rows += [
                    {**common, "false_positive_rate": f, "sensitivity": t} for f, t in zip(false, true, strict=True)
                ]
                rows += [
                    {**common, "false_positive_rate": g, "lower": lo, "upper": up}
                    for g, lo, up in zip(grid[: len(lower)], lower, upper, strict=True)
                ]
    if not study.binary:  # a panel for each class: of one part, and of three classes, or nothing can be read
        last = next((part for part in reversed(data.HELD_OUT) if any(t.startswith(f"{part}, ") for t in titles)), "")
        drawn_panels = [panel for panel in titles if panel.startswith(f"{last}, ")][:3]
        titles = {panel: titles[panel] for panel in drawn_panels}
        curves = [curve for curve in curves if curve.panel in titles]
    if curves:
        figure = plots.roc(curves, titles)
    else:
        figure = plots.empty("No ROC curve: no part outside training has patients of both classes and a fitted model.")
    columns = ["part", "class", "features", "model", "false_positive_rate", "sensitivity", "lower", "upper"]
    numbers = ", ".join(
        f"{part} {values['patients']} patients" + (f" ({values['positive']} positive)" if study.binary else "")
        for part, values in study.counts["parts"].items()
        if values["patients"]
    )
    bands = (
        f" with pointwise {percent(study)} bootstrap bands (drawn for up to three curves, all of them in the CSV)"
        if study.binary
        else ", each class against the rest, of one part and up to three classes, all of them in the CSV"
    )
    artefacts.figure(
        figure,
        "summary",
        f"{title(study)}: ROC curves",
        sentence(settings.question, f"ROC curves of outcome {settings.outcome}{bands}; {numbers}", settings.caption),
        pd.DataFrame(rows, columns=columns),
    )


def _null(study: Study, null: Null, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = []
    for (arm, model), parts in null.items():
        for part, values in parts.items():
            label = f"{arm}, {model}, {part}"
            observed = judged.results[arm][model]["parts"][part]["auc"]["value"]
            rows.append({"label": label, "kind": "observed", "value": observed})
            rows += [{"label": label, "kind": "null", "value": value} for value in values]
    frame = pd.DataFrame(rows).astype({"value": float})
    artefacts.figure(
        plots.null(frame, "AUC"),
        "null",
        f"{title(study)}: null distribution",
        sentence(f"AUC of {study.settings.permutations} runs of the whole chain with permuted outcomes of the "
                 f"training patients{study.settings.permuted_where} (grey) against the observed AUC"),
        frame,
    )  # fmt: skip


def _splits(study: Study, others: Validation, artefacts: TableArtefacts) -> None:
    entry = others.metrics["random-splits"]
    rows = []
    for arm, models in entry["results"].items():
        for model, values in models.items():
            label = f"{arm}, {model}"
            rows.append({"label": label, "kind": "observed", "value": values["chosen_split"]})
            rows += [{"label": label, "kind": "null", "value": value} for value in values["aucs"]]
    frame = pd.DataFrame(rows).astype({"value": float})
    figure = plots.null(frame, "AUC of the test patients", words=("random splits", "split of the study"))
    artefacts.figure(
        figure,
        "splits",
        f"{title(study)}: random splits",
        sentence(
            f"Test AUC of {entry['count']} random splits of {entry['patients']} patients, {100 * entry['test']:.0f} % "
            "in test, the whole chain fitted anew in each (grey), against the AUC of the study's own split"
        ),
        frame.replace({"kind": {"null": "random split", "observed": "split of the study"}}),
    )


def _importance(study: Study, frame: pd.DataFrame, artefacts: TableArtefacts) -> None:
    part = frame["part"].iloc[-1]  # external where there is one
    rows = []
    for (arm, model), block in frame[frame["part"].eq(part)].groupby(["features", "model"], sort=False):
        top = block.sort_values("loss_of_auc", ascending=False, kind="stable").head(TOP_IMPORTANCE)
        rows.append(
            top.assign(
                group=f"{arm}, {model}",
                value=top["loss_of_auc"],
                label=[f"{v} ({arm}, {model})" for v in top["variable"]],
            )
        )
    shown_rows = pd.concat(rows, ignore_index=True).head(MODELS * TOP_IMPORTANCE)
    artefacts.figure(
        plots.forest(shown_rows, "loss of AUC when shuffled", 0.0),
        "importance",
        f"{title(study)}: permutation importance",
        sentence(
            f"Loss of AUC on {part} patients when a variable is shuffled, with {percent(study)} intervals; up to "
            f"{TOP_IMPORTANCE} variables of {MODELS} models, all of them and the other parts in the CSV"
        ),
        frame,
    )


def _shapley(study: Study, frame: pd.DataFrame, artefacts: TableArtefacts) -> None:
    keys = list(dict.fromkeys(zip(frame["features"], frame["model"], frame["class"], strict=True)))
    drawn = keys[:4]
    figure, axes = figures.new(
        width_mm=min(90 * len(drawn), 180), height_mm=65 * -(-len(drawn) // 2), columns=min(len(drawn), 2),
        rows=-(-len(drawn) // 2), squeeze=False,
    )  # fmt: skip
    for axis in axes.ravel()[len(drawn) :]:
        axis.set_axis_off()
    for axis, (arm, model, name) in zip(axes.ravel(), drawn, strict=False):
        block = frame[frame["features"].eq(arm) & frame["model"].eq(model) & frame["class"].eq(name)]
        size = block.groupby("variable")["shapley"].apply(lambda v: v.abs().mean())
        top = list(size.sort_values(ascending=False, kind="stable").index[:TOP])
        axis.axvline(0, color="#999999", linewidth=0.7)
        for line, variable in enumerate(top):
            own = block[block["variable"].eq(variable)].sort_values("patient", kind="stable")
            offsets = (np.arange(len(own)) % 7 - 3) / 12
            axis.scatter(own["shapley"], line + offsets, c=own["standardised"].clip(-2, 2), cmap="coolwarm", s=3,
                         vmin=-2, vmax=2, linewidths=0)  # fmt: skip
        axis.set_yticks(range(len(top)), top)
        axis.set(title=f"{arm}, {model}: {name}", xlabel=f"Shapley value ({block['scale'].iloc[0]})",
                 ylim=(len(top) - 0.5, -0.5))  # fmt: skip
    artefacts.figure(
        figure,
        "shapley",
        f"{title(study)}: Shapley values",
        sentence(
            f"Shapley values of tree models on held-out patients, the {TOP} variables with the largest mean; a dot is "
            "a patient, blue a low and red a high value of the variable (2 standard deviations below and above the "
            "mean of training)",
            "The first four models are drawn, all are in the CSV" if len(keys) > 4 else "",
        ),
        frame,
    )


def _dependence(study: Study, frame: pd.DataFrame, artefacts: TableArtefacts) -> None:
    artefacts.figure(
        _curves(frame),
        "dependence",
        f"{title(study)}: partial dependence",
        sentence(
            "Mean predicted probability of training patients when a variable is set to a value, from its 5th to 95th "
            f"percentile in training; the weightiest variables of up to {MODELS} models, more in the CSV"
        ),
        frame,
    )


def _curves(frame: pd.DataFrame) -> Figure:
    keys = pd.Series(list(zip(frame["features"], frame["model"], frame["class"], strict=True)), index=frame.index)
    labels = list(dict.fromkeys(keys))[:MODELS]
    variables = list(dict.fromkeys(frame.loc[keys.isin(labels), "variable"]))[:6]
    columns = min(len(variables), 3)
    rows = -(-len(variables) // columns)
    figure, axes = figures.new(
        width_mm=60 * columns, height_mm=52 * rows + 4 * len(labels), columns=columns, rows=rows, squeeze=False
    )
    for axis in axes.ravel()[len(variables) :]:
        axis.set_axis_off()
    for axis, variable in zip(axes.ravel(), variables, strict=False):
        for k, (arm, model, name) in enumerate(labels):
            own = frame[
                frame["variable"].eq(variable) & frame["features"].eq(arm) & frame["model"].eq(model)
                & frame["class"].eq(name)
            ]  # fmt: skip
            if len(own):
                axis.plot(own["value"], own["mean_probability"], color=figures.COLOURS[k % len(figures.COLOURS)],
                          label=f"{arm}, {model}: {name}")  # fmt: skip
        axis.set(xlabel=variable, ylabel="mean probability")
    handles, names = [], []
    for axis in axes.ravel():
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            if name not in names:
                handles.append(handle)
                names.append(name)
    figure.legend(handles, names, loc="outside lower left", ncols=2)
    return figure
