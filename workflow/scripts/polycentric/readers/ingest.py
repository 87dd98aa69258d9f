"""Take in a reader study: answers, what each reader and all together achieved, and whether the blinding held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import bootstrap, figures, kappa, tables
from ..config.readers import ReaderStudy
from ..estimates import estimate, finite, mean_of_shares, wilson
from ..files import sha256_file, write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables.readers import ANSWERS, ARMS, ITEMS, KEY, REJECTED
from ..tables.schemas import ARTEFACTS
from ..univariate import separation
from .answers import read_folder, simulate

LEAKS = {
    "lowest_hu": "lowest grey value",
    "highest_hu": "highest grey value",
    "mean_hu": "mean grey value",
    "at_lowest": "share of pixels at the lowest grey value",
}


def ingest(
    name: str,
    settings: ReaderStudy,
    *,
    seed: int,
    items: Path,
    key: Path,
    answers: Path | None,
    root: Path,
    folder: Path,
    output: Path,
    rejected: Path,
    log: Log = SILENT,
) -> None:
    """Write `output` (answers), `rejected`, and below `folder` metrics.json, manifest.tsv, figures/ and tables/.

    `answers` is the folder with the files that readers sent back; it may be absent. Positive is "synthetic":
    sensitivity is the share of synthetic images that a reader called synthetic.
    """
    shown = tables.read(items, ITEMS)
    solution = tables.read(key, KEY)
    identities = shown["item"].tolist()
    build = shown["build"].iloc[0]
    rows, refused = read_folder(answers, name, build, identities)
    frame = pd.DataFrame([row | {"simulated": False} for row in rows])
    taken = {row["reader"] for row in rows}
    played = []
    for reader in settings.simulated:
        label = reader.name if reader.name not in taken else f"{reader.name}-simulated"
        played += simulate(label, reader.sensitivity, reader.specificity, solution, build, seed, name)
    everything = [*frame.to_dict("records"), *(row | {"simulated": True} for row in played)]
    arms = dict(zip(solution["item"], solution["arm"], strict=True))
    table = tables.write([row | {"arm": arms[row["item"]]} for row in everything], output, ANSWERS)
    tables.write(refused, rejected, REJECTED)
    log.event("answers", readers=len(taken), rejected=len(refused), simulated=len(settings.simulated))
    metrics = evaluate(name, settings, table, solution, seed, len(taken), refused)
    write_json(folder / "metrics.json", metrics)
    _show(name, settings, metrics, table, solution, folder, root)


def evaluate(
    name: str,
    settings: ReaderStudy,
    answers: pd.DataFrame,
    key: pd.DataFrame,
    seed: int,
    people: int,
    refused: list[dict[str, Any]],
) -> dict[str, Any]:
    """The content of metrics.json."""
    warnings: list[str] = []
    each = {reader: _reader(rows) for reader, rows in answers.groupby("reader", sort=True)}
    for reader, rows in answers.groupby("reader", sort=True):
        most = rows["answer"].value_counts(normalize=True).max()
        if most > 0.95 and len(rows) >= 10:
            warnings.append(f"{reader} gave the same answer to {100 * most:.0f} % of the items.")
        quick = rows["active_ms"].dropna()
        if len(quick) and quick.median() < 1000:
            warnings.append(f"{reader} looked at half of the items for less than a second.")
    if refused:
        warnings.append(f"{len(refused)} answer file(s) were refused; rejected.tsv says why.")
    if settings.simulated:
        warnings.append(f"{len(settings.simulated)} of the readers are simulated: they show that the path works.")
    leaks = {}
    positive = (key["arm"] == "synthetic").to_numpy()
    for column, words in LEAKS.items():
        auc, p = separation(key[column].to_numpy(float), positive)
        leaks[column] = {"auc": finite(auc), "p": finite(p)}
        if p < 0.01:
            warnings.append(
                f"The {words} alone tells the two kinds of images apart (AUC {auc:.2f}): a reader may have seen that "
                f"instead of the anatomy."
            )
    status = f"{people} of {settings.readers} readers"
    return {
        "schema_version": 1,
        "kind": settings.kind,
        "status": status if people >= settings.readers else f"waiting: {status}",
        "positive": "synthetic",
        "items": {arm: int((key["arm"] == arm).sum()) for arm in ARMS},
        "patients": int(key["patient"].nunique()),
        "estimates": {"readers": each, "all readers": _pooled(name, settings, answers, key, seed)},
        "blinding": leaks,
        "refused": len(refused),
        "warnings": warnings,
    }


def _reader(rows: pd.DataFrame) -> dict[str, Any]:
    right = rows["answer"] == rows["arm"]
    synthetic = rows["arm"] == "synthetic"
    sensitivity = wilson(int((right & synthetic).sum()), int(synthetic.sum()))
    specificity = wilson(int((right & ~synthetic).sum()), int((~synthetic).sum()))
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": wilson(int(right.sum()), len(rows)),
        # a binary answer has no further AUC than this
        "balanced_accuracy": mean_of_shares([sensitivity, specificity]),
    }


def _pooled(name: str, settings: ReaderStudy, answers: pd.DataFrame, key: pd.DataFrame, seed: int) -> dict[str, Any]:
    if answers["reader"].nunique() < 2:
        return {}
    wide = answers.pivot(index="reader", columns="item", values="answer")[key["item"].tolist()]
    truth = key["arm"].to_numpy()
    correct = (wide.to_numpy() == truth).astype(float)
    rng = generator(seed, "readers", name, "bootstrap")
    lower, upper, _ = bootstrap.crossed_interval(correct, truth, rng, resamples=settings.bootstraps)
    counts = kappa.counts(wide.to_numpy().T.astype(str))
    value, z, p = kappa.fleiss(counts)
    _, low, high, _ = bootstrap.by_cluster(
        lambda weights: kappa.fleiss_values(counts, weights),
        np.arange(len(counts)),
        rng,
        resamples=settings.bootstraps,
    )
    return {
        "accuracy": estimate(
            float(correct.mean()), lower, upper, method="bootstrap of readers and items", n=correct.size, seed=seed
        ),
        "fleiss_kappa": estimate(
            value,
            low,
            high,
            method="BCa bootstrap of items; z and p under no agreement",
            n=len(counts),
            seed=seed,
            z=finite(z),
            p=finite(p),
        ),
    }


def _show(
    name: str,
    settings: ReaderStudy,
    metrics: dict[str, Any],
    answers: pd.DataFrame,
    key: pd.DataFrame,
    folder: Path,
    root: Path,
) -> None:
    each = metrics["estimates"]["readers"]
    simulated = set(answers.loc[answers["simulated"].astype(bool), "reader"])
    rows = [
        {"reader": reader, "simulated": reader in simulated, "measure": measure}
        | {k: values[measure][k] for k in ("value", "lower", "upper", "n")}
        for reader, values in each.items()
        for measure in ("sensitivity", "specificity", "accuracy", "balanced_accuracy")
    ]
    columns = ["reader", "simulated", "measure", "value", "lower", "upper", "n"]
    numbers = pd.DataFrame(rows, columns=columns)
    data = folder / "tables" / "readers.csv"
    figures.write_csv(numbers, data)
    path = folder / "figures" / "summary.svg"
    _figure(numbers, metrics, answers, key, path)
    n = metrics["items"]
    caption = (
        f"What the readers said of {n['acquired']} acquired and {n['synthetic']} synthetic slices of "
        f"{metrics['patients']} patients ({metrics['status']}). Left: share of synthetic slices called synthetic "
        f"(sensitivity) and of acquired ones called acquired (specificity), with 95 % Wilson intervals; the dashed "
        f"line is guessing. Right: every answer; a column is an item."
        if each
        else f"No answers yet: {metrics['status']}."
    )
    tables.write(
        [
            {
                "kind": "figure",
                "path": path.relative_to(root).as_posix(),
                "sha256": sha256_file(path),
                "title": f"Reader study {name}",
                "caption": caption,
                "data": data.relative_to(root).as_posix(),
            },
            {
                "kind": "table",
                "path": data.relative_to(root).as_posix(),
                "sha256": sha256_file(data),
                "title": f"Readers of {name}",
                "caption": "Sensitivity, specificity and accuracy per reader with 95 % Wilson intervals; n is images.",
                "data": "",
            },
        ],
        folder / "manifest.tsv",
        ARTEFACTS,
    )


def _figure(
    numbers: pd.DataFrame, metrics: dict[str, Any], answers: pd.DataFrame, key: pd.DataFrame, path: Path
) -> None:
    readers = list(metrics["estimates"]["readers"])
    if not readers:
        fig, axis = figures.new(120, 30)
        axis.text(0.5, 0.5, metrics["status"], ha="center", va="center", fontsize=10)
        axis.set_axis_off()
        figures.save(fig, path)
        return
    height = 30 + 9 * len(readers)
    fig, (left, right) = figures.new(180, height, 2, width_ratios=[1, 1.4])
    for offset, (measure, marker) in enumerate([("sensitivity", "o"), ("specificity", "s")]):
        rows = (
            numbers[numbers["measure"] == measure]
            .set_index("reader")
            .loc[readers]
            .astype({"value": float, "lower": float, "upper": float})
        )
        y = np.arange(len(readers)) + 0.16 * (2 * offset - 1)
        spread = np.abs([rows["value"] - rows["lower"], rows["upper"] - rows["value"]])
        left.errorbar(
            rows["value"], y, xerr=spread, fmt=marker, label=measure, color=figures.COLOURS[offset], capsize=2
        )
    left.axvline(0.5, color="#888888", linestyle="--", linewidth=0.8)
    left.set(xlim=(0, 1), ylim=(len(readers) - 0.5, -0.5), xlabel="share called rightly", title="Per reader")
    left.set_yticks(range(len(readers)), readers)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    order = key.sort_values(["arm", "item"])
    wide = answers.pivot(index="reader", columns="item", values="answer").loc[readers, order["item"].tolist()]
    wrong = (wide.to_numpy() != order["arm"].to_numpy()).astype(float)
    colours = [figures.COLOURS[5], figures.COLOURS[1]]
    image = right.imshow(wrong, aspect="auto", cmap=_two(colours), vmin=0, vmax=1)
    image.set_rasterized(True)
    split = metrics["items"]["acquired"]
    right.axvline(split - 0.5, color="black", linewidth=0.8)
    right.set_yticks(range(len(readers)), [])
    right.set_xticks([split / 2 - 0.5, split + metrics["items"]["synthetic"] / 2 - 0.5], list(ARMS))
    right.set_title("Every answer")
    for label, colour in zip(("right", "wrong"), colours, strict=True):
        right.plot([], [], "s", color=colour, label=label)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    figures.save(fig, path)


def _two(colours: list[str]) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(colours)
