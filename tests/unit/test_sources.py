"""Files and members of archives by the paths of the tables."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from polycentric import sources
from polycentric.tables.private import encode_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plain.dcm").write_bytes(b"plain")
    with zipfile.ZipFile(tmp_path / "deep" / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x//y/../../z.nii.gz", b"0123456789" * 1000)
        archive.writestr("name.with strange;suffix", b"odd")
        archive.writestr("twice", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("twice", b"new")
        archive.mkdir("empty")
    return tmp_path


def test_every_path_opens_its_bytes(folder: Path) -> None:
    assert sources.read_bytes(folder, "deep/plain.dcm") == b"plain"
    assert sources.read_bytes(folder, "deep/a.zip//x//y/../../z.nii.gz") == b"0123456789" * 1000
    with sources.open_file(folder, "deep/a.zip//x//y/../../z.nii.gz") as stream:
        stream.seek(5005)
        assert stream.read(3) == b"567"
        stream.seek(1)
        assert stream.read(3) == b"123"


def test_members_are_listed_once_and_read_back(folder: Path) -> None:
    found = sources.members(folder, "deep/a.zip")
    assert [m.path.partition("//")[2] for m in found] == ["name.with strange;suffix", "twice", "x//y/../../z.nii.gz"]
    assert [m.size for m in found] == [3, 3, 10000]
    assert sources.read_bytes(folder, found[1].path) == b"new"


def test_local_copy_lives_outside_keeps_its_suffix_and_goes(folder: Path) -> None:
    before = sorted(p for p in folder.rglob("*"))
    with sources.local_file(folder, "deep/a.zip//x//y/../../z.nii.gz") as copy:
        assert copy.name.endswith(".nii.gz")
        assert copy.read_bytes() == b"0123456789" * 1000
        assert folder not in copy.parents
    assert not copy.exists()
    with sources.local_file(folder, "deep/a.zip//name.with strange;suffix") as copy:
        assert copy.suffix == ""
    with sources.local_file(folder, "deep/plain.dcm") as same:
        assert same == folder / "deep" / "plain.dcm"
    assert same.exists()
    assert sorted(p for p in folder.rglob("*")) == before


@pytest.mark.parametrize("path", ["absent", "deep", "deep/a.zip//absent", "deep/plain.dcm//x", "deep/pipe"])
def test_what_cannot_be_opened_raises_os_error_at_once(folder: Path, path: str) -> None:
    os.mkfifo(folder / "deep" / "pipe")
    with pytest.raises(OSError, match=r"."), sources.open_file(folder, path) as stream:
        stream.read(1)


def test_changed_archive_is_opened_anew(folder: Path) -> None:
    assert sources.read_bytes(folder, "deep/a.zip//twice") == b"new"
    with zipfile.ZipFile(folder / "deep" / "a.zip", "w") as archive:
        archive.writestr("twice", b"another")
    assert sources.read_bytes(folder, "deep/a.zip//twice") == b"another"


def test_name_that_is_not_utf8_opens(folder: Path) -> None:
    path = os.fsdecode(b"M\xfcller.zip")
    (folder / "deep" / "a.zip").rename(folder / path)
    assert sources.read_bytes(folder, encode_path(path + "//twice")) == b"new"
    assert sources.members(folder, encode_path(path))[1].path == encode_path(path + "//twice")


def test_damaged_member_is_an_os_error(folder: Path) -> None:
    file = folder / "deep" / "a.zip"
    data = bytearray(file.read_bytes())
    at = data.index(b"z.nii.gz") + 12
    data[at : at + 20] = bytes(20)
    file.write_bytes(data)
    with pytest.raises(OSError, match=r"^(BadZipFile|damaged|EOFError)$"):
        sources.read_bytes(folder, "deep/a.zip//x//y/../../z.nii.gz")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """As in the zip bombs of D. Fifield, whose members share one compressed block."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernel", os.urandom(5000))
    data = (tmp_path / "a.zip").read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entries = data[start:end] * 3
    tail = bytearray(data[end:])
    tail[8:12] = (3).to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data[:start] + entries + tail)
    with pytest.raises(OSError, match="overlapping"):
        sources.members(tmp_path, "a.zip")
