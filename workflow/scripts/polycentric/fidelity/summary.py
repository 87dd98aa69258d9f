"""Analysis `synthesis-summary`: what all analyses of synthesis models found, as one table and one figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import figures, ledger
from ..artefacts import Artefacts
from ..bootstrap import LEVEL
from ..errors import UserError
from ..files import read_json, write_json
from ..jobs import SILENT, Log
from ..words import in_words
from .charts import colours

if TYPE_CHECKING:
    from ..config.synthesis_analyses import SynthesisSummary

GROUPS = ("distances to real images", "change by tissue", "structure", "against true images", "detectability",
          "radiomics features", "windows and hidden signals")  # fmt: skip
WHOLE = "all"
PROBED = {
    "own_stride_mean_hu": ("difference of the stride from the finest, HU", 0.0),
    "own_stride_seams": ("steps at borders of windows against elsewhere", 1.0),
    "disagreement_mean_hu": ("disagreement of windows, HU", 0.0),
    "cycle_error_hu": ("error of the reconstruction, HU", None),
    "noise_amplification": ("growth of noise on the way back", 1.0),
}
TRUTH = {"mae_hu": ("mean absolute error, HU", 0.0), "psnr_db": ("peak signal-to-noise ratio, dB", None),
         "ssim": ("structural similarity", 1.0)}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """An estimate of a model: over all layers, or of one (1 = lowest).

    `images` are synthetic ones, or those of the source before translation. `ideal` is what nothing but real or
    unchanged images would give; None where there is no such value.
    """

    model: str
    images: str
    group: str
    metric: str
    layer: str
    value: float | None
    lower: float | None
    upper: float | None
    n: int | None
    ideal: float | None
    better: str
    analysis: str
    method: str


def summarise(
    name: str,
    settings: SynthesisSummary,
    *,
    models: Sequence[str],
    metrics: Mapping[str, Path],
    ledgers: Sequence[Path],
    split: str,
    seed: int,
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Join the metrics of analyses, which lie in folders of their own, and write table, figure and metrics.

    Parameters
    ----------
    models
        The models to show, in order.
    metrics
        `metrics.json` of each analysis; the tables by layer of comparisons lie beside them.
    ledgers
        Ledgers of these analyses: who has been evaluated is known to them.
    split
        Split of the first model, for the ledger.

    Raises
    ------
    UserError
        when none of the analyses says anything of these models.
    """
    rows: list[Row] = []
    for number, (analysis, path) in enumerate(metrics.items(), start=1):
        rows += [row for row in rows_of(analysis, read_json(path), path.parent) if row.model in models]
        log.progress("analyses", number, len(metrics), analysis=analysis)
    if not rows:
        raise UserError(f"analyses: {name}: the analyses {list(metrics)} say nothing of the models {list(models)}.")
    frame = pd.DataFrame([asdict(row) for row in rows])
    keys = ["group", "metric", "model", "images", "layer"]
    frame["_order"] = [(GROUPS.index(r.group), models.index(r.model)) for r in rows]
    order = {metric: k for k, metric in enumerate(dict.fromkeys(frame["metric"]))}
    frame["_metric"] = frame["metric"].map(order)
    frame["_group"], frame["_model"] = zip(*frame.pop("_order"), strict=True)
    frame = frame.sort_values(["_group", "_metric", "_model"], kind="stable").drop(
        columns=["_group", "_metric", "_model"]
    )
    frame = frame[[*keys, *[c for c in frame.columns if c not in keys]]].reset_index(drop=True)
    out = Artefacts(folder, root)
    data = out.table(
        frame, "tables/summary.csv", "All metrics by model and layer",
        "Every estimate of the synthesis models with its 95 % interval (bootstrap of patients). layer: 'all', or the "
        "axial layer (1 = lowest). ideal: what real or unchanged images give.",
    )  # fmt: skip
    whole = frame[frame["layer"] == WHOLE]
    path = folder / "figures" / "summary.svg"
    _figure(whole, list(models), path)
    out.add(
        "figure", path, "All metrics by model",
        f"{len(models)} models, unseen patients. Points: synthetic images; open: source images before translation. "
        "Bars: 95 % intervals, bootstrap of patients. Dashed: what real or unchanged images give. Groups: "
        + ", ".join(g for g in GROUPS if g in set(whole["group"])) + ".",
        data,
    )  # fmt: skip
    nested: dict[str, Any] = {}
    for row in whole.to_dict("records"):
        place = nested.setdefault(row["metric"], {}).setdefault(row["model"], {})
        facts = {k: row[k] if row[k] is None or np.isfinite(row[k]) else None for k in ("value", "lower", "upper")}
        place[row["images"]] = facts | {"level": LEVEL, "method": row["method"], "n": row["n"], "seed": seed}
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "summary": _sentences(whole),
            "synthesis": list(models),
            "analyses": list(metrics),
            "metrics": {m: {k: _single(v) for k, v in found.items()} for m, found in nested.items()},
        },
    )
    out.write()
    ledger.write(
        folder / "ledger.json", name=name, stage=settings.kind, split=split, seen={}, upstream=ledgers,
        settings=settings_json, code=code,
    )  # fmt: skip


def rows_of(analysis: str, metrics: dict[str, Any], folder: Path) -> Iterator[Row]:
    """The estimates of an analysis of synthesis models, by its kind; nothing for another kind."""
    readers = {
        "synthesis-comparison": _compared,
        "synthesis-fidelity": _changed,
        "detectability": _detected,
        "feature-shift": _shifted,
        "synthesis-probe": _probed,
    }
    if metrics["kind"] in readers:
        yield from readers[metrics["kind"]](analysis, metrics, folder)


def _row(
    analysis: str, model: str, images: str, group: int, metric: str, facts: Mapping[str, Any], *, better: str = "",
    ideal: float | None = None, layer: str = WHOLE,
) -> Row:  # fmt: skip
    value, lower, upper = (_number(facts.get(k)) for k in ("value", "lower", "upper"))
    return Row(
        model, images, GROUPS[group], metric, layer, value, lower, upper, _count(facts.get("n")), ideal, better,
        analysis, str(facts.get("method", "")),
    )  # fmt: skip


def _compared(analysis: str, metrics: dict[str, Any], folder: Path) -> Iterator[Row]:
    told = {}
    for label, found in metrics["images"].items():
        model, images = _whose(label, metrics["synthesis"])
        for metric, facts in found.items():
            ratio = facts.get("form", "ratio") == "ratio"
            title = facts["title"] + (", ratio to real" if ratio else ", difference from real")
            told[metric] = title, 1.0 if ratio else 0.0, facts.get("better", "lower")
            yield _row(analysis, model, images, 0, title, facts, ideal=told[metric][1], better=told[metric][2])
    layers = pd.read_csv(folder / "tables" / "layers.csv")
    for row in layers.to_dict("records"):
        model, images = _whose(row["images"], metrics["synthesis"])
        title, ideal, better = told[row["metric"]]
        facts = {"value": row["against_baseline"], "lower": row["lower"], "upper": row["upper"]}
        facts |= {"n": row["slices"], "method": "n counts slices"}
        yield _row(analysis, model, images, 0, title, facts, ideal=ideal, better=better, layer=str(row["layer"]))


def _whose(label: str, models: Sequence[str]) -> tuple[str, str]:
    """Model and kind of images of a label of the comparison: a model, `source`, or `source of` a model."""
    if label in models:
        return label, "synthetic"
    model = label.removeprefix("source of ")
    return (model if model in models else models[0]), "source"


def _changed(analysis: str, metrics: dict[str, Any], _: Path) -> Iterator[Row]:
    model = metrics["synthesis"]
    for key, text in (("hu_change", "change of"), ("hu_change_in_masks", "change within")):
        for tissue, facts in metrics[key].items():
            meant = tissue == "enhanced blood" or key == "hu_change_in_masks"
            better = "" if meant else "near 0"
            yield _row(
                analysis,
                model,
                "synthetic",
                1,
                f"{text} {tissue}, HU",
                facts,
                ideal=None if meant else 0,
                better=better,
            )
    for measure, facts in metrics["structure"].items():
        yield _row(analysis, model, "synthetic", 2, measure, facts, ideal=1, better="near 1")
    for measure, found in metrics["against_truth"].items():
        title, ideal = TRUTH[measure]
        better = "lower" if ideal == 0 else "higher"
        for images, facts in found.items():
            yield _row(analysis, model, images, 3, title, facts, ideal=ideal, better=better)


def _detected(analysis: str, metrics: dict[str, Any], _: Path) -> Iterator[Row]:
    title = f"area under the ROC curve against real images, {metrics['network']}"
    for task, images in (("synthetic against target", "synthetic"), ("source against target", "source")):
        facts = metrics["auc_test"][task]
        yield _row(analysis, metrics["synthesis"], images, 4, title, facts, ideal=0.5, better="near 0.5")


def _shifted(analysis: str, metrics: dict[str, Any], _: Path) -> Iterator[Row]:
    title = f"values that are kept, % ({' to '.join(metrics['features'])})"
    yield _row(analysis, metrics["synthesis"], "synthetic", 5, title, metrics["kept"], ideal=100, better="higher")
    total = metrics["n"]["features"]
    share = 100 * metrics["features_with_ccc_above_0.9"] / total if total else None
    facts = {"value": share, "n": metrics["n"]["patients"], "method": "share of features"}
    title = f"features with concordance above 0.9, % ({' to '.join(metrics['features'])})"
    yield _row(analysis, metrics["synthesis"], "synthetic", 5, title, facts, ideal=100, better="higher")


def _probed(analysis: str, metrics: dict[str, Any], _: Path) -> Iterator[Row]:
    for measure, (title, ideal) in PROBED.items():
        if measure in metrics["estimates"]:
            facts = metrics["estimates"][measure]
            yield _row(analysis, metrics["synthesis"], "synthetic", 6, title, facts, ideal=ideal, better="lower")


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _count(value: Any) -> int | None:
    return None if value is None or not np.isfinite(value) else int(value)


def _single(found: dict[str, Any]) -> Any:
    """Synthetic images stand by themselves where there are no others."""
    return found["synthetic"] if list(found) == ["synthetic"] else found


def _sentences(whole: pd.DataFrame) -> list[str]:
    """The model that comes nearest to real images, by the pooled Frechet distance or else by histograms."""
    found = whole[(whole["group"] == GROUPS[0]) & (whole["images"] == "synthetic")].dropna(subset="value")
    pooled = found[found["metric"].str.contains("pooled")]
    chosen = pooled if len(pooled) else found[found["metric"].str.startswith("KL divergence")]
    chosen = chosen[chosen["metric"] == chosen["metric"].max()]
    if chosen["model"].nunique() < 2:
        return []
    best = chosen.loc[chosen["value"].idxmin()].to_dict() | {"level": LEVEL}
    return [f"{best['model']} comes nearest to real images by {best['metric']}: {in_words(best)}."]


def _figure(whole: pd.DataFrame, models: list[str], path: Path) -> None:
    whole = whole[np.isfinite(whole["value"].astype(float))]
    metrics = list(dict.fromkeys(whole["metric"]))
    style = colours(models)
    columns = min(4, len(metrics))
    lines = -(-len(metrics) // columns)
    height = lines * (16 + 4.5 * len(models))
    fig, axes = figures.new(width_mm=190, height_mm=height, columns=columns, rows=lines, squeeze=False)
    for number, axis in enumerate(axes.ravel()):
        if number >= len(metrics):
            axis.set_visible(False)
            continue
        part = whole[whole["metric"] == metrics[number]]
        for row in part.itertuples():
            colour, marker = style[row.model]
            synthetic = row.images == "synthetic"
            place = models.index(row.model) + (0 if synthetic else 0.28)
            axis.plot(row.value, place, marker, color=colour, markerfacecolor=colour if synthetic else "white")
            if row.lower is not None and np.isfinite(row.lower):
                axis.plot([row.lower, row.upper], [place, place], color=colour, linewidth=1)
        ideal = part["ideal"].dropna()
        values = part["value"].astype(float)
        if part["group"].iloc[0] == GROUPS[0] and values.min() > 0 and values.max() > 5:
            axis.set_xscale("log")
        if len(ideal):
            axis.axvline(float(ideal.iloc[0]), color="#555555", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(models)), models if number % columns == 0 else [""] * len(models))
        axis.set_ylim(len(models) - 0.4, -0.6)
        axis.set_title(_wrapped(metrics[number]), fontsize=6)
        if better := part["better"].iloc[0]:
            axis.set_xlabel(f"{better} is better", fontsize=6)
    figures.save(fig, path)


def _wrapped(title: str, width: int = 34) -> str:
    """A title in at most three lines."""
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width and len(lines) < 3:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
