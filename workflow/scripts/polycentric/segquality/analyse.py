"""Analysis `segmentation-quality`: agreement with reference masks on unseen patients, by centre, with intervals."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import figures, ledger, tables, volumes
from ..artefacts import Artefacts
from ..bootstrap import estimate
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..words import in_words
from . import measures

if TYPE_CHECKING:
    from ..config.image_analyses import SegmentationQualityAnalysis
    from ..config.segmentation import Segmentation

# name, statistic over patients, words
SUMMARIES = {
    "dice": (np.mean, "mean Dice"),
    "hd95_voxel_max_mm": (np.median, "median 95 % Hausdorff distance, mm"),
    "nsd_voxel": (np.mean, "mean surface Dice"),
    "volume_difference_ml": (np.mean, "mean volume difference, ml"),
    "volume_difference_percent": (np.mean, "mean volume difference, % of the reference"),
}
ALL = "all centres"


def analyse(
    name: str,
    settings: SegmentationQualityAnalysis,
    *,
    segmentation: Segmentation,
    seed: int,
    masks: list[Path],
    reference: list[Path],
    split: Path,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Compare masks of a model with reference masks of patients that it has not seen; write the results.

    `masks` are the manifests of the model's masks, `reference` those of the reference source, `split` the table of the
    model's split. A scan in which the model found nothing counts with a Dice of 0; one that could not be processed is
    counted and listed, but not measured.

    Raises
    ------
    UserError
        when a model behind the masks has seen a patient that is to be examined, or none is left.
    """
    where = f"analyses: {name}"
    parts = tables.read(split, schemas.SPLIT)
    unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
    roi = settings.roi or segmentation.roi
    truth = tables.read_all(reference, schemas.MASKS)
    truth = truth[(truth["source"] == settings.reference) & (truth["roi"] == roi) & (truth["status"] == "ok")]
    truth = truth[truth["patient"].isin(unseen)].sort_values("scan")
    found = tables.read_all(masks, schemas.MASKS)
    found = found[(found["source"] == settings.segmentation) & (found["roi"] == segmentation.roi)]
    made = {row["scan"]: row for row in found.to_dict("records")}
    ledger.refuse_leaks(truth["patient"], ledgers, where=where)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(truth.to_dict("records"), start=1):
        rows.append(_row(row, made.get(row["scan"]), settings, root))
        log.progress("scans", number, len(truth), scan=row["scan"])
    if not any(row["status"] == "ok" for row in rows):
        raise UserError(
            f"{where}: no reference mask {roi!r} of {settings.reference!r} in the parts {list(settings.parts)} meets a "
            f"mask of {settings.segmentation!r} ({len(rows)} references). Write another reference, roi or parts."
        )
    frame = pd.DataFrame(rows)
    measured = frame[frame["status"] == "ok"]
    groups = {ALL: measured, **{str(c): part for c, part in measured.groupby("centre", sort=True)}}
    estimates = {group: _estimates(part, group, settings, seed, name) for group, part in groups.items()}
    excluded = frame[frame["status"] != "ok"]["status"].value_counts().to_dict()
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "segmentation": settings.segmentation,
            "summary": [
                f"{group}: mean Dice {in_words(found['dice'])} in {found['dice']['n']} unseen patients."
                for group, found in estimates.items()
            ],
            "reference": settings.reference,
            "roi": roi,
            "parts": list(settings.parts),
            "tolerance_mm": settings.tolerance_mm,
            "n": {
                "scans": len(measured),
                "patients": int(measured["patient"].nunique()),
                "found_nothing": int(measured["empty"].sum()),
                "excluded": {str(k): int(v) for k, v in sorted(excluded.items())},
            },
            "estimates": estimates,
            "definitions": {
                "dice": "2 |A and B| / (|A| + |B|)",
                "hd95_voxel_max_mm": "larger of the two directed 95th percentiles of distances between centres of "
                "border voxels; infinite where nothing was found, median over patients",
                "nsd_voxel": "share of border voxels of both masks within the tolerance of the other's border",
                "volume_difference": "mask minus reference",
            },
        },
    )
    out = Artefacts(folder, root)
    caption = f"{roi} against {settings.reference}; {len(measured)} scans, tolerance {settings.tolerance_mm:g} mm."
    data = out.table(frame, "tables/scans.csv", "Agreement by scan", caption)
    summary = [
        {"centre": group, "measure": measure, **{k: e[k] for k in ("value", "lower", "upper", "n", "method")}}
        for group, part in estimates.items()
        for measure, e in part.items()
    ]
    out.table(
        pd.DataFrame(summary),
        "tables/summary.csv",
        "Agreement by centre",
        f"Patients that the model has not seen (parts {', '.join(settings.parts)}); 95 % intervals, bootstrap of "
        f"patients. Surface Dice at {settings.tolerance_mm:g} mm.",
    )
    _figure(out, measured, estimates, data, settings)
    out.write()
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage=settings.kind,
        split=segmentation.split,
        seen={},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )


def _row(
    truth: dict[str, Any], made: dict[str, Any] | None, settings: SegmentationQualityAnalysis, root: Path
) -> dict[str, Any]:
    """Measures of one scan; a rejected mask (nothing found) is an empty one."""
    facts = {name: truth[name] for name in ("centre", "patient", "scan")}
    status = "missing" if made is None else made["status"]
    empty = status == "rejected"
    blank = dict.fromkeys(measures.Agreement.__dataclass_fields__, float("nan"))
    if not empty and status != "ok":
        return {**facts, "status": status, "empty": False, **blank}
    reference = volumes.read(root / truth["path"])
    if empty:
        mask = np.zeros(reference.array.shape, dtype=bool)
    else:
        volume = volumes.read(root / made["path"])
        if volume.array.shape != reference.array.shape:
            return {**facts, "status": "failed", "empty": False, **blank}
        mask = volume.array > 0
    spacing = reference.geometry.spacing[::-1]
    agreement = measures.agreement(mask, reference.array > 0, spacing, settings.tolerance_mm)
    return {**facts, "status": "ok", "empty": empty, **asdict(agreement)}


def _estimates(
    frame: pd.DataFrame, group: str, settings: SegmentationQualityAnalysis, seed: int, name: str
) -> dict[str, Any]:
    found = {}
    for measure, (statistic, words) in SUMMARIES.items():
        values = frame.groupby("patient", sort=True)[measure].mean().to_numpy()
        found[measure] = estimate(
            lambda i, v=values, s=statistic: float(s(v[i])),
            (len(values),),
            stream(seed, "segquality", name, group, measure),
            resamples=settings.bootstrap,
            seed=seed,
            method=f"{words}; scans of a patient averaged",
        )
    return found


def _figure(
    out: Artefacts,
    frame: pd.DataFrame,
    estimates: dict[str, Any],
    data: Path,
    settings: SegmentationQualityAnalysis,
) -> None:
    """Dice of every scan by centre, with the mean and its interval."""
    centres = [group for group in estimates if group != ALL]
    fig, axis = figures.new(width_mm=90, height_mm=70)
    for place, centre in enumerate(centres):
        values = np.sort(frame.loc[frame["centre"] == centre, "dice"].to_numpy())
        spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
        axis.plot(place + spread, values, "o", color=figures.COLOURS[0], markersize=3)
        e = estimates[centre]["dice"]
        axis.plot([place - 0.3, place + 0.3], [e["value"]] * 2, color=figures.COLOURS[1])
        if e["lower"] is not None:
            axis.plot([place] * 2, [e["lower"], e["upper"]], color=figures.COLOURS[1])
    axis.set_xticks(range(len(centres)), [f"{c}\n(n = {estimates[c]['dice']['n']})" for c in centres])
    axis.set_xlim(-0.6, len(centres) - 0.4)
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("Dice")
    path = out.folder / "figures" / "summary.svg"
    figures.save(fig, path)
    caption = (
        f"Dice of {settings.segmentation} against {settings.reference}, {len(frame)} scans of patients that the model "
        "has not seen; lines: mean and 95 % interval, bootstrap of patients."
    )
    out.add("figure", path, "Agreement by centre", caption, data)
