"""Registry of defect codes: what each means, its default verdict, and which verdicts a study file may give instead.

A later code is one line here and one check in `polycentric.curation.checks` (or in `structures`, or in
`polycentric.convert` for what only the contours or the pixels can show).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["accept", "flag", "repair", "reject"]
SEVERITY: tuple[Verdict, ...] = ("accept", "flag", "repair", "reject")
Level = Literal["file", "series", "structure"]


@dataclass(frozen=True)
class Code:
    """A defect: its level, its default verdict, the verdicts that can be given instead, and its meaning.

    A rejecting code that is `final` ends the examination: what follows has nothing to stand on. A code of level
    structure concerns contours: its rejection costs the contours, never the scan. Defects after which no regular grid
    describes the slices cannot be accepted: other tools do so and get distances wrong without a word.
    """

    level: Level
    default: Verdict
    others: tuple[Verdict, ...]
    meaning: str
    final: bool = False


CODES: dict[str, Code] = {
    "FILE_NOT_DICOM": Code("file", "flag", (), "not a DICOM file"),
    "FILE_UNREADABLE": Code("file", "flag", (), "a DICOM file whose header cannot be read"),
    "MODALITY_WRONG": Code("series", "reject", (), "not of a wanted modality", final=True),
    "PATIENT_ID_EMPTY": Code("series", "reject", (), "no patient identifier"),
    "PATIENT_ID_CONFLICT": Code("series", "reject", (), "several patient identifiers in one series"),
    "SECONDARY_CAPTURE": Code("series", "reject", (), "a picture of a screen, not an acquisition", final=True),
    "MULTIFRAME_ENHANCED": Code("series", "reject", (), "several frames in one file, not supported yet", final=True),
    "MOSAIC": Code("series", "reject", (), "several slices tiled in one picture, not supported", final=True),
    "SERIES_ALL_LOCALIZER": Code("series", "reject", (), "nothing but localizers", final=True),
    "GEOM_NO_POSITION": Code("series", "reject", (), "slices without position or orientation", final=True),
    "FILE_NO_META": Code("file", "repair", ("flag", "reject"), "file without DICOM preamble, read nevertheless"),
    "FILE_TRUNCATED": Code("file", "reject", (), "pixel data are cut off"),
    "TS_COMPRESSED_OK": Code("series", "accept", ("flag", "reject"), "losslessly compressed"),
    "TS_LOSSY": Code("series", "flag", ("accept", "reject"), "pixel data were compressed with loss"),
    "TS_BIG_ENDIAN": Code("series", "accept", ("flag", "reject"), "big-endian encoding"),
    "TS_DEFLATED": Code("series", "accept", ("flag", "reject"), "deflated encoding"),
    "TS_UNDECODABLE": Code("series", "reject", (), "transfer syntax that cannot be decoded"),
    "SERIES_MIXED_TS": Code("series", "flag", ("accept", "reject"), "several transfer syntaxes in one series"),
    "LOCALIZER_IN_SERIES": Code("series", "repair", ("reject",), "localizers among the slices, set aside"),
    "UID_EMPTY_OR_INVALID": Code("file", "repair", ("reject",), "series or instances without identifier"),
    "DUP_EXACT": Code("file", "repair", ("reject",), "copies of a slice, set aside"),
    "SERIES_MULTI_ACQ": Code("series", "repair", ("reject",), "several acquisitions in one series, told apart"),
    "DUP_POSITION_DIFF_PIXELS": Code("series", "reject", (), "different images at one position"),
    "TOO_FEW_SLICES": Code("series", "reject", ("flag", "accept"), "too few slices for a volume"),
    "GEOM_SINGLE_POSITION": Code("series", "reject", (), "all slices at one position", final=True),
    "GEOM_MATRIX_MIXED": Code("series", "reject", (), "slices of different matrix or pixel spacing", final=True),
    "GEOM_MIXED_ORIENTATION": Code("series", "reject", (), "slices of different orientation", final=True),
    "GEOM_MISSING_SLICE": Code("series", "reject", (), "slices are missing"),
    "GEOM_VARIABLE_SPACING": Code("series", "reject", (), "slice distance varies"),
    "GEOM_JITTER": Code("series", "accept", ("flag", "reject"), "slice distance varies within tolerance"),
    "GEOM_GANTRY_TILT": Code("series", "reject", (), "slices are sheared against their normal"),
    "GEOM_NOT_AXIAL": Code("series", "reject", ("flag", "accept"), "slices are not axial"),
    "GEOM_ANISO_PIXEL": Code("series", "flag", ("accept", "reject"), "pixels are not square"),
    "THICKNESS_NE_SPACING": Code("series", "flag", ("accept", "reject"), "slices overlap or leave gaps"),
    "THICKNESS_MIXED": Code("series", "reject", ("flag", "accept"), "slices of different thickness"),
    "THICKNESS_OUT_OF_RANGE": Code("series", "reject", ("flag", "accept"), "slice thickness outside the wanted range"),
    "SCAN_LENGTH_OUT_OF_RANGE": Code("series", "reject", ("flag", "accept"), "too long or too short a scan"),
    "RESCALE_MISSING": Code("series", "reject", ("flag", "accept"), "no rescale slope or intercept"),
    "RESCALE_VARIES": Code("series", "accept", ("flag", "reject"), "rescale slope or intercept varies between slices"),
    "HU_IMPLAUSIBLE": Code("series", "flag", ("accept", "reject"), "values below the Hounsfield scale, clipped"),
    "KERNEL_MISSING": Code("series", "flag", ("accept", "reject"), "no convolution kernel"),
    "KERNEL_NOT_ALLOWED": Code("series", "reject", ("flag", "accept"), "convolution kernel that is not wanted"),
    "CONTRAST_CONFLICT": Code("series", "flag", ("accept", "reject"), "contrast tag and description disagree"),
    "STUDYTIME_VARIES": Code("series", "accept", ("flag", "reject"), "study time differs between slices"),
    "RT_NO_IMAGE": Code("structure", "reject", (), "contours whose images are not there"),
    "RT_SERIES_MISMATCH": Code("structure", "repair", ("reject",), "contours name another series of the same frame"),
    "RT_SOPREF_STALE": Code("structure", "repair", ("accept", "reject"), "contours name slices that do not exist"),
    "RT_MULTIPLE_FOR_SERIES": Code("structure", "reject", (), "several structure sets for one scan"),
    "RT_ROI_MISSING": Code("structure", "reject", (), "the wanted region is not there"),
    "RT_ROI_AMBIGUOUS": Code("structure", "reject", (), "several regions match"),
    "RT_EMPTY_ROI": Code("structure", "flag", (), "region without contours"),
    "RT_POINT_ONLY": Code("structure", "flag", (), "region of points only"),
    "RT_OUT_OF_VOLUME": Code("structure", "reject", (), "contours outside the image"),
    "RT_OFFGRID_Z": Code("structure", "reject", (), "contours between slices"),
    "RT_DUP_CONTOUR": Code("structure", "repair", (), "contours stored more than once, copies removed"),
    "RT_NESTED": Code("structure", "accept", (), "nested contours, filled even-odd"),
    "RT_NONPLANAR_CONTOUR": Code("structure", "flag", (), "contours that do not lie in a slice, left out"),
    "RT_OPEN_CONTOUR": Code("structure", "flag", (), "open contours or fewer than three points, left out"),
    "RT_MISSING_INTERMEDIATE": Code("structure", "flag", (), "contours skip slices"),
    "MASK_EMPTY": Code("structure", "reject", (), "contours that hold no voxel centre"),
}  # fmt: skip
ORDER = {code: number for number, code in enumerate(CODES)}
