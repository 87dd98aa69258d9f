"""Tables of a classification: predictions, performance, variables, equations, comparisons, validation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import tables
from ..artefacts import TableArtefacts
from ..estimates import p_text, shown
from . import classifiers
from .artefacts import sentence
from .classify_evaluate import Judged, Key, Scored
from .classify_study import Study, numbers_of, percent, title
from .explain import Reasons
from .schemas import CLASSIFICATION
from .schemes import Validation


def write(
    study: Study,
    scored: dict[Key, Scored],
    judged: Judged,
    others: Validation,
    reasons: Reasons,
    artefacts: TableArtefacts,
) -> None:
    tables.write(predictions(study, scored, judged), artefacts.folder / "predictions.parquet", CLASSIFICATION)
    for kind, frame in others.predictions.items():
        artefacts.csv(frame, f"validation/{kind}.predictions.csv")
    _performance(study, judged, artefacts)
    _operating(study, judged, artefacts)
    _confusion(study, scored, judged, artefacts)
    _variables(study, scored, reasons, artefacts)
    _tuning(study, scored, artefacts)
    _comparisons(study, judged, artefacts)
    _agreements(study, judged, artefacts)
    _validation(study, others, artefacts)


def predictions(study: Study, scored: dict[Key, Scored], judged: Judged) -> pd.DataFrame:
    """A row per patient, arm and model."""
    blocks = []
    for (arm, model), own in scored.items():
        threshold = judged.threshold((arm, model))
        frame = study.frame[["centre", "patient", "part"]].reset_index(drop=True)
        known = np.isfinite(own.p).all(axis=1)
        frame = frame.assign(
            model=model, fold="main", set=arm, outcome=study.outcome.astype(float),
            probability=np.nan, cross_validated=np.nan, threshold=threshold if threshold is not None else np.nan,
        )  # fmt: skip
        frame["class"] = [study.classes[k] for k in study.outcome]
        if study.binary:
            frame["probability"], frame["cross_validated"] = own.p[:, 1], own.unseen[:, 1]
            frame["predicted"] = np.where(known, own.p[:, 1] >= threshold, np.nan)
        else:
            for k, name in enumerate(study.classes):
                frame[f"probability_{name}"], frame[f"cross_validated_{name}"] = own.p[:, k], own.unseen[:, k]
            frame["predicted"] = np.where(known, np.argmax(np.nan_to_num(own.p), axis=1), np.nan)
        blocks.append(frame)
    return pd.concat(blocks, ignore_index=True).sort_values(["set", "model", "patient"])


def _performance(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    if study.binary:
        columns = {
            "AUC": "auc", "AUC, DeLong": "auc_delong", "AUC of lesions": "auc_lesions", "sensitivity": "sensitivity",
            "specificity": "specificity", "accuracy": "accuracy", "balanced accuracy": "balanced_accuracy",
        }  # fmt: skip
    else:
        columns = {"AUC, Hand and Till": "auc", "AUC, one against the rest": "auc_macro"}
        columns |= {f"AUC, {name}": f"auc_{name}" for name in study.classes}
        columns |= {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy"}
    rows = []
    for arm, models in judged.results.items():
        for model, entry in models.items():
            for part, values in entry["parts"].items():
                shown_values = {name: shown(values[key]) for name, key in columns.items() if key in values}
                p = p_text(entry["permutation"].get(part, {}).get("p"))
                rows.append(
                    {"features": arm, "model": model, "part": part, **numbers_of(study, part), **shown_values,
                     "permutation p": p}
                )  # fmt: skip
    rule = "The threshold comes from training. " if study.binary else "The likeliest class is the call. "
    artefacts.table(
        pd.DataFrame(rows),
        "performance",
        f"{title(study)}: performance",
        sentence(
            f"Outcome {study.settings.outcome}; estimates with {percent(study)} intervals (AUC: stratified bootstrap, "
            f"{study.settings.bootstraps} samples; proportions: Wilson). {rule}Training rows are "
            "apparent performance of the patients who fitted the model; cross-validated rows are their out-of-fold "
            "predictions",
            f"Permutation p: {study.settings.permutations} runs of the whole chain with permuted outcomes"
            f"{study.settings.permuted_where}",
        ),
    )


def _operating(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = []
    for arm, models in judged.results.items():
        for model, entry in models.items():
            for rule, parts in entry["operating"].items():
                for part, values in parts.items():
                    rows.append(
                        {"features": arm, "model": model, "threshold from training": rule,
                         "threshold": entry["thresholds"][rule]["value"], "part": part, **numbers_of(study, part),
                         **{key.replace("_", " "): shown(value) for key, value in values.items()}}
                    )  # fmt: skip
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "thresholds",
            f"{title(study)}: calls at thresholds from training",
            sentence(
                f"Outcome {study.settings.outcome}; a patient is called positive at or above the threshold, which "
                f"out-of-fold probabilities of training give; {percent(study)} intervals (Wilson; balanced accuracy "
                "and F1: made of Wilson's)"
            ),
        )


def _confusion(study: Study, scored: dict[Key, Scored], judged: Judged, artefacts: TableArtefacts) -> None:
    frame = predictions(study, scored, judged).dropna(subset=["predicted"])
    frame = frame[frame["part"].ne("training")]
    rows = []
    for (arm, model, part), block in frame.groupby(["set", "model", "part"], sort=True):
        for k, name in enumerate(study.classes):
            called = block.loc[block["class"].eq(name), "predicted"]
            counts = {f"called {other}": int(called.eq(j).sum()) for j, other in enumerate(study.classes)}
            rows.append({"features": arm, "model": model, "part": part, "observed": name, **counts})
            del k
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "confusion",
            f"{title(study)}: confusion matrices",
            sentence(f"Patients by observed and called class of outcome {study.settings.outcome}; "
                     + ("calls at Youden's threshold" if study.binary else "the likeliest class is called")),
        )  # fmt: skip


def _variables(study: Study, scored: dict[Key, Scored], reasons: Reasons, artefacts: TableArtefacts) -> None:
    blocks = []
    for (arm, model), own in scored.items():
        if own.fit:
            classes = [study.classes[k] for k in own.fit.present]
            blocks.append(classifiers.variables(own.fit.chain, classes).assign(features=arm, model=model))
    if blocks:
        frame = pd.concat(blocks, ignore_index=True)
        columns = ["features", "model"]
        artefacts.table(
            frame[columns + [c for c in frame.columns if c not in columns]],
            "variables",
            f"{title(study)}: selected variables",
            "Variables of each fitted model: coefficient of the log odds per training standard deviation and per unit, "
            "or importance in trees; mean and sd are those of training.",
        )
    if len(reasons.equations):
        artefacts.table(
            reasons.equations,
            "equations",
            f"{title(study)}: models as equations",
            sentence(
                "Log odds = constant + sum of coefficient times value in its own unit, standardisation undone",
                "Two classes: probability = 1 / (1 + exp(-log odds)); several: exp(log odds) divided by its sum over "
                "classes",
                "missing: what stands in for a missing value",
            ),
        )
    if len(reasons.importance):
        artefacts.table(
            reasons.importance,
            "importance",
            f"{title(study)}: permutation importance",
            sentence(
                "Loss of AUC on held-out patients when a variable is shuffled among them, mean of "
                f"{study.settings.explain.permutations} shuffles, with {percent(study)} intervals of the bootstrap "
                "over patients; below 0 the variable did harm"
            ),
        )


def _tuning(study: Study, scored: dict[Key, Scored], artefacts: TableArtefacts) -> None:
    rows = [
        {"features": arm, "model": model,
         "setting": ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "log_loss"),
         "log loss": row["log_loss"], "chosen": "yes" if own.fit.setting | {"log_loss": row["log_loss"]} == row else ""}
        for (arm, model), own in scored.items()
        if own.fit
        for row in own.fit.tried
        if len(row) > 1
    ]  # fmt: skip
    if rows:
        artefacts.csv(pd.DataFrame(rows), "tables/tuning.csv")


def _comparisons(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    if not judged.comparisons:
        return
    rows = [
        {
            "part": c["part"],
            "first": f"{c['first']['model']} on {c['first']['set']}",
            "second": f"{c['second']['model']} on {c['second']['set']}",
            "patients": c["difference"]["n"],
            **({"difference of AUC, DeLong": shown(c["difference"])} if study.binary else {}),
            "difference of AUC, bootstrap": shown(c["difference_bootstrap"]),
            **({"p, DeLong": p_text(c["p"])} if study.binary else {}),
            "p, bootstrap": p_text(c["p_bootstrap"]),
            "p, Holm": p_text(c["p_holm"]),
        }
        for c in judged.comparisons
    ]
    test = "DeLong's paired test" if study.binary else "the stratified paired bootstrap"
    artefacts.table(
        pd.DataFrame(rows),
        "comparisons",
        f"{title(study)}: paired comparisons",
        sentence(
            f"Outcome {study.settings.outcome}; first minus second on the same patients with {percent(study)} "
            f"intervals; p of {test}, corrected by Holm within each part among comparisons of the same kind (between "
            "feature sets, between models, with an ensemble)"
        ),
    )


def _agreements(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = [
        {"rule": name, "models": " and ".join(entry["of"]), "part": part, "patients": values["coverage"]["n"],
         **{key.replace("_", " "): shown(value) for key, value in values.items()}}
        for name, entry in judged.agreements.items()
        for part, values in entry["parts"].items()
    ]  # fmt: skip
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "agreements",
            f"{title(study)}: two models as one rule",
            sentence(
                "Coverage: share of patients in whom both models make the same call; accuracy, sensitivity and "
                "specificity are those of these calls. Both positive: positive only if both models say so, everybody "
                f"counted. {percent(study)} intervals of Wilson"
            ),
        )


def _validation(study: Study, others: Validation, artefacts: TableArtefacts) -> None:
    rows = []
    for kind, entry in others.metrics.items():
        for arm, models in entry["results"].items():
            for model, values in models.items():
                row = {"validation": kind, "features": arm, "model": model, "patients": values["auc"]["n"],
                       "AUC": shown(values["auc"])}  # fmt: skip
                if kind == "random-splits":
                    share = values["share_below_chosen"]
                    row |= {
                        "AUC of the study's split": None
                        if values["chosen_split"] is None
                        else round(values["chosen_split"], 3),
                        "random splits with less": "" if share is None else f"{100 * share:.0f} %",
                    }
                rows.append(row)
                for centre, value in values.get("centres", {}).items():
                    rows.append({"validation": f"{kind}: {centre}", "features": arm, "model": model,
                                 "patients": value["n"], "AUC": shown(value)})  # fmt: skip
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "validation",
            f"{title(study)}: further validation",
            sentence(
                f"AUC with {percent(study)} intervals. Models are fitted anew, everything that is learnt inside the "
                "training patients of each division; external patients never enter",
                "cross-validation: mean over repetitions, bootstrap over patients"
                if "cross-validation" in others.metrics
                else "",
                "leave-centre-out: mean within centres, weighted by patients"
                if "leave-centre-out" in others.metrics
                else "",
                "random-splits: mean with the corrected t interval; a share of random splits near 100 % below the "
                "study's own split means that this split was lucky"
                if "random-splits" in others.metrics
                else "",
            ),
        )
