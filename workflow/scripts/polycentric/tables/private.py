"""Schemas of the private tables: they hold paths and original identifiers and never leave the private folder."""

from __future__ import annotations

import os

from . import Schema
from .schemas import CENTRE, GRID, integer, optional, text

# how a file could be read: as DICOM, as DICOM without preamble, as an image of a table (NIfTI, NRRD, MHA, PNG, ...),
# as a DICOMDIR, as an archive that is not opened, not at all
READINGS = ("ok", "forced", "image", "directory", "archive", "not-dicom", "unreadable")
USES = ("slice", "structure", "structure refused", "dropped", "rejected", "skipped")

# shear: gantry tilt, slices shifted in their planes; resample: variable slice distance; interpolate: missing slices
GEOMETRY_REPAIRS = ("shear", "resample", "interpolate")

INDEX = Schema(
    "index",
    3,
    CENTRE
    | {
        "path": text("file relative to the centre's folder (see encode_path); archive.zip//member in an archive"),
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
        "series_date": optional("text", "series date"),
        "series_time": optional("text", "series time"),
        "acquisition_date": optional("text", "acquisition date"),
        "series_description": optional("text", "series description"),
        "study_description": optional("text", "study description"),
        "protocol": optional("text", "protocol name"),
        "image_type": optional("text", "image type, backslash-separated"),
        "series_number": optional("text", "series number"),
        "acquisition_number": optional("text", "acquisition number"),
        "temporal_position": optional("text", "temporal position identifier"),
        "echo_time_ms": optional("number", "echo time"),
        "instance_number": optional("number", "instance number"),
        "repetition_time_ms": optional("number", "repetition time"),
        "inversion_time_ms": optional("number", "inversion time"),
        "b_value": optional("number", "diffusion b-value, s/mm2"),
        "field_t": optional("number", "magnetic field strength, T"),
        "sequence": optional("text", "name of the pulse sequence"),
        "scanning_sequence": optional("text", "kind of pulse sequence: SE, GR, IR, EP, backslash-separated"),
        "sequence_variant": optional("text", "variants of the pulse sequence, backslash-separated"),
        "acquisition_contrast": optional("text", "acquisition contrast, as enhanced MR gives it"),
        "rows": optional("integer", "pixels per column"),
        "columns": optional("integer", "pixels per row"),
        "frames": optional("integer", "frames"),
        "samples": optional("integer", "samples per pixel"),
        "bits_allocated": optional("integer", "bits allocated"),
        "bits_stored": optional("integer", "bits stored"),
        "high_bit": optional("integer", "high bit"),
        "signed": optional("integer", "pixel representation"),
        "photometric": optional("text", "photometric interpretation"),
        **{f"position_{a}_mm": optional("number", f"position of the first pixel, {a}, LPS") for a in "xyz"},
        "orientation": optional("text", "direction cosines of row and column, blank-separated"),
        "pixel_spacing_x_mm": optional("number", "distance of columns"),
        "pixel_spacing_y_mm": optional("number", "distance of rows"),
        "slice_location_mm": optional("number", "slice location by its tag, advisory"),
        "thickness_mm": optional("number", "nominal slice thickness"),
        "tilt_deg": optional("number", "gantry tilt by its tag, advisory"),
        "slope": optional("number", "rescale slope"),
        "intercept": optional("number", "rescale intercept"),
        "rescale_type": optional("text", "unit of the rescaled values"),
        "padding_value": optional("number", "pixel padding value, stored"),
        "lossy": optional("text", "lossy image compression"),
        "manufacturer": optional("text", "manufacturer"),
        "model": optional("text", "scanner model"),
        "kernel": optional("text", "convolution kernel"),
        "kvp": optional("number", "tube voltage, kV"),
        "exposure_mas": optional("number", "exposure, mAs"),
        "ctdi_mgy": optional("number", "volume CT dose index, mGy"),
        "field_of_view_mm": optional("number", "reconstruction diameter"),
        "pet": optional("text", "JSON: what standardised uptake values need, of PET"),
        "burned_in": optional("text", "burned-in annotation"),
        "synthetic": optional("text", "whether the object says that its pixels were made by a model"),
        "identity_removed": optional("text", "patient identity removed, as the file says"),
        "identifying": optional("text", "keywords of identifying elements that hold a value, semicolon-separated"),
        "contrast_tagged": optional("flag", "whether a contrast agent tag is present, empty or not"),
        "contrast_agent": optional("text", "contrast agent"),
        "body_part": optional("text", "body part examined"),
        "frame_facts": optional("text", "JSON list: position, orientation, spacing, rescaling ... of each frame"),
        "structure": optional("text", "JSON: label, date, frames, series, instances, regions of an RTSTRUCT or SEG"),
        "table_row": optional("text", "JSON: what the table of images says of this file"),
    },
    key=("path",),
)
# one row per file of a centre, whatever became of it; contours of two volumes of one series have two
FILES = Schema(
    "files",
    2,
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
        "order": optional("integer", "position of a slice in the stack, from 0"),
        "frame": optional("integer", "frame of the file that is the slice, from 0; empty if it has one"),
        "path": text("file relative to the centre's folder (see encode_path); archive.zip//member in an archive"),
        "reading": optional("text", "how the file could be read", *READINGS),
        "modality": optional("text", "DICOM modality"),
        "size": integer("bytes"),
        "sop_instance": optional("text", "SOP instance UID"),
        "content_sha256": optional("text", "hash of the whole file, for structures"),
        "position_mm": optional("number", "position of a slice along the normal, as acquired"),
        "offset_x_mm": optional("number", "displacement of a slice along its rows against the first, as acquired"),
        "offset_y_mm": optional("number", "displacement of a slice along its columns against the first, as acquired"),
        "geometry_repair": optional("text", "how the stack is brought onto the grid", *GEOMETRY_REPAIRS),
        "slope": optional("number", "rescale slope"),
        "intercept": optional("number", "rescale intercept"),
        "suv_factor": optional("number", "g/mL per rescaled value, of PET"),
        "structure": optional("text", "JSON: how a mask file is to be read"),
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
