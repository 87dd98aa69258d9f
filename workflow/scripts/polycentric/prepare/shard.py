"""A shard of a view: one volume per scan."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from .. import shards, tables, volumes
from ..config.views import View
from ..files import canonical_json
from ..jobs import SILENT, Log
from ..shards import Item, Row
from ..tables.schemas import GRID, SCAN, VIEWS, VOLUMES
from .steps import apply


def prepare_shard(
    view_name: str,
    view: View,
    *,
    source: Path,
    root: Path,
    manifest: Path,
    fold: str = "main",
    seed: int = 0,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Make a view of every scan of a shard and write the manifest (schema views).

    `source` is the shard's volumes manifest where the view is made from the scan, else the manifest of the view that
    it is made from. The volumes lie beside `manifest`, in a folder of its name. A scan that is not there upstream
    becomes a row with status missing and the upstream reason. `seed` is for steps with a random part; none has one.
    """
    del seed
    if view.synthesis is not None:
        raise ValueError(f"view {view_name!r} is made by a synthesis model, not by steps")
    rows = tables.read(source, VOLUMES if view.from_ == "scan" else VIEWS).to_dict("records")
    items = [
        Item(
            row["scan"],
            {name: row[name] for name in SCAN} | {"view": view_name, "fold": fold},
            (row["sha256"], row["status"], row["reason"], canonical_json({c: _plain(row[c]) for c in GRID})),
        )
        for row in rows
    ]
    done = shards.process(
        items,
        partial(_prepare, view=view, rows={row["scan"]: row for row in rows}, root=root),
        folder=manifest.parent / manifest.stem,
        root=root,
        settings=settings_json,
        code=code,
        log=log,
        workers=workers,
    )
    tables.write(done, manifest, VIEWS)


def _prepare(item: Item, folder: Path, *, view: View, rows: dict[str, Row], root: Path) -> list[Row]:
    row = rows[item.key]
    if row["status"] != "ok":
        return [{"status": "missing", "reason": row["reason"]}]
    result = apply(view, volumes.read(root / row["path"], row))
    path = folder / f"{item.key}.nii"
    volumes.write(result, path)
    return [{"path": str(path), **result.geometry.columns()}]


def _plain(value: Any) -> Any:
    """A table's cell as JSON: missing numbers as null."""
    return None if value != value or value is None or str(value) == "<NA>" else value
