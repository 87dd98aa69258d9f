"""Analysis `detectability`: can a classifier tell synthetic from acquired images by the features of a fixed network?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import ledger, tables
from ..artefacts import Artefacts
from ..bootstrap import estimate
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..tables.profiles import read_arrays
from ..training import cohort
from ..words import in_words
from . import sets

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from ..config.synthesis_analyses import Detectability

TASKS = {
    "source against target": "acquired images of the source domain against acquired images of the target domain",
    "synthetic against target": "synthetic images against acquired images of the target domain",
    "shuffled labels": "as source against target, the labels of the patients shuffled: what chance gives",
}
MEASURES = ("loss", "auc", "precision", "recall")


@dataclass(frozen=True)
class Samples:
    """One slice a patient and class: features (n, d), labels (n,), patients (n,)."""

    features: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


def detect(
    name: str,
    settings: Detectability,
    *,
    synthesis: Synthesis,
    view: str,
    seed: int,
    profiles: Sequence[Path],
    scans: Path,
    patients: Path,
    split: Path,
    ledgers: Sequence[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Train the classifier of study 1 on three tasks; write curves by epoch and the areas of the test patients.

    One slice of every patient, the middle one between the landmarks, stands for it. Patients are divided into test and
    the others once, the others into training and validation in every repeat; all images of a patient stay together.

    `profiles` are the manifests of the profiles of the source, the target and the synthetic view.

    Raises
    ------
    UserError
        when the profile has no features, too few patients are left, or a model has seen one of them.
    """
    import torch

    from .classifier import Plan

    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    where = f"analyses: {name}"
    parts = tables.read(split, schemas.SPLIT)
    unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
    everyone = cohort.cohort(scans, patients)
    everyone = everyone[everyone["patient"].isin(unseen)]
    domains = {
        "source": (synthesis.source.view, cohort.select(everyone, synthesis.source.where, where)),
        "synthetic": (view, cohort.select(everyone, synthesis.source.where, where)),
        "target": (synthesis.target.view, cohort.select(everyone, synthesis.target.where, where)),
    }
    found, network = {}, ""
    for domain, (of_view, chosen) in domains.items():
        rows = sets.rows_of(profiles, of_view, settings.profile)
        rows = rows[(rows["status"] == "ok") & rows["scan"].isin(chosen["scan"])].sort_values(["patient", "scan"])
        found[domain] = _middle(rows, root, where, settings.profile)
        network = network or (str(rows["network"].iloc[0]) if len(rows) else "")
    ledger.refuse_leaks({p for d in found.values() for p in d}, list(ledgers), where=where)
    fewest = min(len(d) for d in found.values())
    if fewest < 10:
        raise UserError(
            f"{where}: {fewest} unseen patients in the smallest of source, synthetic and target images; at least 10 of "
            "each are needed to train and test a classifier. Write other `parts`, or a larger test part."
        )
    plan = Plan(
        settings.hidden, settings.l1, settings.epochs, settings.batch, settings.learning_rate, settings.curve
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    areas: dict[str, Any] = {}
    finals: dict[str, Any] = {}
    fitted: set[str] = set()
    for number, task in enumerate(TASKS):
        data = _samples(found["synthetic" if task.startswith("synthetic") else "source"], found["target"])
        rng = stream(seed, "detectability", name, task)
        # the first two tasks share the division of patients, as far as they share patients
        roles = _roles(data, settings, stream(seed, "detectability", name, "patients"))
        fitted |= set(data.patients[roles[0] != 2].tolist())
        if task == "shuffled labels":
            data = Samples(data.features, _shuffled(data, rng), data.patients)

        def told(done: int, total: int, number: int = number, task: str = task) -> None:
            log.progress("epochs", number * total + done, len(TASKS) * total, task=task)

        curves, scores = _learn(data, roles, plan, rng, told)
        rows += [{"task": task, **row} for row in curves]
        last = [row for row in curves if row["epoch"] == curves[-1]["epoch"] and row["samples"] == "validation"]
        finals[task] = {
            row["measure"]: {
                "value": row["mean"], "standard_error": row["standard_error"], "n": settings.repeats,
            }
            for row in last
        }  # fmt: skip
        areas[task] = _test_area(data, roles, scores, settings, stream(seed, "detectability", name, task, "test"), seed)
    curves = pd.DataFrame(rows)
    counts = {domain: len(f) for domain, f in found.items()}
    out = Artefacts(folder, root)
    _figures(out, curves, areas, counts, network, settings.repeats)
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "synthesis": settings.synthesis,
            "summary": [
                f"{task}: area under the ROC curve {in_words(areas[task])} in test patients." for task in TASKS
            ],
            "parts": list(settings.parts),
            "network": network,
            "patients": counts,
            "repeats": settings.repeats,
            "auc_test": areas,
            "validation_at_the_end": _finite(finals),
            "definitions": {
                **TASKS,
                "features": f"of {network}, of the middle slice between the landmarks, one slice per patient",
                "validation": "mean and standard error over the repeats at the last epoch",
                "auc_test": "of the mean probability over the repeats, in patients that no repeat has seen",
            },
        },
    )
    out.write()
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage=settings.kind,
        split=synthesis.split,
        seen={"training": sorted(fitted)},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )


def _middle(rows: pd.DataFrame, root: Path, where: str, profile: str) -> dict[str, np.ndarray]:
    """Features of the middle slice of each patient's first scan."""
    found: dict[str, np.ndarray] = {}
    for row in rows.to_dict("records"):
        if row["patient"] not in found:
            arrays = read_arrays(root / row["path"])
            if "features" not in arrays:
                raise UserError(
                    f"{where}: profile {profile!r} has no features; write a network in profiles: {profile}: network."
                )
            found[row["patient"]] = arrays["features"][len(arrays["z"]) // 2]
    return found


def _samples(one: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> Samples:
    patients = np.array([*sorted(one), *sorted(target)])
    features = np.stack([*(one[p] for p in sorted(one)), *(target[p] for p in sorted(target))])
    return Samples(features, np.repeat([1, 0], [len(one), len(target)]), patients)


def _strata(data: Samples) -> list[list[str]]:
    """Patients by the classes they have images of, sorted."""
    classes: dict[str, list[int]] = {}
    for patient, label in zip(data.patients, data.labels, strict=True):
        classes.setdefault(str(patient), []).append(int(label))
    kinds: dict[tuple[int, ...], list[str]] = {}
    for patient in sorted(classes):
        kinds.setdefault(tuple(sorted(classes[patient])), []).append(patient)
    return [kinds[k] for k in sorted(kinds)]


def _roles(data: Samples, settings: Detectability, rng: np.random.Generator) -> np.ndarray:
    """0 training, 1 validation, 2 test, by repeat and sample; stratified by class, all images of a patient together."""
    others: list[list[str]] = []
    test: set[str] = set()
    for stratum in _strata(data):
        order = [stratum[i] for i in rng.permutation(len(stratum))]
        count = max(1, round(settings.test * len(order)))
        test |= set(order[:count])
        others.append(sorted(order[count:]))
    roles = np.zeros((settings.repeats, len(data.labels)), dtype=np.int8)
    for number in range(settings.repeats):
        chosen: set[str] = set()
        for stratum in others:
            count = max(1, round(settings.validation * len(stratum)))
            chosen |= {stratum[i] for i in rng.permutation(len(stratum))[:count]}
        roles[number] = [2 if p in test else 1 if p in chosen else 0 for p in data.patients]
    return roles


def _shuffled(data: Samples, rng: np.random.Generator) -> np.ndarray:
    return data.labels[rng.permutation(len(data.labels))]


def _learn(
    data: Samples, roles: np.ndarray, plan: Any, rng: np.random.Generator, progress: Any
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Mean and standard error over repeats by epoch, samples and measure; the last scores (repeats, samples)."""
    from .classifier import train

    trained = train(data.features, data.labels, roles, plan, rng, progress=progress)
    rows = []
    for k, epoch in enumerate(trained.epochs):
        for role, samples in enumerate(("training", "validation")):
            values = {m: [] for m in MEASURES}
            for number, own in enumerate(roles):
                chosen = own == role
                labels, scores = data.labels[chosen], trained.scores[k, number, chosen]
                values["loss"].append(trained.losses[k, number, role])
                values["auc"].append(area(labels, scores))
                called = scores >= 0.5
                hits = float((called & (labels == 1)).sum())
                values["precision"].append(hits / called.sum() if called.any() else np.nan)
                values["recall"].append(hits / (labels == 1).sum() if (labels == 1).any() else np.nan)
            for measure, found in values.items():
                good = np.array(found)[np.isfinite(found)]
                error = float(good.std(ddof=1) / np.sqrt(len(good))) if len(good) > 1 else np.nan
                mean = float(good.mean()) if len(good) else np.nan
                rows.append(
                    {"samples": samples, "measure": measure, "epoch": int(epoch), "mean": mean}
                    | {"standard_error": error, "repeats": len(good)}
                )
    return rows, trained.scores[-1]


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half (Mann-Whitney); NaN without both classes."""
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / 2 / len(positive) / len(negative))


def _test_area(
    data: Samples, roles: np.ndarray, scores: np.ndarray, settings: Detectability, rng: np.random.Generator, seed: int
) -> dict[str, Any]:
    chosen = roles[0] == 2
    labels, mean = data.labels[chosen], scores[:, chosen].mean(axis=0)
    classes = [np.flatnonzero(labels == k) for k in (1, 0)]

    def statistic(i: np.ndarray, j: np.ndarray) -> float:
        own = np.concatenate([classes[0][i], classes[1][j]])
        return area(labels[own], mean[own])

    return estimate(
        statistic, (len(classes[0]), len(classes[1])), rng, resamples=settings.bootstrap, seed=seed,
        method=f"area under the ROC curve of the mean probability of {settings.repeats} repeats in test patients",
    )  # fmt: skip


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    return None if isinstance(node, float) and not np.isfinite(node) else node


def _figures(
    out: Artefacts, curves: pd.DataFrame, areas: dict[str, Any], counts: dict[str, int], network: str, repeats: int
) -> None:
    from .. import figures

    data = out.csv(curves, "tables/curves.csv")
    fig, axes = figures.new(width_mm=180, height_mm=120, columns=2, rows=2)
    names = {"loss": "binary cross-entropy", "auc": "area under the ROC curve"}
    for axis, measure in zip(axes.ravel(), MEASURES, strict=True):
        for number, task in enumerate(TASKS):
            for samples, line in (("validation", "-"), ("training", ":")):
                own = curves[
                    (curves["task"] == task) & (curves["measure"] == measure) & (curves["samples"] == samples)
                ].sort_values("epoch")
                colour = figures.COLOURS[number]
                axis.plot(own["epoch"], own["mean"], line, color=colour, label=f"{task}, {samples}", linewidth=1)
                low, high = own["mean"] - own["standard_error"], own["mean"] + own["standard_error"]
                axis.fill_between(own["epoch"], low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set_xlabel("epoch")
        axis.set_ylabel(names.get(measure, measure))
        if measure != "loss":
            axis.set_ylim(-0.02, 1.02)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    path = out.folder / "figures" / "summary.svg"
    figures.save(fig, path)
    patients = ", ".join(f"{n} {domain}" for domain, n in counts.items())
    out.add(
        "figure", path, "Detectability",
        f"Classifiers on the features of {network}, by epoch: mean and standard error (bands) of {repeats} repeats "
        f"with other validation patients; patients: {patients}. The nearer the validation curves of synthetic images "
        "to those of shuffled labels, the less can synthetic images be told from acquired ones.",
        data,
    )  # fmt: skip
    rows = [{"task": task, **{k: f[k] for k in ("value", "lower", "upper", "n")}} for task, f in areas.items()]
    out.table(
        pd.DataFrame(rows), "tables/areas.csv", "Areas under the ROC curve in test patients",
        "95 % intervals, bootstrap of patients. 0.5: no better than chance.",
    )  # fmt: skip
