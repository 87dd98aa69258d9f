"""Settings of curation and conversion."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Name, Section
from .codes import CODES, Verdict

PRESETS: dict[str, dict[str, Any]] = {
    "chest-ct": {"modalities": ("CT",), "slice_thickness_mm": (0.5, 5.0), "length_mm": (150.0, 800.0)},
    "any-ct": {"modalities": ("CT",)},
    "any-mr": {"modalities": ("MR",), "axial_tolerance_deg": None},
    # planes of the brain follow the skull base, up to 30 degrees off the body axis; two-dimensional MR has gaps
    "brain-mr": {"modalities": ("MR",), "axial_tolerance_deg": 35.0, "slices": (10, 1000), "length_mm": (80.0, 300.0)},
    "abdomen-ct-mr": {"modalities": ("CT", "MR"), "slices": (10, 5000), "length_mm": (80.0, 2000.0)},
    "pet": {"modalities": ("PT",), "slices": (10, 5000)},
    "pet-ct": {"modalities": ("PT", "CT"), "slices": (10, 5000)},
    "nm": {"modalities": ("NM",)},
    # radiographs, and pictures that a table names whatever they were made from
    "planar": {"modalities": ("CR", "DX", "MG", "NM", "CT", "MR", "OT")},
}
Preset = Literal["chest-ct", "any-ct", "any-mr", "brain-mr", "abdomen-ct-mr", "pet", "pet-ct", "nm", "planar"]
Range = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


class Limits(Section):
    """When a study must not go on; scans alone never stop it."""

    accepted_scans: int = Field(1, ge=0, description="Fewest accepted scans per centre; 0 sets no limit.")
    accepted_share: float = Field(0.0, ge=0, le=1, description="Smallest share of accepted candidates per centre.")


class CurationSettings(Section):
    """Which scans are accepted, and what becomes of defects."""

    preset: Preset | None = Field(
        None, description="Named set of values for the keys below; keys written in the study file take precedence."
    )
    modalities: tuple[str, ...] = Field(("CT",), min_length=1, description="DICOM modalities that are wanted.")
    planar: tuple[str, ...] = Field(
        ("NM", "CR", "DX", "MG"),
        description="Modalities whose images are pictures in a plane, without position; a series is one scan of views.",
    )
    axial_tolerance_deg: float | None = Field(
        10.0, ge=0, le=90, description="Largest angle between slice normal and body axis, degrees; null accepts any."
    )
    slices: tuple[int, int] = Field((4, 5000), description="Fewest and most slices of a scan.")
    length_mm: Range | None = Field(None, description="Shortest and longest scan, mm; null accepts any.")
    slice_thickness_mm: Range | None = Field(None, description="Thinnest and thickest slice, mm; null accepts any.")
    pixel_spacing_mm: Range | None = Field(None, description="Smallest and largest pixel, mm; null accepts any.")
    matrix: tuple[tuple[int, int], ...] | None = Field(
        None, description="Matrices that are wanted, columns and rows, such as [[512, 512]]; null accepts any."
    )
    spacing_tolerance_mm: float = Field(
        0.05, ge=0, description="Largest deviation of a slice distance from the scan's own that counts as jitter, mm."
    )
    spacing_tolerance_share: float = Field(0.02, ge=0, le=0.5, description="The same as a share of the slice distance.")
    missing_slices: int = Field(
        1,
        ge=1,
        description="Most missing slices in a row that are interpolated where GEOM_MISSING_SLICE is repaired.",
    )
    uniform_spacing_mm: float | None = Field(
        None,
        gt=0,
        description="Slice distance onto which scans are resampled where GEOM_VARIABLE_SPACING is repaired, mm; null "
        "takes the scan's median.",
    )
    largest_gap_mm: float = Field(
        10.0, gt=0, description="Largest slice distance that is bridged where GEOM_VARIABLE_SPACING is repaired, mm."
    )
    tilt_tolerance_deg: float = Field(
        0.1, ge=0, description="Largest shear of the slices against their normal, degrees."
    )
    kernels: tuple[str, ...] | None = Field(
        None,
        description="Convolution kernels that are wanted, by name (upper and lower case alike) or by family (soft, "
        "medium, sharp; see docs/curation.md); null accepts any.",
    )
    patient_from_path: str | None = Field(
        None,
        description="Regular expression with one group that finds the patient in the path of a file without patient "
        "identifier, such as ^([^/]+)/ for the first folder; null rejects such scans.",
    )
    deidentified: bool = Field(
        False, description="Whether the data are declared to be de-identified; what identifies is then a defect."
    )
    contrast_if_untagged: Literal["unknown", "no", "yes"] = Field(
        "unknown", description="What a scan counts as whose tags and description say nothing about contrast agent."
    )
    verdicts: dict[str, Verdict] = Field({}, description="Other verdicts than the default ones, by defect code.")
    limits: Limits = Field(Limits(), description="When the study must not go on.")

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        preset = PRESETS.get(str(data.get("preset"))) if isinstance(data, Mapping) else None
        return {**preset, **data} if preset else data

    @model_validator(mode="after")
    def _check(self) -> CurationSettings:
        problems = []
        for key in ("slices", "length_mm", "slice_thickness_mm", "pixel_spacing_mm"):
            value = getattr(self, key)
            if value is not None and value[0] > value[1]:
                problems.append(f"{key}: write the smaller number first: [{value[1]}, {value[0]}]")
        if self.patient_from_path is not None:
            try:
                groups = re.compile(self.patient_from_path).groups
            except re.error as error:
                problems.append(f"patient_from_path: no regular expression ({error}); write for example ^([^/]+)/")
            else:
                if groups != 1:
                    problems.append(f"patient_from_path: {groups} groups in brackets; write one, such as ^([^/]+)/")
        for code, verdict in self.verdicts.items():
            if code not in CODES:
                near = difflib.get_close_matches(code, CODES, n=1)
                hint = f"did you mean {near[0]}?" if near else "docs/curation.md lists the codes that are checked."
                problems.append(f"verdicts.{code}: no such defect code; {hint}")
            elif verdict != CODES[code].default and verdict not in CODES[code].others:
                allowed = ", ".join((CODES[code].default, *CODES[code].others))
                problems.append(f"verdicts.{code}: {verdict} is not possible here; write one of: {allowed}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def verdict(self, code: str) -> Verdict:
        """The verdict on a defect: the study file's, or the default."""
        return self.verdicts.get(code, CODES[code].default)


class RoiSettings(Section):
    """A region of interest and how it is found among the regions of a structure set or segmentation.

    In a study file, a text stands for `pattern` and a list of texts for `names`.
    """

    pattern: str | None = Field(
        None,
        min_length=1,
        description="Regular expression that the whole name of the region must match, upper and lower case alike.",
    )
    names: tuple[str, ...] = Field(
        (), description="Names as they are written in the files, upper and lower case alike; no regular expressions."
    )
    combine: Literal["one", "union"] = Field(
        "one",
        description="Several matching regions that hold something: refuse as ambiguous (one), or take every voxel that "
        "lies in any of them (union).",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"pattern": data}
        return {"names": data} if isinstance(data, list | tuple) else data

    @model_validator(mode="after")
    def _complete(self) -> RoiSettings:
        if self.pattern is None and not self.names:
            raise ValueError("write a pattern (a regular expression) or a list of names")
        _compile("pattern", self.pattern)
        return self

    def matches(self, name: str) -> bool:
        name = " ".join(name.split())
        if name.casefold() in {" ".join(n.split()).casefold() for n in self.names}:
            return True
        return self.pattern is not None and re.fullmatch(self.pattern, name, re.IGNORECASE) is not None


def _compile(key: str, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(
            f"{key} {pattern!r} is no regular expression ({error}); write special characters such as + or ( "
            "with a backslash before them"
        ) from None


class MaskSource(Section):
    """Which structure sets, segmentations and mask images make one source of masks (all of them by default).

    The patterns are regular expressions that the whole text must match, upper and lower case alike. What one source
    takes another may take too.
    """

    kind: Literal["RTSTRUCT", "SEG", "image"] | None = Field(
        None, description="Only structure sets, segmentation objects, or mask images of a table; null takes any."
    )
    label: str | None = Field(
        None,
        description="Regular expression of the label: of a structure set, the content label of a segmentation, or the "
        "name of the source in a table of images; null takes any.",
    )
    description: str | None = Field(None, description="Regular expression of the series description; null takes any.")
    path: str | None = Field(
        None,
        description="Regular expression of the file's path below the centre's folder, with / between folders, for "
        "instance .*/observer1/.*; null takes any.",
    )
    several: Literal["reject", "latest", "union"] = Field(
        "reject",
        description="Several of them hold the wanted region of one scan: refuse, take the one saved last, or take "
        "every voxel that lies in any of them.",
    )
    rois: dict[Name, RoiSettings] | None = Field(
        None, description="Regions of this source; null: those of convert.rois."
    )

    @model_validator(mode="after")
    def _compiles(self) -> MaskSource:
        for key in ("label", "description", "path"):
            _compile(key, getattr(self, key))
        return self

    def takes(self, kind: str, label: str, description: str, path: str) -> bool:
        """Whether a mask file with these facts belongs to the source."""
        texts = ((self.label, label), (self.description, description), (self.path, path))
        return self.kind in (None, kind) and all(
            pattern is None or re.fullmatch(pattern, text.strip(), re.IGNORECASE | re.DOTALL) is not None
            for pattern, text in texts
        )


class ConvertSettings(Section):
    """Volumes and masks on the scan's own grid."""

    rois: dict[Name, RoiSettings] = Field(
        {"tumour": RoiSettings(pattern="GTV-?1")},
        description="Regions that become masks: name: regular expression of the region's name, or a list of names.",
    )
    sources: dict[Name, MaskSource] = Field(
        {"manual": MaskSource()},
        min_length=1,
        description="Sources of masks, such as several readers: name: which structure sets and segmentations are its.",
    )
    contour_tolerance_mm: float = Field(
        0.1, gt=0, description="Largest distance of a contour or a frame of a mask from the plane of its slice, mm."
    )
    skipped_slices: int = Field(
        3,
        ge=1,
        description="Most slices in a row that contours may skip and that are filled in by shape-based interpolation; "
        "only where the verdict on RT_MISSING_INTERMEDIATE is repair.",
    )
    tiny_voxels: int = Field(10, ge=0, description="A mask of fewer voxels is MASK_TINY.")
    most_components: int | None = Field(
        10, ge=1, description="A mask of more separate pieces is MASK_COMPONENTS; null sets no limit."
    )
    clip_below_hu: float | None = Field(
        -1024.0,
        description="CT values below this are padding outside the field of view and become this, HU; null keeps them.",
    )
    air_tolerance_hu: float = Field(
        50.0, gt=0, description="Largest deviation of the air around the body from -1000, HU; beyond it is HU_AIR_OFF."
    )

    def rois_of(self, source: str) -> dict[str, RoiSettings]:
        """Regions that a mask source is searched for."""
        own = self.sources[source].rois
        return dict(self.rois if own is None else own)
