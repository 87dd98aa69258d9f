"""Export a reader study: blinded items, the private key, and a page that works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import ledger, tables, volumes
from ..config.readers import ReaderStudy
from ..errors import UserError
from ..files import sha256_bytes, sha256_file
from ..jobs import SILENT, Log
from ..tables.readers import APP, ARMS, ITEMS, KEY
from . import page
from .items import Item, candidates, cut, draw, item_id


def export(
    name: str,
    settings: ReaderStudy,
    *,
    seed: int,
    manifests: Mapping[str, Sequence[Path]],
    scans: Path,
    split: Path,
    ledgers: Sequence[Path],
    secret: bytes,
    root: Path,
    folder: Path,
    items: Path,
    key: Path,
    manifest: Path,
    log: Log = SILENT,
) -> None:
    """Write the page to `folder`, the blinded table to `items`, the solution to `key`, the list of files to `manifest`.

    `manifests` gives the view manifests of each arm (`acquired`, `synthetic`); `ledgers` those of all models behind
    the views; `secret` is the study's salt, from which item ids are derived; `key` lies in the private folder.

    Raises
    ------
    UserError
        if an arm has no images, or if a model behind the images has seen one of the patients.
    """
    label = f"readers: {name}"
    rows = {
        arm: candidates(
            manifests[arm], scans, split, settings.parts, getattr(settings.views, arm).where, f"{label}: views: {arm}"
        )
        for arm in ARMS
    }
    for arm in ARMS:
        if rows[arm].empty:
            raise UserError(
                f"{label}: views: {arm}: no image of patients in {' or '.join(settings.parts)} of split "
                f"{settings.split!r}; name other parts, or widen `where`"
            )
    ledger.refuse_leaks(set(rows["acquired"]["patient"]) | set(rows["synthetic"]["patient"]), ledgers, where=label)
    pairs = {arm: draw(rows[arm], settings.items // 2, seed, name, arm) for arm in ARMS}
    each = min(len(p) for p in pairs.values())
    if each < settings.items // 2:
        log.event("fewer items than asked for", asked=settings.items, given=2 * each)
    made: list[Item] = []
    for arm in ARMS:
        made += _cut_arm(name, settings, arm, rows[arm], pairs[arm][:each], secret, root, log, len(made), 2 * each)
    made.sort(key=lambda item: item.id)
    build = page.build_of(name, settings, made)
    written = page.write(folder, name, settings, made, build)
    tables.write([item.row for item in made], key, KEY)
    tables.write(
        [{"item": i.id, "build": build, "sha256": sha256_bytes(i.pixels.tobytes())} for i in made], items, ITEMS
    )
    entries = [{"path": p.relative_to(root).as_posix(), "sha256": sha256_file(p)} for p in written]
    tables.write(entries, manifest, APP)


def _cut_arm(
    name: str,
    settings: ReaderStudy,
    arm: str,
    rows: pd.DataFrame,
    pairs: list[tuple[int, int]],
    secret: bytes,
    root: Path,
    log: Log,
    done: int,
    total: int,
) -> list[Item]:
    made = []
    for index in sorted({index for index, _ in pairs}):
        row = rows.iloc[index]
        volume = volumes.read(root / row["path"], row)
        for number in sorted(number for i, number in pairs if i == index):
            pixels = cut(volume, number, settings.size_px, settings.pixel_mm, settings.range_hu)
            identity = item_id(secret, name, arm, row["scan"], str(number))
            lowest = int(pixels.min())
            facts = {
                "item": identity,
                "arm": arm,
                **{column: row[column] for column in ("centre", "patient", "scan", "view")},
                "slice": number,
                "lowest_hu": lowest,
                "highest_hu": int(pixels.max()),
                "mean_hu": float(pixels.mean()),
                "at_lowest": float((pixels == lowest).mean()),
            }
            made.append(Item(identity, pixels, facts))
            log.progress("items", done + len(made), total)
    return made
