"""Contours of a structure set, mapped to a scan's grid by position."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from ..config.curation import RoiSettings
from ..errors import ScanError
from ..volumes import Geometry
from .raster import area, fill

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
SAME_POINT_MM = 1e-3
IN_PLANE_SLACK = 1.0


@dataclass(frozen=True)
class Region:
    """A region of a structure set: its contours as (type, points in mm (n, 3))."""

    name: str
    contours: tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True)
class Outline:
    """Planar contours on a grid: slice number to polygons in continuous pixel indices, and what was found."""

    slices: dict[int, list[np.ndarray]]
    codes: tuple[str, ...]
    duplicates: int = 0


@dataclass(frozen=True)
class Filled:
    """A mask (z, y, x), the volume within its contours, and the voxels that even-odd leaves out of nested ones."""

    mask: np.ndarray
    contour_volume_ml: float
    nested_voxels: int


def read_regions(path: Path, rois: dict[str, RoiSettings]) -> list[Region]:
    """Regions of an RTSTRUCT that any of `rois` wants; the others' coordinates would take a second to convert."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        items: dict[str, list] = {}
        for roi in dataset.get("ROIContourSequence") or []:
            items.setdefault(str(roi.get("ReferencedROINumber")), []).extend(roi.get("ContourSequence") or [])
        regions = []
        for roi in dataset.get("StructureSetROISequence") or []:
            name = str(roi.get("ROIName") or "").strip()
            if any(settings.matches(name) for settings in rois.values()):
                own = items.get(str(roi.get("ROINumber")), [])
                contours = tuple((str(c.get("ContourGeometricType") or ""), _points(c)) for c in own)
                regions.append(Region(name, contours))
    return regions


def _points(contour: pydicom.Dataset) -> np.ndarray:
    values = np.array([float(v) for v in contour.get("ContourData") or []], dtype=np.float64)
    return values[: len(values) // 3 * 3].reshape(-1, 3)


def choose(regions: list[Region], settings: RoiSettings) -> tuple[list[Region], list[str]]:
    """The regions that make one mask, and codes of what was passed over.

    Raises
    ------
    ScanError
        RT_ROI_MISSING, RT_ROI_AMBIGUOUS, RT_EMPTY_ROI or RT_POINT_ONLY. Region names can name a person, so no message
        repeats one.
    """
    matching = [r for r in regions if settings.matches(r.name)]
    if not matching:
        raise ScanError("RT_ROI_MISSING", "no region matches the pattern")
    codes = [code for r in matching if (code := _emptiness(r))]
    drawn = [r for r in matching if not _emptiness(r)]
    if not drawn:
        raise ScanError(
            codes[0], "the region has no contours" if codes[0] == "RT_EMPTY_ROI" else "the region holds points only"
        )
    if len(drawn) > 1 and settings.combine == "one":
        raise ScanError(
            "RT_ROI_AMBIGUOUS", f"{len(drawn)} regions match the pattern; make it narrower, or write combine: union"
        )
    return drawn, codes


def _emptiness(region: Region) -> str:
    drawn = [kind for kind, points in region.contours if len(points)]
    if not drawn:
        return "RT_EMPTY_ROI"
    return "RT_POINT_ONLY" if all(kind == "POINT" for kind in drawn) else ""


def outline(contours: tuple[tuple[str, np.ndarray], ...], geometry: Geometry, tolerance_mm: float) -> Outline:
    """Map contours to slices by their positions alone; instances that they name are mostly stale.

    Contours that are open, have fewer than three points or do not lie in a plane of the grid's orientation are left
    out with a code. Copies of a contour, whatever their first point or direction, are removed: with them an even-odd
    fill would be empty.

    Raises
    ------
    ScanError
        RT_OFFGRID_Z, RT_OUT_OF_VOLUME, or RT_OPEN_CONTOUR / RT_NONPLANAR_CONTOUR if nothing is left.
    """
    axes = np.array(geometry.direction).reshape(3, 3)
    columns, rows, count = geometry.size
    spacing_z = geometry.spacing[2]
    codes: set[str] = set()
    slices: dict[int, list[np.ndarray]] = {}
    seen: set[tuple[int, bytes]] = set()
    duplicates = 0
    worst = 0.0
    for kind, points in contours:
        if kind == "POINT":
            codes.add("RT_POINT_ONLY")
            continue
        if kind not in CLOSED or len(points) < 3:
            codes.add("RT_OPEN_CONTOUR")
            continue
        local = (points - np.array(geometry.origin)) @ axes
        if np.ptp(local[:, 2]) > 2 * tolerance_mm:
            codes.add("RT_NONPLANAR_CONTOUR")
            continue
        height = float(local[:, 2].mean())
        number = round(height / spacing_z)
        if not 0 <= number < count:
            raise ScanError("RT_OUT_OF_VOLUME", "contours lie above or below the image")
        worst = max(worst, abs(height - number * spacing_z))
        if worst > tolerance_mm:
            raise ScanError("RT_OFFGRID_Z", f"contours lie {worst:.3g} mm beside the slices")
        polygon = local[:, :2] / np.array(geometry.spacing[:2])
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        if (low < -0.5 - IN_PLANE_SLACK).any() or (high > np.array([columns, rows]) - 0.5 + IN_PLANE_SLACK).any():
            raise ScanError("RT_OUT_OF_VOLUME", "contours reach beyond the sides of the image")
        key = (number, _canonical(local[:, :2]))
        if key in seen:
            duplicates += 1
            codes.add("RT_DUP_CONTOUR")
            continue
        seen.add(key)
        slices.setdefault(number, []).append(polygon)
    if not slices:
        left = sorted(codes & {"RT_OPEN_CONTOUR", "RT_NONPLANAR_CONTOUR"}) or ["RT_EMPTY_ROI"]
        raise ScanError(left[0], "no closed contour within a slice is left")
    if max(slices) - min(slices) + 1 > len(slices):
        codes.add("RT_MISSING_INTERMEDIATE")
    return Outline(slices, tuple(sorted(codes)), duplicates)


def _canonical(points: np.ndarray) -> bytes:
    """The same bytes for the same closed polygon, whatever its first point, direction and repeated last point."""
    grid = np.round(points / SAME_POINT_MM).astype(np.int64)
    if len(grid) > 1 and (grid[0] == grid[-1]).all():
        grid = grid[:-1]

    def turned(array: np.ndarray) -> bytes:
        starts = np.flatnonzero((array == array[np.lexsort(array.T[::-1])[0]]).all(axis=1))
        return min(np.roll(array, -int(s), axis=0).astype(">i8").tobytes() for s in starts)

    return min(turned(grid), turned(grid[::-1]))


def rasterise(found: Outline, geometry: Geometry) -> Filled:
    """Fill the contours even-odd at voxel centres, slice by slice."""
    columns, rows, count = geometry.size
    mask = np.zeros((count, rows, columns), dtype=np.uint8)
    total, nested = 0.0, 0
    for number, polygons in sorted(found.slices.items()):
        mask[number] = fill(polygons, (rows, columns))
        total += area(polygons)
        if len(polygons) > 1:
            union = np.logical_or.reduce([fill([p], (rows, columns)) for p in polygons])
            nested += int(np.count_nonzero(union)) - int(np.count_nonzero(mask[number]))
    return Filled(mask, total * geometry.voxel_ml, nested)
