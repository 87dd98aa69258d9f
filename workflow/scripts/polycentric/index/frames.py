"""Facts of the frames of a file with several: from functional groups, from the vectors of nuclear medicine.

Functional groups: PS3.3 C.7.6.16; nuclear medicine: PS3.3 C.8.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..elements import Elements, first, nested, tag_of, vector

MOST_FRAMES = 2**16
Row = dict[str, Any]

_SHARED, _PER_FRAME = tag_of("SharedFunctionalGroupsSequence"), tag_of("PerFrameFunctionalGroupsSequence")
_POSITION, _ORIENTATION = tag_of("ImagePositionPatient"), tag_of("ImageOrientationPatient")
_SPACING, _THICKNESS, _STEP = tag_of("PixelSpacing"), tag_of("SliceThickness"), tag_of("SpacingBetweenSlices")
_FRAME_TYPES = tuple(
    tag_of(k)
    for k in (
        "CTImageFrameTypeSequence",
        "MRImageFrameTypeSequence",
        "PETFrameTypeSequence",
        "MRSpectroscopyFrameTypeSequence",
        "XAXRFFrameCharacteristicsSequence",
        "ParametricMapFrameTypeSequence",
    )
)
# column of the index: functional group, element; what a frame does not say is not known
_TEXTS = {
    "rescale_type": ("PixelValueTransformationSequence", "RescaleType"),
    "kernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "body_part": ("FrameAnatomySequence", "BodyPartExamined"),
}
_NUMBERS = {
    "slope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "intercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "thickness_mm": ("PixelMeasuresSequence", "SliceThickness"),
    "echo_time_ms": ("MREchoSequence", "EffectiveEchoTime"),
    "repetition_time_ms": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "inversion_time_ms": ("MRModifierSequence", "InversionTimes"),
    "b_value": ("MRDiffusionSequence", "DiffusionBValue"),
    "field_of_view_mm": ("CTReconstructionSequence", "ReconstructionDiameter"),
    "kvp": ("CTXRayDetailsSequence", "KVP"),
    "exposure_mas": ("CTExposureSequence", "ExposureInmAs"),
    "ctdi_mgy": ("CTExposureSequence", "CTDIvol"),
    "tilt_deg": ("CTAcquisitionDetailsSequence", "GantryDetectorTilt"),
}
_TEXT_TAGS = {name: (tag_of(a), tag_of(b)) for name, (a, b) in _TEXTS.items()}
_NUMBER_TAGS = {name: (tag_of(a), tag_of(b)) for name, (a, b) in _NUMBERS.items()}
_TUBE = ("CTExposureSequence", "XRayTubeCurrentInmA"), ("CTExposureSequence", "ExposureTimeInms")


class Groups:
    """Functional groups of one frame, those of its own before the shared ones."""

    def __init__(self, own: Elements | None, shared: Elements | None, kept: dict[int, list[Elements]]) -> None:
        self.own, self.shared, self.kept = own, shared, kept

    def macro(self, tag: int) -> list[Elements]:
        if self.own is not None and tag in self.own:
            return self.own.items(tag)
        if tag not in self.kept:
            self.kept[tag] = self.shared.items(tag) if self.shared is not None else []
        return self.kept[tag]

    def number(self, macro: int, tag: int) -> float | None:
        return next((v for item in self.macro(macro) if (v := first(item, tag)) is not None), None)

    def text(self, macro: int, tag: int) -> str:
        return next((t for item in self.macro(macro) if (t := item.text(tag))), "")

    def vector(self, macro: int, tag: int, length: int) -> list[float] | None:
        return next((v for item in self.macro(macro) if (v := vector(item, tag, length))), None)


def groups(elements: Elements) -> Iterator[Groups]:
    """The functional groups of each frame."""
    shared = next(iter(elements.items(_SHARED)), None)
    kept: dict[int, list[Elements]] = {}
    for own in elements.items(_PER_FRAME):
        yield Groups(own, shared, kept)


def complete(row: Row, elements: Elements) -> bool:
    """Fill columns that the file gives in functional groups, from its first frame; whether it has such groups."""
    if _PER_FRAME not in elements and _SHARED not in elements:
        return False
    one = next(groups(elements), None) or Groups(None, next(iter(elements.items(_SHARED)), None), {})
    for name, (macro, tag) in _TEXT_TAGS.items():
        row[name] = row[name] or one.text(macro, tag)
    for name, (macro, tag) in _NUMBER_TAGS.items():
        if row.get(name) is None:
            row[name] = one.number(macro, tag)
    if row["exposure_mas"] is None:
        current, time = (one.number(tag_of(a), tag_of(b)) for a, b in _TUBE)
        row["exposure_mas"] = None if current is None or time is None else current * time / 1000
    facts = _facts(one, {})
    if row["position_x_mm"] is None and facts["position"]:
        row["position_x_mm"], row["position_y_mm"], row["position_z_mm"] = facts["position"]
    row["orientation"] = row["orientation"] or facts["orientation"]
    if row["pixel_spacing_x_mm"] is None and facts["spacing"]:
        row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"] = facts["spacing"]
    row["image_type"] = row["image_type"] or facts["type"]
    return True


def frame_facts(row: Row, elements: Elements) -> str:
    """JSON: a list with one object per frame (position, orientation, spacing, rescaling, what tells frames apart).

    Without functional groups, frames of nuclear medicine get their view, and their position where they are slices of
    a reconstruction; frames of other objects get what the file says of all of them. Segmentations have none: their
    frames are read with their pixels. "" also for more than 65,536 frames, and where the file declares other frames
    than it describes.
    """
    count = row["frames"] or 1
    if count > MOST_FRAMES or row["modality"] in ("SEG", "SM") or not row["rows"]:
        return ""
    common: Row = {
        "position": None,
        "orientation": row["orientation"],
        "spacing": None
        if row["pixel_spacing_x_mm"] is None
        else [row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"]],
        "thickness": row["thickness_mm"],
        "slope": row["slope"],
        "intercept": row["intercept"],
        "stack": "",
        "temporal": row["temporal_position"],
        "echo_time": row["echo_time_ms"],
        "b_value": row["b_value"],
        "acquisition_time": row["acquisition_time"],
        "type": row["image_type"],
        "view": "",
    }
    if _PER_FRAME in elements:
        # what the first frame gave to the columns holds for it alone
        common |= {"orientation": "", "spacing": None, "thickness": None, "slope": None, "intercept": None}
        common |= {"echo_time": None, "b_value": None}
        facts = [_facts(one, common) for one in groups(elements)]
        if len(facts) != count:
            return ""
    elif row["modality"] in ("NM", "PT") and tag_of("DetectorInformationSequence") in elements:
        facts = _nuclear(row, elements, common, count)
    else:
        first_position = [row[f"position_{a}_mm"] for a in "xyz"]
        facts = [dict(common) for _ in range(count)]
        if count == 1 and None not in first_position:
            facts[0]["position"] = first_position
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


_MACRO_POSITION, _MACRO_ORIENTATION = tag_of("PlanePositionSequence"), tag_of("PlaneOrientationSequence")
_MACRO_MEASURES, _MACRO_VALUES = tag_of("PixelMeasuresSequence"), tag_of("PixelValueTransformationSequence")
_CONTENT = tag_of("FrameContentSequence")
_STACK, _TEMPORAL, _FRAME_TYPE = tag_of("StackID"), tag_of("TemporalPositionIndex"), tag_of("FrameType")
_ACQUIRED, _REFERENCED = tag_of("FrameAcquisitionDateTime"), tag_of("FrameReferenceDateTime")
_SLOPE, _INTERCEPT = tag_of("RescaleSlope"), tag_of("RescaleIntercept")


def _facts(one: Groups, common: Row) -> Row:
    orientation = one.vector(_MACRO_ORIENTATION, _ORIENTATION, 6)
    own = {
        "position": one.vector(_MACRO_POSITION, _POSITION, 3),
        "orientation": " ".join(repr(v) for v in orientation or ()),
        "spacing": one.vector(_MACRO_MEASURES, _SPACING, 2),
        "thickness": one.number(_MACRO_MEASURES, _THICKNESS),
        "slope": one.number(_MACRO_VALUES, _SLOPE),
        "intercept": one.number(_MACRO_VALUES, _INTERCEPT),
        "stack": one.text(_CONTENT, _STACK),
        "temporal": one.text(_CONTENT, _TEMPORAL),
        "echo_time": one.number(*_NUMBER_TAGS["echo_time_ms"]),
        "b_value": one.number(*_NUMBER_TAGS["b_value"]),
        # a date and time; the day is that of the acquisition
        "acquisition_time": (one.text(_CONTENT, _ACQUIRED) or one.text(_CONTENT, _REFERENCED))[8:],
        "type": next((t for macro in _FRAME_TYPES if (t := one.text(macro, _FRAME_TYPE))), ""),
    }
    return common | {k: v for k, v in own.items() if v not in (None, "")} if common else own


def _nuclear(row: Row, elements: Elements, common: Row, count: int) -> list[Row]:
    """Frames of nuclear medicine: of which detector and view, or which slice of a reconstruction."""
    detectors = elements.items(tag_of("DetectorInformationSequence"))
    views = [
        next((t for code in nested(d, tag_of("ViewCodeSequence")) if (t := code.text(tag_of("CodeMeaning")))), "")
        for d in detectors
    ]

    def numbers(keyword: str) -> list[int]:
        values = elements.numbers(tag_of(keyword))
        usable = len(values) == count and None not in values
        return [int(v) for v in values if v is not None] if usable else [1] * count

    detector, slices = numbers("DetectorVector"), numbers("SliceVector")
    energy, times = numbers("EnergyWindowVector"), numbers("TimeSlotVector")
    if len(set(times)) == 1:
        times = numbers("PhaseVector")
    if len(set(detector)) == 1 and len(views) == count:
        detector = list(range(1, count + 1))
    rotations = numbers("AngularViewVector")
    step, start, orientation = first(elements, _STEP), None, None
    if detectors and row["image_type"].upper().split("\\")[2:3] in (["RECON TOMO"], ["RECON GATED TOMO"]):
        start = vector(elements, _POSITION, 3) or vector(detectors[0], _POSITION, 3)
        orientation = vector(elements, _ORIENTATION, 6) or vector(detectors[0], _ORIENTATION, 6)
    facts = []
    for n in range(count):
        one = dict(common)
        if start and orientation and step:
            # along the normal of rows and columns; a negative step goes against it (C.8.4.15)
            row_x, column_x = orientation[:3], orientation[3:]
            normal = [
                row_x[(a + 1) % 3] * column_x[(a + 2) % 3] - row_x[(a + 2) % 3] * column_x[(a + 1) % 3]
                for a in range(3)
            ]
            one["position"] = [p + (slices[n] - 1) * step * k for p, k in zip(start, normal, strict=True)]
            one["orientation"] = " ".join(repr(v) for v in orientation)
        number = detector[n]
        if 1 <= number <= len(views):
            one["view"] = views[number - 1] or (f"detector {number}" if len(views) > 1 else "")
        if len(set(rotations)) > 1:
            one["view"] = f"{one['view']} {rotations[n]}".strip()
        if len(set(energy)) > 1:
            one["stack"] = f"energy {energy[n]}"
        if len(set(times)) > 1:
            one["temporal"] = str(times[n])
        facts.append(one)
    if start and orientation and row["position_x_mm"] is None:
        row["position_x_mm"], row["position_y_mm"], row["position_z_mm"] = facts[0]["position"] or start
        row["orientation"] = row["orientation"] or facts[0]["orientation"]
    return facts
