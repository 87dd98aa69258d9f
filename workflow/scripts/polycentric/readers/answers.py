"""Take in the answer files that readers sent back; whatever is wrong with a file is said, never guessed around."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import canonical_json, read_json, sha256_bytes, sha256_file
from ..randomness import generator
from ..tables.readers import ARMS
from .page import SCHEMA

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,23}")


class Refusal(Exception):
    """Why an answer file is not used."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


def order_of(build: str, reader: str, items: list[str]) -> list[str]:
    """The order in which the page shows the items to a reader: by SHA-256 of build, reader and item."""
    return sorted(items, key=lambda item: sha256_bytes(f"{build}|{reader}|{item}".encode()))


def seal(record: dict[str, Any]) -> str:
    """The hash that the page writes into a file: it shows accidents, not fraud."""
    return sha256_bytes(canonical_json({k: v for k, v in record.items() if k != "sha256"}).encode())


def check(record: Any, study: str, build: str, items: list[str]) -> list[dict[str, Any]]:
    """Rows (reader, position, item, answer, active_ms) of a sound answer file, or a `Refusal`."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or not isinstance(record.get("answers"), list):
        raise Refusal("UNREADABLE", f"not a file of schema {SCHEMA}")
    if record.get("study") != study:
        raise Refusal("WRONG_STUDY", "answers to another reader study")
    if record.get("build") != build:
        raise Refusal("WRONG_BUILD", f"answers to build {str(record.get('build'))[:16]}, the present one is {build}")
    if record.get("sha256") != seal(record):
        raise Refusal("CHANGED", "the file was changed after the page wrote it")
    reader = record.get("reader")
    if not isinstance(reader, str) or not CODE.fullmatch(reader):
        raise Refusal("UNREADABLE", "no reader code of letters, digits and hyphens")
    given: dict[str, dict[str, Any]] = {}
    for answer in record["answers"]:
        item = answer.get("item") if isinstance(answer, dict) else None
        if item not in items or answer.get("answer") not in ARMS:
            raise Refusal("IMPOSSIBLE", "an answer to an item, or a choice, that does not exist")
        if item in given:
            raise Refusal("IMPOSSIBLE", f"two answers to item {item}")
        given[item] = answer
    if len(given) < len(items):
        raise Refusal("INCOMPLETE", f"{len(given)} of {len(items)} items answered")
    return [
        {
            "reader": reader,
            "position": position,
            "item": item,
            "answer": given[item]["answer"],
            "active_ms": int(given[item].get("active_ms", 0)),
        }
        for position, item in enumerate(order_of(build, reader, items), start=1)
    ]


def read_folder(
    folder: Path | None, study: str, build: str, items: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(answer rows, rejected rows) of all JSON files of a folder, which may be absent.

    A file that occurs twice counts once. Two different complete files of one reader are both refused, since nobody
    can know which one holds: the coordinator keeps one of them.
    """
    accepted: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {}
    rejected: list[dict[str, Any]] = []

    def refuse(file: str, reader: str, code: str, reason: str) -> None:
        rejected.append({"file": file, "reader": reader, "code": code, "reason": reason})

    paths = [p for p in folder.glob("*.json") if p.is_file()] if folder is not None and folder.is_dir() else []
    for digest, path in sorted((sha256_file(p), p) for p in paths):
        file, reader = digest[:12], ""
        try:
            try:
                record = read_json(path)
            except ValueError as error:
                raise Refusal("UNREADABLE", "not JSON") from error
            given = str(record.get("reader", "")) if isinstance(record, dict) else ""
            reader = given if CODE.fullmatch(given) else ""
            rows = check(record, study, build, items)
        except Refusal as refusal:
            refuse(file, reader, refusal.code, refusal.reason)
            continue
        if any(rows == other for _, other in accepted.get(reader, [])):
            refuse(file, reader, "DUPLICATE", "the same answers as another file")
        else:
            accepted.setdefault(reader, []).append((file, rows))
    kept: list[dict[str, Any]] = []
    for reader, files in sorted(accepted.items()):
        if len(files) == 1:
            kept += files[0][1]
        for file, _ in files if len(files) > 1 else []:
            refuse(file, reader, "TWICE", "this reader sent two complete files that differ; keep one in the folder")
    return kept, sorted(rejected, key=lambda row: row["file"])


def simulate(
    name: str, sensitivity: float, specificity: float, key: pd.DataFrame, build: str, seed: int, study: str
) -> list[dict[str, Any]]:
    """Answers of a reader who calls synthetic images so with `sensitivity`, acquired ones with `specificity`."""
    arms = dict(zip(key["item"], key["arm"], strict=True))
    rows = []
    for position, item in enumerate(order_of(build, name, list(arms)), start=1):
        right = generator(seed, "readers", study, "simulated", name, item).random() < (
            sensitivity if arms[item] == "synthetic" else specificity
        )
        other = ARMS[1 - ARMS.index(arms[item])]
        answer = arms[item] if right else other
        rows.append({"reader": name, "position": position, "item": item, "answer": answer, "active_ms": None})
    return rows
