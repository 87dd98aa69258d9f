"""Figures, tables and fitted chains of an analysis, and the manifest that lists what the report shows."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from .. import figures, tables
from ..files import atomic, sha256_file
from ..tables.schemas import ARTEFACTS


class Artefacts:
    """Collects what one analysis shows; `folder` is the analysis folder, `root` the results folder of the study."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.rows: list[dict[str, str]] = []

    def table(self, frame: pd.DataFrame, name: str, title: str, caption: str) -> None:
        path = self.csv(frame, f"tables/{name}.csv")
        self._row("table", path, title, caption, "")

    def figure(self, figure: Figure, name: str, title: str, caption: str, data: pd.DataFrame) -> None:
        """Write figures/{name}.svg and its numbers beside it."""
        path = self.folder / "figures" / f"{name}.svg"
        figures.save(figure, path)
        numbers = self.csv(data, f"figures/{name}.csv")
        self._row("figure", path, title, caption, numbers.relative_to(self.root).as_posix())

    def csv(self, frame: pd.DataFrame, name: str) -> Path:
        path = self.folder / name
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            frame.to_csv(stream, index=False, lineterminator="\n", float_format="%.10g")
        return path

    def write(self) -> None:
        """Write manifest.tsv; the main figure first."""
        rows = sorted(self.rows, key=lambda r: (not r["path"].endswith("/summary.svg"), r["kind"], r["path"]))
        tables.write(rows, self.folder / "manifest.tsv", ARTEFACTS)

    def _row(self, kind: str, path: Path, title: str, caption: str, data: str) -> None:
        self.rows.append(
            {
                "kind": kind,
                "path": path.relative_to(self.root).as_posix(),
                "sha256": sha256_file(path),
                "title": title,
                "caption": caption,
                "data": data,
            }
        )


def sentence(*parts: str) -> str:
    """Parts of a caption joined by blanks, each ended by a full stop; empty parts vanish."""
    kept = [part.strip() for part in parts if part and part.strip()]
    return " ".join(part if part.endswith((".", "?", "!")) else part + "." for part in kept)


# the types of our own chains that skops does not trust by itself
TRUSTED = ["polycentric.analysis.chain.Front", "polycentric.analysis.coxmodel.CoxModel", "sklearn.tree._tree.Tree"]


def read_skops(path: Path) -> Any:
    """Load a fitted chain; a file with any other type than those of our chains is refused by skops."""
    import skops.io as sio

    return sio.load(path, trusted=TRUSTED)


def write_skops(estimator: Any, path: Path) -> None:
    """Write a fitted chain as skops, the same bytes for the same chain.

    skops names members by memory address and stamps them with the time; both are replaced by what does not change.
    """
    import skops.io as sio

    with zipfile.ZipFile(io.BytesIO(sio.dumps(estimator))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop("schema.json"))
    names: dict[str, str] = {}
    numbers: dict[int, int] = {}

    def canonical(node: Any) -> Any:
        if isinstance(node, dict):
            result = {}
            for key, value in node.items():
                if key == "__id__":
                    result[key] = numbers.setdefault(value, len(numbers) + 1)
                elif key == "file" and isinstance(value, str):
                    suffix = Path(value).suffix
                    result[key] = names.setdefault(value, f"member-{len(names) + 1}{suffix}")
                else:
                    result[key] = canonical(value)
            return result
        return [canonical(value) for value in node] if isinstance(node, list) else node

    schema = canonical(schema)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=1))
        for old, new in sorted(names.items(), key=lambda item: item[1]):
            archive.writestr(zipfile.ZipInfo(new), members[old])
