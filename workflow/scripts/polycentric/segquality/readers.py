"""Analysis `mask-agreement`: outlines of several readers, or of a network and readers, over all pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import bootstrap, figures, ledger, tables, volumes
from ..artefacts import TableArtefacts
from ..bland_altman import bland_altman
from ..errors import UserError
from ..estimates import Estimate, estimate, shown
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables import schemas
from ..univariate import corrected

if TYPE_CHECKING:
    from ..config.agreement import MaskAgreementAnalysis


def analyse(
    name: str,
    settings: MaskAgreementAnalysis,
    *,
    seed: int,
    masks: list[Path],
    split: Path | None,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Dice and volumes of every pair of mask sources; write the analysis folder; return the metrics.

    `masks` are the manifests of all sources; only scans and regions that two sources outlined count. An outline that
    is absent is not an empty one.

    Raises
    ------
    UserError
        when no two sources outlined the same region of a scan, or a network has seen a patient.
    """
    where = f"analyses: {name}"
    found = tables.read_all(masks, schemas.MASKS)
    found = found[found["source"].isin(settings.sources) & found["status"].eq("ok") & found["fold"].eq("main")]
    if settings.rois is not None:
        found = found[found["roi"].isin(settings.rois)]
    if split is not None:
        parts = tables.read(split, schemas.SPLIT)
        found = found[found["patient"].isin(parts.loc[parts["part"].ne("training"), "patient"])]
    groups = [g for _, g in found.groupby(["scan", "roi"], sort=True) if len(g) > 1]
    if not groups:
        raise UserError(
            f"{where}: no two of {list(settings.sources)} outlined the same region of a scan; write other sources or "
            "give their regions the same names under convert."
        )
    ledger.refuse_leaks(pd.concat(groups)["patient"], ledgers, where=where)
    rows: list[dict[str, Any]] = []
    for number, group in enumerate(groups, start=1):
        rows += _pairs(group, settings, root)
        log.progress("scans", number, len(groups))
    frame = pd.DataFrame(rows)
    if not len(frame):
        raise UserError(f"{where}: the outlines of the sources lie on other grids; outline the same scan.")
    estimates, table = _estimates(frame, settings, seed, name)
    title = settings.title or name
    n = f"{frame['patient'].nunique()} patients, {frame[['scan', 'roi']].drop_duplicates().shape[0]} regions"
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": title,
        "question": settings.question,
        "seed": seed,
        "sources": list(settings.sources),
        "against": settings.against,
        "patients": int(frame["patient"].nunique()),
        "estimates": estimates,
        "summary": [f"{key}: mean Dice {shown(e['dice'])}." for key, e in estimates.items() if "dice" in e],
        "warnings": [],
    }
    out = TableArtefacts(folder, root)
    out.table(frame, "scans", f"{title}: pairs by scan", f"Dice and volumes of every pair of sources ({n}).")
    caption = (
        f"{settings.question} Every pair of sources ({n}): mean Dice with its interval by bootstrap of patients; "
        "difference of volumes, first less second, with limits of agreement (Bland and Altman) of patients' means. "
        f"p of a difference from 0, corrected by {settings.correction}."
    )
    out.table(table, "pairs", f"{title}: agreement of sources", caption.strip())
    figure = _figure(frame, estimates)
    text = f"{settings.question} Dice of every pair of sources ({n}); points: regions, orange: mean and interval."
    out.figure(figure, "summary", f"{title}: Dice", f"{text} {settings.caption}", frame)
    out.write()
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split or "",
        seen={},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of boolean arrays; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def _pairs(group: pd.DataFrame, settings: MaskAgreementAnalysis, root: Path) -> list[dict[str, Any]]:
    rows = {row["source"]: row for row in group.to_dict("records")}
    read = {source: volumes.read(root / rows[source]["path"]) for source in settings.sources if source in rows}
    result = []
    for one, two in itertools.combinations(read, 2):
        a, b = read[one].array > 0, read[two].array > 0
        if a.shape != b.shape:
            continue
        result.append(
            {key: rows[one][key] for key in ("centre", "patient", "scan", "roi")}
            | {"first": one, "second": two, "dice": dice(a, b)}
            | {"volume_first_ml": float(a.sum() * read[one].geometry.voxel_ml)}
            | {"volume_second_ml": float(b.sum() * read[two].geometry.voxel_ml)}
        )
    return result


def _mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def of(weights: np.ndarray) -> np.ndarray:
        known = np.isfinite(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            return weights[:, known] @ values[known] / weights[:, known].sum(axis=1)

    return of


def _estimates(
    frame: pd.DataFrame, settings: MaskAgreementAnalysis, seed: int, name: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    def averaged(values: np.ndarray, patients: np.ndarray, *key: str, what: str = "mean Dice") -> Estimate:
        stream = generator(seed, "mask-agreement", name, *key)
        value, lower, upper, used = bootstrap.by_cluster(
            _mean(values), patients, stream, resamples=settings.bootstraps, level=settings.level
        )
        method = f"{what}; BCa bootstrap of patients, {used} samples"
        n = len(set(patients))
        return estimate(value, lower, upper, method=method, n=n, level=settings.level, seed=seed)

    found: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for (one, two), pair in frame.groupby(["first", "second"], sort=True):
        key = f"{one} and {two}"
        by_patient = pair.groupby("patient", sort=True)[["volume_first_ml", "volume_second_ml"]].mean().to_numpy()
        limits = bland_altman(by_patient[:, 0], by_patient[:, 1], level=settings.level)
        found[key] = {
            "dice": averaged(pair["dice"].to_numpy(), pair["patient"].to_numpy(), key),
            "volume_difference_ml": limits.bias | {"p": limits.p_bias if np.isfinite(limits.p_bias) else None},
            "volume_lower_limit_ml": limits.lower,
            "volume_upper_limit_ml": limits.upper,
        }
        rows += [{"pair": key, "measure": m} | _short(e) for m, e in found[key].items()]
    if settings.against:
        involved = frame["first"].eq(settings.against) | frame["second"].eq(settings.against)
        # a region counts where the source has a pair, and the others have one among themselves
        both = pd.DataFrame(
            {
                "with": frame["dice"].where(involved).groupby([frame["scan"], frame["roi"]]).mean(),
                "others": frame["dice"].where(~involved).groupby([frame["scan"], frame["roi"]]).mean(),
                "patient": frame["patient"].groupby([frame["scan"], frame["roi"]]).first(),
            }
        ).dropna()
        patients = both["patient"].to_numpy()
        difference = averaged(
            (both["with"] - both["others"]).to_numpy(), patients, "difference", what="mean difference of Dice by region"
        )
        for key, value in (
            (f"{settings.against} with the others", averaged(both["with"].to_numpy(), patients, "with")),
            ("the others among themselves", averaged(both["others"].to_numpy(), patients, "others")),
        ):
            found[key] = {"dice": value}
            rows.append({"pair": key, "measure": "dice"} | _short(value))
        found["difference"] = {"dice_difference": difference}
        rows.append({"pair": "difference", "measure": "dice_difference"} | _short(difference))
    table = pd.DataFrame(rows)
    table["p_corrected"] = corrected(table["p"].to_numpy(dtype=float), settings.correction)
    return found, table


def _short(value: Estimate) -> dict[str, Any]:
    return {key: value.get(key) for key in ("value", "lower", "upper", "n", "p", "method")}


def _figure(frame: pd.DataFrame, estimates: dict[str, Any]) -> Any:
    pairs = [f"{a} and {b}" for a, b in frame[["first", "second"]].drop_duplicates().itertuples(index=False)]
    figure, axis = figures.new(width_mm=120, height_mm=30 + 12 * len(pairs))
    labels = frame["first"] + " and " + frame["second"]
    for y, pair in enumerate(pairs):
        values = frame.loc[labels.eq(pair), "dice"].to_numpy()
        axis.plot(values, y + (np.arange(len(values)) % 9 - 4) / 16, ".", color=figures.COLOURS[0], alpha=0.5)
        found = estimates[pair]["dice"]
        if found["lower"] is not None:
            axis.hlines(y, found["lower"], found["upper"], color=figures.COLOURS[1], linewidth=2)
        axis.plot(found["value"], y, "D", color=figures.COLOURS[1])
    axis.set_yticks(range(len(pairs)), pairs)
    axis.set(xlabel="Dice", xlim=(0, 1.02), ylim=(len(pairs) - 0.5, -0.5))
    return figure
