"""Conversion: volumes as SimpleITK reads clean series, masks as geometry and real contours demand."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pipeline
import pytest
import SimpleITK as sitk
import tiny_dicom
from polycentric import volumes
from polycentric.config.curation import ConvertSettings, CurationSettings
from polycentric.jobs import Log
from pydicom.dataset import Dataset

LOG = Log()


def convert(folder: Path, rois: dict[str, object] | None = None, curation: dict | None = None, **settings: object):
    """Volumes, masks and the results folder of a folder of DICOM, through index, curation and cohort."""
    centre = pipeline.curated(folder, CurationSettings(**(curation or {})), log=LOG)
    pipeline.converted(centre, ConvertSettings(**({"rois": rois} if rois else {}), **settings), log=LOG)
    return centre.volumes(), centre.masks(), centre.root


def series(count: int = 12, **options: object) -> list[Dataset]:
    return tiny_dicom.series(count, **options)


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
