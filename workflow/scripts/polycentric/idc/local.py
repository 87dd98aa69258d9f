"""What of a manifest is in a folder: files are told by their headers, whatever the layout."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
from pydicom.filereader import read_partial

from ..files import fragment
from ..jobs import SILENT, Log

INCOMING = ".incoming"  # downloads that are not whole yet
CUT = re.compile(r"[0-9a-f-]{36}\.dcm[0-9]+")  # s5cmd writes such a file and renames it when it is whole
SERIES_UID = pydicom.tag.Tag(0x0020, 0x000E)


@dataclass(frozen=True)
class File:
    """A DICOM file: path, size in bytes, and the series and instance that its header names."""

    path: Path
    size: int
    series: str
    instance: str


@dataclass(frozen=True)
class Found:
    """What is there of a series: ok, missing or incomplete, why, and one file per instance, sorted."""

    status: str
    reason: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def place(folder: Path, row: Any) -> Path:
    """Where a download puts a series, by its manifest row: as the idc-index package does by default."""
    return folder / row.collection / fragment(row.patient_id) / row.study_uid / f"{row.modality}_{row.series_uid}"


def look(folder: Path, series: pd.DataFrame, *, same_bytes: bool = True, log: Log = SILENT) -> dict[str, Found]:
    """What is there of each series of a manifest, by series UID.

    A series that is whole in its own folder costs that folder's headers; only for the others the rest of `folder` is
    searched. Two files of one instance are the same to us: the larger one counts, since a download that was cut
    leaves a shorter one.
    """
    found: dict[str, Found] = {}
    rows = list(series.itertuples(index=False))
    for number, row in enumerate(rows, start=1):
        files = [f for f in identify(_walk(place(folder, row))) if f.series == row.series_uid]
        result = judge(row, files, same_bytes=same_bytes)
        if result.status == "ok":
            found[row.series_uid] = result
        if number % 100 == 0 or number == len(rows):
            log.progress("series in their own folders", number, len(rows), whole=len(found))
    rest = [row for row in rows if row.series_uid not in found]
    if not rest:
        return found
    files_of: dict[str, list[File]] = {row.series_uid: [] for row in rest}
    skip = {place(folder, row) for row in rows if row.series_uid in found} | {folder / INCOMING}
    for number, file in enumerate(identify(_walk(folder, skip)), start=1):
        if file.series in files_of:
            files_of[file.series].append(file)
        if number % 5000 == 0:
            log.event("searching", quiet=True, files=number)
    for row in rest:
        found[row.series_uid] = judge(row, files_of[row.series_uid], same_bytes=same_bytes)
    return found


def judge(row: Any, files: Iterable[File], *, same_bytes: bool = True) -> Found:
    """Whether the files of a series are what its manifest row says."""
    best: dict[str, File] = {}
    for file in sorted(files, key=lambda f: (-f.size, f.path)):
        best.setdefault(file.instance, file)
    kept = tuple(sorted(best.values(), key=lambda f: f.path))
    size, there = sum(f.size for f in kept), len(kept)
    if not kept:
        return Found("missing", f"NOT_THERE: none of {row.instances} instances", kept)
    if there < row.instances:
        return Found("incomplete", f"INSTANCES_MISSING: {there} of {row.instances} instances", kept)
    if there > row.instances:
        return Found("incomplete", f"INSTANCES_TOO_MANY: {there} instead of {row.instances} instances", kept)
    if same_bytes and size != row.size_bytes:
        return Found("incomplete", f"SIZE_DIFFERS: {size} instead of {row.size_bytes} bytes", kept)
    return Found("ok", "", kept)


def identify(paths: Iterable[Path]) -> Iterator[File]:
    """The files among some paths that are DICOM objects of a series; headers are read up to the series UID only."""
    for path in paths:
        try:
            with path.open("rb") as stream, warnings.catch_warnings(), pydicom.config.disable_value_validation():
                warnings.simplefilter("ignore")
                header = read_partial(stream, stop_when=_beyond_series)
                size = os.fstat(stream.fileno()).st_size
            yield File(path, size, str(header.SeriesInstanceUID).strip(), str(header.SOPInstanceUID).strip())
        except Exception:  # no DICOM, damaged, or gone: not a file of the series, whatever the reason
            continue


def _beyond_series(tag: Any, vr: str | None, length: int) -> bool:
    return tag > SERIES_UID


def _walk(folder: Path, skip: Iterable[Path] = ()) -> Iterator[Path]:
    """Files below a folder, in a fixed order; links are followed, each real folder is entered once."""
    todo, entered = [folder], {_identity(path) for path in skip}
    while todo:
        here = todo.pop()
        if _identity(here) in entered:
            continue
        entered.add(_identity(here))
        try:
            entries = sorted(os.scandir(here), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError:
                continue
            if stat.S_ISDIR(mode):
                todo.append(Path(entry.path))
            elif stat.S_ISREG(mode) and not CUT.fullmatch(entry.name):
                yield Path(entry.path)


def _identity(path: Path) -> tuple[int, int] | str:
    try:
        facts = path.stat()
    except OSError:
        return str(path)
    return facts.st_dev, facts.st_ino
