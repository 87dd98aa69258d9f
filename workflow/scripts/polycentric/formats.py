"""Image files that are no DICOM: which there are, by which reader, and what their headers say.

Nothing is guessed: a file must be what its name says. Reasons never name a file or a person.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

# reader of SimpleITK by suffix
READERS = {
    ".nii.gz": "NiftiImageIO", ".nii": "NiftiImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".png": "PNGImageIO", ".jpg": "JPEGImageIO",
    ".jpeg": "JPEGImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO",
}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DETACHED = (".nhdr", ".mhd")  # headers whose data lie in another file
# an image of more voxels is refused: int16 of this many are 1 GB
MAX_VOXELS = 2**29
SKEW = 1e-3  # largest cosine between axes that counts as rounding
GEOMETRY_MM = 0.01  # largest difference between two descriptions of the corners of one image
_DEFLATE_RATIO = 1033  # no deflate stream expands more (zlib documentation)


class Unreadable(Exception):
    """An image file that cannot be used, with the reason in words."""


@dataclass(frozen=True)
class ImageFacts:
    """Header of an image file: size (x, y, z), and for formats that tell it the grid in mm, LPS (as in `Geometry`).

    `spacing`, `origin` and `direction` are None for pictures, `origin` and `direction` also for two-dimensional images;
    spacing has as many numbers as the image has dimensions.
    """

    size: tuple[int, int, int]
    components: int
    bits: int
    signed: bool
    truncated: bool
    spacing: tuple[float, ...] | None = None
    origin: tuple[float, float, float] | None = None
    direction: tuple[float, ...] | None = None


def suffix_of(path: str) -> str:
    """The suffix, lower case, if it is that of an image; else empty."""
    name = PurePosixPath(path).name.lower()
    return next((s for s in READERS if name.endswith(s) and len(name) > len(s)), "")


def read_facts(path: Path, suffix: str) -> ImageFacts:
    """Read the header of an image file; `path` must end with `suffix`, one of `READERS`.

    Raises
    ------
    Unreadable
        if the file is not of its format, has four dimensions or sheared axes, or claims what it cannot hold.
    """
    import SimpleITK as sitk

    try:
        str(path).encode()
    except UnicodeEncodeError:  # SimpleITK takes no names that are not UTF-8
        with tempfile.TemporaryDirectory() as temporary:
            link = Path(temporary) / f"image{suffix}"
            link.symlink_to(path.absolute())
            return read_facts(link, suffix)
    size = path.stat().st_size
    head = _head(path, suffix)
    _check_format(path, suffix, head)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name the input files
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[suffix])
    reader.SetFileName(str(path))
    try:
        with quiet():
            reader.ReadImageInformation()
    except (RuntimeError, MemoryError):
        raise Unreadable("the header cannot be read") from None
    dimensions, extent = reader.GetDimension(), reader.GetSize()
    if dimensions not in (2, 3):
        raise Unreadable(f"an image of {dimensions} dimensions; write one file per time point or channel")
    components = reader.GetNumberOfComponents()
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in pixel or (components > 1 and suffix not in PICTURES) or components > 4:
        raise Unreadable("several values per voxel")
    if min(extent) < 1:
        raise Unreadable("an image without voxels")
    voxels = math.prod(extent)
    if voxels > MAX_VOXELS:
        raise Unreadable(f"more voxels than can be read ({MAX_VOXELS})")
    bits = int(found[0]) if (found := re.findall(r"\d+", pixel)) else 8
    facts: dict[str, Any] = {
        "size": (*extent, 1)[:3],
        "components": components,
        "bits": bits,
        "signed": "unsigned" not in pixel,
        "truncated": _truncated(path, suffix, head, size, voxels, reader),
    }
    if suffix in PICTURES:  # resolutions in pictures are those of a printer
        return ImageFacts(**facts)
    spacing, direction = reader.GetSpacing(), np.array(reader.GetDirection()).reshape(dimensions, dimensions)
    origin = np.array(reader.GetOrigin())
    if not (np.isfinite([*spacing, *origin, *direction.ravel()]).all() and min(spacing) > 0):
        raise Unreadable("a spacing, origin or direction that is no number")
    if dimensions == 2:
        return ImageFacts(**facts, spacing=spacing)
    if np.abs(direction.T @ direction - np.eye(3)).max() > SKEW:
        raise Unreadable("sheared axes; resample the image to a regular grid")
    if READERS[suffix] == "NiftiImageIO":
        _check_sform(reader, np.array(extent), direction * spacing, origin)
    return ImageFacts(
        **facts, spacing=spacing, origin=tuple(map(float, origin)), direction=tuple(map(float, direction.ravel()))
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what libraries of image formats write to the error stream: it names input files."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def planes(facts: ImageFacts) -> Iterator[tuple[list[float], str]]:
    """Position of the first pixel (mm, LPS) and orientation (six cosines in words) of each plane of the third axis."""
    assert facts.origin is not None
    assert facts.direction is not None
    assert facts.spacing is not None
    axes = np.array(facts.direction).reshape(3, 3)
    orientation = " ".join(repr(float(v) + 0.0) for v in [*axes[:, 0], *axes[:, 1]])  # + 0.0: no negative zero
    for k in range(facts.size[2]):
        position = np.array(facts.origin) + axes[:, 2] * (k * facts.spacing[2])
        yield [float(p) + 0.0 for p in position], orientation


def _head(path: Path, suffix: str) -> bytes:
    """The first bytes, decompressed."""
    with path.open("rb") as stream:
        head = stream.read(65536)
    if suffix != ".nii.gz":
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        raise Unreadable("not of the format that its name says") from None


def _check_format(path: Path, suffix: str, head: bytes) -> None:
    kind = READERS[suffix]
    fits = {
        "NiftiImageIO": head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"),
        "NrrdImageIO": head.startswith(b"NRRD000"),
        "MetaImageIO": re.match(rb"(\s*[A-Za-z]+\s*=[^\n]*\n)*?\s*(ObjectType|NDims)\s*=", head) is not None,
        "PNGImageIO": head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR",
        "JPEGImageIO": head.startswith(b"\xff\xd8\xff"),
        "TIFFImageIO": head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    }[kind]
    if not fits:
        raise Unreadable("not of the format that its name says")
    if kind == "NiftiImageIO" and (head[345:346] == b"i" or head[5:6] == b"i"):
        raise Unreadable("a NIfTI header without its data; write both into one .nii file")
    if kind in ("NrrdImageIO", "MetaImageIO"):
        for name in _data_files(kind, head):
            # only beside the header: a header may come from anywhere and must not make us read other files
            if (
                suffix not in DETACHED
                or not re.fullmatch(r"[^/\\%\s][^/\\%]*", name)
                or name.upper().startswith("LIST")
            ):
                raise Unreadable("its data are said to lie in other files than one beside it")
            beside = path.with_name(name)
            if beside.is_symlink() or not beside.is_file():
                raise Unreadable("the file with its data is not beside it")


def _data_files(kind: str, head: bytes) -> list[str]:
    """Names of files that hold the data of a header, none if it holds them itself."""
    if kind == "NrrdImageIO":
        text = head.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0].decode("latin-1")
        return [m.strip() for m in re.findall(r"(?im)^(?:data ?file)\s*:\s*=?(.*)$", text)]
    found = re.search(rb"(?im)^\s*ElementDataFile\s*=\s*([^\r\n]*)", head)
    name = found[1].decode("latin-1").strip() if found else ""
    return [] if name.upper() == "LOCAL" else [name]


def _truncated(path: Path, suffix: str, head: bytes, size: int, voxels: int, reader: Any) -> bool:
    """Whether the file ends before its data do. What is compressed inside NRRD and MetaImage shows when it is read."""
    if suffix == ".png":
        return b"IEND" not in _tail(path, size, 64)
    if suffix in (".jpg", ".jpeg"):
        return b"\xff\xd9" not in _tail(path, size, 65536)
    if suffix in (".tif", ".tiff"):
        return False
    stored = voxels * _stored_bytes(suffix, head)
    if suffix == ".nii.gz":
        if stored > size * _DEFLATE_RATIO:
            raise Unreadable("claims more data than the file can hold")
        # the trailer holds the length modulo 2^32; of files in several parts only that of the last
        last = int.from_bytes(_tail(path, size, 4), "little")
        offset = int(float(reader.GetMetaData("vox_offset"))) if reader.HasMetaDataKey("vox_offset") else 352
        return last != (offset + stored) % 2**32 and _shorter(path, offset + stored)
    if suffix == ".nii":
        return size < stored + 348
    text = head.split(b"\n\n", 1)[0] if suffix in (".nrrd", ".nhdr") else head
    compressed = re.search(rb"(?im)^(encoding: *(gz|bz)|\s*CompressedData\s*=\s*True)", text) is not None
    kind = READERS[suffix]
    if suffix in DETACHED:
        held = path.with_name(_data_files(kind, head)[0]).stat().st_size
    else:
        end = re.search(rb"\r?\n\r?\n" if kind == "NrrdImageIO" else rb"(?im)^\s*ElementDataFile\s*=[^\n]*\n", head)
        held = size - (end.end() if end else 0)
    if compressed:
        if stored > held * _DEFLATE_RATIO:
            raise Unreadable("claims more data than the file can hold")
        whole = re.search(rb"(?im)^CompressedDataSize\s*=\s*(\d+)", head)
        return whole is not None and held < int(whole[1])
    return held < stored


_NRRD_BYTES = {
    "signed char": 1, "int8": 1, "int8_t": 1, "uchar": 1, "unsigned char": 1, "uint8": 1, "uint8_t": 1,
    "short": 2, "short int": 2, "signed short": 2, "signed short int": 2, "int16": 2, "int16_t": 2,
    "ushort": 2, "unsigned short": 2, "unsigned short int": 2, "uint16": 2, "uint16_t": 2,
    "int": 4, "signed int": 4, "int32": 4, "int32_t": 4, "uint": 4, "unsigned int": 4, "uint32": 4, "uint32_t": 4,
    "longlong": 8, "int64": 8, "int64_t": 8, "ulonglong": 8, "uint64": 8, "uint64_t": 8, "float": 4, "double": 8,
}  # fmt: skip
_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
               "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip


def _stored_bytes(suffix: str, head: bytes) -> int:
    """Bytes of a stored voxel; 1 if the header does not say it clearly."""
    if READERS[suffix] == "NiftiImageIO":
        # bitpix stands at byte 72 of NIfTI-1 and 14 of NIfTI-2; the length of the header tells the byte order
        at, length = (72, 348) if head[344:346] in (b"n+",) else (14, 540)
        order = "little" if int.from_bytes(head[:4], "little") == length else "big"
        return max(int.from_bytes(head[at : at + 2], order), 8) // 8
    text = head.decode("latin-1")
    if READERS[suffix] == "NrrdImageIO":
        found = re.search(r"(?im)^type\s*:\s*([a-z0-9_ ]+?)\s*$", text)
        return _NRRD_BYTES.get(found[1].lower(), 1) if found else 1
    found = re.search(r"(?im)^\s*ElementType\s*=\s*MET_([A-Z_]+?)(_ARRAY)?\s*$", text)
    return _META_BYTES.get(found[1].upper(), 1) if found else 1


def _tail(path: Path, size: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, size - length))
        return stream.read()


def _shorter(path: Path, length: int) -> bool:
    """Whether a gzip file holds fewer bytes than `length`, or is damaged before its end."""
    try:
        with gzip.open(path) as stream:
            while length > -(1 << 26):  # what follows the data may be long, but not without end
                if not (block := stream.read(1 << 20)):
                    break
                length -= len(block)
    except (OSError, EOFError, zlib.error):
        return True
    return length > 0


def _check_sform(reader: Any, extent: np.ndarray, axes: np.ndarray, origin: np.ndarray) -> None:
    """Refuse an sform that ITK leaves aside in favour of the qform because its axes are sheared."""

    def meta(key: str) -> str:
        return reader.GetMetaData(key) if reader.HasMetaDataKey(key) else ""

    try:
        if int(meta("sform_code") or 0) <= 0:
            return
        sform = np.array([[float(v) for v in meta(f"srow_{a}").split()] for a in "xyz"])
    except ValueError:
        return
    if sform.shape != (3, 4) or not np.isfinite(sform).all():
        raise Unreadable("an sform that is no matrix of numbers")
    columns = sform[:, :3] / np.maximum(np.linalg.norm(sform[:, :3], axis=0), 1e-12)
    if np.abs(columns.T @ columns - np.eye(3)).max() <= SKEW:
        return
    flip = np.diag([-1.0, -1.0, 1.0])  # RAS to LPS
    ours = np.column_stack([axes * (extent - 1), origin])
    theirs = flip @ np.column_stack([sform[:, :3] * (extent - 1), sform[:, 3]])
    if np.abs(ours - theirs).max() > GEOMETRY_MM:
        raise Unreadable("sheared axes (sform); resample the image to a regular grid")
