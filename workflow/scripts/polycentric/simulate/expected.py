"""What curation should make of each injected defect, by default thresholds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Level and verdict of a defect, and how many scans and tumour masks its patient keeps."""

    level: str
    verdict: str
    scans: int = 1
    masks: int = 1


EXPECTED: dict[str, Expected] = {
    "FILE_NOT_DICOM": Expected("file", "flag"),
    "FILE_NO_META": Expected("file", "repair"),
    "FILE_TRUNCATED": Expected("series", "reject", 0, 0),
    "MODALITY_WRONG": Expected("extra series", "reject"),
    "LOCALIZER_IN_SERIES": Expected("series", "repair"),
    "SERIES_ALL_LOCALIZER": Expected("extra series", "reject"),
    "TOO_FEW_SLICES": Expected("extra series", "reject"),
    "SECONDARY_CAPTURE": Expected("extra series", "reject"),
    "GEOM_NO_POSITION": Expected("series", "reject", 0, 0),
    "GEOM_MISSING_SLICE": Expected("series", "reject", 0, 0),
    "GEOM_VARIABLE_SPACING": Expected("series", "reject", 0, 0),
    "GEOM_JITTER": Expected("series", "accept"),
    "GEOM_GANTRY_TILT": Expected("series", "repair"),
    "DUP_EXACT": Expected("series", "repair"),
    "SERIES_MULTI_ACQ": Expected("series", "repair", 2, 2),
    "RESCALE_MISSING": Expected("series", "reject", 0, 0),
    "HU_IMPLAUSIBLE": Expected("series", "flag"),
    "KERNEL_MISSING": Expected("series", "flag"),
    "CONTRAST_CONFLICT": Expected("series", "flag"),
    "PATIENT_ID_EMPTY": Expected("series", "reject", 0, 0),
    "PATIENT_ID_CONFLICT": Expected("series", "reject", 0, 0),
    "STUDYTIME_VARIES": Expected("series", "accept"),
    "RT_NO_IMAGE": Expected("structure", "reject", 1, 0),
    "RT_SOPREF_STALE": Expected("structure", "repair"),
    "RT_ROI_MISSING": Expected("structure", "reject", 1, 0),
    "RT_EMPTY_ROI": Expected("structure", "flag"),
    "RT_DUP_CONTOUR": Expected("structure", "repair"),
}
