"""Any metrics.json as tables, and the artefacts of an analysis, without knowing what was analysed."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tables
from ..errors import UserError
from ..files import sha256_file
from ..tables import PARTS
from ..tables.schemas import ARTEFACTS

CONTAINERS = ("estimates", "metrics", "results", "parts")  # keys that only hold others
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
HIDDEN = (
    "schema_version", "warnings", "summary", "status", "kind", "title", "question", "caption", "name", "analysis",
    "seed", "level", "positive", "notes", "definitions", "variables", "tests",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A row of a table of results; `path` are the keys above it."""

    path: tuple[str, ...]
    what: str
    value: float | None
    lower: float | None
    upper: float | None
    level: float
    n: int | None
    p: float | None
    method: str


@dataclass(frozen=True)
class Table:
    """A table to show: header and cells as text."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Artefact:
    """A figure, picture or table of an analysis, with its file and the file of its numbers."""

    kind: str
    path: Path
    title: str
    caption: str
    data: Path | None


def is_estimate(node: Any) -> bool:
    return isinstance(node, dict) and "value" in node and ("lower" in node or "upper" in node)


def words(key: str) -> str:
    """A key in words: ``balanced_accuracy`` becomes ``balanced accuracy``."""
    return key.replace("_", " ")


def estimates(metrics: dict[str, Any]) -> list[Estimate]:
    """All estimates of a metrics.json, in the order of the file, named by the keys above them."""
    return [
        Estimate(
            path,
            " · ".join(words(k) for k in path if k not in CONTAINERS) or "value",
            node["value"],
            node.get("lower"),
            node.get("upper"),
            float(node.get("level") or 0.95),
            node.get("n"),
            node.get("p"),
            str(node.get("method") or ""),
        )
        for path, node in _walk(metrics, ())
        if is_estimate(node)
    ]


def scalars(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """All single values that belong to no estimate."""
    return [
        (" · ".join(words(k) for k in path if k not in CONTAINERS), node)
        for path, node in _walk(metrics, ())
        if not isinstance(node, dict) and path[0] not in HIDDEN
    ]


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if is_estimate(node) or node is None or isinstance(node, str | int | float):
        yield path, node
    elif isinstance(node, dict):
        for key, value in sorted(node.items(), key=lambda kv: PARTS.index(kv[0]) if kv[0] in PARTS else -1):
            yield from _walk(value, (*path, str(key)))
    elif isinstance(node, list) and path and all(isinstance(value, dict) for value in node):
        for number, value in enumerate(node, start=1):
            name = next((str(value[k]) for k in ("name", "model", "set", "label") if k in value), str(number))
            yield from _walk(value, (*path, name))


def artefacts(manifest: Path, root: Path) -> list[Artefact]:
    """Figures, pictures and tables of a manifest; a file that is not what its manifest says is refused."""
    result = []
    for row in tables.read(manifest, ARTEFACTS).to_dict("records"):
        path = root / row["path"]
        if not path.exists() or sha256_file(path) != row["sha256"]:
            raise UserError(
                f"{row['path']}: the file is missing or was changed after its analysis wrote it. "
                f"Remove {manifest.relative_to(root).as_posix()} and run again."
            )
        data = root / row["data"] if row["data"] else None
        result.append(Artefact(row["kind"], path, row["title"], row["caption"], data))
    return result


def read_csv(path: Path, limit: int = 400) -> Table:
    """A CSV or TSV for the page; at most `limit` rows, the numbers rounded for reading."""
    with path.open(encoding="utf-8", newline="") as stream:
        lines = [line for line in stream if not line.startswith("# schema:")]
    rows = list(csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
    if not rows:
        return Table([], [])
    header = ["" if h.startswith("Unnamed:") else words(h) for h in rows[0]]
    return Table(header, [[shorten(cell) for cell in row] for row in rows[1 : limit + 1]])


def shorten(cell: str) -> str:
    """A number with three significant digits (integers as they are); text unchanged."""
    try:
        value = float(cell)
    except ValueError:
        return cell
    if not math.isfinite(value):
        return "–"
    return cell if cell.lstrip("-").isdigit() else number(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: three significant digits, a real minus sign, a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 10 ** (digits - 1)):
        text = f"{int(value):,}".replace(",", "\u202f")
    elif value != 0 and not 1e-4 <= abs(value) < 10**6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa} × 10" + str(int(exponent)).translate(SUPERSCRIPT)
    else:
        places = digits - 1 - math.floor(math.log10(abs(value))) if value else digits - 1
        text = f"{value:.{max(0, min(places, digits + 1))}f}"
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    if p is None or not math.isfinite(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def is_number(table: Table, column: int) -> bool:
    """Whether a column of a table holds numbers only, so that it is aligned to the right."""
    cells = [row[column] for row in table.rows if len(row) > column and row[column] not in ("", "–")]
    return bool(cells) and all(cell.replace("\u202f", "").replace("−", "").replace(".", "").isdigit() for cell in cells)
