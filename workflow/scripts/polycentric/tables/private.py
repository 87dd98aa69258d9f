"""Schemas of the private tables: they hold paths and original identifiers and never leave the private folder."""

from __future__ import annotations

import os

from . import Schema
from .schemas import CENTRE, GRID, integer, optional, text

READINGS = ("ok", "forced", "not-dicom", "unreadable")
USES = ("slice", "structure", "structure refused", "dropped", "rejected", "skipped")

INDEX = Schema(
    "index",
    1,
    CENTRE
    | {
        "path": text("file relative to the centre's folder (see encode_path)"),
        "size": integer("bytes"),
        "mtime_ns": integer("time of the last change; only tells whether a row can be reused"),
        "reading": text("how the header could be read", *READINGS),
        "error": optional("text", "type of the error"),
        "truncated": optional("flag", "pixel data are shorter than declared, or absent"),
        "content_sha256": optional("text", "hash of the whole file (structures), of the pixel data (shared positions)"),
        "transfer_syntax": optional("text", "transfer syntax UID"),
        "sop_class": optional("text", "SOP class UID"),
        "sop_instance": optional("text", "SOP instance UID"),
        "modality": optional("text", "DICOM modality"),
        "patient_id": optional("text", "original patient identifier"),
        "study_uid": optional("text", "study instance UID"),
        "series_uid": optional("text", "series instance UID"),
        "frame_uid": optional("text", "frame of reference UID"),
        "study_date": optional("text", "study date"),
        "study_time": optional("text", "study time"),
        "acquisition_time": optional("text", "acquisition time"),
        "content_time": optional("text", "content time"),
        "series_description": optional("text", "series description"),
        "image_type": optional("text", "image type, backslash-separated"),
        "series_number": optional("text", "series number"),
        "acquisition_number": optional("text", "acquisition number"),
        "temporal_position": optional("text", "temporal position identifier"),
        "echo_time_ms": optional("number", "echo time"),
        "instance_number": optional("number", "instance number"),
        "rows": optional("integer", "pixels per column"),
        "columns": optional("integer", "pixels per row"),
        "frames": optional("integer", "frames"),
        "samples": optional("integer", "samples per pixel"),
        "bits_allocated": optional("integer", "bits allocated"),
        "bits_stored": optional("integer", "bits stored"),
        "signed": optional("integer", "pixel representation"),
        "photometric": optional("text", "photometric interpretation"),
        **{f"position_{a}_mm": optional("number", f"position of the first pixel, {a}, LPS") for a in "xyz"},
        "orientation": optional("text", "direction cosines of row and column, blank-separated"),
        "pixel_spacing_x_mm": optional("number", "distance of columns"),
        "pixel_spacing_y_mm": optional("number", "distance of rows"),
        "thickness_mm": optional("number", "nominal slice thickness"),
        "tilt_deg": optional("number", "gantry tilt by its tag, advisory"),
        "slope": optional("number", "rescale slope"),
        "intercept": optional("number", "rescale intercept"),
        "padding_value": optional("number", "pixel padding value, stored"),
        "lossy": optional("text", "lossy image compression"),
        "manufacturer": optional("text", "manufacturer"),
        "model": optional("text", "scanner model"),
        "kernel": optional("text", "convolution kernel"),
        "kvp": optional("number", "tube voltage, kV"),
        "exposure_mas": optional("number", "exposure, mAs"),
        "contrast_tagged": optional("flag", "whether a contrast agent tag is present, empty or not"),
        "contrast_agent": optional("text", "contrast agent"),
        "body_part": optional("text", "body part examined"),
        "structure": optional("text", "JSON: label, date, time, frames, series, instances and regions of an RTSTRUCT"),
    },
    key=("path",),
)
# one row per file of a centre, whatever became of it; contours of two volumes of one series have two
FILES = Schema(
    "files",
    1,
    CENTRE
    | {
        "patient": optional("text", "pseudonym of the patient"),
        "session": optional("text", "pseudonym of the imaging study"),
        "scan": optional("text", "scan, if the file belongs to one"),
        "patient_id": optional("text", "original patient identifier"),
        "study_uid": optional("text", "study instance UID"),
        "series_uid": optional("text", "series instance UID"),
        "use": text("what the file is used for", *USES),
        "code": optional("text", "why it is not used, or what is wrong with it"),
        "order": optional("integer", "position of a slice in the volume, from 0"),
        "path": text("file relative to the centre's folder (see encode_path)"),
        "size": integer("bytes"),
        "sop_instance": optional("text", "SOP instance UID"),
        "content_sha256": optional("text", "hash of the whole file, for structures"),
        "position_mm": optional("number", "position of a slice along the normal"),
        "slope": optional("number", "rescale slope"),
        "intercept": optional("number", "rescale intercept"),
        **GRID,
    },
)
PSEUDONYMS = Schema(
    "pseudonyms",
    1,
    CENTRE
    | {
        "kind": text("what is named", "patient", "session", "scan"),
        "original": optional("text", "original identifier"),
        "pseudonym": text("pseudonym"),
    },
    key=("kind", "pseudonym"),
)

_BYTES = "\x00bytes:"


def encode_path(path: str) -> str:
    """A path as text that Parquet can hold: names that are not UTF-8 become hexadecimal digits."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return _BYTES + os.fsencode(path).hex()


def decode_path(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text.removeprefix(_BYTES))) if text.startswith(_BYTES) else text
