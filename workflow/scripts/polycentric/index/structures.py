"""What a structure set or a segmentation says of itself: its links, and its regions by name; no coordinates."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..elements import Elements, first, nested, tag_of

_FRAME_UID, _SERIES_UID, _INSTANCE = map(
    tag_of, ("FrameOfReferenceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID")
)
_NUMBER, _REFERENCED_NUMBER = tag_of("ROINumber"), tag_of("ReferencedROINumber")
_CONTOURS, _CONTOUR_IMAGES = tag_of("ContourSequence"), tag_of("ContourImageSequence")
_CONTOUR_TYPE = tag_of("ContourGeometricType")


def contours(elements: Elements) -> dict[str, Any]:
    """Label, frames of reference, named series, instances and regions of an RTSTRUCT.

    Instances are those that the contours name, or those of the list of slices where contours name none.
    """
    frames, series, instances, listed = set(), set(), set(), set()
    for frame in elements.items(tag_of("ReferencedFrameOfReferenceSequence")):
        frames.add(frame.text(_FRAME_UID))
        for one in nested(frame, tag_of("RTReferencedStudySequence"), tag_of("RTReferencedSeriesSequence")):
            series.add(one.text(_SERIES_UID))
            listed |= {item.text(_INSTANCE) for item in one.items(_CONTOUR_IMAGES)}
    drawn: dict[str, list[Elements]] = {}
    for roi in elements.items(tag_of("ROIContourSequence")):
        drawn.setdefault(roi.text(_REFERENCED_NUMBER), []).extend(roi.items(_CONTOURS))
    regions = []
    for roi in elements.items(tag_of("StructureSetROISequence")):
        own = drawn.get(roi.text(_NUMBER), [])
        frames.add(roi.text(tag_of("ReferencedFrameOfReferenceUID")))
        for contour in own:
            instances |= {item.text(_INSTANCE) for item in contour.items(_CONTOUR_IMAGES)}
        number = first(roi, _NUMBER)
        regions.append(
            {
                "name": roi.text(tag_of("ROIName")),
                "number": None if number is None else int(number),
                "contours": len(own),
                "points": sum(c.text(_CONTOUR_TYPE) == "POINT" for c in own),
            }
        )
    return {
        "kind": "RTSTRUCT",
        "label": elements.text(tag_of("StructureSetLabel")),
        "saved": elements.text(tag_of("StructureSetDate")) + elements.text(tag_of("StructureSetTime")),
        "description": _description(elements, "StructureSetDescription", "StructureSetName", "SeriesDescription"),
        "frames": sorted(frames - {""}),
        "series": sorted(series - {""}),
        "instances": sorted((instances or listed) - {""}),
        "regions": regions,
    }


def segments(elements: Elements) -> dict[str, Any]:
    """The same of a SEG: regions are its segments, `contours` the frames of each.

    A label map has no segment number in its frames; its segments count all of them.
    """
    series, instances = set(), set()
    for one in elements.items(tag_of("ReferencedSeriesSequence")):
        series.add(one.text(_SERIES_UID))
        instances |= {item.text(_INSTANCE) for item in one.items(tag_of("ReferencedInstanceSequence"))}
    sources, counts = set(), Counter[float | None]()
    identified, segment = tag_of("SegmentIdentificationSequence"), tag_of("ReferencedSegmentNumber")
    chain = (tag_of("DerivationImageSequence"), tag_of("SourceImageSequence"))
    frames = elements.items(tag_of("PerFrameFunctionalGroupsSequence"))
    for group in [*elements.items(tag_of("SharedFunctionalGroupsSequence")), *frames]:
        if not instances:
            sources |= {item.text(_INSTANCE) for item in nested(group, *chain)}
    shared = [first(s, segment) for s in nested(elements, tag_of("SharedFunctionalGroupsSequence"), identified)]
    for group in frames:
        numbers = [first(item, segment) for item in group.items(identified)] or shared
        counts.update(set(numbers))
    regions = []
    for item in elements.items(tag_of("SegmentSequence")):
        number = first(item, tag_of("SegmentNumber"))
        found = counts[number] if counts else len(frames)
        regions.append(
            {
                "name": item.text(tag_of("SegmentLabel")) or item.text(tag_of("SegmentDescription")),
                "number": None if number is None else int(number),
                "contours": found,
                "points": 0,
            }
        )
    return {
        "kind": "SEG",
        "label": elements.text(tag_of("ContentLabel")),
        "saved": elements.text(tag_of("ContentDate")) + elements.text(tag_of("ContentTime")),
        "description": _description(elements, "ContentDescription", "SeriesDescription"),
        "frames": sorted({elements.text(_FRAME_UID)} - {""}),
        "series": sorted(series - {""}),
        "instances": sorted((instances or sources) - {""}),
        "regions": regions,
    }


def _description(elements: Elements, *keywords: str) -> str:
    return next((text for k in keywords if (text := elements.text(tag_of(k)))), "")
