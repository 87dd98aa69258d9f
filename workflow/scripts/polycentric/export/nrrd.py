"""Volumes and masks of a shard as NRRD files."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from .. import tables
from ..config.export import NrrdExport
from ..errors import ScanError
from ..files import atomic, fragment
from ..grids import corner_distance_mm
from ..jobs import SILENT, Log
from ..shards import Item, Row, process
from ..tables import Schema
from ..tables.schemas import FILE, MASKS, SCAN, VIEWS, VOLUMES, optional, text
from ..volumes import Geometry, Volume, read

HEADER_ROUNDING_MM = 0.01  # NIfTI headers hold float32
NRRD = Schema(
    "nrrd",
    1,
    SCAN
    | {
        "view": text("view; scan for volumes as converted"),
        "source": optional("text", "mask source; empty for the image"),
        "roi": optional("text", "region of interest; empty for the image, * where a scan has no masks at all"),
        **FILE,
    },
    key=("scan", "roi"),
)
_TYPES = {
    "i1": "signed char", "u1": "unsigned char", "i2": "short", "u2": "unsigned short", "i4": "int",
    "u4": "unsigned int", "f4": "float", "f8": "double",
}  # fmt: skip


@dataclass(frozen=True)
class NrrdItem(Item):
    """A scan with its rows of the image, of the converted volume and of the masks."""

    image: tuple[tuple[str, object], ...] = ()
    volume: tuple[tuple[str, object], ...] = ()
    masks: tuple[tuple[tuple[str, object], ...], ...] = ()


def write_nrrd(volume: Volume, path: str | Path) -> None:
    """Write an NRRD file atomically: gzip, little endian, LPS, geometry to the last digit; same volume, same bytes.

    http://teem.sourceforge.net/nrrd/format.html; its axes run x, y, z, fastest first, as the array lies in memory.
    """
    grid, array = volume.geometry, volume.array
    columns = np.array(grid.direction).reshape(3, 3) * grid.spacing
    header = [
        "NRRD0004",
        f"type: {_TYPES[array.dtype.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, grid.size))}",
        f"space directions: {' '.join(map(_vector, columns.T))}",
        "kinds: domain domain domain",
        'space units: "mm" "mm" "mm"',
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(grid.origin)}",
    ]
    little = array.dtype.newbyteorder("<")
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(("\n".join(header) + "\n\n").encode())
        # neither name nor time in the header of gzip; level 6 takes twice the time for half a percent
        with gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=stream, mtime=0) as packed:
            for plane in array:
                packed.write(np.ascontiguousarray(plane, dtype=little))


def _vector(values: Iterable[float]) -> str:
    return f"({','.join(repr(float(v) + 0.0) for v in values)})"  # no minus zero


def export_nrrd(
    settings: NrrdExport,
    *,
    images: Path,
    volumes: Path,
    masks: Path | None,
    root: Path,
    manifest: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Write ``{scan}.nrrd`` and ``{scan}--{roi}.nrrd`` of a shard beside the manifest (schema `NRRD`): a row per file,
    and per image or region that there is none of, with the reason.

    Parameters
    ----------
    images
        The shard's manifest of the view (schema `VIEWS`), or of the volumes for `view: scan`.
    volumes
        Manifest of the converted volumes, whose grids the masks have.
    masks
        Manifest of the mask source, or None.
    root
        Results folder of the study, which paths of the manifests are relative to.
    """
    seen = tables.read(images, VOLUMES if settings.view == "scan" else VIEWS).to_dict("records")
    grids = {row["scan"]: row for row in tables.read(volumes, VOLUMES).to_dict("records")}
    drawn = tables.read(masks, MASKS) if masks is not None else pd.DataFrame(columns=list(MASKS.columns))
    outlines: dict[str, list[Row]] = {}
    for row in drawn.to_dict("records"):
        outlines.setdefault(row["scan"], []).append(row)
    items = [_item(settings, row, grids.get(row["scan"], {}), outlines.get(row["scan"], [])) for row in seen]
    rows = process(
        items, partial(_export, settings, root), folder=manifest.with_suffix(""), root=root, settings=settings_json,
        code=code, log=log, workers=workers,
    )  # fmt: skip
    tables.write(rows, manifest, NRRD)


def _item(settings: NrrdExport, image: Row, volume: Row, outlines: list[Row]) -> NrrdItem:
    own = [row for row in outlines if not settings.rois or row["roi"] in (*settings.rois, "*")]
    states = [f"{row.get('roi', '')} {row.get('status', '')} {row.get('sha256', '')}" for row in (image, volume, *own)]
    return NrrdItem(
        key=image["scan"],
        row={name: image[name] for name in SCAN} | {"view": settings.view, "source": "", "roi": ""},
        inputs=tuple(states),
        image=_frozen(image),
        volume=_frozen(volume),
        masks=tuple(_frozen(row) for row in own),
    )


def _frozen(row: Row) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(row.items()))


def _export(settings: NrrdExport, root: Path, item: NrrdItem, folder: Path) -> list[Row]:
    for old in (folder / f"{item.key}.nrrd", *sorted(folder.glob(f"{item.key}--*.nrrd"))):
        old.unlink(missing_ok=True)  # regions of an earlier choice must not stay
    image, volume = dict(item.image), dict(item.volume)
    if image["status"] != "ok":
        return [{"status": "missing", "reason": image["reason"]}]
    path = folder / f"{item.key}.nrrd"
    write_nrrd(read(root / str(image["path"]), image), path)
    made: list[Row] = [{"path": str(path)}]
    found = {str(row["roi"]): row for row in map(dict, item.masks)}
    wanted = sorted(found) if not settings.rois or "*" in found else list(settings.rois)
    for roi in wanted:
        row: Row = {"source": settings.masks, "roi": roi}
        try:
            mask = _mask(root, roi, found, volume, str(settings.masks))
            path = folder / f"{item.key}--{fragment(roi)}.nrrd"
            write_nrrd(mask, path)
            row["path"] = str(path)
        except ScanError as error:
            row |= {"status": "missing" if error.code == "ROI_MISSING" else "rejected", "reason": str(error)}
        made.append(row)
    return made


def _mask(root: Path, roi: str, found: dict[str, Row], volume: Row, source: str) -> Volume:
    """A mask with the exact geometry of its scan."""
    if roi not in found:
        raise ScanError("ROI_MISSING", f"{source} does not outline it in this scan")
    row = found[roi]
    if row["status"] != "ok":
        code, _, words = str(row["reason"]).partition(": ")
        raise ScanError(code, words)
    mask, grid = read(root / row["path"]), Geometry.from_columns(volume)
    if mask.geometry.size != grid.size or corner_distance_mm(mask.geometry, grid) > HEADER_ROUNDING_MM:
        raise ScanError("MASK_GEOMETRY", "the mask does not lie on the grid of its scan: convert it again")
    return Volume(mask.array, grid)
