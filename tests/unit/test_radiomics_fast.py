"""The fast engine against PyRadiomics, feature by feature, and its independence of everything but image and mask."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from polycentric.config.features import FEATURE_CLASSES, Recipe
from polycentric.config.radiomics_names import BY_NAME, FEATURES, LEFT_OUT
from polycentric.errors import ScanError
from polycentric.grids import aligned, onto
from polycentric.radiomics import extract, extract_rois
from polycentric.radiomics.extract import groups
from polycentric.radiomics.fast import filters, jit, shape
from polycentric.radiomics.resample import resample
from polycentric.tools.radiomics_gate import Case, cases, compare, nrrd_case, recipes
from polycentric.volumes import Geometry, Volume

RECIPES = recipes()
PLAIN = Recipe(grid="pyradiomics")
PROJECT = Path(__file__).parents[2]


def image(seed: int = 0, shape=(22, 27, 30), spacing=(0.9, 1.1, 2.0), dtype=np.int16) -> Volume:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    return Volume((gaussian_filter(noise, 1.2) * 900).astype(dtype), Geometry(shape[::-1], spacing, (5, -40, 12)))


def ball(volume: Volume, radius: float = 8.0, centre=(0.0, 0.0, 0.0)) -> Volume:
    shape = volume.array.shape
    z, y, x = (i - (n - 1) / 2 - c for i, n, c in zip(np.indices(shape), shape, centre, strict=True))
    return volume.with_array((x**2 + y**2 + 1.5 * z**2 < radius**2).astype(np.uint8))


def masked(volume: Volume, *voxels: tuple) -> Volume:
    array = np.zeros(volume.array.shape, np.uint8)
    for voxel in voxels:
        array[voxel] = 1
    return volume.with_array(array)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_every_setting_on_a_made_up_image(name, dtype):
    volume = image(dtype=dtype)
    found = compare(Case("ball", volume, ball(volume)), name, RECIPES[name])
    assert found.compared > 450
    assert found.different == ()
    assert found.worst < 1e-9


def shapes(volume: Volume) -> dict[str, Volume]:
    """Masks whose neighbourhoods, runs and hulls are special cases."""
    rng = np.random.default_rng(1)
    z, y, x = np.indices(volume.array.shape)
    return {
        "all of the image": masked(volume, (slice(None),) * 3),
        "corner": masked(volume, (slice(0, 5), slice(-6, None), slice(0, 7))),
        "one slice": masked(volume, (8, slice(4, 12), slice(2, 11))),
        "one column": masked(volume, (slice(3, 11), 5, slice(6, 12))),
        "two voxels apart": masked(volume, (3, 4, 5), (9, 7, 5)),
        "voxels that do not touch": volume.with_array(((z % 2 == 0) & (y % 3 == 0) & (x % 2 == 1)).astype(np.uint8)),
        "chessboard": volume.with_array(((z + y + x) % 2).astype(np.uint8)),
        "dust": volume.with_array((rng.random(volume.array.shape) < 0.05).astype(np.uint8)),
        "hollow": volume.with_array(ball(volume, 5).array - ball(volume, 3).array),
        "two balls": volume.with_array(ball(volume, 3, (0, -3, 4)).array | ball(volume, 2, (2, 4, -4)).array),
    }


@pytest.mark.parametrize("name", shapes(image(shape=(12, 14, 13))))
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_special_masks(name):
    volume = image(3, shape=(12, 14, 13))
    found = compare(Case(name, volume, shapes(volume)[name]), "plain", PLAIN)
    assert found.compared == 107
    assert found.different == ()


@pytest.mark.parametrize("radius", [3.0, 8.0])
def test_filters_at_the_border_of_the_image(radius):
    volume = image(4, shape=(21, 27, 31))
    mask = ball(volume, radius, (8, -10, 12))
    recipe = Recipe(log_sigmas_mm=(1.0, 2.5), wavelet="sym3", classes=["firstorder", "glcm"])
    for grid in ("pyradiomics", "ibsi"):
        found = compare(Case("border", volume, mask), grid, recipe.model_copy(update={"grid": grid}))
        assert found.compared == 11 * 42
        assert found.different == ()


def test_plane_shapes_and_features_by_name():
    volume = image(5)
    recipe = Recipe(
        grid="pyradiomics",
        two_dimensional=True,
        classes={
            "shape": ["Compactness1", "Compactness2", "SphericalDisproportion", "Flatness"],
            "shape2D": ["SphericalDisproportion", "MaximumDiameter", "Elongation", "Perimeter", "MeshSurface"],
            "firstorder": ["StandardDeviation", "Mean"],
            "glcm": ["Contrast", "Dissimilarity"],  # PyRadiomics gave up Dissimilarity for DifferenceAverage
            "gldm": ["DependenceEntropy"],
        },
    )
    found = compare(Case("plane", volume, masked(volume, (8, slice(4, 19), slice(6, 21)))), "2D", recipe)
    assert found.compared == 13
    assert found.different == ()
    for engine in ("fast", "pyradiomics"):
        with pytest.raises(ScanError, match=r"ROI_UNUSABLE: .*shape"):
            extract(volume, ball(volume), recipe.model_copy(update={"engine": engine}))


def test_names_are_pyradiomics_own():
    from radiomics import getFeatureClasses

    theirs = {name: family.getFeatureNames() for name, family in getFeatureClasses().items()}
    assert {*theirs} == {*FEATURES}
    for family, names in theirs.items():
        assert list(FEATURES[family]) == [name for name, old in names.items() if not old]
        assert {*BY_NAME.get(family, ()), *LEFT_OUT.get(family, ())} == {name for name, old in names.items() if old}


def test_resegmentation_and_its_shape():
    volume = image(6)
    for settings in ({"resegmentShape": True}, {}):
        recipe = Recipe(grid="pyradiomics", resegment_range=(-120, 150), further_settings=settings)
        found = compare(Case("kept", volume, ball(volume)), "resegmented", recipe)
        assert found.different == ()
    # IBSI: the shape of an ROI does not depend on its intensities, with either engine
    for engine in ("fast", "pyradiomics"):
        names = dict.fromkeys(FEATURE_CLASSES, ())
        whole = extract(volume, ball(volume), Recipe(engine=engine, classes=names)).values
        kept = extract(volume, ball(volume), Recipe(engine=engine, classes=names, resegment_range=(-9, 9))).values
        assert whole["original_firstorder_Maximum"] > 9 >= kept["original_firstorder_Maximum"]
        assert {k: v for k, v in whole.items() if "shape" in k} == {k: v for k, v in kept.items() if "shape" in k}


def test_filtered_images_are_itks_and_pywavelets_to_the_last_bit():
    import SimpleITK as sitk
    from radiomics import imageoperations

    volume = image(7, shape=(60, 64, 70), dtype=np.float32)
    box = (slice(20, 41), slice(22, 40), slice(30, 52))
    for sigma in (0.7, 1.5, 3.0):
        theirs = next(imageoperations.getLoGImage(volume.to_sitk(), None, sigma=[sigma]))[0]
        np.testing.assert_array_equal(filters.laplacian(volume, box, sigma), sitk.GetArrayFromImage(theirs)[box])
    for name in ("coif1", "db4", "bior2.2", "haar"):
        ours = dict(filters.wavelets(volume.array, (slice(30, 60), slice(0, 20), slice(40, 70)), name))
        for theirs, label, _ in imageoperations.getWaveletImage(volume.to_sitk(), None, wavelet=name):
            expected = sitk.GetArrayFromImage(theirs)[30:60, 0:20, 40:70]
            np.testing.assert_array_equal(ours[label.removeprefix("wavelet-")], expected)


def test_diameters_are_those_of_all_pairs():
    from radiomics import cShape

    rng = np.random.default_rng(8)
    for fill in (0.02, 0.3):
        mask = np.pad(rng.random((9, 11, 10)) < fill, 1)
        spacing = (2.5, 0.7, 1.1)
        area, volume, theirs = cShape.calculate_coefficients(mask, np.array(spacing))
        assert shape.diameters(mask.astype(np.uint8), spacing) == pytest.approx(theirs, rel=1e-12)
        assert shape.mesh(mask.astype(np.uint8), spacing) == pytest.approx((area, volume), rel=1e-12)


FULL = Recipe(spacing_mm=(1, 1, 1), log_sigmas_mm=(1.0, 2.0), wavelet="coif1", resegment_range=(-1000, 3000))


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "bspline"])
def test_interpolation_is_itks(interpolation):
    volume = image(20, spacing=(0.9, 1.1, 2.0), dtype=np.float32)
    # no spacing at which voxel centres lie halfway: where ITK takes the nearest there is rounding
    for spacing in ((0.97, 0.97, 0.97), (0.43, 1.7, 0.0)):
        grid = aligned(volume.geometry, spacing)
        theirs = onto(volume, grid, interpolation)
        whole = resample(volume, grid, [0, 0, 0], [n - 1 for n in grid.size], interpolation)
        assert whole.geometry == grid
        np.testing.assert_allclose(whole.array, theirs.array, rtol=1e-9, atol=1e-8)
        part = resample(volume, grid, [3, 2, 4], [11, 9, 17], interpolation)
        np.testing.assert_array_equal(part.array, whole.array[4:18, 2:10, 3:12])
    flat = Volume(volume.array[:1], Geometry((30, 27, 1), (0.9, 1.1, 2.0)))
    grid = aligned(flat.geometry, (1.0, 1.0, 0.5))
    found = resample(flat, grid, [0, 0, 0], [n - 1 for n in grid.size], interpolation).array
    np.testing.assert_allclose(found, found[:1].repeat(4, 0))


@pytest.mark.parametrize("grid", ["ibsi", "pyradiomics", "resampled"])
def test_rois_do_not_depend_on_each_other(grid):
    volume = image(9, shape=(40, 44, 48), spacing=(0.9, 1.1, 1.3), dtype=np.float32)
    masks = {
        "a": ball(volume, 6), "far": ball(volume, 4, (15, -15, -18)), "reader 2": ball(volume, 7, (1, 0, 1)),
        "none": masked(volume),
    }  # fmt: skip
    update = {"grid": grid, "spacing_mm": None} if grid != "resampled" else {"log_sigmas_mm": (0.5,)}
    recipe = FULL.model_copy(update=update)
    together = extract_rois(volume, masks, recipe)
    assert list(together) == list(masks)
    assert isinstance(together["none"], ScanError)
    for name in ("a", "far", "reader 2"):
        assert together[name] == extract(volume, masks[name], recipe)


def test_an_image_is_filtered_once_for_its_rois(monkeypatch):
    volume = image(9, shape=(40, 44, 48), spacing=(1.0, 1.0, 1.0))
    calls = []
    plain = filters.laplacian
    monkeypatch.setattr(filters, "laplacian", lambda *given: calls.append(given[2]) or plain(*given))
    readers = {f"reader {n}": ball(volume, 5 + n / 2, (n, -n, 0)) for n in range(5)}
    assert all(not isinstance(v, ScanError) for v in extract_rois(volume, readers, FULL).values())
    assert calls == [1.0, 2.0]


def test_boxes_far_apart_stay_apart():
    near, far = ([0, 0, 0], [9, 9, 9]), ([90, 90, 90], [99, 99, 99])
    beside = ([2, 0, 0], [11, 9, 9])
    found = sorted(names for _, _, names in groups({"a": near, "b": far, "c": beside}))
    assert found == [["a", "c"], ["b"]]


def test_memory_that_is_used_again_gives_no_other_images_values():
    """A peer keeps discretised images by the address of their memory, and returns other images' textures."""
    recipe = Recipe(log_sigmas_mm=(1.0,), wavelet="coif1", classes=["firstorder", "glcm", "glszm"])
    volume = image(10)
    mask = ball(volume)
    fresh = {seed: extract(image(seed), mask, recipe).values for seed in (11, 12, 13)}
    array = np.empty_like(volume.array)
    for seed, expected in fresh.items():
        array[:] = image(seed).array
        assert extract(volume.with_array(array), mask, recipe).values == expected
    wavelets = [v for k, v in fresh[11].items() if k.startswith("wavelet") and k.endswith("glcm_Contrast")]
    assert len({*wavelets}) == 8


def test_values_are_the_same_bytes_with_any_number_of_threads():
    code = (
        "import sys, json, hashlib; sys.path[:0] = [{!r}, {!r}]\n"
        "import test_radiomics_fast as t\n"
        "v = t.image(14); r = t.extract(v, t.ball(v), t.FULL).values\n"
        "print(hashlib.sha256(json.dumps(r).encode()).hexdigest())"
    ).format(str(PROJECT / "workflow" / "scripts"), str(Path(__file__).parent))
    volume = image(14)
    here = hashlib.sha256(json.dumps(extract(volume, ball(volume), FULL).values).encode()).hexdigest()
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "NUMBA_NUM_THREADS")
    other = "2" if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else "1"
    environment = os.environ | dict.fromkeys(names, other)
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == here


def test_kernels_are_cached_for_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert jit.cache_folder() == tmp_path / "mine"
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert jit.cache_folder() is None  # compiled anew by each process
    double = jit.kernel("int64(int64)")(lambda n: 2 * n)
    assert double(21) == 42


@pytest.mark.parametrize("grid", ["ibsi", "pyradiomics"])
@pytest.mark.parametrize("engine", ["fast", "pyradiomics"])
def test_nan_near_an_roi_is_told_not_spread(grid, engine):
    volume = image(15, dtype=np.float32)
    array = volume.array.copy()
    array[2, 2, 2] = np.nan
    recipe = Recipe(grid=grid, engine=engine, log_sigmas_mm=(2.0,), classes=["firstorder", "glcm"])
    with pytest.raises(ScanError, match="ROI_NOT_FINITE"):
        extract(volume.with_array(array), ball(volume, 7), recipe)
    plain = recipe.model_copy(update={"log_sigmas_mm": ()})  # without a filter that voxel has no part in it
    assert all(np.isfinite(v) for v in extract(volume.with_array(array), ball(volume, 7), plain).values.values())


def test_masks_of_any_type_are_the_same_mask():
    volume = image(16)
    mask = ball(volume)
    expected = extract(volume, mask, PLAIN)
    for dtype in (bool, np.int16, np.float32, np.float64, np.uint32):
        assert extract(volume, mask.with_array(mask.array.astype(dtype)), PLAIN) == expected
    assert extract(volume, mask.with_array(mask.array * 0.7), PLAIN) == expected
    with pytest.raises(ScanError, match="MASK_NOT_FINITE"):
        extract(volume, mask.with_array(np.where(mask.array > 0, np.nan, 0.0)), PLAIN)


@pytest.mark.parametrize("change", [{"bin_width": 1e-9}, {"bin_width": 0.01}])
def test_more_grey_levels_than_matrices_can_hold_are_told(change):
    volume = image(17, dtype=np.float32)
    with pytest.raises(ScanError, match=r"ROI_BINS.*bin_width"):
        extract(volume, masked(volume, (slice(None),) * 3), PLAIN.model_copy(update=change))


@pytest.mark.parametrize("engine", ["fast", "pyradiomics"])
def test_conditions_on_the_size_of_an_roi(engine):
    volume = image(18)
    thin = masked(volume, (8, slice(4, 19), slice(6, 21)))
    recipe = PLAIN.model_copy(update={"engine": engine, "minimum_roi_dimensions": 3})
    with pytest.raises(ScanError, match="ROI_UNUSABLE"):
        extract(volume, thin, recipe)
    few = PLAIN.model_copy(update={"engine": engine, "minimum_roi_voxels": 225})
    with pytest.raises(ScanError, match="ROI_UNUSABLE"):
        extract(volume, thin, few)
    line = masked(volume, (8, 5, slice(6, 21)))
    found = compare(Case("line", volume, line), "", PLAIN.model_copy(update={"minimum_roi_dimensions": 1}))
    assert found.different == ()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["brain1", "brain2", "breast1"])
def test_real_cases(realdata, name):
    found = compare(nrrd_case(realdata("pyradiomics_cases").parent, name), "full", RECIPES["full"])
    assert found.compared == 1130
    assert found.different == ()


@pytest.mark.slow
@pytest.mark.realdata
def test_gate_on_every_real_case(realdata):
    for archive in ("pyradiomics_cases", "ibsi", "lung1", "sts"):
        data = realdata(archive).parent
    for case in cases(data):
        for name, recipe in case.recipes().items():
            assert compare(case, name, recipe).different == (), (case.name, name)


@pytest.mark.slow
def test_ten_million_voxels():
    shape_ = (230, 230, 230)
    array = np.random.default_rng(19).normal(0, 60, shape_).astype(np.float32)
    volume = Volume(array, Geometry(shape_, (1.0, 1.0, 1.0)))
    mask = masked(volume, (slice(5, 222),) * 3)
    values = extract(volume, mask, PLAIN).values
    assert int(mask.array.sum()) > 10_000_000
    assert values["original_shape_VoxelVolume"] == 217**3
    assert values["original_shape_Maximum3DDiameter"] == pytest.approx(np.sqrt(216**2 * 2 + 217**2), rel=1e-9)
    assert values["original_firstorder_Variance"] == pytest.approx(3600, rel=0.01)
    assert all(np.isfinite(v) for v in values.values())
