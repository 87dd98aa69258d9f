"""Masks of a shard: sources, choice of regions, segmentation objects, label images, and all real structure sets."""

from __future__ import annotations

import json
import math
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
import stacks
import tiny_dicom
from polycentric import volumes
from polycentric.config.curation import ConvertSettings, MaskSource
from polycentric.convert.contours import distinct, draw, outline, rasterise, read_structure_set
from polycentric.convert.findings import Findings
from polycentric.convert.planes import Planes
from polycentric.convert.raster import area
from polycentric.convert.segments import coincide, draw_segment, read_segmentation
from polycentric.errors import ScanError
from polycentric.jobs import Log
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

Slices = list[Dataset]
CENTRE = (-38.0, -31.0)


def discs(radius: float = 5.5, count: int = 4, first: float = 103.0) -> list[np.ndarray]:
    return [tiny_dicom.circle(*CENTRE, first + 3 * n, radius, 200) for n in range(count)]


DISCS_ML = 200 / 2 * 5.5**2 * math.sin(2 * math.pi / 200) * 12 / 1000


def settings(rois: dict[str, Any] | None = None, **options: Any) -> ConvertSettings:
    return ConvertSettings(**({"rois": rois} if rois else {}), **options)


def save(folder: Path, data: Dataset, name: str = "rt.dcm", **facts: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    data.save_as(folder / name, enforce_file_format=True)
    return stacks.structure_row(folder, name, **facts)


def outlined(folder: Path, regions: dict[str, Any], name: str = "rt.dcm", **facts: Any) -> dict[str, Any]:
    data = tiny_dicom.structure_set(tiny_dicom.series(), regions, name=name)
    listed = [{"name": n} for n in regions]
    return save(folder, data, name, **{"label": name, "regions": listed} | facts)


def run(tmp_path: Path, rows: list[dict[str, Any]], wanted: ConvertSettings, **options: Any) -> dict[str, pd.DataFrame]:
    slices = stacks.slice_rows(tiny_dicom.series())
    return stacks.masks(tmp_path / "in", [*slices, *rows], wanted, tmp_path / "out", **options)


# ------------------------------------------------------------------------------------------------------------- choice


def test_a_mask_lies_in_the_results_on_the_grid_of_the_scan(tmp_path: Path) -> None:
    row = outlined(tmp_path / "in", {"GTV-1": discs()})
    mask = run(tmp_path, [row], settings())["manual"].loc["tumour"]
    assert mask["path"] == "masks/manual/main/north-0/a--tumour.nii"
    assert mask["contour_volume_ml"] == pytest.approx(DISCS_ML, rel=1e-6)
    assert mask["volume_ml"] == pytest.approx(DISCS_ML, rel=0.03)
    assert mask[["kind", "regions", "components", "codes"]].tolist() == ["RTSTRUCT", "GTV-1", 1, ""]
    volume = volumes.read(tmp_path / "out" / mask["path"])
    assert set(np.unique(volume.array)) == {0, 1}
    assert volume.array.sum() == mask["voxels"]
    # centre of mass where the circles are
    zyx = np.argwhere(volume.array).mean(axis=0)
    assert np.allclose(zyx[::-1] * [0.8, 0.8, 3] + [-50.5, -40.25, 100], [*CENTRE, 107.5], atol=0.3)


def test_choice_by_pattern_and_by_names(tmp_path: Path) -> None:
    regions = {"GTV-1": discs(), "gtv1 old": discs(), "GTV-2": [], "1,SUV_primair": discs(3), "Lung (L)": discs(4)}
    row = outlined(tmp_path / "in", regions)
    rois = {
        "pattern": "GTV-?1",
        "lower": "gtv-1",
        "several": "GTV-?1.*",
        "union": {"pattern": "GTV-?1.*", "combine": "union"},
        "names": ["1,suv_PRIMAIR", "other"],
        "both": {"pattern": "lung l", "names": ["Lung  (L)"]},
        "missing": "PTV",
        "part": "GTV",
        "empty": "GTV-2",
    }
    found = run(tmp_path, [row], settings(rois))["manual"]
    codes = found.loc[found["status"] != "ok", "codes"].to_dict()
    assert codes == {
        "several": "RT_ROI_AMBIGUOUS", "missing": "RT_ROI_MISSING", "part": "RT_ROI_MISSING", "empty": "RT_EMPTY_ROI"
    }  # fmt: skip
    assert found.loc["lower", "voxels"] == found.loc["pattern", "voxels"] == found.loc["union", "voxels"]
    assert found.loc["union", "overlap_ml"] == pytest.approx(found.loc["pattern", "volume_ml"])
    assert np.isnan(found.loc["union", "contour_volume_ml"])
    assert found.loc["names", "contour_volume_ml"] == pytest.approx(DISCS_ML * 9 / 5.5**2, rel=1e-3)
    assert found.loc["both", "regions"] == "Lung (L)"
    with pytest.raises(ValidationError, match="no regular expression"):
        settings({"x": "GTV("})
    with pytest.raises(ValidationError, match="write a pattern"):
        settings({"x": {"combine": "union"}})


def test_candidates_are_listed_and_nobody_is_named(tmp_path: Path) -> None:
    regions = {"GTV-1": discs(), "GTV Müller": discs(), "Lung L": discs()}
    row = outlined(tmp_path / "in", regions)
    with (tmp_path / "log").open("w") as stream:
        rois = {"tumour": "GTV.*", "node": "LN"}
        found = run(tmp_path, [row], settings(rois), log=Log(stream))["manual"]
    assert found.loc["tumour", "reason"] == (
        "RT_ROI_AMBIGUOUS: 2 regions match: GTV-1, region 2; make the pattern narrower, or write combine: union"
    )
    assert found.loc["node", "reason"].endswith("none of 3 regions matches; there are: GTV-1, region 2, Lung L")
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [e["roi"] for e in logged if e["event"] == "regions"] == ["tumour", "node"]
    assert logged[-1]["files"][0]["regions"] == ["GTV-1", "GTV Müller", "Lung L"]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"ller" not in path.read_bytes()


HOSTILE = ["../../../etc/x", "a\\b", "GTV\n1\tx", "x" * 300, "\u202eVTG", "", "\u8089\u7624", "$(rm -rf)", "CON", ".."]


def test_hostile_names_leave_tables_and_folders_whole(tmp_path: Path) -> None:
    data = tiny_dicom.structure_set(tiny_dicom.series(), {f"r{n}": discs() for n in range(len(HOSTILE))})
    data.SpecificCharacterSet = "ISO_IR 192"
    for item, name in zip(data.StructureSetROISequence, HOSTILE, strict=True):
        item.ROIName = name
    row = save(tmp_path / "in", data, regions=[{"name": n} for n in HOSTILE])
    rois = {"all": ".*", "every": {"pattern": ".*", "combine": "union"}, "cjk": ["\u8089\u7624"], "line": ["GTV 1 x"]}
    found = run(tmp_path, [row], settings(rois))["manual"]
    assert found["status"].to_dict() == {"all": "rejected", "cjk": "ok", "every": "ok", "line": "ok"}
    assert "region 1, region 2" in found.loc["every", "regions"]
    for text in found[["reason", "regions", "notes"]].to_numpy().ravel():
        assert re.fullmatch(r"[ -~]*", text)
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out"}
    made = {p.name for p in (tmp_path / "out").rglob("*.nii")}
    assert made == {"a--every.nii", "a--cjk.nii", "a--line.nii"}


# ------------------------------------------------------------------------------------------------------------- sources


def test_readers_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = [
        outlined(folder, {"GTV-1": discs(5)}, "one/rt.dcm", label="AB final", saved="20200101"),
        outlined(folder, {"GTV-1": discs(3)}, "two/rt.dcm", label="CD", description="Second look", saved="20200303"),
        outlined(folder, {"GTV-1": discs(4), "Heart": discs(2)}, "two/late.dcm", label="CD", saved="20200202"),
    ]
    sources = {
        "manual": {},
        "ab": {"label": "ab.*"},
        "latest": MaskSource(several="latest"),
        "union": {"several": "union"},
        "look": {"description": "second.*"},
        "folder": {"path": r"two/.*", "rois": {"heart": "Heart", "tumour": "GTV-1"}},
        "nobody": {"label": "EF"},
        "pictures": {"kind": "SEG"},
    }
    found = run(tmp_path, rows, settings(sources=sources))
    tumour = {source: table.loc["tumour"] for source, table in found.items()}
    ml = {radius: math.pi * radius**2 * 12 / 1000 for radius in (3, 4, 5)}
    assert tumour["ab"]["volume_ml"] == pytest.approx(ml[5], rel=0.05)
    assert tumour["latest"]["volume_ml"] == tumour["look"]["volume_ml"] == pytest.approx(ml[3], rel=0.08)
    assert tumour["union"]["volume_ml"] == tumour["ab"]["volume_ml"]
    assert tumour["union"]["overlap_ml"] == pytest.approx(ml[3] + ml[4], rel=0.08)
    codes = {s: t["codes"] for s, t in tumour.items() if t["status"] != "ok"}
    assert codes == {
        "manual": "RT_MULTIPLE_FOR_SERIES", "folder": "RT_MULTIPLE_FOR_SERIES", "nobody": "RT_ROI_MISSING",
        "pictures": "RT_ROI_MISSING",
    }  # fmt: skip
    # a file without the region does not compete for it
    assert found["folder"].loc["heart", "status"] == "ok"
    assert found["folder"].loc["heart", "path"] == "masks/folder/main/north-0/a--heart.nii"
    assert "AB" not in "".join(p.read_text() for p in (tmp_path / "out").rglob("*.tsv"))


def test_copies_of_a_structure_set_are_one(tmp_path: Path) -> None:
    rows = [outlined(tmp_path / "in", {"GTV-1": discs()}, name) for name in ("a.dcm", "b.dcm")]
    data = (tmp_path / "in" / "a.dcm").read_bytes()
    (tmp_path / "in" / "b.dcm").write_bytes(data)
    rows[1]["content_sha256"] = rows[0]["content_sha256"]
    assert run(tmp_path, rows, settings())["manual"].loc["tumour", "status"] == "ok"


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = [outlined(folder, {"GTV-1": discs(r)}, f"{n}.dcm", label=n) for n, r in (("A", 5), ("B", 4))]
    sources = {"a": {"label": "A"}, "b": {"label": "B"}}

    def times() -> dict[str, int]:
        return {p.parts[-4]: p.stat().st_mtime_ns for p in sorted((tmp_path / "out").rglob("*.nii"))}

    run(tmp_path, rows, settings(sources=sources))
    first = times()
    rows[1] = outlined(folder, {"GTV-1": discs(3)}, "B.dcm", label="B")
    run(tmp_path, rows, settings(sources=sources | {"c": {}}, clip_below_hu=None))
    second = times()
    assert second["a"] == first["a"]
    assert second["b"] != first["b"]
    run(tmp_path, rows, settings(sources=sources, tiny_voxels=3))
    assert times()["a"] != first["a"]


def test_regions_of_another_frame_of_reference_are_another_scans(tmp_path: Path) -> None:
    data = tiny_dicom.structure_set(tiny_dicom.series(), {"GTV-1": discs(5), "gtv1": discs(3)})
    own, other = data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID, "1.2.3"
    data.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = other
    for frames, status in (([own], "ok"), ([own, other], "rejected"), ([], "rejected"), (["1.2.4"], "rejected")):
        row = save(tmp_path / "in", data, frames=frames)
        assert run(tmp_path, [row], settings())["manual"].loc["tumour", "status"] == status


def test_scans_without_volume_or_contours_have_rows(tmp_path: Path) -> None:
    row = outlined(tmp_path / "in", {"GTV-1": discs()})
    rows = [row, *stacks.slice_rows(tiny_dicom.series(), "b"), *stacks.slice_rows(tiny_dicom.series(), "c")]
    found = run(tmp_path, rows, settings(), good={"a", "b"})["manual"]
    assert found.reset_index()[["scan", "roi", "status", "codes"]].values.tolist() == [
        ["a", "tumour", "ok", ""], ["b", "tumour", "rejected", "RT_ROI_MISSING"], ["c", "*", "missing", ""]
    ]  # fmt: skip


def test_a_broken_file_is_a_row(tmp_path: Path) -> None:
    row = outlined(tmp_path / "in", {"GTV-1": discs()})
    whole = (tmp_path / "in" / "rt.dcm").read_bytes()
    for broken in (b"", b"junk" * 100, whole[: len(whole) // 2], whole[:-300]):
        (tmp_path / "in" / "rt.dcm").write_bytes(broken)
        row["content_sha256"] = str(len(broken))
        mask = run(tmp_path, [row], settings())["manual"].loc["tumour"]
        assert (mask["status"], mask["codes"] != "") == ("rejected", True), len(broken)
    (tmp_path / "in" / "rt.dcm").unlink()
    assert run(tmp_path, [row], settings(tiny_voxels=1))["manual"].loc["tumour", "codes"] == "MASK_UNREADABLE"
    short = tiny_dicom.structure_set(tiny_dicom.series(), {"GTV-1": discs()})
    contour = short.ROIContourSequence[0].ContourSequence[2]
    contour.ContourData = contour.ContourData[:300]
    row = save(tmp_path / "in", short)
    assert run(tmp_path, [row], settings())["manual"].loc["tumour", "codes"] == "MASK_UNREADABLE"


def test_tiny_and_scattered_masks_are_flagged_or_refused(tmp_path: Path) -> None:
    scattered = [tiny_dicom.circle(-48 + 4 * n, -31, 103, 0.7, 30) for n in range(5)]
    row = outlined(tmp_path / "in", {"GTV-1": scattered, "dot": [tiny_dicom.circle(-38.1, -31.05, 103, 0.01, 30)]})
    rois = {"tumour": "GTV-1", "dot": "dot"}
    found = run(tmp_path, [row], settings(rois, most_components=4))["manual"]
    assert found.loc["tumour", "components"] == 5
    assert "MASK_COMPONENTS" in found.loc["tumour", "codes"]
    assert "MASK_TINY" in run(tmp_path, [row], settings(rois, tiny_voxels=50))["manual"].loc["tumour", "codes"]
    assert found.loc["dot", "codes"] == "MASK_EMPTY"
    for code in ("MASK_TINY", "MASK_COMPONENTS"):
        wanted = settings(rois, tiny_voxels=50, most_components=4)
        verdicts = {"MASK_TINY": "accept", "MASK_COMPONENTS": "accept"} | {code: "reject"}
        assert run(tmp_path, [row], wanted, verdicts=verdicts)["manual"].loc["tumour", "codes"] == code


def test_a_structure_set_in_an_archive(tmp_path: Path) -> None:
    row = outlined(tmp_path / "in", {"GTV-1": discs()})
    with zipfile.ZipFile(tmp_path / "in" / "export.zip", "w") as archive:
        archive.write(tmp_path / "in" / "rt.dcm", "deep/rt.dcm")
    row["path"] = "export.zip//deep/rt.dcm"
    (tmp_path / "in" / "rt.dcm").unlink()
    wanted = settings(sources={"manual": {"path": "export.zip/deep/.*"}})
    assert run(tmp_path, [row], wanted)["manual"].loc["tumour", "status"] == "ok"


# --------------------------------------------------------------------------------------- DICOM segmentation objects


def images(count: int = 12, **options: Any) -> Slices:
    data = tiny_dicom.series(count, **options)
    for d in data:  # what highdicom copies
        d.PatientBirthDate, d.PatientSex, d.StudyID, d.AccessionNumber = "", "", "", ""
        d.PatientAge = d.PositionReferenceIndicator = d.ReferringPhysicianName = ""
    return data


def truth(slices: Slices, seed: int = 3) -> np.ndarray:
    """Two random masks (z, y, x, 2) on the slices in order, with empty slices and voxels at the edges."""
    random = np.random.default_rng(seed).random((len(slices), slices[0].Rows, slices[0].Columns, 2)) < 0.3
    random[[0, 4, 5]] = False
    random[..., 1] &= ~random[..., 0]
    return random


def segmentation(slices: Slices, mask: np.ndarray, kind: str = "BINARY", **options: Any) -> Dataset:
    """A segmentation object as highdicom writes it; `mask` (z, y, x, segments)."""
    highdicom = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.cid7150.Tissue,
            segmented_property_type=codes.cid7166.ConnectiveTissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in ((1, "GTV-1"), (2, "Lung L"))
    ]
    if kind == "FRACTIONAL":
        options = {"max_fractional_value": 200, "fractional_type": "PROBABILITY"} | options
    return highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=tiny_dicom.uid("seg series"),
        series_number=9,
        sop_instance_uid=tiny_dicom.uid("seg"),
        instance_number=1,
        manufacturer="ACME",
        manufacturer_model_name="One",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


ROIS = {"tumour": "GTV-1", "lung": "Lung L"}


def segmented(
    tmp_path: Path, slices: Slices, seg: Dataset, grid: Geometry | None = None, repair: str = "", **options: Any
):
    row = save(tmp_path / "in", seg, "seg.dcm", kind="SEG")
    rows = [*stacks.slice_rows(slices, grid=grid, repair=repair), row]
    found = stacks.masks(tmp_path / "in", rows, settings(ROIS), tmp_path / "out", **options)["manual"]
    arrays = {
        roi: volumes.read(tmp_path / "out" / found.loc[roi, "path"]).array for roi in ROIS if found.loc[roi, "path"]
    }
    return found, arrays


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BINARY", {}),
        ("BINARY", {"omit_empty_frames": False}),
        ("FRACTIONAL", {}),
        ("FRACTIONAL", {"transfer_syntax_uid": RLELossless}),
        ("LABELMAP", {}),
        ("LABELMAP", {"transfer_syntax_uid": RLELossless}),
    ],
)
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, 0, 0, -1)])
def test_segmentations_of_highdicom_come_back_bit_for_bit(
    tmp_path: Path, kind: str, options: dict[str, Any], orientation: tuple[float, ...]
) -> None:
    # 23 x 31 pixels: frames of single bits do not end at whole bytes
    slices = images(orientation=orientation, rows=23, columns=31)
    mask = truth(slices)
    given: np.ndarray = mask.astype(np.uint8)
    if kind == "FRACTIONAL":
        low, high = (np.random.default_rng(n).uniform(*r, mask.shape) for n, r in ((1, (0, 0.49)), (2, (0.5, 1))))
        given = np.where(mask, high, low)
    if kind == "LABELMAP":
        given = (mask * [1, 2]).sum(axis=-1).astype(np.uint8)
    seg = segmentation(slices, given, kind, **options)
    found, arrays = segmented(tmp_path, slices, seg)
    order = stacks.geometry_of(slices)[0]
    for place, roi in enumerate(ROIS):
        assert np.array_equal(arrays[roi], mask[order][..., place])
        assert found.loc[roi, ["kind", "regions"]].tolist() == ["SEG", ["GTV-1", "Lung L"][place]]
        assert "SEG_GRID_MISMATCH" not in found.loc[roi, "codes"]


def test_frames_are_read_as_highdicom_reads_them(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    slices = images(rows=23, columns=31)
    path = tmp_path / "seg.dcm"
    segmentation(slices, truth(slices).astype(np.uint8)).save_as(path)
    theirs = highdicom.seg.segread(path).get_volume(combine_segments=False)
    with path.open("rb") as stream:
        own = read_segmentation(stream)
    grid = Geometry(
        theirs.array.shape[2::-1],
        theirs.spacing[::-1],
        tuple(theirs.position),
        tuple(np.stack(theirs.unit_vectors()[::-1], axis=1).ravel()),
    )
    findings = Findings({})
    for place, segment in enumerate(own):
        filled = draw_segment(segment, Planes.of(grid), 0.1, findings)
        assert np.array_equal(filled.mask, theirs.array[..., place])


def test_segmentation_of_part_of_the_image_is_placed(tmp_path: Path) -> None:
    slices = images()
    mask = truth(slices)
    part = tiny_dicom.series(12, rows=14, columns=20, origin=(-50.5 + 5 * 0.8, -40.25 + 7 * 0.8, 100.0))
    for whole, cut in zip(slices, part, strict=True):
        for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
            cut[keyword] = whole[keyword]
    seg = segmentation(part, mask[:, 7:21, 5:25].astype(np.uint8))
    found, arrays = segmented(tmp_path, slices, seg)
    expected = np.zeros_like(mask[..., 0])
    expected[:, 7:21, 5:25] = mask[:, 7:21, 5:25, 0]
    assert np.array_equal(arrays["tumour"], expected)
    assert "SEG_GRID_MISMATCH" not in found.loc["tumour", "codes"]
    # the same on a smaller image: voxels outside of it
    found, arrays = segmented(tmp_path / "small", part, segmentation(slices, mask.astype(np.uint8)))
    assert found["codes"].tolist() == ["RT_OUT_OF_VOLUME"] * 2
    found, arrays = segmented(
        tmp_path / "cut", part, segmentation(slices, mask.astype(np.uint8)), verdicts={"RT_OUT_OF_VOLUME": "flag"}
    )
    assert np.array_equal(arrays["tumour"], mask[:, 7:21, 5:25, 0])


def ball(slices: Slices, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    _, grid, _, _ = stacks.geometry_of(slices)
    zyx = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size[::-1]), indexing="ij"), axis=-1)
    points = zyx[..., ::-1] * grid.spacing + np.array(grid.origin)
    return ((points - centre) ** 2).sum(axis=-1) < radius**2


def test_segmentation_on_another_grid_is_resampled_with_a_code(tmp_path: Path) -> None:
    fine = images(40, spacing=1.0, rows=60, columns=64, pixel_spacing=(0.5, 0.5), origin=(-54, -45.1, 98.2))
    centre, radius = (-38.0, -31.0, 117.0), 8.0
    inside = ball(fine, centre, radius)
    seg = segmentation(fine, np.stack([inside, ~inside & False], axis=-1).astype(np.uint8))
    slices = images()
    found, arrays = segmented(tmp_path, slices, seg)
    assert found.loc["tumour", ["status", "codes"]].tolist() == ["ok", "SEG_GRID_MISMATCH"]
    assert found.loc["lung", "codes"] == "RT_EMPTY_ROI"
    expected = ball(slices, centre, radius)
    assert (arrays["tumour"] != expected).mean() < 0.01  # nearest neighbours: half a voxel of the fine grid
    assert found.loc["tumour", "volume_ml"] == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.05)
    (repair,) = json.loads(found.loc["tumour", "repairs"])
    assert (repair["before"]["spacing_x_mm"], repair["after"]["spacing_x_mm"]) == (0.5, 0.8)
    refused, _ = segmented(tmp_path, slices, seg, verdicts={"SEG_GRID_MISMATCH": "reject"})
    assert refused.loc["tumour", "codes"] == "SEG_GRID_MISMATCH"


def test_segmentation_of_flipped_slices_needs_no_code(tmp_path: Path) -> None:
    slices = images()
    flipped = images(orientation=(-1, 0, 0, 0, 1, 0), origin=(-50.5 + 31 * 0.8, -40.25, 133.0))
    mask = truth(flipped)
    found, arrays = segmented(tmp_path, slices, segmentation(flipped, mask.astype(np.uint8)))
    # the normal of the flipped slices points down: slice n lies at 133 - 3 n
    assert np.array_equal(arrays["tumour"], mask[::-1, :, ::-1, 0])
    assert "SEG_GRID_MISMATCH" not in found.loc["tumour", "codes"]


def test_segmentation_of_sheared_slices_lies_where_the_grid_does(tmp_path: Path) -> None:
    slices = images()
    for number, one in enumerate(slices):
        one.ImagePositionPatient = [-50.5, -40.25 - 0.8 * number, 100.0 + 3 * number]
    _, own, _, across = stacks.geometry_of(slices)
    assert np.allclose(np.diff(across[:, 1]), -0.8)
    grid = Geometry((32, 35, 12), own.spacing, (-50.5, -40.25 - 0.8 * 11, 100.0), own.direction)
    mask = truth(slices)
    found, arrays = segmented(tmp_path, slices, segmentation(slices, mask.astype(np.uint8)), grid, "shear")
    assert "SEG_GRID_MISMATCH" not in found.loc["tumour", "codes"]
    for number in range(12):
        assert np.array_equal(arrays["tumour"][number, 11 - number : 35 - number], mask[number, ..., 0])


def test_segment_that_is_not_there_and_broken_segmentations(tmp_path: Path) -> None:
    slices = images()
    seg = segmentation(slices, truth(slices).astype(np.uint8))
    row = save(tmp_path / "in", seg, "seg.dcm", kind="SEG")
    found = run(tmp_path, [row], settings({"x": "GTV-9"}))["manual"]
    assert found.loc["x", "reason"] == "SEG_SEGMENT_MISSING: none of 2 regions matches; there are: GTV-1, Lung L"
    whole = (tmp_path / "in" / "seg.dcm").read_bytes()
    for broken in (b"", whole[:3000], whole[: len(whole) - 500]):
        (tmp_path / "in" / "seg.dcm").write_bytes(broken)
        row["content_sha256"] = str(len(broken))
        mask = run(tmp_path, [row], settings({"x": "GTV-1"}))["manual"].loc["x"]
        assert mask["codes"] == "MASK_UNREADABLE", len(broken)


def test_contours_and_segmentation_of_one_scan_are_two_sources(tmp_path: Path) -> None:
    slices = images()
    rows = [
        outlined(tmp_path / "in", {"GTV-1": discs()}),
        save(tmp_path / "in", segmentation(slices, truth(slices).astype(np.uint8)), "seg.dcm", kind="SEG"),
    ]
    sources = {"manual": {"kind": "RTSTRUCT"}, "model": {"kind": "SEG"}}
    found = run(tmp_path, rows, settings(sources=sources))
    assert [found[s].loc["tumour", "kind"] for s in sources] == ["RTSTRUCT", "SEG"]


# --------------------------------------------------------------------------------------------------------- label images


def labelled(
    folder: Path, array: np.ndarray, grid: Geometry, name: str = "mask.nii.gz", **facts: Any
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(Volume(array, grid).to_sitk(), str(folder / name))
    return stacks.structure_row(folder, name, kind="image", **facts)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd", "mask.mha", "mask.nii"])
def test_label_images_give_the_regions_of_the_table(tmp_path: Path, name: str) -> None:
    _, grid, _, _ = stacks.geometry_of(tiny_dicom.series(orientation=(0.8, 0.6, 0, 0, 0, -1)))
    labels = np.random.default_rng(1).integers(0, 4, (12, 24, 32)).astype(np.int16)
    regions = [{"name": "GTV-1", "value": 1}, {"name": "Lung L", "value": 3}, {"name": "none", "value": 9}]
    row = labelled(tmp_path / "in", labels, grid, name, regions=regions)
    slices = tiny_dicom.series(orientation=(0.8, 0.6, 0, 0, 0, -1))
    rows = [*stacks.slice_rows(slices), row]
    wanted = settings(ROIS | {"none": "none", "other": "Heart", "any": ".*"})
    found = stacks.masks(tmp_path / "in", rows, wanted, tmp_path / "out")["manual"]
    for roi, value in (("tumour", 1), ("lung", 3)):
        assert np.array_equal(volumes.read(tmp_path / "out" / found.loc[roi, "path"]).array, labels == value)
        assert found.loc[roi, "kind"] == "image"
        assert "SEG_GRID_MISMATCH" not in found.loc[roi, "codes"]
    assert found.loc[["none", "other", "any"], "codes"].tolist() == [
        "RT_EMPTY_ROI", "SEG_SEGMENT_MISSING", "RT_ROI_AMBIGUOUS"
    ]  # fmt: skip
    whole = labelled(tmp_path / "in", labels, grid, name, regions=[{"name": "GTV-1"}])
    found = stacks.masks(tmp_path / "in", [*rows[:-1], whole], settings(), tmp_path / "whole")["manual"]
    assert np.array_equal(volumes.read(tmp_path / "whole" / found.loc["tumour", "path"]).array, labels > 0)


def test_label_images_on_other_grids(tmp_path: Path) -> None:
    slices = tiny_dicom.series()
    _, grid, _, _ = stacks.geometry_of(slices)
    labels = ball(slices, (-38.0, -31.0, 117.0), 8.0).astype(np.uint8)
    image = Volume(labels, grid).to_sitk()
    flipped = Volume.from_sitk(sitk.DICOMOrient(image, "RAS"))  # the same voxels, stored in another order
    assert flipped.geometry.direction != grid.direction
    moved = Geometry(grid.size, grid.spacing, (grid.origin[0] + 0.3, *grid.origin[1:]), grid.direction)
    for number, (array, where, codes) in enumerate(
        (
            (flipped.array, flipped.geometry, ""),
            (labels[1:11, 2:22, 3:30], Geometry((27, 20, 10), grid.spacing, (-48.1, -38.65, 103.0)), ""),
            (labels, moved, "SEG_GRID_MISMATCH"),
        )
    ):
        row = labelled(tmp_path / "in", array, where, f"{number}.nii", regions=[{"name": "GTV-1", "value": 1}])
        mask = run(tmp_path, [row], settings())["manual"].loc["tumour"]
        assert mask["codes"] == codes, number
        assert np.array_equal(volumes.read(tmp_path / "out" / mask["path"]).array, labels)
    assert coincide(grid, grid)
    assert not coincide(grid, moved)
    far = Geometry(grid.size, grid.spacing, (*grid.origin[:2], 118.0), grid.direction)
    row = labelled(tmp_path / "in", labels, far, "far.nii", regions=[{"name": "GTV-1", "value": 1}])
    assert run(tmp_path, [row], settings())["manual"].loc["tumour", "codes"] == "RT_OUT_OF_VOLUME"


def test_pictures_are_masks_of_planar_images_of_their_size(tmp_path: Path) -> None:
    grid = Geometry((32, 24, 1), (1.0, 1.0, 1.0))
    labels = np.random.default_rng(1).integers(0, 2, (24, 32)).astype(np.uint8) * 255
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "in" / "mask.png"))
    slices = stacks.slice_rows(tiny_dicom.series(2))[:1]
    facts = {"regions": [{"name": "GTV-1", "value": 255}], "instances": [slices[0]["sop_instance"]]}
    row = stacks.structure_row(tmp_path / "in", "mask.png", kind="image", **facts)
    for size, status in (((32, 24, 1), "ok"), ((24, 32, 1), "rejected")):
        place = Geometry(size, grid.spacing).columns() | {"position_mm": None}
        rows = [slices[0] | place, row]
        mask = stacks.masks(tmp_path / "in", rows, settings(most_components=None), tmp_path / status)["manual"]
        assert mask.loc["tumour", "status"] == status
    made = volumes.read(tmp_path / "ok" / "masks/manual/main/north-0/a--tumour.nii").array
    assert np.array_equal(made[0], labels > 0)


# ----------------------------------------------------------------------------------------------------------- real data


def pairs(realdata: Callable[[str], Path]) -> list[tuple[str, Path, list[Path]]]:
    """Every structure set of the real data with the slices that it belongs to: (name, RTSTRUCT, slices)."""
    result = []
    for patient in sorted((realdata("lung1") / "dicom").iterdir()):
        files = {p: str(pydicom.dcmread(p, specific_tags=["Modality"], stop_before_pixels=True).Modality)
                 for p in sorted(patient.iterdir())}  # fmt: skip
        (rt,) = (p for p, m in files.items() if m == "RTSTRUCT")
        result.append((patient.name[:9], rt, [p for p, m in files.items() if m == "CT"]))
    for patient in sorted(realdata("sts").glob("STS_*")):
        for modality in ("CT", "MR_T1", "PET"):
            folder = patient / modality
            result.append(
                (f"{patient.name} {modality}", folder / "mask" / "RS.dcm", sorted((folder / "image").iterdir()))
            )
    phantom = realdata("ibsi") / "ibsi_1_ct_radiomics_phantom" / "dicom"
    result.append(("IBSI 1", phantom / "mask" / "DCM_RS_00060.dcm", sorted((phantom / "image").glob("*.dcm"))))
    return result


def every_region(rt: Path, slices: list[Path], out: Path, **options: Any) -> pd.DataFrame:
    """Masks of all regions of a structure set."""
    tags = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SOPInstanceUID"]
    headers = [pydicom.dcmread(p, specific_tags=tags, stop_before_pixels=True) for p in slices]
    names = {f"n{n}": [r.ROIName] for n, r in enumerate(pydicom.dcmread(rt).StructureSetROISequence)}
    rows = [*stacks.slice_rows(headers), stacks.structure_row(rt.parent, rt.name)]
    found = stacks.masks(rt.parent, rows, settings(names, most_components=None), out, **options)["manual"]
    return found.assign(name=[names[n][0] for n in found.index])


@pytest.fixture(scope="module")
def sweep(realdata: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("sweep")
    tables = []
    for number, (name, rt, slices) in enumerate(pairs(realdata)):
        tables.append(every_region(rt, slices, out / str(number)).assign(case=name))
        for path in (out / str(number)).rglob("*.nii"):
            path.unlink()
    return pd.concat(tables)


@pytest.mark.realdata
def test_every_real_region_converts_or_has_a_code(sweep: pd.DataFrame) -> None:
    assert len(sweep) == 17 + 16 + 25 + 6 * 3 + 1
    assert set(sweep["status"]) == {"ok", "rejected"}
    refused = sweep[sweep["status"] == "rejected"]
    assert (refused["codes"] != "").all()
    print(sweep[["case", "name", "status", "voxels", "volume_ml", "contour_volume_ml", "codes"]].to_string())
    # nothing but points and empty regions is refused
    assert set(refused["codes"]) <= {"RT_POINT_ONLY", "RT_EMPTY_ROI"}


@pytest.mark.realdata
def test_real_volumes_are_those_of_the_polygons(sweep: pd.DataFrame) -> None:
    made = sweep[(sweep["status"] == "ok") & sweep["contour_volume_ml"].notna()]
    off = (made["volume_ml"] / made["contour_volume_ml"] - 1).abs()
    assert len(made) >= 50
    print(made.assign(off=off)[["case", "name", "contour_volume_ml", "off"]].sort_values("off").to_string())
    # the PET of STS_008 has 27.6 mL in 388 voxels of 4 mm: with so few, centres within the contour miss by 1.2 %
    coarse = made["voxels"] < 500
    assert made.loc[coarse, "case"].tolist() == ["STS_008 PET"]
    assert (off[(made["contour_volume_ml"] > 20) & ~coarse] < 0.006).all()
    assert (off < 0.012).all()
    tumours = made[made["case"].str.startswith("LUNG1") & (made["name"] == "GTV-1")]
    assert tumours.sort_values("contour_volume_ml")["contour_volume_ml"].tolist() == pytest.approx(
        [34.6, 155.9, 358.7], abs=0.05
    )
    assert (off[made["case"].str.startswith("LUNG1") & (made["name"] == "GTV-1")] < 0.003).all()


@pytest.mark.realdata
def test_copies_and_nesting_of_lung1(sweep: pd.DataFrame) -> None:
    suv = sweep[(sweep["case"] == "LUNG1-001") & (sweep["name"] == "1,SUV_primair")].iloc[0]
    assert suv["volume_ml"] == pytest.approx(124.4, abs=0.1)  # an even-odd fill of all 170 contours would be empty
    assert {"code": "RT_DUP_CONTOUR", "before": 170, "after": 85} in json.loads(suv["repairs"])
    lung = sweep[(sweep["case"] == "LUNG1-002") & (sweep["name"] == "Lung L")].iloc[0]
    assert lung["volume_ml"] == pytest.approx(1813.8, abs=0.1)
    assert lung["volume_ml"] + lung["nested_ml"] == pytest.approx(1965.4, abs=0.1)
    assert lung["codes"] == "RT_DUP_CONTOUR;RT_NESTED"


@pytest.mark.realdata
def test_a_structure_set_of_three_megabytes_takes_two_seconds(realdata: Callable[[str], Path]) -> None:
    for name, rt, slices in pairs(realdata)[:3]:
        _, grid, _, _ = stacks.geometry_of([pydicom.dcmread(p, stop_before_pixels=True) for p in slices])
        begin = time.process_time()
        with rt.open("rb") as stream:
            regions = read_structure_set(stream, lambda _: True)
        for region in regions:
            if not region.emptiness:
                draw(region.contours, Planes.of(grid), tolerance_mm=0.1, skipped_slices=3, findings=Findings({}))
        seconds = time.process_time() - begin
        print(name, len(regions), "regions", round(seconds, 2), "s")
        assert seconds < 2


@pytest.mark.realdata
def test_mask_of_the_ibsi_phantom_is_the_published_one(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    (_, rt, slices) = next(p for p in pairs(realdata) if p[0] == "IBSI 1")
    found = every_region(rt, slices, tmp_path)
    made = volumes.read(tmp_path / found.iloc[0]["path"])
    nifti = next((rt.parents[2] / "nifti" / "mask").glob("*.nii*"))
    theirs = sitk.Resample(
        sitk.ReadImage(str(nifti)), made.to_sitk(), sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8
    )
    other = sitk.GetArrayFromImage(theirs) > 0
    dice = 2 * np.count_nonzero(other & (made.array > 0)) / (other.sum() + made.array.sum())
    print("dice", dice, "volume", other.sum(), made.array.sum())
    assert dice > 0.995


@pytest.mark.realdata
def test_contours_agree_with_scikit_image(realdata: Callable[[str], Path]) -> None:
    polygon2mask = pytest.importorskip("skimage.draw").polygon2mask
    (_, rt, slices) = next(p for p in pairs(realdata) if p[0] == "LUNG1-001")
    with rt.open("rb") as stream:
        region = next(r for r in read_structure_set(stream, lambda n: n == "GTV-1") if r.contours)
    tags = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SOPInstanceUID"]
    _, grid, _, _ = stacks.geometry_of([pydicom.dcmread(p, specific_tags=tags) for p in slices])
    polygons = outline(region.contours, Planes.of(grid), 0.1, Findings({}))
    own = rasterise(polygons, Planes.of(grid)).mask
    for number, found in polygons.items():
        theirs = np.logical_xor.reduce([polygon2mask(own.shape[1:], p[:, ::-1]) for p in found])
        edge = sum(len(p) for p in found)
        assert np.count_nonzero(own[number] != theirs) <= max(2, edge // 20)
        assert own[number].sum() == pytest.approx(area(found), rel=0.02, abs=5)


def test_an_error_names_no_file(tmp_path: Path) -> None:
    with pytest.raises(ScanError) as error, (tmp_path / "MUELLER.dcm").open("wb+") as stream:
        read_segmentation(stream)
    assert "MUELLER" not in str(error.value)


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_mutated_files_give_masks_or_codes(tmp_path: Path, kind: str) -> None:
    slices = images()
    if kind == "SEG":
        data = segmentation(slices, truth(slices).astype(np.uint8))
    else:
        data = tiny_dicom.structure_set(slices, {"GTV-1": discs(), "Lung L": discs(3)})
    row = save(tmp_path / "in", data, "x.dcm", kind=kind)
    whole = np.frombuffer((tmp_path / "in" / "x.dcm").read_bytes(), dtype=np.uint8)
    random = np.random.default_rng(11)
    rows = stacks.slice_rows(slices)
    for number in range(60):
        broken = whole.copy()
        for _ in range(int(random.integers(1, 12))):
            start = int(random.integers(132, len(broken)))
            broken[start : start + int(random.integers(1, 5))] = random.integers(0, 256)
        if number % 4 == 0:
            broken = broken[: int(random.integers(200, len(broken)))]
        (tmp_path / "in" / "x.dcm").write_bytes(broken.tobytes())
        row["content_sha256"] = str(number)
        begin = time.monotonic()
        found = stacks.masks(tmp_path / "in", [*rows, row], settings(ROIS), tmp_path / "out", log=Log())["manual"]
        assert time.monotonic() - begin < 5
        assert set(found["status"]) <= {"ok", "rejected"}, number
        assert (found["codes"] != "")[found["status"] == "rejected"].all()


def test_thousands_of_contours_on_a_slice_take_no_time() -> None:
    small = [tiny_dicom.circle(x, y, 0, 0.2, 8)[:, :2] for x in np.arange(0, 60, 0.6) for y in np.arange(0, 60, 0.6)]
    begin = time.process_time()
    assert len(distinct([*small, *(s[::-1] for s in small)])) == len(small) == 10_000
    assert time.process_time() - begin < 5
