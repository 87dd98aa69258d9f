"""Source files of a centre by the paths of the index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .tables.private import decode_path


@contextlib.contextmanager
def local_file(folder: Path, path: str) -> Iterator[Path]:
    """A real file with the contents of a source file; its name ends as the path does."""
    yield folder / decode_path(path)
