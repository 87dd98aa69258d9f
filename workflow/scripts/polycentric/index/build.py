"""Walk a folder, read every header once, keep the rows of unchanged files.

Rows flow in chunks from the walk, or from the earlier index, into the new one, so that memory does not grow with the
folder. An unchanged file costs a stat.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pydicom

from .. import sources, tables
from ..codehash import tree_hash
from ..errors import UserError
from ..files import atomic, hash_of
from ..jobs import Log
from ..tables.idc import FETCHED_FILES
from ..tables.private import INDEX, READINGS
from .guard import Pool, within
from .headers import failure, pixel_sha256, read_header
from .walk import Found, order, walk

Row = dict[str, Any]
Read = Callable[[Path, str], Row]
# files per task of a worker, entries that are merged at once, files between reports of progress
CHUNK, BLOCK, NEWS = 64, 256, 5000
# rows and bytes of JSON in a group of the Parquet file
GROUP, GROUP_BYTES = 8192, 2**25
_KEY = ["series_uid", "orientation", "position_x_mm", "position_y_mm", "position_z_mm"]
_ARROW = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}


def build(
    centre: str,
    folder: Path,
    *,
    output: Path,
    log: Log,
    workers: int = 1,
    previous: Path | None = None,
    only: Path | None = None,
    read: Read = read_header,
    stamp: str = "",
) -> None:
    """Write the index of a centre: one row per file, schema `INDEX`, in the order of `walk.order`.

    Members of zip archives are files; an archive has a row of its own only if it is not opened.

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
    read
        Gives the row of a file (columns of `INDEX` from `reading` on) from the folder and the file's path, opened by
        `sources`. It runs in worker processes; one that it kills or stalls is replaced.
    stamp
        What the rows depend on besides the files and this package: with another one none is reused.

    Raises
    ------
    UserError
        if the folder is absent or holds no file.
    """
    if not folder.is_dir():
        raise UserError(f"centres.{centre}.images: the folder {str(folder)!r} does not exist. Write the DICOM folder.")
    made_by = hash_of([*_reader(), stamp])
    with (
        Pool(workers, partial(_row, folder, read), partial(_table, centre)) as pool,
        atomic(output) as temporary,
    ):
        earlier = _Earlier(previous or output, centre, made_by)
        chosen = None if only is None else frozenset(tables.read(only, FETCHED_FILES)["path"])
        entries = iter(_entries(folder, earlier, chosen))
        first = next(entries, None)
        if first is None:
            raise UserError(
                f"centres.{centre}.images: the folder {str(folder)!r} holds no file. Write the DICOM folder."
            )
        writer = _Writer(temporary, made_by)
        for part in _merge(chain([first], entries), pool, log):
            writer.add(part)
        writer.close()
        _hash_shared(temporary, writer, folder, workers, made_by)
    if previous is not None:
        with atomic(previous) as copy:
            shutil.copyfile(output, copy)
    log.event("index", files=writer.rows, reused=earlier.reused, **dict(sorted(writer.readings.items())))


@dataclass(frozen=True)
class Task:
    """A file to be read, or one of which the row is known without reading it."""

    path: str
    size: int
    mtime_ns: int
    known: Row | None = None


@dataclass
class Run:
    """Rows of the earlier index that stand one after another."""

    table: pa.Table
    start: int
    stop: int


Entry = Task | Run


def _entries(folder: Path, earlier: _Earlier, only: frozenset[str] | None = None) -> Iterator[Entry]:
    """What the index consists of, in order: rows of the earlier one, and files to read."""
    run: Run | None = None
    for found in walk(folder):
        if only is not None and found.path not in only:
            continue
        if (rows := earlier.take(found)) is not None:
            for one in rows:
                if run and one.table is run.table and one.start == run.stop:
                    run.stop = one.stop
                    continue
                if run:
                    yield run
                run = one
            continue
        if run:
            yield run
            run = None
        if found.archive:
            try:
                listed = sources.members(folder, found.path)
                error = "" if listed else "empty"
            except OSError as problem:
                listed, error = [], failure(problem)["error"]
            if error:
                yield Task(found.path, found.size, found.mtime_ns, {"reading": "archive", "error": error})
            for member in listed:
                error = member.refusal or ("nested" if sources.is_archive(member.path) else "")
                known = {"reading": "archive", "error": error} if error else None
                yield Task(member.path, member.size, found.stamp, known)
        else:
            known = {"reading": found.reading, "error": found.error} if found.reading else None
            yield Task(found.path, found.size, found.mtime_ns, known)
    if run:
        yield run


def _row(folder: Path, read: Read, task: Task) -> Row:
    return task.known or within(lambda: read(folder, task.path), task.size)


def _table(centre: str, tasks: Sequence[Task], rows: list[Row]) -> pa.Table:
    """Rows of files as they stand in the index."""
    arrays = []
    for row in rows:
        if row["reading"] not in READINGS or not row.keys() <= INDEX.columns.keys():
            raise ValueError(f"no row of an index: {sorted(row.keys() - INDEX.columns.keys())}")
    fixed = {
        "centre": [centre] * len(rows),
        "path": [t.path for t in tasks],
        "size": [t.size for t in tasks],
        "mtime_ns": [t.mtime_ns for t in tasks],
    }
    for name, column in INDEX.columns.items():
        empty = "" if column.kind == "text" else None
        values = fixed.get(name) or [row.get(name, empty) for row in rows]
        if empty == "":
            values = [v or "" for v in values]
        arrays.append(pa.array(values, _ARROW[column.kind]))
    return pa.Table.from_arrays(arrays, schema=_schema())


@cache
def _schema() -> pa.Schema:
    """As `tables.write` would have it, so that `tables.read` gives the same types."""
    empty = INDEX.check(pd.DataFrame(columns=list(INDEX.columns)), "index")
    described = pa.Table.from_pandas(empty, preserve_index=False).schema
    return pa.schema(
        [pa.field(name, _ARROW[column.kind]) for name, column in INDEX.columns.items()],
        {**described.metadata, b"schema": INDEX.tag.encode()},
    )


@cache
def _reader() -> tuple[str, ...]:
    """What decides which row a file gets: this package and pydicom."""
    here = Path(__file__).parent
    core = [here.parent / f"{name}.py" for name in ("elements", "formats", "sources")]
    return pydicom.__version__, *map(tree_hash, [*sorted(here.glob("*.py")), *core])


def _merge(entries: Iterator[Entry], pool: Pool[Task, pa.Table], log: Log) -> Iterator[pa.Table]:
    """Tables in the order of the entries, while the pool reads ahead a bounded number of blocks."""
    waiting: deque[tuple[list[Entry], int]] = deque()
    done = read = said = 0
    ahead = 2 + pool.workers * CHUNK // BLOCK
    while True:
        block = _block(entries)
        tasks = [e for e in block if isinstance(e, Task)]
        chunks = [tasks[i : i + CHUNK] for i in range(0, len(tasks), CHUNK)]
        for chunk in chunks:
            pool.submit(chunk)
        if block:
            waiting.append((block, len(chunks)))
        while waiting and (len(waiting) > ahead or not block):
            here, count = waiting.popleft()
            fresh = [pool.result() for _ in range(count)]
            part = _assemble(here, pa.concat_tables(fresh) if fresh else None)
            done += len(part)
            read += sum(map(len, fresh))
            if done >= said + NEWS:
                said = done
                log.event("progress", what="files", done=done, read=read)
            yield part
        if not block:
            return


def _block(entries: Iterator[Entry]) -> list[Entry]:
    """The next entries, as many as have `BLOCK` rows together; a run may have some thousands."""
    block: list[Entry] = []
    rows = 0
    while rows < BLOCK and (entry := next(entries, None)) is not None:
        block.append(entry)
        rows += 1 if isinstance(entry, Task) else entry.stop - entry.start
    return block


def _assemble(block: list[Entry], fresh: pa.Table | None) -> pa.Table:
    parts, used, start = [], 0, 0
    for entry in block:
        if isinstance(entry, Task):
            used += 1
            continue
        if used > start:
            parts.append(fresh.slice(start, used - start))
            start = used
        parts.append(entry.table.slice(entry.start, entry.stop - entry.start))
    if used > start:
        parts.append(fresh.slice(start, used - start))
    return pa.concat_tables(parts)


class _Earlier:
    """Rows of an earlier index, taken in its order."""

    def __init__(self, path: Path, centre: str, made_by: str) -> None:
        self.reused = 0
        self.batches: Iterator[pa.Table] = iter(())
        if path.exists() and path.stat().st_size:
            try:
                file = pq.ParquetFile(path)
                metadata = file.schema_arrow.metadata or {}
                same = metadata.get(b"schema") == INDEX.tag.encode() and metadata.get(b"made_by") == made_by.encode()
                rows = file.metadata.num_rows if same else 0
                if rows and file.read_row_group(0, columns=["centre"])["centre"][0].as_py() == centre:
                    self.batches = (
                        file.read_row_group(n, use_threads=False).cast(_schema()) for n in range(file.num_row_groups)
                    )
            except (pa.ArrowException, OSError, ValueError):  # damaged: read all files again
                pass
        self._next()

    def _next(self) -> None:
        self.table, self.at = next(self.batches, None), 0
        if self.table is not None:
            self.paths, self.sizes, self.times = (self.table[name].to_pylist() for name in ("path", "size", "mtime_ns"))

    def take(self, found: Found) -> list[Run] | None:
        """Rows of a file or of the members of an archive; None if there are none, or it has changed."""
        wanted, rows, same = order(found.path), [], True
        while self.table is not None:
            path = self.paths[self.at]
            if path != found.path:
                here = order(path)
                if here > wanted:
                    break
                if here < wanted:
                    self._step()
                    continue
            if path == found.path:
                same &= (self.sizes[self.at], self.times[self.at]) == (found.size, found.mtime_ns)
            else:
                same &= self.times[self.at] == found.stamp
            rows.append(Run(self.table, self.at, self.at + 1))
            self._step()
        if not rows or not same:
            return None
        self.reused += len(rows)
        return rows

    def _step(self) -> None:
        self.at += 1
        if self.at == len(self.paths):
            self._next()


@dataclass
class _Writer:
    """The Parquet file, in row groups of which the bounds depend on the rows alone; and what identifies slices."""

    path: Path
    made_by: str
    rows: int = 0
    readings: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        schema = _schema()
        self.schema = schema.with_metadata({**schema.metadata, b"made_by": self.made_by.encode()})
        self.file = pq.ParquetWriter(self.path, self.schema)
        self.waiting: list[pa.Table] = []
        self.count = self.bytes = 0
        self.keys: list[np.ndarray] = []
        self.names: list[np.ndarray] = []
        self.hashed: list[np.ndarray] = []

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table)
        self.count += len(table)
        self.bytes += table.nbytes
        if self.count >= GROUP or self.bytes >= GROUP_BYTES:
            self._flush(False)

    def close(self) -> None:
        self._flush(True)
        self.file.close()

    def _flush(self, last: bool) -> None:
        table = pa.concat_tables(self.waiting).combine_chunks()
        start = 0
        weight = np.zeros(len(table), dtype=np.int64)
        for name in ("frame_facts", "structure"):
            weight += np.asarray(pc.binary_length(table[name]))
        while start < len(table):
            heavy = int(np.searchsorted(np.cumsum(weight[start:]), GROUP_BYTES)) + 1
            stop = start + min(GROUP, heavy)
            if stop > len(table):
                if not last:
                    break
                stop = len(table)
            self._write(table.slice(start, stop - start))
            start = stop
        rest = table.slice(start)
        self.waiting, self.count, self.bytes = ([rest] if len(rest) else []), len(rest), rest.nbytes

    def _write(self, table: pa.Table) -> None:
        self.file.write_table(table.replace_schema_metadata(self.schema.metadata), row_group_size=len(table))
        self.rows += len(table)
        for item in table["reading"].value_counts().to_pylist():
            self.readings[item["values"]] = self.readings.get(item["values"], 0) + item["counts"]
        frame = table.select([*_KEY, "rows", "sop_instance"]).to_pandas(use_threads=False)
        named = ((frame["sop_instance"] != "") & frame["rows"].notna()).to_numpy()
        self.names.append(np.where(named, pd.util.hash_pandas_object(frame["sop_instance"], index=False), 0))
        positioned = frame.notna().all(axis=1).to_numpy()
        frame[_KEY[2:]] = frame[_KEY[2:]].round(3) + 0.0  # no negative zeros
        keys = pd.util.hash_pandas_object(frame[_KEY], index=False).to_numpy()
        self.keys.append(np.where(positioned, keys, 0))
        # the content of structures and of images that are no DICOM is always hashed
        other = np.asarray(pc.or_(pc.not_equal(table["structure"], ""), pc.equal(table["reading"], "image")))
        self.hashed.append(np.asarray(pc.not_equal(table["content_sha256"], "")) & ~other)


def _hash_shared(path: Path, writer: _Writer, folder: Path, workers: int, made_by: str) -> None:
    """Hash the pixels of images that share series and position, or their identifier, with another one.

    No other pixels are read.
    """
    hashed = np.concatenate(writer.hashed)
    shared = np.zeros(len(hashed), dtype=bool)
    for keys in (np.concatenate(writer.keys), np.concatenate(writer.names)):
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        shared |= (counts[inverse] > 1) & (keys != 0)
    if not (shared ^ hashed).any():
        return
    done = _Writer(path.with_name(path.name + "-hashed.parquet"), made_by)
    try:
        with Pool(workers, partial(_hash, folder), _hashes) as pool:
            source, start = pq.ParquetFile(path), 0
            for number in range(source.num_row_groups):
                table = source.read_row_group(number, use_threads=False)
                here = slice(start, start + len(table))
                values = table["content_sha256"].to_pylist()
                for n in np.flatnonzero(hashed[here] & ~shared[here]):
                    values[n] = ""
                wanted = np.flatnonzero(shared[here] & ~hashed[here]).tolist()
                paths = table.select(["path", "size"]).take(pa.array(wanted, pa.int64())).to_pylist()
                for i in range(0, len(paths), CHUNK):
                    pool.submit(paths[i : i + CHUNK])
                found = [value for _ in range(0, len(paths), CHUNK) for value in pool.result()]
                for n, value in zip(wanted, found, strict=True):
                    values[n] = value
                column = table.schema.get_field_index("content_sha256")
                done.add(table.set_column(column, table.schema.field(column), pa.array(values, pa.string())))
                start += len(table)
        done.close()
        done.path.replace(path)
    finally:
        done.path.unlink(missing_ok=True)


def _hash(folder: Path, file: Row) -> Row:
    return {"sha256": pixel_sha256(folder, file["path"])}


def _hashes(files: Sequence[Row], rows: list[Row]) -> list[str]:
    return [row.get("sha256", "") for row in rows]
