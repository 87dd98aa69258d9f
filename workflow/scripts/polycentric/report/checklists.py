"""Reporting checklists, filled in with the evidence of a study and with the answers of its authors.

An item is answered by evidence only where all evidence that it needs is found and nothing is left that the author alone
can say. The score of METRICS is an interval: items that nobody has answered count as no at its lower end, as yes at its
upper end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..config.checklists import NAMES, NOT_APPLICABLE, Answers, Checklist, ChecklistName, Item, load
from ..files import atomic
from .evidence import Found, Results, find

EVIDENCE, AUTHOR, PART, OPEN, NOT = "by evidence", "by the author", "in part", "open", "not applicable"
Look = Callable[[str], tuple[Found, ...]]
STATUSES = (EVIDENCE, AUTHOR, PART, OPEN, NOT)


@dataclass(frozen=True)
class Filled:
    """An item with its answer: `said` are the author's words or what is missing, `found` the evidence."""

    id: str
    section: str
    topic: str
    status: str
    said: str
    found: tuple[Found, ...]
    weight: float | None


@dataclass(frozen=True)
class Sheet:
    """A filled checklist. `why` says why it does not apply; `score` is the interval of its score in percent."""

    key: ChecklistName
    name: str
    about: str
    source: str
    why: str
    items: tuple[Filled, ...]
    counts: dict[str, int]
    score: tuple[float, float] | None


def fill(results: Results, answers: Mapping[ChecklistName, Answers]) -> list[Sheet]:
    """Every checklist, in order, also those that do not apply."""
    cache: dict[str, tuple[Found, ...]] = {}

    def look(name: str) -> tuple[Found, ...]:
        if name not in cache:
            cache[name] = tuple(find(name, results))
        return cache[name]

    return [_sheet(key, load(key), answers.get(key) or {}, look) for key in NAMES]


def _sheet(key: ChecklistName, checklist: Checklist, answers: Answers, look: Look) -> Sheet:
    applies = any(look(name) for name in checklist.applies.to)
    why = "" if applies else checklist.applies.otherwise
    items = tuple(_item(item, answers.get(item.id, ""), why, look, key) for item in checklist.items)
    counts = {status: sum(item.status == status for item in items) for status in STATUSES}
    return Sheet(
        key, checklist.name, checklist.about, checklist.source, why, items, counts, None if why else _score(items)
    )


def _item(item: Item, answer: str, why: str, look: Look, key: str) -> Filled:
    def filled(status: str, said: str, found: tuple[Found, ...] = ()) -> Filled:
        return Filled(item.id, item.section, item.topic, status, said, found, item.weight)

    if why:
        return filled(NOT, why)
    if (item.with_ and not look(item.with_)) or (item.without and look(item.without)):
        return filled(NOT, item.otherwise)
    groups = [(name,) if isinstance(name, str) else name for name in item.evidence]
    sought = [tuple(own for name in group for own in look(name)) for group in groups]
    found = tuple(dict.fromkeys(own for group in sought for own in group))
    if answer.lower().startswith(NOT_APPLICABLE):
        return filled(NOT, answer[len(NOT_APPLICABLE) :].strip(), found)
    if answer:
        return filled(AUTHOR, answer, found)
    if groups and all(sought) and not item.left:
        return filled(EVIDENCE, "", found)
    where = f"write it in report.checklists.{key}.{item.id}"
    lacking = [" or ".join(_words(n) for n in g) for g, own in zip(groups, sought, strict=True) if not own]
    missing = "; ".join([*([f"no {', no '.join(lacking)} in this study"] if lacking else []), item.left])
    missing = missing.strip("; ") or "not known to the software"
    return filled(PART if found else OPEN, f"{missing}: {where}", found)


def _words(name: str) -> str:
    return name.replace("table1", "table 1").replace("-", " ")


def _score(items: tuple[Filled, ...]) -> tuple[float, float] | None:
    """Lowest and highest score in percent of what applies; None for checklists without weights."""
    counted = [item for item in items if item.weight is not None and item.status != NOT]
    total = sum(item.weight for item in counted)
    if not total:
        return None
    yes = sum(item.weight for item in counted if _verdict(item) == "yes")
    unknown = sum(item.weight for item in counted if _verdict(item) == "unknown")
    return 100 * yes / total, 100 * (yes + unknown) / total


def _verdict(item: Filled) -> str:
    if item.status == EVIDENCE:
        return "yes"
    if item.status == AUTHOR:
        return "yes" if item.said.lower().startswith("yes") else "no"
    return "unknown"


def write(sheets: list[Sheet], folder: Path) -> None:
    """A CSV for each checklist, {name}.csv: number, section, topic, status, answer, evidence with places and files."""
    for sheet in sheets:
        rows = [
            {
                "item": item.id,
                "section": item.section,
                "topic": item.topic,
                "status": item.status,
                "answer": item.said,
                "evidence": "; ".join(own.text for own in item.found),
                "report": "; ".join(dict.fromkeys(f"report.html#{own.place}" for own in item.found if own.place)),
                "files": "; ".join(dict.fromkeys(own.file for own in item.found if own.file)),
            }
            for item in sheet.items
        ]
        with atomic(folder / f"{sheet.key}.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
