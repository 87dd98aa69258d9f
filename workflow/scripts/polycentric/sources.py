"""Files of a centre by the path that the index gives them; a path may point into a zip archive."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import BinaryIO

from .tables.private import decode_path

_INSIDE = ".zip//"


def open_file(folder: Path, path: str) -> BinaryIO:
    """Open a file of the index for reading: `path` as in the table, such as ``a/b.dcm`` or ``a.zip//b.dcm``."""
    name = decode_path(path)
    if _INSIDE not in name:
        return (folder / name).open("rb")
    archive, member = name.split("//", 1)
    with zipfile.ZipFile(folder / archive) as opened:
        return io.BytesIO(opened.read(member))
