"""Curation: injected defects get the verdict of the defect table; nothing is dropped without a row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_dicom
from polycentric import tables
from polycentric.config.codes import CODES
from polycentric.config.curation import CurationSettings
from polycentric.curation import curate
from polycentric.curation.curate import find, slices_of
from polycentric.curation.frames import load
from polycentric.curation.geometry import Stack
from polycentric.curation.headers import patients_by_path
from polycentric.index import build
from polycentric.jobs import Log
from polycentric.pseudonyms import pseudonym
from polycentric.tables.private import FILES, INDEX
from polycentric.tables.schemas import CURATION
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

LOG = Log()
SALT = b"s" * 32
Slices = list[Dataset]


def run(folder: Path, **settings: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = folder.parent / f"{folder.name}-out"
    build("north", folder, output=out / "index.parquet", log=LOG)
    curate(
        "north",
        out / "index.parquet",
        settings=CurationSettings(**settings),
        salt=SALT,
        curation=out / "curation.parquet",
        files=out / "files.parquet",
        log=LOG,
    )
    files = tables.read(out / "files.parquet", FILES)
    assert set(files["path"]) == set(tables.read(out / "index.parquet", INDEX)["path"])
    return tables.read(out / "curation.parquet", CURATION), files


def one(folder: Path, data: Slices, **settings: object) -> tuple[pd.Series, pd.DataFrame]:
    rows, files = run(tiny_dicom.save(folder / "in", data), **settings)
    assert len(rows) == 1
    assert rows.loc[0, "files"] == len(files) == len(data)
    return rows.iloc[0], files


def change(data: Slices, **tags: object) -> Slices:
    for d in data:
        for keyword, value in tags.items():
            if value is None:
                delattr(d, keyword)
            else:
                setattr(d, keyword, value)
    return data


def move(data: Slices, shift: Callable[[int], tuple[float, float, float]]) -> Slices:
    for number, d in enumerate(data):
        d.ImagePositionPatient = [float(a + b) for a, b in zip(d.ImagePositionPatient, shift(number), strict=True)]
    return data


def without(data: Slices, *numbers: int) -> Slices:
    return [d for n, d in enumerate(data) if n not in numbers]


def localizer(image_type: str = "LOCALIZER") -> Dataset:
    (scout,) = tiny_dicom.series(1, orientation=(1, 0, 0, 0, 0, -1))
    scout.SOPInstanceUID, scout.ImageType = tiny_dicom.uid("scout"), ["ORIGINAL", "PRIMARY", image_type]
    return scout


def copy_of(number: int, **tags: object) -> Dataset:
    d = tiny_dicom.series(12)[number]
    d.SOPInstanceUID = tiny_dicom.uid("copy", number)
    return change([d], **tags)[0]


def compressed(data: Slices, numbers: range) -> Slices:
    for n in numbers:
        data[n].compress(RLELossless, generate_instance_uid=False)
    return data


def s(count: int = 12, **options: object) -> Slices:
    return tiny_dicom.series(count, **options)


DEFECTS: dict[str, tuple[Callable[[], Slices], str, str]] = {
    "clean": (s, "accept", ""),
    "reversed order": (lambda: s()[::-1], "accept", ""),
    "feet first spacing": (lambda: s(orientation=(-1, 0, 0, 0, 1, 0)), "accept", ""),
    "modality": (lambda: change(s(), Modality="MR"), "reject", "MODALITY_WRONG"),
    "no patient": (lambda: change(s(), PatientID=""), "reject", "PATIENT_ID_EMPTY"),
    "two patients": (lambda: [*s(), copy_of(3, PatientID="B")], "reject", "PATIENT_ID_CONFLICT"),
    "screenshot": (
        lambda: change(s(1), SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImagePositionPatient=None),
        "reject",
        "SECONDARY_CAPTURE",
    ),
    "derived without position": (
        lambda: change(s(), ImageType=["DERIVED", "SECONDARY"], ImagePositionPatient=None),
        "reject",
        "SECONDARY_CAPTURE",
    ),
    "derived with position": (lambda: change(s(), ImageType=["DERIVED", "SECONDARY", "AXIAL"]), "accept", ""),
    "several frames without positions": (lambda: change(s(1), NumberOfFrames=3), "reject", "GEOM_NO_POSITION"),
    "RLE": (lambda: compressed(s(), range(12)), "accept", "TS_COMPRESSED_OK"),
    "two syntaxes": (lambda: compressed(s(), range(5)), "flag", "TS_COMPRESSED_OK;SERIES_MIXED_TS"),
    "lossy": (lambda: change(s(), LossyImageCompression="01"), "flag", "TS_LOSSY"),
    "localizer": (lambda: [*s(), localizer()], "repair", "LOCALIZER_IN_SERIES"),
    "unnamed localizer": (lambda: [*s(), localizer("AXIAL")], "repair", "LOCALIZER_IN_SERIES"),
    "only localizers": (lambda: [localizer()], "reject", "SERIES_ALL_LOCALIZER"),
    "no position": (lambda: change(s(), ImagePositionPatient=None), "reject", "GEOM_NO_POSITION"),
    "one without position": (lambda: [*s(), copy_of(3, ImagePositionPatient=None)], "reject", "GEOM_NO_POSITION"),
    "nonsense orientation": (
        lambda: change(s(), ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        "reject",
        "GEOM_NO_POSITION",
    ),
    "other matrix at the end": (lambda: [*s()[:11], *s(rows=20)[11:]], "repair", "GEOM_MATRIX_MIXED"),
    "other matrix within": (lambda: [*s()[:5], s(rows=20)[5], *s()[6:]], "reject", "GEOM_MATRIX_MIXED"),
    "other pixel spacing": (lambda: [*s()[:6], *s(pixel_spacing=(0.7, 0.7))[6:]], "reject", "GEOM_MATRIX_MIXED"),
    "every second slice turned": (
        lambda: [s(orientation=(0, 1, 0, -1, 0, 0) if n % 2 else (1, 0, 0, 0, 1, 0))[n] for n in range(12)],
        "reject",
        "GEOM_MIXED_ORIENTATION",
    ),
    "copy of a slice": (lambda: [*s(), copy_of(5)], "repair", "DUP_EXACT"),
    "copy with the same identifier": (lambda: [*s(), s()[5]], "repair", "DUP_EXACT"),
    "other pixels at one position": (
        lambda: [*s(), copy_of(5, PixelData=tiny_dicom.pixels(99).tobytes())],
        "reject",
        "DUP_POSITION_DIFF_PIXELS",
    ),
    "one position": (
        lambda: [copy_of(n, ImagePositionPatient=[0, 0, 0]) for n in range(6)],
        "reject",
        "GEOM_SINGLE_POSITION",
    ),
    "three slices": (lambda: s(3), "reject", "TOO_FEW_SLICES"),
    "a slice missing": (lambda: without(s(), 5), "reject", "GEOM_MISSING_SLICE"),
    "three slices missing": (lambda: without(s(20), 5, 6, 12), "reject", "GEOM_MISSING_SLICE"),
    "spacing 3 then 1": (
        lambda: move(s(), lambda n: (0, 0, -2.0 * max(n - 5, 0))),
        "reject",
        "GEOM_VARIABLE_SPACING",
    ),
    "spacing 3 then 5": (
        lambda: move(s(), lambda n: (0, 0, 2.0 * max(n - 5, 0))),
        "reject",
        "GEOM_VARIABLE_SPACING",
    ),
    "jitter of 0.02 mm": (lambda: move(s(), lambda n: (0, 0, 0.02 * (n % 2))), "accept", "GEOM_JITTER"),
    "jitter of 0.2 mm": (lambda: move(s(), lambda n: (0, 0, 0.2 * (n == 4))), "reject", "GEOM_VARIABLE_SPACING"),
    "table shift as tilt": (
        lambda: move(s(), lambda n: (0, n * 3 * np.tan(np.radians(5)), 0)),
        "repair",
        "GEOM_GANTRY_TILT",
    ),
    "one slice beside": (lambda: move(s(), lambda n: (2.0 * (n == 4), 0, 0)), "reject", "GEOM_GANTRY_TILT"),
    "coronal": (lambda: s(orientation=(1, 0, 0, 0, 0, -1)), "reject", "GEOM_NOT_AXIAL"),
    "a little oblique": (
        lambda: s(orientation=(1, 0, 0, 0, np.cos(np.radians(3)), np.sin(np.radians(3)))),
        "accept",
        "",
    ),
    "oblong pixels": (lambda: s(pixel_spacing=(0.8, 0.9)), "flag", "GEOM_ANISO_PIXEL"),
    "overlap as in CHAOS": (lambda: change(s(), SliceThickness=3.2), "flag", "THICKNESS_NE_SPACING"),
    "mixed thickness": (lambda: [*s()[:8], *change(s()[8:], SliceThickness=4)], "reject", "THICKNESS_MIXED"),
    "no rescale": (lambda: change(s(), RescaleSlope=None), "reject", "RESCALE_MISSING"),
    "rescale varies": (lambda: [*s()[:6], *change(s()[6:], RescaleSlope=2)], "accept", "RESCALE_VARIES"),
    "padding": (lambda: change(s(), PixelPaddingValue=0, RescaleIntercept=-3024), "flag", "HU_IMPLAUSIBLE"),
    "no kernel": (lambda: change(s(), ConvolutionKernel=None), "flag", "KERNEL_MISSING"),
    "agent but native": (
        lambda: change(s(), ContrastBolusAgent="Iodine", SeriesDescription="Thorax native"),
        "flag",
        "CONTRAST_CONFLICT",
    ),
    "no agent but venous": (lambda: change(s(), SeriesDescription="venous C+"), "flag", "CONTRAST_CONFLICT"),
    "times": (lambda: [change([d], StudyTime=f"{n:06d}")[0] for n, d in enumerate(s())], "accept", "STUDYTIME_VARIES"),
    "no instance identifiers": (lambda: change(s(), SOPInstanceUID=""), "repair", "UID_EMPTY_OR_INVALID"),
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All defects in one centre, a patient and a series each."""
    folder = tmp_path_factory.mktemp("archive") / "in"
    for name, (make, _, _) in DEFECTS.items():
        data = make()
        for d in data:
            d.SeriesInstanceUID = series_of(name)
            if d.SOPInstanceUID:
                d.SOPInstanceUID = tiny_dicom.uid(name, d.SOPInstanceUID)
            if d.PatientID == tiny_dicom.PATIENT:
                d.PatientID = f"{tiny_dicom.PATIENT}-{name}"
        tiny_dicom.save(folder / name, data)
    rows, files = run(folder)
    return rows.set_index("scan"), files


def series_of(name: str) -> str:
    return tiny_dicom.uid("series of", name)


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_gets_its_verdict(name: str, archive: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    make, verdict, codes = DEFECTS[name]
    rows, files = archive
    row = rows.loc[pseudonym(SALT, "scan", f"north\x1f{series_of(name)}\x1f0")]
    expected, found = set(codes.split(";")) - {""}, set(row["codes"].split(";")) - {""}
    assert row["verdict"] == verdict
    if verdict == "reject":  # a moved slice may have further findings, but this one is what it is counted under
        assert row["excluded"] == codes
        assert expected <= found
    else:
        assert row["excluded"] == ""
        assert found == expected
    own = files[files["series_uid"] == series_of(name)]
    assert row["files"] == own["path"].nunique() == len(make())
    assert (own["use"] == "slice").sum() == (0 if verdict == "reject" else row["slices"])


def test_default_verdicts_are_those_of_the_registry() -> None:
    for _, verdict, codes in DEFECTS.values():
        for code in set(codes.split(";")) - {""}:
            repair = (CODES[code].default, verdict) == ("repair", "reject")  # what cannot be repaired is rejected
            assert repair or CODES[code].default in (verdict, "accept")


def test_geometry_after_repair_is_that_of_the_clean_series(tmp_path: Path) -> None:
    clean, _ = one(tmp_path / "clean", s())
    for number, data in enumerate(([*s(), localizer()], [*s(), copy_of(0)], [copy_of(11), *s()[::-1]])):
        row, files = one(tmp_path / str(number), data)
        for column in ("slices", "spacing_z_mm", "length_mm", "rows", "columns"):
            assert row[column] == clean[column]
        aside = files[files["use"] == "dropped"]
        assert len(aside) == 1
        assert json.loads(row["repairs"])[0]["files"] == 1
    assert clean["spacing_z_mm"] == 3.0
    assert clean["length_mm"] == 33.0


def test_all_codes_are_named_and_the_first_one_counts(tmp_path: Path) -> None:
    data = change(without(s(), 5), RescaleSlope=None, ConvolutionKernel=None, PatientID="")
    row, _ = one(tmp_path, data)
    assert row["codes"] == "PATIENT_ID_EMPTY;GEOM_MISSING_SLICE;RESCALE_MISSING;KERNEL_MISSING"
    assert row["excluded"] == "PATIENT_ID_EMPTY"
    assert "1 slices are missing" in row["reason"]


def test_truncated_file_rejects_the_series_and_missing_meta_does_not(tmp_path: Path) -> None:
    folder = tiny_dicom.save(tmp_path / "in", s(), s(name="b"))
    cut = folder / "0003.dcm"
    cut.write_bytes(cut.read_bytes()[:-500])
    bare = folder / "0015.dcm"
    data = bare.read_bytes()
    bare.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    rows, files = run(folder)
    assert sorted(zip(rows["verdict"], rows["codes"], strict=True)) == [
        ("reject", "FILE_TRUNCATED"),
        ("repair", "FILE_NO_META;SERIES_MIXED_TS"),
    ]
    assert (files["use"] == "rejected").sum() == 12


def test_two_acquisitions_become_two_scans(tmp_path: Path) -> None:
    second = change(s(), AcquisitionNumber=2)
    for n, d in enumerate(second):
        d.SOPInstanceUID, d.PixelData = tiny_dicom.uid("second", n), tiny_dicom.pixels(50 + n).tobytes()
    structures = tiny_dicom.structure_set(s(), {"GTV-1": [tiny_dicom.circle(-40, -33, 112, 3)]})
    rows, files = run(tiny_dicom.save(tmp_path / "in", s(), second, structures))
    assert rows["codes"].tolist() == ["SERIES_MULTI_ACQ"] * 2
    assert rows["slices"].tolist() == [12, 12]
    assert rows["scan"].nunique() == 2
    assert rows["structures"].sum() == 1  # the contours name slices of the first one
    kept, _ = run(tmp_path / "in", verdicts={"SERIES_MULTI_ACQ": "reject"})
    assert kept["verdict"].tolist() == ["reject"]
    assert len(files) == 25


def test_ranges_and_lists_of_the_study_file(tmp_path: Path) -> None:
    build("north", tiny_dicom.save(tmp_path / "in", s()), output=tmp_path / "index.parquet", log=LOG)
    slices = slices_of(patients_by_path(load(tmp_path / "index.parquet"), None))

    def excluded(**settings: object) -> str:
        (candidate,) = find(slices, CurationSettings(**settings))
        assert (candidate.verdict == "reject") == bool(candidate.rejecting)
        return candidate.rejecting

    assert excluded(slice_thickness_mm=(0.5, 2.5)) == "THICKNESS_OUT_OF_RANGE"
    assert excluded(length_mm=(100, 500)) == "SCAN_LENGTH_OUT_OF_RANGE"
    assert excluded(slices=(4, 10)) == "SCAN_LENGTH_OUT_OF_RANGE"
    assert excluded(slices=(20, 500)) == "TOO_FEW_SLICES"
    assert excluded(kernels=("B70f",)) == "KERNEL_NOT_ALLOWED"
    assert excluded(modalities=("MR",)) == "MODALITY_WRONG"
    assert excluded(preset="chest-ct") == "SCAN_LENGTH_OUT_OF_RANGE"
    assert excluded(kernels=("b30F",)) == excluded(slice_thickness_mm=(3, 3)) == excluded(preset="any-ct") == ""


def test_verdicts_can_be_overridden_where_that_makes_sense(tmp_path: Path) -> None:
    mixed = [*s()[:8], *change(s()[8:], SliceThickness=4)]
    row, _ = one(tmp_path / "a", mixed, verdicts={"THICKNESS_MIXED": "flag"})
    assert (row["verdict"], row["excluded"]) == ("flag", "")
    row, _ = one(tmp_path / "b", [*s(), copy_of(5)], verdicts={"DUP_EXACT": "reject"})
    assert (row["verdict"], row["excluded"]) == ("reject", "DUP_EXACT")
    with pytest.raises(ValidationError, match="did you mean GEOM_JITTER"):
        CurationSettings(verdicts={"GEOM_JITER": "flag"})
    with pytest.raises(ValidationError, match="not possible here; write one of: reject"):
        CurationSettings(verdicts={"GEOM_MISSING_SLICE": "accept"})
    with pytest.raises(ValidationError, match=r"write the smaller number first: \[1.0, 5.0\]"):
        CurationSettings(slice_thickness_mm=(5, 1))


def test_contrast_comes_from_the_tag_then_from_the_description(tmp_path: Path) -> None:
    cases = (
        ({"ContrastBolusAgent": "Ultravist 370"}, "yes"),
        ({"ContrastBolusAgent": ""}, "no"),
        ({"ContrastBolusAgent": "NONE"}, "no"),
        ({"SeriesDescription": "Thorax native"}, "no"),
        ({"SeriesDescription": "Abdomen portal venous"}, "yes"),
        ({}, "unknown"),
    )
    for number, (tags, _) in enumerate(cases):
        tiny_dicom.save(tmp_path / "in" / str(number), change(s(4, name=str(number)), **tags))
    for given in ("unknown", "no"):
        rows, files = run(tmp_path / "in", contrast_if_untagged=given)
        found = rows.set_index("scan")["contrast"]
        for number, (_, expected) in enumerate(cases):
            scan = files.loc[files["path"] == f"{number}/0000.dcm", "scan"].iloc[0]
            assert found[scan] == (given if expected == "unknown" else expected)


def test_positions_rounded_to_two_decimals_do_not_stretch_the_scan(tmp_path: Path) -> None:
    data = s(101, spacing=0.625, rows=4, columns=4)
    for number, d in enumerate(data):
        d.ImagePositionPatient = [0, 0, float(f"{0.625 * number + 1e-9:.2f}")]
    row, _ = one(tmp_path, data, spacing_tolerance_share=0.05)
    assert row["spacing_z_mm"] == pytest.approx(0.625, abs=1e-4)
    assert row["length_mm"] == pytest.approx(62.5, abs=0.01)


def test_order_along_the_normal_whatever_the_orientation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        data = s(7, orientation=(*q[0], *q[1]), spacing=2.5)
        frame = pd.DataFrame(
            {
                **{f"position_{a}_mm": [float(d.ImagePositionPatient[i]) for d in data] for i, a in enumerate("xyz")},
                "orientation": [" ".join(repr(float(v)) for v in d.ImageOrientationPatient) for d in data],
                "sop_instance": [d.SOPInstanceUID for d in data],
                "content_sha256": "",
                "path": [str(n) for n in range(7)],
            }
        ).sample(frac=1, random_state=3)
        stack = Stack.of(frame)
        assert stack.order == list(range(7))
        assert np.allclose(stack.steps, 2.5)
        assert stack.shear_deg < 1e-6


# ------------------------------------------------------------------------------------------------------ structure sets


def outlined(images: Slices, **options: object) -> Dataset:
    return tiny_dicom.structure_set(images, {"GTV-1": [tiny_dicom.circle(-40, -33, 112, 3)]}, **options)


# ---------------------------------------------------------------------------------------------- identity and stability


def test_result_depends_neither_on_names_nor_times_nor_order(tmp_path: Path) -> None:
    data = [*s(), outlined(s())]
    tiny_dicom.save(tmp_path / "a", data)
    tiny_dicom.save(tmp_path / "b", data[::-1], name="x{:03d}".format)
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b")
    pd.testing.assert_frame_equal(first, second)
    shutil.copytree(tmp_path / "a", tmp_path / "c", copy_function=shutil.copyfile)
    run(tmp_path / "c")
    name = "curation.parquet"
    assert (tmp_path / "a-out" / name).read_bytes() == (tmp_path / "c-out" / name).read_bytes()


def test_hash_of_files_follows_slices_and_contours(tmp_path: Path) -> None:
    def hashed(name: str, *groups: object) -> str:
        rows, _ = run(tiny_dicom.save(tmp_path / name, *groups))
        return rows.loc[0, "files_sha256"]

    first = hashed("a", s(), outlined(s()))
    changed = outlined(s())
    changed.ROIContourSequence[0].ContourSequence[0].ContourData[0] = "-36.5"
    assert len({first, hashed("b", s()), hashed("c", s(13), outlined(s())), hashed("d", s(), changed)}) == 4


def test_original_identifiers_stay_out_of_the_results(tmp_path: Path) -> None:
    data = [*s(), outlined(s())]
    folder = tiny_dicom.save(tmp_path / "in" / "DOE_JANE", data).parent
    run(folder)
    result = (tmp_path / "in-out" / "curation.parquet").read_bytes()
    for secret in (tiny_dicom.PATIENT, "Doe", "DOE_JANE", data[0].SeriesInstanceUID, data[0].StudyInstanceUID):
        assert secret.encode() not in result
        assert tables.read(tmp_path / "in-out" / "curation.parquet", CURATION).to_csv().count(secret) == 0


@pytest.mark.realdata
def test_lung1(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    build("maastro", realdata("lung1") / "dicom", output=tmp_path / "index.parquet", log=LOG)
    curate(
        "maastro",
        tmp_path / "index.parquet",
        settings=CurationSettings(preset="chest-ct"),
        salt=SALT,
        curation=tmp_path / "curation.parquet",
        files=tmp_path / "files.parquet",
        log=LOG,
    )
    rows = tables.read(tmp_path / "curation.parquet", CURATION)
    scans = rows[rows["modality"] == "CT"].sort_values("slices", ascending=False)
    assert scans["slices"].tolist() == [134, 111, 107]
    assert scans["verdict"].tolist() == ["flag"] * 3
    assert scans["structures"].tolist() == [1, 1, 1]
    assert scans["spacing_z_mm"].tolist() == pytest.approx([3, 3, 3])
    base = "STUDYTIME_VARIES;RT_SOPREF_STALE"
    assert scans["codes"].tolist() == [base, "KERNEL_MISSING;" + base, "KERNEL_MISSING;" + base]
    others = rows[rows["modality"] != "CT"]
    assert sorted(others["modality"]) == ["RTDOSE"] * 3 + ["RTPLAN"] * 3
    assert set(others["codes"]) == {"MODALITY_WRONG"}
    assert rows["patient"].nunique() == 3
