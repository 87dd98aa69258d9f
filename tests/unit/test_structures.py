"""Structure sets, segmentations and mask images find their scans."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
import tiny_dicom
from polycentric import tables
from polycentric.config.curation import CurationSettings
from polycentric.curation import curate
from polycentric.curation.candidates import Candidate
from polycentric.curation.structures import Match, facts, for_conversion, match
from polycentric.index import build
from polycentric.jobs import SILENT
from polycentric.tables.private import FILES
from polycentric.tables.schemas import CURATION
from pydicom.dataset import Dataset

Slices = list[Dataset]


def s(count: int = 12, **options: object) -> Slices:
    return tiny_dicom.series(count, **options)


def outlined(images: Slices, **options: object) -> Dataset:
    return tiny_dicom.structure_set(images, {"GTV-1": [tiny_dicom.circle(-40, -33, 112, 3)]}, **options)


def run(folder: Path, **settings: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = folder.parent / f"{folder.name}-out"
    build("north", folder, output=out / "index.parquet", log=SILENT)
    curate(
        "north", out / "index.parquet", settings=CurationSettings(**settings), salt=b"s" * 32,
        curation=out / "curation.parquet", files=out / "files.parquet", log=SILENT,
    )  # fmt: skip
    return tables.read(out / "curation.parquet", CURATION), tables.read(out / "files.parquet", FILES)


# ---------------------------------------------------------------------------------------------- through index and files


def test_structures_are_mapped_by_series_then_by_frame_of_reference(tmp_path: Path) -> None:
    good, other = outlined(s()), outlined(s(), name="other")
    series = other.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = tiny_dicom.uid("gone")
    for number, (structures, verdict, codes, count) in enumerate(
        (
            ([good], "accept", "", 1),
            ([outlined(s(), stale=True)], "flag", "RT_SOPREF_STALE", 1),
            ([other], "flag", "RT_SERIES_MISMATCH", 1),
            # which of several is used depends on the region, so conversion chooses
            ([good, outlined(s(), name="second")], "accept", "", 2),
        )
    ):
        rows, files = run(tiny_dicom.save(tmp_path / str(number), s(), *structures))
        assert rows[["verdict", "codes", "structures"]].values.tolist() == [[verdict, codes, count]]
        assert (files["use"] == "structure").sum() == count
    rows, files = run(tiny_dicom.save(tmp_path / "nowhere", s(), outlined(s(name="absent"))))
    assert sorted(zip(rows["modality"], rows["verdict"], rows["codes"], strict=True)) == [
        ("CT", "accept", ""),
        ("RTSTRUCT", "reject", "RT_NO_IMAGE"),
    ]


def test_copies_of_a_structure_set_are_one(tmp_path: Path) -> None:
    lost = outlined(s(name="lost"))
    for number, images in enumerate((s(), s(5, name="another", patient="B"))):  # with its images and without
        folder = tmp_path / str(number)
        tiny_dicom.save(folder, images, outlined(s()) if number == 0 else lost)
        shutil.copytree(folder, folder / "again")
        for path in (folder / "again").iterdir():
            if pydicom.dcmread(path, stop_before_pixels=True).Modality != "RTSTRUCT":
                path.unlink()
        rows, files = run(folder)
        assert len(rows) == number + 1
        assert files.set_index("use").loc["skipped", "code"] == "DUP_EXACT"
        assert rows["structures"].fillna(0).sum() == 1 - number


def test_an_image_without_a_matrix_is_a_row(tmp_path: Path) -> None:
    images = s(5)
    del images[2].Rows
    picture = s(1, name="picture")[0]
    picture.Modality, picture.SOPClassUID = "NM", "1.2.840.10008.5.1.4.1.1.20"
    del picture.Rows
    rows, _ = run(tiny_dicom.save(tmp_path / "in", images, picture), modalities=("CT", "NM"))
    assert rows["verdict"].tolist() == ["reject", "reject"]
    assert all("FILE_TRUNCATED" in codes for codes in rows["codes"])


def test_files_say_what_mask_sources_choose_by(tmp_path: Path) -> None:
    one = outlined(s(), name="reader AB")
    one.SeriesDescription = "second look"
    _, files = run(tiny_dicom.save(tmp_path / "in", s(), one))
    (text,) = files.loc[files["use"] == "structure", "structure"]
    assert json.loads(text) == {
        "kind": "RTSTRUCT",
        "label": "reader AB",
        "description": "second look",
        "saved": "20200102080000",
        "named": True,
        "frames": [str(s()[0].FrameOfReferenceUID)],
        "regions": [{"name": "GTV-1"}],
    }


def test_structures_of_another_patient_never_match(tmp_path: Path) -> None:
    strange = outlined(s())
    strange.PatientID = "SOMEBODY-ELSE"
    rows, _ = run(tiny_dicom.save(tmp_path / "in", s(), strange))
    assert sorted(rows["codes"]) == ["", "RT_NO_IMAGE"]
    assert rows["patient"].nunique() == 2


# ------------------------------------------------------------------------------------------------------------ by itself


def candidate(series: str, frame: str, instances: tuple[str, ...] = ("1", "2"), patient: str = "p") -> Candidate:
    rows = [{"patient_id": patient, "series_uid": series, "frame_uid": frame, "sop_instance": i} for i in instances]
    return Candidate(pd.DataFrame(rows))


def structure(kind: str, **known: Any) -> pd.DataFrame:
    text = json.dumps({"kind": kind, "series": [], "frames": [], "instances": [], "regions": []} | known)
    return pd.DataFrame([{"patient_id": "p", "structure": text, "series_description": "drawn", "sop_instance": "9"}])


def codes(found: list[Match]) -> list[tuple[int | None, list[str]]]:
    return [(m.candidate, [f.code for f in m.findings]) for m in found]


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG", "image"])
def test_named_series_comes_before_the_frame_of_reference(kind: str) -> None:
    ct, pet = candidate("ct", "frame"), candidate("pet", "frame", ("3", "4"))
    other = candidate("mr", "another", ("5",))
    every = [ct, pet, other]
    named = {"series": ["pet"], "frames": ["frame"]}
    assert codes(match(structure(kind, **named, instances=["3"]), every)) == [(1, [])]
    assert codes(match(structure(kind, **named, instances=["8", "9"]), every)) == [(1, ["RT_SOPREF_STALE"])]
    # PET and CT share a frame of reference: without the series nobody can tell
    assert codes(match(structure(kind, frames=["frame"]), every)) == [(None, ["RT_NO_IMAGE"])]
    assert codes(match(structure(kind, frames=["another"], series=["gone"]), every)) == [(2, ["RT_SERIES_MISMATCH"])]
    assert codes(match(structure(kind, frames=["another"]), every)) == [(2, [])]
    assert codes(match(structure(kind, frames=[""], series=[""]), [candidate("", "")])) == [(None, ["RT_NO_IMAGE"])]
    assert codes(match(structure(kind, **named), [candidate("pet", "frame", patient="q")])) == [(None, ["RT_NO_IMAGE"])]


def test_all_structures_of_a_scan_stay_and_split_volumes_share_stale_ones() -> None:
    first, second = candidate("ct", "frame", ("1", "2")), candidate("ct", "frame", ("3", "4"))
    one = structure("SEG", series=["ct"], frames=["frame"], instances=["3"])
    assert codes(match(pd.concat([one, one], ignore_index=True), [first, second])) == [(1, []), (1, [])]
    stale = structure("RTSTRUCT", series=["ct"], frames=["frame"], instances=["8"])
    assert [m.candidate for m in match(stale, [first, second])] == [0, 1]


def test_labels_of_mask_images_reach_conversion() -> None:
    regions = [{"name": "GTV-1", "value": 2}, {"name": "Lung", "value": None, "contours": 4}]
    one = structure("image", label="reader-a", series=["x"], frames=["f"], regions=regions, saved="")
    (found,) = match(one, [candidate("x", "f")])
    known = json.loads(for_conversion(one.loc[0], found))
    assert known["regions"] == [{"name": "GTV-1", "value": 2}, {"name": "Lung", "value": None}]
    assert (known["kind"], known["label"], known["description"], known["named"]) == ("image", "reader-a", "drawn", True)
    assert facts(one.loc[0])["instances"] == []
