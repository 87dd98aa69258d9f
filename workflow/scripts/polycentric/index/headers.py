"""The header of one file as a row of the index."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset

from .. import sources
from ..elements import (
    DEFLATED,
    EXPLICIT_BE,
    HEAD,
    IMPLICIT,
    LARGEST_HEADER,
    PIXELS,
    UNDEFINED,
    Deflated,
    Elements,
    Irregular,
    Parsed,
    Scanned,
    Short,
    first,
    meta,
    nested,
    read_plain,
    scan,
    tag_of,
    vector,
)
from .frames import complete, frame_facts
from .structures import contours, segments

DICOMDIR = "1.2.840.10008.1.3.10"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
# the most bytes that a deflated header may take, and the most pixels that are inflated
LARGEST_INFLATED_HEADER, LARGEST_INFLATED = 2**25, 2**29
# of pydicom, three for each element; and empty elements without a tag, one after another
MOST_READS, MOST_ZEROS = 2_000_000, 4096
# a frame with more bytes must not have been compressed more than this; run lengths cannot do better than 64, nor
# lossless JPEG than a bit per value. Smaller frames do no harm, whatever they claim
LARGE_FRAME, EXPANSION = 2**26, 2000
_EXPANSION = {"1.2.840.10008.1.2.5": 64, "1.2.840.10008.1.2.4.57": 16, "1.2.840.10008.1.2.4.70": 16}
Row = dict[str, Any]

_TEXTS = {
    "sop_class": "SOPClassUID", "sop_instance": "SOPInstanceUID", "modality": "Modality", "patient_id": "PatientID",
    "study_uid": "StudyInstanceUID", "series_uid": "SeriesInstanceUID", "frame_uid": "FrameOfReferenceUID",
    "study_date": "StudyDate", "study_time": "StudyTime", "acquisition_time": "AcquisitionTime",
    "content_time": "ContentTime", "series_date": "SeriesDate", "series_time": "SeriesTime",
    "acquisition_date": "AcquisitionDate", "series_description": "SeriesDescription",
    "study_description": "StudyDescription", "protocol": "ProtocolName", "image_type": "ImageType",
    "series_number": "SeriesNumber", "acquisition_number": "AcquisitionNumber",
    "temporal_position": "TemporalPositionIdentifier", "photometric": "PhotometricInterpretation",
    "rescale_type": "RescaleType", "lossy": "LossyImageCompression", "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName", "kernel": "ConvolutionKernel", "burned_in": "BurnedInAnnotation",
    "identity_removed": "PatientIdentityRemoved", "contrast_agent": "ContrastBolusAgent",
    "body_part": "BodyPartExamined", "synthetic": "SyntheticData", "scanning_sequence": "ScanningSequence",
    "sequence_variant": "SequenceVariant", "acquisition_contrast": "AcquisitionContrast",
}  # fmt: skip
_NUMBERS = {
    "echo_time_ms": "EchoTime", "instance_number": "InstanceNumber", "repetition_time_ms": "RepetitionTime",
    "inversion_time_ms": "InversionTime", "field_t": "MagneticFieldStrength", "slice_location_mm": "SliceLocation",
    "thickness_mm": "SliceThickness", "tilt_deg": "GantryDetectorTilt", "slope": "RescaleSlope",
    "intercept": "RescaleIntercept", "kvp": "KVP", "padding_value": "PixelPaddingValue", "ctdi_mgy": "CTDIvol",
    "field_of_view_mm": "ReconstructionDiameter",
}  # fmt: skip
_INTEGERS = {
    "rows": "Rows", "columns": "Columns", "frames": "NumberOfFrames", "samples": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated", "bits_stored": "BitsStored", "high_bit": "HighBit",
    "signed": "PixelRepresentation",
}  # fmt: skip
# elements that can name a person, a place or a day; PS3.15 table E.1-1 has more, which exports hardly ever fill
_IDENTIFYING = (
    "PatientName", "PatientBirthDate", "PatientBirthTime", "PatientBirthName", "PatientMotherBirthName",
    "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "IssuerOfPatientID", "MedicalRecordLocator",
    "PatientAddress", "PatientTelephoneNumbers", "PatientInsurancePlanCodeSequence", "MilitaryRank",
    "CountryOfResidence", "RegionOfResidence", "Occupation", "EthnicGroup", "PatientReligiousPreference",
    "AdditionalPatientHistory", "PatientComments", "ResponsiblePerson", "ResponsibleOrganization", "AdmissionID",
    "AccessionNumber", "StudyID", "ReferringPhysicianName", "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers", "ConsultingPhysicianName", "PhysiciansOfRecord", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "RequestingService", "OperatorsName", "ReviewerName",
    "ContentCreatorName", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "DeviceSerialNumber", "ScheduledPerformingPhysicianName", "PerformedStationName", "PerformedStationAETitle",
    "CurrentPatientLocation", "ImageComments", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
    "AcquisitionDateTime", "InstanceCreationDate", "PerformedProcedureStepStartDate", "StructureSetDate",
)  # fmt: skip
_PET = (
    "Units", "DecayCorrection", "CorrectedImage", "SUVType", "SeriesDate", "SeriesTime", "AcquisitionDate",
    "AcquisitionTime",
)  # fmt: skip
_PET_NUMBERS = {"PatientWeight": 0x00101030, "FrameReferenceTime": 0x00541300} | {
    "PhilipsSUVFactor": 0x70531000, "PhilipsActivityFactor": 0x70531009,
}  # fmt: skip
_TRACER, _TRACER_NUMBERS = (
    ("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"),
    ("RadionuclideTotalDose", "RadionuclideHalfLife"),
)
_TEXT_TAGS = [(name, tag_of(keyword)) for name, keyword in _TEXTS.items()]
_NUMBER_TAGS = [(name, tag_of(keyword)) for name, keyword in _NUMBERS.items()]
_INTEGER_TAGS = [(name, tag_of(keyword)) for name, keyword in _INTEGERS.items()]
_IDENTIFYING_TAGS = [(keyword, tag_of(keyword)) for keyword in _IDENTIFYING]
_POSITION, _ORIENTATION = tag_of("ImagePositionPatient"), tag_of("ImageOrientationPatient")
_SPACING, _IMAGER_SPACING = tag_of("PixelSpacing"), tag_of("ImagerPixelSpacing")
_EXPOSURE, _EXPOSURE_UAS = tag_of("Exposure"), tag_of("ExposureInuAs")
_CURRENT, _TIME = tag_of("XRayTubeCurrent"), tag_of("ExposureTime")
_AGENT, _AGENT_ITEMS = tag_of("ContrastBolusAgent"), tag_of("ContrastBolusAgentSequence")
_RADIOPHARMACEUTICAL, _RECORDS = tag_of("RadiopharmaceuticalInformationSequence"), tag_of("DirectoryRecordSequence")
_CODE_MEANING, _PATIENT_NAME, _PATIENT_ID = tag_of("CodeMeaning"), tag_of("PatientName"), tag_of("PatientID")


@dataclass(frozen=True)
class _Object:
    """A data set, how it was read, its syntax, and where its pixel element lies in `stream` of `size` bytes."""

    elements: Elements
    reading: str
    syntax: str
    meta_class: str
    stream: BinaryIO | _Inflated
    size: int
    pixels: int
    implicit: bool


def read_header(folder: Path, path: str) -> Row:
    """The columns of `INDEX` that one file (see `sources`) gives; never raises for what a file holds."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    try:
        with sources.open_file(folder, path) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            return _read(stream, size)
    except Exception as error:  # whatever is wrong with one file, the others must be indexed
        return failure(error)


def failure(error: Exception) -> Row:
    """The row of a file that cannot be opened or read. Messages of others may name the file: their type must do."""
    if isinstance(error, sources.Refused):
        special = error.word == "no regular file"
        return {"reading": "not-dicom" if special else "unreadable", "error": error.word}
    return {"reading": "unreadable", "error": "damaged" if isinstance(error, zlib.error) else type(error).__name__}


def _read(stream: BinaryIO, size: int) -> Row:
    try:
        one = _plain(stream, size)
        return _row(one)
    except Irregular:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            odd = _odd(stream, size)
            return odd if isinstance(odd, dict) else _row(odd)


def _plain(stream: BinaryIO, size: int) -> _Object:
    """Scan a file with preamble in little endian; raises Irregular for every other."""
    try:
        one = read_plain(stream, size)
    except Deflated as found:
        return _deflated(_Inflated(stream, found.start), found.meta_class)
    return _Object(one.elements, "ok", one.syntax, one.meta_class, stream, size, one.end, one.implicit)


def _deflated(stream: _Inflated, meta_class: str) -> _Object:
    wanted = HEAD
    while True:
        stream.reach(wanted)
        data = bytes(stream.kept)
        # an end that is not known yet must not look like one
        end = stream.length if stream.done else LARGEST_INFLATED_HEADER
        try:
            found, position = scan(data, 0, end, False)
        except Short as short:
            if stream.done or short.need > LARGEST_INFLATED_HEADER:
                raise Irregular from None
            wanted = max(short.need + HEAD, 2 * len(data))
            continue
        elements = Scanned(data, found, False)
        return _Object(elements, "ok", DEFLATED, meta_class, stream, UNDEFINED, position, False)


class _Inflated(io.RawIOBase):
    """A deflated data set as a stream that is inflated no further than it is read, and keeps its first bytes only."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        stream.seek(start)
        self.stream, self.inflater = stream, zlib.decompressobj(-zlib.MAX_WBITS)
        self.kept, self.length, self.waiting, self.done, self.at = bytearray(), 0, b"", False, 0

    def reach(self, length: int) -> bool:
        """Inflate up to this byte, if there are as many."""
        while self.length < length and not self.done:
            self.waiting = self.waiting or self.stream.read(2**16)
            try:
                piece = self.inflater.decompress(self.waiting, 2**18)
            except zlib.error:
                self.done = True
                break
            self.done = self.inflater.eof or not (piece or self.waiting)
            self.waiting = self.inflater.unconsumed_tail
            self.length += len(piece)
            if len(self.kept) < LARGEST_INFLATED_HEADER:
                self.kept += piece
        return self.length >= length

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset if whence == 0 else self.at + offset
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, count: int = -1) -> bytes:
        end = self.at + count if count >= 0 else LARGEST_INFLATED_HEADER
        if end > LARGEST_INFLATED_HEADER:
            raise sources.Refused("header too large")
        self.reach(end)
        data = bytes(self.kept[self.at : end])
        self.at += len(data)
        return data


class _Bounded:
    """A stream for pydicom, which asks for as many bytes as an element declares: never gives more than there are.

    Zeros without end, which pydicom takes for millions of empty elements, end the file.
    """

    def __init__(self, stream: BinaryIO | _Inflated, size: int) -> None:
        self.stream, self.size, self.total, self.reads, self.zeros = stream, size, 0, 0, 0

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self.stream.tell())
        count = left if count < 0 else min(count, left)
        self.total += count
        self.reads += 1
        if self.total > LARGEST_HEADER or self.reads > MOST_READS:
            raise sources.Refused("header too large")
        data = self.stream.read(count)
        if count == 8:
            self.zeros = self.zeros + 1 if data == bytes(8) else 0
            if self.zeros > MOST_ZEROS:
                return b""
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _odd(stream: BinaryIO, size: int) -> _Object | Row:
    """Read a file as pydicom does, also without preamble."""
    stream.seek(0)
    head = stream.read(min(HEAD, size))
    reading = "ok"
    if head[128:132] == b"DICM":
        try:
            syntax, meta_class, start = meta(head, size)
        except (Irregular, Short):
            syntax, meta_class, start = "", "", 0
        if syntax == DEFLATED:
            inner = _Inflated(stream, start)
            bounded: Any = _Bounded(inner, LARGEST_INFLATED_HEADER)
            dataset = read_dataset(bounded, False, True, stop_when=lambda tag, vr, length: tag in PIXELS)
            return _Object(Parsed(dataset), "ok", syntax, meta_class, inner, UNDEFINED, inner.tell(), False)
    elif size < 132:
        return {"reading": "not-dicom", "error": "too short"}
    stream.seek(0)
    bounded = _Bounded(stream, size)
    try:
        dataset = pydicom.dcmread(bounded, stop_before_pixels=True)
    except InvalidDicomError:
        stream.seek(0)
        reading = "forced"
        try:
            dataset = pydicom.dcmread(bounded, stop_before_pixels=True, force=True)
        except Exception as error:
            return {"reading": "not-dicom", "error": type(error).__name__}
        # text or junk parses as something too, but not as an object of a known kind
        kind = Parsed(dataset).text(tag_of("SOPClassUID"))
        if not (kind.startswith("1.2.840.10008.") and "Modality" in dataset) and _RECORDS not in dataset:
            return {"reading": "not-dicom", "error": "no DICOM preamble"}
    stated = Parsed(dataset.file_meta) if hasattr(dataset, "file_meta") else None
    syntax = stated.text(tag_of("TransferSyntaxUID")) if stated else ""
    meta_class = stated.text(tag_of("MediaStorageSOPClassUID")) if stated else ""
    implicit = syntax == IMPLICIT if syntax else bool(dataset.is_implicit_VR)
    return _Object(Parsed(dataset), reading, syntax, meta_class, stream, size, stream.tell(), implicit)


def _row(one: _Object) -> Row:
    elements = one.elements
    row: Row = {"reading": one.reading, "error": "", "transfer_syntax": one.syntax}
    for name, tag in _TEXT_TAGS:
        row[name] = elements.text(tag) if tag in elements else ""
    for name, tag in _NUMBER_TAGS:
        row[name] = first(elements, tag) if tag in elements else None
    for name, tag in _INTEGER_TAGS:
        row[name] = _integer(first(elements, tag)) if tag in elements else None
    if DICOMDIR in (row["sop_class"], one.meta_class) or _RECORDS in elements:
        return {"reading": "directory", "error": "", "transfer_syntax": one.syntax, "sop_class": DICOMDIR}
    if not (row["sop_class"] or row["modality"]):
        return {"reading": "not-dicom", "error": "no object"}
    position = vector(elements, _POSITION, 3) or [None] * 3
    row["position_x_mm"], row["position_y_mm"], row["position_z_mm"] = position
    row["orientation"] = " ".join(repr(v) for v in vector(elements, _ORIENTATION, 6) or ())
    spacing = vector(elements, _SPACING, 2) or vector(elements, _IMAGER_SPACING, 2) or [None] * 2
    row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"] = spacing
    row["exposure_mas"] = _exposure(elements)
    row["contrast_tagged"] = _AGENT in elements or _AGENT_ITEMS in elements
    if not row["contrast_agent"]:
        meanings = [item.text(_CODE_MEANING) for item in elements.items(_AGENT_ITEMS)]
        row["contrast_agent"] = "\\".join(m for m in meanings if m)
    row["sequence"] = next(
        (t for k in ("SequenceName", "PulseSequenceName", "ScanningSequence") if (t := elements.text(tag_of(k)))), ""
    )
    row["scanning_sequence"] = row["scanning_sequence"] or _echo(elements)
    row["b_value"] = _b_value(elements)
    row["identifying"] = _identifying(elements)
    if row["modality"] == "PT":
        row["pet"] = _pet(elements)
    facts = complete(row, elements)
    if facts or (row["frames"] or 1) > 1:
        row["frame_facts"] = frame_facts(row, elements)
    if (row["rows"] is not None or row["columns"] is not None) and row["modality"] != "RTSTRUCT":
        row["truncated"] = _truncated(one, row)
    if row["modality"] == "RTSTRUCT":
        row["structure"] = json.dumps(contours(elements), sort_keys=True)
    elif row["modality"] == "SEG" or row["sop_class"].startswith(SEGMENTATION):
        row["structure"] = json.dumps(segments(elements), sort_keys=True)
    if row.get("structure"):
        row["content_sha256"] = _sha256(one)
    return row


def _integer(value: float | None) -> int | None:
    # a value beyond 63 bits is damage
    return None if value is None or abs(value) >= 2**63 else int(value)


def _exposure(elements: Elements) -> float | None:
    if (value := first(elements, _EXPOSURE)) is not None:
        return value
    if (value := first(elements, _EXPOSURE_UAS)) is not None:
        return value / 1000
    current, time = first(elements, _CURRENT), first(elements, _TIME)
    return None if current is None or time is None else current * time / 1000


def _echo(elements: Elements) -> str:
    """The pulse sequence of enhanced MR (PS3.3 C.8.13.4) in the words of the older element."""
    echo, planar = (elements.text(tag_of(k)).upper() for k in ("EchoPulseSequence", "EchoPlanarPulseSequence"))
    kind = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE\\GR"}.get(echo, "")
    return "\\".join(filter(None, ("EP" if planar == "YES" else "", kind)))


def _b_value(elements: Elements) -> float | None:
    """By the standard's element, or the vendor's where its creator is known.

    General Electric adds multiples of 10^9 that mean something else.
    """
    for tag, creator, name in (
        (tag_of("DiffusionBValue"), 0, ""),
        (0x0019100C, 0x00190010, "SIEMENS MR HEADER"),
        (0x00431039, 0x00430010, "GEMS_PARM_01"),
        (0x20011003, 0x20010010, "Philips Imaging DD 001"),
    ):
        if tag in elements and (not creator or elements.text(creator) == name):
            value = first(elements, tag)
            if value is not None:
                return value % 1e9 if name.startswith("GEMS") else value
    return None


def _identifying(elements: Elements) -> str:
    found = [keyword for keyword, tag in _IDENTIFYING_TAGS if tag in elements and elements.filled(tag)]
    # a name that repeats the identifier is a pseudonym, or says no more than the identifier
    if found and found[0] == "PatientName" and elements.text(_PATIENT_NAME) == elements.text(_PATIENT_ID):
        found = found[1:]
    return ";".join([*found, *(["private"] if elements.private() else [])])


def _pet(elements: Elements) -> str:
    facts: Row = {keyword: text for keyword in _PET if (text := elements.text(tag_of(keyword)))}
    facts |= {name: value for name, tag in _PET_NUMBERS.items() if (value := first(elements, tag)) is not None}
    for item in list(nested(elements, _RADIOPHARMACEUTICAL))[:1]:
        facts |= {keyword: text for keyword in _TRACER if (text := item.text(tag_of(keyword)))}
        facts |= {k: value for k in _TRACER_NUMBERS if (value := first(item, tag_of(k))) is not None}
    return json.dumps(facts, sort_keys=True)


def _truncated(one: _Object, row: Row) -> bool:
    """Whether the pixel data end before they should, or are far too few for what is declared."""
    stream, order = one.stream, ">" if one.syntax == EXPLICIT_BE else "<"
    value = _pixel_value(one)
    if value is None or not (row["rows"] and row["columns"]):
        return True
    start, length = value
    samples = row["samples"] or 1
    if row["photometric"] == "YBR_FULL_422" and length != UNDEFINED:
        samples = 2  # colour of every second pixel only
    frames, bits = row["frames"] or 1, row["bits_allocated"] or 8
    pixels = row["rows"] * row["columns"] * samples
    if length != UNDEFINED:
        if length < bits * pixels * frames // 8:
            return True
        if isinstance(stream, _Inflated):
            if length > LARGEST_INFLATED:
                raise sources.Refused("size")
            return not stream.reach(start + length)
        return start + length > one.size
    # encapsulated: the items must lie within the file and end with the sequence delimiter
    position, compressed = start, 0
    while True:
        stream.seek(position)
        item = stream.read(8)
        if len(item) < 8:
            return True
        group, element, length = struct.unpack(order + "HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        position += 8 + length
        compressed += length
        if (group, element) != (0xFFFE, 0xE000) or position > one.size:
            return True
    declared = bits * pixels // 8
    return declared > LARGE_FRAME and declared * frames > _EXPANSION.get(one.syntax, EXPANSION) * compressed


def _pixel_value(one: _Object) -> tuple[int, int] | None:
    """Where the value of the pixel element begins, and its length as declared; None if there is none."""
    order = ">" if one.syntax == EXPLICIT_BE else "<"
    one.stream.seek(one.pixels)
    head = one.stream.read(12)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) not in {(t >> 16, t & 0xFFFF) for t in PIXELS}:
        return None
    if one.implicit:
        return one.pixels + 8, struct.unpack(order + "I", head[4:8])[0]
    return (one.pixels + 12, struct.unpack(order + "I", head[8:12])[0]) if len(head) == 12 else None


def _sha256(one: _Object) -> str:
    stream = one.stream.stream if isinstance(one.stream, _Inflated) else one.stream
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def pixel_sha256(folder: Path, path: str) -> str:
    """Hash of the pixel data as encoded; of the whole file where they cannot be found. "" if it cannot be read."""
    try:
        with sources.open_file(folder, path) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            digest = hashlib.sha256()
            try:
                one = _plain(stream, size)
                value = None if one.syntax == DEFLATED else _pixel_value(one)
            except Irregular:
                value = None
            position, length = value or (0, size)
            stream.seek(position)
            left = min(length, size - position)
            while left > 0 and (piece := stream.read(min(left, 2**20))):
                digest.update(piece)
                left -= len(piece)
            return digest.hexdigest()
    except Exception:
        return ""
