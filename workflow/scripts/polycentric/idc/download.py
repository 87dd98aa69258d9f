"""Bring series from the public buckets by s5cmd; what was cut is continued, what is whole is put in its place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_text
from ..jobs import SILENT, Log
from ..tables.idc import gigabytes
from .local import CUT, INCOMING, File, Found, identify, judge, place

ENDPOINT = "https://s3.amazonaws.com"
BATCH_BYTES, BATCH_SERIES = 2_000_000_000, 64
ATTEMPTS = 3
POLL_S = 5.0
STALL_S = 600.0  # no byte for so long: the connection is dead
RETRIES = 5


def program() -> str | None:
    """Path of s5cmd: on the PATH, or in the Python package of that name."""
    if path := shutil.which("s5cmd"):
        return path
    try:
        files = metadata.distribution("s5cmd").files or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(f.locate()) for f in files if f.parts[-2:] in (("bin", "s5cmd"), ("bin", "s5cmd.exe"))), None)


def command(executable: str, endpoint: str = ENDPOINT) -> list[str]:
    """The words before ``run FILE``: anonymous, from the public endpoint."""
    words = ["--no-sign-request", "--endpoint-url", endpoint, "--retry-count", str(RETRIES), "--log", "error"]
    return [executable, *words]


def line(row: Any, target: str) -> str:
    """Line of a command file for one series; a file that is there with the right size is not fetched again."""
    return f'sync --size-only "s3://{row.bucket}/{row.series_uuid}/*" "{target}/"'


def download(
    rows: Sequence[Any],
    folder: Path,
    *,
    executable: str,
    endpoint: str = ENDPOINT,
    log: Log = SILENT,
    stall_s: float = STALL_S,
) -> tuple[dict[str, Found], str]:
    """Download series (rows of a manifest) below a folder.

    A series grows in ``.incoming/`` and is moved to its place when its files are what the manifest says, so that no
    place ever holds half a series. A call that was killed is continued by the next one, at the files that lack.

    Returns
    -------
    What became of each series that was tried, by its UID, and the last words of s5cmd where something lacks.

    Raises
    ------
    UserError
        if the disk has no room.
    """
    needed, free = sum(row.size_bytes for row in rows), shutil.disk_usage(_existing(folder)).free
    if needed > free:
        raise UserError(
            f"{folder}: {gigabytes(needed)} are to be downloaded, {gigabytes(free)} are free. Make room, or write "
            f"another 'folder:' in the study file."
        )
    incoming = folder / INCOMING
    incoming.mkdir(parents=True, exist_ok=True)
    result: dict[str, Found] = {}
    said, done = "", 0
    with _alone(incoming, log):
        for batch in _batches(rows):
            left, before = list(batch), -1
            for _ in range(ATTEMPTS):
                for row in left:
                    _prepare(incoming, row, place(folder, row))
                there = _bytes(incoming, left)
                if there == before:  # nothing came: trying again does not help
                    break
                before = there
                text = _run(left, incoming, executable, endpoint, log, done, needed, stall_s)
                for row in left:
                    result[row.series_uid] = _settle(incoming, row, folder)
                done += sum(row.size_bytes for row in left if result[row.series_uid].status == "ok")
                left = [row for row in left if result[row.series_uid].status != "ok"]
                if not left:
                    break
                said = text or said
            for row in left:
                with contextlib.suppress(OSError):  # what came stays for the next call
                    (incoming / row.series_uuid).rmdir()
            log.progress("MB", done // 10**6, needed // 10**6, series=len(result))
            if left and len(left) == len(batch) and not _bytes(incoming, left):
                break  # no network, or a wrong endpoint: the other batches would fare no better
    return result, said


def _run(
    rows: Sequence[Any],
    incoming: Path,
    executable: str,
    endpoint: str,
    log: Log,
    done: int,
    total: int,
    stall_s: float,
) -> str:
    """Run s5cmd on some series; return the end of what it said on the error stream."""
    commands, errors = incoming / "commands.txt", incoming / "errors.txt"
    write_text(commands, "".join(line(row, row.series_uuid) + "\n" for row in rows))
    try:
        with errors.open("wb") as stream, subprocess.Popen(
            [*command(str(Path(executable).absolute()), endpoint), "run", commands.name],
            cwd=incoming, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream,
        ) as process:  # fmt: skip
            seen, since = -1, time.monotonic()
            try:
                while True:
                    try:
                        process.wait(POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        now = _bytes(incoming, rows)
                        log.progress("MB", (done + now) // 10**6, total // 10**6)
                        if now != seen:
                            seen, since = now, time.monotonic()
                        elif time.monotonic() - since > stall_s:
                            break
            finally:
                process.kill()
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    finally:
        commands.unlink(missing_ok=True)
        errors.unlink(missing_ok=True)
    return said[-1] if said else ""


def _prepare(incoming: Path, row: Any, target: Path) -> None:
    """A folder to download into: what is left of an earlier try, or half a series in its place; cut files go."""
    staging = incoming / row.series_uuid
    staging.mkdir(exist_ok=True)
    if target.is_dir():
        for path in sorted(target.iterdir()):
            other = staging / path.name
            if other.exists() and other.stat().st_size >= path.stat().st_size:
                path.unlink()
            else:
                path.replace(other)
        target.rmdir()
    _remove_cut(staging)


def _settle(incoming: Path, row: Any, folder: Path) -> Found:
    """Move a series to its place if it is whole."""
    staging, target = incoming / row.series_uuid, place(folder, row)
    _remove_cut(staging)
    files = [f for f in identify(sorted(staging.iterdir())) if f.series == row.series_uid]
    found = judge(row, files)
    if found.status != "ok":
        return found
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(target)
    moved = tuple(File(target / f.path.name, f.size, f.series, f.instance) for f in found.files)
    return Found("ok", "", moved)


def _remove_cut(staging: Path) -> None:
    """A file that was being written when s5cmd died may have its full length and holes: it never counts."""
    for path in sorted(staging.iterdir()):
        if CUT.fullmatch(path.name):
            path.unlink()


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        if batch and (len(batch) == BATCH_SERIES or sum(r.size_bytes for r in batch) + row.size_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _bytes(incoming: Path, rows: Iterable[Any]) -> int:
    total = 0
    for row in rows:
        with contextlib.suppress(OSError):
            for entry in os.scandir(incoming / row.series_uuid):
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
    return total


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


@contextlib.contextmanager
def _alone(incoming: Path, log: Log) -> Iterator[None]:
    """One download into a folder at a time: centres and studies may share it."""
    with (incoming / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.event("waiting for another download into this folder")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
