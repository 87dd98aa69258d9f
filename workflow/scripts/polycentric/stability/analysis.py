"""The analysis `stability`: agreement of every feature in every design, and which features pass all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import feature_names, ledger, tables
from ..artefacts import TableArtefacts
from ..concordance import STATISTICS, WORDS, Concordance, concordance
from ..config.stability import StabilityAnalysis
from ..errors import UserError
from ..estimates import estimate, wilson
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES, SCANS, SPLIT
from ..tables.stability import STABLE
from . import draw
from .designs import Repeats, repeats

METHODS = {
    "icc_1": "McGraw and Wong 1996, F-based interval",
    "icc_a": "McGraw and Wong 1996, F-based interval",
    "icc_c": "McGraw and Wong 1996, F-based interval",
    "ccc": "Lin 1989, Fisher's z; jackknife over subjects for more than two repeats",
}


def analyse(
    name: str,
    settings: StabilityAnalysis,
    *,
    features: Mapping[str, Path],
    scans: Path | None,
    split: Path | None,
    ledgers: Sequence[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    perturbed: Mapping[str, Path] | None = None,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Judge every feature in every design; write the analysis folder and `stable.tsv`; return the metrics.

    Parameters
    ----------
    features
        feature tables by set, for all of `settings.features`.
    perturbed
        tables of their rows of perturbed images, for all of `settings.perturbed`.
    scans
        table of scans, for designs that repeat over its columns or choose by them; None where there is none.
    split
        the table of `settings.split`, or None.

    Raises
    ------
    UserError
        if a design has fewer than three subjects with all repeats, or names what does not exist.
    """
    where = f"analyses: {name}"
    sets = {key: tables.read(features[key], FEATURES) for key in settings.features}
    further = {key: tables.read((perturbed or {})[key], FEATURES) for key in settings.perturbed}
    with_perturbed = sets | {key: pd.concat([sets[key], rows], ignore_index=True) for key, rows in further.items()}
    facts = None if scans is None else tables.read(scans, SCANS)
    patients = None
    if settings.split is not None:
        if split is None:
            raise UserError(f"{where}: the table of split {settings.split!r} is missing")
        parts = tables.read(split, SPLIT)
        patients = set(parts.loc[parts["part"].eq("training"), "patient"])
    found: dict[str, tuple[Repeats, Concordance]] = {}
    for number, (key, design) in enumerate(settings.designs.items(), start=1):
        own = with_perturbed if design.repeat == "perturbation" else sets
        measured = repeats(design, own, facts, patients, f"{where}: designs: {key}")
        found[key] = measured, concordance(measured.values, level=settings.level)
        log.progress("designs", number, len(settings.designs), design=key, **measured.counts)
    table = pd.concat([_rows(key, settings, *result) for key, result in found.items()], ignore_index=True)
    stable = selection(table, settings)
    tables.write(stable, folder / "stable.tsv", STABLE)
    metrics = _metrics(name, settings, found, table, stable)
    _show(settings, found, table, stable, metrics, TableArtefacts(folder, root))
    write_json(folder / "metrics.json", metrics)
    seen = {p for measured, _ in found.values() for p in measured.subjects["patient"]}
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="extract",  # a choice of features, which the training part of an analysis may share
        split=settings.split or "",
        seen={"training": seen},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def _rows(key: str, settings: StabilityAnalysis, measured: Repeats, found: Concordance) -> pd.DataFrame:
    """One row per feature of a design: every statistic with its bounds, what decides, and whether it passes."""
    design = settings.designs[key]
    frame = feature_names.parts(measured.features)
    frame.insert(0, "design", key)
    frame["subjects"] = found.subjects
    frame["incomplete"] = len(measured.subjects) - found.subjects
    frame["repeats"] = found.repeats
    frame["mean"] = _mean(measured.values)
    for statistic in STATISTICS:
        interval = getattr(found, statistic)
        for part in ("value", "lower", "upper"):
            frame[statistic if part == "value" else f"{statistic}_{part}"] = getattr(interval, part)
    frame["within_sd"], frame["repeatability"] = found.within_sd, found.repeatability
    statistic = design.statistic.replace("-", "_")
    frame["decides"] = frame[statistic if design.bound == "value" else f"{statistic}_lower"]
    frame["passes"] = (frame["decides"] > design.above).to_numpy()
    return frame


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=(0, 1))
    return np.where(known.any(axis=(0, 1)), total / np.maximum(known.sum(axis=(0, 1)), 1), np.nan)


def selection(table: pd.DataFrame, settings: StabilityAnalysis) -> pd.DataFrame:
    """Schema STABLE: a feature is stable if it was judged in every design and passes each; else the reasons."""
    rows = []
    by_design = {key: part.set_index("feature") for key, part in table.groupby("design", sort=False)}
    for feature in sorted(set(table["feature"])):
        reasons = []
        for key, design in settings.designs.items():
            words = ("lower bound of " if design.bound == "lower" else "") + WORDS[design.statistic.replace("-", "_")]
            if feature not in by_design[key].index:
                reasons.append(f"{key}: not measured")
                continue
            value = by_design[key].at[feature, "decides"]
            if np.isnan(value):
                reasons.append(f"{key}: not estimable")
            elif not value > design.above:
                reasons.append(f"{key}: {words} {value:.3f}, limit {design.above:g}")
        rows.append({"feature": feature, "stable": not reasons, "reason": "; ".join(reasons)})
    return pd.DataFrame(rows)


def _metrics(
    name: str,
    settings: StabilityAnalysis,
    found: Mapping[str, tuple[Repeats, Concordance]],
    table: pd.DataFrame,
    stable: pd.DataFrame,
) -> dict[str, Any]:
    designs, warnings = {}, []
    for key, (measured, _) in found.items():
        part, design = table[table["design"].eq(key)], settings.designs[key]
        statistic = design.statistic.replace("-", "_")
        values = part[statistic].dropna()
        designs[key] = {
            "repeat": design.repeat,
            "levels": measured.levels if design.repeat not in ("session", "scan") else [],
            **measured.counts,
            "statistic": WORDS[statistic],
            "bound": design.bound,
            "above": design.above,
            "not_estimable": int(part["decides"].isna().sum()),
            "with_missing_values": int(part["incomplete"].gt(0).sum()),
            "passing": wilson(int(part["passes"].sum()), len(part), level=settings.level),
            "median": estimate(
                float(values.median()) if len(values) else np.nan,
                method=f"median of {WORDS[statistic]} over features ({METHODS[statistic]})",
                n=measured.counts["subjects"],
                level=settings.level,
            ),
        }
        if measured.counts["subjects"] < 30:
            warnings.append(
                f"{key}: {measured.counts['subjects']} subjects; intervals of agreement are wide below 30 or so."
            )
        for count, words in (("incomplete", "lack a repeat"), ("ambiguous", "have several rows for one repeat")):
            if measured.counts[count]:
                warnings.append(f"{key}: {measured.counts[count]} subjects {words} and are left out.")
    kept, judged = int(stable["stable"].sum()), len(stable)
    lines = [
        f"{key}: {int(d['passing']['value'] * d['features'] + 0.5)} of {d['features']} features have a "
        f"{'lower bound of ' if d['bound'] == 'lower' else ''}{d['statistic']} above {d['above']:g} "
        f"({d['subjects']} subjects of {d['patients']} patients, {d['repeats']} repeats)."
        for key, d in designs.items()
    ]
    if len(designs) > 1:
        lines.append(f"{kept} of {judged} features pass all {len(designs)} designs.")
    return {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": lines,
        "split": settings.split or "",
        "designs": designs,
        "stable": wilson(kept, judged, level=settings.level),
        "warnings": warnings,
    }


def _show(
    settings: StabilityAnalysis,
    found: Mapping[str, tuple[Repeats, Concordance]],
    table: pd.DataFrame,
    stable: pd.DataFrame,
    metrics: Mapping[str, Any],
    out: TableArtefacts,
) -> None:
    title = metrics["title"]
    n = "; ".join(
        f"{key}: {d['subjects']} subjects of {d['patients']} patients, {d['repeats']} repeats"
        for key, d in metrics["designs"].items()
    )
    percent = f"{100 * settings.level:g} %"
    figure, numbers = draw.by_class(table, settings)
    out.figure(
        figure,
        "summary",
        f"{title}: agreement by feature class",
        f"{settings.question} Each dot is a feature: the number that decides in its design, with the median (bar) of "
        f"its class; dashed: the limit. {n}. Counts are features that pass of those in the class. {settings.caption}",
        numbers,
    )
    figure, numbers = draw.heat_map(table, settings)
    out.figure(
        figure,
        "heat-map",
        f"{title}: every feature in every design",
        f"Statistic of each design; features by class, least stable last; grey: not measured or not estimable. {n}.",
        numbers,
    )
    classes = (
        table.groupby(["design", "class"], sort=False)
        .agg(
            features=("feature", "size"),
            passing=("passes", "sum"),
            median=("decides", "median"),
            lowest=("decides", "min"),
            highest=("decides", "max"),
        )
        .reset_index()
    )
    out.table(
        table.drop(columns="decides"),
        "features",
        f"{title}: every feature",
        f"ICC(1,1), ICC(A,1), ICC(C,1) and CCC with {percent} intervals; within_sd is the SD between repeats of a "
        f"subject, repeatability the difference that 95 % of two repeats stay below, both in the feature's unit; "
        f"incomplete: subjects left out because a value is missing. {n}.",
    )
    out.table(classes, "classes", f"{title}: by class", f"Features that pass, by design and class. {n}.")
    out.table(
        stable,
        "stable",
        f"{title}: stable features",
        f"{int(stable['stable'].sum())} of {len(stable)} features pass every design; reasons for the others. {n}.",
    )
    out.write()
