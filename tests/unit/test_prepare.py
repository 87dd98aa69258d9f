"""Views against analytic images: ramps, known means, known percentiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from polycentric import tables, volumes
from polycentric.config.views import View
from polycentric.errors import ScanError
from polycentric.files import sha256_file
from polycentric.grids import aligned, corner_distance_mm, mask_onto, to_points
from polycentric.prepare import apply, prepare_shard
from polycentric.tables.schemas import VIEWS, VOLUMES
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry((20, 16, 10), (0.9, 0.9, 3.0), (-30.0, 12.5, 100.0), OBLIQUE)


def ramp(geometry: Geometry) -> np.ndarray:
    """2 x - y + 3 z at every voxel centre, in mm."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in geometry.size[::-1]), indexing="ij")
    points = to_points(geometry, np.stack([x, y, z], axis=-1).reshape(-1, 3))
    return (points @ [2.0, -1.0, 3.0]).reshape(geometry.size[::-1])


def test_aligned_grid_keeps_the_centre_and_covers_the_image():
    new = aligned(GRID, (1.0, 1.0, 2.0))
    assert new.spacing == (1.0, 1.0, 2.0)
    assert new.size == (18, 15, 15)  # ceil of 18.0, 14.4, 15.0
    centres = [to_points(g, (np.array([g.size]) - 1) / 2)[0] for g in (GRID, new)]
    np.testing.assert_allclose(*centres, atol=1e-9)


def test_zero_keeps_an_axis_and_equal_spacing_keeps_the_grid():
    assert aligned(GRID, (0, 0, 3.0)) is GRID
    assert aligned(GRID, (0, 0, 1.5)).size == (20, 16, 20)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_resampling_reproduces_a_linear_ramp(interpolation):
    view = View(spacing_mm=(1.2, 0.7, 1.9), interpolation=interpolation)
    result = apply(view, Volume(ramp(GRID).astype(np.float32), GRID))
    expected = ramp(result.geometry)
    inside = (slice(2, -2),) * 3  # beyond the outermost voxel centres the edge is repeated
    limit = 0.01 if interpolation == "linear" else 0.5  # the spline bends near the mirrored edge
    assert np.abs(result.array - expected)[inside].max() < limit


def test_nearest_keeps_type_and_values():
    array = np.random.default_rng(0).integers(0, 5, GRID.size[::-1]).astype(np.int16)
    result = apply(View(spacing_mm=(0.45, 0.45, 1.5), interpolation="nearest"), Volume(array, GRID))
    assert result.array.dtype == np.int16
    np.testing.assert_array_equal(result.array, array.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_mask_is_taken_from_one_half_upwards():
    geometry = Geometry((4, 1, 1), (1.0, 1.0, 1.0))
    mask = Volume(np.array([[[0, 1, 1, 0]]], np.uint8), geometry)
    finer = mask_onto(mask, aligned(geometry, (0.5, 0, 0)))
    # centres at 0.25 mm either side of the old ones: weights 1/4 and 3/4
    np.testing.assert_array_equal(finer.array[0, 0], [0, 0, 1, 1, 1, 1, 0, 0])
    shifted = Geometry((3, 1, 1), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0))
    np.testing.assert_array_equal(mask_onto(mask, shifted).array[0, 0], [1, 1, 1])


def volume_of(array) -> Volume:
    array = np.asarray(array)
    return Volume(array, Geometry(array.shape[::-1], (1.0, 1.0, 1.0)))


def test_intensity_steps():
    array = np.array([[[-1100, -1000, 0, 40, 3000]]], np.int16)
    clipped = apply(View(clip=(-1000, 1000)), volume_of(array)).array
    assert clipped.dtype == np.int16
    assert clipped.tolist() == [[[-1000, -1000, 0, 40, 1000]]]
    window = {"kind": "window", "level": 40, "width": 400, "output": [0, 255]}
    np.testing.assert_allclose(apply(View(steps=[window]), volume_of(array)).array, [[[0, 0, 102, 127.5, 255]]])
    scaled = apply(View(clip=(-1000, 1000), steps=[{"kind": "min-max", "output": [-1, 1]}]), volume_of(array)).array
    np.testing.assert_allclose(scaled, [[[-1, -1, 0, 0.04, 1]]], atol=1e-6)


def test_z_score_over_foreground():
    array = np.random.default_rng(1).normal(500, 80, (6, 7, 8))
    array[0] = -1000
    result = apply(View(steps=[{"kind": "z-score", "above": -500}]), volume_of(array)).array
    assert result[1:].mean() == pytest.approx(0, abs=1e-5)
    assert result[1:].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result[0], (-1000 - array[1:].mean()) / array[1:].std(), rtol=1e-5)


def test_gaussian_is_in_mm():
    array = np.zeros((41, 41, 41), np.float32)
    array[20, 20, 20] = 1
    geometry = Geometry((41, 41, 41), (1.0, 1.0, 2.0))
    result = apply(View(steps=[{"kind": "gaussian", "sigma_mm": 3.0}]), Volume(array, geometry)).array
    z, _, x = np.meshgrid(*(np.arange(41) - 20.0,) * 3, indexing="ij")
    assert np.sqrt((result * x**2).sum() / result.sum()) == pytest.approx(3.0, rel=0.01)
    assert np.sqrt((result * (2 * z) ** 2).sum() / result.sum()) == pytest.approx(3.0, rel=0.01)


def test_bad_images_are_refused():
    with pytest.raises(ScanError, match="VIEW_FLAT"):
        apply(View(steps=[{"kind": "z-score"}]), volume_of(np.zeros((2, 2, 2))))
    with pytest.raises(ScanError, match="VIEW_NOT_FINITE"):
        apply(View(), volume_of(np.full((2, 2, 2), np.nan)))


def test_settings():
    view = View.model_validate({"from": "scan", "spacing_mm": [1, 1, 2], "clip": [-1000, 1000]})
    assert [s.kind for s in view.sequence()] == ["resample", "clip"]
    assert View.model_validate(view.model_dump(by_alias=True)) == view
    with pytest.raises(ValidationError, match="lower bound first"):
        View(clip=(1000, -1000))
    with pytest.raises(ValidationError, match="second view"):
        View(from_="ct", synthesis="decontrast", clip=(-1000, 1000))


def shard(root: Path) -> Path:
    """Volumes manifest with one good scan, one that curation repaired away, one without contrast."""
    rows = []
    rng = np.random.default_rng(2)
    for scan in ("good", "missing", "broken"):
        key = {"centre": "north", "patient": f"p-{scan}", "session": "s", "scan": scan, "modality": "CT"}
        if scan == "missing":
            rows.append(key | {"status": "rejected", "reason": "GEOM_GAP: a slice is missing"})
            continue
        array = rng.normal(0, 300, GRID.size[::-1]).astype(np.float32)
        if scan == "broken":
            array[:] = 7
        path = root / "volumes" / "north-0" / f"{scan}.nii"
        volumes.write(Volume(array, GRID), path)
        rows.append(
            key
            | {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "status": "ok", "reason": ""}
            | GRID.columns()
        )
    tables.write(rows, root / "volumes" / "north-0.tsv", VOLUMES)
    return root / "volumes" / "north-0.tsv"


def test_shard(tmp_path):
    source, manifest = shard(tmp_path), tmp_path / "views" / "ct" / "main" / "north-0.tsv"
    view = View(spacing_mm=(1, 1, 2), clip=(-100, 100), steps=[{"kind": "min-max"}])
    prepare_shard("ct", view, source=source, root=tmp_path, manifest=manifest, settings_json="1")
    rows = tables.read(manifest, VIEWS).set_index("scan")
    assert rows["status"].to_dict() == {"good": "ok", "missing": "missing", "broken": "rejected"}
    assert rows.loc["broken", "reason"].startswith("VIEW_FLAT")
    assert rows.loc["missing", "reason"] == "GEOM_GAP: a slice is missing"
    good = rows.loc["good"]
    assert good["path"] == "views/ct/main/north-0/good.nii"
    made = volumes.read(tmp_path / good["path"], good)
    assert corner_distance_mm(made.geometry, aligned(GRID, (1, 1, 2))) < 1e-12
    assert (made.array.min(), made.array.max()) == (0, 1)

    before = manifest.read_bytes()
    second = tmp_path / "views" / "next" / "main" / "north-0.tsv"
    prepare_shard("next", View(from_="ct"), source=manifest, root=tmp_path, manifest=second)
    assert tables.read(second, VIEWS)["status"].tolist() == ["ok", "missing", "missing"]
    (tmp_path / good["path"]).unlink()
    prepare_shard("ct", view, source=source, root=tmp_path, manifest=manifest, settings_json="1")
    assert manifest.read_bytes() == before


def test_difference_of_two_views(tmp_path):
    source = shard(tmp_path)
    folder = tmp_path / "views"
    given = {"root": tmp_path, "source": source}
    tripled = View(steps=[{"kind": "linear", "multiply": 3, "add": 5}])
    prepare_shard("tripled", tripled, manifest=folder / "tripled/main/north-0.tsv", **given)
    prepare_shard("coarse", View(spacing_mm=(2, 2, 2)), manifest=folder / "coarse/main/north-0.tsv", **given)

    view = View(from_="tripled", minus="scan", steps=[{"kind": "absolute"}])
    made = folder / "change/main/north-0.tsv"
    of = folder / "tripled/main/north-0.tsv"
    prepare_shard("change", view, source=of, minus=source, manifest=made, root=tmp_path)
    rows = tables.read(made, VIEWS).set_index("scan")
    assert rows["status"].to_dict() == {"good": "ok", "missing": "missing", "broken": "ok"}
    original = volumes.read(tmp_path / "volumes/north-0/good.nii").array.astype(float)
    found = volumes.read(tmp_path / rows.loc["good", "path"]).array
    np.testing.assert_allclose(found, np.abs(2 * original + 5), rtol=1e-5, atol=1e-3)

    other = View(from_="tripled", minus="coarse")
    wrong = folder / "wrong/main/north-0.tsv"
    prepare_shard("wrong", other, source=of, minus=folder / "coarse/main/north-0.tsv", manifest=wrong, root=tmp_path)
    refused = tables.read(wrong, VIEWS).set_index("scan").loc["good"]
    assert refused["status"] == "rejected"
    assert refused["reason"].startswith("VIEW_NO_DIFFERENCE: the image has")
    assert "bring both to one spacing" in refused["reason"]

    # what is subtracted is part of what the difference was made from
    before = rows.loc["good", "sha256"]
    path = tmp_path / "volumes/north-0/good.nii"
    volumes.write(volumes.read(path).with_array(np.zeros(original.shape, np.float32)), path)
    table = tables.read(source, VOLUMES)
    table.loc[table["scan"].eq("good"), "sha256"] = sha256_file(path)
    tables.write(table, source, VOLUMES)
    prepare_shard("change", view, source=of, minus=source, manifest=made, root=tmp_path)
    assert tables.read(made, VIEWS).set_index("scan").loc["good", "sha256"] != before
