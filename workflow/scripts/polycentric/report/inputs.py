"""What the report is made from: paths only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ModelFiles:
    """A fitted model: its ledger, its settings and, if it was trained step by step, its history."""

    ledger: Path
    settings: Path | None = None
    history: Path | None = None


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
