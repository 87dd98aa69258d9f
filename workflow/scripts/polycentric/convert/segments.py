"""Masks that are pictures already: DICOM segmentation objects, and label images of a table.

Frames and voxels are mapped by position. What lies on the scan's own grid is copied voxel by voxel; anything else is
resampled by nearest neighbour, with a code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from ..errors import ScanError
from ..grids import to_indices, to_points
from ..volumes import Geometry, Volume, resample
from .contours import Filled
from .findings import Findings
from .planes import Planes

FRACTION = 0.5
SAME_VOXEL = 0.05
_DIRECTION, _RELATIVE = 1e-3, 1e-3
_LARGEST = 2**29


@dataclass(frozen=True)
class Frame:
    """A frame of a segmentation: first pixel in mm, directions of row and column, distances of columns and rows."""

    corner: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    segment: int | None


@dataclass(frozen=True)
class Segmentation:
    """A DICOM segmentation object (PS3.3 A.51, and A.51 label map of 2024): `pixels(numbers)` gives frames."""

    kind: str
    size: tuple[int, int]
    frames: tuple[Frame, ...]
    step: float | None
    segments: tuple[tuple[int, str], ...]
    pixels: Callable[[Sequence[int]], Iterator[np.ndarray]]
    whole: float


@dataclass(frozen=True)
class Segment:
    """A segment of a segmentation object."""

    name: str
    number: int
    holder: Segmentation
    value: int
    frame: str = ""

    @property
    def emptiness(self) -> str:
        labelled = self.holder.kind == "LABELMAP"
        return "" if labelled or any(f.segment == self.value for f in self.holder.frames) else "RT_EMPTY_ROI"


@dataclass(frozen=True)
class Label:
    """A label of a label image; `value` None stands for anything but 0. If `piled`, the image is one of a scan's planes
    and has no geometry of its own."""

    name: str
    number: int
    image: Volume
    value: float | None
    piled: bool = False
    frame: str = ""

    @property
    def emptiness(self) -> str:
        return "" if self.chosen().any() else "RT_EMPTY_ROI"

    def chosen(self) -> np.ndarray:
        return self.image.array != 0 if self.value is None else self.image.array == self.value


# ------------------------------------------------------------------------------------------------- segmentation objects


def read_segmentation(stream: BinaryIO) -> list[Segment]:
    """Segments of a segmentation object: BINARY, FRACTIONAL (0.5 and more is in) or LABELMAP.

    Raises
    ------
    ScanError
        MASK_UNREADABLE
    """
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            held = _segmentation(pydicom.dcmread(stream, force=True))
        except ScanError:
            raise
        except Exception as error:
            raise ScanError("MASK_UNREADABLE", f"the segmentation cannot be read ({type(error).__name__})") from None
    return [Segment(name, place, held, value) for place, (value, name) in enumerate(held.segments, start=1)]


def _segmentation(dataset: Dataset) -> Segmentation:
    kind = str(dataset.get("SegmentationType") or "")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise ScanError("MASK_UNREADABLE", "the segmentation is neither binary nor fractional nor a label map")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(per_frame) != count:
        raise ScanError("MASK_UNREADABLE", f"{count} frames, but {len(per_frame)} of them are described")
    frames, steps = [], set()
    for own in per_frame:

        def group(name: str, own: Dataset = own) -> Dataset | None:
            found = own.get(name) or shared.get(name)
            return found[0] if found else None

        position, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
        measures, segment = group("PixelMeasuresSequence"), group("SegmentIdentificationSequence")
        if position is None or orientation is None or measures is None or (segment is None and kind != "LABELMAP"):
            raise ScanError("MASK_UNREADABLE", "frames without position, orientation, spacing or segment number")
        rows, columns = (float(v) for v in measures.PixelSpacing)
        steps.add(float(measures.get("SpacingBetweenSlices") or 0))
        frames.append(
            Frame(
                tuple(float(v) for v in position.ImagePositionPatient),
                tuple(float(v) for v in orientation.ImageOrientationPatient),
                (columns, rows),
                None if kind == "LABELMAP" else int(segment.ReferencedSegmentNumber),
            )
        )
    segments = tuple(
        (int(s.SegmentNumber), _name(s)) for s in dataset.SegmentSequence if kind != "LABELMAP" or s.SegmentNumber
    )
    step = steps.pop() if len(steps) == 1 else 0.0
    size = (int(dataset.Columns), int(dataset.Rows))
    whole = float(dataset.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 1.0
    return Segmentation(kind, size, tuple(frames), step or None, segments, _reader(dataset, count), whole)


def _name(segment: Dataset) -> str:
    """Label of a segment; where it is empty, the meaning of its type."""
    if label := " ".join(str(segment.get("SegmentLabel") or "").split()):
        return label
    kind = segment.get("SegmentedPropertyTypeCodeSequence")
    return str(kind[0].get("CodeMeaning") or "") if kind else ""


def _reader(dataset: Dataset, count: int) -> Callable[[Sequence[int]], Iterator[np.ndarray]]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    pixels = rows * columns
    data = dataset.get("PixelData") or b""
    packed = int(dataset.BitsAllocated) == 1 and not dataset.file_meta.TransferSyntaxUID.is_compressed
    if packed and len(data) * 8 < pixels * count:
        raise ScanError("MASK_UNREADABLE", "pixel data of the segmentation are cut off")

    def read(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        if not len(numbers):
            return
        if not packed:
            try:
                yield from iter_pixels(dataset, indices=list(numbers))
            except Exception as error:
                raise ScanError("MASK_UNREADABLE", f"frames cannot be decoded ({type(error).__name__})") from None
            return
        for number in numbers:
            # frames of single bits follow each other without padding to whole bytes (PS3.5, 8.1.1)
            first, last = number * pixels, (number + 1) * pixels
            part = np.frombuffer(data, dtype=np.uint8, count=-(-last // 8) - first // 8, offset=first // 8)
            bits = np.unpackbits(part, bitorder="little")
            yield bits[first % 8 : first % 8 + pixels].reshape(rows, columns)

    return read


def draw_segment(segment: Segment, planes: Planes, tolerance_mm: float, findings: Findings) -> Filled:
    """The mask of one segment: on the planes of a scan if its frames lie there, else resampled to its grid."""
    held = segment.holder
    numbers = [n for n, f in enumerate(held.frames) if f.segment in (None, segment.value)]
    places = _places(held, numbers, planes, tolerance_mm)
    if places is None:
        return _resampled(segment, numbers, planes, findings)
    mask = np.zeros(planes.shape, dtype=np.uint8)
    lost = 0
    shift_to_planes = (planes.acquired - planes.corners) @ planes.axes[:, :2] / planes.spacing
    for number, picture in zip(numbers, held.pixels(numbers), strict=True):
        inside = _inside(held, picture, segment)
        plane, dx, dy = places[number]
        shift = np.rint(np.array([dx, dy]) + shift_to_planes[plane]).astype(int)
        lost += _paste(mask[plane], inside, shift)
    _lost(lost, findings)
    return Filled(mask)


def _inside(held: Segmentation, picture: np.ndarray, segment: Segment) -> np.ndarray:
    if held.kind == "LABELMAP":
        return picture == segment.value
    return picture >= FRACTION * held.whole if held.kind == "FRACTIONAL" else picture > 0


def _places(
    held: Segmentation, numbers: Sequence[int], planes: Planes, tolerance_mm: float
) -> dict[int, tuple[int, int, int]] | None:
    """Plane, column and row at which each frame starts; None if any does not lie on the slices as acquired."""
    places = {}
    directions = planes.axes[:, :2].T.ravel()
    for number in numbers:
        frame = held.frames[number]
        if np.abs(np.array(frame.orientation) - directions).max() > _DIRECTION:
            return None
        if np.abs(np.array(frame.spacing) / planes.spacing - 1).max() > _RELATIVE:
            return None
        corner = np.array(frame.corner)
        height = corner @ planes.axes[:, 2]
        plane = int(planes.nearest(np.array([height]))[0])
        if abs(height - planes.heights[plane]) > tolerance_mm:
            return None
        shift = (corner - planes.acquired[plane]) @ planes.axes[:, :2] / planes.spacing
        if np.abs(shift - np.rint(shift)).max() > SAME_VOXEL:
            return None
        places[number] = (plane, round(float(shift[0])), round(float(shift[1])))
    return places


def _paste(target: np.ndarray, inside: np.ndarray, shift: np.ndarray) -> int:
    """Add a picture at a shift (x, y) and return how many of its pixels fall outside."""
    x, y = shift
    rows, columns = target.shape
    part = inside[max(-y, 0) : max(rows - y, 0), max(-x, 0) : max(columns - x, 0)]
    target[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]] |= part.astype(target.dtype)
    return int(np.count_nonzero(inside)) - int(np.count_nonzero(part))


def _resampled(segment: Segment, numbers: Sequence[int], planes: Planes, findings: Findings) -> Filled:
    held = segment.holder
    first = held.frames[numbers[0]]
    if any(f.orientation != first.orientation or f.spacing != first.spacing for f in held.frames):
        raise ScanError("SEG_GRID_MISMATCH", "frames of the segmentation have different orientations or spacings")
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    axes = np.stack([row, column, np.cross(row, column)], axis=1)
    corners = np.array([f.corner for f in held.frames]) @ axes
    heights = corners[:, 2]
    apart = np.diff(np.unique(np.round(heights, 3)))
    step = held.step or (float(apart.min()) if len(apart) else planes.step)
    own = heights[list(numbers)]
    place = (own - own.min()) / step
    if np.abs(corners[:, :2] - corners[0, :2]).max() > SAME_VOXEL * min(first.spacing) or (
        np.abs(place - np.rint(place)).max() > SAME_VOXEL
    ):
        raise ScanError("SEG_GRID_MISMATCH", "frames of the segmentation form no regular grid")
    lowest = numbers[int(np.argmin(own))]
    count = int(np.rint(place).max()) + 1
    if count * held.size[0] * held.size[1] > _LARGEST:
        raise ScanError("SEG_GRID_MISMATCH", "frames of the segmentation lie too far apart for one grid")
    grid = Geometry(
        (*held.size, count), (*first.spacing, step), held.frames[lowest].corner, tuple(map(float, axes.ravel()))
    )
    array = np.zeros((count, held.size[1], held.size[0]), dtype=np.uint8)
    for at, picture in zip(np.rint(place).astype(int), held.pixels(numbers), strict=True):
        array[at] |= _inside(held, picture, segment).astype(np.uint8)
    return onto(Volume(array, grid), planes.grid, findings)


# --------------------------------------------------------------------------------------------------------- label images

_PLANAR = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def is_picture(path: str) -> bool:
    """Whether a file is a planar picture, by its name."""
    return path.lower().endswith(_PLANAR)


def read_label_image(path: Path, regions: Sequence[dict[str, Any]]) -> list[Label]:
    """Labels of a NIfTI, NRRD or MetaImage file, or of a planar picture.

    Parameters
    ----------
    regions
        ``{"name": ..., "value": ...}``; without a value, anything but 0.

    Raises
    ------
    ScanError
        MASK_UNREADABLE
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
        if image.GetDimension() == 2:
            image = sitk.JoinSeries(image)
    except RuntimeError:
        raise ScanError("MASK_UNREADABLE", "the mask image cannot be read") from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError("MASK_UNREADABLE", "the mask image has more than three dimensions, or colours")
    volume = Volume.from_sitk(image)
    named = list(regions) or [{"name": "mask"}]
    return [Label(str(r.get("name") or ""), n, volume, r.get("value")) for n, r in enumerate(named, start=1)]


def pile(pictures: Sequence[tuple[Sequence[Label], np.ndarray]], planes: Planes) -> list[Label]:
    """Labels of planar pictures as labels of all the planes of a scan.

    Parameters
    ----------
    pictures
        the labels of each picture, with the numbers of the planes that its pages, or its only page, are of; other
        planes stay empty.

    Raises
    ------
    ScanError
        SEG_GRID_MISMATCH if a picture has another size than the slices.
    """
    found: dict[str, np.ndarray] = {}
    for labels, places in pictures:
        for label in labels:
            chosen = label.chosen()
            if chosen.shape[1:] != planes.shape[1:] or len(chosen) not in (1, len(places)):
                raise ScanError("SEG_GRID_MISMATCH", "the picture of the mask has another size than the image")
            found.setdefault(label.name, np.zeros(planes.shape, dtype=np.uint8))[places] |= chosen.astype(np.uint8)
    return [
        Label(name, number, Volume(array, planes.grid), None, piled=True)
        for number, (name, array) in enumerate(found.items(), start=1)
    ]


def draw_label(label: Label, planes: Planes, findings: Findings) -> Filled:
    """The mask of a label on the grid of a scan."""
    chosen = label.chosen().astype(np.uint8)
    if label.piled:
        return Filled(chosen)
    return onto(label.image.with_array(chosen), planes.grid, findings)


# ----------------------------------------------------------------------------------------------------------- resampling


def onto(volume: Volume, grid: Geometry, findings: Findings) -> Filled:
    """A mask on another grid, by nearest neighbour; a flipped, turned or cut-out copy of the grid needs no code."""
    if not coincide(volume.geometry, grid):
        findings.find(
            "SEG_GRID_MISMATCH",
            "the mask lies on another grid than its scan and was resampled by nearest neighbour",
            repairable=True,
            before=volume.geometry.columns(),
            after=grid.columns(),
        )
    points = to_points(volume.geometry, np.argwhere(volume.array)[:, ::-1].astype(float))
    indices = to_indices(grid, points)
    outside = ((indices < -0.5 - SAME_VOXEL) | (indices > np.array(grid.size) - 0.5 + SAME_VOXEL)).any(axis=1)
    _lost(int(outside.sum()), findings)
    return Filled(resample(volume, grid, interpolation="nearest").array, on_grid=True)


def _lost(voxels: int, findings: Findings) -> None:
    if voxels:
        findings.find("RT_OUT_OF_VOLUME", f"{voxels} voxels of the mask lie outside the image")


def coincide(one: Geometry, other: Geometry) -> bool:
    """Whether the voxel centres of a grid are ones of the other, extended: the same lattice, flipped or turned."""
    steps = np.linalg.inv(np.array(other.direction).reshape(3, 3)) @ np.array(one.direction).reshape(3, 3)
    steps = steps * np.array(one.spacing) / np.array(other.spacing)[:, None]
    whole = np.rint(steps)
    if not (np.abs(whole).sum(axis=0) == 1).all() or not (np.abs(whole).sum(axis=1) == 1).all():
        return False
    corners = np.array(
        [(x, y, z) for x in (0, one.size[0] - 1) for y in (0, one.size[1] - 1) for z in (0, one.size[2] - 1)]
    )
    mapped = to_indices(other, to_points(one, corners.astype(float)))
    return bool(
        np.abs(mapped - np.rint(mapped)).max() <= SAME_VOXEL
        and np.abs(np.rint(mapped) - np.rint(mapped[0]) - corners @ whole.T).max() < 0.5
    )
