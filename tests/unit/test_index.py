"""The index: one row per file, whatever the file is."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import tiny_dicom
from polycentric import tables
from polycentric.errors import UserError
from polycentric.index import build
from polycentric.index.headers import read_header
from polycentric.jobs import Log
from polycentric.tables.private import INDEX, decode_path
from pydicom import dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless


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
