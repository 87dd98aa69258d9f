"""Geometry repairs: what is known analytically comes back, and an independent resampler agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from polycentric.convert.repair import Acquired, planes, synthetic, to_grid
from polycentric.volumes import Geometry
from scans import scan, slices
from scipy.ndimage import map_coordinates

TILT = np.tan(np.radians(18.5))
PIXEL = 0.9


def sampled(
    value: Callable[..., np.ndarray], heights: np.ndarray, across: np.ndarray, shape: tuple[int, int] = (90, 80)
) -> np.ndarray:
    """`value(x, y, z)` at the pixels of slices at `heights` whose corners are displaced by `across`, mm."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns] * PIXEL
    return np.stack([value(x + dx, y + dy, np.full_like(x, z)) for z, (dx, dy) in zip(heights, across, strict=True)])


def stack(heights: np.ndarray, tilt: float = TILT, sideways: float = 0.0) -> np.ndarray:
    """Displacement of the slices of a tilted gantry."""
    return np.stack([sideways * (heights - heights[0]), tilt * (heights - heights[0])], axis=1)


def cover(heights: np.ndarray, across: np.ndarray, step: float, shape: tuple[int, int] = (90, 80)) -> Geometry:
    """The grid that holds all slices."""
    more = np.ceil(np.ptp(across, axis=0) / PIXEL - 1e-3).astype(int)
    low = across.min(axis=0)
    count = round((heights[-1] - heights[0]) / step) + 1
    size = (shape[1] + int(more[0]), shape[0] + int(more[1]), count)
    return Geometry(size, (PIXEL, PIXEL, step), (float(low[0]), float(low[1]), float(heights[0])))


def centres(grid: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = np.mgrid[: grid.size[2], : grid.size[1], : grid.size[0]].astype(float)
    return tuple(o + s * v for o, s, v in zip(grid.origin, grid.spacing, (x, y, z), strict=True))


def acquired(heights: np.ndarray, across: np.ndarray, repair: str) -> Acquired:
    return Acquired(tuple(heights.tolist()), tuple(map(tuple, across.tolist())), repair)


def ramp(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return 3 * x - 2 * y + 5 * z + 100


@pytest.mark.parametrize("tilt", [TILT, -TILT])
def test_tilted_ramp_comes_back_exactly(tilt: float) -> None:
    heights = -40 + 2.5 * np.arange(20)
    across = stack(heights, tilt, 0.07)
    grid = cover(heights, across, 2.5)
    found = to_grid(sampled(ramp, heights, across), acquired(heights, across, "shear"), grid, -1024)
    expected = ramp(*centres(grid))
    held = found != -1024
    x, y, z = centres(grid)
    numbers = np.rint((z - heights[0]) / 2.5).astype(int)
    u, v = (x - across[numbers, 0]) / PIXEL, (y - across[numbers, 1]) / PIXEL
    inside = (u >= 0) & (u <= 79) & (v >= 0) & (v <= 89)
    assert held[inside].all()
    assert not held[(u < -0.5) | (u > 79.5) | (v < -0.5) | (v > 89.5)].any()
    assert np.abs(found - expected)[inside].max() < 1e-2
    assert synthetic(acquired(heights, across, "shear"), grid) == ()
    # every slice lies in a plane of its own, so nothing is mixed along the normal
    assert planes(acquired(heights, across, "shear"), grid) == [(n, n, 0.0) for n in range(20)]


def ball(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A ball of radius 20 mm at (36, 52, 10), soft edge of a pixel, HU."""
    distance = 20 - np.sqrt((x - 36) ** 2 + (y - 52) ** 2 + (z - 10) ** 2)
    return -1000 + 1040 * np.clip(0.5 + distance / PIXEL, 0, 1)


def test_tilted_ball_keeps_its_volume_place_and_values() -> None:
    heights = -15 + 1.25 * np.arange(41)
    across = stack(heights)
    grid = cover(heights, across, 1.25)
    tilted = sampled(ball, heights, across)
    found = to_grid(np.rint(tilted).astype("i2"), acquired(heights, across, "shear"), grid, -1024)
    assert found.dtype == np.int16
    x, y, z = centres(grid)
    weight = np.clip((found + 1000) / 1040.0, 0, 1)
    volume = weight.sum() * np.prod(grid.spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.003)
    assert [float((weight * v).sum() / weight.sum()) for v in (x, y, z)] == pytest.approx([36, 52, 10], abs=0.05)
    distance = np.sqrt((x - 36) ** 2 + (y - 52) ** 2 + (z - 10) ** 2)
    assert (found[distance < 18] == 40).all()
    assert set(np.unique(found[distance > 22])) == {-1000, -1024}
    # without the repair the ball lies where it is not: its centre moves with the height
    wrong = np.clip((tilted + 1000) / 1040.0, 0, 1)
    rows = [float((w.sum(axis=1) * np.arange(90) * PIXEL).sum() / w.sum()) for w in (wrong[8], wrong[-12])]
    assert abs(rows[1] - rows[0]) > 8


def test_shear_agrees_with_an_affine_resampling_of_simpleitk() -> None:
    rng = np.random.default_rng(1)
    heights = 3.0 * np.arange(12)
    across = stack(heights)
    grid = cover(heights, across, 3.0)
    array = rng.normal(0, 100, (12, 90, 80)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((PIXEL, PIXEL, 3.0))
    shear = sitk.AffineTransform(3)
    shear.SetMatrix((1, 0, 0, 0, 1, -TILT, 0, 0, 1))  # from the patient to the stack as if its slices were straight
    expected = sitk.GetArrayFromImage(
        sitk.Resample(image, grid.size, shear, sitk.sitkLinear, (0, 0, 0), grid.spacing, (1, 0, 0, 0, 1, 0, 0, 0, 1), 7)
    )
    found = to_grid(array, acquired(heights, across, "shear"), grid, 7)
    assert (found == 7).mean() == pytest.approx((expected == 7).mean(), abs=0.01)
    both = (found != 7) & (expected != 7)
    assert np.abs(found - expected)[both].max() < 1e-2


def test_uneven_distances_become_even() -> None:
    heights = np.array([0, 1.1, 2.0, 5.5, 9.0, 12.0, 13.0, 20.0])
    across = np.zeros((8, 2))
    grid = cover(heights, across, 2.0)
    found = to_grid(sampled(ramp, heights, across), acquired(heights, across, "resample"), grid, 0)
    assert np.abs(found - ramp(*centres(grid))).max() < 1e-2
    # planes 0, 2, 12 and 20 mm are slices
    assert synthetic(acquired(heights, across, "resample"), grid) == (2, 3, 4, 5, 7, 8, 9)


def test_missing_slices_are_interpolated_and_named() -> None:
    every = 3.0 * np.arange(12)
    heights = np.delete(every, [4, 9]) + np.random.default_rng(2).uniform(-0.03, 0.03, 10)
    across = np.random.default_rng(3).uniform(-0.02, 0.02, (10, 2))  # jitter within the tolerance is no shear
    grid = Geometry((80, 90, 12), (PIXEL, PIXEL, 3.0), (0, 0, 0))
    array = sampled(ball, heights, np.zeros((10, 2))).astype(np.float32)
    found = to_grid(array, acquired(heights, across, "interpolate"), grid, -1024)
    assert synthetic(acquired(heights, across, "interpolate"), grid) == (4, 9)
    kept = [n for n in range(12) if n not in (4, 9)]
    assert np.array_equal(found[kept], array)  # slices that are there are not touched
    share = (12 - heights[3]) / (heights[4] - heights[3])
    assert np.allclose(found[4], (1 - share) * array[3] + share * array[4], atol=1e-3)
    error = found[4] - sampled(ball, np.array([12.0]), np.zeros((1, 2)))[0]
    assert np.abs(error).mean() < 12  # HU over the plane; at the edge of the ball more


def test_directions_of_the_patient_do_not_matter() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    heights = 2.0 * np.arange(6)
    across = stack(heights)
    straight = cover(heights, across, 2.0)
    origin = turn @ np.array(straight.origin)
    turned = Geometry(straight.size, straight.spacing, tuple(origin), tuple(turn.ravel()))
    array = np.random.default_rng(5).normal(size=(6, 90, 80)).astype(np.float32)
    where = acquired(heights, across, "shear")
    assert np.array_equal(to_grid(array, where, straight, 0), to_grid(array, where, turned, 0))


def test_a_wrong_number_of_slices_is_a_mistake_of_ours() -> None:
    grid = Geometry((4, 4, 3), (1, 1, 1))
    with pytest.raises(ValueError, match="2 slices, 3 positions"):
        to_grid(np.zeros((2, 4, 4)), Acquired((0, 1, 2), ((0, 0),) * 3, "shear"), grid, 0)


def test_a_tilted_scan_becomes_a_volume(tmp_path: Path) -> None:
    heights = -15 + 2.5 * np.arange(12)
    across = stack(heights)
    grid = cover(heights, across, 2.5)
    array = np.rint(sampled(ball, heights, across)).astype("i2")
    rows = [
        r | {"position_mm": z, "offset_x_mm": dx, "offset_y_mm": dy, "geometry_repair": "shear", "intercept": 0.0}
        for r, z, (dx, dy) in zip(slices(tmp_path, array), heights, across, strict=True)
    ]
    made, volume = scan(tmp_path, rows, grid)
    assert made["status"] == "ok", made["reason"]
    assert np.array_equal(volume.array, to_grid(array, acquired(heights, across, "shear"), grid, -1024))
    note = json.loads(made["repairs"])[0]
    assert note["code"] == "GEOM_GANTRY_TILT"
    assert note["before"]["displaced_mm"] == pytest.approx(TILT * 27.5, abs=1e-3)
    assert made["synthetic_slices"] == ""
    flat = cover(heights, 0 * across, 2.5)
    plain, _ = scan(tmp_path, slices(tmp_path, array), flat)
    assert plain["pixels_sha256"] == made["pixels_sha256"]  # of the values before repair
    # gaps of a stack: the same slices without the fifth
    fewer = [r | {"geometry_repair": "interpolate", "offset_y_mm": 0.0} for n, r in enumerate(rows) if n != 4]
    made, volume = scan(tmp_path, fewer, flat)
    assert (made["synthetic_slices"], volume.array.shape[0]) == ("4", 12)


@pytest.mark.realdata
def test_tilted_head_of_a_scanner(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    """GE, 18.5 degrees, slice distances of 1.08 to 7.0 mm: resampled values are those at their place in the patient."""
    series: dict[tuple, list] = {}
    for path in sorted((realdata("gantry_tilt") / "GE").glob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if header.get("Modality") == "CT" and "LOCALIZER" not in header.ImageType and "ImagePositionPatient" in header:
            key = (header.SeriesInstanceUID, *map(float, header.ImageOrientationPatient))
            series.setdefault(key, []).append((path, header))
    found = max(series.values(), key=len)
    turn = [np.array(found[0][1].ImageOrientationPatient, float)[s] for s in (slice(0, 3), slice(3, 6))]
    axes = np.stack([*turn, np.cross(*turn)])
    places = np.array([np.array(h.ImagePositionPatient, float) for _, h in found]) @ axes.T
    order = np.argsort(places[:, 2])
    places, found = places[order], [found[n] for n in order]
    heights, across = places[:, 2], places[:, :2] - places[0, :2]
    tilt = np.degrees(np.arctan2(np.ptp(across[:, 1]), np.ptp(heights)))
    assert tilt == pytest.approx(18.5, abs=0.1)
    header = found[0][1]
    pixel = float(header.PixelSpacing[0])
    more = int(np.ceil(np.ptp(across[:, 1]) / pixel - 1e-3))
    step = 2.5
    count = int(np.ptp(heights) // step) + 1
    low = np.array([*(places[0, :2] + across.min(axis=0)), heights[0]])
    grid = Geometry((512, 512 + more, count), (pixel, pixel, step), tuple(axes.T @ low), tuple(axes.T.ravel()))
    rows = []
    for (path, h), (dx, dy), z in zip(found, across, heights, strict=True):
        (tmp_path / path.name).symlink_to(path)
        rows.append(
            {"path": path.name, "slope": float(h.RescaleSlope), "intercept": float(h.RescaleIntercept)}
            | {"position_mm": z, "offset_x_mm": dx, "offset_y_mm": dy, "geometry_repair": "shear"}
        )
    made, volume = scan(tmp_path, rows, grid)
    assert made["status"] == "ok", made["reason"]
    # independently: each voxel's place in the patient, looked up in the two slices around it
    stored = np.stack([pydicom.dcmread(p).pixel_array.astype(float) for p, _ in found]) + float(header.RescaleIntercept)
    stored = np.maximum(stored, -1024)
    rng = np.random.default_rng(6)
    index = np.stack([rng.integers(0, n, 4000) for n in grid.size], axis=1)
    points = np.array(grid.origin) + (index * grid.spacing) @ np.array(grid.direction).reshape(3, 3).T
    local = points @ axes.T
    upper = np.clip(np.searchsorted(heights, local[:, 2]), 1, len(heights) - 1)
    value = np.zeros(len(index))
    inside = np.ones(len(index), bool)
    share = (local[:, 2] - heights[upper - 1]) / (heights[upper] - heights[upper - 1])
    for number, weight in ((upper - 1, 1 - share), (upper, share)):
        u = (local[:, 0] - places[number, 0]) / pixel
        v = (local[:, 1] - places[number, 1]) / pixel
        inside &= (u >= 0) & (u <= 511) & (v >= 0) & (v <= 511)
        value += weight * map_coordinates(stored, [number, v, u], order=1, mode="nearest")
    # planes within a tenth of a step of a slice are that slice
    near = np.abs(heights[:, None] - local[:, 2]).min(axis=0)
    inside &= (near < 1e-3) | (near > 0.1 * step + 1e-6)
    got = volume.array[index[:, 2], index[:, 1], index[:, 0]]
    assert inside.sum() > 1000
    assert np.abs(got - value)[inside].max() <= 0.51
