"""Schemas of the tables that pass from one stage to another."""

from __future__ import annotations

from ..columns import (
    BODY_PARTS,
    CENTRE,
    CONTRAST,
    CURATION_COLUMNS,
    FILE,
    GRID,
    PARTS,
    PATIENT,
    PATIENT_COLUMNS,
    PLACES,
    QUESTIONS,
    ROLES,
    SCAN,
    SCAN_COLUMNS,
    integer,
    optional,
    text,
)
from . import Schema

CURATION = Schema(
    "curation",
    3,
    CURATION_COLUMNS,
    key=("scan",),
)
# scans as curation accepted them; the final table of scans adds what their images show
ACCEPTED = Schema(
    "accepted",
    2,
    SCAN
    | {"role": text("role of the centre", *ROLES), "shard": text("shard that handles the patient")}
    | {
        name: CURATION_COLUMNS[name]
        for name in (
            "modality", "verdict", "codes", "slices", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "thickness_mm",
            "length_mm", "manufacturer", "model", "kernel", "kvp", "exposure_mas", "ctdi_mgy", "body_part",
            "dose_words", "contrast", "contrast_tag", "contrast_description", "sequence_tag", "sequence_description",
            "echo_time_ms", "repetition_time_ms", "inversion_time_ms", "field_t", "timepoint", "days", "structures",
        )
    },
    key=("scan",),
)  # fmt: skip
SCANS = Schema(
    "scans",
    3,
    SCAN_COLUMNS,
    key=("scan",),
)
PATIENTS = Schema(
    "patients",
    1,
    PATIENT_COLUMNS,
    key=("patient",),
    open=True,
)
SHARD = Schema(
    "shard",
    1,
    SCAN | {"modality": text("DICOM modality"), "files_sha256": text("hash of the scan's files, as in curation")},
    key=("scan",),
)
FLOW = Schema(
    "flow",
    1,
    CENTRE
    | {
        "step": integer("order of the box in the diagram"),
        "box": text("what is counted: files, candidates, excluded, accepted, ..."),
        "code": optional("text", "reason of an exclusion"),
        "patients": integer("patients"),
        "scans": integer("scans or candidate volumes (files for the first box)"),
    },
)
SPLIT = Schema(
    "split",
    1,
    PATIENT | {"part": text("part of the split", *PARTS), "stratum": optional("text", "stratum of the assignment")},
    key=("patient",),
)
VOLUMES = Schema(
    "volumes",
    2,
    SCAN
    | {"modality": text("DICOM modality"), **FILE, **GRID}
    | {
        "pixels_sha256": optional("text", "hash of the decoded values, before padding is clipped"),
        "unit": optional("text", "unit of the values: HU, SUVbw (g/mL), counts or arbitrary"),
        "codes": optional("text", "codes of what conversion found, semicolon-separated"),
        "repairs": optional("text", "JSON list of repairs made at conversion, each with before and after"),
        "synthetic_slices": optional("text", "numbers of slices that were interpolated, semicolon-separated"),
    },
    key=("scan",),
)
# what the images themselves show, a row per scan of the manifest of volumes
EXAMINED = Schema(
    "examined",
    1,
    SCAN
    | {
        "modality": text("DICOM modality"),
        "status": FILE["status"],
        "reason": FILE["reason"],
        "contrast_image": text("contrast agent present, by the image of a CT", *CONTRAST),
        "contrast_image_confidence": optional("number", "probability that this is right"),
        "blood_hu": optional("number", "median of the large blood pool that was found, HU"),
        "blood_ml": optional("number", "its volume"),
        "blood_place": optional("text", "where: heart with great vessels, or vessel before the spine", *PLACES),
        "muscle_hu": optional("number", "level of the back muscles, HU"),
        "fat_hu": optional("number", "level of fat, HU"),
        "noise_hu": optional("number", "most frequent local standard deviation in soft tissue, HU"),
        "air_hu": optional("number", "level of the air around the patient, HU"),
        "lung_ml": optional("number", "volume of the lungs in the scan"),
        "covers_thorax": text("whether both lungs lie within the scan from apex to base", *CONTRAST),
        "body_part_image": optional("text", "part of the body, by the image", *BODY_PARTS),
        "lung_top_mm": optional("number", "length of the scan above the lungs; 0 where they reach its end"),
        "lung_bottom_mm": optional("number", "length of the scan below the lungs; 0 where they reach its end"),
    },
    key=("scan",),
)
# questions that a person answers: the answers are an input of the study
REVIEW = Schema(
    "review",
    1,
    {
        "centre": CENTRE["centre"],
        "patient": PATIENT["patient"],
        "scan": SCAN["scan"],
        "question": text("what is asked", *QUESTIONS),
        "present": text("what holds until it is answered"),
        "tag": optional("text", "what the tags say"),
        "description": optional("text", "what the descriptions say"),
        "image": optional("text", "what the image says"),
        "blood_hu": optional("number", "median of the large blood pool in the image, HU"),
        "confidence": optional("number", "probability that the present value is right"),
        "why": optional("text", "why it is asked"),
        "answer": optional("text", "to be filled in: yes, no or unknown; complete, incomplete or unknown; ..."),
        "comment": optional("text", "for people"),
    },
    key=("scan", "question"),
)
DUPLICATES = Schema(
    "duplicates",
    1,
    {
        "group": integer("number of the group of scans with identical pixels"),
        "code": text("what it means", "STUDY_DUPLICATE_PATIENT", "PIXELS_REPEATED"),
        **SCAN,
        "pixels_sha256": text("hash of the decoded values"),
    },
    key=("scan",),
)
VIEWS = Schema(
    "views",
    3,
    SCAN
    | {"view": text("view"), "fold": text("fold"), **FILE, **GRID}
    | {
        "moved": optional(
            "text",
            "how registration moved the image against its scan: p' = R p + t in mm, LPS; R row-major, then t; "
            "blank-separated, empty if it did not",
        ),
        "diagnostics": optional("text", "JSON list of what the steps found: step, kind and figures"),
    },
    key=("scan", "view", "fold"),
)
MASKS = Schema(
    "masks",
    2,
    SCAN
    | {
        "source": text("mask source"),
        "fold": text("fold"),
        "roi": text("region of interest; * where the scan as a whole failed"),
        **FILE,
        "voxels": optional("integer", "voxels of the mask"),
        "volume_ml": optional("number", "volume of the mask"),
        "contour_volume_ml": optional("number", "area of the planar contours times the slice distance, even-odd"),
        "kind": optional("text", "what it was made from", "RTSTRUCT", "SEG", "image"),
        "regions": optional("text", "regions it was made from, by name where the name can name nobody"),
        "nested_ml": optional("number", "volume inside of contours that even-odd filling leaves out, union - even-odd"),
        "overlap_ml": optional("number", "sum of the volumes of regions taken together - volume of their union"),
        "components": optional("integer", "separate pieces, neighbours by face, edge or corner"),
        "codes": optional("text", "codes of what was found, semicolon-separated"),
        "notes": optional("text", "what was found, in words"),
        "repairs": optional("text", "JSON list of repairs, each with before and after"),
    },
    key=("scan", "source", "fold", "roi"),
)
# further columns: the features, float64
FEATURES = Schema(
    "features",
    2,
    SCAN
    | {
        "set": text("feature set"),
        "view": optional("text", "view"),
        "source": optional("text", "mask source; of imported features the reader"),
        "roi": text("region of interest"),
        "fold": text("fold"),
        "perturbation": optional("text", "perturbation of image and masks; empty: as they are"),
        "status": FILE["status"],
        "reason": FILE["reason"],
        "diagnostics": optional("text", "JSON about the extraction: voxel counts, image ranges, versions"),
    },
    key=("scan", "set", "source", "roi", "fold", "perturbation"),
    open=True,
)
# what an analysis or a reader study shows: figures and tables with their captions
ARTEFACTS = Schema(
    "artefacts",
    1,
    {
        "kind": text("figure, picture or table", "figure", "picture", "table"),
        "path": text("file relative to the study's results folder"),
        "sha256": text("SHA-256 of that file"),
        "title": text("short title"),
        "caption": text("what it shows, with n and units"),
        "data": optional("text", "CSV of the plotted numbers, relative to the results folder"),
    },
    key=("path",),
)
