"""Conversion: volumes as SimpleITK reads clean series, masks as geometry and real contours demand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny_dicom
from polycentric import tables, volumes
from polycentric.cohort import CentreFacts, assemble
from polycentric.config.curation import ConvertSettings, CurationSettings, Limits, RoiSettings
from polycentric.convert import convert_shard
from polycentric.convert.contours import Region, choose, outline, rasterise
from polycentric.convert.raster import area, fill
from polycentric.curation import curate
from polycentric.errors import ScanError
from polycentric.index import build
from polycentric.jobs import Log
from polycentric.tables.schemas import MASKS, VOLUMES
from polycentric.volumes import Geometry
from pydantic import ValidationError
from pydicom.dataset import Dataset

LOG = Log()


def convert(folder: Path, rois: dict[str, object] | None = None, curation: dict | None = None, **settings: object):
    """Volumes, masks and the results folder of a folder of DICOM, through index, curation and cohort."""
    out = folder.parent / f"{folder.name}-out"
    private, root = out / "private", out / "results"
    build("north", folder, output=private / "index.parquet", log=LOG)
    curate(
        "north",
        private / "index.parquet",
        settings=CurationSettings(**(curation or {})),
        salt=b"s" * 32,
        curation=root / "c.parquet",
        files=private / "f.parquet",
        log=LOG,
    )
    assemble(
        [root / "c.parquet"],
        [private / "f.parquet"],
        centres={"north": CentreFacts("development", 1)},
        clinical=None,
        clinical_settings=None,
        salt=b"s" * 32,
        scans=root / "scans.tsv",
        patients=root / "patients.tsv",
        flow=root / "flow.tsv",
        curation_out=root / "curation.parquet",
        shards={"north-0": root / "shards" / "north-0.tsv"},
        private_shards={"north-0": private / "north-0.parquet"},
        pseudonyms=private / "pseudonyms.tsv",
        log=LOG,
        limits=Limits(accepted_scans=0),
    )
    options = ConvertSettings(**({"rois": rois} if rois else {}), **settings)
    convert_shard(
        root / "shards" / "north-0.tsv",
        private / "north-0.parquet",
        folder,
        settings=options,
        root=root,
        volumes=root / "volumes" / "north-0.tsv",
        masks=root / "masks" / "manual" / "main" / "north-0.tsv",
        settings_json=options.model_dump_json(),
        code="code",
        log=LOG,
    )
    made = tables.read(root / "volumes" / "north-0.tsv", VOLUMES)
    masks = tables.read(root / "masks" / "manual" / "main" / "north-0.tsv", MASKS)
    return made, masks, root


def series(count: int = 12, **options: object) -> list[Dataset]:
    return tiny_dicom.series(count, **options)


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


def ring(z: float, radius: float = 6.0) -> np.ndarray:
    return tiny_dicom.circle(5, -5, z, radius, 60)


def closed(*contours: np.ndarray) -> tuple[tuple[str, np.ndarray], ...]:
    return tuple(("CLOSED_PLANAR", c) for c in contours)


def test_copies_are_removed_whatever_their_start_and_direction() -> None:
    one = ring(106)
    copies = [np.roll(one, 7, axis=0), one[::-1], np.vstack([one, one[:1]]), one + 1e-5]
    found = outline(closed(one, *copies), GRID, 0.1)
    assert (found.codes, found.duplicates, len(found.slices[2])) == (("RT_DUP_CONTOUR",), 4, 1)
    filled = rasterise(found, GRID)
    assert filled.contour_volume_ml == pytest.approx(60 / 2 * 36 * math.sin(2 * math.pi / 60) * 3 / 1000, rel=1e-6)
    assert filled.nested_voxels == 0


def test_nested_contours_are_holes() -> None:
    filled = rasterise(outline(closed(ring(106, 8), ring(106, 3)), GRID, 0.1), GRID)
    alone = rasterise(outline(closed(ring(106, 3)), GRID, 0.1), GRID)
    assert filled.nested_voxels == alone.mask.sum() > 0
    assert not filled.mask[2, 19, 19]


def test_contours_follow_an_oblique_grid() -> None:
    q, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    tilted = Geometry((40, 40, 10), (0.8, 0.8, 3.0), (3.0, 4.0, 5.0), tuple(q.ravel()))
    local = np.stack([*((ring(0)[:, :2] + np.array([10, 20])).T), np.full(60, 6.0)], axis=1)
    world = local @ q.T + [3, 4, 5]
    straight = rasterise(outline(closed(ring(106)), GRID, 0.1), GRID)
    turned = rasterise(outline(closed(world), tilted, 0.1), tilted)
    assert np.array_equal(turned.mask, straight.mask)


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
def test_contours_that_cannot_be_used_have_a_code(contours: tuple, code: str) -> None:
    with pytest.raises(ScanError) as error:
        outline(contours, GRID, 0.1)
    assert error.value.code == code


def test_small_deviations_pass_and_gaps_are_named() -> None:
    found = outline(closed(ring(103.05), ring(109)), GRID, 0.1)
    assert sorted(found.slices) == [1, 3]
    assert found.codes == ("RT_MISSING_INTERMEDIATE",)


def test_choice_of_regions() -> None:
    drawn, empty = closed(ring(106)), ()
    point = (("POINT", ring(106)[:1]),)
    regions = [Region("GTV-1", drawn), Region("gtv1 old", drawn), Region("GTV-2", empty), Region("ISO", point)]
    assert [r.name for r in choose(regions, RoiSettings(pattern="GTV-?1"))[0]] == ["GTV-1"]
    assert len(choose(regions, RoiSettings(pattern="GTV-?1.*", combine="union"))[0]) == 2
    for pattern, code in (
        ("GTV-?1.*", "RT_ROI_AMBIGUOUS"),
        ("PTV", "RT_ROI_MISSING"),
        ("GTV", "RT_ROI_MISSING"),
        ("GTV-2", "RT_EMPTY_ROI"),
        ("iso", "RT_POINT_ONLY"),
    ):
        with pytest.raises(ScanError) as error:
            choose(regions, RoiSettings(pattern=pattern))
        assert error.value.code == code
    with pytest.raises(ValidationError, match="no regular expression"):
        ConvertSettings(rois={"x": "GTV("})


# ------------------------------------------------------------------------------------------------------- whole shards


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"orientation": (-1, 0, 0, 0, 1, 0)},
        {"orientation": (1, 0, 0, 0, np.cos(0.1), np.sin(0.1)), "pixel_spacing": (0.9, 0.7), "spacing": 2.5},
    ],
)
def test_volume_is_what_simpleitk_reads_from_a_clean_series(tmp_path: Path, options: dict) -> None:
    folder = tiny_dicom.save(tmp_path / "in", series(**options)[::-1])
    made, _, root = convert(folder)
    row = made.iloc[0]
    volume = volumes.read(root / row["path"], row)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    expected = sitk.ReadImage(names)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(expected))
    assert volume.array.dtype == np.int16
    assert volume.geometry.size == expected.GetSize()
    assert np.allclose(volume.geometry.spacing, expected.GetSpacing(), atol=1e-9)
    assert np.allclose(volume.geometry.origin, expected.GetOrigin(), atol=1e-9)
    assert np.allclose(volume.geometry.direction, expected.GetDirection(), atol=1e-9)
    assert volume.array[0, 3, 5] == tiny_dicom.pixels(0)[3, 5] - 1024


def test_fractional_rescale_of_one_slice_keeps_its_fractions(tmp_path: Path) -> None:
    data = series()
    data[4].RescaleSlope = 0.25
    made, _, root = convert(tiny_dicom.save(tmp_path / "in", data))
    array = volumes.read(root / made.loc[0, "path"]).array
    assert array.dtype == np.float32
    assert np.array_equal(array[4], np.maximum(tiny_dicom.pixels(4) * 0.25 - 1024, -1024).astype(np.float32))
    assert np.array_equal(array[5], tiny_dicom.pixels(5).astype(np.float32) - 1024)


def test_padding_is_clipped_with_a_code(tmp_path: Path) -> None:
    data = series()
    for d in data:
        d.RescaleIntercept = -2000
    made, _, root = convert(tiny_dicom.save(tmp_path / "a", data))
    assert made.loc[0, "codes"] == "HU_IMPLAUSIBLE"
    assert volumes.read(root / made.loc[0, "path"]).array.min() == -1024
    kept, _, root = convert(tiny_dicom.save(tmp_path / "b", data), clip_below_hu=None)
    assert volumes.read(root / kept.loc[0, "path"]).array.min() < -1500
    assert kept.loc[0, "pixels_sha256"] == made.loc[0, "pixels_sha256"]


def regions() -> dict[str, list[np.ndarray]]:
    spheres = [tiny_dicom.circle(-38, -31, 103 + 3 * n, 5.5, 200) for n in range(4)]
    return {"GTV-1": spheres, "Müller, Hans ../x": spheres[:2], "ISO": []}


def test_masks_lie_in_the_results_and_name_nobody(tmp_path: Path) -> None:
    data = [*series(), tiny_dicom.structure_set(series(), regions(), stale=True)]
    folder = tiny_dicom.save(tmp_path / "in" / "MUELLER_HANS", data).parent
    rois = {"tumour": "GTV-?1", "other": r"M.*", "nodes": "LN.*", "isocentre": "iso"}
    made, masks, root = convert(folder, rois)
    masks = masks.set_index("roi")
    assert masks["status"].to_dict() == {
        "tumour": "ok", "other": "ok", "nodes": "rejected", "isocentre": "rejected"
    }  # fmt: skip
    assert masks.loc["nodes", "codes"] == "RT_ROI_MISSING"
    assert masks.loc["isocentre", "codes"] == "RT_EMPTY_ROI"
    tumour = masks.loc["tumour"]
    exact = 200 / 2 * 5.5**2 * math.sin(2 * math.pi / 200) * 12 / 1000
    assert tumour["contour_volume_ml"] == pytest.approx(exact, rel=1e-6)
    assert tumour["volume_ml"] == pytest.approx(exact, rel=0.03)
    mask = volumes.read(root / tumour["path"])
    assert set(np.unique(mask.array)) == {0, 1}
    assert mask.array.sum() == tumour["voxels"]
    assert mask.geometry.size == (32, 24, 12)
    assert np.flatnonzero(mask.array.any(axis=(1, 2))).tolist() == [1, 2, 3, 4]
    # centre of mass where the circles are
    zyx = np.argwhere(mask.array).mean(axis=0)
    assert np.allclose(zyx[::-1] * [0.8, 0.8, 3] + [-50.5, -40.25, 100], [-38, -31, 107.5], atol=0.3)
    assert tumour["path"] == f"masks/manual/main/north-0/{made.loc[0, 'scan']}--tumour.nii"
    secrets = [tiny_dicom.PATIENT, "MUELLER", "Müller", "Doe", data[0].SeriesInstanceUID, str(folder)]
    for path in sorted(root.rglob("*")):
        assert not any(secret in str(path.relative_to(root)) for secret in secrets)
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), path.name


def test_bad_scan_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", series(name="a", patient="A"), series(name="b", patient="B"))
    broken = tiny_dicom.series(12, name="b", patient="B")[6]
    broken.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"  # says JPEG 2000 but holds plain pixels
    made, masks, _ = convert(folder)
    assert made["status"].tolist() == ["ok", "ok"]
    from pydicom.encaps import encapsulate

    broken.PixelData = encapsulate([b"\xff\x4f\xff\x51 this is no picture  "])
    broken["PixelData"].is_undefined_length = True
    broken.save_as(folder / "0018.dcm", enforce_file_format=True)
    made, masks, _ = convert(folder)
    assert sorted(made["status"]) == ["ok", "rejected"]
    bad = made[made["status"] == "rejected"].iloc[0]
    assert bad["reason"] == "TS_UNDECODABLE: slice 6 cannot be decoded"
    assert masks.set_index("scan").loc[bad["scan"], ["roi", "status"]].tolist() == ["*", "missing"]


def test_unchanged_scans_are_kept_and_changed_ones_made_again(tmp_path: Path) -> None:
    data = [*series(), tiny_dicom.structure_set(series(), regions())]
    folder = tiny_dicom.save(tmp_path / "in", data)
    made, masks, root = convert(folder)
    volume = root / made.loc[0, "path"]
    before = volume.stat().st_mtime_ns
    tables_before = {p: p.read_bytes() for p in root.rglob("*.tsv")}
    convert(folder)
    assert volume.stat().st_mtime_ns == before
    assert {p: p.read_bytes() for p in root.rglob("*.tsv")} == tables_before
    # a moved contour makes the scan another one
    changed = regions()
    changed["GTV-1"] = [c + np.array([1.0, 0, 0]) for c in changed["GTV-1"]]
    tiny_dicom.structure_set(series(), changed).save_as(folder / "0012.dcm", enforce_file_format=True)
    _, again, _ = convert(folder)
    assert masks.loc[0, "sha256"] != again.loc[0, "sha256"]
    sidecar = json.loads((root / "volumes" / "north-0" / f"{made.loc[0, 'scan']}.json").read_text())
    assert not re.search(r"0012|\.dcm", json.dumps(sidecar))


def test_scan_without_contours_stays(tmp_path: Path) -> None:
    made, masks, _ = convert(tiny_dicom.save(tmp_path / "in", series()))
    assert made["status"].tolist() == ["ok"]
    assert masks[["roi", "status", "codes"]].values.tolist() == [["tumour", "rejected", "RT_ROI_MISSING"]]


def test_empty_shard_gives_empty_tables(tmp_path: Path) -> None:
    made, masks, _ = convert(tiny_dicom.save(tmp_path / "in", series(3)))
    assert len(made) == len(masks) == 0


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.fixture(scope="module")
def lung1(realdata: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("lung1") / "dicom"
    folder.symlink_to(realdata("lung1") / "dicom")
    rois = {"tumour": "GTV-1", "suv": "1,SUV_primair", "lung": "Lung L"}
    _, masks, _ = convert(folder, rois, {"preset": "chest-ct"})
    return masks


@pytest.mark.realdata
def test_volumes_of_lung1_are_the_known_ones(lung1: pd.DataFrame) -> None:
    tumours = lung1[lung1["roi"] == "tumour"].sort_values("contour_volume_ml")
    assert tumours["contour_volume_ml"].tolist() == pytest.approx([34.6, 155.9, 358.7], abs=0.05)
    assert np.all(np.abs(tumours["volume_ml"] / tumours["contour_volume_ml"] - 1) < 0.003)


@pytest.mark.realdata
def test_copies_and_nesting_of_lung1(lung1: pd.DataFrame) -> None:
    suv = lung1[(lung1["roi"] == "suv") & (lung1["status"] == "ok")].iloc[0]
    assert suv["volume_ml"] == pytest.approx(124.4, abs=0.1)  # an even-odd fill of all 170 contours would be empty
    assert "RT_DUP_CONTOUR" in suv["codes"]
    lungs = lung1[lung1["roi"] == "lung"]
    nested = lungs[lungs["codes"] == "RT_DUP_CONTOUR;RT_NESTED"]["volume_ml"].tolist()
    assert nested == pytest.approx([1813.8], abs=0.1)
