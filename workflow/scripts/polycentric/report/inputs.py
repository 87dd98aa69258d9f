"""What the report is made from: paths only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelFiles:
    """A fitted model: its ledger, its settings and, if it was trained step by step, its history.

    `samples` is a zip archive of sheets of pictures that were drawn while it was trained.
    """

    ledger: Path
    settings: Path | None = None
    history: Path | None = None
    samples: Path | None = None


@dataclass(frozen=True)
class AnalysisFiles:
    """An analysis: metrics.json, manifest.tsv and the ledger, if it fitted anything."""

    metrics: Path
    manifest: Path
    ledger: Path | None = None


@dataclass(frozen=True)
class ReaderFiles:
    """A reader study: metrics.json, manifest.tsv and the refused files."""

    metrics: Path
    manifest: Path
    rejected: Path | None = None


@dataclass(frozen=True)
class ReportInputs:
    """Files of one study. `volumes` are the manifests of all shards, `masks` and `views` those by source and view."""

    curation: Path
    scans: Path
    patients: Path
    flow: Path
    provenance: Path
    splits: Mapping[str, Path] = field(default_factory=dict)
    volumes: Sequence[Path] = ()
    masks: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    views: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    models: Mapping[str, ModelFiles] = field(default_factory=dict)
    analyses: Mapping[str, AnalysisFiles] = field(default_factory=dict)
    readers: Mapping[str, ReaderFiles] = field(default_factory=dict)


def collect(study: Mapping[str, Any], root: Path, fold: str = "main") -> ReportInputs:
    """Files of a validated study by the layout of its results folder `root`."""
    shards = [f"{name}-{k}" for name, centre in study["centres"].items() for k in range(centre["shards"])]
    with_ledger = ("harmonised", "selected", "imported")
    sets = [name for name, own in study["features"].items() if own["kind"] in with_ledger]
    fitted = [name for name, view in study["views"].items() if view["fit"]]
    trained = [*study["synthesis"], *study["segmentation"]]

    def model(name: str) -> ModelFiles:
        folder = root / "models" / name / fold
        more = (folder / "settings.json", folder / "history.csv") if name in trained else (None, None)
        return ModelFiles(folder / "ledger.json", *more, folder / "samples.zip" if name in study["synthesis"] else None)

    def of(kind: str, name: str) -> list[Path]:
        return [root / kind / name / fold / f"{shard}.tsv" for shard in shards]

    return ReportInputs(
        curation=root / "cohort" / "curation.parquet",
        scans=root / "cohort" / "scans.tsv",
        patients=root / "cohort" / "patients.tsv",
        flow=root / "cohort" / "flow.tsv",
        provenance=root / "report" / "provenance.json",
        splits={name: root / "cohort" / "splits" / f"{name}.tsv" for name in study["splits"]},
        volumes=[root / "volumes" / f"{shard}.tsv" for shard in shards],
        masks={name: of("masks", name) for name in (*study["convert"]["sources"], *study["segmentation"])},
        views={name: of("views", name) for name in study["views"]},
        models={name: model(name) for name in (*trained, *fitted, *sets)},
        analyses={
            name: AnalysisFiles(
                *(root / "analyses" / name / file for file in ("metrics.json", "manifest.tsv", "ledger.json"))
            )
            for name in study["analyses"]
        },
        readers={
            name: ReaderFiles(
                *(root / "readers" / name / file for file in ("metrics.json", "manifest.tsv", "rejected.tsv"))
            )
            for name in study["readers"]
        },
    )
