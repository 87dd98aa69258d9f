"""Source files, in folders and in zip archives (``archive.zip//member``)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from .tables.private import decode_path


def open_file(folder: Path, path: str) -> BinaryIO:
    """A seekable stream of a source file; `path` as in the tables."""
    archive, inside, member = decode_path(path).partition("//")
    if not inside:
        return (folder / archive).open("rb")
    with zipfile.ZipFile(folder / archive) as opened:
        return BytesIO(opened.read(member))


def read_bytes(folder: Path, path: str) -> bytes:
    with open_file(folder, path) as stream:
        return stream.read()


@contextlib.contextmanager
def local_file(folder: Path, path: str) -> Iterator[Path]:
    """A real file: itself, or a temporary copy of a member of an archive."""
    archive, inside, member = decode_path(path).partition("//")
    if not inside:
        yield folder / archive
        return
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / ("member" + "".join(Path(member).suffixes[-2:]))
        with open_file(folder, path) as stream, copy.open("wb") as target:
            shutil.copyfileobj(stream, target)
        yield copy
