"""Decode the slices of a scan in the given order, from any kind of file, and rescale them."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.encaps import get_frame
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ..elements import Parsed
from ..errors import ScanError
from ..sources import local_file, open_file
from ..volumes import Geometry
from . import direct
from .decoder import CODE, Channel, isolated
from .header import FLOATS, Facts, Header, read_words, settled, start_of_pixels
from .stack import Plane, Slots, Stack

VOXELS = 2**32  # of a scan: more is a mistake or a trap
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
J2K = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")


def decode(
    planes: Sequence[Plane], folder: Path, size: tuple[int, int, int], *, smaller: bool = False, keep_dark: bool = True
) -> Stack:
    """Stored values of the slices; those that are not plain words are decoded in a process of their own.

    Parameters
    ----------
    planes
        slices in the order of the volume; a file of several frames is opened once.
    folder
        folder of the centre that their paths are relative to.
    size
        voxels (x, y, z) as the headers promise. If `smaller`, slices may be smaller than x times y: the grid of a
        sheared stack covers them all.
    keep_dark
        whether pictures whose high values are dark (MONOCHROME1) stay as they are, or are turned over.

    Raises
    ------
    ScanError
        TS_UNDECODABLE if a file cannot be decoded, GEOM_MATRIX_MIXED if its size is another. No message names a file.
    OSError
        If a file is gone.
    """
    columns, rows, _ = size
    if columns * rows * len(planes) > VOXELS:
        raise ScanError(CODE, f"{len(planes)} slices of {columns} x {rows} are more than a scan can be")
    if (plain := direct.read(planes, folder, (rows, columns), smaller=smaller, keep_dark=keep_dark)) is not None:
        return plain
    largest = max((_bytes(folder, path) for path in {p.path for p in planes}), default=0)
    frames = max(Counter(p.path for p in planes).values(), default=1)
    # a decoder holds a file's frames, and one more as whole numbers and wavelets; few bytes that ask for far more than
    # any compression explains are a bomb
    frames_bytes = min(16 * columns * rows * (frames + 1), max(2**28, 2000 * largest))
    memory = 2**29 + frames_bytes + 4 * largest
    slots = Slots(len(planes))
    # decoders read files by name; the folder is the parent's, so that it goes even when the child is killed
    with tempfile.TemporaryDirectory(prefix="frames-") as scratch:
        work = partial(_read, planes, folder, (rows, columns), smaller, keep_dark, Path(scratch))
        facts = isolated(work, slots.room, memory_bytes=memory)
    slots.settle()
    assert slots.array is not None
    return Stack(slots.array, facts)


def _bytes(folder: Path, path: str) -> int:
    with open_file(folder, path) as stream:
        return stream.seek(0, 2) if "//" not in path else 0


# -------------------------------------------------------------------------------------------------------- in the child


def _read(
    planes: Sequence[Plane],
    folder: Path,
    matrix: tuple[int, int],
    smaller: bool,
    keep_dark: bool,
    scratch: Path,
    channel: Channel,
) -> Facts:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    facts = Facts()

    def check(number: int, shape: tuple[int, int]) -> None:
        fits = shape[0] <= matrix[0] and shape[1] <= matrix[1] if smaller else shape == matrix
        if not fits:
            raise ScanError("GEOM_MATRIX_MIXED", f"slice {number} is not {matrix[1]} x {matrix[0]}")

    wanted: dict[tuple[str, bool], list[int]] = {}
    for number, plane in enumerate(planes):
        wanted.setdefault((plane.path, plane.image), []).append(number)
    for (path, image), numbers in wanted.items():
        frames = [planes[n].frame for n in numbers]
        channel.tick(numbers[0], matrix[0] * matrix[1] * (len(numbers) if image else 1))
        if image:
            _image(folder, path, numbers, frames, facts, check, channel)
        else:
            with open_file(folder, path) as stream:
                _dicom(stream, numbers, frames, facts, check, keep_dark, scratch, channel)
    facts.padding = sorted(set(facts.padding))
    return facts


def _image(
    folder: Path, path: str, numbers: list[int], frames: list[int], facts: Facts, check: Any, channel: Channel
) -> None:
    with local_file(folder, path) as local:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(local))
        reader.ReadImageInformation()
        size = reader.GetSize()
        check(numbers[0], (size[1], size[0]))
        if int(np.prod(size, dtype=np.int64)) > VOXELS:
            raise ScanError(CODE, "the image is larger than a scan can be")
        image = reader.Execute()
    array = sitk.GetArrayViewFromImage(image)
    colours = image.GetNumberOfComponentsPerPixel() if image.GetNumberOfComponentsPerPixel() > 1 else 0
    array = array.reshape(-1, size[1], size[0], *([colours] if colours else []))
    for number, frame in zip(numbers, frames, strict=True):
        if frame >= len(array):
            raise ScanError(CODE, f"slice {number}: the file has {len(array)} frames")
        plane = _grey(array[frame], facts) if colours else array[frame]
        channel.send(number, plane)
    facts.signed |= array.dtype.kind != "u"
    facts.bits = max(facts.bits, 8 * array.dtype.itemsize)


def _grey(plane: np.ndarray, facts: Facts) -> np.ndarray:
    """Luma of a colour picture (rows, columns, samples); of a grey one that is stored in colour, the grey."""
    if plane.shape[-1] < 3:  # grey and opacity
        return plane[..., 0]
    red, green, blue = plane[..., 0], plane[..., 1], plane[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    facts.colour += 1
    luma = plane[..., :3].astype(np.float64) @ GREY
    return np.rint(luma).astype(plane.dtype) if plane.dtype.kind in "iu" else luma.astype(plane.dtype)


def _dicom(
    stream: BinaryIO,
    numbers: list[int],
    frames: list[int],
    facts: Facts,
    check: Any,
    keep_dark: bool,
    scratch: Path,
    channel: Channel,
) -> None:
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        implicit, little = data.original_encoding
        assumed = ImplicitVRLittleEndian if implicit else (ExplicitVRLittleEndian if little else ExplicitVRBigEndian)
        header = Header.of(Parsed(data), str(data.file_meta.get("TransferSyntaxUID") or assumed))
        check(numbers[0], (header.rows, header.columns))
        if frames and max(frames) >= header.frames:
            raise ScanError(CODE, f"slice {numbers[0]}: the file has {header.frames} frames")
        facts.add(header)
        start = start_of_pixels(stream, header) if header.plain else -1
        if start < 0:  # compressed, deflated, floating point, colour, single bits
            stream.seek(0)
            data = pydicom.dcmread(stream, force=True)
            if "TransferSyntaxUID" not in data.file_meta:
                data.file_meta.TransferSyntaxUID = header.syntax
        for number, frame in zip(numbers, frames, strict=True):
            channel.tick(number, header.rows * header.columns)
            if start < 0:
                plane = _decoded(data, header, frame, facts, scratch)
                if plane.shape != (header.rows, header.columns):
                    raise ScanError("GEOM_MATRIX_MIXED", f"slice {number} is not {header.columns} x {header.rows}")
            else:
                plane = np.empty((header.rows, header.columns), header.dtype)
                read_words(stream, start + frame * header.bytes, plane, header, number)
            if header.whole and header.samples == 1 and not header.palette:
                plane = settled(plane, header, facts, keep_dark)
            channel.send(number, plane)


def _decoded(data: pydicom.Dataset, header: Header, frame: int, facts: Facts, scratch: Path) -> np.ndarray:
    """One frame by whichever decoder can: GDCM within SimpleITK for grey ones, else pydicom's plugins."""
    for keyword, kind in FLOATS.items():
        if keyword in data:
            little = data.original_encoding[1]
            values = np.frombuffer(data[keyword].value, np.dtype(kind).newbyteorder("<" if little else ">"))
            return values.reshape(header.frames, header.rows, header.columns)[frame].astype(kind)
    if header.samples > 1 or header.palette:
        try:
            plane = pydicom.pixels.pixel_array(data, index=frame)
        except RuntimeError:  # no plugin for the syntax
            plane = _gdcm(data, header, _frame(data, header, frame), scratch)
        return _grey(pydicom.pixels.apply_color_lut(plane, data) if header.palette else plane, facts)
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        plane = pydicom.pixels.pixel_array(data, index=frame)
        return plane.astype(plane.dtype.newbyteorder("="))
    code = _frame(data, header, frame)
    if header.syntax in J2K and (declared := _j2k_sign(code)) is not None:
        facts.sign_differs += declared != header.signed
    try:
        plane = _gdcm(data, header, code, scratch)
    except RuntimeError:
        plane = pydicom.pixels.pixel_array(data, index=frame)
    if plane.dtype.kind in "iu" and plane.dtype.itemsize * 8 >= header.stored:
        # the header's sign holds: decoders differ in whether they follow it or the code stream
        plane = plane.view(f"{'i' if header.signed else 'u'}{plane.dtype.itemsize}")
    return plane


def _frame(data: pydicom.Dataset, header: Header, frame: int) -> bytes:
    extended = None
    if "ExtendedOffsetTable" in data:
        extended = (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths)
    return get_frame(data.PixelData, frame, number_of_frames=header.frames, extended_offsets=extended)


def _gdcm(data: pydicom.Dataset, header: Header, code: bytes, scratch: Path) -> np.ndarray:
    """Decode one frame from a file that holds it and nothing else that could change its values."""
    single = pydicom.Dataset()
    single.SOPClassUID, single.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    single.Rows, single.Columns, single.SamplesPerPixel = header.rows, header.columns, header.samples
    single.PhotometricInterpretation = data.PhotometricInterpretation if header.samples > 1 else "MONOCHROME2"
    if header.samples > 1:
        single.PlanarConfiguration = int(data.get("PlanarConfiguration") or 0)
    single.BitsAllocated, single.BitsStored, single.HighBit = header.allocated, header.stored, header.high
    single.PixelRepresentation = int(header.signed)
    single.PixelData = pydicom.encaps.encapsulate([code])
    single["PixelData"].VR = "OB"
    single["PixelData"].is_undefined_length = True
    single.file_meta = pydicom.dataset.FileMetaDataset()
    single.file_meta.TransferSyntaxUID = pydicom.uid.UID(header.syntax)
    path = scratch / "frame.dcm"
    single.save_as(path, enforce_file_format=True)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    plane = sitk.GetArrayFromImage(reader.Execute())
    return plane.reshape((header.rows, header.columns, header.samples) if header.samples > 1 else plane.shape[-2:])


def _j2k_sign(code: bytes) -> bool | None:
    """Whether a JPEG 2000 code stream declares signed samples (ISO/IEC 15444-1 A.5.1, Ssiz); None if unreadable."""
    at = code.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(code) < at + 43:
        return None
    return bool(code[at + 42] & 0x80)


# -------------------------------------------------------------------------------------------------------- in the parent


def rescale(stack: np.ndarray, slopes: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Apply each slice's slope and intercept.

    Returns int16 if all values are whole and fit, else float32, so that the type follows from the values alone. Where
    the room suffices it works in place: `stack` is used up.

    Raises
    ------
    ScanError
        TS_UNDECODABLE if values are not finite.
    """
    whole = stack.dtype.kind in "iu" and not (np.mod(slopes, 1).any() or np.mod(intercepts, 1).any())
    if whole:
        lows, highs = stack.min(axis=(1, 2)).astype(float), stack.max(axis=(1, 2)).astype(float)
        ends = np.concatenate([lows * slopes + intercepts, highs * slopes + intercepts])
        if ends.min() >= -32768 and ends.max() <= 32767:
            if stack.dtype.itemsize == 2 and (slopes == 1).all():
                result = stack.view(np.int16)
                for number, intercept in enumerate(intercepts.astype(np.int64)):
                    if intercept:  # modulo 65536, which the result is not touched by
                        result[number] += np.array(intercept).astype(np.int16)
                return result
            result = np.empty(stack.shape, np.int16)
            for number, plane in enumerate(stack):
                result[number] = plane.astype(np.int64) * int(slopes[number]) + int(intercepts[number])
            return result
    result = np.empty(stack.shape, np.float32)
    integral = True
    for number, plane in enumerate(stack):
        plane = (
            plane if slopes[number] == 1 and intercepts[number] == 0 else plane * slopes[number] + intercepts[number]
        )
        result[number] = plane
        result[number] += np.float32(0)  # no negative zero
        if not np.isfinite(result[number]).all():
            raise ScanError(CODE, f"slice {number} has values that are no finite numbers")
        integral = integral and bool((result[number] == np.rint(result[number])).all())
    if integral and result.min() >= -32768 and result.max() <= 32767:
        return result.astype(np.int16)
    return result


def pixels_sha256(array: np.ndarray, geometry: Geometry | None = None) -> str:
    """Hash of the values of an image, whatever file, order or axis direction they came in.

    Axes are turned so that they run as near as possible along the patient's (left, posterior, superior): a NIfTI copy
    of a scan with its rows stored the other way has the same hash.
    """
    if geometry is not None:
        matrix = np.array(geometry.direction).reshape(3, 3)  # column k: where axis k of the array points
        taken = np.argmax(np.abs(matrix), axis=0)
        if len(set(taken.tolist())) == 3:
            flips = [matrix[taken[k], k] < 0 for k in range(3)]
            # array axes are z, y, x
            array = array[tuple(slice(None, None, -1 if flips[2 - a] else 1) for a in range(3))]
            axis_of = {int(taken[k]): 2 - k for k in range(3)}
            array = array.transpose(axis_of[2], axis_of[1], axis_of[0])
    hashed = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()
