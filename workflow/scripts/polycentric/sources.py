"""Files of a centre's folder, also those within zip archives, by the path that the tables give them.

`path` is relative to the folder, encoded by `encode_path`; a member of an archive is `archive.zip//member`. Members are
read without unpacking; what an archive declares is checked before anything is decompressed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from .tables.private import decode_path, encode_path

SEPARATOR = "//"
# a member larger than this whose compression is better than RATIO is a bomb: images hardly reach 10, masks 500
LARGE, RATIO = 2**29, 600
LARGEST = 2**34
DIRECTORY = 2**28


class Refused(OSError):
    """A file that is not opened; its only argument says why in words that name nothing."""

    @property
    def word(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Member:
    """A member of an archive: its path for the tables, its size in bytes, and why it is not opened ("" if it is)."""

    path: str
    size: int
    refusal: str


def open_file(folder: Path, path: str) -> BinaryIO:
    """Open a file or a member of an archive for reading; the stream can seek. Raises OSError.

    `Refused` where the file is there, but must not or cannot be opened as one.
    """
    outer, _, member = decode_path(path).partition(SEPARATOR)
    if not member:
        # a named pipe must not block, and what is no regular file holds no image
        descriptor = os.open(f"{folder}/{outer}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        raise Refused("no regular file")
    try:
        archive = _archive(folder / outer)
        info = archive.getinfo(member)
        if refusal := _refusal(info):
            raise Refused(refusal)
        return archive.open(info)  # type: ignore[return-value]
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        raise Refused(_kind(error)) from None


def read_bytes(folder: Path, path: str) -> bytes:
    """All bytes of a file or a member."""
    with open_file(folder, path) as stream:
        try:
            return stream.read()
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise Refused(_kind(error)) from None


@contextlib.contextmanager
def local_file(folder: Path, path: str) -> Iterator[Path]:
    """A file on disk with the content: the file itself, or a temporary copy of a member, deleted afterwards.

    The copy's name tells nothing about the member, but has its last suffix, which libraries choose formats by.
    """
    outer, _, member = decode_path(path).partition(SEPARATOR)
    if not member:
        yield Path(folder, outer)
        return
    # `.nii.gz` counts as one; anything else that a member is called stays within the archive
    name = member.rpartition("/")[2].lower()
    suffix = ".nii.gz" if name.endswith(".nii.gz") else name[name.rfind(".") :] if "." in name else ""
    if not (suffix.replace(".", "").isalnum() and suffix.isascii() and len(suffix) <= 8):
        suffix = ""
    handle, temporary = tempfile.mkstemp(prefix="member-", suffix=suffix)
    try:
        with os.fdopen(handle, "wb") as target, open_file(folder, path) as stream:
            try:
                shutil.copyfileobj(stream, target, 2**20)
            except (zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise Refused(_kind(error)) from None
        yield Path(temporary)
    finally:
        Path(temporary).unlink()


def is_archive(path: str) -> bool:
    return path[-4:].lower() == ".zip"


def members(folder: Path, path: str) -> list[Member]:
    """Members of an archive, without its folders, sorted by name; of equal names the last, as unzip does.

    Raises
    ------
    OSError
        `Refused` if the archive as a whole cannot be trusted.
    """
    full = folder / decode_path(path)
    _check_directory(full)
    try:
        archive = _archive(full)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise Refused(_kind(error)) from None
    infos = [i for i in archive.infolist() if not i.is_dir()]
    if sum(i.compress_size for i in infos) > full.stat().st_size:
        raise Refused("overlapping members")
    named = {i.filename: i for i in infos if i.filename}
    outer = decode_path(path)
    return [
        Member(encode_path(outer + SEPARATOR + name), named[name].file_size, _refusal(named[name]))
        for name in sorted(named)
    ]


def _kind(error: Exception) -> str:
    return "damaged" if isinstance(error, zlib.error) else type(error).__name__


def _refusal(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 0x1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compression method"  # the others may ask for gigabytes of memory
    if info.file_size > LARGEST or (info.file_size > LARGE and info.file_size > RATIO * max(info.compress_size, 1)):
        return "size"
    return ""


def _archive(full: Path) -> zipfile.ZipFile:
    """An open archive: reading its directory anew for each of thousands of members would be quadratic."""
    facts = full.stat()
    # one per process: a descriptor that was inherited shares its position with the parent's
    return _opened(full, facts.st_size, facts.st_mtime_ns, os.getpid())


@lru_cache(maxsize=4)
def _opened(full: Path, size: int, mtime_ns: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(full)


def _check_directory(full: Path) -> None:
    """Refuse an archive whose list of members alone would fill the memory, before it is read."""
    with full.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65536 - 22))
        tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(tail):
        raise Refused("BadZipFile")
    count, length = struct.unpack_from("<HI", tail, end + 10)
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    if wide >= 0 and wide + 56 <= len(tail) and (count == 0xFFFF or length == 0xFFFFFFFF):
        count, length = struct.unpack_from("<QQ", tail, wide + 32)
    if length > DIRECTORY:
        raise Refused("too many members")
