"""Feature sets side by side, one row per patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import tables
from ..coding import per_patient
from ..config.features import JoinedSet
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES


def join_features(
    set_name: str,
    settings: JoinedSet,
    *,
    features: Sequence[Path],
    output: Path,
    fold: str = "main",
    log: Log = SILENT,
) -> None:
    """Join feature tables (of the sets `settings.of`, in that order) by patient into schema features.

    A feature is called `<set>: <feature>`; rows of a patient in one set are aggregated before (`coding.per_patient`).
    The row of a patient is the scan `joined-<patient>` and the region `whole`. Patients whom a set lacks are rejected
    with FEATURE_SET_MISSING, or keep a row with missing values.
    """
    parts, centres = [], {}
    for name, path in zip(settings.of, features, strict=True):
        frame = tables.read(path, FEATURES)
        frame = frame[frame["status"].eq("ok") & frame["fold"].eq(fold)]
        centres |= dict(zip(frame["patient"], frame["centre"], strict=True))
        names = sorted(c for c in frame.columns if c not in FEATURES.columns)
        table, conflicts = per_patient(frame, names, settings.aggregate)
        log.event("part", set=name, patients=len(table), features=len(names), categories_in_conflict=conflicts)
        parts.append(table.add_prefix(f"{name}: "))
    patients = sorted(centres)
    lacking = {p: [n for n, t in zip(settings.of, parts, strict=True) if p not in t.index] for p in patients}
    reject = settings.incomplete == "reject"
    rows = pd.DataFrame(
        {
            "centre": [centres[p] for p in patients],
            "patient": patients,
            "session": "joined",
            "scan": [f"joined-{p}" for p in patients],
            "set": set_name,
            "view": "",
            "source": "",
            "roi": "whole",
            "fold": fold,
            "status": ["missing" if lacking[p] and reject else "ok" for p in patients],
            "reason": [_reason(lacking[p]) if lacking[p] and reject else "" for p in patients],
            "diagnostics": "{}",
        }
    )
    values = [table.reindex(patients).reset_index(drop=True) for table in parts]
    log.event("joined", patients=len(patients), complete=sum(not found for found in lacking.values()))
    result = pd.concat([rows, *values], axis=1).sort_values(["centre", "patient"], kind="stable", ignore_index=True)
    texts = [c for c in result.columns if c not in FEATURES.columns and result[c].dtype == object]
    tables.write(result.astype(dict.fromkeys(texts, "string")), output, FEATURES)


def _reason(sets: list[str]) -> str:
    return f"FEATURE_SET_MISSING: no row with status ok in {', '.join(sets)}"
