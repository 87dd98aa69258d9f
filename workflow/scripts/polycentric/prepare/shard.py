"""A shard of a view: one volume per scan."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .. import shards, tables, volumes
from ..config.views import View
from ..files import canonical_json, sha256_file
from ..jobs import SILENT, Log
from ..shards import Item, Row
from ..tables.schemas import SCAN, VIEWS
from .inputs import Source, load, parameters, read
from .steps import apply


def prepare_shard(
    view_name: str,
    view: View,
    *,
    source: Path,
    root: Path,
    manifest: Path,
    masks: Path | None = None,
    references: Path | None = None,
    minus: Path | None = None,
    scans: Path | None = None,
    patients: Path | None = None,
    model: Path | None = None,
    fold: str = "main",
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Make a view of every scan of a shard and write the manifest (schema views).

    `source` is the shard's volumes manifest where the view is made from the scan, else the manifest of the view that
    it is made from; `masks` the shard's manifest of the view's mask source; `references` that of `onto: view`, `minus`
    that of the view that is subtracted; `scans` and `patients` the cohort's tables where the view has conditions;
    `model` the fitted parameters (`fit_view`). The volumes lie beside `manifest`, in a folder of its name. A scan that
    is not there upstream, or not selected, becomes a row with status missing and the reason.
    """
    if view.synthesis is not None:
        raise ValueError(f"view {view_name!r} is made by a synthesis model, not by steps")
    for given, needed, what in (
        (masks, view.masks, "masks"),
        (references, view.onto, "references"),
        (minus, view.minus, "minus"),
        (model, view.fit, "model"),
    ):
        if needed is not None and given is None:
            raise ValueError(f"view {view_name!r} needs {what}")
    sources = read(
        view,
        [source],
        masks=[masks] if masks else [],
        references=[references] if references else [],
        minus=[minus] if minus else [],
        scans=scans,
        patients=patients,
        label=f"views: {view_name}",
    )
    state = (sha256_file(model),) if model else ()
    items = [
        Item(
            own.row["scan"],
            {name: own.row[name] for name in SCAN} | {"view": view_name, "fold": fold},
            (*own.inputs(), *state),
        )
        for own in sources
    ]
    work = partial(
        _prepare,
        view=view,
        sources={own.row["scan"]: own for own in sources},
        root=root,
        fitted=parameters(model),
    )
    done = shards.process(
        items,
        work,
        folder=shards.folder_of(manifest),
        root=root,
        settings=settings_json,
        code=code,
        log=log,
        workers=workers,
    )
    tables.write(done, manifest, VIEWS)


def _prepare(
    item: Item,
    folder: Path,
    *,
    view: View,
    sources: Mapping[str, Source],
    root: Path,
    fitted: Mapping[int, Mapping[str, Any]],
) -> list[Row]:
    own = sources[item.key]
    if own.row["status"] != "ok":
        return [{"status": "missing", "reason": own.row["reason"]}]
    if not own.selected:
        return [{"status": "missing", "reason": "VIEW_NOT_SELECTED: the view is made of other scans"}]
    volume, context = load(own, view, root, fitted)
    result = apply(view, volume, context)
    path = folder / f"{item.key}.nii"
    volumes.write(result, path)
    notes = canonical_json(context.notes) if context.notes else ""
    moved = context.moved.to_text() if context.moved else ""
    return [{"path": str(path), **result.geometry.columns(), "moved": moved, "diagnostics": notes}]
