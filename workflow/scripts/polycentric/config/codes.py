"""Registry of defect codes: what each means, where it is found, its default verdict, and which others are possible.

A later code is one line here and one check in the stage that finds it: `polycentric.curation` (headers and positions),
`polycentric.convert` (pixels and contours) or `polycentric.cohort` (the centres together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["accept", "flag", "repair", "reject"]
SEVERITY: tuple[Verdict, ...] = ("accept", "flag", "repair", "reject")
Level = Literal["file", "series", "structure", "study"]
Stage = Literal["curate", "convert", "cohort"]


@dataclass(frozen=True)
class Code:
    """A defect: its level, its default verdict, the verdicts that can be given instead, its meaning, and its stage.

    A rejecting code that is `final` ends the examination: what follows has nothing to stand on. A code of level
    structure concerns contours: its rejection costs the contours, never the scan. A finding that cannot be repaired is
    rejected where the verdict is repair. Defects after which no regular grid describes the slices cannot be accepted as
    they are: other tools do so and get distances wrong without a word.
    """

    level: Level
    default: Verdict
    others: tuple[Verdict, ...]
    meaning: str
    final: bool = False
    stage: Stage = "curate"


CODES: dict[str, Code] = {
    "FILE_NOT_DICOM": Code("file", "flag", (), "not a DICOM file"),
    "FILE_UNREADABLE": Code("file", "flag", (), "a file whose header cannot be read"),
    "FILE_DICOMDIR": Code("file", "accept", (), "a DICOMDIR; the files themselves are read, not their directory"),
    "FILE_ARCHIVE_REFUSED": Code(
        "file", "flag", (), "an archive that is damaged, encrypted, nested or unreasonably large"
    ),
    "FILE_NOT_LISTED": Code("file", "flag", (), "an image that the table of images does not name"),
    "MODALITY_WRONG": Code("series", "reject", (), "not of a wanted modality", final=True),
    "MODALITY_TAG_SUSPECT": Code(
        "series", "reject", ("flag",), "modality disagrees with the kind of object or its values"
    ),
    "PATIENT_ID_EMPTY": Code(
        "series", "repair", ("reject",), "no patient identifier; taken from the folder where the study says how"
    ),
    "PATIENT_ID_CONFLICT": Code("series", "reject", (), "several patient identifiers in one series"),
    "SECONDARY_CAPTURE": Code("series", "reject", (), "a picture of a screen, not an acquisition", final=True),
    "SYNTHETIC_IMAGE": Code(
        "series", "flag", ("accept", "reject"), "made by a model, not acquired, as the object says (0008,001C)"
    ),
    "PHI_BURNED_IN": Code("series", "reject", ("flag",), "identity may be written into the picture"),
    "PHI_RESIDUAL_TAG": Code(
        "series", "reject", ("flag", "accept"), "identifying elements in data declared de-identified"
    ),
    "MOSAIC": Code("series", "reject", (), "several slices tiled in one picture, not supported", final=True),
    "SERIES_ALL_LOCALIZER": Code("series", "reject", (), "nothing but localizers", final=True),
    "MULTIFRAME_ENHANCED": Code("series", "accept", ("flag", "reject"), "several frames in one file"),
    "GEOM_NO_POSITION": Code("series", "reject", ("repair",), "slices without position or orientation", final=True),
    "FILE_NO_META": Code("file", "repair", ("flag", "reject"), "file without DICOM preamble, read nevertheless"),
    "FILE_TRUNCATED": Code("file", "reject", (), "pixel data are cut off"),
    "TS_COMPRESSED_OK": Code("series", "accept", ("flag", "reject"), "losslessly compressed"),
    "TS_LOSSY": Code("series", "flag", ("accept", "reject"), "pixel data were compressed with loss"),
    "TS_BIG_ENDIAN": Code("series", "accept", ("flag", "reject"), "big-endian encoding"),
    "TS_DEFLATED": Code("series", "accept", ("flag", "reject"), "deflated encoding"),
    "TS_UNDECODABLE": Code("series", "reject", (), "pixel data that cannot be decoded"),
    "SERIES_MIXED_TS": Code("series", "flag", ("accept", "reject"), "several transfer syntaxes in one series"),
    "SERIES_FRAGMENTED": Code(
        "series", "repair", ("reject",), "one stack whose slices carry series identifiers of their own"
    ),
    "LOCALIZER_IN_SERIES": Code("series", "repair", ("reject",), "localizers among the slices, set aside"),
    "UID_EMPTY_OR_INVALID": Code("file", "repair", ("reject",), "series or instances without valid identifier"),
    "UID_COLLISION": Code("series", "reject", (), "one instance identifier for different images"),
    "DUP_EXACT": Code("file", "repair", ("reject",), "copies of a slice, set aside"),
    "SERIES_MULTI_ACQ": Code("series", "repair", ("reject",), "several acquisitions in one series, told apart"),
    "DUP_POSITION_DIFF_PIXELS": Code("series", "repair", ("reject",), "different images at one position"),
    "TOO_FEW_SLICES": Code("series", "reject", ("flag", "accept"), "too few slices for a volume"),
    "GEOM_SINGLE_POSITION": Code("series", "reject", (), "all slices at one position", final=True),
    "GEOM_MATRIX_MIXED": Code(
        "series", "repair", ("reject",), "slices of different matrix or pixel spacing", final=True
    ),
    "GEOM_MIXED_ORIENTATION": Code("series", "repair", ("reject",), "slices of different orientation", final=True),
    "GEOM_MISSING_SLICE": Code("series", "reject", ("repair",), "slices are missing"),
    "GEOM_VARIABLE_SPACING": Code("series", "reject", ("repair",), "slice distance varies"),
    "GEOM_JITTER": Code("series", "accept", ("flag", "reject"), "slice distance varies within tolerance"),
    "GEOM_GANTRY_TILT": Code("series", "repair", ("reject",), "slices are sheared against their normal"),
    "GEOM_NOT_AXIAL": Code("series", "reject", ("flag", "accept"), "slices are not axial"),
    "GEOM_NO_SPACING": Code(
        "series", "flag", ("accept", "reject"), "pixel spacing of planar images is not known, 1 mm assumed"
    ),
    "GEOM_ANISO_PIXEL": Code("series", "flag", ("accept", "reject"), "pixels are not square"),
    "THICKNESS_NE_SPACING": Code("series", "flag", ("accept", "reject"), "slices overlap or leave gaps"),
    "THICKNESS_MIXED": Code("series", "reject", ("flag", "accept"), "slices of different thickness"),
    "THICKNESS_OUT_OF_RANGE": Code("series", "reject", ("flag", "accept"), "slice thickness outside the wanted range"),
    "PIXEL_SPACING_OUT_OF_RANGE": Code(
        "series", "reject", ("flag", "accept"), "pixel spacing outside the wanted range"
    ),
    "MATRIX_NOT_ALLOWED": Code("series", "reject", ("flag", "accept"), "a matrix that is not wanted"),
    "SCAN_LENGTH_OUT_OF_RANGE": Code("series", "reject", ("flag", "accept"), "too long or too short a scan"),
    "RESCALE_MISSING": Code("series", "reject", ("repair", "flag", "accept"), "no rescale slope or intercept"),
    "RESCALE_VARIES": Code("series", "accept", ("flag", "reject"), "rescale slope or intercept varies between slices"),
    "HU_IMPLAUSIBLE": Code("series", "flag", ("accept", "reject"), "values below the Hounsfield scale, clipped"),
    "SUV_UNCOMPUTABLE": Code("series", "reject", ("flag", "accept"), "standardised uptake values cannot be computed"),
    "KERNEL_MISSING": Code("series", "flag", ("accept", "reject"), "no convolution kernel"),
    "KERNEL_NOT_ALLOWED": Code("series", "reject", ("flag", "accept"), "convolution kernel that is not wanted"),
    "CONTRAST_CONFLICT": Code("series", "flag", ("accept", "reject"), "contrast tag and description disagree"),
    "STUDYTIME_VARIES": Code("series", "accept", ("flag", "reject"), "study time differs between slices"),
    "HU_AIR_OFF": Code("series", "reject", ("flag", "accept"), "air is not at -1000 HU", stage="convert"),
    "HU_CLIPPED": Code("series", "flag", ("accept", "reject"), "values end at a 12-bit limit", stage="convert"),
    "COLOUR_TO_GREY": Code(
        "series", "flag", ("accept", "reject"), "colour pictures, taken as their brightness", stage="convert"
    ),
    "GREY_INVERTED": Code(
        "series",
        "repair",
        ("flag", "accept", "reject"),
        "pictures whose high values are dark, turned over",
        stage="convert",
    ),
    "PIXELREP_MISMATCH": Code(
        "series", "repair", ("flag", "reject"), "stored values disagree with their declared sign", stage="convert"
    ),
    "STUDY_DUPLICATE_PATIENT": Code(
        "study", "reject", ("flag",), "identical pixels under two patients or centres", stage="cohort"
    ),
    "PIXELS_REPEATED": Code(
        "study", "flag", (), "identical pixels twice for one patient of one centre", stage="cohort"
    ),
    "RT_NO_IMAGE": Code("structure", "reject", (), "contours whose images are not there"),
    "RT_SERIES_MISMATCH": Code("structure", "repair", ("reject",), "contours name another series of the same frame"),
    "RT_SOPREF_STALE": Code("structure", "repair", ("accept", "reject"), "contours name slices that do not exist"),
    "RT_MULTIPLE_FOR_SERIES": Code("structure", "reject", (), "several structure sets for one scan", stage="convert"),
    "RT_ROI_MISSING": Code("structure", "reject", (), "the wanted region is not there", stage="convert"),
    "RT_ROI_AMBIGUOUS": Code("structure", "reject", (), "several regions match", stage="convert"),
    "RT_EMPTY_ROI": Code("structure", "flag", ("reject",), "region without contours", stage="convert"),
    "RT_POINT_ONLY": Code("structure", "flag", ("reject",), "region of points only", stage="convert"),
    "RT_OUT_OF_VOLUME": Code("structure", "reject", ("flag",), "contours outside the image", stage="convert"),
    "RT_OFFGRID_Z": Code("structure", "reject", ("repair",), "contours between slices", stage="convert"),
    "RT_DUP_CONTOUR": Code(
        "structure", "repair", ("reject",), "contours stored more than once, copies removed", stage="convert"
    ),
    "RT_NESTED": Code("structure", "accept", ("flag", "reject"), "nested contours, filled even-odd", stage="convert"),
    "RT_NONPLANAR_CONTOUR": Code(
        "structure", "flag", ("reject",), "contours that do not lie in a slice, left out", stage="convert"
    ),
    "RT_OPEN_CONTOUR": Code(
        "structure", "flag", ("reject",), "open contours or fewer than three points, left out", stage="convert"
    ),
    "RT_MISSING_INTERMEDIATE": Code(
        "structure", "flag", ("repair", "accept", "reject"), "contours skip slices", stage="convert"
    ),
    "SEG_SEGMENT_MISSING": Code("structure", "reject", (), "the wanted segment is not there", stage="convert"),
    "SEG_GRID_MISMATCH": Code(
        "structure", "repair", ("reject",), "a mask on another grid than its scan, resampled", stage="convert"
    ),
    "MASK_UNREADABLE": Code(
        "structure", "reject", (), "a structure set, segmentation or mask image that cannot be read", stage="convert"
    ),
    "MASK_EMPTY": Code("structure", "reject", (), "contours that hold no voxel centre", stage="convert"),
    "MASK_TINY": Code("structure", "flag", ("accept", "reject"), "a mask of very few voxels", stage="convert"),
    "MASK_COMPONENTS": Code("structure", "flag", ("accept", "reject"), "a mask of many pieces", stage="convert"),
}
ORDER = {code: number for number, code in enumerate(CODES)}
