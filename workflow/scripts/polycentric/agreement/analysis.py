"""The analysis `feature-agreement`: counts, tables, figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger, tables
from ..artefacts import Artefacts
from ..config.agreement import FeatureAgreementAnalysis
from ..errors import UserError
from ..feature_names import in_order
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES, MASKS
from . import compare, volume


def analyse(
    name: str,
    settings: FeatureAgreementAnalysis,
    *,
    features: Mapping[str, Path],
    masks: Sequence[Path],
    known_volumes: Path | None,
    pseudonym: Callable[[str, str], str],
    root: Path,
    folder: Path,
    upstream: Sequence[Path] = (),
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> None:
    """Compare our features of the shared patients with another extraction's, and mask volumes with known ones.

    `features` maps both set names to their tables, `masks` are the manifests of the mask source behind our set,
    `pseudonym` turns a centre and a patient_id of `known_volumes` into the pseudonym. Writes metrics.json,
    manifest.tsv, ledger.json, tables/ and figures/ into `folder`.

    Raises
    ------
    UserError
        if the two sets share no patient and ROI, or no feature.
    """
    where = f"analyses: {name}"
    ours, theirs = (tables.read(features[n], FEATURES) for n in settings.features)
    pairs = compare.paired(ours, theirs)
    if pairs.empty:
        raise UserError(
            f"{where}: the sets {settings.features[0]!r} and {settings.features[1]!r} have no feature of the same "
            f"patient and ROI in common; check the names of the ROIs (roi_pattern) and of the features"
        )
    log.event("compared", patients=pairs["patient"].nunique(), values=len(pairs))

    by_patient = compare.counts(pairs, ["patient", "roi"], settings.tolerances)
    by_class = compare.counts(pairs, ["class"], settings.tolerances)
    by_image = compare.counts(pairs, ["image_type"], settings.tolerances)
    by_both = compare.counts(pairs, ["image_type", "class"], settings.tolerances)
    facts = compare.facts(ours, theirs)
    outlines = tables.read_all(list(masks), MASKS)
    known = pd.DataFrame(columns=["patient", "roi", "volume_ml", "source"])
    if known_volumes is not None:
        known = volume.read_known(known_volumes, pseudonym, outlines["centre"].unique().tolist(), where)
    volumes = volume.compare(outlines, known, settings.volume_tolerance)
    explained = explanation(pairs, facts, volumes, settings.tolerances)

    out = Artefacts(folder, root)
    n = f"{pairs['patient'].nunique()} patients, {pairs['feature'].nunique()} features"
    for stem, frame, title, caption in (
        ("volumes", volumes, "ROI volumes", f"Volumes in mL of {len(volumes)} masks with a known volume."),
        ("patients", by_patient, "Agreement by patient", f"Features within each relative difference ({n})."),
        ("explanation", explained, "What explains the differences", f"One statement per row, with its number ({n})."),
        ("classes", by_class, "Agreement by feature class", f"Values of all shared patients together ({n})."),
        ("image-types", by_image, "Agreement by image type", f"Values of all shared patients together ({n})."),
        ("image-types-classes", by_both, "Agreement by image type and class", f"Values of all shared patients ({n})."),
        ("facts", facts, "The two extractions", "What each extraction records about mask, intensities and versions."),
        ("features", pairs, "All features", f"Each feature of each shared patient, ours and theirs ({n})."),
    ):
        out.table(frame, f"tables/{stem}.csv", title, caption)

    curves = cumulative(pairs)
    figure = folder / "figures" / "summary.svg"
    _draw(curves, settings.tolerances, figure)
    caption = (
        f"Share of feature values whose relative difference from the other extraction is at most that on the "
        f"horizontal axis, by feature class ({n}, {len(pairs)} values). Dashed: "
        + ", ".join(f"{100 * t:g} %" for t in settings.tolerances)
        + "."
    )
    out.add("figure", figure, "Agreement of features", caption, out.csv(curves, "figures/summary.csv"))
    write_json(folder / "metrics.json", _metrics(settings, pairs, by_patient, volumes))
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split="",
        seen={},
        upstream=upstream,
        settings=settings_json,
        code=code,
    )
    out.write()


def cumulative(pairs: pd.DataFrame, points: int = 161) -> pd.DataFrame:
    """Share of values at or below a relative difference, on a grid from 1e-16 to 1, by class and for all."""
    grid = np.logspace(-16, 0, points)
    groups = {"all": pairs["relative_difference"].to_numpy(dtype=float)}
    for kind, group in pairs.groupby("class", sort=True):
        groups[str(kind)] = group["relative_difference"].to_numpy(dtype=float)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "class": kind,
                    "values": len(values),
                    "relative_difference": grid,
                    "share_percent": 100 * np.searchsorted(np.sort(values), grid, side="right") / len(values),
                }
            )
            for kind, values in groups.items()
        ],
        ignore_index=True,
    )


def explanation(
    pairs: pd.DataFrame, facts: pd.DataFrame, volumes: pd.DataFrame, tolerances: Sequence[float]
) -> pd.DataFrame:
    """Measured statements, a row each with its cause and number: do the masks, the images, the versions differ?

    What differs although mask and image are equal can only come from the library or its settings.
    """
    tight = min(tolerances)
    rows: list[dict[str, Any]] = []

    def say(cause: str, patient: str, roi: str, statement: str, value: float | None = None) -> None:
        rows.append({"cause": cause, "patient": patient, "roi": roi, "statement": statement, "value": value})

    for (patient, roi), group in pairs.groupby(["patient", "roi"], sort=True):
        told = facts[facts["patient"].eq(patient) & facts["roi"].eq(roi)].drop_duplicates("fact").set_index("fact")
        differing = {"rasterisation": False, "image": False}
        for cause, words in (("rasterisation", compare.MASK_FACTS), ("image", compare.IMAGE_FACTS)):
            for fact in words:
                if fact in told.index:
                    a, b = float(told.loc[fact, "ours"]), float(told.loc[fact, "theirs"])
                    say(cause, patient, roi, f"{fact}: {a:.10g} ours, {b:.10g} theirs; difference", a - b)
                    differing[cause] |= not math.isclose(a, b, rel_tol=1e-9)
        known = volumes[volumes["patient"].eq(patient) & volumes["roi"].eq(roi)].drop_duplicates("roi")
        for _, row in known.iterrows():
            if math.isfinite(row["mask_against_contour"]):
                text = "volume of our mask against the area of its contours times the slice distance; relative"
                say("rasterisation", patient, roi, text, float(row["mask_against_contour"]))
        shape = group[group["class"].eq("shape")]["relative_difference"]
        if len(shape):
            text = "median relative difference of shape features, which depend on the mask alone"
            say("rasterisation", patient, roi, text, float(shape.median()))
        far = int((group["relative_difference"] > tight).sum())
        say("all", patient, roi, f"features of {len(group)} whose relative difference is above {tight:g}", far)
        if far:
            causes = [c for c, differs in differing.items() if differs] or ["version or settings"]
            say("all", patient, roi, f"explained by: {', '.join(causes)}; features", far)
    for fact in ("PyRadiomics", "SimpleITK"):
        told = facts[facts["fact"].eq(fact)].drop_duplicates(["ours", "theirs"])
        for _, row in told.iterrows():
            say("version", "all", "all", f"{fact}: {row['ours']} ours, {row['theirs']} theirs")
    return pd.DataFrame(rows, columns=["cause", "patient", "roi", "statement", "value"])


def _metrics(
    settings: FeatureAgreementAnalysis, pairs: pd.DataFrame, by_patient: pd.DataFrame, volumes: pd.DataFrame
) -> dict[str, Any]:
    def counted(within: int, n: int) -> dict[str, Any]:
        return {
            "value": within / n,
            "lower": None,
            "upper": None,
            "level": None,
            "method": "count of all shared features, no sample",
            "n": n,
            "count": within,
            "seed": None,
        }

    difference = pairs["relative_difference"]
    patients = {}
    for row in by_patient.to_dict("records"):
        patients[f"{row['patient']} {row['roi']}"] = {
            f"within_{t:g}": counted(row[f"within_{t:g}"], row["features"]) for t in settings.tolerances
        }
    return {
        "schema_version": 1,
        "kind": settings.kind,
        "summary": _summary(settings, pairs, volumes),
        "features": list(settings.features),
        "all": {f"within_{t:g}": counted(int((difference <= t).sum()), len(pairs)) for t in settings.tolerances},
        "patients": patients,
        "volumes": [{k: None if pd.isna(v) else v for k, v in row.items()} for row in volumes.to_dict("records")],
        "volume_tolerance": settings.volume_tolerance,
    }


def _summary(settings: FeatureAgreementAnalysis, pairs: pd.DataFrame, volumes: pd.DataFrame) -> list[str]:
    difference = pairs["relative_difference"]
    within = [
        f"{int((difference <= t).sum())} of {len(pairs)} feature values agree within {100 * t:g} %"
        for t in sorted(settings.tolerances)
    ]
    sentences = [
        f"{'; '.join(within)} ({pairs['patient'].nunique()} patients, {pairs['feature'].nunique()} features; "
        f"largest relative difference {difference.max():.2g})."
    ]
    judged = volumes.dropna(subset=["acceptable"]) if "acceptable" in volumes else volumes.iloc[:0]
    if len(judged):
        good = int(judged["acceptable"].astype(bool).sum())
        sentences.append(
            f"{good} of {len(judged)} mask volumes lie within {100 * settings.volume_tolerance:g} % of the analytic "
            f"volume (largest difference {100 * judged['mask_difference'].abs().max():.2g} %)."
        )
    return sentences


def _draw(curves: pd.DataFrame, tolerances: Sequence[float], path: Path) -> None:
    from .. import figures

    fig, axes = figures.new(width_mm=110, height_mm=75)
    kinds = ["all", *in_order([k for k in curves["class"] if k != "all"])]
    for number, kind in enumerate(kinds):
        part = curves[curves["class"].eq(kind)]
        colour = "black" if kind == "all" else figures.COLOURS[(number - 1) % len(figures.COLOURS)]
        label = f"{kind} ({int(part['values'].iloc[0])})"
        axes.plot(
            part["relative_difference"],
            part["share_percent"],
            color=colour,
            linewidth=2 if kind == "all" else 1,
            label=label,
        )
    for tolerance in tolerances:
        axes.axvline(tolerance, color="#888888", linewidth=0.7, linestyle="--")
        axes.text(tolerance, 2, f"{100 * tolerance:g} %", rotation=90, ha="right", va="bottom", fontsize=6)
    axes.set(xscale="log", xlim=(1e-16, 1), ylim=(0, 101))
    axes.set_xlabel("relative difference")
    axes.set_ylabel("features at or below, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="class (values)", title_fontsize=7)
    figures.save(fig, path)
