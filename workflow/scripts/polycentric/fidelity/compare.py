"""Analysis `synthesis-comparison`: distances of synthetic to real images by axial layer, for one or several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .. import anatomy, ledger, tables
from ..artefacts import Artefacts
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..training import cohort
from ..words import in_words
from . import charts, judge, radiomics, sets
from .resampling import halves, resamples, size_of

if TYPE_CHECKING:
    from ..config.profiles import ProfileSettings
    from ..config.synthesis import Synthesis
    from ..config.synthesis_analyses import SynthesisComparison

SOURCE = "source"


@dataclass(frozen=True)
class Model:
    """A model to compare: its settings, the view it made, and the table of its split."""

    synthesis: Synthesis
    view: str
    split: Path


def compare(
    name: str,
    settings: SynthesisComparison,
    *,
    profile: ProfileSettings,
    models: Mapping[str, Model],
    seed: int,
    profiles: Sequence[Path],
    scans: Path,
    patients: Path,
    ledgers: Sequence[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    features: Mapping[str, Path] | None = None,
    log: Log = SILENT,
) -> None:
    """Compare the images of models with real images of their target domains; write the results.

    Parameters
    ----------
    profile
        Settings of the profile that the analysis names.
    models
        The models in the order of the settings.
    profiles
        Manifests of the profiles of all views concerned: source, synthetic, target.
    ledgers
        Ledgers of all models behind the images (and behind the feature sets).
    features
        Tables of the feature sets that `settings.radiomics` names.

    Raises
    ------
    UserError
        when a model behind the images has seen a patient that is to be examined, or too few patients are left.
    """
    where = f"analyses: {name}"
    everyone = cohort.cohort(scans, patients)
    bins = {"fine": profile.bins, "coarse": 3, "radial": 32, "plane": 2048}
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    counts: list[dict[str, Any]] = []
    cache: dict[tuple[str, ...], sets.ImageSet] = {}
    evaluated: set[str] = set()
    network, distance = _network(profiles, settings.profile)
    metrics = judge.metrics_of(profile.bins, distance)

    def images(view: str, chosen: pd.DataFrame, title: str) -> sets.ImageSet:
        found = sets.rows_of(profiles, view, settings.profile)
        found = found[found["scan"].isin(chosen["scan"])]
        key = (view, *sorted(found["scan"]))
        if key not in cache:
            cache[key] = sets.load(title, found, root, profile.layers, bins)
            left_out = found[found["status"] != "ok"]
            counts.append(
                {"view": view, "patients": len(cache[key].patients), "scans": cache[key].scans}
                | {"slices": int(cache[key].slices.sum()), "left_out": len(left_out)}
                | {"why": "; ".join(sorted({str(r).partition(":")[0] for r in left_out["reason"]}))}
            )
        return cache[key]

    layered: dict[str, tuple[sets.ImageSet, sets.ImageSet]] = {}
    for model, facts in models.items():
        parts = tables.read(facts.split, schemas.SPLIT)
        unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
        own = everyone[everyone["patient"].isin(unseen)]
        translated = cohort.select(own, facts.synthesis.source.where, where)
        wanted = cohort.select(own, facts.synthesis.target.where, where)
        evaluated |= {*translated["patient"], *wanted["patient"]}
        target = images(facts.synthesis.target.view, wanted, "target")
        if len(target.patients) < 4:
            raise UserError(
                f"{where}: {len(target.patients)} unseen patients have an image of the target domain of {model!r} that "
                f"shows the landmarks ({profile.landmarks}); at least 4 are needed, since real images are compared "
                "with real ones. Write other `parts`, a larger test part, or landmarks: body in the profile."
            )
        synthetic = images(facts.view, translated, model)
        if len(synthetic.patients) < 2:
            raise UserError(
                f"{where}: {len(synthetic.patients)} unseen patients have a synthetic image of {model!r} that shows "
                f"the landmarks ({profile.landmarks}); at least 2 are needed. Write other `parts` or other landmarks."
            )
        layered[model] = synthetic, target
        if settings.source:
            before = images(facts.synthesis.source.view, translated, SOURCE)
            if len(before.patients) >= 2:
                label = SOURCE if len(models) == 1 else f"{SOURCE} of {model}"
                if not any(pair[0] is before and pair[1] is target for pair in layered.values()):
                    layered[label] = before, target
    ledger.refuse_leaks(evaluated, list(ledgers), where=where)
    layered = dict(sorted(layered.items(), key=lambda pair: pair[0] in models))  # sources first

    done, total = 0, len(layered) * (len(metrics) + 1)
    sizes: dict[str, int] = {}
    for label, (own_images, target) in layered.items():
        pair = f"{len(own_images.patients)}-{len(target.patients)}"  # equal numbers: the same halves for all models
        both = len(own_images.patients), len(target.patients)
        draws = [
            halves(*both, stream(seed, "comparison", name, "repeats", pair), settings.repeats),
            resamples(*both, stream(seed, "comparison", name, "bootstrap", pair), settings.bootstrap),
        ]
        sizes[label] = size_of(len(own_images.patients), len(target.patients))
        n = len(own_images.patients) + len(target.patients)
        summary[label] = {}
        for metric in metrics:
            by, over = judge.summarise(metric, judge.by_layer(metric, own_images, target, draws), n=n, seed=seed)
            title = {"images": label, "metric": metric.name, "title": metric.text, "form": metric.form}
            own_slices, real_slices = own_images.slices.sum(axis=0), target.slices.sum(axis=0)
            rows += [
                {**title, **row, "slices": int(own_slices[k]), "target_slices": int(real_slices[k])}
                for k, row in enumerate(by)
            ]
            summary[label][metric.name] = over | {"title": metric.text}
            done += 1
            log.progress("distances", done, total, images=label, metric=metric.name)
        if distance and own_images.has_features and target.has_features:
            few = [draws[0], draws[1].part(0, settings.frechet_bootstrap * draws[1].divisions)]
            found = judge.pooled_frechet(
                distance, sets.thinned(own_images, settings.frechet_slices),
                sets.thinned(target, settings.frechet_slices), few, seed=seed,
            )  # fmt: skip
            summary[label]["frechet"] = found | {"title": f"{distance}, pooled"}
        done += 1
        log.progress("distances", done, total, images=label, metric="frechet")
    if settings.radiomics is not None:
        for model, found in radiomics.distances(name, settings, models, features or {}, everyone, where, seed).items():
            summary[model]["frechet_radiomics"] = found

    out = Artefacts(folder, root)
    layers = pd.DataFrame(rows)
    charts.comparison(out, summary, layers, profile, sizes)
    out.table(
        layers, "tables/layers.csv", "Distances by layer",
        f"Every distance by axial layer (1 = lowest of {profile.layers}): of the images to real ones, of real ones to "
        "real ones of equal number, and ratio or difference with 95 % interval (bootstrap of patients).",
    )  # fmt: skip
    counted = pd.DataFrame(counts)
    out.table(counted, "tables/images.csv", "Images compared", "Patients, scans and slices by view; scans left out.")
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "synthesis": list(settings.synthesis),
            "summary": _sentences(summary, distance),
            "parts": list(settings.parts),
            "network": network or "none",
            "patients_per_side": sizes,
            "images": {label: dict(found) for label, found in summary.items()},
            "definitions": {
                "layers": f"{profile.layers} equal shares of the way between two landmarks found in every image by "
                f"itself. {anatomy.DEFINITIONS[profile.landmarks]}.",
                "baseline": "the target's unseen patients are halved at random; one half is the reference, the other "
                "half and as many patients of the images are compared with it",
                "frechet": "squared Frechet distance of the features of all layers together, since a layer has far "
                "fewer slices than features",
                "kernel": "unbiased squared maximum mean discrepancy, polynomial kernel of degree 3, pairs of slices "
                "of different patients only",
            },
        },
    )
    out.write()
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage=settings.kind,
        split=next(iter(models.values())).synthesis.split,
        seen={},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )


def _network(manifests: Sequence[Path], profile: str) -> tuple[str, str]:
    frame = tables.read_all(list(manifests), sets.PROFILES)
    frame = frame[(frame["profile"] == profile) & (frame["status"] == "ok")]
    found = frame[["network", "distance"]].drop_duplicates()
    return ("", "") if len(found) != 1 else (str(found["network"].iloc[0]), str(found["distance"].iloc[0]))


def _sentences(summary: dict[str, Any], distance: str) -> list[str]:
    told = []
    for label, found in summary.items():
        if "frechet" in found:
            told.append(f"{label}: {distance} is {in_words(found['frechet'])} times that between real images.")
        if "kl_fine" in found:
            told.append(f"{label}: histograms diverge {in_words(found['kl_fine'])} times as much as real ones do.")
    return told
