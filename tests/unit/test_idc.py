"""Imaging Data Commons: the offline query against known numbers, the frozen manifest, the download and its check."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import stat
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd
import pytest
import tiny_dicom
from polycentric import tables
from polycentric.config.idc import IdcSource, problems, query_text
from polycentric.errors import UserError
from polycentric.files import fragment
from polycentric.idc import download as downloading
from polycentric.idc import fetch, local
from polycentric.idc.select import Index, index_file, installed_index, select
from polycentric.tables.idc import FETCHED, FETCHED_FILES, Manifest, manifest_text, read_manifest, write_manifest
from polycentric.tools import freeze
from pydantic import ValidationError

# section 5 of the curation notes: counted in the full index by SQL
LUNG1 = {"CT": (422, 422, 51_230, 26.95), "RTSTRUCT": (422, 422, 422, 0.59)}


def source(**given: Any) -> IdcSource:
    return IdcSource.model_validate({"collection": "nsclc_radiomics", "manifest": "x.tsv", **given})


def counts(manifest: Manifest) -> dict[str, tuple[int, int, int, float]]:
    return {
        str(name): (len(g), g["patient_id"].nunique(), int(g["instances"].sum()), round(g["size_bytes"].sum() / 1e9, 2))
        for name, g in manifest.series.groupby("modality")
    }


# ------------------------------------------------------------------------------------------------- the query


@pytest.fixture(scope="module")
def excerpt(realdata: Callable[[str], Path]) -> Index:
    """The rows of 11 collections of the real index."""
    return index_file(realdata("statistics") / "idc_v25_subset.parquet", "25.0.5")


@pytest.mark.realdata
def test_known_numbers_of_real_collections(excerpt: Index) -> None:
    lung1 = select(source(modality=["CT", "RTSTRUCT"], complete="study"), excerpt)
    assert counts(lung1) == LUNG1
    assert set(lung1.series["licence"]) == {"CC BY-NC 3.0"}
    assert set(lung1.series["doi"]) == {"10.7937/k9/tcia.2015.pf0m9rei"}
    makers = {
        name: counts(select(source(where=f"Manufacturer == {name!r}"), excerpt))["CT"][0]
        for name in ("SIEMENS", "CMS, Inc.", "Plastimatch")
    }
    assert makers == {"SIEMENS": 324, "CMS, Inc.": 97, "Plastimatch": 1}
    several = select(source(collection=["midrc_ricord_1b", "midrc_ricord_1a"]), excerpt)
    assert several.series["collection"].value_counts().to_dict() == {"midrc_ricord_1a": 229, "midrc_ricord_1b": 120}
    assert set(several.series["licence"]) == {"CC BY-NC 4.0"}


@pytest.mark.realdata
def test_outlines_that_others_added_come_only_when_named(excerpt: Index) -> None:
    ours = select(source(modality="SEG"), excerpt)
    both = select(source(modality="SEG", analysis_results="nnu_net_bpr_annotations"), excerpt)
    assert set(ours.series["licence"]) == {"CC BY-NC 3.0"}
    assert len(both.series) == 1663
    assert set(both.series["licence"]) == {"CC BY-NC 3.0", "CC BY 4.0"}
    with pytest.raises(UserError, match=r"of modality RTSTRUCT .*\n(.*\n)*.*RTSTRUCT, analysis result rider_l"):
        select(source(collection="rider_lung_ct", modality=["CT", "RTSTRUCT"]), excerpt)
    rider = select(
        source(collection="rider_lung_ct", modality=["CT", "RTSTRUCT"], analysis_results=["rider_lungct_seg"]), excerpt
    )
    assert {name: n[0] for name, n in counts(rider).items()} == {"CT": 561, "RTSTRUCT": 59}


@pytest.mark.realdata
def test_patients_that_lack_a_modality_can_be_left_out(excerpt: Index) -> None:
    asked = {"collection": "nsclc_radiomics_interobserver1", "modality": ["CT", "RTSTRUCT"]}
    everyone, complete = (select(source(**asked, complete=c), excerpt) for c in (None, "patient"))
    assert {n: c[0] for n, c in counts(everyone).items()} == {"CT": 22, "RTSTRUCT": 21}
    gone = set(everyone.series["patient_id"]) - set(complete.series["patient_id"])
    assert gone == {"interobs09"}
    assert {n: c[0] for n, c in counts(complete).items()} == {"CT": 21, "RTSTRUCT": 21}
    # a condition on the scanner drops outlines of other makers, unless it speaks of images alone
    siemens = select(
        source(modality=["CT", "RTSTRUCT"], where="Modality != 'CT' or Manufacturer == 'SIEMENS'", complete="study"),
        excerpt,
    )
    assert {n: c[0] for n, c in counts(siemens).items()} == {"CT": 324, "RTSTRUCT": 324}


@pytest.mark.realdata
def test_a_trial_takes_the_same_few_patients(excerpt: Index) -> None:
    few, more = (set(select(source(patients=n), excerpt).series["patient_id"]) for n in (5, 9))
    assert (len(few), len(more)) == (5, 9)
    assert few < more
    assert few != {f"LUNG1-{n:03d}" for n in range(1, 6)}


@pytest.mark.realdata
def test_the_committed_manifest_is_what_the_index_says(excerpt: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).parents[2]
    monkeypatch.chdir(project)
    study = Path("config/studies/interobserver1.yaml")
    for asked in freeze.sources(study).values():
        assert Path(asked.manifest).read_text(encoding="utf-8") == manifest_text(select(asked, excerpt))
        assert list(problems("", asked)) == []


def test_known_numbers_of_the_whole_index() -> None:
    try:
        metadata.distribution("idc-index-data")
    except metadata.PackageNotFoundError:
        pytest.skip("idc-index-data (79 MB) is not installed")
    manifest = select(source(modality=["CT", "RTSTRUCT"]), installed_index())
    if installed_index().version == "25.0.5":
        assert counts(manifest) == LUNG1
        assert manifest.index == "idc-index-data 25.0.5 (Imaging Data Commons v25)"


# ------------------------------------------------------------------------------- a small index and what it names


def index_rows() -> list[dict[str, Any]]:
    rows = []
    for patient, modality, maker, result in (
        ("p1", "CT", "A", None), ("p1", "RTSTRUCT", "B", None), ("p2", "CT", None, None), ("p3", "CT", "A", None),
        ("p3", "RTSTRUCT", "B", None), ("p3", "SEG", "C", "others"),
    ):  # fmt: skip
        name = f"{patient}-{modality}"
        rows.append(
            {
                "collection_id": "small", "analysis_result_id": result, "PatientID": patient,
                "SeriesInstanceUID": tiny_dicom.uid(name, "series"), "StudyInstanceUID": tiny_dicom.uid(patient),
                "source_DOI": "10.1/x", "Modality": modality, "Manufacturer": maker, "TransferSyntaxUID": "1.2",
                "instanceCount": 3, "license_short_name": "CC BY 4.0", "series_revised_idc_version": 7,
                "aws_bucket": "idc-open-data", "crdc_series_uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
                "series_size_MB": 1.25,
            }
        )  # fmt: skip
    return rows


@pytest.fixture
def small(tmp_path: Path) -> Index:
    path = tmp_path / "index.parquet"
    pd.DataFrame(index_rows()).to_parquet(path)
    return index_file(path, "25.0.5")


def test_a_missing_value_satisfies_no_condition(small: Index) -> None:
    def patients(where: str) -> set[str]:
        return set(select(source(collection="small", where=where), small).series["patient_id"])

    assert patients("Manufacturer == 'A'") == {"p1", "p3"}
    assert patients("Manufacturer >= 'A'") == {"p1", "p3"}
    assert patients("PatientID in ('p2', 'p3')") == {"p2", "p3"}
    with pytest.raises(UserError, match="no series of modality CT"):
        patients("Manufacturer != 'A'")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"collection": "smal_thing"}, r"no collection 'smal_thing'. There are: small"),
        ({"where": "Maker == 'A'"}, r"the index has no column 'Maker'. Columns: collection_id, "),
        ({"where": "Manufacturer =="}, r"idc.where: the condition 'Manufacturer ==' cannot be evaluated"),
        ({"where": "__import__('os') == 1"}, r"idc.where"),
        ({"modality": "MR"}, r"no series of modality MR .*\n  - small: CT, original data: 3 series of 3 patients"),
        ({"analysis_results": "nobody"}, r"'nobody' has no such series here"),
    ],
)
def test_a_query_without_an_answer_says_what_there_is(small: Index, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(source(**{"collection": "small", **given}), small)


def test_rounded_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    pd.DataFrame(index_rows()).assign(series_size_MB=1.12345678).to_parquet(path)
    with pytest.raises(UserError, match="rounded"):
        select(source(collection="small"), index_file(path, "25.0.5"))
    with pytest.raises(UserError, match="--index-version"):
        index_file(path)


@pytest.mark.parametrize("given", [{"collection": "../x"}, {"modality": "ct"}, {"manifest": "x.csv"}, {"patients": 0}])
def test_settings_that_cannot_be_meant(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        source(**given)


def study_file(folder: Path, **given: Any) -> Path:
    section = {"collection": "small", "manifest": str(folder / "small.tsv"), **given}
    path = folder / "study.yaml"
    path.write_text(json.dumps({"study": "x", "centres": {"north": {"idc": section}, "south": {"images": "x"}}}))
    return path


def test_a_frozen_manifest_is_not_replaced_silently(small: Index, tmp_path: Path) -> None:
    arguments = ["--index", str(small.path), "--index-version", "25.0.5"]
    study, manifest = study_file(tmp_path), tmp_path / "small.tsv"
    assert freeze.main([str(study), *arguments]) == 0
    first = manifest.read_bytes()
    assert freeze.main([str(study), *arguments]) == 0
    assert manifest.read_bytes() == first
    study_file(tmp_path, complete="patient", modality=["CT", "RTSTRUCT"])
    with pytest.raises(UserError) as caught:
        list(freeze.freeze(study, index=small))
    text = str(caught.value)
    for expected in ("would change", "query: ", "new series: 2 (2 patients, 2.5 MB)", "no longer there: 1", "--update"):
        assert expected in text
    assert manifest.read_bytes() == first
    lines = list(freeze.freeze(study, index=small, update=True))
    assert any("wrote" in line for line in lines)
    assert list(read_manifest(manifest).series["patient_id"]) == ["p1", "p1", "p3", "p3"]


def test_a_changed_series_shows_in_the_difference(small: Index) -> None:
    old = select(source(collection="small"), small)
    new = dataclasses.replace(old, series=old.series.assign(licence="CC BY-NC 4.0"))
    assert freeze.difference(old, old) == []
    (line,) = freeze.difference(old, new)
    assert line.startswith("licence of 3 series, such as ")
    assert line.endswith("CC BY 4.0 -> CC BY-NC 4.0")


def test_a_manifest_reads_as_it_was_written(small: Index, tmp_path: Path) -> None:
    manifest = select(source(collection="small", modality=["CT", "RTSTRUCT"]), small)
    shuffled = dataclasses.replace(manifest, series=manifest.series.sample(frac=1, random_state=1))
    assert manifest_text(shuffled) == manifest_text(manifest)
    path = tmp_path / "m.tsv"
    write_manifest(shuffled, path)
    again = read_manifest(path)
    assert manifest_text(again) == path.read_text()
    assert "all: 3 patients, 5 series, 15 instances, 6.2 MB" in again.totals
    assert pd.read_csv(path, sep="\t", comment="#")["instances"].sum() == 15


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("bucket", 'x/* " ; rm -rf /'), ("series_uuid", "../../etc"), ("study_uid", ".."), ("collection", "a/b"),
        ("series_uid", "1.2\nrm *"), ("modality", "../CT"),
    ],
)  # fmt: skip
def test_a_manifest_cannot_smuggle_commands_or_paths(small: Index, tmp_path: Path, column: str, value: str) -> None:
    text = manifest_text(select(source(collection="small"), small))
    frame = read_back(text)
    frame.loc[0, column] = value
    path = tmp_path / "m.tsv"
    head = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
    path.write_text(head + frame.to_csv(sep="\t", index=False))
    with pytest.raises(UserError, match=f"column '{column}' holds"):
        read_manifest(path)


def read_back(text: str) -> pd.DataFrame:
    import io

    return pd.read_csv(io.StringIO(text), sep="\t", comment="#", dtype=str)


def test_a_study_that_asks_something_else_than_was_frozen_is_told(small: Index, tmp_path: Path) -> None:
    asked = source(collection="small", manifest=str(tmp_path / "m.tsv"))
    assert "there is no file" in dict(problems("c.idc", asked))["c.idc.manifest"]
    write_manifest(select(asked, small), asked.manifest)
    assert list(problems("c.idc", asked)) == []
    # how the files come does not change what is asked
    assert list(problems("c.idc", asked.model_copy(update={"folder": "elsewhere", "download": False}))) == []
    other = asked.model_copy(update={"where": "PatientID == 'p1'"})
    assert "frozen from another query" in dict(problems("c.idc", other))["c.idc.manifest"]


# ---------------------------------------------------------------------------------------------- files and downloads


@dataclasses.dataclass
class World:
    """A bucket with two CT series and an RTSTRUCT, the manifest of them, and a folder to bring them to."""

    bucket: Path
    asked: IdcSource
    folder: Path
    output: Path
    rows: list[Any]

    @property
    def files(self) -> Path:
        return self.output.with_suffix(".parquet")

    def fetch(self, **given: Any) -> pd.DataFrame:
        fetch("north", self.asked.model_copy(update=given), output=self.output, files=self.files)
        return tables.read(self.output, FETCHED)

    def remote(self, row: Any) -> list[Path]:
        return sorted((self.bucket / row.series_uuid).iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    rows = []
    bucket = tmp_path / "s3" / "idc-open-data"
    for patient, slices in (("p/1", 4), ("p2", 6)):
        images = tiny_dicom.series(slices, name=patient, patient=patient)
        contours = [tiny_dicom.circle(-40, -30, 103, 4)]
        groups = {
            "CT": images,
            "RTSTRUCT": [tiny_dicom.structure_set(images, {"GTV-1": contours}, name=f"rt {patient}")],
        }
        for modality, data in list(groups.items())[: 2 if patient == "p2" else 1]:
            name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{patient} {modality}"))
            size = 0
            for item in data:
                path = bucket / name / f"{uuid.uuid5(uuid.NAMESPACE_OID, item.SOPInstanceUID)}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                item.save_as(path)
                size += path.stat().st_size
            rows.append(
                {
                    "collection": "small", "patient_id": patient, "study_uid": images[0].StudyInstanceUID,
                    "modality": modality, "series_uid": data[0].SeriesInstanceUID, "instances": len(data),
                    "size_bytes": size, "licence": "CC BY-NC 3.0", "doi": "10.1/x", "analysis_result": "",
                    "transfer_syntax": "1.2", "revised": 7, "bucket": "idc-open-data", "series_uuid": name,
                }
            )  # fmt: skip
    asked = IdcSource.model_validate(
        {
            "collection": "small", "modality": ["CT", "RTSTRUCT"], "manifest": str(tmp_path / "m.tsv"),
            "folder": str(tmp_path / "data folder"),
        }
    )  # fmt: skip
    write_manifest(Manifest(pd.DataFrame(rows), query_text(asked), "test"), asked.manifest)
    frame = read_manifest(asked.manifest).series
    return World(bucket, asked, Path(asked.folder), tmp_path / "out" / "north.tsv", list(frame.itertuples(index=False)))


FAKE = """\
import os, re, shutil, sys
from pathlib import Path
words = sys.argv[1:]
assert words[0] == "--no-sign-request" and words[words.index("--endpoint-url") + 1].startswith("http"), words
log = open(os.environ["FAKE_LOG"], "a")
print("call", file=log)
lives = int(os.environ.get("FAKE_LIVES", "1000"))
if lives < 0:
    sys.exit('ERROR "sync": RequestError: dial tcp: no route to host')
for line in Path(words[words.index("run") + 1]).read_text().splitlines():
    bucket, name, target = re.fullmatch(r'sync --size-only "s3://([^/]+)/([^/]+)/\\*" "(.+)/"', line).groups()
    for path in sorted(Path(os.environ["FAKE_S3"], bucket, name).iterdir()):
        there = Path(target, path.name)
        if there.exists() and there.stat().st_size == path.stat().st_size:
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        if not lives:
            Path(target, path.name + "123456").write_bytes(path.read_bytes()[:-99])
            log.flush()
            os.abort()
        lives -= 1
        shutil.copyfile(path, there)
        print(path.name, file=log)
"""


@pytest.fixture
def fake(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An executable s5cmd on the PATH that copies from the bucket's folder; returns its log."""
    program = tmp_path / "bin" / "s5cmd"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{FAKE}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    log = tmp_path / "calls.log"
    log.touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_S3", str(world.bucket.parent))
    monkeypatch.setenv("FAKE_LOG", str(log))
    return log


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(downloading.subprocess, "Popen", fail)
    monkeypatch.setattr("polycentric.idc.images.program", lambda: None)


def listed(world: World) -> list[str]:
    return tables.read(world.files, FETCHED_FILES)["path"].tolist()


def test_a_download_comes_to_its_place_and_a_second_call_needs_nothing(
    world: World, fake: Path, request: pytest.FixtureRequest
) -> None:
    table = world.fetch()
    assert table["status"].tolist() == ["ok"] * 3
    assert (table["found_bytes"] == table["size_bytes"]).all()
    for row in world.rows:
        place = world.folder / "small" / fragment(row.patient_id) / row.study_uid / f"{row.modality}_{row.series_uid}"
        assert [p.read_bytes() for p in sorted(place.iterdir())] == [p.read_bytes() for p in world.remote(row)]
    assert len(listed(world)) == 4 + 6 + 1
    assert not any(path.is_dir() for path in (world.folder / local.INCOMING).iterdir())
    first = world.output.read_bytes(), world.files.read_bytes()
    request.getfixturevalue("no_program")
    world.fetch()
    assert (world.output.read_bytes(), world.files.read_bytes()) == first
    assert fake.read_text().count("call") == 1


def test_a_download_that_dies_goes_on_where_it_stopped(
    world: World, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "ATTEMPTS", 1)
    monkeypatch.setenv("FAKE_LIVES", "7")
    with pytest.raises(UserError, match="2 of 3 series"):
        world.fetch()
    assert not world.output.exists()
    lacking = tables.read(world.output.with_name("north.missing.tsv"), FETCHED)
    assert lacking["status"].tolist() == ["incomplete", "missing"]
    assert lacking["reason"].tolist() == ["INSTANCES_MISSING: 3 of 6 instances", "NOT_THERE: none of 1 instances"]
    done = [p for p in world.folder.rglob("*.dcm") if local.INCOMING not in p.parts]
    assert len(done) == 4
    assert not list(world.folder.rglob("*.dcm123456"))
    monkeypatch.delenv("FAKE_LIVES")
    assert world.fetch()["status"].tolist() == ["ok"] * 3
    copied = [line for line in fake.read_text().splitlines() if line != "call"]
    assert len(copied) == len(set(copied)) == 11
    assert not world.output.with_name("north.missing.tsv").exists()


def test_several_tries_are_made_while_something_comes(
    world: World, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LIVES", "5")
    assert world.fetch()["status"].tolist() == ["ok"] * 3
    assert fake.read_text().count("call") == 3


def test_without_a_network_one_message_says_what_to_do(
    world: World, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LIVES", "-1")
    monkeypatch.setattr(downloading, "BATCH_SERIES", 1)
    with pytest.raises(UserError) as caught:
        world.fetch()
    text = str(caught.value)
    total = sum(row.size_bytes for row in world.rows)
    commands = world.output.with_name("north.s5cmd")
    for expected in (
        "3 of 3 series", f"{total / 1e6:.1f} MB", "3 missing", "no route to host", "CC BY-NC 3.0", "https://doi.org/10.1/x",
        f"run {commands}", "--no-sign-request --endpoint-url https://s3.amazonaws.com",
    ):  # fmt: skip
        assert expected in text, expected
    assert fake.read_text().count("call") == 1  # not once per batch
    # the command that the message gives does the job
    monkeypatch.delenv("FAKE_LIVES")
    command = next(line for line in caught.value.messages if "mkdir" in line)
    assert os.system(command) == 0
    monkeypatch.setattr("polycentric.idc.images.program", lambda: None)
    assert world.fetch()["status"].tolist() == ["ok"] * 3
    assert not commands.exists()


def test_nothing_is_downloaded_if_the_study_says_so(world: World, fake: Path) -> None:
    with pytest.raises(UserError, match="download: false"):
        world.fetch(download=False)
    assert fake.read_text() == ""


def test_a_stalled_download_is_stopped(
    world: World, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(downloading, "POLL_S", 0.05)
    result, _ = downloading.download(world.rows, world.folder, executable=str(sleeper), stall_s=0.1)
    assert {found.status for found in result.values()} == {"missing"}


def test_a_full_disk_is_seen_before(world: World, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        downloading.shutil, "disk_usage", lambda _: os.statvfs_result and type("U", (), {"free": 1000})()
    )
    with pytest.raises(UserError, match="Make room"):
        world.fetch()
    assert fake.read_text() == ""


@pytest.mark.usefixtures("no_program")
class TestFolders:
    """Files that people have already, in layouts of their own; nothing may be started."""

    @staticmethod
    def copy(world: World, folder: Path, name: Callable[[Any, int], str]) -> list[Path]:
        made = []
        for row in world.rows:
            for number, path in enumerate(world.remote(row)):
                target = folder / name(row, number)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                made.append(target)
        return made

    @pytest.mark.parametrize(
        "name",
        [
            lambda row, n: f"{row.series_uuid[:6]}-{n}",
            lambda row, n: f"{row.patient_id}/{row.modality}/IM{n:04d}.dcm",
            lambda row, n: f"small/{row.patient_id}/{row.study_uid}/{row.modality}_{row.series_uid}/{n}.dcm",
        ],
        ids=["flat", "by patient", "idc-index"],
    )
    def test_any_layout_will_do(self, world: World, name: Callable[[Any, int], str]) -> None:
        made = self.copy(world, world.folder, name)
        (world.folder / "Thumbs.db").write_bytes(b"junk" * 100)
        (world.folder / "empty.dcm").touch()
        tiny_dicom.series(2, name="another")[0].save_as(world.folder / "another.dcm")
        assert world.fetch()["status"].tolist() == ["ok"] * 3
        assert [world.folder / p for p in listed(world)] == sorted(made)

    def test_a_file_that_lacks_is_named_by_its_series(self, world: World) -> None:
        made = self.copy(world, world.folder, lambda row, n: f"{row.series_uuid}-{n}")
        made[1].unlink()
        with pytest.raises(UserError, match=r"1 of 3 series .*\n(.*\n)+.*INSTANCES_MISSING: 3 of 4"):
            world.fetch()

    def test_a_file_cut_short_is_found_by_its_bytes(self, world: World) -> None:
        made = self.copy(world, world.folder, lambda row, n: f"{row.series_uuid}-{n}")
        made[0].write_bytes(made[0].read_bytes()[:-500])
        with pytest.raises(UserError, match="SIZE_DIFFERS"):
            world.fetch()
        # copies with other file headers may be accepted by their number alone
        assert world.fetch(same_bytes=False)["status"].tolist() == ["ok"] * 3

    def test_copies_of_a_file_count_once_and_cut_ones_not_at_all(self, world: World) -> None:
        made = self.copy(world, world.folder, lambda row, n: f"{row.series_uuid}-{n}")
        (world.folder / "a copy").write_bytes(made[0].read_bytes())
        (world.folder / "a cut copy").write_bytes(made[1].read_bytes()[:-500])
        assert world.fetch()["status"].tolist() == ["ok"] * 3
        assert len(listed(world)) == 11
        assert "a cut copy" not in listed(world)

    def test_too_many_instances_are_another_version(self, world: World) -> None:
        self.copy(world, world.folder, lambda row, n: f"{row.series_uuid}-{n}")
        row = next(r for r in world.rows if r.modality == "CT")
        extra = tiny_dicom.series(9, name=row.patient_id, patient=row.patient_id)[-1]
        extra.save_as(world.folder / "extra")
        with pytest.raises(UserError, match="INSTANCES_TOO_MANY: 5 instead of 4"):
            world.fetch()

    def test_links_that_loop_end(self, world: World) -> None:
        self.copy(world, world.folder / "deep", lambda row, n: f"{row.series_uuid}-{n}")
        (world.folder / "deep" / "loop").symlink_to(world.folder)
        (world.folder / "gone").symlink_to(world.folder / "nowhere")
        assert world.fetch()["status"].tolist() == ["ok"] * 3

    def test_a_hostile_patient_id_stays_below_the_folder(self, world: World) -> None:
        row = world.rows[0]._replace(patient_id="../../../x\n")
        assert world.folder in local.place(world.folder, row).resolve().parents


@pytest.mark.parametrize("stopped_before", [False, True])
def test_half_a_series_in_its_place_is_completed(world: World, fake: Path, stopped_before: bool) -> None:
    row = next(r for r in world.rows if r.instances == 6)
    place = local.place(world.folder, row)
    place.mkdir(parents=True)
    for path in world.remote(row)[:2]:
        (place / path.name).write_bytes(path.read_bytes())
    if stopped_before:
        staging = world.folder / local.INCOMING / row.series_uuid
        staging.mkdir(parents=True)
        for path in world.remote(row)[1:3]:
            (staging / path.name).write_bytes(path.read_bytes()[: None if path == world.remote(row)[2] else -9])
    assert world.fetch()["status"].tolist() == ["ok"] * 3
    kept = {path.name for path in world.remote(row)[: 3 if stopped_before else 2]}
    assert not kept & set(fake.read_text().splitlines())
    assert len(list(place.iterdir())) == 6


# ---------------------------------------------------------------------------- the real s5cmd and a server of our own


class S3(http.server.BaseHTTPRequestHandler):
    """As much of S3 as an anonymous reader needs: list by prefix, get with ranges."""

    root: Path
    broken: set[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        path = self.root / url.path.strip("/")
        if path.is_dir():
            prefix = query.get("prefix")  # none: it is asked whether the bucket is there
            found = sorted(path.glob(f"{prefix}*.dcm")) if prefix else []
            items = "".join(
                f"<Contents><Key>{escape(p.relative_to(path).as_posix())}</Key><Size>{p.stat().st_size}</Size>"
                f"<LastModified>2020-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
                for p in found
            )
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
            self.answer(200, body.encode(), Content_Type="application/xml")
        elif not path.is_file() or path.name in self.broken:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            data = path.read_bytes()
            size = len(data)
            if span := self.headers.get("Range"):
                first, last = span.removeprefix("bytes=").split("-")
                data = data[int(first) : int(last or size - 1) + 1]
                self.answer(206, data, Content_Range=f"bytes {first}-{int(first) + len(data) - 1}/{size}")
            else:
                self.answer(200, data)


@pytest.fixture
def server(world: World) -> Iterator[tuple[str, set[str]]]:
    broken: set[str] = set()
    handler = type("Handler", (S3,), {"root": world.bucket.parent, "broken": broken})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", broken
        running.shutdown()


def test_the_real_s5cmd_understands_us(world: World, server: tuple[str, set[str]]) -> None:
    if downloading.program() is None:
        pytest.skip("s5cmd is not installed")
    endpoint, broken = server
    lacking = world.remote(world.rows[0])[1].name
    broken.add(lacking)
    with pytest.raises(UserError, match=r"1 of 3 series .*\n(.*\n)+.*INSTANCES_MISSING: 3 of 4"):
        fetch("north", world.asked, output=world.output, files=world.files, endpoint=endpoint)
    broken.clear()
    fetch("north", world.asked, output=world.output, files=world.files, endpoint=endpoint)
    assert tables.read(world.output, FETCHED)["status"].tolist() == ["ok"] * 3
    for row in world.rows:
        place = local.place(world.folder, row)
        assert [p.read_bytes() for p in sorted(place.iterdir())] == [p.read_bytes() for p in world.remote(row)]
