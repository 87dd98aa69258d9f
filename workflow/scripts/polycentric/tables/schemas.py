"""Schemas of the tables that pass from one stage to another."""

from __future__ import annotations

from . import PARTS, STATUS, Column, Schema


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

CURATION = Schema(
    "curation",
    3,
    SCAN
    | {
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
    },
    key=("scan",),
)
# scans as curation accepted them; the final table of scans adds what their images show
ACCEPTED = Schema(
    "accepted",
    2,
    SCAN
    | {"role": text("role of the centre", *ROLES), "shard": text("shard that handles the patient")}
    | {
        name: CURATION.columns[name]
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
    SCAN
    | {
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
        "sequence_tag": CURATION.columns["sequence_tag"],
        "sequence_description": CURATION.columns["sequence_description"],
        "dose": optional("text", "dose of a CT", *DOSES),
        "dose_source": optional("text", "what shows the dose", *DOSE_SOURCES),
        "noise_hu": optional("number", "most frequent local standard deviation in soft tissue, HU"),
        "coverage": optional("text", "whether a CT shows the whole thorax, apex to base", *COVERAGE),
        "body_part_image": optional("text", "part of the body, by the image", *BODY_PARTS),
        "timepoint": CURATION.columns["timepoint"],
        "days": CURATION.columns["days"],
        "status": optional("text", "what became of the scan at conversion", *STATUS),
        "verdict": text("what curation decided", "accept", "flag", "repair"),
        "codes": optional("text", "defect codes, semicolon-separated"),
        **{
            name: CURATION.columns[name]
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
    },
    key=("scan",),
)
# further columns: the clinical table's, with their declared names and types
PATIENTS = Schema(
    "patients",
    1,
    PATIENT
    | {
        "role": text("role of the centre", *ROLES),
        "scans": integer("accepted scans"),
        "clinical": Column("flag", "whether the clinical table has a row for the patient"),
    },
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
