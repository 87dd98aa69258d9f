"""Extraction: bad ROIs, independence of what ran before, grids, shards."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import tables, volumes
from polycentric.config.features import DerivedRoi, RadiomicsSet, Recipe, find_recipe, load_recipe
from polycentric.errors import ScanError, UserError
from polycentric.files import sha256_file
from polycentric.grids import aligned
from polycentric.radiomics import extract, extract_shard, merge
from polycentric.radiomics.extract import check_recipe
from polycentric.tables.schemas import FEATURES, MASKS, VIEWS, VOLUMES
from polycentric.volumes import Geometry, Volume

TOY = load_recipe(find_recipe("toy"))


def case(seed: int = 0, shape=(24, 28, 30), spacing=(1.0, 1.0, 1.0)) -> tuple[Volume, Volume]:
    """Blurred noise in HU and an ellipsoid."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    array = (gaussian_filter(rng.normal(size=shape), 1.2) * 900).astype(np.int16)
    z, y, x = (i - (n - 1) / 2 for i, n in zip(np.indices(shape), shape, strict=True))
    geometry = Geometry(shape[::-1], spacing, (5.0, -40.0, 12.0))
    mask = (x**2 + y**2 + 1.5 * z**2 < 64).astype(np.uint8)
    return Volume(array, geometry), Volume(mask, geometry)


def test_sphere_on_a_finer_grid_has_its_volume():
    radius, n = 11.0, 31
    z, y, x = np.indices((n, n, n)) - n // 2
    geometry = Geometry((n, n, n), (1.0, 1.0, 1.0))
    mask = Volume((x**2 + y**2 + z**2 <= radius**2).astype(np.uint8), geometry)
    image = Volume((10.0 * x + z).astype(np.float32), geometry)
    recipe = Recipe(spacing_mm=(0.5, 0.5, 0.5), classes=["shape", "firstorder"])
    values = extract(image, mask, recipe).values
    assert values["original_shape_MeshVolume"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    # principal axes 4 sqrt(eigenvalue); the covariance of a ball is r^2 / 5 along every axis
    for name in ("MajorAxisLength", "MinorAxisLength", "LeastAxisLength"):
        assert values[f"original_shape_{name}"] == pytest.approx(4 * radius / np.sqrt(5), rel=0.01)
    assert values["original_firstorder_Mean"] == pytest.approx(0, abs=1e-9)
    # variance of 10 x + z over a ball of radius r: 101 r^2 / 5
    assert values["original_firstorder_Variance"] == pytest.approx(101 * radius**2 / 5, rel=0.02)


def test_filters_on_the_cut_out_equal_filters_on_the_whole_image():
    image, mask = case(1, shape=(80, 84, 88))
    recipe = Recipe(bin_width=25, log_sigmas_mm=(1.0, 2.0), wavelet="coif1", classes=["firstorder", "glcm"])
    ours = extract(image, mask, recipe).values
    whole = replace(image, array=image.array.astype(float))
    theirs = extract(whole, mask, recipe.model_copy(update={"grid": "pyradiomics"})).values
    assert len(ours) == 11 * (18 + 24)
    np.testing.assert_allclose([ours[k] for k in theirs], list(theirs.values()), rtol=1e-7)


def test_a_mask_on_another_grid_is_mapped():
    image, mask = case(2)
    finer = aligned(image.geometry, (0.5, 0.5, 0.5))
    fine = Volume(mask.array.repeat(2, 0).repeat(2, 1).repeat(2, 2), finer)
    result = extract(image, fine, TOY)
    direct = extract(image, mask, TOY)
    assert result.facts["diagnostics_Mask-original_VoxelNum"] == 8 * int(mask.array.sum())
    assert result.values == direct.values


def test_bins_start_at_the_resegmentation_bound():
    image, mask = case(3)
    recipe = Recipe(bin_width=25, resegment_range=(-1000, 400), classes={"glcm": ["JointAverage", "Autocorrelation"]})
    inside = image.array[mask.array > 0]
    average = extract(image, mask, recipe).values["original_glcm_JointAverage"]
    # the mean grey level lies near the bin of the mean intensity, counted from -1000 HU
    assert average == pytest.approx((inside.mean() + 1000) / 25 + 0.5, abs=1.0)


def test_recipes_that_cannot_be_computed_are_told():
    check_recipe(Recipe(wavelet="coif1"))
    with pytest.raises(UserError, match="coif1"):
        check_recipe(Recipe(wavelet="coif"))
    with pytest.raises(UserError, match="LBP3D"):
        check_recipe(Recipe(further_image_types={"LBP3D": {}}))


@pytest.mark.parametrize("engine", ["fast", "pyradiomics"])
def test_a_filter_wider_than_the_image_is_noted(engine):
    image, mask = case(3)
    recipe = Recipe(engine=engine, log_sigmas_mm=(1.0, 40.0), classes=["firstorder"])
    result = extract(image, mask, recipe)
    assert len(result.values) == 36
    assert result.facts["diagnostics_Missing"] == ["log-sigma-40-0-mm-3D"]


def single(mask: Volume) -> Volume:
    array = np.zeros_like(mask.array)
    array[10, 10, 10] = 1
    return mask.with_array(array)


def line(mask: Volume) -> Volume:
    array = np.zeros_like(mask.array)
    array[10, 10, 5:15] = 1
    return mask.with_array(array)


@pytest.mark.parametrize("grid", ["ibsi", "pyradiomics"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda i, m: (i, m.with_array(m.array * 0)), "ROI_EMPTY"),
        (lambda i, m: (i, single(m)), "ROI_SINGLE_VOXEL"),
        (lambda i, m: (i, line(m)), "ROI_UNUSABLE"),
        (lambda i, m: (i.with_array(np.full(i.array.shape, 7, np.int16)), m), "ROI_FLAT"),
        (lambda i, m: (i.with_array(np.where(m.array > 0, np.nan, 0.0)), m), "ROI_NOT_FINITE"),
        (lambda i, m: (i, Volume(m.array, replace(m.geometry, origin=(900.0, 0.0, 0.0)))), "ROI_OUTSIDE"),
    ],
)
def test_bad_rois_have_a_code(change, code, grid):
    image, mask = change(*case(4))
    with pytest.raises(ScanError) as caught:
        extract(image, mask, TOY.model_copy(update={"grid": grid}))
    assert caught.value.code == code


def test_resegmentation_that_leaves_nothing_has_a_code():
    image, mask = case(4)
    with pytest.raises(ScanError, match="ROI_RESEGMENTED_AWAY"):
        extract(image, mask, Recipe(resegment_range=(5000, 6000)))


def test_mask_at_the_border_and_float_masks():
    image, mask = case(5)
    array = np.zeros(mask.array.shape)
    array[:6, :8, :9] = 1.0
    values = extract(image, Volume(array, mask.geometry), TOY).values
    assert values["original_shape_VoxelVolume"] == 6 * 8 * 9
    recipe = Recipe(spacing_mm=(0.7, 0.7, 0.7), log_sigmas_mm=(2.0,), wavelet="coif1")
    assert all(np.isfinite(v) for v in extract(image, Volume(array, mask.geometry), recipe).values.values())


def test_values_do_not_depend_on_what_ran_before():
    recipe = Recipe(log_sigmas_mm=(1.0,), wavelet="coif1", resegment_range=(-1000, 3000))
    image, mask = case(6)
    alone = extract(image, mask, recipe).values
    for seed in (7, 8):
        extract(*case(seed), TOY)
        extract(*case(seed), recipe.model_copy(update={"grid": "pyradiomics", "bin_width": 10.0}))
    assert extract(image, mask, recipe).values == alone


def study(root: Path, scans: int = 9) -> tuple[Path, Path, Path]:
    """A shard of `scans` scans of 48^3 voxels with ROI tumour; scan 1 has no view, 2 an empty mask, 3 a shifted one."""
    rows: dict[str, list] = {"volumes": [], "views": [], "masks": []}
    for n in range(scans):
        scan = f"scan{n}"
        key = {"centre": "north", "patient": f"p{n:02d}", "session": "s", "scan": scan}
        image, mask = case(n, shape=(40, 48, 48), spacing=(0.8, 0.8, 1.25))
        if n == 2:
            mask = mask.with_array(mask.array * 0)
        paths = {
            "volumes": root / "volumes/north-0" / f"{scan}.nii",
            "masks": root / "masks/manual/main/north-0" / f"{scan}--tumour.nii",
        }
        volumes.write(image, paths["volumes"])
        shift = replace(mask.geometry, origin=(8.0, -40.0, 12.0)) if n == 3 else mask.geometry
        volumes.write(Volume(mask.array, shift), paths["masks"])
        made = {
            k: {"path": p.relative_to(root).as_posix(), "sha256": sha256_file(p), "status": "ok", "reason": ""}
            for k, p in paths.items()
        }
        rows["volumes"].append(key | made["volumes"] | image.geometry.columns() | {"modality": "CT"})
        view = made["volumes"] | image.geometry.columns()
        if n == 1:
            view = {"status": "missing", "reason": "GEOM_GAP: a slice is missing"}
        rows["views"].append(key | {"view": "ct", "fold": "main"} | view)
        rows["masks"].append(
            key | made["masks"] | {"source": "manual", "fold": "main", "roi": "tumour", "voxels": int(mask.array.sum())}
        )
    found = []
    for name, schema in (("volumes", VOLUMES), ("views", VIEWS), ("masks", MASKS)):
        for row in rows[name]:
            row.update({c: row.get(c) for c, col in schema.columns.items() if not col.required})
        found.append(root / f"{name}.tsv")
        tables.write(rows[name], found[-1], schema)
    return tuple(found)


def test_shard_and_merge(tmp_path):
    volume_rows, views, masks = study(tmp_path)
    settings = RadiomicsSet(view="ct", rois=("tumour", "node"))
    output = tmp_path / "features" / "mixed" / "north-0.parquet"
    given = {"views": views, "volumes": volume_rows, "masks": [masks], "root": tmp_path, "output": output}
    started = time.process_time()
    extract_shard("mixed", settings, TOY, **given)
    assert time.process_time() - started < 5
    frame = tables.read(output, FEATURES)
    tumour = frame[frame["roi"].isin(["tumour", "*"])].set_index("scan")
    assert tumour["status"].value_counts().to_dict() == {"ok": 6, "missing": 1, "rejected": 2}
    assert tumour.loc["scan1", "reason"] == "GEOM_GAP: a slice is missing"
    assert tumour.loc["scan2", "reason"].startswith("ROI_EMPTY")
    assert tumour.loc["scan3", "reason"].startswith("MASK_GEOMETRY: corners of the mask and of its scan lie up to 3 mm")
    assert set(frame.loc[frame["roi"].eq("node"), "reason"].str.split(":").str[0]) == {"ROI_MISSING"}

    image, mask = case(5, shape=(40, 48, 48), spacing=(0.8, 0.8, 1.25))
    values = extract(image, mask, TOY).values
    names = [c for c in frame.columns if c.startswith("original_")]
    assert sorted(values) == names
    assert frame[names].dtypes.eq("float64").all()
    assert [values[n] for n in names] == tumour.loc["scan5", names].tolist()
    assert json.loads(tumour.loc["scan5", "diagnostics"])["diagnostics_Mask-original_VoxelNum"] == mask.array.sum()

    reference = output.with_name("reference.parquet")
    chosen = settings.model_copy(update={"engine": "pyradiomics"})
    extract_shard("mixed", chosen, TOY, **given | {"output": reference})
    theirs = tables.read(reference, FEATURES)
    assert theirs[["scan", "roi", "status", "reason"]].equals(frame[["scan", "roi", "status", "reason"]])
    assert '"diagnostics_Engine":"pyradiomics"' in theirs["diagnostics"].str.cat().replace(" ", "")
    np.testing.assert_allclose(frame[names], theirs[names], rtol=1e-9)

    derived = settings.model_copy(
        update={
            "rois": (),
            "derive": {
                "rim": DerivedRoi(of="tumour", ring_mm=(0, 3)),
                "bright": DerivedRoi(of="t*", above=100),
                "gone": DerivedRoi(of="node", margin_mm=2),
            },
        }
    )
    more = output.with_name("derived.parquet")
    extract_shard("mixed", derived, TOY, **given | {"output": more})
    rows = tables.read(more, FEATURES).set_index(["scan", "roi"])
    assert [*rows.loc["scan5"].index] == ["tumour", "rim", "tumour-bright", "gone"]
    assert rows.loc[("scan5", "gone"), "reason"].startswith("ROI_MISSING: manual does not outline node")
    assert rows.loc[("scan2", "rim"), "reason"].startswith("ROI_EMPTY")
    assert rows.loc[("scan3", "rim"), "reason"].startswith("MASK_GEOMETRY")
    assert rows.loc[("scan5", "tumour-bright"), "original_firstorder_Minimum"] >= 100
    assert rows.loc[("scan5", "tumour"), names].tolist() == tumour.loc["scan5", names].tolist()
    assert rows.loc[("scan5", "rim"), "original_shape_Maximum3DDiameter"] > (
        rows.loc[("scan5", "tumour"), "original_shape_Maximum3DDiameter"] + 3
    )

    before = output.read_bytes()
    output.unlink()
    extract_shard("mixed", settings, TOY, **given)  # from sidecars
    assert output.read_bytes() == before

    # a shard without any feature must not disturb the whole table
    nothing = tmp_path / "features" / "mixed" / "east-0.parquet"
    row = frame[frame["scan"].eq("scan1")].assign(scan="other", centre="east")
    tables.write(row[list(FEATURES.columns)], nothing, FEATURES)
    whole, again = tmp_path / "features" / "mixed.parquet", tmp_path / "features" / "again.parquet"
    merge([output, nothing], whole)
    merge([nothing, output], again)
    merged = tables.read(whole, FEATURES)
    assert merged["scan"].iloc[0] == "other"
    assert len(merged) == len(frame) + 1
    assert whole.read_bytes() == again.read_bytes()


def test_readers_in_one_pass(tmp_path, monkeypatch):
    """Three readers of the same scans: each one's rows are those of a set of its own, and filters run once."""
    volume_rows, views, masks = study(tmp_path, scans=5)
    table = tables.read(masks, MASKS)
    readers = {"manual": masks}
    for name, shift in (("second", 2), ("third", -1)):
        rows = table.assign(source=name)
        for number, row in rows[rows["scan"].ne("scan4") | (name == "second")].iterrows():
            mask = volumes.read(tmp_path / row["path"])
            path = tmp_path / "masks" / name / f"{row['scan']}.nii"
            volumes.write(mask.with_array(np.roll(mask.array, shift, axis=2)), path)
            rows.loc[number, ["path", "sha256"]] = path.relative_to(tmp_path).as_posix(), sha256_file(path)
        readers[name] = tmp_path / f"{name}.tsv"
        tables.write(rows[rows["scan"].ne("scan4") | (name == "second")], readers[name], MASKS)
    given = {"views": views, "volumes": volume_rows, "root": tmp_path}
    recipe = TOY.model_copy(update={"log_sigmas_mm": (1.5,)})
    alone = []
    for name, manifest in readers.items():
        output = tmp_path / "alone" / f"{name}.parquet"
        extract_shard("f", RadiomicsSet(view="ct", masks=name), recipe, masks=[manifest], output=output, **given)
        alone.append(output)

    from polycentric.radiomics import shard

    passes = []
    whole = shard.extract_rois
    monkeypatch.setattr(
        shard, "extract_rois", lambda image, rois, made: passes.append(len(rois)) or whole(image, rois, made)
    )
    output = tmp_path / "together" / "north-0.parquet"
    settings = RadiomicsSet(view="ct", masks=tuple(readers))
    extract_shard("f", settings, recipe, masks=[*readers.values()], output=output, **given)
    assert passes == [3, 3, 3, 2]  # scan0, 2, 3, 4; scan1 has no view
    merge([output], tmp_path / "f.parquet")
    together = tables.read(tmp_path / "f.parquet", FEATURES)
    merge(alone, tmp_path / "expected.parquet")
    expected = tables.read(tmp_path / "expected.parquet", FEATURES)
    measured = expected[expected["roi"].ne("*")].reset_index(drop=True)
    assert measured["source"].value_counts().to_dict() == {"manual": 4, "second": 4, "third": 3}
    found = together[together["roi"].ne("*")].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, measured)
    others = together[together["roi"].eq("*")].set_index(["scan", "source"])["reason"]
    assert others.to_dict() == {
        ("scan1", "*"): "GEOM_GAP: a slice is missing",
        ("scan4", "third"): "MASKS_MISSING: third has no row for the scan",
    }
