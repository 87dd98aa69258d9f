"""Analysis `synthesis-fidelity`: measures on unseen patients, their intervals, figures and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import anatomy, grids, ledger, tables, volumes
from ..artefacts import Artefacts
from ..bootstrap import estimate
from ..distances import densities
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..training import cohort
from ..words import in_words
from . import measures, paired, pictures, structure, windows

if TYPE_CHECKING:
    from ..config.image_analyses import FidelityAnalysis
    from ..config.synthesis import Synthesis

DISTANCES = {
    "kl": ("Kullback-Leibler divergence from the target, nats", densities.kl_divergence),
    "correlation": ("correlation with the target", densities.correlation),
    "intersection": ("intersection with the target", densities.intersection),
}


@dataclass
class Domain:
    """Per patient, in the order of `patients`: mean histogram and mean log spectrum of an image set."""

    patients: list[str]
    histograms: np.ndarray
    spectra: np.ndarray


def analyse(
    name: str,
    settings: FidelityAnalysis,
    *,
    synthesis: Synthesis,
    view: str,
    seed: int,
    source: list[Path],
    target: list[Path],
    synthetic: list[Path],
    scans: Path,
    patients: Path,
    split: Path,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    masks: list[Path] | None = None,
    masks_after: list[Path] | None = None,
    log: Log = SILENT,
) -> None:
    """Compare source, synthetic and target images of patients that the generator has not seen; write the results.

    `synthesis` are the settings of the model, `view` the view that it made; `source`, `target` and `synthetic` are the
    manifests of the three views, `split` the table of the model's split, `masks` manifests of `settings.masks` and
    `masks_after` those of `settings.masks_after`.

    Raises
    ------
    UserError
        when a model behind the images has seen a patient that is to be examined, or none is left.
    """
    where = f"analyses: {name}"
    parts = tables.read(split, schemas.SPLIT)
    unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
    everyone = cohort.cohort(scans, patients)
    everyone = everyone[everyone["patient"].isin(unseen)]
    before = _rows(source, synthesis.source.view)
    after = _rows(synthetic, view)
    wanted = _rows(target, synthesis.target.view)
    pairs = cohort.select(everyone, synthesis.source.where, where)
    pairs = pairs[pairs["scan"].isin(before.keys() & after.keys())].sort_values("scan")
    others = cohort.select(everyone, synthesis.target.where, where)
    others = others[others["scan"].isin(wanted)].sort_values("scan")
    ledger.refuse_leaks({*pairs["patient"], *others["patient"]}, ledgers, where=where)
    if pairs.empty:
        raise UserError(
            f"{where}: no scan of the source domain of {settings.synthesis!r} belongs to a patient of the parts "
            f"{list(settings.parts)} and has been translated. Write other `parts`, or a larger test part."
        )
    outlines = _masks(masks or [], settings.masks)
    outlines_after = _masks(masks_after or [], settings.masks_after)
    truths = _truths(pairs, others, settings.pairs)
    window, stride = windows.of(synthesis)
    hu_range = synthesis.target_range
    out = Artefacts(folder, root)

    rows: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    against: list[dict[str, Any]] = []
    parts_of: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"source": [], "synthetic": [], "target": []}
    total = len(pairs) + len(others)
    for number, scan in enumerate(pairs.to_dict("records"), start=1):
        key = scan["scan"]
        a = volumes.read(root / before[key]["path"], before[key])
        b = volumes.read(root / after[key]["path"], after[key])
        # other modalities have no HU: the body is found in what was made of them, and changes have no unit
        hounsfield = scan["modality"] == "CT"
        within = anatomy.body(a.array if hounsfield else b.array)
        compared = [("source", a.array)] * hounsfield + [("synthetic", b.array)]
        facts = {"centre": scan["centre"], "patient": scan["patient"], "scan": key}
        if hounsfield:
            for tissue, (change, voxels) in measures.tissue_change(a.array, b.array, within).items():
                rows.append({**facts, "tissue": tissue, "change_hu": change, "voxels": voxels})
            difference = np.abs(b.array[within].astype(np.float64) - a.array[within])
            absolute = float(difference.mean()) if difference.size else float("nan")
            rows.append({**facts, "tissue": "body, absolute", "change_hu": absolute, "voxels": difference.size})
        for mask in outlines.get(key, []):
            moved = volumes.resample(volumes.read(root / mask["path"]), a.geometry, interpolation="nearest").array > 0
            if hounsfield:
                difference = b.array[moved].astype(np.float64) - a.array[moved]
                change = float(difference.mean()) if difference.size else float("nan")
                regions.append({**facts, "roi": mask["roi"], "change_hu": change, "voxels": difference.size})
            twin = next((m for m in outlines_after.get(key, []) if m["roi"] == mask["roi"]), None)
            if twin is not None:
                other = volumes.resample(volumes.read(root / twin["path"]), a.geometry, interpolation="nearest").array
                overlap = structure.dice(moved, other > 0)
                kept.append({**facts, "measure": f"Dice of {mask['roi']} outlined before and after", "value": overlap})
        for measure, value in _structures(a, b, within, window, stride, hounsfield).items():
            kept.append({**facts, "measure": measure, "value": value})
        if key in truths:
            row = wanted[truths[key]]
            truth = volumes.read(root / row["path"], row)
            if not grids.same(truth.geometry, b.geometry):
                truth = volumes.resample(truth, b.geometry, fill=-1024)
            inside = anatomy.body(truth.array)
            for measure, (_, function) in paired.MEASURES.items():
                for images, image in compared:
                    value = function(truth.array, image, inside)
                    against.append(
                        {**facts, "truth": truths[key], "measure": measure, "images": images, "value": value}
                    )
        for domain, image in compared:
            parts_of[domain].append((scan["patient"], *_profile(image, within, settings.bins, hu_range)))
        if number <= settings.examples:
            path = folder / "figures" / f"example-{number}.png"
            pictures.triptych(path, a, b, within, settings, hounsfield)
            caption = f"Scan {key} of {scan['centre']}, which the generator has not seen: source, synthetic" + (
                " and their difference in HU, the axial slice with most enhanced blood." if hounsfield else "."
            )
            out.add("picture", path, f"Source and synthetic: {key}", caption)
        log.progress("scans", number, total, scan=key)
    for number, scan in enumerate(others.to_dict("records"), start=len(pairs) + 1):
        row = wanted[scan["scan"]]
        image = volumes.read(root / row["path"], row).array
        parts_of["target"].append((scan["patient"], *_profile(image, anatomy.body(image), settings.bins, hu_range)))
        log.progress("scans", number, total, scan=scan["scan"])

    domains = {domain: _by_patient(found, settings.bins) for domain, found in parts_of.items()}
    by_scan = pd.DataFrame(rows)
    changes = _changes(by_scan, "tissue", settings, seed, name) if rows else {}
    inside = _changes(pd.DataFrame(regions), "roi", settings, seed, name) if regions else {}
    preserved = _means(pd.DataFrame(kept), ["measure"], settings, seed, name)
    truly = _means(pd.DataFrame(against), ["measure", "images"], settings, seed, name) if against else {}
    distances = _distances(domains, settings, seed, name)
    counts = {d: {"patients": len(x.patients), "scans": len(parts_of[d])} for d, x in domains.items()}
    notes = []
    if not domains["target"].patients:
        notes.append("No unseen patient has an image of the target domain: distances to the target are undefined.")
    if not rows:
        notes.append("The source is no CT: its intensities have no unit, and changes from it are not measured.")
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "synthesis": settings.synthesis,
            "summary": [
                f"{tissue}: changed by {in_words(found, digits=0)} HU in {found['n']} unseen patients."
                for tissue, found in changes.items()
                if tissue in ("enhanced blood", "soft tissue", "lung")
            ],
            "parts": list(settings.parts),
            "n": counts,
            "hu_change": changes,
            "hu_change_in_masks": inside,
            "structure": preserved,
            "against_truth": truly,
            "distances": distances,
            "notes": notes,
            "definitions": {
                "hu_change": "mean of synthetic minus source over the voxels whose source value lies in the tissue's "
                "band, within the body; mean over scans of a patient, then over patients",
                "bands_hu": {tissue: list(band) for tissue, band in measures.TISSUES.items()},
                "histogram": f"{settings.bins} bins over {list(hu_range)} HU within the body, mean over patients; "
                f"{densities.SMOOTHING:g} is added to each bin before the divergence, which is that of the images "
                "from the target",
                "structure": "Dice of lung or gas (below -500 HU) and bone (from 400 HU) within the body before and "
                "after; correlation of gradient magnitudes; agreement of the 5 % steepest voxels within one voxel; "
                "seams: mean step of the change across borders of windows over that elsewhere, 1 without seams",
                "against_truth": "pairs of one "
                + (settings.pairs if settings.pairs != "none" else "patient: none")
                + "; within the truth's body, values clipped to -1024 to 3071 HU, range 4095; structural similarity in "
                "cubes of 7 voxels",
                "log_spectrum": "mean absolute difference of the decimal log of the radial power spectra of axial "
                "slices, 32 bins up to half a cycle per voxel",
            },
        },
    )
    if rows:
        caption = f"Mean synthetic minus source, HU; {by_scan['scan'].nunique()} unseen scans."
        out.table(by_scan, "tables/scans.csv", "HU change by scan", caption)
    if regions:
        frame = pd.DataFrame(regions)
        out.table(frame, "tables/masks.csv", "HU change in masks", "Mean synthetic minus source, HU, by region.")
    out.table(
        pd.DataFrame(kept), "tables/structure.csv", "Structure before and after", f"By scan, {len(pairs)} unseen scans."
    )
    if against:
        caption = f"By scan, {len(truths)} scans that have a true image of the same {settings.pairs}."
        out.table(pd.DataFrame(against), "tables/truth.csv", "Against true images", caption)
    pictures.preserved(out, preserved, truly, counts)
    pictures.figures_of(out, changes, distances, domains, hu_range, counts)
    out.write()
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage=settings.kind,
        split=synthesis.split,
        seen={},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )


def _rows(manifests: list[Path], view: str) -> dict[str, dict[str, Any]]:
    frame = tables.read_all(manifests, schemas.VIEWS)
    frame = frame[(frame["view"] == view) & (frame["status"] == "ok")]
    return {row["scan"]: row for row in frame.to_dict("records")}


def _masks(manifests: list[Path], source: str | None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if source is not None:
        frame = tables.read_all(manifests, schemas.MASKS)
        frame = frame[(frame["source"] == source) & (frame["status"] == "ok")].sort_values(["scan", "roi"])
        for row in frame.to_dict("records"):
            found.setdefault(row["scan"], []).append(row)
    return found


def _truths(pairs: pd.DataFrame, others: pd.DataFrame, by: str) -> dict[str, str]:
    """Scan of the target domain of the same patient or session for each translated scan; the first by its id."""
    if by == "none":
        return {}
    first = others.sort_values("scan").drop_duplicates(by).set_index(by)["scan"]
    found = {row["scan"]: first.get(row[by]) for row in pairs.to_dict("records")}
    return {scan: truth for scan, truth in found.items() if truth is not None and truth != scan}


def _structures(
    a: volumes.Volume,
    b: volumes.Volume,
    within: np.ndarray,
    window: windows.Shape,
    stride: windows.Shape,
    hounsfield: bool,
) -> dict[str, float]:
    edges = structure.edges_kept(a.array, b.array, within, a.geometry.spacing)
    found = {"correlation of gradients": edges["gradient_correlation"], "agreement of edges": edges["edge_agreement"]}
    change = b.array.astype(np.float32)
    if hounsfield:
        change -= a.array
        found |= {f"Dice of {r}": v for r, v in structure.region_overlaps(a.array, b.array, within).items()}
    return found | {"seams": windows.seams(change, within, window, stride)}


def _means(frame: pd.DataFrame, keys: list[str], settings: FidelityAnalysis, seed: int, name: str) -> dict[str, Any]:
    """Mean over patients of a patient's mean, nested by the keys."""
    found: dict[str, Any] = {}
    for group, part in frame.groupby(keys, sort=False):
        finite = part[np.isfinite(part["value"])]
        values = finite.groupby("patient")["value"].mean().to_numpy()
        facts = estimate(
            lambda i, v=values: float(v[i].mean()),
            (len(values),),
            stream(seed, "fidelity", name, *map(str, group)),
            resamples=settings.bootstrap,
            seed=seed,
            method="mean over patients",
        )
        place = found
        for key in group[:-1]:
            place = place.setdefault(str(key), {})
        place[str(group[-1])] = facts
    return found


def _profile(
    image: np.ndarray, within: np.ndarray, bins: int, hu_range: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    return measures.histogram(image[within], bins, hu_range), measures.log_spectrum(image, hu_range)


def _by_patient(found: list[tuple[str, np.ndarray, np.ndarray]], bins: int) -> Domain:
    patients = sorted({patient for patient, _, _ in found})

    def mean(position: int, empty: int) -> np.ndarray:
        means = [np.mean([x[position] for x in found if x[0] == patient], axis=0) for patient in patients]
        return np.array(means) if means else np.empty((0, empty))

    return Domain(patients, mean(1, bins), mean(2, 32))


def _changes(frame: pd.DataFrame, by: str, settings: FidelityAnalysis, seed: int, name: str) -> dict[str, Any]:
    """Mean change over patients by tissue or region, in the order of appearance."""
    found = {}
    for group, part in frame.groupby(by, sort=False):
        values = part.dropna(subset="change_hu").groupby("patient")["change_hu"].mean().to_numpy()
        found[str(group)] = estimate(
            lambda i, v=values: float(v[i].mean()),
            (len(values),),
            stream(seed, "fidelity", name, by, str(group)),
            resamples=settings.bootstrap,
            seed=seed,
            method="mean over patients of the mean change in HU",
        )
    return found


def _distances(domains: dict[str, Domain], settings: FidelityAnalysis, seed: int, name: str) -> dict[str, Any]:
    """Distances of source and synthetic images to the target, and what translation gained; patients resampled."""
    source, synthetic, target = (domains[d] for d in ("source", "synthetic", "target"))
    sizes = (len(synthetic.patients), len(target.patients))
    found: dict[str, Any] = {}
    measured = {label: (text, function, "histograms") for label, (text, function) in DISTANCES.items()}
    spectral = "log power spectrum's distance to the target, decades"
    measured["log_spectrum"] = (spectral, densities.mean_difference, "spectra")
    for label, (text, function, what) in measured.items():

        def distance(images: Domain, i: np.ndarray, j: np.ndarray, function=function, what=what) -> float:
            return float(function(getattr(images, what)[i].mean(axis=0), getattr(target, what)[j].mean(axis=0)))

        statistics = {"synthetic": lambda i, j, d=distance: d(synthetic, i, j)}
        if source.patients == synthetic.patients:
            statistics |= {
                "source": lambda i, j, d=distance: d(source, i, j),
                "synthetic minus source": lambda i, j, d=distance: d(synthetic, i, j) - d(source, i, j),
            }
        found[label] = {
            images: estimate(
                statistic,
                sizes,
                stream(seed, "fidelity", name, label),  # the same resamples for all three
                resamples=settings.bootstrap,
                seed=seed,
                method=text,
            )
            for images, statistic in statistics.items()
        }
    return found
