"""Masks of the wanted regions of every scan, from structure sets, segmentations and mask images, source by source."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.codes import CODES, ORDER, Verdict
from ..config.curation import ConvertSettings, MaskSource, RoiSettings
from ..errors import ScanError
from ..files import canonical_json, fragment, hash_of
from ..jobs import Log
from ..shards import Item, Row, process
from ..sources import local_file, open_file
from ..tables.private import decode_path
from ..tables.schemas import MASKS
from ..volumes import Geometry, Volume, write
from .contours import Filled, Outlined, draw, read_structure_set
from .findings import Findings
from .names import shown
from .planes import Planes
from .segments import (
    Label,
    Segment,
    draw_label,
    draw_segment,
    is_picture,
    pile,
    read_label_image,
    read_segmentation,
)

FOLD = "main"
Region = Outlined | Segment | Label
_KEYS = ("centre", "patient", "session", "scan")
_OWN = ("contour_tolerance_mm", "skipped_slices", "tiny_voxels", "most_components")
_MISSING = {"SEG": "SEG_SEGMENT_MISSING", "image": "SEG_SEGMENT_MISSING"}


@dataclass(frozen=True)
class MaskFile:
    """A structure set, segmentation or mask image: private facts, which enter no row."""

    folder: Path
    path: str
    sop_instance: str
    content_sha256: str
    facts: dict[str, Any]
    slices: tuple[int, ...] = ()  # of the scan, that a mask image is of

    @property
    def picture(self) -> bool:
        """Whether it is a planar picture, which lies where the slices do that it is of."""
        return self.kind == "image" and is_picture(decode_path(self.path))

    @property
    def kind(self) -> str:
        return str(self.facts.get("kind") or "RTSTRUCT")

    @property
    def saved(self) -> tuple[str, str, str]:
        """What orders files by the time at which they were saved."""
        return str(self.facts.get("saved") or ""), self.sop_instance, self.content_sha256


@dataclass(frozen=True)
class MaskItem(Item):
    """A scan's grid, its slices as acquired, and the files of one mask source."""

    geometry: Geometry | None = None
    along: tuple[float, ...] = ()
    across: tuple[tuple[float, float], ...] = ()
    repair: str = ""
    files: tuple[MaskFile, ...] = ()
    several: str = "reject"

    @property
    def planes(self) -> Planes:
        assert self.geometry is not None
        across = np.array(self.across, dtype=float).reshape(-1, 2)
        return Planes.of_slices(self.geometry, np.array(self.along, dtype=float), across, self.repair)


@dataclass(frozen=True)
class Read:
    """The regions of one file."""

    file: MaskFile
    regions: list[Region] = field(default_factory=list)


def write_masks(
    scans: Sequence[Row],
    used: pd.DataFrame,
    folder: Path,
    good: set[str],
    manifests: Mapping[str, Path],
    *,
    settings: ConvertSettings,
    verdicts: Mapping[str, Verdict],
    root: Path,
    shard: str,
    code: str,
    log: Log,
    workers: int = 1,
) -> None:
    """Write the masks and the manifest of every mask source.

    Parameters
    ----------
    scans
        Rows of the shard (schema `SHARD`).
    used
        Their files (schema `FILES`).
    folder
        Folder of the centre that their paths are relative to.
    good
        Scans that have a volume; the others get a row with status missing.
    manifests
        Output: a manifest (schema `MASKS`) for each source of the settings.
    """
    verdicts = {c: v for c, v in verdicts.items() if CODES[c].level == "structure"}
    by_scan = dict(iter(used.groupby("scan")))
    for source, manifest in manifests.items():
        chosen, rois = settings.sources[source], settings.rois_of(source)
        items = [_item(row, by_scan[row["scan"]], folder, source, chosen) for row in scans if row["scan"] in good]
        # just what these masks depend on: another source or setting of the volumes makes none of them again
        own = settings.model_dump(mode="json", include={*_OWN})
        own |= {"verdicts": dict(verdicts), "rois": {n: r.model_dump(mode="json") for n, r in rois.items()}}
        rows = process(
            items,
            partial(mask_rows, settings, rois, verdicts),
            folder=root / "masks" / source / FOLD / shard,
            root=root,
            settings=canonical_json(own | {"several": chosen.several}),
            code=code,
            log=log,
            workers=workers,
        )
        _log_names(rows, items, source, log)
        rows = [row if row.get("roi") else {**row, "roi": "*"} for row in rows]
        rows += [
            _keys(row, source) | {"roi": "*", "status": "missing", "reason": "the scan has no volume"}
            for row in scans
            if row["scan"] not in good
        ]
        tables.write(sorted(rows, key=lambda r: (r["scan"], r["roi"])), manifest, MASKS)


def _keys(row: Row, source: str) -> Row:
    return {key: row[key] for key in _KEYS} | {"source": source, "fold": FOLD}


def _item(row: Row, used: pd.DataFrame, folder: Path, source: str, chosen: MaskSource) -> MaskItem:
    slices = used[used["use"] == "slice"].sort_values("order")
    files = []
    structures = used[used["use"] == "structure"].sort_values(["sop_instance", "content_sha256", "path"])
    orders: dict[str, list[int]] = {}
    for order, instance in enumerate(slices["sop_instance"]):
        orders.setdefault(instance, []).append(order)
    known: set[tuple[str, tuple[int, ...]]] = set()
    for one in structures.to_dict("records"):
        facts = json.loads(one["structure"]) if one.get("structure") else {}
        of = tuple(sorted(n for instance in facts.get("instances", []) for n in orders.get(instance, [])))
        file = MaskFile(folder, one["path"], one["sop_instance"], one["content_sha256"], facts, of)
        if file.content_sha256 and (file.content_sha256, of) in known:
            continue  # copies of a file are one file
        known.add((file.content_sha256, of))
        place = decode_path(file.path).replace("//", "/")
        if chosen.takes(file.kind, str(facts.get("label", "")), str(facts.get("description", "")), place):
            files.append(file)
    geometry = Geometry.from_columns(slices.iloc[0]) if len(slices) else None
    along = tuple(float(v) for v in slices["position_mm"].astype("float64"))
    across = tuple(zip(*(map(float, slices[f"offset_{a}_mm"].astype("float64")) for a in "xy"), strict=True))
    repair = str(slices["geometry_repair"].iloc[0] or "") if len(slices) else ""
    settled = hash_of([None if geometry is None else geometry.columns(), repr(along), repr(across), repair])
    held = [hash_of([f.kind, f.facts.get("regions"), f.facts.get("frames"), f.saved, f.slices]) for f in files]
    if not all(f.content_sha256 for f in files):
        held.append(row["files_sha256"])
    return MaskItem(
        key=row["scan"],
        row=_keys(row, source),
        inputs=(settled, *held),
        geometry=geometry,
        along=along,
        across=across,
        repair=repair,
        files=tuple(files),
        several=chosen.several,
    )


def _log_names(rows: Sequence[Row], items: Sequence[MaskItem], source: str, log: Log) -> None:
    """Names of the regions of scans where the wanted one was not found, to the log alone: they can name persons."""
    wanted = {"RT_ROI_MISSING", "RT_ROI_AMBIGUOUS", "SEG_SEGMENT_MISSING", "RT_MULTIPLE_FOR_SERIES"}
    by_key = {item.key: item for item in items}
    for row in rows:
        if wanted & {*str(row.get("codes") or "").split(";")}:
            names = [
                {"label": f.facts.get("label", ""), "regions": [r.get("name") for r in f.facts.get("regions", [])]}
                for f in by_key[row["scan"]].files
            ]
            log.event("regions", quiet=True, scan=row["scan"], source=source, roi=row.get("roi"), files=names)


# --------------------------------------------------------------------------------------------------------- one scan


def mask_rows(
    settings: ConvertSettings,
    rois: Mapping[str, RoiSettings],
    verdicts: Mapping[str, Verdict],
    item: MaskItem,
    folder: Path,
) -> list[Row]:
    """The masks of one scan from one source; what is wrong with a region costs no other one its mask."""
    if item.geometry is None:
        raise ScanError("GEOM_NO_POSITION", "curation accepted the scan although it has no grid")
    if not item.files:
        return [_refused(name, "RT_ROI_MISSING", "the scan has no contours or masks of this source") for name in rois]
    try:
        planes = item.planes
        read = [Read(file, _regions(file, rois)) for file in item.files if not file.picture]
        read += [_piled(files, planes, item) for files in _sets(item.files)]
    except ScanError as error:
        return [_refused(name, error.code, error.reason) for name in rois]
    return [_mask(name, roi, read, planes, settings, verdicts, item, folder) for name, roi in rois.items()]


def _refused(roi: str, code: str, reason: str) -> Row:
    return {"roi": roi, "status": "rejected", "reason": f"{code}: {reason}", "codes": code}


def _regions(file: MaskFile, rois: Mapping[str, RoiSettings]) -> list[Region]:
    if file.kind == "image":
        with _readable(file) as path:
            return list(read_label_image(path, file.facts.get("regions") or []))
    try:
        stream = open_file(file.folder, file.path)
    except (OSError, KeyError):
        raise ScanError("MASK_UNREADABLE", "the file is not there any more or cannot be opened") from None
    with stream:
        if file.kind == "SEG":
            return list(read_segmentation(stream))
        regions = read_structure_set(stream, lambda name: any(roi.matches(name) for roi in rois.values()))
    # regions on another frame of reference are those of another scan
    frames = {*file.facts.get("frames", [])}
    mine = [r for r in regions if not r.frame or r.frame in frames]
    return list(mine if frames and mine else regions)


def _sets(files: Sequence[MaskFile]) -> list[list[MaskFile]]:
    """Pictures that together are one mask of several slices: those of a set, as long as none is of another's slice."""
    sets: list[list[MaskFile]] = []
    for file in files:
        if not file.picture:
            continue
        for others in sets:
            taken = {n for other in others for n in other.slices}
            if file.facts.get("set") == others[0].facts.get("set") and taken.isdisjoint(file.slices):
                others.append(file)
                break
        else:
            sets.append([file])
    return sets


def _piled(files: Sequence[MaskFile], planes: Planes, item: MaskItem) -> Read:
    """The regions of the pictures of a set, each on the planes of the slices that it is of."""
    heights = np.array(item.along, dtype=float)
    # where slices are missing, planes stand in for them
    among = np.arange(len(heights)) if len(heights) == planes.shape[0] else planes.nearest(heights)
    pictures = []
    for file in files:
        with _readable(file) as path:
            labels = read_label_image(path, file.facts.get("regions") or [])
        pictures.append((labels, among[list(file.slices)]))
    return Read(files[0], list(pile(pictures, planes)))


@contextmanager
def _readable(file: MaskFile) -> Iterator[Path]:
    """A path that SimpleITK can open: it takes no names that are not UTF-8."""
    try:
        with local_file(file.folder, file.path) as path:
            try:
                str(path).encode()
                yield path
                return
            except UnicodeEncodeError:
                with tempfile.TemporaryDirectory() as temporary:
                    copy = Path(temporary) / "mask{}".format("".join(path.suffixes[-2:]))
                    shutil.copyfile(path, copy)
                    yield copy
    except (OSError, KeyError):
        raise ScanError("MASK_UNREADABLE", "the file is not there any more or cannot be opened") from None


def _mask(
    name: str,
    roi: RoiSettings,
    read: Sequence[Read],
    planes: Planes,
    settings: ConvertSettings,
    verdicts: Mapping[str, Verdict],
    item: MaskItem,
    folder: Path,
) -> Row:
    findings = Findings(verdicts)
    try:
        chosen = pick(read, roi, item.several, findings)
        parts = [_draw(region, planes, settings, verdicts, findings) for region in chosen]
        mask = parts[0].mask if len(parts) == 1 else np.maximum.reduce([p.mask for p in parts])
        voxels = int(np.count_nonzero(mask))
        if not voxels:
            raise ScanError("MASK_EMPTY", "the region holds no voxel centre")
        if voxels < settings.tiny_voxels:
            findings.find("MASK_TINY", f"{voxels} voxels")
        pieces = components(mask)
        if settings.most_components is not None and pieces > settings.most_components:
            findings.find("MASK_COMPONENTS", f"{pieces} separate pieces")
    except ScanError as error:
        return _refused(name, error.code, error.reason)
    path = folder / f"{item.key}--{fragment(name)}.nii"
    write(Volume(mask, planes.grid), path)
    voxel = planes.grid.voxel_ml
    kinds = sorted({_kind(r) for r in chosen})
    return {
        "roi": name,
        "path": str(path),
        "voxels": voxels,
        "volume_ml": voxels * voxel,
        # regions that are taken together may overlap; then their contours enclose no single known volume
        "contour_volume_ml": parts[0].contour_volume_ml if len(parts) == 1 else None,
        "kind": kinds[0] if len(kinds) == 1 else None,
        "regions": shown([r.name for r in chosen], [r.number for r in chosen]),
        "nested_ml": sum(p.nested_voxels for p in parts) * voxel if kinds == ["RTSTRUCT"] else None,
        "overlap_ml": (sum(int(np.count_nonzero(p.mask)) for p in parts) - voxels) * voxel if len(parts) > 1 else None,
        "components": pieces,
        **findings.columns(),
    }


def _kind(region: Region) -> str:
    return {Outlined: "RTSTRUCT", Segment: "SEG", Label: "image"}[type(region)]


def pick(read: Sequence[Read], roi: RoiSettings, several: str, findings: Findings) -> list[Region]:
    """The regions that make one mask.

    Files compete for a region only if they hold something of it, so that one file for every region needs no rule.
    Within a file, several matching regions that hold something are ambiguous unless the region says `union`. All that
    are taken together make the mask of voxels that lie in any of them, each filled by itself.

    Raises
    ------
    ScanError
        RT_ROI_MISSING, SEG_SEGMENT_MISSING, RT_EMPTY_ROI, RT_POINT_ONLY, RT_ROI_AMBIGUOUS, RT_MULTIPLE_FOR_SERIES.
        Names of regions can name a person, so a reason repeats only those of plain anatomical words.
    """
    matching = [(one, [r for r in one.regions if roi.matches(r.name)]) for one in read]
    if not any(regions for _, regions in matching):
        kinds = {one.file.kind for one in read}
        code = _MISSING.get(kinds.pop(), "RT_ROI_MISSING") if len(kinds) == 1 else "RT_ROI_MISSING"
        every = [r for one in read for r in one.regions]
        there = f"; there are: {_listed(every)}" if every else ""
        raise ScanError(code, f"none of {len(every)} regions matches{there}")
    nothing = [r.emptiness for _, regions in matching for r in regions if r.emptiness]
    holding = [(one, kept) for one, regions in matching if (kept := [r for r in regions if not r.emptiness])]
    reasons = {"RT_EMPTY_ROI": "a matching region is empty", "RT_POINT_ONLY": "a matching region holds points only"}
    if not holding:
        code = min(nothing, key=ORDER.__getitem__)
        raise ScanError(code, reasons[code])
    for code in sorted({*nothing}):
        findings.find(code, reasons[code])
    if len(holding) > 1:
        if several == "reject":
            raise ScanError(
                "RT_MULTIPLE_FOR_SERIES",
                f"{len(holding)} structure sets or masks hold the region; tell them apart by convert.sources, or write "
                "several: latest or union there",
            )
        if several == "latest":
            holding = [max(holding, key=lambda h: h[0].file.saved)]
    for _, regions in holding:
        if len(regions) > 1 and roi.combine == "one":
            raise ScanError(
                "RT_ROI_AMBIGUOUS",
                f"{len(regions)} regions match: {_listed(regions)}; make the pattern narrower, or write combine: union",
            )
    return [region for _, regions in holding for region in regions]


def _listed(regions: Sequence[Region]) -> str:
    return shown([r.name for r in regions], [r.number for r in regions])


def _draw(
    region: Region, planes: Planes, settings: ConvertSettings, verdicts: Mapping[str, Verdict], findings: Findings
) -> Filled:
    """The mask of a region on the grid of the scan."""
    own = Findings(verdicts)
    tolerance = settings.contour_tolerance_mm
    if isinstance(region, Outlined):
        filled = draw(
            region.contours, planes, tolerance_mm=tolerance, skipped_slices=settings.skipped_slices, findings=own
        )
    elif isinstance(region, Segment):
        filled = draw_segment(region, planes, tolerance, own)
    else:
        filled = draw_label(region, planes, own)
    findings.notes += own.notes
    findings.made += own.made
    if filled.on_grid:
        return filled
    return Filled(planes.to_grid(filled.mask), filled.contour_volume_ml, filled.nested_voxels, on_grid=True)


def components(mask: np.ndarray) -> int:
    """Separate pieces of a mask; voxels that touch by a face, an edge or a corner are one piece."""
    from scipy.ndimage import label

    # the box of the mask alone: most regions are much smaller than the image
    z = np.flatnonzero(mask.max(axis=(1, 2)))
    shadow = mask.max(axis=0)
    y, x = np.flatnonzero(shadow.max(axis=1)), np.flatnonzero(shadow.max(axis=0))
    mask = mask[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    return int(label(mask, structure=np.ones((3, 3, 3)))[1])
