"""Contours: filling and mapping to slices, against geometry and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_dicom
from polycentric.convert.contours import Contours, Filled, draw, outline, rasterise
from polycentric.convert.findings import Findings
from polycentric.convert.names import safe, shown
from polycentric.convert.planes import Planes, between, fill_gaps
from polycentric.convert.raster import area, fill
from polycentric.errors import ScanError
from polycentric.volumes import Geometry

# --------------------------------------------------------------------------------------------------------------- raster


def regular(corners: int, radius: float, x: float, y: float, turn: float = 0.1) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def test_area_is_that_of_geometry() -> None:
    square = np.array([[0.2, 0.3], [4.7, 0.3], [4.7, 7.9], [0.2, 7.9]])
    assert area([square]) == pytest.approx(4.5 * 7.6, rel=1e-12)
    for corners in (3, 5, 12, 90):
        polygon = regular(corners, 13.37, 20, 30)
        expected = corners / 2 * 13.37**2 * math.sin(2 * math.pi / corners)
        assert area([polygon]) == pytest.approx(expected, rel=1e-12)
        assert area([polygon[::-1]]) == pytest.approx(expected, rel=1e-12)
    ring = [regular(50, 10, 20, 20), regular(40, 6, 20, 20), regular(30, 2, 20, 20)]
    rings = [n / 2 * r**2 * math.sin(2 * math.pi / n) for n, r in ((50, 10), (40, 6), (30, 2))]
    assert area(ring) == pytest.approx(rings[0] - rings[1] + rings[2], rel=1e-12)
    assert area([square, square]) == pytest.approx(0, abs=1e-12)  # what a stored copy does to an even-odd fill
    assert area([]) == area([square[:2]]) == 0


def test_keyhole_is_a_hole() -> None:
    outer, inner = regular(40, 10, 20, 20, 0), regular(40, 4, 20, 20, 0)
    keyhole = np.concatenate([outer, outer[:1], inner[:1], inner[::-1], inner[:1], outer[:1]])
    assert area([keyhole]) == pytest.approx(area([outer, inner]), rel=1e-9)
    assert np.array_equal(fill([keyhole], (40, 40)), fill([outer, inner], (40, 40)))


def test_fill_agrees_with_matplotlib_on_random_polygons() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(7)
    yy, xx = np.mgrid[0:50, 0:60]
    centres = np.stack([xx.ravel(), yy.ravel()], axis=1)
    for _ in range(30):
        radius = rng.uniform(4, 30, rng.integers(3, 25))
        angle = np.sort(rng.uniform(0, 2 * np.pi, len(radius)))
        polygon = np.stack([30 + radius * np.cos(angle), 25 + radius * np.sin(angle)], axis=1)
        inside = Outline(np.vstack([polygon, polygon[:1]]), closed=True).contains_points(centres).reshape(50, 60)
        assert np.array_equal(fill([polygon], (50, 60)), inside)


def test_fill_agrees_with_scikit_image_and_has_the_right_size() -> None:
    polygon2mask = pytest.importorskip("skimage.draw").polygon2mask
    for corners in (3, 7, 64):
        polygon = regular(corners, 40.3, 60.1, 55.7)
        mask = fill([polygon], (120, 130))
        assert np.array_equal(mask, polygon2mask((120, 130), polygon[:, ::-1]))
        assert mask.sum() == pytest.approx(area([polygon]), rel=0.01)


def test_neighbours_share_no_pixel_and_leave_no_gap() -> None:
    left = np.array([[2, 3], [10, 3], [10, 12], [2, 12]], dtype=float)  # edges through pixel centres
    right = left + np.array([8, 0])
    a, b = fill([left], (20, 30)), fill([right], (20, 30))
    assert not (a & b).any()
    assert (a | b).sum() == fill([np.array([[2, 3], [18, 3], [18, 12], [2, 12]], dtype=float)], (20, 30)).sum() == 144


def test_what_lies_outside_the_image_is_cut_off() -> None:
    big = np.array([[-10, -10], [100, -10], [100, 100], [-10, 100]], dtype=float)
    assert fill([big], (5, 7)).all()
    assert not fill([big + 200], (5, 7)).any()


# ------------------------------------------------------------------------------------------------------------- contours

GRID = Geometry((40, 40, 10), (0.8, 0.8, 3.0), (-10.0, -20.0, 100.0))
PLANES = Planes.of(GRID)
CIRCLE_ML = 60 / 2 * 36 * math.sin(2 * math.pi / 60) * 3 / 1000  # one slice of ring()


def ring(z: float, radius: float = 6.0) -> np.ndarray:
    return tiny_dicom.circle(5, -5, z, radius, 60)


def closed(*contours: np.ndarray) -> Contours:
    return tuple(("CLOSED_PLANAR", c) for c in contours)


def drawn(contours: Contours, planes: Planes = PLANES, **verdicts: str) -> tuple[Filled, Findings]:
    findings = Findings(verdicts)
    return draw(contours, planes, tolerance_mm=0.1, skipped_slices=3, findings=findings), findings


def test_copies_are_removed_whatever_their_start_and_direction() -> None:
    one = ring(106)
    copies = [np.roll(one, 7, axis=0), one[::-1], np.vstack([one, one[:1]]), one + 1e-5, np.round(one, 2)]
    filled, findings = drawn(closed(one, *copies))
    assert findings.columns()["codes"] == "RT_DUP_CONTOUR"
    assert findings.made == [{"code": "RT_DUP_CONTOUR", "before": 6, "after": 1}]
    assert filled.contour_volume_ml == pytest.approx(CIRCLE_ML, rel=1e-6)
    assert filled.nested_voxels == 0
    assert np.array_equal(filled.mask, drawn(closed(one))[0].mask)
    with pytest.raises(ScanError, match="RT_DUP_CONTOUR"):
        drawn(closed(one, one), RT_DUP_CONTOUR="reject")


def test_contours_that_differ_are_no_copies() -> None:
    slices = outline(
        closed(ring(106), ring(106) + np.array([0.1, 0, 0]), ring(106, 5.9), ring(109)), PLANES, 0.1, Findings({})
    )
    assert {k: len(v) for k, v in slices.items()} == {2: 3, 3: 1}


def test_nested_contours_are_holes_and_reported() -> None:
    filled, findings = drawn(closed(ring(106, 8), ring(106, 3)))
    alone, _ = drawn(closed(ring(106, 3)))
    assert filled.nested_voxels == alone.mask.sum() > 0
    assert not filled.mask[2, 19, 19]
    assert findings.columns()["codes"] == "RT_NESTED"
    assert f"{alone.mask.sum() * GRID.voxel_ml:.3g} mL" in findings.columns()["notes"]
    with pytest.raises(ScanError, match="RT_NESTED"):
        drawn(closed(ring(106, 8), ring(106, 3)), RT_NESTED="reject")


def test_self_crossing_contour_keeps_both_lobes() -> None:
    # a bow tie: two triangles of 4 x 8 / 2 mm2 each
    bow = np.array([[1, -9, 106], [9, -1, 106], [9, -9, 106], [1, -1, 106]], dtype=float)
    fine = Planes.of(Geometry((400, 400, 10), (0.08, 0.08, 3.0), (-10.0, -20.0, 100.0)))
    filled, findings = drawn(closed(bow), fine)
    assert not findings.notes
    assert filled.mask.sum() * fine.grid.voxel_ml == pytest.approx(32 * 3 / 1000, rel=0.02)


@pytest.mark.parametrize(
    ("contours", "code"),
    [
        (closed(ring(100.4)), "RT_OFFGRID_Z"),
        (closed(ring(97)), "RT_OUT_OF_VOLUME"),
        (closed(ring(130)), "RT_OUT_OF_VOLUME"),
        (closed(ring(106) + np.array([30, 0, 0])), "RT_OUT_OF_VOLUME"),
        (closed(ring(106) + np.linspace(0, 2, 60)[:, None] * [0, 0, 1]), "RT_NONPLANAR_CONTOUR"),
        ((("OPEN_PLANAR", ring(106)),), "RT_OPEN_CONTOUR"),
        (closed(ring(106)[:2]), "RT_OPEN_CONTOUR"),
    ],
)
def test_contours_that_cannot_be_used_have_a_code(contours: Contours, code: str) -> None:
    with pytest.raises(ScanError) as error:
        drawn(contours)
    assert error.value.code == code


def test_contours_left_out_are_counted_unless_the_verdict_rejects() -> None:
    slanted = ring(106) + np.linspace(0, 2, 60)[:, None] * [0, 0, 1]
    mixed = (*closed(ring(106), slanted), ("OPEN_PLANAR", ring(109)), ("POINT", ring(109)[:1]))
    filled, findings = drawn(mixed)
    assert findings.columns()["codes"] == "RT_NONPLANAR_CONTOUR;RT_OPEN_CONTOUR"
    assert "1 of 4" in findings.columns()["notes"]
    assert "2 of 4" in findings.columns()["notes"]
    assert np.array_equal(filled.mask, drawn(closed(ring(106)))[0].mask)
    for code in ("RT_NONPLANAR_CONTOUR", "RT_OPEN_CONTOUR"):
        with pytest.raises(ScanError, match=code):
            drawn(mixed, **{code: "reject"})


def test_small_deviations_pass_and_gaps_are_named() -> None:
    filled, findings = drawn(closed(ring(103.05), ring(109)))
    assert np.flatnonzero(filled.mask.any(axis=(1, 2))).tolist() == [1, 3]
    assert findings.columns()["codes"] == "RT_MISSING_INTERMEDIATE"
    assert findings.columns()["notes"] == "RT_MISSING_INTERMEDIATE: contours skip 1 slices, up to 1 in a row"


def test_contours_between_slices_go_to_the_nearest_if_wanted() -> None:
    filled, findings = drawn(closed(ring(104.2), ring(107.0)), RT_OFFGRID_Z="repair")
    assert np.flatnonzero(filled.mask.any(axis=(1, 2))).tolist() == [1, 2]
    assert findings.made == [{"code": "RT_OFFGRID_Z", "before": 1.2, "after": "nearest slice"}]


def test_contours_of_a_finer_scan_take_the_cut_nearest_to_each_slice() -> None:
    # drawn on slices 1 mm apart, a cone: all on one plane together, even-odd filling would leave rings
    heights = np.arange(102, 110.5, 1.0)
    cone = closed(*(ring(z, 2 + (z - 102) * 0.8) for z in heights))
    filled, _ = drawn(cone, RT_OFFGRID_Z="repair")
    expected, _ = drawn(closed(*(ring(z, 2 + (z - 102) * 0.8) for z in (103, 106, 109))))
    assert np.array_equal(filled.mask, expected.mask)


def test_clipping_at_the_edges_of_the_image() -> None:
    beyond = closed(ring(106) + np.array([18, 0, 0]), ring(97), ring(109))
    filled, findings = drawn(beyond, RT_OUT_OF_VOLUME="flag")
    assert findings.columns()["codes"] == "RT_OUT_OF_VOLUME"
    assert np.flatnonzero(filled.mask.any(axis=(1, 2))).tolist() == [2, 3]
    assert filled.contour_volume_ml is None
    inside, _ = drawn(closed(ring(106), ring(109)))
    assert 0 < filled.mask[2].sum() < inside.mask[2].sum()


def test_skipped_slices_are_interpolated_if_wanted() -> None:
    cone = [ring(100 + 3 * n, 4 + 0.5 * n) for n in range(10)]
    some = closed(*(cone[n] for n in (0, 1, 3, 6, 9)))
    holed, _ = drawn(some)
    filled, findings = drawn(some, RT_MISSING_INTERMEDIATE="repair")
    assert np.flatnonzero(holed.mask.any(axis=(1, 2))).tolist() == [0, 1, 3, 6, 9]
    assert np.array_equal(filled.mask[[0, 1, 3, 6, 9]], holed.mask[[0, 1, 3, 6, 9]])
    radii = np.sqrt(filled.mask.sum(axis=(1, 2)) * 0.64 / math.pi)
    assert np.allclose(radii, 4 + 0.5 * np.arange(10), atol=0.8)  # a pixel
    assert findings.made == [{"code": "RT_MISSING_INTERMEDIATE", "before": 5, "after": 10}]
    assert filled.contour_volume_ml is None
    with pytest.raises(ScanError, match="RT_MISSING_INTERMEDIATE"):
        drawn(some, RT_MISSING_INTERMEDIATE="reject")
    # pieces far from each other are not joined
    apart, findings = drawn(closed(ring(100), ring(124)), RT_MISSING_INTERMEDIATE="repair")
    assert np.flatnonzero(apart.mask.any(axis=(1, 2))).tolist() == [0, 8]


# ------------------------------------------------------------------------------------------------------------- geometry

ORIENTATIONS = {
    "axial": np.eye(3),
    "head first prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]], dtype=float),
    "oblique": np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0],
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_ellipsoid_in_any_orientation_has_its_analytic_volume(name: str) -> None:
    axes = ORIENTATIONS[name] * np.sign(np.linalg.det(ORIENTATIONS[name]))
    grid = Geometry((90, 80, 60), (0.7, 0.9, 1.1), (-31.0, 12.0, 55.0), tuple(axes.ravel()))
    centre = np.array(grid.origin) + axes @ np.array([31.2, 36.1, 33.0])
    half = np.array([22.0, 26.0, 27.3])  # along the axes of the patient
    contours = []
    for plane in Planes.of(grid).corners:
        # the cut of an ellipsoid by a plane, in coordinates (u, v) of the plane: a quadratic form
        shape = axes[:, :2].T @ np.diag(half**-2.0) @ axes[:, :2]
        offset = axes[:, :2].T @ np.diag(half**-2.0) @ (plane - centre)
        middle = -np.linalg.solve(shape, offset)
        rest = (
            1
            - (plane - centre) @ np.diag(half**-2.0) @ (plane - centre)
            - middle @ shape @ middle
            - 2 * offset @ middle
        )
        if rest <= 0:
            continue
        values, vectors = np.linalg.eigh(shape)
        angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
        around = (vectors * np.sqrt(rest / values)) @ np.stack([np.cos(angle), np.sin(angle)])
        contours.append(plane + (axes[:, :2] @ (middle[:, None] + around)).T)
    filled, findings = drawn(closed(*contours), Planes.of(grid))
    assert not findings.notes
    volume = 4 / 3 * math.pi * half.prod() / 1000
    assert filled.mask.sum() * grid.voxel_ml == pytest.approx(volume, rel=0.002)
    assert filled.contour_volume_ml == pytest.approx(volume, rel=0.002)
    where = np.argwhere(filled.mask)[:, ::-1] * grid.spacing @ axes.T + np.array(grid.origin)
    assert np.allclose(where.mean(axis=0), centre, atol=0.05)
    assert (((where - centre) / half) ** 2).sum(axis=1).max() < 1.0 + 0.01


def test_jittering_positions_are_followed_slice_by_slice() -> None:
    along = 100 + 3.0 * np.arange(10) + np.linspace(0, 0.4, 10)
    planes = Planes.of_slices(GRID, along, np.zeros((10, 2)), "")
    filled, findings = drawn(closed(ring(along[9])), planes)
    assert not findings.notes
    assert filled.mask[9].any()
    with pytest.raises(ScanError, match="RT_OFFGRID_Z"):
        drawn(closed(ring(along[9])))


def test_sheared_stack_gives_the_shape_in_the_patient() -> None:
    # a gantry tilt of 15 degrees: slices shift by 0.8 mm along their columns; contours are where the patient is
    along, shift = 100 + 3.0 * np.arange(10), np.outer(np.arange(10), [0.0, 3 * math.tan(math.radians(-15))])
    grid = Geometry((40, 60, 10), GRID.spacing, (-10.0, -20.0 + shift[:, 1].min(), 100.0))
    planes = Planes.of_slices(grid, along, shift, "shear")
    assert np.allclose(planes.acquired[0], GRID.origin)
    assert np.allclose(planes.acquired[9] - planes.acquired[0], [0, shift[9, 1], 27])
    contours = closed(*(ring(z) for z in along))
    filled, findings = drawn(contours, planes)
    assert not findings.notes
    expected, _ = drawn(contours, Planes.of(grid))
    assert np.array_equal(planes.to_grid(filled.mask), expected.mask)


def test_uneven_slices_are_interpolated_by_shape() -> None:
    along = np.concatenate([np.arange(0, 20, 1.5), np.arange(20, 41, 4.0)])
    grid = Geometry((120, 120, 21), (0.5, 0.5, 2.0))
    planes = Planes.of_slices(grid, along, np.zeros((len(along), 2)), "resample")
    assert planes.shape == (len(along), 120, 120)
    cuts = [(z, math.sqrt(max(18.0**2 - (z - 20) ** 2, 0))) for z in along]
    filled, _ = drawn(closed(*(tiny_dicom.circle(30, 30, z, r, 100) for z, r in cuts if r)), planes)
    mask = planes.to_grid(filled.mask)
    assert mask.shape == (21, 120, 120)
    assert mask.sum() * grid.voxel_ml == pytest.approx(4 / 3 * math.pi * 18**3 / 1000, rel=0.02)
    for number in range(3, 18):
        radius = math.sqrt(18.0**2 - (2 * number - 20) ** 2)
        assert math.sqrt(mask[number].sum() * 0.25 / math.pi) == pytest.approx(radius, abs=0.6)


def test_missing_slice_is_filled_and_no_skipped_one() -> None:
    along = np.delete(100 + 3.0 * np.arange(10), 4)
    planes = Planes.of_slices(GRID, along, np.zeros((9, 2)), "interpolate")
    assert planes.synthetic == (4,)
    filled, findings = drawn(closed(*(ring(z) for z in along[2:7])), planes)
    assert not findings.notes
    mask = planes.to_grid(filled.mask)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [2, 3, 4, 5, 6, 7]
    assert np.array_equal(mask[4], mask[3])


def test_shape_between_two_circles() -> None:
    yy, xx = np.mgrid[0:100, 0:100]
    small, large = ((xx - 50) ** 2 + (yy - 50) ** 2 < r**2 for r in (10, 30))
    half = between(small, large, 0.5, (1.0, 1.0))
    assert math.sqrt(half.sum() / math.pi) == pytest.approx(20, abs=0.5)
    assert np.array_equal(between(small, small, 0.3, (1.0, 1.0)), small)
    stack = np.stack([small, 0 * small, 0 * small, 0 * small, large]).astype(np.uint8)
    filled, numbers = fill_gaps(stack, (1.0, 1.0))
    assert numbers == [1, 2, 3]
    assert [math.sqrt(s.sum() / math.pi) for s in filled[1:4]] == pytest.approx([15, 20, 25], abs=0.6)


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["GTV-1", "gtv1", "Lung L", "Lung_R", "SpinalCord", "CTV 50", "1,SUV_primair", "Heart", "PTV_p", "LUNG-LT"]
)
def test_anatomical_names_are_shown(name: str) -> None:
    assert safe(name) == (name != "PTV_p")
    assert shown([name], [3]) == (name if name != "PTV_p" else "region 3")


@pytest.mark.parametrize(
    "name",
    ["Müller, Hans", "GTV Smith", "GTV 19750312", "GTV 12.03", "GTV 123", "", "JD", "../GTV", "GTV\tDoe",
     "\u202eGTV", "x" * 300, "Max", "GTV a"],
)  # fmt: skip
def test_names_that_could_tell_a_person_are_not(name: str) -> None:
    assert shown([name, "Lung L"], [7, 8]) == "region 7, Lung L"


def test_rasterise_leaves_no_trace_of_other_planes() -> None:
    assert rasterise({}, PLANES).mask.sum() == 0
