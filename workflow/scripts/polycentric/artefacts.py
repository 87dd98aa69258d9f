"""Collects the figures and tables of an analysis for its manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from . import figures, tables
from .files import atomic, sha256_file
from .tables import schemas


@dataclass
class Artefacts:
    """Figures, pictures and tables below `folder`; paths in the manifest are relative to `root`."""

    folder: Path
    root: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    def csv(self, frame: pd.DataFrame, relative: str) -> Path:
        """Write numbers as CSV, without listing them by themselves."""
        path = self.folder / relative
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            frame.to_csv(stream, index=False, lineterminator="\n")
        return path

    def table(self, frame: pd.DataFrame, relative: str, title: str, caption: str) -> Path:
        """Write numbers as CSV and list them as a table."""
        path = self.csv(frame, relative)
        self.add("table", path, title, caption)
        return path

    def add(self, kind: str, path: Path, title: str, caption: str, data: Path | None = None) -> None:
        """List a written file; `data` is the CSV of the numbers it shows."""
        self.rows.append(
            {
                "kind": kind,
                "path": path.relative_to(self.root).as_posix(),
                "sha256": sha256_file(path),
                "title": title,
                "caption": caption,
                "data": data.relative_to(self.root).as_posix() if data else "",
            }
        )

    def write(self) -> None:
        tables.write(self.rows, self.folder / "manifest.tsv", schemas.ARTEFACTS)


class TableArtefacts(Artefacts):
    """What an analysis of tables shows, with its tables and figures in folders of their own."""

    def table(self, frame: pd.DataFrame, name: str, title: str, caption: str) -> Path:
        return super().table(frame, f"tables/{name}.csv", title, caption)

    def figure(self, figure: Figure, name: str, title: str, caption: str, data: pd.DataFrame) -> None:
        """Write figures/{name}.svg and its numbers beside it."""
        path = self.folder / "figures" / f"{name}.svg"
        figures.save(figure, path)
        self.add("figure", path, title, " ".join(caption.split()), self.csv(data, f"figures/{name}.csv"))

    def write(self) -> None:
        """Write manifest.tsv; the main figure first."""
        self.rows.sort(key=lambda r: (not r["path"].endswith("/summary.svg"), r["kind"], r["path"]))
        super().write()
