"""Columns of the tables between stages that a study file may name: scans and patients. Needs no pandas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STATUS = ("ok", "rejected", "failed", "missing")
PARTS = ("training", "validation", "test", "external")
Kind = Literal["text", "integer", "number", "flag"]


@dataclass(frozen=True)
class Column:
    """A column: its kind, what it holds, whether it may be empty, and its closed set of values if it has one."""

    kind: Kind
    description: str
    required: bool = True
    values: tuple[str, ...] = ()


def text(description: str, *values: str) -> Column:
    return Column("text", description, True, values)


def optional(kind: str, description: str, *values: str) -> Column:
    return Column(kind, description, False, values)  # type: ignore[arg-type]


def integer(description: str) -> Column:
    return Column("integer", description)


def number(description: str) -> Column:
    return Column("number", description)


VERDICTS = ("accept", "flag", "repair", "reject")
CONTRAST = ("yes", "no", "unknown")
ROLES = ("development", "external")
PLACES = ("heart", "vessel")
BODY_PARTS = ("chest", "abdomen", "other")
DOSES = ("low", "standard", "unknown")
DOSE_SOURCES = ("review", "ctdi", "exposure", "description", "none")
COVERAGE = ("complete", "incomplete", "unknown")
QUESTIONS = ("contrast", "coverage", "dose", "sequence")
# what an MR image shows; other is what the words name and this list does not, such as perfusion and angiography
SEQUENCES = (
    "T1", "T1+Gd", "T2", "FLAIR", "PD", "STIR", "T2*", "SWI", "DWI", "ADC", "in-phase", "out-of-phase", "water", "fat",
    "other", "unknown",
)  # fmt: skip
SOURCES = ("review", "image", "tag", "description", "assumed", "none")

CENTRE = {"centre": text("name of the centre in the study file")}
PATIENT = CENTRE | {"patient": text("pseudonym of the patient")}
SCAN = PATIENT | {
    "session": text("pseudonym of the imaging study (one visit)"),
    "scan": text("id of the scan: HMAC of its series UID and sub-volume"),
}
FILE = {
    "path": optional("text", "file relative to the study's results folder; empty unless status is ok"),
    "sha256": optional("text", "SHA-256 of that file"),
    "status": text("what became of the scan in this stage", *STATUS),
    "reason": optional("text", "why, if not ok: CODE: explanation"),
}
GRID = {
    **{f"size_{a}": optional("integer", f"voxels along {a}") for a in "xyz"},
    **{f"spacing_{a}_mm": optional("number", f"voxel spacing along {a}") for a in "xyz"},
    **{f"origin_{a}_mm": optional("number", f"LPS position of the first voxel, {a}") for a in "xyz"},
    "direction": optional("text", "direction cosines, row-major, blank-separated"),
}

CURATION_COLUMNS = SCAN | {
    "modality": text("DICOM modality"),
    "verdict": text("what curation decided", *VERDICTS),
    "codes": optional("text", "defect codes, semicolon-separated"),
    "excluded": optional("text", "the one code under which a rejected candidate is counted"),
    "reason": optional("text", "the codes in words"),
    "repairs": optional("text", "JSON list of repairs, each with before and after"),
    "geometry_before": optional("text", "JSON: size, spacing, origin, direction of the stack as acquired"),
    "geometry_after": optional("text", "JSON: the same of the grid it is converted to"),
    "files": integer("number of files of the candidate volume"),
    "files_sha256": text("hash of the sorted instance identifiers and sizes"),
    "slices": optional("integer", "slices after repair"),
    "rows": optional("integer", "pixels per column"),
    "columns": optional("integer", "pixels per row"),
    "spacing_x_mm": optional("number", "pixel spacing along a row"),
    "spacing_y_mm": optional("number", "pixel spacing along a column"),
    "spacing_z_mm": optional("number", "median distance of slice positions"),
    "thickness_mm": optional("number", "nominal slice thickness"),
    "length_mm": optional("number", "distance of first and last slice position"),
    "manufacturer": optional("text", "manufacturer"),
    "model": optional("text", "scanner model"),
    "kernel": optional("text", "convolution kernel"),
    "kvp": optional("number", "tube voltage, kV"),
    "exposure_mas": optional("number", "exposure, mAs"),
    "ctdi_mgy": optional("number", "volume CT dose index, mGy"),
    "body_part": optional("text", "body part examined, by its tag"),
    "dose_words": optional("text", "dose by the words of the descriptions", "low", "standard"),
    "contrast": text("contrast agent present, by tag and description", *CONTRAST),
    "contrast_tag": text("contrast agent present, by its tag", *CONTRAST),
    "contrast_description": text("contrast agent present, by the descriptions", *CONTRAST),
    "sequence_tag": optional("text", "kind of MR image, by its tags and the times of its pulses", *SEQUENCES),
    "sequence_description": optional("text", "kind of MR image, by the descriptions", *SEQUENCES),
    "echo_time_ms": optional("number", "echo time"),
    "repetition_time_ms": optional("number", "repetition time"),
    "inversion_time_ms": optional("number", "inversion time"),
    "field_t": optional("number", "magnetic field strength, T"),
    "timepoint": optional("integer", "number of the visit among the patient's, from 1, by date"),
    "days": optional("integer", "days since the patient's first visit"),
    "transfer_syntax": optional("text", "transfer syntax UID"),
    "structures": optional("integer", "RTSTRUCT or SEG objects that can be mapped to the scan"),
}
SCAN_COLUMNS = SCAN | {
    "role": text("role of the centre", *ROLES),
    "shard": text("shard that handles the patient"),
    "modality": text("DICOM modality"),
    "contrast": text("contrast agent present, by all evidence", *CONTRAST),
    "contrast_source": optional("text", "the evidence that weighs most for it", *SOURCES),
    "contrast_confidence": optional("number", "probability that it is right"),
    "contrast_tag": optional("text", "contrast agent present, by its tag", *CONTRAST),
    "contrast_description": optional("text", "contrast agent present, by the descriptions", *CONTRAST),
    "contrast_image": optional("text", "contrast agent present, by the image", *CONTRAST),
    "blood_hu": optional("number", "median of the large blood pool in the image, HU"),
    "sequence": optional("text", "kind of MR image, by all evidence; empty for others", *SEQUENCES),
    "sequence_source": optional("text", "the evidence that decides it", *SOURCES),
    "sequence_tag": CURATION_COLUMNS["sequence_tag"],
    "sequence_description": CURATION_COLUMNS["sequence_description"],
    "dose": optional("text", "dose of a CT", *DOSES),
    "dose_source": optional("text", "what shows the dose", *DOSE_SOURCES),
    "noise_hu": optional("number", "most frequent local standard deviation in soft tissue, HU"),
    "coverage": optional("text", "whether a CT shows the whole thorax, apex to base", *COVERAGE),
    "body_part_image": optional("text", "part of the body, by the image", *BODY_PARTS),
    "timepoint": CURATION_COLUMNS["timepoint"],
    "days": CURATION_COLUMNS["days"],
    "status": optional("text", "what became of the scan at conversion", *STATUS),
    "verdict": text("what curation decided", "accept", "flag", "repair"),
    "codes": optional("text", "defect codes, semicolon-separated"),
    **{
        name: CURATION_COLUMNS[name]
        for name in (
            "slices",
            "spacing_x_mm",
            "spacing_y_mm",
            "spacing_z_mm",
            "thickness_mm",
            "length_mm",
            "manufacturer",
            "model",
            "kernel",
            "kvp",
            "exposure_mas",
            "ctdi_mgy",
            "echo_time_ms",
            "repetition_time_ms",
            "inversion_time_ms",
            "field_t",
            "body_part",
            "structures",
        )
    },
}
# further columns: the clinical table's, with their declared names and types
PATIENT_COLUMNS = PATIENT | {
    "role": text("role of the centre", *ROLES),
    "scans": integer("accepted scans"),
    "clinical": Column("flag", "whether the clinical table has a row for the patient"),
}
