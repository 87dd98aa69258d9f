"""Synthetic images as DICOM: what the standard's checker says, and what our own reader makes of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pipeline
import pydicom
import pytest
import tiny_dicom
from phantoms import Phantom
from polycentric import tables, volumes
from polycentric.config.curation import ConvertSettings, CurationSettings
from polycentric.config.export import DicomExport
from polycentric.deidentify.identity import Key
from polycentric.errors import UserError
from polycentric.export import Target, dataset, export_shard, target
from polycentric.export.shard import EXPORTED
from polycentric.files import sha256_file
from polycentric.tables.schemas import CURATION, SCANS, VIEWS
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError

RNG = np.random.default_rng(0)
KEY = Key.of(b"k" * 32)
LIKE_CT = Target("CT", (-1000.0, 1000.0))
OBLIQUE = (1, 0, 0, 0, np.cos(0.1), np.sin(0.1))


def convert(folder: Path, **settings: object) -> tuple[pd.DataFrame, Path]:
    """A folder of DICOM through index, curation, cohort and conversion: rows of the volumes, results folder."""
    centre = pipeline.converted(pipeline.curated(folder), ConvertSettings(**settings))
    return centre.volumes(), centre.root


def study(folder: Path, geometry: Geometry | None = None, **options: object) -> tuple[Path, Path, Volume]:
    """A converted series and a synthetic view of it, on its own grid or on another; results, input, image."""
    made, root = convert(tiny_dicom.save(folder / "in", tiny_dicom.series(**options)))
    row = made.iloc[0].to_dict()
    source = volumes.read(root / row["path"], row)
    geometry = geometry or source.geometry
    image = RNG.normal(0, 300, geometry.size[::-1]).astype(np.float32).clip(-1000, 3000)
    path = root / "views" / "noncontrast" / "main" / "north-0" / f"{row['scan']}.nii"
    volumes.write(Volume(image, geometry), path)
    facts = {k: row[k] for k in ("centre", "patient", "session", "scan")}
    facts |= {"view": "noncontrast", "fold": "main", "status": "ok", "reason": "", "sha256": sha256_file(path)}
    facts |= {"path": path.relative_to(root).as_posix(), **geometry.columns()}
    facts["diagnostics"] = '[{"step": "synthesize"}]'
    tables.write([facts], root / "views" / "noncontrast" / "main" / "north-0.tsv", VIEWS)
    return root, folder / "in", Volume(image, geometry)


def export(root: Path, source: Path, like: Target = LIKE_CT, **changes: object) -> pd.DataFrame:
    manifest = root / "dicom" / "noncontrast" / "main" / "north-0.tsv"
    export_shard(
        DicomExport(view="noncontrast", **changes), source=root / "views" / "noncontrast" / "main" / "north-0.tsv",
        files=root.parent / "private" / "north-0.parquet", folder_of_centre=source, model="decontrast",
        model_sha256="0" * 64, uid=KEY.uid, like=like, root=root, manifest=manifest, fold="main",
        settings_json="{}", code="0",
    )  # fmt: skip
    return tables.read(manifest, EXPORTED)


@pytest.mark.parametrize("options", [{}, {"orientation": OBLIQUE, "pixel_spacing": (0.9, 0.7), "spacing": 2.5}])
def test_our_own_reader_gets_the_same_image_back(tmp_path: Path, options: dict) -> None:
    root, source, image = study(tmp_path / "a", **options)
    rows = export(root, source)
    assert len(rows) == image.geometry.size[2]
    assert set(rows["status"]) == {"ok"}
    for row in rows.to_dict("records"):
        assert sha256_file(root / row["path"]) == row["sha256"]
    folder = (root / rows.loc[0, "path"]).parent
    shutil.copytree(folder, tmp_path / "b" / "in")
    made, again = convert(tmp_path / "b" / "in", clip_below_hu=None)
    assert made["status"].tolist() == ["ok"]
    volume = volumes.read(again / made.loc[0, "path"], made.loc[0])
    np.testing.assert_array_equal(volume.array, np.rint(image.array))
    assert volume.geometry.size == image.geometry.size
    np.testing.assert_allclose(volume.geometry.spacing, image.geometry.spacing, atol=1e-6)
    np.testing.assert_allclose(volume.geometry.origin, image.geometry.origin, atol=1e-4)
    np.testing.assert_allclose(volume.geometry.direction, image.geometry.direction, atol=1e-6)
    # and does not take it for an acquisition
    curated = tables.read(again / "c.parquet", CURATION)
    assert curated["verdict"].tolist() == ["flag"]
    assert "SYNTHETIC_IMAGE" in curated["codes"][0].split(";")


def test_a_grid_that_runs_downwards_is_the_same_image(tmp_path: Path) -> None:
    geometry = Geometry((20, 16, 9), (1.1, 1.3, 2.0), (-30.0, -20.0, 150.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    root, source, image = study(tmp_path / "a", geometry)
    rows = export(root, source)
    shutil.copytree((root / rows.loc[0, "path"]).parent, tmp_path / "b" / "in")
    made, again = convert(tmp_path / "b" / "in", clip_below_hu=None)
    volume = volumes.read(again / made.loc[0, "path"], made.loc[0])
    moved = volumes.resample(volume, geometry, interpolation="nearest", fill=-9999)
    np.testing.assert_array_equal(moved.array, np.rint(image.array))


def test_headers_say_what_it_is_and_name_nobody(tmp_path: Path) -> None:
    root, source, image = study(tmp_path)
    original = [pydicom.dcmread(p) for p in sorted(source.iterdir())]
    rows = export(root, source)
    written = [pydicom.dcmread(root / p) for p in rows["path"]]
    for number, d in enumerate(written):
        assert d.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert d.SyntheticData == "YES"
        assert "synthetic" in d.SeriesDescription.lower()
        assert "SYNTHETIC" in d.DerivationDescription
        assert d.PatientID == rows.loc[0, "patient"]
        assert d.StudyInstanceUID == KEY.uid(original[0].StudyInstanceUID)
        assert d.FrameOfReferenceUID == KEY.uid(original[0].FrameOfReferenceUID)
        assert d.ReferencedSeriesSequence[0].SeriesInstanceUID == KEY.uid(original[0].SeriesInstanceUID)
        references = d.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {r.ReferencedSOPInstanceUID for r in references} == {KEY.uid(o.SOPInstanceUID) for o in original}
        at = [o for o in original if abs(o.ImagePositionPatient[2] - d.ImagePositionPatient[2]) < 1e-3]
        assert [s.ReferencedSOPInstanceUID for s in d.SourceImageSequence] == [KEY.uid(at[0].SOPInstanceUID)]
        np.testing.assert_array_equal(d.pixel_array * d.RescaleSlope + d.RescaleIntercept, np.rint(image.array[number]))
        data = (root / rows.loc[number, "path"]).read_bytes()
        for secret in (b"Doe", b"HOSP-4711", original[0].StudyInstanceUID.encode(), b"20200101"):
            assert secret not in data
    assert len({d.SOPInstanceUID for d in written}) == len(written)
    assert len({d.SeriesInstanceUID for d in written}) == 1
    assert not {d.SOPInstanceUID for d in written} & {o.SOPInstanceUID for o in original}
    before = [(root / p).read_bytes() for p in rows["path"]]
    shutil.rmtree(root / "dicom")
    assert [(root / p).read_bytes() for p in export(root, source)["path"]] == before


def test_identity_of_the_source_if_asked_for(tmp_path: Path) -> None:
    root, source, _ = study(tmp_path)
    original = pydicom.dcmread(sorted(source.iterdir())[0])
    rows = export(root, source, identity="original")
    d = pydicom.dcmread(root / rows.loc[0, "path"])
    assert (d.PatientID, d.PatientName) == (original.PatientID, original.PatientName)
    assert d.StudyInstanceUID == original.StudyInstanceUID
    assert d.SeriesInstanceUID != original.SeriesInstanceUID
    assert "PatientIdentityRemoved" not in d
    assert d.ReferencedSeriesSequence[0].SeriesInstanceUID == original.SeriesInstanceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
@pytest.mark.parametrize("identity", ["pseudonym", "original"])
@pytest.mark.parametrize("like", [LIKE_CT, Target("MR", (0.0, 1500.0))], ids=["CT", "MR"])
def test_checker_finds_no_error(tmp_path: Path, identity: str, like: Target) -> None:
    root, source, _ = study(tmp_path, orientation=OBLIQUE)
    rows = export(root, source, like, identity=identity)
    for path in rows["path"].iloc[[0, -1]]:
        told = subprocess.run(["dciodvfy", str(root / path)], capture_output=True, text=True, check=False)
        text = told.stdout + told.stderr
        assert f"{like.modality}Image" in text
        problems = [line for line in text.splitlines() if line.startswith("Error")]
        # Synthetic Data is an attribute of the standard since 2021; the checker of Debian does not know it yet
        problems = [line for line in problems if "0x0008,0x001c" not in line]
        assert not problems, problems


@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.0, 1500.0), (0.0, 20000.0)])
def test_an_image_like_mr_is_an_mr_image_and_comes_back(tmp_path: Path, limits: tuple[float, float]) -> None:
    root, source, image = study(tmp_path / "a")
    path = root / tables.read(root / "views" / "noncontrast" / "main" / "north-0.tsv", VIEWS).loc[0, "path"]
    low, high = limits
    # a little beyond the range, as what was clipped off and added again
    array = RNG.uniform(low - 0.1 * high, 1.1 * high, image.array.shape).astype(np.float32)
    volumes.write(Volume(array, image.geometry), path)
    rows = export(root, source, Target("MR", limits))
    d = pydicom.dcmread(root / rows.loc[0, "path"])
    assert (d.Modality, d.SOPClassUID.name) == ("MR", "MR Image Storage")
    assert d.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert d.SyntheticData == "YES"
    assert d.SeriesDescription == "Synthetic MR, not acquired"
    assert "KVP" not in d
    assert (float(d.WindowCenter), float(d.WindowWidth)) == (high / 2, high)
    shutil.copytree((root / rows.loc[0, "path"]).parent, tmp_path / "b" / "in")
    centre = pipeline.curated(tmp_path / "b" / "in", CurationSettings(modalities=("MR",)))
    again = pipeline.converted(centre).root
    made = centre.volumes()
    assert made.loc[0, ["status", "modality"]].tolist() == ["ok", "MR"]
    volume = volumes.read(again / made.loc[0, "path"], made.loc[0])
    step = 1.0 if high >= 10000 else high / 10000
    np.testing.assert_allclose(volume.array, array, atol=0.5001 * step, rtol=1e-6)
    curated = tables.read(again / "c.parquet", CURATION)
    assert "SYNTHETIC_IMAGE" in curated["codes"][0].split(";")


def test_the_target_decides_what_is_written(tmp_path: Path) -> None:
    cohort = Phantom(tmp_path, {"p0": "training", "p1": "training", "p2": "test"})
    scans = tables.read(cohort.scans, SCANS)

    def found(kinds: list[str], wheres: list[str], calibrated: bool = True) -> str:
        tables.write(scans.assign(modality=kinds), cohort.scans, SCANS)
        limits = (0.0, 1.0)
        return target(
            cohort.scans, cohort.patient_table, wheres, limits, calibrated=calibrated, where="exports: x"
        ).modality

    assert found(["CT", "CT", "MR"], ["modality == 'CT'"]) == "CT"
    assert found(["CT", "MR", "MR"], ["modality == 'MR'", "age >= 50"]) == "MR"
    assert found(["MR", "MR", "MR"], [], calibrated=False) == "MR"
    with pytest.raises(UserError, match=r"exports: x: .* modality CT, MR; CT or MR alone can be written"):
        found(["CT", "MR", "MR"], [])
    with pytest.raises(UserError, match="modality PT"):
        found(["PT", "MR", "MR"], ["modality == 'PT'"])
    with pytest.raises(UserError, match="not in HU"):
        found(["CT", "CT", "CT"], [], calibrated=False)


def test_a_scan_that_was_handed_on_is_not_called_synthetic(tmp_path: Path) -> None:
    root, source, _ = study(tmp_path)
    view = root / "views" / "noncontrast" / "main" / "north-0.tsv"
    row = tables.read(view, VIEWS).iloc[0].to_dict()
    tables.write([row | {"diagnostics": None}], view, VIEWS)
    rows = export(root, source)
    assert rows["status"].tolist() == ["missing"]
    assert rows["reason"].str.startswith("SOURCE_UNCHANGED").all()
    assert not list((root / "dicom").rglob("*.dcm"))


def test_what_cannot_be_written_is_a_row(tmp_path: Path) -> None:
    root, source, image = study(tmp_path)
    view = root / "views" / "noncontrast" / "main" / "north-0.tsv"
    row = tables.read(view, VIEWS).iloc[0].to_dict()
    volumes.write(Volume(image.array * 1000, image.geometry), root / row["path"])
    rows = export(root, source)
    assert rows["status"].tolist() == ["rejected"]
    assert rows["reason"].str.startswith("HU_IMPLAUSIBLE").all()
    tables.write([row | {"status": "failed", "reason": "x", "path": "", "sha256": ""}], view, VIEWS)
    assert export(root, source)["reason"].tolist() == ["SOURCE_FAILED: x"]


def test_decimals_fit_their_field() -> None:
    for value in (1 / 3, -1 / 3e-5, 1e-7 / 3, -123456.789012345678, 0.0, -0.0, 0.7):
        text = dataset.decimal(value)
        assert len(text) <= 16
        assert float(text) == pytest.approx(value, rel=1e-8)
    assert dataset.decimal(-0.0) == "0"


def test_the_description_must_say_it() -> None:
    with pytest.raises(ValidationError, match="description"):
        DicomExport(view="x", description="Thorax")


def test_mr_far_beyond_the_range_is_written_in_coarser_steps(tmp_path: Path) -> None:
    """Vessels many times as bright as the range: what was clipped off is added again."""
    root, source, image = study(tmp_path)
    path = root / tables.read(root / "views" / "noncontrast" / "main" / "north-0.tsv", VIEWS).loc[0, "path"]
    array = RNG.uniform(0, 1000, image.array.shape).round().astype(np.int16)
    array[0, 0, 0] = 6000
    volumes.write(Volume(array, image.geometry), path)
    rows = export(root, source, Target("MR", (0.0, 1000.0)))
    assert set(rows["status"]) == {"ok"}
    read = [pydicom.dcmread(root / p) for p in rows["path"]]
    found = np.stack([d.pixel_array * float(d.RescaleSlope) for d in read])
    np.testing.assert_allclose(found, array, atol=0.5001 * 6000 / 32767)
