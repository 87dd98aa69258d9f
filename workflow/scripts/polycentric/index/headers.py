"""The header of one file as a row of the index."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import stat
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from ..files import sha256_file

DICOMDIR = "1.2.840.10008.1.3.10"
IMPLICIT, EXPLICIT_BE, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_UNDEFINED = 0xFFFFFFFF
Row = dict[str, Any]

_TEXTS = {
    "sop_class": "SOPClassUID", "sop_instance": "SOPInstanceUID", "modality": "Modality", "patient_id": "PatientID",
    "study_uid": "StudyInstanceUID", "series_uid": "SeriesInstanceUID", "frame_uid": "FrameOfReferenceUID",
    "study_date": "StudyDate", "study_time": "StudyTime", "acquisition_time": "AcquisitionTime",
    "content_time": "ContentTime", "series_description": "SeriesDescription", "image_type": "ImageType",
    "series_number": "SeriesNumber", "acquisition_number": "AcquisitionNumber",
    "temporal_position": "TemporalPositionIdentifier", "photometric": "PhotometricInterpretation",
    "lossy": "LossyImageCompression", "manufacturer": "Manufacturer", "model": "ManufacturerModelName",
    "kernel": "ConvolutionKernel", "contrast_agent": "ContrastBolusAgent", "body_part": "BodyPartExamined",
}  # fmt: skip
_NUMBERS = {
    "echo_time_ms": "EchoTime", "instance_number": "InstanceNumber", "thickness_mm": "SliceThickness",
    "tilt_deg": "GantryDetectorTilt", "slope": "RescaleSlope", "intercept": "RescaleIntercept", "kvp": "KVP",
    "padding_value": "PixelPaddingValue",
}  # fmt: skip
_INTEGERS = {
    "rows": "Rows", "columns": "Columns", "frames": "NumberOfFrames", "samples": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated", "bits_stored": "BitsStored", "signed": "PixelRepresentation",
}  # fmt: skip


def read_header(path: Path) -> Row:
    """The columns of `INDEX` that one file gives; never raises for what a file holds."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return {"reading": "not-dicom", "error": "no regular file"}
        with path.open("rb") as stream, warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            return _read(path, stream)
    except Exception as error:  # whatever is wrong with one file, the others must be indexed
        return {"reading": "unreadable", "error": type(error).__name__}


def _read(path: Path, stream: BinaryIO) -> Row:
    size = path.stat().st_size
    try:
        dataset, reading = pydicom.dcmread(stream, stop_before_pixels=True), "ok"
    except InvalidDicomError:
        stream.seek(0)
        if size < 132:
            return {"reading": "not-dicom", "error": "too short"}
        try:
            dataset, reading = pydicom.dcmread(stream, stop_before_pixels=True, force=True), "forced"
        except Exception as error:
            return {"reading": "not-dicom", "error": type(error).__name__}
        # text or junk parses as something too, but not as an object of a known kind
        if not (_text(dataset, "SOPClassUID").startswith("1.2.840.10008.") and "Modality" in dataset):
            return {"reading": "not-dicom", "error": "no DICOM preamble"}
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    row: Row = {"reading": reading, "error": "", "transfer_syntax": syntax}
    row |= {name: _text(dataset, keyword) for name, keyword in _TEXTS.items()}
    row |= {name: _number(dataset, keyword) for name, keyword in _NUMBERS.items()}
    row |= {name: _integer(dataset, keyword) for name, keyword in _INTEGERS.items()}
    if row["sop_class"] == DICOMDIR or not (row["sop_class"] or row["modality"]):
        return {"reading": "not-dicom", "error": "a directory or no object"}
    row |= dict(zip((f"position_{a}_mm" for a in "xyz"), _vector(dataset, "ImagePositionPatient", 3), strict=True))
    orientation = _vector(dataset, "ImageOrientationPatient", 6)
    row["orientation"] = "" if None in orientation else " ".join(repr(v) for v in orientation)
    row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"] = _vector(dataset, "PixelSpacing", 2)
    row["exposure_mas"] = _exposure(dataset)
    row["contrast_tagged"] = "ContrastBolusAgent" in dataset
    if row["rows"] is not None and row["modality"] != "RTSTRUCT":
        implicit = syntax == IMPLICIT if syntax else bool(dataset.is_implicit_VR)
        row["truncated"] = syntax != DEFLATED and _truncated(stream, size, row, implicit, syntax == EXPLICIT_BE)
    if row["modality"] == "RTSTRUCT":
        row["structure"] = json.dumps(_structure(dataset), sort_keys=True)
        row["content_sha256"] = sha256_file(path)
    return row


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except Exception:  # a value that cannot be converted counts as absent
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    if value is None:
        return ""
    many = isinstance(value, pydicom.multival.MultiValue | list | tuple)
    text = "\\".join(str(v) for v in value) if many else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text.encode(errors="replace").decode().strip()


def _numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    value = _value(dataset, keyword)
    if value is None or value == "":
        return []
    many = isinstance(value, pydicom.multival.MultiValue | list | tuple)
    return [_float(v) for v in (value if many else [value])]


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    return next(iter(_numbers(dataset, keyword)), None)


def _integer(dataset: Dataset, keyword: str) -> int | None:
    value = _number(dataset, keyword)
    return None if value is None else int(value)


def _vector(dataset: Dataset, keyword: str, length: int) -> list[float | None]:
    values = _numbers(dataset, keyword)
    return values if len(values) == length and None not in values else [None] * length


def _exposure(dataset: Dataset) -> float | None:
    if (value := _number(dataset, "Exposure")) is not None:
        return value
    if (value := _number(dataset, "ExposureInuAs")) is not None:
        return value / 1000
    current, time = _number(dataset, "XRayTubeCurrent"), _number(dataset, "ExposureTime")
    return None if current is None or time is None else current * time / 1000


def _truncated(stream: BinaryIO, size: int, row: Row, implicit: bool, big: bool) -> bool:
    """Whether the pixel data end before they should; `stream` stands at their element, where pydicom stopped."""
    order = ">" if big else "<"
    head = stream.read(8)
    if len(head) < 8:
        return True
    if implicit:
        (length,) = struct.unpack(order + "I", head[4:])
    else:
        rest = stream.read(4)
        if len(rest) < 4:
            return True
        (length,) = struct.unpack(order + "I", rest)
    if length != _UNDEFINED:
        samples, frames = row["samples"] or 1, row["frames"] or 1
        bits = (row["bits_allocated"] or 8) * (row["rows"] or 0) * (row["columns"] or 0) * samples * frames
        return stream.tell() + length > size or length < bits // 8
    # encapsulated: the items must lie within the file and end with the sequence delimiter
    while True:
        item = stream.read(8)
        if len(item) < 8:
            return True
        group, element, length = struct.unpack("<HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return False
        if (group, element) != (0xFFFE, 0xE000) or stream.tell() + length > size:
            return True
        stream.seek(length, 1)


def pixel_sha256(path: Path) -> str:
    """Hash of the encoded pixel data; of the whole file where they cannot be read."""
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            return hashlib.sha256(pydicom.dcmread(path, force=True).PixelData).hexdigest()
    except Exception:
        return sha256_file(path)


def _structure(dataset: Dataset) -> Row:
    """Label, frames of reference, named series, instances and regions of an RTSTRUCT; no coordinates.

    Instances are those that the contours name, or those of the list of slices where contours name none.
    """
    frames, series, instances, listed = set(), set(), set(), set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(_text(frame, "FrameOfReferenceUID"))
        for study in frame.get("RTReferencedStudySequence") or []:
            for one in study.get("RTReferencedSeriesSequence") or []:
                series.add(_text(one, "SeriesInstanceUID"))
                listed |= {_text(i, "ReferencedSOPInstanceUID") for i in one.get("ContourImageSequence") or []}
    contours: dict[str, list[Dataset]] = {}
    for roi in dataset.get("ROIContourSequence") or []:
        contours.setdefault(_text(roi, "ReferencedROINumber"), []).extend(roi.get("ContourSequence") or [])
    regions = []
    for roi in dataset.get("StructureSetROISequence") or []:
        own = contours.get(_text(roi, "ROINumber"), [])
        frames.add(_text(roi, "ReferencedFrameOfReferenceUID"))
        for contour in own:
            instances |= {_text(i, "ReferencedSOPInstanceUID") for i in contour.get("ContourImageSequence") or []}
        points = sum(_text(c, "ContourGeometricType") == "POINT" for c in own)
        regions.append({"name": _text(roi, "ROIName"), "contours": len(own), "points": points})
    return {
        "label": _text(dataset, "StructureSetLabel"),
        "saved": _text(dataset, "StructureSetDate") + _text(dataset, "StructureSetTime"),
        "frames": sorted(frames - {""}),
        "series": sorted(series - {""}),
        "instances": sorted((instances or listed) - {""}),
        "regions": regions,
    }
