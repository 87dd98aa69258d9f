"""Audit: check every hash that the manifests of a study claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from .. import tables
from ..errors import UserError
from ..files import sha256_file
from ..jobs import SILENT, Log
from ..tables import Column, Schema
from ..tables.schemas import ARTEFACTS, MASKS, VIEWS, VOLUMES

AUDIT = Schema(
    "audit",
    2,
    {
        "manifest": Column("text", "manifest that names the file"),
        "path": Column("text", "file relative to the results folder"),
        "verdict": Column("text", "what was found", True, ("same", "changed", "lost", "not kept")),
    },
    key=("manifest", "path"),
)
SCHEMAS = {schema.tag: schema for schema in (VOLUMES, VIEWS, MASKS, ARTEFACTS)}


def audit(
    manifests: Iterable[Path], *, root: Path, output: Path, passing: Collection[str] = (), log: Log = SILENT
) -> None:
    """Hash every file that the manifests list and write what was found.

    `passing` are views whose images need not be there (`keep: false`).

    Raises
    ------
    UserError
        after the table is written, if a file was changed or lost.
    """
    rows = []
    manifests = sorted(manifests)
    for number, manifest in enumerate(manifests, start=1):
        with manifest.open(encoding="utf-8") as stream:
            tag = stream.readline().removeprefix("# schema: ").strip()
        frame = tables.read(manifest, SCHEMAS[tag])
        may_go = manifest.relative_to(root).parts[:2] in {("views", view) for view in passing}
        for path, claimed in zip(frame["path"], frame["sha256"], strict=True):
            if path:
                file = root / path
                if file.is_file():
                    verdict = "same" if sha256_file(file) == claimed else "changed"
                else:
                    verdict = "not kept" if may_go else "lost"
                rows.append({"manifest": manifest.relative_to(root).as_posix(), "path": path, "verdict": verdict})
        log.progress("manifests", number, len(manifests))
    tables.write(rows, output, AUDIT)
    bad = [row for row in rows if row["verdict"] in ("changed", "lost")]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(rows)} files are not what their manifests say; the table is {output}. "
            "Run the rules that made them again: delete their manifests and start snakemake.",
            *(f"  - {row['verdict']}: {row['path']}" for row in bad[:20]),
        )
