"""Curation: kind of object, identity, encoding, values and words, as rows of an index have them."""

from __future__ import annotations

import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
import tiny_dicom
from polycentric.config.curation import CurationSettings
from polycentric.curation import contrast, headers, kernels
from pydantic import ValidationError
from pydicom.data import get_testdata_file
from tiny_index import MR, candidates, curated, magnetic, one, slices

ANY = {"axial_tolerance_deg": None, "modalities": ("CT", "MR", "PT")}


def halves(first: object, second: object, count: int = 12) -> list[object]:
    return [first] * (count // 2) + [second] * (count - count // 2)


CASES: dict[str, tuple[dict[str, object], dict[str, object], str, str]] = {
    # what changes in the rows, settings, verdict, all codes
    "MR tag on CT": ({"modality": "MR"}, ANY, "reject", "MODALITY_TAG_SUSPECT"),
    "MR with Hounsfield units": (
        {"modality": "MR", "sop_class": MR, "rescale_type": "HU"}, ANY, "reject", "MODALITY_TAG_SUSPECT"
    ),
    "CT with a magnetic field": (
        {"sop_class": "", "field_t": 1.5, "kvp": None}, {}, "reject", "MODALITY_TAG_SUSPECT"
    ),
    "suspect tag flagged": (
        {"modality": "MR"}, ANY | {"verdicts": {"MODALITY_TAG_SUSPECT": "flag"}}, "flag", "MODALITY_TAG_SUSPECT"
    ),
    "burned in": ({"burned_in": "YES"}, {}, "reject", "PHI_BURNED_IN"),
    "synthetic": ({"synthetic": "YES"}, {}, "flag", "SYNTHETIC_IMAGE"),
    "synthetic denied": ({"synthetic": "NO"}, {}, "accept", ""),
    "burned in denied": ({"burned_in": "NO"}, {}, "accept", ""),
    "ultrasound": ({"modality": "US", "sop_class": ""}, {"modalities": ("US",)}, "reject", "PHI_BURNED_IN"),
    "dose report": ({"series_description": "Patient Protocol"}, {}, "reject", "PHI_BURNED_IN"),
    "identity left": (
        {"identifying": "AccessionNumber;StationName"}, {"deidentified": True}, "reject", "PHI_RESIDUAL_TAG"
    ),
    "identity in clinical data": ({"identifying": "AccessionNumber"}, {}, "accept", ""),
    "identity accepted by the site": (
        {"identifying": "StationName"}, {"deidentified": True, "verdicts": {"PHI_RESIDUAL_TAG": "accept"}}, "accept",
        "PHI_RESIDUAL_TAG",
    ),
    "mosaic": ({"image_type": "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"}, {}, "reject", "MOSAIC"),
    "truncated": ({"truncated": [True] + [False] * 11}, {}, "reject", "FILE_TRUNCATED"),
    "no preamble": ({"reading": "forced"}, {}, "repair", "FILE_NO_META"),
    "JPEG lossless": ({"transfer_syntax": "1.2.840.10008.1.2.4.70"}, {}, "accept", "TS_COMPRESSED_OK"),
    "JPEG": ({"transfer_syntax": "1.2.840.10008.1.2.4.50"}, {}, "flag", "TS_LOSSY"),
    "lossy refused by a study": (
        {"lossy": "01"}, {"verdicts": {"TS_LOSSY": "reject"}}, "reject", "TS_LOSSY"
    ),
    "big endian": ({"transfer_syntax": "1.2.840.10008.1.2.2"}, {}, "accept", "TS_BIG_ENDIAN"),
    "deflated": ({"transfer_syntax": "1.2.840.10008.1.2.1.99"}, {}, "accept", "TS_DEFLATED"),
    "HTJ2K": ({"transfer_syntax": "1.2.840.10008.1.2.4.201"}, {}, "reject", "TS_UNDECODABLE"),
    "two syntaxes": (
        {"transfer_syntax": halves("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")}, {}, "flag", "SERIES_MIXED_TS"
    ),
    "a UUID as series": (
        {"series_uid": "0f8fad5b-d9cb-469f-a165-70867728950e"}, {}, "repair", "UID_EMPTY_OR_INVALID"
    ),
    "leading zeros": ({"study_uid": "1.2.03.4"}, {}, "repair", "UID_EMPTY_OR_INVALID"),
    "no instance": ({"sop_instance": ""}, {}, "repair", "UID_EMPTY_OR_INVALID"),
    "one instance for all": ({"sop_instance": "1.2.3"}, {}, "reject", "UID_COLLISION"),
    "no patient": ({"patient_id": ""}, {}, "reject", "PATIENT_ID_EMPTY"),
    "two patients": ({"patient_id": halves("A", "B")}, {}, "reject", "PATIENT_ID_CONFLICT"),
    "no rescale": ({"slope": None}, {}, "reject", "RESCALE_MISSING"),
    "no rescale, left to the pixels": (
        {"slope": None}, {"verdicts": {"RESCALE_MISSING": "repair"}}, "repair", "RESCALE_MISSING"
    ),
    "rescale varies": ({"slope": halves(1.0, 2.0)}, {}, "accept", "RESCALE_VARIES"),
    "padding": ({"padding_value": -2000, "intercept": 0.0}, {}, "flag", "HU_IMPLAUSIBLE"),
    "no kernel": ({"kernel": ""}, {}, "flag", "KERNEL_MISSING"),
    "kernel by name": ({}, {"kernels": ("b30F",)}, "accept", ""),
    "kernel by family": ({}, {"kernels": ("soft",)}, "accept", ""),
    "sharp kernel": ({}, {"kernels": ("sharp",)}, "reject", "KERNEL_NOT_ALLOWED"),
    "times": ({"study_time": halves("101500", "101501")}, {}, "accept", "STUDYTIME_VARIES"),
    "small pixels": ({}, {"pixel_spacing_mm": (0.9, 2.0)}, "reject", "PIXEL_SPACING_OUT_OF_RANGE"),
    "pixels in range": ({}, {"pixel_spacing_mm": (0.8, 0.8)}, "accept", ""),
    "matrix": ({}, {"matrix": ((512, 512),)}, "reject", "MATRIX_NOT_ALLOWED"),
    "matrix flagged": (
        {}, {"matrix": ((512, 512),), "verdicts": {"MATRIX_NOT_ALLOWED": "flag"}}, "flag", "MATRIX_NOT_ALLOWED"
    ),
    "wanted matrix": ({}, {"matrix": ((32, 24), (512, 512))}, "accept", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_facts_of_headers_get_their_verdict(name: str) -> None:
    columns, settings, verdict, codes = CASES[name]
    (found,) = candidates(slices(**columns), **settings)
    assert (found.verdict, ";".join(found.codes)) == (verdict, codes)
    assert found.rejecting == (codes if verdict == "reject" else "")


def test_reasons_name_elements_and_never_values() -> None:
    row, _ = one(slices(identifying="AccessionNumber;PatientAddress"), deidentified=True)
    assert row["reason"] == "PHI_RESIDUAL_TAG: values in AccessionNumber, PatientAddress"


def test_one_instance_identifier_for_two_images_rejects_both() -> None:
    first, second = slices(name="a"), slices(name="b", patient_id="OTHER")
    second.loc[3, "sop_instance"] = first.loc[7, "sop_instance"]
    rows, _ = curated(first, second, slices(name="c"))
    assert sorted(zip(rows["verdict"], rows["codes"], strict=True)) == [
        ("accept", ""), ("reject", "UID_COLLISION"), ("reject", "UID_COLLISION"),
    ]  # fmt: skip


def test_the_same_image_in_two_folders_is_no_collision() -> None:
    first = slices(name="a", content_sha256=[f"{n:064x}" for n in range(12)])
    copies = first.assign(path=[f"copy/{n}" for n in range(12)])
    row, _ = one(first, copies)
    assert (row["verdict"], row["codes"], row["slices"], row["files"]) == ("repair", "DUP_EXACT", 12, 24)
    changed = copies.assign(content_sha256=[f"{n + 5:064x}" for n in range(12)])
    assert one(first, changed)[0]["excluded"] == "UID_COLLISION"


def test_one_instance_in_two_encodings_keeps_the_one_without_loss() -> None:
    first = slices(
        transfer_syntax="1.2.840.10008.1.2.4.50", lossy="01", content_sha256=[f"{n:064x}" for n in range(12)]
    )
    second = slices(content_sha256=[f"{n + 50:064x}" for n in range(12)])
    row, files = one(first, second)
    assert row["slices"] == 12
    assert "DUP_EXACT" in row["codes"]
    assert set(files.loc[files["use"] == "slice", "content_sha256"]) == set(second["content_sha256"])


def test_patients_of_files_without_identifier_come_from_their_folders() -> None:
    parts = [slices(name=name, patient_id="") for name in ("one", "two")]
    rows, files = curated(*parts, slices(name="named"), patient_from_path=r"^\d+/(one|two)/")
    assert sorted(rows["codes"]) == ["", "PATIENT_ID_EMPTY", "PATIENT_ID_EMPTY"]
    assert set(rows["verdict"]) == {"accept", "repair"}
    assert rows["patient"].nunique() == 3
    assert set(files["patient_id"]) == {"one", "two", tiny_dicom.PATIENT}
    rows, _ = curated(*parts, patient_from_path=r"^\d+/(three)/")
    assert rows["excluded"].tolist() == ["PATIENT_ID_EMPTY"] * 2
    with pytest.raises(ValidationError, match="2 groups in brackets; write one"):
        CurationSettings(patient_from_path="(a)(b)")


def test_suspect_kinds_agree_with_the_dictionary_of_the_standard() -> None:
    names = {uid: pydicom.uid.UID(uid).name for uid in headers.KINDS}
    words = {
        "CT": "CT Image", "MR": "MR", "PT": "PET|Positron", "NM": "Nuclear Medicine", "US": "Ultrasound",
        "CR": "Computed Radiography", "DX": "Digital X-Ray", "MG": "Mammography|Breast", "IO": "Intra-Oral",
        "XA": "X-Ray Angiographic", "RF": "X-Ray Radiofluoroscopic",
    }  # fmt: skip
    for uid, name in names.items():
        assert "Image Storage" in name or name.endswith(("Presentation", "Processing")), name
        assert any(word in name for word in words[headers.KINDS[uid][0]].split("|")), name


@pytest.mark.parametrize(
    ("syntax", "file"),
    [
        ("1.2.840.10008.1.2.4.50", "SC_rgb_jpeg_dcmtk.dcm"),
        ("1.2.840.10008.1.2.4.51", "JPEG-lossy.dcm"),
        ("1.2.840.10008.1.2.4.57", "JPEG-LL.dcm"),
        ("1.2.840.10008.1.2.4.70", "SC_rgb_jpeg_gdcm.dcm"),
        ("1.2.840.10008.1.2.4.80", "MR_small_jpeg_ls_lossless.dcm"),
        ("1.2.840.10008.1.2.4.90", "MR_small_jp2klossless.dcm"),
        ("1.2.840.10008.1.2.4.91", "JPEG2000.dcm"),
        ("1.2.840.10008.1.2.5", "MR_small_RLE.dcm"),
        ("1.2.840.10008.1.2.2", "MR_small_bigendian.dcm"),
        ("1.2.840.10008.1.2.1.99", "image_dfl.dcm"),
    ],
)
def test_syntaxes_that_count_as_decodable_are(syntax: str, file: str) -> None:
    path = get_testdata_file(file, download=False)
    if path is None:
        pytest.skip(f"{file} does not come with pydicom")
    data = pydicom.dcmread(path)
    known = headers.LOSSLESS | headers.LOSSY | headers.UNCOMPRESSED | {headers.DEFLATED, headers.BIG_ENDIAN}
    assert str(data.file_meta.TransferSyntaxUID) in known
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert image.size == int(data.Rows) * int(data.Columns) * int(data.get("SamplesPerPixel", 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thorax nativ", "no"), ("CT thorax zonder contrast", "no"), ("Abdomen sans injection", "no"),
        ("TORACE SENZA MDC", "no"), ("TC abdomen sin contraste", "no"), ("TC sem contraste", "no"),
        ("CHEST W/O", "no"), ("non-contrast chest", "no"), ("UNENHANCED", "no"), ("Thorax ohne KM 1.0 B70f", "no"),
        ("o.KM", "no"), ("blanco", "no"), ("pre contrast T1", "no"), ("C- THORAX", "no"), ("No IV contrast", "no"),
        ("smdc", "no"), ("THORAX_NATIV", "no"), ("CT non injecté", "no"),
        ("Abdomen portal venous", "yes"), ("mit KM", "yes"), ("Thorax avec injection", "yes"), ("con mdc", "yes"),
        ("CT met contrast", "yes"), ("TC con contraste", "yes"), ("com contraste", "yes"), ("CTPA", "yes"),
        ("AX T1 +C", "yes"), ("T1 post Gd", "yes"), ("CE-MRA", "yes"), ("portalvenös", "yes"), ("w/ contrast", "yes"),
        ("Arteriell 1.0", "yes"), ("T1_GAD", "yes"), ("temps portal", "yes"), ("artérielle", "yes"),
        ("CT chest w/o and w/ contrast", "unknown"), ("Thorax", "unknown"), ("Lung 1.25mm", "unknown"),
        ("Spine", "unknown"), ("face", "unknown"), ("inference", "unknown"), ("Saggital", "unknown"), ("", "unknown"),
        ("CT with and without contrast", "unknown"), ("Abd w/wo", "unknown"), ("mit und ohne KM", "unknown"),
        ("ABDOMEN SENZA E CON MDC", "unknown"), ("Single phase", "unknown"),
    ],
)  # fmt: skip
def test_words_about_contrast_in_the_languages_of_hospitals(text: str, expected: str) -> None:
    assert contrast.by_words(text) == expected


def test_series_speaks_before_protocol_and_study() -> None:
    def said(**columns: object) -> str:
        return curated(slices(**columns))[0].loc[0, "contrast_description"]

    assert said(series_description="nativ", study_description="CT with contrast") == "no"
    assert said(series_description="Thorax 1.0", protocol="Abdomen portal", study_description="nativ") == "yes"
    assert said(series_description="Thorax 1.0", study_description="CT with and without contrast") == "unknown"
    assert said(series_description="Thorax", study_description="TC torace senza mdc") == "no"


def test_words_about_dose() -> None:
    for text, expected in {
        "Thorax LOW DOSE": "low", "LDCT lung": "low", "CTAC 4.0": "low", "Niedrigdosis-CT": "low",
        "faible dose": "low", "low_dose_screening": "low", "Standard dose": "standard", "Thorax": "",
        "allowed dose": "",
    }.items():  # fmt: skip
        said = pd.DataFrame({"series_description": [text], "protocol": "", "study_description": ""})
        assert contrast.dose_by_words(said) == expected, text
    row, _ = one(slices(study_description="Low-dose CT", ctdi_mgy=1.2, body_part="CHEST"))
    assert (row["dose_words"], row["ctdi_mgy"], row["body_part"]) == ("low", 1.2, "CHEST")


def test_kernels_of_four_vendors_by_family() -> None:
    for kernel, maker, expected in (
        ("B30f", "SIEMENS", "soft"), ("B45f", "SIEMENS", "medium"), ("B70f", "SIEMENS", "sharp"),
        ("I31f\\3", "SIEMENS", "soft"), ("Br40d\\2", "Siemens Healthineers", "medium"), ("Hr60", "SIEMENS", "sharp"),
        ("STANDARD", "GE MEDICAL SYSTEMS", "medium"), ("SOFT", "GE MEDICAL SYSTEMS", "soft"),
        ("LUNG", "GE MEDICAL SYSTEMS", "sharp"), ("BONEPLUS", "GE MEDICAL SYSTEMS", "sharp"),
        ("B", "Philips", "soft"), ("C", "Philips", "medium"), ("YA", "Philips", "sharp"), ("L", "Philips", "sharp"),
        ("FC01", "TOSHIBA", "soft"), ("FC08", "TOSHIBA", "medium"), ("FC51", "TOSHIBA", "sharp"),
        ("something", "ACME", ""),
    ):  # fmt: skip
        assert kernels.family(kernel, maker) == expected, kernel


def test_visits_are_numbered_by_date_within_a_patient() -> None:
    parts = [
        slices(name=f"s{n}", study_uid=tiny_dicom.uid("study", n), study_date=date, patient_id=who)
        for n, (who, date) in enumerate(
            [("A", "20200310"), ("A", "20200101"), ("A", "20200310"), ("B", "20210101"), ("A", ""), ("A", "20200102")]
        )
    ]
    plan = slices(1, name="plan", modality="RTPLAN", sop_class="", study_date="20190101", patient_id="A")
    rows, files = curated(*parts, plan)
    found = {}
    for n in range(6):
        scan = files.loc[files["series_uid"] == tiny_dicom.uid(f"s{n}", "series"), "scan"].iloc[0]
        row = rows.set_index("scan").loc[scan]
        found[n] = (row["timepoint"], row["days"])
    assert {n: v for n, v in found.items() if n != 4} == {0: (3, 69), 1: (1, 0), 2: (3, 69), 3: (1, 0), 5: (2, 1)}
    assert all(pd.isna(v) for v in found[4])


def test_studies_without_identifier_are_told_apart_by_patient() -> None:
    rows, _ = curated(slices(name="a", study_uid=""), slices(name="b", study_uid="", patient_id="B"))
    assert rows["session"].nunique() == 2


def test_agent_tag_conflicts_with_the_words() -> None:
    row, _ = one(slices(contrast_agent="Ultravist", contrast_tagged=True, series_description="Thorax nativ"))
    assert (row["codes"], row["contrast_tag"], row["contrast_description"]) == ("CONTRAST_CONFLICT", "yes", "no")
    row, _ = one(magnetic(series_description="T1 post Gd", contrast_agent="Dotarem", contrast_tagged=True), **ANY)
    assert (row["codes"], row["contrast"]) == ("", "yes")
