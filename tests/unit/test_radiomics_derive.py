"""Derived ROIs against spheres and slabs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from polycentric.config.features import DerivedRoi, RadiomicsSet
from polycentric.errors import ScanError
from polycentric.radiomics.derive import derive, distance
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError

SPACING = (0.9, 1.3, 2.5)


def sphere(radius: float, size: tuple[int, int, int] = (60, 44, 25)) -> tuple[Volume, np.ndarray]:
    """A ball on an anisotropic grid, and every voxel's distance in mm to its centre, which is no voxel's centre."""
    geometry = Geometry(size, SPACING, (11.0, -3.0, 8.0))
    z, y, x = ((i - (n - 1) / 2) * s for i, n, s in zip(np.indices(size[::-1]), size[::-1], SPACING[::-1], strict=True))
    away = np.sqrt(z**2 + y**2 + x**2)
    return Volume((away <= radius).astype(np.uint8), geometry), away


def nowhere(mask: Volume) -> Volume:
    return mask.with_array(np.zeros(mask.array.shape, np.int16))


HALF = np.sqrt(sum(s**2 for s in SPACING)) / 2  # a point is at most this far from the nearest voxel centre


@pytest.mark.parametrize("margin", [2.0, 5.0, 9.5])
def test_margin_of_a_ball_lies_between_two_balls(margin):
    mask, away = sphere(10)
    grown = derive(mask, nowhere(mask), DerivedRoi(of="a", margin_mm=margin)).array > 0
    assert away[grown].max() <= 10 + margin  # by the triangle inequality
    assert grown[away <= 10 + margin - 2 * HALF].all()
    if margin > max(SPACING):
        assert grown.sum() * np.prod(SPACING) == pytest.approx(4 / 3 * np.pi * (10 + margin) ** 3, rel=0.12)


def test_shrinking_undoes_no_less_than_growing():
    mask, away = sphere(14)
    shrunk = derive(mask, nowhere(mask), DerivedRoi(of="a", margin_mm=-4)).array > 0
    assert away[shrunk].max() <= 14 - 4 + 2 * HALF
    assert shrunk[away <= 14 - 4 - 1e-9].all()
    assert not (shrunk & (mask.array == 0)).any()


def test_rings_are_parts_of_a_whole():
    mask, _ = sphere(9)
    inner, outer = (
        derive(mask, nowhere(mask), DerivedRoi(of="a", ring_mm=limits)).array > 0 for limits in ([0, 3], [3, 6])
    )
    whole = derive(mask, nowhere(mask), DerivedRoi(of="a", margin_mm=6)).array > 0
    assert not (inner & outer).any()
    assert np.array_equal(inner | outer | (mask.array > 0), whole)
    across = derive(mask, nowhere(mask), DerivedRoi(of="a", ring_mm=[-3, 3])).array > 0
    assert (across & (mask.array > 0)).any()
    assert np.array_equal(across & (mask.array == 0), inner)


def test_distance_along_an_axis_is_in_mm():
    geometry = Geometry((9, 8, 11), SPACING)
    array = np.zeros((11, 8, 9), np.uint8)
    array[4:7] = 1
    depth = distance(Volume(array, geometry))
    np.testing.assert_allclose(depth[7:, 4, 4], 2.5 * np.arange(1, 5), rtol=1e-6)
    np.testing.assert_allclose(depth[:4, 4, 4], 2.5 * np.arange(4, 0, -1), rtol=1e-6)
    # the edge of the array, 4 voxels of 0.9 or 1.3 mm away, is no nearer than the slab's own faces
    np.testing.assert_allclose(depth[4:7, 4, 4], [-2.5, -4.5, -2.5], rtol=1e-6)


def test_thresholds_take_the_view_where_the_mask_is():
    mask, _ = sphere(12)
    x = np.indices(mask.array.shape)[2]
    image = mask.with_array((x * 10 - 1000).astype(np.int16))
    solid = derive(mask, image, DerivedRoi(of="a", above=-700)).array > 0
    glass = derive(mask, image, DerivedRoi(of="a", above=-900, below=-700)).array > 0
    assert np.array_equal(solid, (mask.array > 0) & (x >= 30))
    assert np.array_equal(glass, (mask.array > 0) & (x >= 10) & (x < 30))
    # a view on a finer grid with the same ramp in space
    fine = Geometry((119, 44, 25), (0.45, 1.3, 2.5), mask.geometry.origin)
    ramp = np.broadcast_to(np.arange(119) * 5.0 - 1000, (25, 44, 119)).copy()
    assert np.array_equal(derive(mask, Volume(ramp, fine), DerivedRoi(of="a", above=-700)).array > 0, solid)


def test_empty_masks_and_mistakes_are_told():
    mask, _ = sphere(9)
    with pytest.raises(ScanError, match="ROI_EMPTY"):
        derive(nowhere(mask), mask, DerivedRoi(of="a", margin_mm=3))
    for wrong, message in (
        ({}, "write what is derived"),
        ({"margin_mm": 1, "ring_mm": [0, 2]}, "exclude each other"),
        ({"ring_mm": [5, 0]}, "inner distance first"),
        ({"above": 5, "below": 5}, "less than"),
    ):
        with pytest.raises(ValidationError, match=message):
            RadiomicsSet(view="ct", derive={"ring": {"of": "gtv", **wrong}})
