"""Walk a folder, read every header once, keep the rows of unchanged files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from .. import tables
from ..errors import UserError
from ..jobs import Log
from ..tables.idc import FETCHED_FILES
from ..tables.private import INDEX, decode_path, encode_path
from .headers import pixel_sha256, read_header

CHUNK = 64
_POSITION = ["position_x_mm", "position_y_mm", "position_z_mm"]


def build(
    centre: str,
    folder: Path,
    *,
    output: Path,
    log: Log,
    workers: int = 1,
    previous: Path | None = None,
    only: Path | None = None,
) -> None:
    """Write the index of a centre: one row per file, sorted by path, schema `INDEX`.

    Parameters
    ----------
    folder
        Folder with DICOM files of any kind and anything else, nested as it may be; links are followed, loops are not.
    output
        Private Parquet file.
    workers
        Processes; the result does not depend on them.
    previous
        An earlier index, `output` itself if None: rows of files whose path, size and time of change are the same are
        reused. The new index is also written there, since Snakemake deletes `output` before it runs a rule again.
    only
        Table `FETCHED_FILES`: the files that belong to the centre; all files below `folder` if None.

    Raises
    ------
    UserError
        if the folder is absent or holds no file.
    """
    if not folder.is_dir():
        raise UserError(f"centres.{centre}.images: the folder {str(folder)!r} does not exist. Write the DICOM folder.")
    found = pd.DataFrame(sorted(_walk(folder)), columns=["path", "size", "mtime_ns"])
    if found.empty:
        raise UserError(f"centres.{centre}.images: the folder {str(folder)!r} holds no file. Write the DICOM folder.")
    if only is not None:
        found = found[found["path"].isin(tables.read(only, FETCHED_FILES)["path"])]
    old = _earlier(previous or output, centre)
    known = old.merge(found, on=["path", "size", "mtime_ns"]) if len(old) else old
    fresh = found[~found["path"].isin(set(known["path"]))]
    rows: list[dict[str, Any]] = []
    tasks = fresh.to_dict("records")
    read = partial(_read, folder)

    def collect(results: Any) -> None:
        for number, row in enumerate(results, start=1):
            rows.append({"centre": centre, **row})
            if number % 1000 == 0 or number == len(tasks):
                log.progress("files", number, len(tasks), reused=len(known))

    if workers > 1 and len(tasks) > CHUNK:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            collect(pool.map(read, tasks, chunksize=CHUNK))
    else:
        collect(map(read, tasks))
    new = INDEX.check(pd.DataFrame(rows).reindex(columns=list(INDEX.columns)), output.name)
    index = pd.concat([part for part in (known, new) if len(part)], ignore_index=True).sort_values("path")
    index = _hash_shared_positions(index.reset_index(drop=True), folder)
    tables.write(index, output, INDEX)
    if previous is not None:
        tables.write(index, previous, INDEX)
    counts = index["reading"].value_counts().sort_index()
    log.event("index", files=len(index), reused=len(known), **{str(k): int(v) for k, v in counts.items()})


def _walk(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Path relative to `folder`, size and time of change of every file; each real folder is entered once."""
    entered = {_identity(folder.stat())}
    todo = [folder]
    while todo:
        here = todo.pop()
        for entry in sorted(os.scandir(here), key=lambda e: e.name):
            try:
                facts = entry.stat()
            except OSError:  # a dangling or circular link is a file that cannot be read
                facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                if _identity(facts) not in entered:
                    entered.add(_identity(facts))
                    todo.append(Path(entry.path))
                continue
            yield encode_path(Path(entry.path).relative_to(folder).as_posix()), facts.st_size, facts.st_mtime_ns


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _earlier(path: Path, centre: str) -> pd.DataFrame:
    if path.exists():
        try:
            frame = tables.read(path, INDEX)
            return frame[frame["centre"] == centre]
        except (UserError, ValueError, OSError):  # of another version or damaged: read all files again
            pass
    return pd.DataFrame(columns=list(INDEX.columns))


def _read(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    return {**task, **read_header(folder / decode_path(task["path"]))}


def _hash_shared_positions(index: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Hash the pixels of images that share series and position with another one; no other pixels are read."""
    images = index[index["rows"].notna() & index[_POSITION].notna().all(axis=1)]
    keys = [*(images[c].round(3) for c in _POSITION), images["series_uid"], images["orientation"]]
    shared = images[images.groupby(keys)["path"].transform("size") > 1]
    for label in shared.index[shared["content_sha256"] == ""]:
        index.loc[label, "content_sha256"] = pixel_sha256(folder / decode_path(index.loc[label, "path"]))
    return index
