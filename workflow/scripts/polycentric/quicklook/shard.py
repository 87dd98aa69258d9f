"""One picture per scan of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from .. import tables
from ..config.quicklook import QuicklookSettings
from ..jobs import SILENT, Log
from ..shards import Item, Row, process
from ..tables import Schema
from ..tables.schemas import FILE, MASKS, SCAN, SCANS, VOLUMES, integer, optional
from .draw import Outlined, draw

QUICKLOOK = Schema(
    "quicklook",
    1,
    SCAN
    | FILE
    | {
        "regions": integer("outlined regions, all mask sources together"),
        "window": optional("text", "grey window with its unit"),
    },
    key=("scan",),
)
_KEYS = ("centre", "patient", "session", "scan")


@dataclass(frozen=True)
class PictureItem(Item):
    """A scan: its volume, its masks by source and region, and what the caption says."""

    volume: Row | None = None
    masks: tuple[Row, ...] = ()
    codes: str = ""


def quicklook_shard(
    volumes: Path,
    masks: Sequence[Path],
    scans: Path,
    *,
    settings: QuicklookSettings,
    root: Path,
    manifest: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Write ``quicklook/{shard}/{scan}.png`` for every scan of a shard that has a volume, and the manifest.

    Parameters
    ----------
    volumes, masks
        Manifests of the shard: volumes, and masks of every source in the order of the study file, which is that of
        the colours.
    scans
        The cohort's scans, for the codes in the captions.
    root
        Results folder of the study; paths in manifests relate to it.
    manifest
        Output, schema `QUICKLOOK`: a row per scan, also of those without a volume.
    """
    rows = tables.read(volumes, VOLUMES).to_dict("records")
    outlined = [tables.read(path, MASKS) for path in masks]
    regions = pd.concat(outlined, ignore_index=True) if outlined else pd.DataFrame(columns=list(MASKS.columns))
    regions = regions[regions["status"] == "ok"]
    found = tables.read(scans, SCANS).set_index("scan")["codes"].to_dict()
    # one colour for a region wherever it occurs in the shard
    colours = {
        key: k for k, key in enumerate(regions[["source", "roi"]].drop_duplicates().itertuples(index=False, name=None))
    }
    items = [_item(row, regions, found.get(row["scan"], "")) for row in rows]
    made = process(
        items,
        partial(_work, settings, root, colours),
        folder=root / "quicklook" / volumes.stem,
        root=root,
        settings=settings_json + str(sorted(colours.items())),
        code=code,
        log=log,
        workers=workers,
    )
    tables.write(sorted(made, key=lambda r: r["scan"]), manifest, QUICKLOOK)


def _item(row: Row, regions: pd.DataFrame, curation: str) -> PictureItem:
    own = tuple(regions[regions["scan"] == row["scan"]].to_dict("records"))
    codes = [c for text in (curation, row["codes"], *(m["codes"] for m in own)) for c in str(text).split(";") if c]
    said = ";".join(dict.fromkeys(codes))
    good = row["status"] == "ok"
    return PictureItem(
        key=row["scan"],
        row={key: row[key] for key in _KEYS} | {"regions": len(own)},
        inputs=(str(row["sha256"]), row["status"], said, *(f"{m['source']} {m['roi']} {m['sha256']}" for m in own)),
        volume=row if good else None,
        masks=own,
        codes=said,
    )


def _work(
    settings: QuicklookSettings, root: Path, colours: Mapping[tuple[str, str], int], item: PictureItem, folder: Path
) -> list[Row]:
    if item.volume is None:
        return [{"status": "missing", "reason": "the scan has no volume"}]
    row = item.volume
    outlines = [
        Outlined(f"{m['source']}: {m['roi']}", colours[m["source"], m["roi"]], root / m["path"]) for m in item.masks
    ]
    path = folder / f"{item.key}.png"
    window = draw(root / row["path"], row, outlines, settings, item.codes, path)
    return [{"path": str(path), "window": window}]
