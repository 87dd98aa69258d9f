"""Images that are no DICOM: tables, headers of NIfTI, NRRD, MetaImage and pictures, wrong files."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pipeline
import pytest
import SimpleITK as sitk
from polycentric import volumes
from polycentric.config.curation import ConvertSettings, CurationSettings
from polycentric.config.images import ImageTable
from polycentric.errors import UserError
from polycentric.formats import Unreadable, read_facts, suffix_of
from polycentric.index.images import ImageReader, image_reader
from polycentric.tables.private import INDEX, encode_path
from pydantic import ValidationError

TURNED = {
    "as DICOM": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "flipped y": (1, 0, 0, 0, -1, 0, 0, 0, 1),
    "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, -1, 0),
    "oblique": None,
}


def _direction(name: str) -> tuple[float, ...]:
    if TURNED[name] is not None:
        return tuple(map(float, TURNED[name]))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 1.1)
    return turn.GetMatrix()


def _image(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1), size: tuple[int, ...] = (5, 4, 3)) -> sitk.Image:
    values = np.arange(np.prod(size), dtype=np.int16).reshape(size[::-1])
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((-12.5, 30.25, 101.75))
    image.SetDirection(direction)
    return image


def _otherwise(folder: Path, path: str) -> dict[str, Any]:
    return {"reading": "ok"}


def _rows(folder: Path, table: list[dict[str, Any]], **settings: Any) -> dict[str, dict[str, Any]]:
    """Rows of the index for a table, checked against its schema."""
    file = folder.parent / f"{folder.name}.csv"
    pd.DataFrame(table).to_csv(file, index=False)
    reader = image_reader("south", folder, file, ImageTable(file=str(file), **settings), _otherwise)
    found = [encode_path(p.relative_to(folder).as_posix()) for p in sorted(folder.rglob("*")) if p.is_file()]
    rows = {path: reader(folder, path) for path in found}
    frame = pd.DataFrame([{"centre": "south", "path": p, "size": 1, "mtime_ns": 1, **r} for p, r in rows.items()])
    INDEX.check(frame.reindex(columns=list(INDEX.columns)), "rows of images")
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "south").mkdir()
    return tmp_path / "south"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("turned", TURNED)
def test_planes_lie_where_simpleitk_puts_their_pixels(folder: Path, suffix: str, turned: str) -> None:
    path = folder / f"one{suffix}"
    sitk.WriteImage(_image(_direction(turned)), str(path))
    row = _rows(folder, [{"path": path.name, "patient_id": "a"}])[path.name]
    read = sitk.ReadImage(str(path))
    frames = json.loads(row["frame_facts"])
    assert (row["columns"], row["rows"], row["frames"], len(frames)) == (5, 4, 3, 3)
    for i, j, k in np.ndindex(5, 4, 3):
        # the DICOM equation (PS3.3, C.7.6.2.1.1): first pixel, direction of the row, direction of the column
        f = frames[k]
        cosines = np.array([float(v) for v in f["orientation"].split()])
        point = np.array(f["position"]) + i * f["spacing"][1] * cosines[:3] + j * f["spacing"][0] * cosines[3:]
        assert point == pytest.approx(read.TransformIndexToPhysicalPoint((i, j, k)), abs=1e-4)
    assert [row[f"position_{a}_mm"] for a in "xyz"] == frames[0]["position"]
    assert row["orientation"] == frames[0]["orientation"]


def test_row_says_what_the_table_says(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "a.nii.gz"))
    sitk.WriteImage(sitk.Cast(_image() > 3, sitk.sitkUInt8), str(folder / "a-mask.nii.gz"))
    (folder / "sub").mkdir()
    sitk.WriteImage(_image(), str(folder / "sub" / "b.nii.gz"))
    table = [
        ("a.nii.gz", "007", "2020-02-29", "CT", "yes", "120", "a-mask.nii.gz"),
        ("sub\\b.nii.gz", "008", "", "mr", "no", "", ""),
    ]
    table = [dict(zip(("path", "id", "day", "mod", "km", "kv", "mask"), row, strict=True)) for row in table]
    rows = _rows(
        folder, table, patient="id", date={"column": "day"}, modality={"column": "mod"}, contrast={"column": "km"},
        facts={"kvp": {"column": "kv"}, "manufacturer": "Acme"},
        masks={"manual": {"GTV-1": {"column": "mask", "value": 1}, "lung": {"column": "mask", "value": 2}}},
    )  # fmt: skip
    a, b, mask = rows["a.nii.gz"], rows["sub/b.nii.gz"], rows["a-mask.nii.gz"]
    assert (a["patient_id"], a["study_date"], a["modality"], a["kvp"], a["rescale_type"]) == (
        "007",
        "20200229",
        "CT",
        120,
        "HU",
    )
    assert (b["patient_id"], b["study_date"], b["modality"], b["manufacturer"], b["rescale_type"]) == (
        "008",
        "",
        "MR",
        "Acme",
        "US",
    )
    # as curation reads the tag: a named agent means yes, an empty tag means no
    assert (a["contrast_agent"], a["contrast_tagged"]) == ("yes", True)
    assert (b["contrast_agent"], b["contrast_tagged"]) == ("", True)
    structure = json.loads(mask["structure"])
    assert (structure["kind"], structure["label"], structure["series"]) == ("image", "manual", [a["series_uid"]])
    assert structure["frames"] == [a["frame_uid"]]
    assert structure["instances"] == [a["sop_instance"]]
    assert structure["regions"] == [{"name": "GTV-1", "value": 1}, {"name": "lung", "value": 2}]
    assert mask["modality"] == "SEG"
    assert mask["content_sha256"]
    assert len({r["series_uid"] for r in rows.values()}) == 3


def test_identifiers_are_uids_of_centre_patient_and_path_whatever_the_content(
    folder: Path,
) -> None:
    sitk.WriteImage(_image(), str(folder / "a.nii"))
    table = [{"path": "a.nii", "patient_id": "a"}]
    first = _rows(folder, table)["a.nii"]
    again = _rows(folder, [*table, {"path": "", "patient_id": ""}])["a.nii"]
    assert first == again
    for name in ("series_uid", "study_uid", "sop_instance", "frame_uid"):
        assert first[name].startswith("2.25.")
        assert len(first[name]) <= 64
        assert first[name][5:].isdigit()
    sitk.WriteImage(_image() + 1, str(folder / "a.nii"))
    other = _rows(folder, table)["a.nii"]
    assert other["series_uid"] == first["series_uid"]
    assert other["sop_instance"] == first["sop_instance"]
    assert other["content_sha256"] != first["content_sha256"]
    file = folder.parent / "south.csv"
    reader = image_reader("north", folder, file, ImageTable(file=str(file)), _otherwise)
    north = reader(folder, "a.nii")
    assert north["series_uid"] != first["series_uid"]


def test_files_that_are_not_named_are_told_apart(folder: Path) -> None:
    for name in ("a.nii", "extra.nrrd"):
        sitk.WriteImage(_image(), str(folder / name))
    (folder / "notes.txt").write_text("hello")
    rows = _rows(folder, [{"path": "a.nii", "patient_id": "a"}])
    assert rows["a.nii"]["reading"] == "image"
    assert rows["extra.nrrd"] == {"reading": "not-dicom", "error": "FILE_NOT_LISTED"}
    assert rows["notes.txt"] == {"reading": "ok"}  # by the reader of DICOM headers


def test_pictures_of_a_table_are_planar_scans(folder: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 6), np.uint8)), str(folder / "p.png"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 6, 3), np.uint8), isVector=True), str(folder / "q.jpg"))
    table = [
        {"path": "p.png", "patient_id": "a", "sx": 0.2, "sy": 0.3},
        {"path": "q.jpg", "patient_id": "b", "sx": "", "sy": ""},
    ]
    rows = _rows(folder, table, modality="US", spacing_mm={"columns": ["sx", "sy"]})
    p, q = rows["p.png"], rows["q.jpg"]
    assert json.loads(p["table_row"])["planar"]
    assert json.loads(q["table_row"])["planar"]
    assert (p["pixel_spacing_x_mm"], p["pixel_spacing_y_mm"]) == (0.2, 0.3)
    assert (p["position_x_mm"], p["orientation"], p["rows"], p["columns"]) == (None, "", 4, 6)
    # a resolution in the file is that of a printer, never a size in the patient
    assert (q["pixel_spacing_x_mm"], q["samples"], q["photometric"]) == (None, 3, "RGB")


@pytest.mark.parametrize("step", [2.5, -2.5])
def test_slices_in_files_of_their_own_form_a_stack(folder: Path, step: float) -> None:
    order = [3, 1, 4]  # slice 2 is missing: curation must see the gap
    table = []
    for n in order:
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 6), n, np.uint8)), str(folder / f"s{n}.png"))
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 6), n > 2, np.uint8)), str(folder / f"m{n}.png"))
        table.append({"path": f"s{n}.png", "patient_id": "a", "series": "x", "no": n, "mask": f"m{n}.png"})
    rows = _rows(
        folder, table, scan="series", slice="no", spacing_mm=(0.5, 0.6, step), unit="HU", slope=2.0, intercept=-1000.0,
        masks={"manual": {"GTV-1": "mask"}},
    )  # fmt: skip
    slices = [rows[f"s{n}.png"] for n in order]
    assert len({r["series_uid"] for r in slices}) == 1
    assert len({r["sop_instance"] for r in slices}) == 3
    assert [r["position_z_mm"] for r in slices] == [n * step for n in order]
    assert {r["orientation"] for r in slices} == {"1.0 0.0 0.0 0.0 1.0 0.0"}
    assert {(r["slope"], r["intercept"], r["pixel_spacing_y_mm"]) for r in slices} == {(2.0, -1000.0, 0.6)}
    masks = [rows[f"m{n}.png"] for n in order]
    assert len({m["series_uid"] for m in masks}) == 1  # one set of masks, a file for each slice
    for mask, own in zip(masks, slices, strict=True):
        assert json.loads(mask["structure"])["instances"] == [own["sop_instance"]]
        assert mask["position_z_mm"] == own["position_z_mm"]


def _stack(folder: Path, absent: tuple[int, ...] = ()) -> tuple[list[dict[str, Any]], dict[int, np.ndarray]]:
    """Slices 1 to 8 in files of their own, in no order, with a mask each; those of slices 1 and 2 are both empty."""
    rng, table, masks = np.random.default_rng(0), [], {}
    for n in (3, 1, 7, 2, 8, 4, 6, 5):
        picture = rng.integers(0, 255, (24, 20)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / f"s{n}.png"))
        masks[n] = np.zeros((24, 20), np.uint8)
        if n > 2:
            masks[n][n : n + 6, 2:12] = 255
        sitk.WriteImage(sitk.GetImageFromArray(masks[n]), str(folder / f"m{n}.png"))
        if n not in absent:
            table.append({"path": f"s{n}.png", "patient_id": "a", "series": "x", "no": n, "mask": f"m{n}.png"})
    return table, masks


def _converted(
    folder: Path, table: list[dict[str, Any]], verdicts: dict[str, Any] | None = None, **wanted: Any
) -> tuple[pd.Series, np.ndarray]:
    """The row of the mask of a stack of pictures, and the mask."""
    file = folder.parent / "slices.csv"
    pd.DataFrame(table).to_csv(file, index=False)
    listed = ImageTable(
        file=str(file), scan="series", slice="no", spacing_mm=(0.5, 0.6, 2.5), modality="MR",
        masks={"manual": {"tumour": "mask"}},
    )  # fmt: skip
    centre = pipeline.curated(
        folder,
        CurationSettings(verdicts=verdicts or {}, modalities=("MR",), slices=(1, 1000), length_mm=(1.0, 800.0)),
        table=listed,
    )
    pipeline.converted(centre, ConvertSettings(rois={"tumour": "tumour"}, **wanted), verdicts=verdicts)
    (row,) = (row for _, row in centre.masks().iterrows())
    return row, volumes.read(centre.root / row["path"]).array if row["path"] else np.zeros(0)


def test_masks_of_slices_in_files_of_their_own_are_one_mask(folder: Path) -> None:
    table, masks = _stack(folder)
    row, made = _converted(folder, table)
    assert row["status"] == "ok", row["reason"]
    assert np.array_equal(made, np.stack([masks[n] for n in range(1, 9)]) > 0)


def test_a_slice_without_a_mask_file_has_no_region_and_a_file_may_be_of_several_slices(folder: Path) -> None:
    table, masks = _stack(folder)
    named = {5: "m6.png", 6: "m6.png", 7: ""}
    row, made = _converted(folder, [r | {"mask": named.get(r["no"], r["mask"])} for r in table])
    assert row["status"] == "ok", row["reason"]
    masks |= {5: masks[6], 7: np.zeros_like(masks[7])}
    assert np.array_equal(made, np.stack([masks[n] for n in range(1, 9)]) > 0)


def test_the_region_goes_through_a_slice_that_is_missing(folder: Path) -> None:
    table, masks = _stack(folder, absent=(5,))
    row, made = _converted(folder, table, verdicts={"GEOM_MISSING_SLICE": "repair"})
    assert row["status"] == "ok", row["reason"]
    assert made.shape == (8, 24, 20)
    kept = [n for n in range(1, 9) if n != 5]
    assert np.array_equal(made[[n - 1 for n in kept]], np.stack([masks[n] for n in kept]) > 0)
    # slices 4 and 6 hold rows 4 to 9 and 6 to 11 of columns 2 to 11
    assert made[4][5:11, 4:10].all()
    made[4][5:11, 2:12] = 0
    assert not made[4].any()


def test_a_mask_picture_of_another_size_costs_the_mask_alone(folder: Path) -> None:
    table, _ = _stack(folder)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((20, 24), np.uint8)), str(folder / "m4.png"))
    row, _ = _converted(folder, table)
    assert (row["status"], row["codes"]) == ("rejected", "SEG_GRID_MISMATCH")


def test_pages_of_a_picture_are_planes_of_a_volume_where_their_distance_is_given(folder: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 6), np.uint8)), str(folder / "m.tif"))
    table = [{"path": "m.tif", "patient_id": "a"}]
    volume = _rows(folder, table, spacing_mm=(0.5, 0.5, 2))["m.tif"]
    assert [f["position"] for f in json.loads(volume["frame_facts"])] == [[0, 0, 0], [0, 0, 2], [0, 0, 4]]
    planar = _rows(folder, table, spacing_mm=(0.5, 0.5))["m.tif"]
    assert json.loads(planar["table_row"])["planar"]
    assert [f["position"] for f in json.loads(planar["frame_facts"])] == [None] * 3


# ------------------------------------------------------------------------------------------------------ wrong files


def _unreadable(folder: Path, name: str) -> str:
    row = _rows(folder, [{"path": name, "patient_id": "secret-name"}])[name]
    assert row["reading"] == "unreadable"
    assert name not in row["error"]
    assert "secret" not in row["error"]
    return row["error"]


def test_files_that_cannot_be_used_say_why(folder: Path) -> None:
    whole = folder / "whole.nii"
    sitk.WriteImage(_image(), str(whole))
    data = whole.read_bytes()
    (folder / "cut.nii").write_bytes(data[:200])
    assert _unreadable(folder, "cut.nii") == "not of the format that its name says"
    (folder / "plain.nii.gz").write_bytes(data)  # gz by name only
    assert _unreadable(folder, "plain.nii.gz") == "not of the format that its name says"
    sitk.WriteImage(_image(), str(folder / "n.nrrd"))
    shutil.move(folder / "n.nrrd", folder / "n.nii")
    assert _unreadable(folder, "n.nii") == "not of the format that its name says"
    (folder / "empty.png").write_bytes(b"")
    assert _unreadable(folder, "empty.png") == "not of the format that its name says"
    sitk.WriteImage(sitk.JoinSeries([_image(), _image()]), str(folder / "time.nii.gz"))
    assert "4 dimensions" in _unreadable(folder, "time.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([_image()]), str(folder / "single.nii.gz"))  # one time point is a volume
    assert _rows(folder, [{"path": "single.nii.gz", "patient_id": "a"}])["single.nii.gz"]["frames"] == 3
    sitk.WriteImage(sitk.Compose(_image(), _image()), str(folder / "vector.nii"))
    assert _unreadable(folder, "vector.nii") == "several values per voxel"


def test_sheared_sform_is_refused_where_itk_would_take_the_qform_without_a_word(folder: Path) -> None:
    path = folder / "tilt.nii"
    sitk.WriteImage(_image(), str(path))
    data = bytearray(path.read_bytes())
    row = np.frombuffer(data, "<f4", 4, 280).copy()
    row[2] += 0.8
    data[280:296] = row.tobytes()
    path.write_bytes(bytes(data))
    assert sitk.ReadImage(str(path)).GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))  # what ITK says
    assert "sheared" in _unreadable(folder, "tilt.nii")


def test_headers_that_claim_too_much_are_refused_without_reading(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "w.nii"))
    data = bytearray((folder / "w.nii").read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (folder / "huge.nii").write_bytes(bytes(data))
    assert "more voxels" in _unreadable(folder, "huge.nii")
    data[42:48] = np.array([500, 500, 500], "<i2").tobytes()
    (folder / "bomb.nii.gz").write_bytes(gzip.compress(bytes(data)))
    assert _unreadable(folder, "bomb.nii.gz") == "claims more data than the file can hold"
    (folder / "short.nii").write_bytes(bytes(data))
    assert _rows(folder, [{"path": "short.nii", "patient_id": "a"}])["short.nii"]["truncated"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg"])
def test_cut_files_are_truncated_and_whole_ones_are_not(folder: Path, suffix: str) -> None:
    image = _image() if suffix not in (".png", ".jpg") else sitk.GetImageFromArray(np.eye(64, dtype=np.uint8) * 200)
    path = folder / f"w{suffix}"
    sitk.WriteImage(image, str(path), useCompression=suffix not in (".nrrd", ".mha"))
    table = [{"path": path.name, "patient_id": "a"}]
    assert _rows(folder, table)[path.name]["truncated"] is False
    path.write_bytes(path.read_bytes()[:-12])
    assert _rows(folder, table)[path.name]["truncated"] is True


def test_gzip_in_several_parts_is_whole(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "w.nii"))
    data = (folder / "w.nii").read_bytes()
    (folder / "parts.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    assert _rows(folder, [{"path": "parts.nii.gz", "patient_id": "a"}])["parts.nii.gz"]["truncated"] is False


@pytest.mark.parametrize("data", ["../secret.raw", "/etc/passwd", "LIST", "slice%03d.raw 1 3 1"])
def test_headers_may_not_name_files_elsewhere(folder: Path, data: str) -> None:
    (folder.parent / "secret.raw").write_bytes(bytes(120))
    sitk.WriteImage(_image(), str(folder / "d.mhd"))
    for name, key in (("d.mhd", "ElementDataFile = "),):
        text = (folder / name).read_text().replace(f"{key}d.raw", f"{key}{data}")
        (folder / name).write_text(text)
        with pytest.raises(Unreadable):
            read_facts(folder / name, suffix_of(name))


def test_hostile_names_are_only_names(folder: Path) -> None:
    name = "a\nb\t'\"; rm -rf ü\u202e" + "x" * 180 + ".nii"
    sitk.WriteImage(_image(), str(folder / "w.nii"))
    shutil.copy(folder / "w.nii", folder / name)
    patient = "x\n../../../etc\x00" + "y" * 300
    row = _rows(folder, [{"path": name, "patient_id": patient.replace("\x00", "")}])[name]
    assert row["reading"] == "image"
    assert "\n" not in row["patient_id"]


def test_members_of_archives_and_names_that_are_not_utf8_are_files_like_others(folder: Path) -> None:
    sitk.WriteImage(_image(_direction("oblique")), str(folder / "w.nii.gz"))
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.write(folder / "w.nii.gz", "deep/w.nii.gz")
        archive.write(folder / "w.nii.gz", "d.mhd")
    shutil.copy(folder / "w.nii.gz", os.fsencode(folder) + b"/caf\xe9.nii.gz")
    plain = _rows(folder, [{"path": "w.nii.gz", "patient_id": "a"}])["w.nii.gz"]
    file = folder.parent / "south.csv"
    file.write_text("path,patient_id\nall.zip//deep/w.nii.gz,a\nall.zip//d.mhd,b\n")
    reader = image_reader("south", folder, file, ImageTable(file=str(file)), _otherwise)
    member = reader(folder, "all.zip//deep/w.nii.gz")
    assert member["frame_facts"] == plain["frame_facts"]
    assert "archive" in reader(folder, "all.zip//d.mhd")["error"]
    facts = read_facts(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.nii.gz")), ".nii.gz")
    assert facts.size == (5, 4, 3)
    file.write_text("path,patient_id\nall.zip//gone.nii,a\n")
    with pytest.raises(UserError, match="row 2, column 'path': the file is not there"):
        image_reader("south", folder, file, ImageTable(file=str(file)), _otherwise)


def test_reader_passes_to_worker_processes_and_its_stamp_follows_table_and_settings(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "a.nii"))
    file = folder.parent / "t.csv"
    file.write_text("path,patient_id\na.nii,a\n")

    def made(**settings: Any) -> ImageReader:
        return image_reader("south", folder, file, ImageTable(file=str(file), **settings), _otherwise)

    one = made()
    copy = pickle.loads(pickle.dumps(one))
    assert copy(folder, "a.nii") == one(folder, "a.nii")
    assert made().stamp == one.stamp != made(modality="MR").stamp
    file.write_text("path,patient_id\na.nii,b\n")
    assert made().stamp != one.stamp


# ----------------------------------------------------------------------------------------------------- wrong tables


def test_all_problems_of_a_table_come_at_once_by_row_and_without_identifiers(folder: Path) -> None:
    for name in ("a.nii", "b.nii"):
        sitk.WriteImage(_image(), str(folder / name))
    (folder / "t.txt").write_text("x")
    good = {"path": "a.nii", "patient_id": "secret", "day": "20200101", "km": "no", "kv": "120"}
    table = [
        good,
        good,
        good | {"path": "gone-secret.nii"},
        good | {"path": "../south/b.nii", "patient_id": ""},
        good | {"path": "t.txt", "day": "1.1.2020", "km": "maybe", "kv": "12O"},
        good | {"path": ""},
    ]
    with pytest.raises(UserError) as caught:
        _rows(folder, table, date={"column": "day"}, contrast={"column": "km"}, facts={"kvp": {"column": "kv"}})
    text = str(caught.value)
    assert "secret" not in text
    assert "maybe" not in text
    assert "12O" not in text
    for part in (
        "rows 2, 3, the same image file", "row 4, column 'path': the file is not there",
        "row 5, column 'path': a path outside", "row 5, column 'patient_id': no patient",
        "row 6, column 'path': no image", "row 6, date", "row 6, contrast", "row 6, facts.kvp",
        "row 7, column 'path': no file",
    ):  # fmt: skip
        assert part in text, (part, text)


def test_absent_files_can_be_ignored(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "a.nii"))
    table = [{"path": "a.nii", "patient_id": "a"}, {"path": "b.nii", "patient_id": "b"}]
    assert _rows(folder, table, absent="ignore")["a.nii"]["reading"] == "image"


def test_missing_columns_name_the_key_and_the_nearest_column(folder: Path) -> None:
    sitk.WriteImage(_image(), str(folder / "a.nii"))
    with pytest.raises(UserError, match=r"table\.patient: south\.csv has no column 'patient'.*'patients'"):
        _rows(folder, [{"path": "a.nii", "patients": "a"}], patient="patient")


def test_masks_that_cannot_be_right_are_problems(folder: Path) -> None:
    for name in ("a.nii", "b.nii", "m.nii"):
        sitk.WriteImage(_image(), str(folder / name))
    rows = [
        {"path": "a.nii", "patient_id": "a", "m": "m.nii", "n": "m.nii"},
        {"path": "b.nii", "patient_id": "b", "m": "m.nii", "n": "a.nii"},
    ]
    with pytest.raises(UserError) as caught:
        _rows(folder, rows, masks={"manual": {"x": "m"}, "reader-a": {"x": "n"}})
    text = str(caught.value)
    assert "several patients" in text
    assert "under several mask sources" in text
    assert "that is also an image" in text


def test_slices_of_one_scan_that_disagree_are_problems(folder: Path) -> None:
    for n in range(3):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 6), np.uint8)), str(folder / f"{n}.png"))
    table = [
        {"path": f"{n}.png", "patient_id": "a", "s": "x", "no": min(n, 1), "mod": "CTM"[n:] or "MR"} for n in range(3)
    ]
    with pytest.raises(UserError) as caught:
        _rows(folder, table, scan="s", slice="no", spacing_mm=(1, 1, 1), modality={"column": "mod"})
    assert "same number" in str(caught.value)
    assert "differ in modality" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scan": "s"}, "scan and slice belong together"),
        ({"scan": "s", "slice": "n", "spacing_mm": [1, 1]}, "spacing_mm: [x, y, distance of slices]"),
        ({"spacing_mm": [0, 1]}, "two or three distances"),
        ({"contrast": False}, "put quotes"),
        ({"modality": {}}, "write a value, or"),
        ({"modality": {"column": "a", "value": "b"}}, "write a value, or"),
        ({"facts": {"weight": "3"}}, "manufacturer"),
    ],
)
def test_settings_that_cannot_be_right_say_what_to_write(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ImageTable(file="t.csv", **wrong)
    assert said in str(caught.value)


@pytest.mark.realdata
def test_ibsi_nifti_and_dicom_tell_the_same_grid(realdata: Any, tmp_path: Path) -> None:
    """The CT phantom of IBSI 1 is published both as DICOM and as NIfTI: its planes lie at the same places."""
    import pydicom

    root = realdata("ibsi") / "ibsi_1_ct_radiomics_phantom"
    file = next((root / "nifti" / "image").glob("*.nii.gz"))
    table = tmp_path / "table.csv"
    pd.DataFrame([{"path": file.name, "patient_id": "phantom"}]).to_csv(table, index=False)
    row = image_reader("x", file.parent, table, ImageTable(file=str(table)), _otherwise)(file.parent, file.name)
    frames = json.loads(row["frame_facts"])
    slices = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((root / "dicom" / "image").glob("*.dcm"))]
    # NIfTI stores the planes with rows or columns turned round, so only heights and distances can be compared as such
    ours = sorted(f["position"][2] for f in frames)
    assert ours == pytest.approx(sorted(float(s.ImagePositionPatient[2]) for s in slices), abs=1e-3)
    assert (row["rows"], row["columns"], row["frames"]) == (slices[0].Rows, slices[0].Columns, len(slices))
    assert row["pixel_spacing_x_mm"] == pytest.approx(float(slices[0].PixelSpacing[1]), abs=1e-5)
