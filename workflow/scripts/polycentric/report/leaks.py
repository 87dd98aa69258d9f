"""Which patients each model has seen, and whether any of them is evaluated: recomputed from ledgers and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .. import ledger
from .inputs import ModelFiles

HELD_OUT = ("test", "external")


@dataclass(frozen=True)
class Entry:
    """A row of the ledger table: `seen` is part -> patients; `overlaps` lists held-out patients seen, by model.

    `unknown` says what is not known of who was seen.
    """

    name: str
    stage: str
    split: str
    seen: dict[str, int]
    upstream: list[str]
    held_out: int | None
    overlaps: dict[str, int]
    unknown: str = ""


def held_out(split: pd.DataFrame) -> set[str]:
    return set(split.loc[split["part"].isin(HELD_OUT), "patient"])


def held_out_by(model: ModelFiles | None, splits: Mapping[str, pd.DataFrame]) -> set[str] | None:
    """Patients that the model's split holds out; None where that is not known."""
    if model is None:
        return None
    split = ledger.read(model.ledger)["split"]
    return held_out(splits[split]) if split in splits else None


def audit(ledgers: Mapping[str, Path], splits: Mapping[str, pd.DataFrame]) -> list[Entry]:
    """One entry per fitted thing, in order; every model upstream is compared with its split's held-out patients."""
    entries = []
    for name, path in ledgers.items():
        record: dict[str, Any] = ledger.read(path)
        unknown = record.get("unknown", "")
        if not any(record["seen"].values()) and not record["upstream"] and not unknown:
            continue  # a description fits nothing and rests on nothing fitted
        split = record["split"]
        kept = held_out(splits[split]) if split in splits else None
        seen_by = ledger.seen_by(record)
        overlaps = {m: len(kept & seen) for m, seen in seen_by.items() if kept and kept & seen}
        entries.append(
            Entry(
                name,
                record["stage"],
                split,
                {part: len(patients) for part, patients in record["seen"].items()},
                [m for m in seen_by if m != record["name"]],
                None if kept is None else len(kept),
                overlaps,
                unknown,
            )
        )
    return entries
