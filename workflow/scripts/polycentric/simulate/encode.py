"""From datasets to the bytes of DICOM files."""

from __future__ import annotations

import hashlib
import io
import uuid
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

ROOT = "2.25."
IMPLEMENTATION = ROOT + "310385163184617018240293749172361923561"
# one of them stands near the start of every file of the simulator
MARKS = (b"SIMULATED", IMPLEMENTATION.encode())
SYNTAXES = {
    "implicit-little": ImplicitVRLittleEndian,
    "explicit-little": ExplicitVRLittleEndian,
    "explicit-big": ExplicitVRBigEndian,
    "rle": RLELossless,
}


def uid(*names: str | int) -> str:
    """A valid UID (ITU-T X.667) that depends on the names alone."""
    digest = hashlib.sha256("\x1f".join(str(n) for n in names).encode()).digest()
    return ROOT + str(uuid.UUID(bytes=digest[:16], version=5).int)


@dataclass
class Planned:
    """A file to write: its path below the centre's folder and its dataset with pixels, or its bytes.

    `pixels` are the stored values (rows, columns), in the machine's byte order; `kept` is the share of the file that
    is written; `meta` whether preamble and file meta information are.
    """

    path: str
    dataset: Dataset | None = None
    pixels: np.ndarray | None = None
    content: bytes = b""
    kept: float = 1.0
    meta: bool = True

    def bytes(self, syntax: str) -> bytes:
        if self.dataset is None:
            return self.content
        data = _encode(self.dataset, self.pixels, syntax if self.meta else "implicit-little", self.meta)
        return data[: int(len(data) * self.kept)]


def _encode(dataset: Dataset, pixels: np.ndarray | None, syntax: str, meta: bool) -> bytes:
    if pixels is None and syntax == "rle":
        syntax = "explicit-little"
    endian = ">" if syntax == "explicit-big" else "<"
    if pixels is not None:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(endian)).tobytes()
        dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    if not meta:
        pydicom.dcmwrite(buffer, dataset, implicit_vr=True, little_endian=True)
        return buffer.getvalue()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION
    dataset.file_meta.ImplementationVersionName = "POLYCENTRIC_SIM"
    dataset.file_meta.TransferSyntaxUID = SYNTAXES["explicit-little" if syntax == "rle" else syntax]
    if syntax == "rle":
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
