"""Refusal of inputs whose makers have seen patients of the analysis."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import ledger
from ..errors import UserError

# fits that may share the training part of the analysis: scalers and harmonisation, fitted like the chain itself
SHARED_STAGES = ("prepare", "extract", "harmonise")


def refuse(
    training: Iterable[str], held_out: Iterable[str], ledgers: Iterable[Path], *, split: str, where: str
) -> None:
    """Raise UserError if a model behind the inputs has seen a patient whom it must not have seen.

    Patients that are evaluated must be unknown to every model upstream. Patients that are fitted must be so too, since
    a learned image of a seen patient differs from one of an unseen patient; only a scaler or a harmonisation fitted
    on the training part of this very split may know them: it is a part of the chain.
    """
    training, held_out = set(training), set(held_out)
    problems = []
    for path in ledgers:
        for record in _records(ledger.read(path)):
            seen = {p for patients in record["seen"].values() for p in patients}
            shared = record["split"] == split and record["stage"] in SHARED_STAGES
            leaked = sorted(seen & (held_out if shared else held_out | training))
            if leaked:
                problems.append(
                    f"{where}: model {record['name']!r} behind its inputs has seen {len(leaked)} of its patients "
                    f"({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}). Give {where} a split that lies "
                    f"within the test part of that model's split (splits: ...: {{within: {record['split']}.test}})."
                )
    if problems:
        raise UserError(*dict.fromkeys(problems))


def _records(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [record, *(r for upstream in record["upstream"] for r in _records(upstream))]
