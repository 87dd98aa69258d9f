"""Decode the slices of a scan in the given order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError


@dataclass(frozen=True)
class Decoded:
    """Values (z, y, x) after rescaling, int16 or float32, and the hash of them."""

    array: np.ndarray
    sha256: str


def decode(paths: Sequence[Path], size: tuple[int, int, int]) -> Decoded:
    """Read slices one by one, each with its own rescale slope and intercept, as GDCM decodes them.

    ITK's own series reader gives every slice the pixel type of the first; one by one, a slice with a fractional slope
    keeps its fractions. Values are int16 if all are whole and fit, else float32.

    Parameters
    ----------
    paths
        files in the order of the volume.
    size
        voxels (x, y, z), as the headers promise.

    Raises
    ------
    ScanError
        TS_UNDECODABLE if a file cannot be decoded, GEOM_MATRIX_MIXED if its size is another. No message names a file.
    """
    columns, rows, count = size
    array = np.empty((count, rows, columns), dtype=np.int16)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name the input files
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for number, path in enumerate(paths):
        reader.SetFileName(str(path))
        try:
            image = reader.Execute()
        except RuntimeError:
            raise ScanError("TS_UNDECODABLE", f"slice {number} cannot be decoded") from None
        plane = sitk.GetArrayViewFromImage(image)
        if plane.size != rows * columns or plane.shape[-2:] != (rows, columns):
            raise ScanError("GEOM_MATRIX_MIXED", f"slice {number} is not {columns} x {rows}")
        plane = plane.reshape(rows, columns)
        if array.dtype != np.float32 and not _fits(plane):
            # float32 holds the whole numbers read so far exactly
            array = array.astype(np.float32)
        array[number] = plane
    hashed = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    hashed.update(np.ascontiguousarray(array).data)
    return Decoded(array, hashed.hexdigest())


def _fits(plane: np.ndarray) -> bool:
    """Whether int16 holds all values."""
    if not np.isfinite(plane).all() or plane.min() < -32768 or plane.max() > 32767:
        return False
    return plane.dtype.kind in "iu" or bool((plane == np.rint(plane)).all())
