"""The index: one row per file, whatever the file is."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet
import pydicom
import pytest
import tiny_dicom
from polycentric import sources, tables
from polycentric.elements import Irregular
from polycentric.errors import UserError
from polycentric.index import build, guard, headers
from polycentric.index.headers import read_header
from polycentric.jobs import Log
from polycentric.tables.private import INDEX, decode_path
from pydicom import dcmwrite
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)


def index(folder: Path, output: Path, **options: object) -> pd.DataFrame:
    build("north", folder, output=output, log=Log(), **options)
    return tables.read(output, INDEX).set_index("path")


def test_every_file_has_a_row_and_junk_is_told_from_dicom(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in" / "deep", tiny_dicom.series(3))
    (folder / "Thumbs.db").write_bytes(os.urandom(4000))
    (folder / "notes.txt").write_text("not an image " * 50)
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff")
    table = index(tmp_path / "in", tmp_path / "index.parquet")
    assert list(table.index) == sorted(f"deep/{p.name}" for p in folder.iterdir())
    assert table.loc["deep/Thumbs.db", "reading"] == "not-dicom"
    assert table.loc["deep/notes.txt", "reading"] == "not-dicom"
    assert table.loc["deep/empty.dcm", "reading"] == "not-dicom"
    assert table.loc["deep/broken.dcm", "reading"] in ("unreadable", "not-dicom")
    good = table.loc["deep/0001.dcm"]
    assert (good["reading"], good["patient_id"], good["modality"]) == ("ok", tiny_dicom.PATIENT, "CT")
    assert (good["rows"], good["columns"], good["position_z_mm"]) == (24, 32, 103.0)
    assert not good["truncated"]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_file_without_preamble_is_read(tmp_path: Path, syntax: str) -> None:
    (one,) = tiny_dicom.series(1)
    one.file_meta.TransferSyntaxUID = syntax
    path = tiny_dicom.save(tmp_path / "in", one) / "0000.dcm"
    plain = path.read_bytes()
    group = int.from_bytes(plain[140:144], "little")  # after preamble, DICM and the group length element
    path.write_bytes(plain[144 + group :])
    row = index(tmp_path / "in", tmp_path / "index.parquet").iloc[0]
    assert (row["reading"], row["truncated"], row["columns"]) == ("forced", False, 32)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("cut", [0, 1, 700])
def test_truncation_is_seen_in_every_encoding(tmp_path: Path, syntax: str, cut: int) -> None:
    (one,) = tiny_dicom.series(1)
    path = tmp_path / "in" / "one"
    path.parent.mkdir()
    if syntax == RLELossless:
        one.compress(RLELossless)
    elif syntax == ExplicitVRBigEndian:
        one.PixelData = tiny_dicom.pixels(0).astype(">u2").tobytes()
        one["PixelData"].VR = "OW"
    one.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    options = {"implicit_vr": False, "little_endian": False} if big else {}
    dcmwrite(path, one, enforce_file_format=True, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    row = index(tmp_path / "in", tmp_path / "index.parquet").iloc[0]
    assert row["transfer_syntax"] == syntax
    assert bool(row["truncated"]) == (cut > 0)


def test_few_compressed_bytes_cannot_be_a_huge_matrix(tmp_path: Path) -> None:
    fine, huge = tiny_dicom.series(2)
    for one in (fine, huge):
        one.compress(RLELossless)
    huge.Rows = huge.Columns = 60000
    table = index(tiny_dicom.save(tmp_path / "in", fine, huge), tmp_path / "index.parquet")
    assert table["truncated"].tolist() == [False, True]


def test_pixel_element_that_is_too_short_or_absent_is_truncated(tmp_path: Path) -> None:
    short, absent = tiny_dicom.series(2)
    short.PixelData = short.PixelData[:100]
    del absent.PixelData
    table = index(tiny_dicom.save(tmp_path / "in", short, absent), tmp_path / "index.parquet")
    assert table["truncated"].tolist() == [True, True]


def test_loops_links_and_special_files_end(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in" / "a", tiny_dicom.series(2))
    (folder / "loop").symlink_to(tmp_path / "in")
    (folder / "again").symlink_to(folder)
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    table = index(tmp_path / "in", tmp_path / "index.parquet")
    assert list(table.index) == ["a/0000.dcm", "a/0001.dcm", "a/dangling", "a/pipe"]
    assert table.loc["a/pipe", "reading"] == "not-dicom"
    assert table.loc["a/dangling", "reading"] == "unreadable"


def test_name_that_is_not_utf8_leads_back_to_its_file(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", tiny_dicom.series(1))
    (folder / "0000.dcm").rename(folder / os.fsdecode(b"M\xfcller\n.dcm"))
    table = index(folder, tmp_path / "index.parquet")
    assert (folder / decode_path(table.index[0])).is_file()


def test_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", tiny_dicom.series(4))
    output, kept = tmp_path / "index.parquet", tmp_path / "kept.parquet"
    first = index(folder, output, previous=kept)
    output.unlink()  # as Snakemake does before it runs the rule again
    (folder / "0003.dcm").unlink()
    os.utime(folder / "0001.dcm", ns=(1, 1))
    read = tmp_path / "read"

    def noted(folder: Path, path: str) -> dict:
        with read.open("a") as stream:
            stream.write(path + "\n")
        return read_header(folder, path)

    again = index(folder, output, previous=kept, read=noted)
    assert read.read_text() == "0001.dcm\n"
    pd.testing.assert_frame_equal(again.drop(columns="mtime_ns"), first.drop(columns="mtime_ns").drop(index="0003.dcm"))


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", tiny_dicom.series(80, rows=4, columns=4))
    index(folder, tmp_path / "one.parquet")
    index(folder, tmp_path / "two.parquet", workers=2)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_pixels_are_hashed_only_where_slices_share_a_position(tmp_path: Path) -> None:
    slices = tiny_dicom.series(3)
    (copy,) = tiny_dicom.series(1)
    copy.SOPInstanceUID = tiny_dicom.uid("another")
    table = index(tiny_dicom.save(tmp_path / "in", slices, copy), tmp_path / "index.parquet")
    hashes = table["content_sha256"]
    assert hashes["0000.dcm"] == hashes["0003.dcm"] != ""
    assert hashes["0001.dcm"] == hashes["0002.dcm"] == ""


def test_damaged_values_do_not_stop_the_index(tmp_path: Path) -> None:
    (one,) = tiny_dicom.series(1)
    one.add_new(0x00180050, "LO", "three")  # slice thickness
    one.add_new(0x00200032, "LO", "here\\there")  # position
    one.add_new(0x00080070, "LO", "A\tB\nC")  # manufacturer
    row = index(tiny_dicom.save(tmp_path / "in", one), tmp_path / "index.parquet").iloc[0]
    assert row["reading"] == "ok"
    assert pd.isna(row["position_x_mm"])
    assert row["manufacturer"] == "A B C"


def test_absent_or_empty_folder_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"centres\.north\.images"):
        index(tmp_path / "absent", tmp_path / "index.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        index(tmp_path / "empty", tmp_path / "index.parquet")


def refuse(*_: object) -> None:
    raise Irregular


def test_fast_scan_agrees_with_pydicom_on_its_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path(f) for f in get_testdata_files() if Path(f).is_file()]
    fast = [read_header(f.parent, f.name) for f in files]
    monkeypatch.setattr(headers, "_plain", refuse)
    slow = [read_header(f.parent, f.name) for f in files]
    assert sum(row["reading"] == "ok" for row in fast) > 100
    assert [repr(row) for row in fast] == [repr(row) for row in slow]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["dicom_defects", "gantry_tilt", "sts"])
def test_fast_scan_agrees_with_pydicom_on_real_exports(
    name: str, realdata: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [f for f in sorted(realdata(name).rglob("*")) if f.is_file()]
    files = files[:: 1 + len(files) // 100]
    fast = [read_header(f.parent, f.name) for f in files]
    monkeypatch.setattr(headers, "_plain", refuse)
    assert [repr(row) for row in fast] == [repr(read_header(f.parent, f.name)) for f in files]


@pytest.mark.realdata
def test_columns_are_what_pydicom_says_of_a_real_scan(realdata: Callable[[str], Path]) -> None:
    """Against attribute access, without any code of the index."""
    files = sorted(f for f in realdata("lung1").rglob("*.dcm") if f.stat().st_size > 400_000)[::20]
    for file in files:
        row, data = read_header(file.parent, file.name), pydicom.dcmread(file, stop_before_pixels=True)
        if data.Modality != "CT":
            continue
        assert row["sop_instance"] == data.SOPInstanceUID
        assert [row[f"position_{a}_mm"] for a in "xyz"] == [float(v) for v in data.ImagePositionPatient]
        assert [row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"]] == [float(v) for v in data.PixelSpacing]
        assert row["image_type"] == "\\".join(data.ImageType)
        assert (row["slope"], row["intercept"], row["kvp"]) == (data.RescaleSlope, data.RescaleIntercept, data.KVP)
        assert (row["rows"], row["high_bit"], row["signed"]) == (data.Rows, data.HighBit, data.PixelRepresentation)
        assert row["slice_location_mm"] == data.get("SliceLocation")


def packed(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def test_members_of_archives_are_files(tmp_path: Path) -> None:
    loose = tiny_dicom.save(tmp_path / "loose", tiny_dicom.series(3))
    contents = {f"Müller/{'long' * 80}/{f.name}": f.read_bytes() for f in loose.iterdir()}
    packed(tmp_path / "in" / "a.ZIP", contents | {"../escape": b"x" * 200, "inner.zip": b"PK", "a\nb": b""})
    plain = index(loose, tmp_path / "plain.parquet")
    table = index(tmp_path / "in", tmp_path / "index.parquet", workers=2)
    assert all(name.startswith("a.ZIP//") for name in table.index)
    assert len(table) == 6
    inside = table[table["reading"] == "ok"].reset_index()
    assert [p.rpartition("/")[2] for p in inside["path"]] == list(plain.index)
    same = plain.reset_index().drop(columns=["path", "mtime_ns"])
    pd.testing.assert_frame_equal(inside.drop(columns=["path", "mtime_ns"]), same)
    assert (table.loc["a.ZIP//inner.zip", "reading"], table.loc["a.ZIP//inner.zip", "error"]) == ("archive", "nested")
    assert table.loc["a.ZIP//../escape", "reading"] == "not-dicom"


def test_archives_that_cannot_be_trusted_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGE", 2**20)
    folder = tmp_path / "in"
    (one,) = tiny_dicom.series(1)
    data = (tiny_dicom.save(tmp_path / "loose", one) / "0000.dcm").read_bytes()
    packed(folder / "locked.zip", {"a.dcm": data})
    locked = bytearray((folder / "locked.zip").read_bytes())
    locked[6] |= 1  # flag of encryption, in the local header and in the directory
    locked[locked.rfind(b"PK\x01\x02") + 8] |= 1
    (folder / "locked.zip").write_bytes(locked)
    packed(folder / "bomb.zip", {"zeros": bytes(2**22)})
    whole = packed(folder / "cut.zip", {"a.dcm": data}).read_bytes()
    (folder / "cut.zip").write_bytes(whole[: len(whole) // 2])
    spoiled = bytearray(packed(folder / "spoiled.zip", {"a.dcm": data}).read_bytes())
    spoiled[60:90] = b"\xff" * 30
    (folder / "spoiled.zip").write_bytes(spoiled)
    packed(folder / "strange.zip", {"a.dcm": data}, zipfile.ZIP_LZMA)
    packed(folder / "void.zip", {})
    (folder / "other.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    table = index(folder, tmp_path / "index.parquet")
    found = {path: (row["reading"], row["error"]) for path, row in table.iterrows()}
    assert found == {
        "bomb.zip//zeros": ("archive", "size"),
        "cut.zip": ("archive", "BadZipFile"),
        "locked.zip//a.dcm": ("archive", "encrypted"),
        "other.tar.gz": ("archive", "kind not opened"),
        "spoiled.zip//a.dcm": ("unreadable", "damaged"),
        "strange.zip//a.dcm": ("archive", "compression method"),
        "void.zip": ("archive", "empty"),
    }


def test_unchanged_archives_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loose = tiny_dicom.save(tmp_path / "loose", tiny_dicom.series(4))
    contents = {f.name: f.read_bytes() for f in loose.iterdir()}
    packed(tmp_path / "in" / "a.zip", contents)
    (tmp_path / "in" / "a-z.txt").write_text("between the archive and its members, if members counted as paths")
    first = index(tmp_path / "in", tmp_path / "index.parquet")
    monkeypatch.setattr(zipfile, "ZipFile", None)
    again = index(tmp_path / "in", tmp_path / "index.parquet")
    monkeypatch.undo()
    pd.testing.assert_frame_equal(first, again)
    packed(tmp_path / "in" / "a.zip", dict(list(contents.items())[:2]))
    assert len(index(tmp_path / "in", tmp_path / "index.parquet")) == 3


def test_directory_of_a_disc_is_known_and_its_files_are_found(tmp_path: Path) -> None:
    disc = Path(str(get_testdata_file("DICOMDIR"))).parent
    table = index(disc, tmp_path / "index.parquet")
    assert table.loc["DICOMDIR", "reading"] == "directory"
    records = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence
    named = {"/".join(r.ReferencedFileID) for r in records if "ReferencedFileID" in r}
    assert named
    assert (table.loc[sorted(named), "reading"] == "ok").all()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_row(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", tiny_dicom.series(2))
    (folder / "0000.dcm").chmod(0)
    (folder / "closed").mkdir(mode=0)
    table = index(folder, tmp_path / "index.parquet")
    assert table.loc["0000.dcm", "error"] == table.loc["closed", "error"] == "PermissionError"
    assert table.loc["0001.dcm", "reading"] == "ok"


def test_order_is_that_of_paths_and_folders_count_with_their_slash(tmp_path: Path) -> None:
    for name in ("a/1", "a-b", "a.b/2", "a0", "Z"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    assert list(index(tmp_path / "in", tmp_path / "index.parquet").index) == ["Z", "a-b", "a.b/2", "a/1", "a0"]


def hostile(folder: Path, path: str) -> dict:
    """A reader whose libraries crash, loop, sleep or take all memory, by the name of the file."""
    if "crash" in path:
        os.kill(os.getpid(), 9)
    if "loop" in path:
        while True:
            pass
    if "sleep" in path:
        time.sleep(60)
    if "hoard" in path:
        bytearray(2**31)
    return read_header(folder, path)


def test_reader_that_crashes_or_stalls_costs_its_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SECONDS", 0.2), ("PATIENCE", 1.0)):
        monkeypatch.setattr(guard, name, seconds)
    folder = tiny_dicom.save(tmp_path / "in", tiny_dicom.series(130, rows=4, columns=4))
    for n, name in ((3, "crash"), (70, "loop"), (90, "hoard"), (100, "crash-again")):
        (folder / f"{n:04d}.dcm").rename(folder / f"{n:04d}-{name}")
    table = index(folder, tmp_path / "index.parquet", workers=2, read=hostile)
    assert len(table) == 130
    bad = table[table["reading"] != "ok"]
    assert bad["error"].to_dict() == {
        "0003-crash": "crashed",
        "0070-loop": "timeout",
        "0090-hoard": "MemoryError",
        "0100-crash-again": "crashed",
    }
    assert set(bad["reading"]) == {"unreadable"}


def test_reader_that_sleeps_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.5)
    rows = guard.carefully(lambda name: hostile(Path("/"), name), ["absent", "sleep", "none"])
    assert [row["error"] for row in rows] == ["FileNotFoundError", "timeout", "FileNotFoundError"]


def enhanced(frames: int = 4) -> Dataset:
    """An enhanced MR image of two stacks whose slices are told apart by time, most facts shared."""
    (data,) = tiny_dicom.series(1)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "SliceThickness",
    ):
        delattr(data, keyword)
    del data.RescaleIntercept, data.KVP, data.ConvolutionKernel
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    data.Modality, data.NumberOfFrames = "MR", frames
    data.PixelData = data.PixelData * frames

    def item(**values: object) -> list[Dataset]:
        one = Dataset()
        for keyword, value in values.items():
            setattr(one, keyword, value)
        return [one]

    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.75], SliceThickness=4)
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=600)
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for n in range(frames):
        own = Dataset()
        own.PlanePositionSequence = item(ImagePositionPatient=[1.5, 10 + 3 * (n // 2), -7])
        own.FrameContentSequence = item(
            StackID="1", TemporalPositionIndex=n % 2 + 1, FrameAcquisitionDateTime=f"2020010112000{n}.5"
        )
        own.PixelValueTransformationSequence = item(RescaleSlope=2 + n, RescaleIntercept=-n, RescaleType="US")
        own.MREchoSequence = item(EffectiveEchoTime=80.0 + n)
        own.MRDiffusionSequence = item(DiffusionBValue=1000.0 * n)
        own.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "DIFFUSION"])
        data.PerFrameFunctionalGroupsSequence.append(own)
    return data


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_frames_of_an_enhanced_image(tmp_path: Path, syntax: str) -> None:
    data = enhanced()
    data.file_meta.TransferSyntaxUID = syntax
    row = index(tiny_dicom.save(tmp_path / "in", data), tmp_path / "index.parquet").iloc[0]
    assert (row["reading"], row["truncated"], row["frames"], row["transfer_syntax"]) == ("ok", False, 4, syntax)
    facts = json.loads(row["frame_facts"])
    assert [f["position"] for f in facts] == [[1.5, 10, -7], [1.5, 10, -7], [1.5, 13, -7], [1.5, 13, -7]]
    assert {f["orientation"] for f in facts} == {"1.0 0.0 0.0 0.0 0.0 -1.0"}
    assert [(f["slope"], f["intercept"]) for f in facts] == [(2, 0), (3, -1), (4, -2), (5, -3)]
    assert [f["temporal"] for f in facts] == ["1", "2", "1", "2"]
    assert [(f["echo_time"], f["b_value"]) for f in facts] == [(80, 0), (81, 1000), (82, 2000), (83, 3000)]
    assert [f["acquisition_time"] for f in facts] == ["120000.5", "120001.5", "120002.5", "120003.5"]
    assert all(f["spacing"] == [0.5, 0.75] and f["thickness"] == 4 and f["stack"] == "1" for f in facts)
    assert (row["position_y_mm"], row["slope"], row["echo_time_ms"], row["repetition_time_ms"]) == (10, 2, 80, 600)
    assert (row["pixel_spacing_y_mm"], row["pixel_spacing_x_mm"], row["thickness_mm"]) == (0.5, 0.75, 4)
    assert row["orientation"] == facts[0]["orientation"]


def test_frames_that_are_declared_but_not_described_have_no_facts(tmp_path: Path) -> None:
    data = enhanced()
    data.NumberOfFrames = 5
    absurd = tiny_dicom.series(1)[0]
    absurd.NumberOfFrames = 2**31 - 1
    table = index(tiny_dicom.save(tmp_path / "in", data, absurd), tmp_path / "index.parquet")
    assert table["frame_facts"].tolist() == ["", ""]
    assert table["truncated"].tolist() == [True, True]


@pytest.mark.realdata
def test_frames_of_real_enhanced_images_as_highdicom_places_them(realdata: Callable[[str], Path]) -> None:
    highdicom = pytest.importorskip("highdicom")
    seen = 0
    for file in sorted(realdata("dicom_defects").rglob("*.dcm")):
        row = read_header(file.parent, file.name)
        if not row.get("sop_class", "").endswith("4.1.1.4.1"):
            continue
        seen += 1
        image = highdicom.imread(file)
        facts = json.loads(row["frame_facts"])
        assert len(facts) == image.number_of_frames
        for n, fact in enumerate(facts, start=1):
            columns = ",".join(f"ImagePositionPatient_{a}" for a in range(3))
            (known,) = image._db_con.execute(f"SELECT {columns} FROM FrameLUT WHERE FrameNumber={n}")
            assert fact["position"] == pytest.approx(list(known))
    assert seen >= 5


def nuclear(frames: int) -> Dataset:
    (data,) = tiny_dicom.series(1)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.20"
    data.Modality, data.NumberOfFrames, data.PixelData = "NM", frames, data.PixelData * frames
    return data


def test_frames_of_nuclear_medicine(tmp_path: Path) -> None:
    planar = nuclear(2)
    planar.ImageType, planar.DetectorVector = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"], [2, 1]
    planar.DetectorInformationSequence = []
    for meaning in ("Anterior", "Posterior"):
        detector, code = Dataset(), Dataset()
        code.CodeMeaning = meaning
        detector.ViewCodeSequence = [code]
        planar.DetectorInformationSequence.append(detector)
    tomography = nuclear(3)
    tomography.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    tomography.SpacingBetweenSlices, tomography.SliceVector = -4.5, [1, 2, 3]
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [-10, -20, 30], [1, 0, 0, 0, 1, 0]
    tomography.DetectorInformationSequence = [detector]
    table = index(tiny_dicom.save(tmp_path / "in", planar, tomography), tmp_path / "index.parquet")
    facts = [json.loads(text) for text in table["frame_facts"]]
    assert [f["view"] for f in facts[0]] == ["Posterior", "Anterior"]
    assert [f["position"] for f in facts[0]] == [None, None]
    assert [f["position"] for f in facts[1]] == [[-10, -20, 30], [-10, -20, 25.5], [-10, -20, 21]]
    assert table["position_z_mm"].tolist()[1] == 30


@pytest.mark.realdata
def test_frames_of_a_real_bone_scan(realdata: Callable[[str], Path]) -> None:
    rows = [read_header(f.parent, f.name) for f in sorted(realdata("bone_scan").glob("*.dcm"))]
    assert {row["modality"] for row in rows} == {"NM"}
    for row in rows:
        assert (row["frames"] or 1) == (len(json.loads(row["frame_facts"])) if row.get("frame_facts") else 1)


def test_segments_and_their_links(tmp_path: Path) -> None:
    images = tiny_dicom.series(3)
    data = tiny_dicom.empty("1.2.840.10008.5.1.4.1.1.66.4", tiny_dicom.uid("seg"))
    data.Modality, data.PatientID, data.StudyInstanceUID = "SEG", tiny_dicom.PATIENT, images[0].StudyInstanceUID
    data.FrameOfReferenceUID, data.ContentLabel = images[0].FrameOfReferenceUID, "READER A"
    data.ContentDate, data.ContentTime, data.SeriesDescription = "20200102", "080000", "by hand"
    data.Rows, data.Columns, data.NumberOfFrames, data.BitsAllocated = 24, 32, 3, 1
    series, reference = Dataset(), Dataset()
    reference.ReferencedSOPInstanceUID = images[0].SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = images[0].SeriesInstanceUID, [reference]
    data.ReferencedSeriesSequence = [series]
    data.SegmentSequence, data.PerFrameFunctionalGroupsSequence = [], []
    for number, label in ((1, "Tumor"), (2, "Lung\n../x"), (3, "never drawn")):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, label
        data.SegmentSequence.append(segment)
    for number in (1, 2, 2):
        frame, identified = Dataset(), Dataset()
        identified.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [identified]
        data.PerFrameFunctionalGroupsSequence.append(frame)
    data.PixelData = bytes(24 * 32 * 3 // 8)
    row = index(tiny_dicom.save(tmp_path / "in", data), tmp_path / "index.parquet").iloc[0]
    told = json.loads(row["structure"])
    assert told["regions"] == [
        {"name": "Tumor", "number": 1, "contours": 1, "points": 0},
        {"name": "Lung ../x", "number": 2, "contours": 2, "points": 0},
        {"name": "never drawn", "number": 3, "contours": 0, "points": 0},
    ]
    assert (told["kind"], told["label"], told["saved"]) == ("SEG", "READER A", "20200102080000")
    assert told["frames"] == [images[0].FrameOfReferenceUID]
    assert told["series"] == [images[0].SeriesInstanceUID]
    assert told["instances"] == [images[0].SOPInstanceUID]
    assert len(row["content_sha256"]) == 64
    assert row["frame_facts"] == ""
    assert not row["truncated"]


def test_identifying_elements_are_named_without_their_values(tmp_path: Path) -> None:
    clear, clean = tiny_dicom.series(2)
    clear.AccessionNumber, clear.PatientBirthDate, clear.OperatorsName = "A-77", "19500101", "Roe^Richard"
    clear.InstitutionName = " "
    clear.private_block(0x0019, "ACME 1", create=True).add_new(0x01, "LO", "secret")
    clean.PatientName, clean.StudyDate = clean.PatientID, ""
    clean.private_block(0x0019, "ACME 1", create=True)
    table = index(tiny_dicom.save(tmp_path / "in", clear, clean), tmp_path / "index.parquet")
    assert table["identifying"].tolist() == [
        "PatientName;PatientBirthDate;AccessionNumber;OperatorsName;StudyDate;private",
        "",
    ]


@pytest.mark.realdata
def test_what_uptake_values_need_is_read_from_real_pet(realdata: Callable[[str], Path]) -> None:
    file = next(iter(sorted((realdata("sts") / "STS_003" / "PET" / "image").iterdir())))
    told, data = json.loads(read_header(file.parent, file.name)["pet"]), pydicom.dcmread(file, stop_before_pixels=True)
    tracer = data.RadiopharmaceuticalInformationSequence[0]
    assert told["Units"] == data.Units
    assert told["PatientWeight"] == float(data.PatientWeight)
    assert told["RadionuclideTotalDose"] == float(tracer.RadionuclideTotalDose)
    assert told["RadionuclideHalfLife"] == float(tracer.RadionuclideHalfLife)
    assert told["RadiopharmaceuticalStartTime"] == str(tracer.RadiopharmaceuticalStartTime)


@pytest.mark.parametrize("cut", [0, 300])
def test_deflated_bomb_and_its_truncation(tmp_path: Path, cut: int) -> None:
    (one,) = tiny_dicom.series(1, rows=4, columns=4)
    one.Rows = one.Columns = 7000  # 98 MB of pixels in 98 kB
    one.PixelData = bytes(7000 * 7000 * 2)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tiny_dicom.save(tmp_path / "in", one) / "0000.dcm"
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    with guard.memory(2**26 + 2**24):
        row = read_header(path.parent, path.name)
    assert (row["reading"], row["truncated"], row["rows"]) == ("ok", cut > 0, 7000)


def test_absurd_length_is_not_allocated(tmp_path: Path) -> None:
    (one,) = tiny_dicom.series(1)
    path = tiny_dicom.save(tmp_path / "in", one) / "0000.dcm"
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x70\x00LO")  # manufacturer
    path.write_bytes(data[: at + 4] + b"UT\0\0\xf0\xff\xff\xff" + data[at + 8 :])
    with guard.memory(2**26):
        row = read_header(path.parent, path.name)
    # pydicom takes what follows for the value, pixels and all
    assert (row["reading"], row["rows"]) == ("ok", None)


@pytest.mark.slow
def test_memory_is_flat_for_600_000_files(tmp_path: Path) -> None:
    """Hard links of 300 tiny slices, whose pixels are all hashed, since they share positions."""
    source = tiny_dicom.save(tmp_path / "in" / "first", tiny_dicom.series(300, rows=4, columns=4))
    files = sorted(source.iterdir())
    for number in range(1999):
        folder = tmp_path / "in" / f"patient{number // 4}" / f"series{number % 4}"
        folder.mkdir(parents=True)
        for file in files:
            os.link(file, folder / file.name)
    for limit in (3600, 120):  # the second time nothing is read
        job = multiprocessing.get_context("spawn").Process(
            target=build, args=("north", tmp_path / "in"), kwargs={"output": tmp_path / "index.parquet", "log": Log()}
        )
        job.start()
        process, peak, start = psutil.Process(job.pid), 0, time.monotonic()
        while job.is_alive():
            try:
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(p.memory_full_info().pss for p in tree))
            except psutil.Error:
                pass
            job.join(0.5)
        assert job.exitcode == 0
        assert peak < 500e6
        assert time.monotonic() - start < limit
    assert pyarrow.parquet.ParquetFile(tmp_path / "index.parquet").metadata.num_rows == 600_000
