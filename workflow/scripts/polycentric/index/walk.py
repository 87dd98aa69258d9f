"""Files below a folder in an order that depends on their paths only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import sources
from ..tables.private import decode_path, encode_path

# packed in a way that is not opened; a compressed NIfTI image is none of them
CLOSED = (".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")


@dataclass(frozen=True)
class Found:
    """A file, or a folder that cannot be listed: path for the tables, size, time of change, and what is wrong."""

    path: str
    size: int
    mtime_ns: int
    reading: str = ""
    error: str = ""

    @property
    def archive(self) -> bool:
        return not self.reading and sources.is_archive(self.path)

    @property
    def stamp(self) -> int:
        """Of an archive's members: changes when the archive's time or size does."""
        return self.mtime_ns + self.size


def order(path: str) -> bytes:
    """What files are sorted by: the bytes of the path, of an archive for its members."""
    return os.fsencode(decode_path(path)).partition(b"//")[0]


def walk(folder: Path) -> Iterator[Found]:
    """Every file below `folder`; links are followed, but each real folder is entered once.

    In the order of `order`. A folder that cannot be listed counts as a file that cannot be read.
    """
    entered = {_identity(folder.stat())}
    root = os.fspath(folder)
    todo = [_names(root, b"")]
    while todo:
        name = next(todo[-1], None)
        if name is None:
            todo.pop()
            continue
        relative = os.fsdecode(name)
        full = f"{root}/{relative}"
        try:
            facts = os.stat(full)  # noqa: PTH116 - 600,000 times
        except OSError:  # a dangling or circular link is a file that cannot be read
            try:
                facts = os.lstat(full)
            except OSError as error:  # gone, or in a folder that may be listed but not entered
                yield Found(encode_path(relative.rstrip("/")), 0, 0, "unreadable", type(error).__name__)
                continue
        if stat.S_ISDIR(facts.st_mode):
            if _identity(facts) in entered:
                continue
            entered.add(_identity(facts))
            try:
                todo.append(_names(full, name if name.endswith(b"/") else name + b"/"))
            except OSError as error:
                yield Found(encode_path(relative.rstrip("/")), 0, facts.st_mtime_ns, "unreadable", type(error).__name__)
            continue
        path, reading, error = encode_path(relative), "", ""
        if stat.S_ISREG(facts.st_mode):
            if relative.lower().endswith(CLOSED):
                reading, error = "archive", "kind not opened"
        elif not stat.S_ISLNK(facts.st_mode):
            reading, error = "not-dicom", "no regular file"
        yield Found(path, facts.st_size, facts.st_mtime_ns, reading, error)


def _names(folder: str, prefix: bytes) -> Iterator[bytes]:
    """Names in a folder, those of folders with a slash: their files are sorted by what follows it."""
    with os.scandir(folder) as entries:
        # names only: a folder may hold hundreds of thousands of files
        names = [os.fsencode(e.name) + (b"/" if e.is_dir() else b"") for e in entries]
    names.sort()
    return (prefix + name for name in names)


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino
