"""Perturbations against analytic truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from polycentric.config.perturb import Contour, Noise, Rotation, Thickness, Translation
from polycentric.errors import ScanError
from polycentric.grids import same, to_points
from polycentric.perturb import (
    add_noise,
    area_mm2,
    contour_sd_mm,
    distance_mm,
    grow,
    middle_mm,
    move_contour,
    noise_sd,
    perturb,
    rotate,
    thicken,
    translate,
)
from polycentric.randomness import generator
from polycentric.volumes import Geometry, Volume

TILTED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def ellipsoid(radii=(24.0, 12.0, 15.0), spacing=(1.0, 1.0, 2.0), size=(70, 70, 36), direction=None) -> Volume:
    """Mask of an ellipsoid with semi-axes in mm (x, y, z) in the middle of the grid."""
    geometry = Geometry(size, spacing, (-30.0, 40.0, 7.0), direction or Geometry(size, spacing).direction)
    z, y, x = np.indices(size[::-1])
    at = [(i - (n - 1) / 2) * s for i, n, s in zip((x, y, z), size, spacing, strict=True)]
    inside = sum((a / r) ** 2 for a, r in zip(at, radii, strict=True)) <= 1
    return Volume(inside.astype(np.uint8), geometry)


def centre_mm(mask: Volume) -> np.ndarray:
    """Centre of gravity of a mask in the patient."""
    z, y, x = np.nonzero(mask.array)
    return to_points(mask.geometry, np.array([[x.mean(), y.mean(), z.mean()]]))[0]


def ml(mask: Volume) -> float:
    return float(mask.array.sum()) * mask.geometry.voxel_ml


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("direction", [None, TILTED])
def test_rotation_turns_an_ellipsoid_and_keeps_its_volume(direction):
    mask = ellipsoid(direction=direction)
    image = mask.with_array(1000.0 * mask.array.astype(np.float32))
    settings = Rotation(kind="rotation", degrees=30)
    turned_image = rotate(image, settings, image.geometry)
    turned = rotate(mask, settings, image.geometry, mask=True)
    assert ml(turned) == pytest.approx(4 / 3 * math.pi * 24 * 12 * 15 / 1000, rel=0.01)
    assert turned_image.array.sum() == pytest.approx(image.array.sum(), rel=0.01)
    # the long axis (along the index x) now points 30 degrees from it towards y
    z, y, x = np.nonzero(turned.array)
    long = np.linalg.eigh(np.cov(np.c_[x, y, 2 * z].T))[1][:, -1]
    assert math.degrees(math.atan2(long[1], long[0])) % 180 == pytest.approx(30, abs=1)
    np.testing.assert_allclose(centre_mm(turned), centre_mm(mask), atol=0.05)


def test_a_quarter_turn_is_exact():
    mask = ellipsoid(spacing=(1.0, 1.0, 1.0), size=(61, 61, 41))
    image = Volume(np.random.default_rng(0).normal(size=mask.array.shape).astype(np.float32), mask.geometry)
    made = rotate(image, Rotation(kind="rotation", degrees=90), image.geometry)
    # positive from x to y: what lay on +x lies on +y
    np.testing.assert_allclose(made.array, np.rot90(image.array, -1, axes=(1, 2)), atol=1e-4)


def test_translation_samples_between_voxels():
    z, y, x = np.indices((8, 9, 10))
    image = Volume(
        (100.0 * x + 10.0 * y + z).astype(np.float32), Geometry((10, 9, 8), (2.0, 1.0, 3.0), (5.0, 6.0, 7.0))
    )
    made = translate(image, Translation(kind="translation", fraction=(0.25, 0.5, 0.0)), image.geometry)
    np.testing.assert_allclose(made.array[:, :-1, :-1], (image.array + 30.0)[:, :-1, :-1], rtol=1e-5)
    np.testing.assert_allclose(made.geometry.origin, (5.5, 6.5, 7.0))


def test_noise_has_the_sd_asked_for_and_is_estimated():
    z, y, x = np.indices((20, 64, 64))
    smooth = Volume((0.5 * x - 0.2 * y + 3 * z).astype(np.float32), Geometry((64, 64, 20), (1.0, 1.0, 1.0)))
    noisy = add_noise(smooth, Noise(kind="noise", sd=12), generator(1, "noise"))
    difference = noisy.array - smooth.array
    assert difference.std() == pytest.approx(12, rel=0.02)
    assert difference.mean() == pytest.approx(0, abs=0.2)
    assert noise_sd(noisy.array) == pytest.approx(12, rel=0.03)
    air = noisy.array.copy()
    air[:, :, :40] = -1000  # constant air says nothing about noise
    assert noise_sd(air) == pytest.approx(12, rel=0.05)
    twice = add_noise(noisy, Noise(kind="noise"), generator(1, "again"))
    assert (twice.array - smooth.array).std() == pytest.approx(12 * math.sqrt(2), rel=0.03)


def test_signed_distance_and_area_of_a_sphere():
    mask = ellipsoid((20.0, 20.0, 20.0), (1.0, 1.0, 2.0), (60, 60, 30))
    z, y, x = np.indices(mask.array.shape)
    r = np.sqrt((x - 29.5) ** 2 + (y - 29.5) ** 2 + (2 * (z - 14.5)) ** 2)
    near = np.abs(r - 20) < 6
    error = (distance_mm(mask) - (20 - r))[near]
    assert abs(error.mean()) < 0.15
    assert error.std() < 0.4
    assert area_mm2(mask) == pytest.approx(4 * math.pi * 400, rel=0.05)


@pytest.mark.parametrize(("spacing", "size"), [((1.0, 1.0, 1.0), (44, 44, 44)), ((1.0, 1.0, 2.0), (44, 44, 22))])
def test_contours_move_as_far_as_stated(spacing, size):
    """A sphere of radius 15 mm whose surface moves by N(0, 1.2 mm): Dice 1 - 1.197 * 1.2 / 15 on average."""
    mask = ellipsoid((15.0, 15.0, 15.0), spacing, size)
    per_mm = 3 / 30 * math.sqrt(2 / math.pi)
    settings = Contour(kind="contour", sd_mm=1.2, length_mm=4)
    made = [move_contour(mask, settings, generator(1, "contour", i)).array.astype(bool) for i in range(8)]
    found = [dice(m, mask.array.astype(bool)) for m in made]
    assert np.mean(found) == pytest.approx(1 - 1.2 * per_mm, abs=0.015)
    # the mean of (r + u)^3 for u of SD s is r^3 + 3 r s^2
    assert np.mean([m.sum() for m in made]) / mask.array.sum() == pytest.approx(1 + 3 * 1.2**2 / 15**2, abs=0.045)
    asked = Contour(kind="contour", dice=0.9, length_mm=4)
    assert contour_sd_mm(mask, asked) == pytest.approx(0.1 / per_mm, rel=0.06)
    found = [dice(move_contour(mask, asked, generator(2, i)).array > 0, mask.array > 0) for i in range(8)]
    assert np.mean(found) == pytest.approx(0.9, abs=0.02)


def test_growth_moves_the_surface():
    mask = ellipsoid((20.0, 20.0, 20.0), (1.0, 1.0, 1.0), (50, 50, 50))
    for mm in (-3.0, 2.0):
        assert ml(grow(mask, mm)) == pytest.approx(4 / 3 * math.pi * (20 + mm) ** 3 / 1000, rel=0.03)


def test_thicker_slices_are_means():
    rng = np.random.default_rng(3)
    image = Volume(
        rng.normal(size=(7, 4, 4)).astype(np.float32), Geometry((4, 4, 7), (1.0, 1.0, 2.0), (0.0, 0.0, 10.0))
    )
    mask = image.with_array(np.ones(image.array.shape, dtype=np.uint8))
    made = thicken(image, Thickness(kind="thickness", mm=6))
    # 14 mm hold two slices of 6 mm, from 1 to 13 mm of the stack
    assert made.geometry.size == (4, 4, 2)
    assert made.geometry.spacing[2] == 6
    expected = (0.5 * image.array[0] + image.array[1] + image.array[2] + 0.5 * image.array[3]) / 3
    np.testing.assert_allclose(made.array[0], expected, rtol=1e-5, atol=1e-6)
    # the stack starts 1 mm below its first slice: 9 mm; the first new slice spans 10 to 16 mm
    assert made.geometry.origin[2] == pytest.approx(13)
    assert thicken(mask, Thickness(kind="thickness", mm=6), mask=True).array.all()
    noise = Volume(rng.normal(0, 10, (40, 32, 32)).astype(np.float32), Geometry((32, 32, 40), (1.0, 1.0, 1.0)))
    made = thicken(noise, Thickness(kind="thickness", mm=4))
    assert made.array.std() == pytest.approx(5, rel=0.03)
    with pytest.raises(ScanError, match="THICKNESS_BELOW_SPACING"):
        thicken(image, Thickness(kind="thickness", mm=1))


def test_steps_are_reproducible_and_regions_independent():
    mask = ellipsoid()
    image = mask.with_array(mask.array.astype(np.float32))
    steps = [Noise(kind="noise", sd=1.0), Contour(kind="contour", sd_mm=1.0), Rotation(kind="rotation", degrees=3)]

    def stream(*names):
        return generator(5, "perturb", "set", "name", "scan", *names)

    first, move = perturb(image, steps, stream)
    again, move_again = perturb(image, steps, stream)
    np.testing.assert_array_equal(first.array, again.array)
    a, b = move("a", mask), move("b", mask)
    # what becomes of a region does not depend on which others are asked for, nor on their order
    np.testing.assert_array_equal(b.array, move_again("b", mask).array)
    np.testing.assert_array_equal(a.array, move_again("a", mask).array)
    assert (a.array != b.array).any()
    assert (image.array == mask.array).all()  # inputs stay
    with pytest.raises(ScanError, match="PERTURBED_MASK_EMPTY"):
        move("a", mask.with_array(np.zeros_like(mask.array)))


def test_steps_of_nothing_change_nothing():
    """A rotation by 0 degrees, noise of 0 and a shift by 0 voxels, on a tilted grid."""
    mask = ellipsoid((24.0, 12.0, 40.0), direction=TILTED)  # touches both ends of the stack
    rng = np.random.default_rng(2)
    image = mask.with_array(rng.integers(-1000, 1000, mask.array.shape).astype(np.int16))
    steps = [
        Rotation(kind="rotation", degrees=0, axis="x"),
        Noise(kind="noise", sd=0),
        Translation(kind="translation", fraction=(0, 0, 0)),
        Thickness(kind="thickness", mm=2),
    ]
    made, move = perturb(image, steps, generator_of(0))
    assert made.array.dtype == np.int16
    np.testing.assert_array_equal(made.array, image.array)
    assert same(made.geometry, image.geometry, 1e-9)
    np.testing.assert_array_equal(move("a", mask).array, mask.array)


def test_image_and_mask_move_together():
    """A mask that is a threshold of its image stays so, by all that moves the image."""
    mask = ellipsoid((14.0, 10.0, 12.0), (1.0, 1.0, 1.0), (60, 60, 50), TILTED)
    image = mask.with_array(mask.array.astype(np.float32))
    steps = [
        Rotation(kind="rotation", degrees=17),
        Rotation(kind="rotation", degrees=-9, axis="y"),
        Translation(kind="translation", fraction=(0.3, 0.4, 0.1)),
        Thickness(kind="thickness", mm=2.5),
    ]
    for count in range(1, 5):
        made, move = perturb(image, steps[:count], generator_of(0))
        found = move("a", mask)
        assert found.geometry == made.geometry
        assert dice(found.array > 0, made.array >= 0.5) > 0.97
        # a mask with a grid of its own comes to lie at the same place
        finer = mask.array.repeat(2, 2)
        geometry = Geometry((120, 60, 50), (0.5, 1.0, 1.0), mask.geometry.origin, TILTED)
        origin = tuple(to_points(geometry, np.array([[-0.5, 0, 0]]))[0])
        other = move("a", Volume(finer, replace(geometry, origin=origin)))
        assert ml(other) == pytest.approx(ml(mask), rel=0.03)
        np.testing.assert_allclose(centre_mm(other), centre_mm(found), atol=0.3)


def test_a_region_that_would_leave_the_image_is_told():
    mask = ellipsoid((6.0, 6.0, 6.0), (1.0, 1.0, 1.0), (60, 40, 20))
    array = np.zeros_like(mask.array)
    array[:, :, :4] = mask.array[:, :, 28:32]  # at the left edge of a wide image
    mask = mask.with_array(array)
    image = mask.with_array(array.astype(np.float32))
    assert perturb(image, [Rotation(kind="rotation", degrees=3)], generator_of(0))[1]("a", mask).array.any()
    for step in (Rotation(kind="rotation", degrees=90), Translation(kind="translation", fraction=(1, 0, 0))):
        with pytest.raises(ScanError, match="PERTURBED_MASK_CUT"):
            perturb(image, [step], generator_of(0))[1]("a", mask)


def test_the_middle_of_a_grid():
    geometry = Geometry((5, 3, 2), (1.0, 2.0, 4.0), (10.0, 20.0, 30.0))
    assert middle_mm(geometry) == (12.0, 22.0, 32.0)


def generator_of(seed: int):
    return lambda *names: generator(seed, "perturb", "set", "name", "scan", *names)


def test_whole_numbers_stay_within_their_type():
    mask = ellipsoid()
    image = mask.with_array((250 * mask.array).astype(np.uint8))
    made, _ = perturb(image, [Noise(kind="noise", sd=20)], generator_of(0))
    assert made.array.dtype == np.uint8
    inside = mask.array > 0
    # cut at 255, and never around the end of the type
    assert made.array[inside].max() == 255
    assert made.array[inside].min() > 100
    assert made.array[~inside].max() < 150
    assert np.median(made.array[inside]) == pytest.approx(250, abs=1)
