"""De-identification: what identifies someone is gone from the bytes, what belongs together still does."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pipeline
import pydicom
import pytest
import tiny_dicom
from polycentric import sources, tables
from polycentric.config.curation import CurationSettings
from polycentric.config.deidentify import DeidentifySettings
from polycentric.deidentify import share_shard
from polycentric.deidentify.clean import Policy, deidentify, with_identifiers
from polycentric.deidentify.identity import Identifiers, Key, registered, shift_date, shift_datetime
from polycentric.deidentify.profile import Rules, codes
from polycentric.deidentify.share import SHAREABLE, copy_object, encode
from polycentric.deidentify.words import Words
from polycentric.errors import ScanError
from polycentric.files import read_json
from polycentric.jobs import Log
from pydantic import ValidationError
from pydicom.data import get_testdata_files
from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

LOG = Log()
SALT = b"s" * 32
PATIENT = "P-ABCDEFGHIJ"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def raw(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def copy(
    data: bytes | FileDataset, patient: str = PATIENT, known: Identifiers | None = None, **settings: object
) -> bytes:
    """The bytes of the de-identified object."""
    options = DeidentifySettings(**settings)
    policy = Policy(options, Key.of(SALT), patient, known or Identifiers())
    data = raw(data) if isinstance(data, FileDataset) else data
    fallback = {"StudyInstanceUID": "a", "SeriesInstanceUID": "b"}
    return copy_object(data, policy, Rules(options), Words(options.words), fallback)[0]


def parsed(data: bytes) -> FileDataset:
    return pydicom.dcmread(io.BytesIO(data))


def cleaned(data: bytes | FileDataset, **options: object) -> FileDataset:
    return parsed(copy(data, **options))


def ct(**elements: object) -> FileDataset:
    one = tiny_dicom.series(1)[0]
    for keyword, value in elements.items():
        setattr(one, keyword, value)
    return one


def segmentation(images: Sequence[Dataset], *, label: str = "Tumor") -> FileDataset:
    """A binary SEG of one segment on `images`, as its definition wants it as far as links go."""
    first = images[0]
    data = tiny_dicom.empty(SEG, tiny_dicom.uid("seg", "instance"))
    data.PatientID, data.PatientName, data.Modality = first.PatientID, first.PatientName, "SEG"
    data.StudyInstanceUID, data.SeriesInstanceUID = first.StudyInstanceUID, tiny_dicom.uid("seg", "series")
    data.FrameOfReferenceUID, data.ContentDate = first.FrameOfReferenceUID, "20200103"
    data.ContentCreatorName, data.ContentLabel = "Reader^Anna", "SEGMENTATION"

    def reference(image: Dataset) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        return item

    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ReferencedInstanceSequence = [reference(i) for i in images]
    data.ReferencedSeriesSequence = [series]
    segment, kind = Dataset(), Dataset()
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = "108369006", "SCT", "Neoplasm"
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = 1, label, "MANUAL"
    segment.SegmentedPropertyTypeCodeSequence, segment.TrackingUID = [kind], tiny_dicom.uid("tracking")
    data.SegmentSequence = [segment]
    organization, frames = Dataset(), []
    organization.DimensionOrganizationUID = tiny_dicom.uid("dimension")
    data.DimensionOrganizationSequence = [organization]
    for image in images:
        frame, derived = Dataset(), Dataset()
        derived.SourceImageSequence = [reference(image)]
        frame.DerivationImageSequence = [derived]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = first.Rows, first.Columns, len(images), 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 1, 0, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    bits = len(images) * first.Rows * first.Columns
    data.PixelData = bytes(bits // 8 + (bits // 8) % 2)
    return data


# ------------------------------------------------------------------------------------------------- properties of a copy


def elements(dataset: Dataset, path: tuple = ()) -> Iterator[tuple[tuple, DataElement]]:
    for element in dataset:
        if element.VR == "SQ":
            for number, item in enumerate(element.value or []):
                yield from elements(item, (*path, int(element.tag), number))
        else:
            yield (*path, int(element.tag)), element


def values(element: DataElement) -> list[str]:
    value = element.value
    many = value if isinstance(value, list | pydicom.multival.MultiValue) else [value]
    return [str(v).strip() for v in many if v is not None and str(v).strip()]


def of(dataset: Dataset, *vrs: str) -> dict[tuple, list[str]]:
    return {path: values(e) for path, e in elements(dataset) if e.VR in vrs and values(e)}


def assert_no_identity(before: Dataset, after: Dataset, data: bytes) -> None:
    """No private tag, and no UID, date, name or identifier of the object at any nesting level."""
    assert data[:128] == bytes(128)
    for path, element in elements(after):
        assert all(not (tag >> 16) % 2 for tag in path[::2]), "private"
        assert path[-1] >> 24 not in (0x50, 0x60), "overlay"
        assert element.VR != "UN"
    own = {v for vs in of(before, "UI").values() for v in vs if v not in pydicom.uid.UID_dictionary}
    left = {v for vs in of(after, "UI").values() for v in vs} | {
        v for vs in of(after.file_meta, "UI").values() for v in vs
    }
    assert not own & left
    dates, shifted = of(before, "DA", "DT"), of(after, "DA", "DT")
    assert not [path for path, value in shifted.items() if dates.get(path) == value]
    names = {v for vs in of(before, "PN").values() for v in vs}
    assert not names & {v for vs in of(after, "PN").values() for v in vs}
    for name in names:
        assert len(name) < 8 or name.encode() not in data
    assert after.PatientID == str(after.PatientName) == PATIENT
    identifiers = [
        str(before.get(k) or "") for k in ("PatientID", "AccessionNumber", "InstitutionName", "OtherPatientIDs")
    ]
    texts = {v for vs in of(after, "LO", "SH", "CS", "ST", "LT", "UT", "UC", "IS", "DS", "AE").values() for v in vs}
    assert not [i for i in identifiers if len(i) >= 4 and i in texts - {"Removed"}]
    assert after.PatientIdentityRemoved == "YES"
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID


READABLE = [
    Path(p)
    for p in get_testdata_files()
    if Path(p).is_file() and "DICOMDIR" not in p and not p.endswith((".zip", ".txt", ".py"))
]


def test_no_object_of_pydicom_keeps_its_identity() -> None:
    """Every object among pydicom's test files, whatever its kind and encoding; kinds that are not copied included."""
    settings = DeidentifySettings()
    rules, words = Rules(settings), Words()
    seen: Counter[str] = Counter()
    for path in READABLE:
        try:
            before, dataset = pydicom.dcmread(path), pydicom.dcmread(path)
            list(before.iterall())
        except Exception:
            continue
        if "SOPClassUID" not in dataset or path.name == "SC_rgb_jpeg.dcm":  # that one contradicts its own syntax
            continue
        policy = Policy(settings, Key.of(SALT), PATIENT, fallback={"SOPInstanceUID": path.name})
        deidentify(dataset, with_identifiers(policy, dataset, rules, words), rules, words)
        data = encode(dataset)
        after = parsed(data)
        assert after.file_meta.TransferSyntaxUID == (
            before.file_meta.get("TransferSyntaxUID") or after.file_meta.TransferSyntaxUID
        )
        assert_no_identity(before, after, data)
        if "PixelData" in before:
            assert after.PixelData == before.PixelData, path.name
        seen[str(before.get("Modality", ""))] += 1
    assert min(seen["CT"] - 50, seen["MR"] - 20, seen["SEG"] - 2, sum(seen.values()) - 130) >= 0, seen


TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
BYTE_VRS = ("OB", "OW", "OD", "OF", "OL", "OV", "UN")


def planted(tag: int, vr: str, number: int, mark: str) -> RawDataElement:
    """An element with an identifier that fits its representation, or looks like no value of it at all."""
    text = f"{mark}NAME" if vr == "PN" else f"{mark}{number:05d}"
    if vr == "UI":
        text = f"1.2.3.{''.join(str(ord(c)) for c in mark)}.{number}"
    value = text.encode().ljust(-(-len(text) // 8) * 8)
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)


def plant(dataset: Dataset, mark: str) -> int:
    """Put an identifier into every public attribute of the dictionary that can hold text, at the top and in items."""
    count = 0
    nested = Dataset()
    for tag, (vrs, _, _, _, keyword) in sorted(DicomDictionary.items()):
        vr = vrs.split(" or ")[0]
        if not keyword or tag >> 16 < 8 or keyword in ("SOPClassUID", "PixelData", "SpecificCharacterSet"):
            continue
        if keyword in ("ImageType", "BurnedInAnnotation", "ConversionType", "Modality"):
            continue
        if vr not in TEXT_VRS + BYTE_VRS:
            continue
        for place in (dataset, nested):
            place[BaseTag(tag)] = planted(tag, vr, count, mark)
            count += 1
    private = Dataset()
    for place in (dataset, nested, private):
        place.add(DataElement(0x00290010, "LO", f"{mark} CREATOR"))
        for n, vr in enumerate(("LO", "UN", "OB", "UT", "PN", "DS")):
            place[BaseTag(0x00291000 + n)] = planted(0x00291000 + n, vr, count, mark)
            count += 1
    deep = Dataset()
    deep.add(DataElement(0x00081140, "SQ", Items([nested])))
    dataset.add(DataElement(0x00081115, "SQ", Items([deep])))
    dataset.add(DataElement(0x0040A730, "SQ", Items([private])))
    for tag, vr in ((0x60003000, "OW"), (0x60000022, "LO"), (0x50003000, "OW"), (0xFFFCFFFC, "OB")):
        dataset[BaseTag(tag)] = planted(tag, vr, count, mark)
    return count


def assert_absent(mark: str, data: bytes) -> None:
    folded = data.lower()
    for encoding in ("ascii", "utf-16-le", "utf-16-be"):
        at = folded.find(mark.lower().encode(encoding))
        assert at < 0, data[max(at - 60, 0) : at + 40]
    numbers = "".join(str(ord(c)) for c in mark).encode()
    assert numbers not in data


@pytest.mark.parametrize(
    ("syntax", "mark"),
    [
        (ExplicitVRLittleEndian, "PHISECRET"),
        (ImplicitVRLittleEndian, "Zxqwvkjhgf"),
        (ExplicitVRBigEndian, "PHISECRET"),
        (DeflatedExplicitVRLittleEndian, "phi-secret"),
    ],
)
def test_planted_identifiers_are_nowhere(syntax: UID, mark: str) -> None:
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian, "iso8859")
    assert plant(dataset, mark) > 5000
    dataset["PixelData"].VR = "OW"
    dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 2) + (mark * 2).encode()
    dataset.preamble = (mark * 12).encode().ljust(128, b"x")
    dataset.file_meta.SourceApplicationEntityTitle = mark
    dataset.file_meta.PrivateInformationCreatorUID, dataset.file_meta.PrivateInformation = "1.2.3", mark.encode() + b" "
    data = raw(dataset)
    if syntax != DeflatedExplicitVRLittleEndian:
        assert data.count(mark.encode()) > 4000
    result = copy(data)
    if syntax == DeflatedExplicitVRLittleEndian:
        shown = parsed(result)
        shown.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        result = raw(shown)
    assert_absent(mark, result)
    after = parsed(result)
    assert len(after.PixelData) == dataset.Rows * dataset.Columns * 2
    assert after.ImageType == dataset.ImageType
    assert after.Modality == "CT"


@pytest.mark.parametrize(("charset", "encoding"), [("ISO_IR 100", "latin-1"), ("ISO_IR 192", "utf-8")])
def test_names_in_other_character_sets_are_nowhere(charset: str, encoding: str) -> None:
    name = "Jürgensström"
    dataset = ct(SpecificCharacterSet=charset, PatientName=f"{name}^Ähnlich", PatientID="Größe-4711")
    dataset.SeriesDescription, dataset.ProtocolName = f"Thorax {name}", "Kopf nach Jürgensström"
    dataset.ImageComments, dataset.Manufacturer = name, f"{name} SIEMENS"
    data = copy(dataset)
    for text in (name, "Größe-4711", "Ähnlich"):
        assert not [e for e in (encoding, "utf-16-le", "utf-16-be") if text.encode(e) in data]
    assert parsed(data).Modality == "CT"


@pytest.mark.parametrize(
    "tail", [b"PHISECRET after the end", b"\x00" * 500 + b"PHISECRET1", b"\x29\x00\x10\x00LO\x0a\x00PHISECRET1"]
)
def test_bytes_behind_the_object_are_not_copied(tail: bytes) -> None:
    with contextlib.suppress(ScanError):
        assert b"PHISECRET" not in copy(raw(ct()) + tail)


def test_compressed_pixels_keep_their_bytes_and_their_syntax() -> None:
    for path in READABLE:
        if path.name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"):
            before, after = pydicom.dcmread(path), cleaned(path.read_bytes())
            assert before.file_meta.TransferSyntaxUID == after.file_meta.TransferSyntaxUID
            assert before.PixelData == after.PixelData


def test_identifiers_of_the_patient_are_nowhere_even_as_numbers_or_words() -> None:
    number, name = "4711471199", "Thorax^Lung"  # a name of words that descriptors may hold
    dataset = ct(PatientID=number, PatientName=name, SeriesNumber=number, WindowCenter=[40, 80])
    dataset.ProtocolName, dataset.SeriesDescription = f"CT {number}", "Thorax 5mm"
    dataset.SoftwareVersions, dataset.PatientWeight = f"V1 {number[:5]}-{number[5:]}", number
    dataset.ImageComments, dataset.StudyID = f"see {number}", number
    dataset.BodyPartExamined, dataset.ScanOptions = "LUNG", number
    after = cleaned(dataset)
    data = copy(dataset)
    assert number.encode() not in data
    assert not after.get("SeriesDescription")
    assert not after.get("ProtocolName")
    assert after.BodyPartExamined == "LUNG"  # a coded value names a part of the body, not a person
    assert after.get("PatientWeight") is None


def test_identifier_in_pixel_data_is_not_copied() -> None:
    dataset = ct(PatientID="HOSP-4711-SECRET")
    mark = "hosp-4711-secret".encode("utf-16-le")
    dataset.PixelData = mark + dataset.PixelData[len(mark) :]
    with pytest.raises(ScanError, match="PHI_RESIDUAL_TAG"):
        copy(dataset)


def test_digits_within_coordinates_are_no_identifier() -> None:
    known = Identifiers()
    known.add(b"12345678")
    assert not known.left_in(b"-3.12345678\\12.123456789\\0.0")
    assert known.left_in(b"MRN12345678 ")
    assert known.left_in("x12345678".encode("utf-16-le"))


# ---------------------------------------------------------------------------------------------------------------- links


def links(images: Sequence[Dataset], structure: Dataset) -> dict[str, tuple[int, int]]:
    """By kind of reference of a structure: how many there are, and how many point to one of the images."""
    instances = {i.SOPInstanceUID for i in images}
    targets = {
        "SeriesInstanceUID": {i.SeriesInstanceUID for i in images},
        "FrameOfReferenceUID": {i.FrameOfReferenceUID for i in images},
        "ReferencedFrameOfReferenceUID": {i.FrameOfReferenceUID for i in images},
        "ReferencedSOPInstanceUID": instances,
        "StudyInstanceUID": {i.StudyInstanceUID for i in images},
    }
    found: dict[str, tuple[int, int]] = {}
    for path, element in elements(structure):
        keyword = keyword_for_tag(path[-1])
        if keyword in targets and (len(path) > 1 or keyword in ("FrameOfReferenceUID", "StudyInstanceUID")):
            total, held = found.get(keyword, (0, 0))
            found[keyword] = (total + 1, held + (element.value in targets[keyword]))
    return found


@pytest.mark.parametrize("stale", [False, True])
def test_links_of_structures_hold(stale: bool) -> None:
    images = tiny_dicom.series(6)
    contours = [tiny_dicom.circle(-40, -30, 100 + 3 * n, 5) for n in range(6)]
    structures = [tiny_dicom.structure_set(images, {"GTV-1": contours}, stale=stale), segmentation(images)]
    copies = [cleaned(i) for i in images]
    for structure in structures:
        before, after = links(images, structure), links(copies, cleaned(structure))
        assert before == after
        assert before["ReferencedSOPInstanceUID"][0] > 6
        held = before["ReferencedSOPInstanceUID"][1]
        assert held == 0 if stale and structure.Modality == "RTSTRUCT" else held > 0
    assert len({c.SOPInstanceUID for c in copies}) == 6
    assert copies[0].StudyInstanceUID == cleaned(structures[1]).StudyInstanceUID


def take_contours(dataset: Dataset) -> list[bytes]:
    """The bytes of all contours, removed from the object: to parse a million coordinates would take a while."""
    contours = [c for r in dataset.get("ROIContourSequence", []) for c in r.get("ContourSequence", [])]
    found = [c.get_item("ContourData").value for c in contours]
    for contour in contours:
        del contour.ContourData
    return found


def test_real_links_hold_and_no_identity_is_left(realdata) -> None:
    root = realdata("lung1") / "dicom"
    for folder in sorted(root.iterdir()):
        before, after = [], []
        for path in sorted(folder.glob("*.dcm"), key=lambda p: int(p.stem)):
            head = pydicom.dcmread(path, stop_before_pixels=True)
            if head.Modality not in ("CT", "RTSTRUCT"):
                continue
            if head.Modality == "CT" and len(before) > 12:
                continue
            original = path.read_bytes()
            data = copy(original, roi_names=["GTV-?[123]"])
            before.append(parsed(original))
            after.append(parsed(data))
            assert take_contours(before[-1]) == take_contours(after[-1])
            assert_no_identity(before[-1], after[-1], data)
            assert head.PatientID.encode() not in data
        images = [d for d in before if d.Modality == "CT"]
        for old, new in zip(before, after, strict=True):
            if old.Modality == "CT":
                assert old.PixelData == new.PixelData
                for keyword in ("ImagePositionPatient", "PixelSpacing", "RescaleIntercept", "KVP", "Manufacturer"):
                    assert old.get(keyword) == new.get(keyword)
                continue
            mine = links(images, old)
            assert mine == links([d for d in after if d.Modality == "CT"], new)
            for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID"):
                assert mine[keyword][0] == mine[keyword][1] > 0
            regions = [(r.ROINumber, str(r.ROIName)) for r in old.StructureSetROISequence]
            renamed = {r.ROINumber: str(r.ROIName) for r in new.StructureSetROISequence}
            assert all(renamed[n] == name for n, name in regions if name.startswith("GTV"))


def test_uptake_values_of_pet_stay(realdata) -> None:
    folder = realdata("sts") / "STS_001" / "PET" / "image"
    path = min(folder.glob("*.dcm"))
    before, after = pydicom.dcmread(path), cleaned(path.read_bytes())
    for keyword in ("PatientWeight", "Units", "DecayCorrection", "SeriesTime", "AcquisitionTime", "RescaleSlope"):
        assert before.get(keyword) == after.get(keyword) != "", keyword
    dose, kept = (d.RadiopharmaceuticalInformationSequence[0] for d in (before, after))
    for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"):
        assert dose.get(keyword) == kept.get(keyword), keyword
    code = kept.RadionuclideCodeSequence[0]
    assert (code.CodeValue, code.CodeMeaning) == tuple(
        dose.RadionuclideCodeSequence[0][k].value for k in ("CodeValue", "CodeMeaning")
    )


def test_uids_are_keyed_valid_and_the_same_everywhere() -> None:
    one, other = Key.of(b"a" * 32), Key.of(b"b" * 32)
    original = generate_uid()
    assert one.uid(original) == one.uid(original) != other.uid(original)
    assert len({one.uid(generate_uid()) for _ in range(2000)}) == 2000
    for _ in range(200):
        made = UID(one.uid(generate_uid()))
        assert made.is_valid
        assert made.startswith("2.25.")
        assert len(made) <= 64
    assert registered("1.2.840.10008.5.1.4.1.1.2")
    assert registered("1.2.840.10008.2.16.4")
    assert registered("1.2.840.10008.5.1.4.1.1.9999.1")  # a storage class newer than the dictionary
    assert not registered("1.2.840.10008.4711471147")
    assert not registered("1.2.826.0.1.3680043.8.498.1")


def test_empty_identifiers_become_different_ones() -> None:
    objects = tiny_dicom.series(3)
    for one in objects:
        one.SOPInstanceUID, one.SeriesInstanceUID = "", ""
        one.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    copies = [cleaned(o) for o in objects]
    assert len({c.SOPInstanceUID for c in copies}) == 3
    assert len({c.SeriesInstanceUID for c in copies}) == 1


# ----------------------------------------------------------------------------------------------------- dates and people


def test_dates_move_together_and_times_stay() -> None:
    dataset = ct(AcquisitionDateTime="20200131235959.5+0100", ContentDate="2020.03.01", SeriesDate="20200229")
    dataset.StudyDate, dataset.AcquisitionDate, dataset.StudyTime = "20200101", "202001", "120000.25"
    dataset.PatientBirthDate, dataset.SeriesTime, dataset.TimezoneOffsetFromUTC = "19600305", "Dr Miller", "+0100"
    after = cleaned(dataset)
    days = Key.of(SALT).days(PATIENT, 365, 3650)
    assert 365 <= days <= 3650

    def apart(a: str, b: str) -> int:
        return int(
            (np.datetime64(f"{a[:4]}-{a[4:6]}-{a[6:8]}") - np.datetime64(f"{b[:4]}-{b[4:6]}-{b[6:8]}")).astype(int)
        )

    assert apart("20200101", after.StudyDate) == days
    assert apart(after.SeriesDate, after.StudyDate) == 59
    assert apart(after.ContentDate, after.StudyDate) == 60
    assert apart(after.AcquisitionDateTime, after.StudyDate) == 30
    assert after.AcquisitionDateTime.endswith("235959.5+0100")
    assert (after.StudyTime == "120000.25" and not after.get("SeriesTime")) or after.SeriesTime == "000000"
    assert not after.get("AcquisitionDate")
    assert after.PatientBirthDate == ""
    assert after.PatientAge == "059Y"
    assert after.TimezoneOffsetFromUTC == "+0100"
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    assert Key.of(SALT).days("P-OTHER", 365, 3650) != days
    gone = cleaned(dataset, dates="remove")
    assert not gone.StudyDate
    assert not gone.StudyTime
    assert "TimezoneOffsetFromUTC" not in gone
    assert gone.LongitudinalTemporalInformationModified == "REMOVED"


def test_calendar() -> None:
    assert shift_date("20200301", 1) == "20200229"
    assert shift_date("2019.03.01", 1) == "20190228"
    assert shift_date("20200230", 1) == shift_date("2020", 1) == shift_date("00010101", 5) == ""
    assert shift_datetime("20200301123456.123456-0500", 366) == "20190301123456.123456-0500"
    assert shift_datetime("202003", 1) == shift_datetime("20200301123456 Miller", 1) == ""


def test_people() -> None:
    dataset = ct(PatientAge="095Y", PatientSex="F", PatientWeight="61.5", PatientSize="1.63", OperatorsName="Miller^A")
    dataset.OtherPatientIDs, dataset.PatientComments, dataset.SmokingStatus = "X-99-1234", "knows Dr. Miller", "NO"
    dataset.DeviceSerialNumber, dataset.StationName = "SN-123456", "CT-MILLER"
    after = cleaned(dataset)
    assert (after.PatientAge, after.PatientSex, after.PatientWeight) == ("090Y", "F", 61.5)
    assert not after.get("OperatorsName")
    assert "PatientComments" not in after
    assert "OtherPatientIDs" not in after
    assert after.DeviceSerialNumber.startswith("D-")
    assert after.StationName.startswith("D-")
    assert after.DeviceSerialNumber == cleaned(ct(DeviceSerialNumber="SN-123456")).DeviceSerialNumber
    bare = cleaned(dataset, patient_characteristics=False, device="remove")
    assert not bare.PatientSex
    assert "PatientAge" not in bare
    assert "PatientWeight" not in bare
    assert not str(bare.get("DeviceSerialNumber", "")).startswith(("D-", "SN"))
    kept = cleaned(dataset, device="keep")
    assert kept.DeviceSerialNumber == "SN-123456"
    assert "Miller" not in str(kept.get("StationName", ""))
    assert {c for c, _ in codes(DeidentifySettings(device="keep"))} - {c for c, _ in codes(DeidentifySettings())} == {
        "113109"
    }
    assert cleaned(ct(PatientAge="006M")).PatientAge == "006M"
    assert "PatientAge" not in cleaned(ct(PatientAge="old"))


def test_declaration() -> None:
    after = cleaned(ct())
    assert after.PatientIdentityRemoved == "YES"
    assert "2024e" in after.DeidentificationMethod
    said = {i.CodeValue for i in after.DeidentificationMethodCodeSequence}
    assert said == {"113100", "113105", "113107", "113108"}
    assert {i.CodingSchemeDesignator for i in after.DeidentificationMethodCodeSequence} == {"DCM"}


# ---------------------------------------------------------------------------------------------------------------- words

SAFE = [
    "Thorax", "CT Abdomen venous phase", "5/5mm Plain", "Lung 1.0 B30f", "t2_tse_sag", "GTV-1", "Spinal cord", "PTV 60",
    "Becken mit KM", "coeur sans injection", "Lung_L", "AX T1 FS POST", "PET WB 3D", "ADC (10^-6 mm/s)",
]  # fmt: skip
UNSAFE = {
    "CT Thorax Miller": "CT Thorax", "Miller": "", "Thorax 20180209": "Thorax", "Brain 02.08.1947": "Brain",
    "Lung 1947": "Lung", "Head 0049-30-1234567": "Head", "Dr. Xyzzy lung": "Dr. lung", "JANEDOE77 chest": "chest",
    "follow-up of M\u00fcller": "", "Tel 12 34 56 78": "", "Chest 12345678": "Chest", "RCCT020209": "",
}  # fmt: skip


def test_descriptors_keep_words_only() -> None:
    words = Words()
    for text in SAFE:
        assert words.clean(text, Identifiers()) == text
        assert words.whole(text, Identifiers())
    for text, left in UNSAFE.items():
        assert words.clean(text, Identifiers()) == left, text
        assert not words.whole(text, Identifiers())
    known = Identifiers()
    known.add(b"Head^Anna", name=True)
    known.add(b"LUNG1-001")
    for text in ("Head routine", "anna chest", "Chest lung1-001", "chest LUNG1 001"):
        assert words.clean(text, known) == "", text
    assert words.clean("Chest routine", known) == "Chest routine"
    assert Words(("xyzzy",)).clean("Xyzzy lung", Identifiers()) == "Xyzzy lung"


def test_technical_names_stay() -> None:
    words = Words()
    for text in (
        "SIEMENS", "GE MEDICAL SYSTEMS", "Biograph 40", "SOMATOM Definition AS+", "Aquilion ONE", "LightSpeed VCT",
        "syngo CT 2006A", "07MW18.4", "4.34.02", "B30f", "Br40d", "FC08", "BONEPLUS", "*tfl3d1", "VA44A", "I31f",
        "Ingenuity CT", "CMS, Inc.",
    ):  # fmt: skip
        assert words.clean(text, Identifiers(), technical=True) == text, text
    for text in ("Millerstone", "SN12345678", "20180209", "KlinikumBerlin3"):
        assert words.clean(text, Identifiers(), technical=True) == "", text


def test_region_names() -> None:
    images = tiny_dicom.series(3)
    names = ["GTV-1", "Lung L", "GTV Miller", "Dr_Xyzzy_special", "contour 20200101"]
    circle = [tiny_dicom.circle(-40, -30, 103, 5)]
    structure = tiny_dicom.structure_set(images, dict.fromkeys(names, circle))
    regions = cleaned(structure).StructureSetROISequence
    assert [r.ROIName for r in regions] == ["GTV-1", "Lung L", "ROI-3", "ROI-4", "ROI-5"]
    wanted = cleaned(structure, roi_names=["dr_.*"]).StructureSetROISequence
    assert [r.ROIName for r in wanted] == ["GTV-1", "Lung L", "ROI-3", "Dr_Xyzzy_special", "ROI-5"]
    images[0].PatientName = structure.PatientName = "Xyzzy^Anna"
    assert cleaned(structure, roi_names=["dr_.*"]).StructureSetROISequence[3].ROIName == "ROI-4"
    segments = cleaned(segmentation(images, label="Seen by Miller"), words=("by",)).SegmentSequence
    assert segments[0].SegmentLabel == "ROI-1"
    assert segments[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert cleaned(segmentation(images)).SegmentSequence[0].SegmentLabel == "Tumor"


def test_codes_of_public_schemes_stay() -> None:
    def one(value: str, scheme: str, meaning: str) -> tuple[str, str, str]:
        code, dataset = Dataset(), ct()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
        dataset.AnatomicRegionSequence = [code]
        item = cleaned(dataset).AnatomicRegionSequence[0]
        return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning

    assert one("39607008", "SCT", "Lung") == ("39607008", "SCT", "Lung")
    assert one("39607008", "SCT", "Lung of Jane Xyzzy")[::2] == ("39607008", "Lung")
    assert one("T-28000", "SRT", "Lung") == ("T-28000", "SRT", "Lung")
    assert one("JANEXYZZY", "99HOSPITAL", "Jane Xyzzy") == ("REMOVED", "99REMOVED", "REMOVED")
    assert one("JANEXYZZY", "SCT", "Lung") == ("REMOVED", "99REMOVED", "REMOVED")


# ---------------------------------------------------------------------------------------------------------------- table


def test_table_of_actions() -> None:
    """The table against the dictionary, and lines of PS3.15 table E.1-1 as printed."""
    from polycentric.deidentify.profile import _table

    table = _table()
    assert sum(bool(line.action) for line in table.values()) == 617  # 621 lines, four of them for repeating groups
    printed = {
        "PatientName": "Z", "PatientID": "ZD", "PatientBirthDate": "Z", "StudyInstanceUID": "U", "AccessionNumber": "Z",
        "OriginalAttributesSequence": "X", "RequestAttributesSequence": "X", "ROIName": "Z", "StructureSetLabel": "D",
        "OperatorsName": "XZD", "DeviceSerialNumber": "XZD", "IconImageSequence": "X", "TrackingUID": "U",
        "DigitalSignaturesSequence": "X", "SeriesDescription": "X", "FrameOfReferenceUID": "U", "ReviewerName": "XZ",
        "DataSetTrailingPadding": "X", "ContentSequence": "D", "PatientComments": "X", "DeviceUID": "U",
    }  # fmt: skip
    for keyword, action in printed.items():
        assert set(table[tag_for_keyword(keyword)].action) == set(action), keyword
    lines = Path(sources.__file__).with_name("deidentify").joinpath("attributes.tsv").read_text().splitlines()[1:]
    for line in lines:
        tag, keyword = line.split("\t")[:2]
        assert keyword_for_tag(int(tag, 16)) == keyword


def test_settings() -> None:
    for wrong in (
        {"shift_days": (10, 5)}, {"shift_days": (0, 400)}, {"shift_days": (365, 366)}, {"roi_names": ["("]},
        {"words": ["two words"]}, {"dates": "keep"},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            DeidentifySettings(**wrong)
    assert DeidentifySettings(words=("Xyzzy",)).words == ("xyzzy",)


# ----------------------------------------------------------------------------------------------------------- quarantine


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "PHI_BURNED_IN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "PHI_BURNED_IN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "PHI_BURNED_IN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}, "PHI_BURNED_IN"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "PHI_BURNED_IN"),
        ({"ConversionType": "WSD"}, "PHI_BURNED_IN"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "PHI_BURNED_IN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "PHI_OBJECT_UNKNOWN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "PHI_OBJECT_UNKNOWN"),
    ],
)  # fmt: skip
def test_quarantine(changes: dict[str, object], code: str) -> None:
    with pytest.raises(ScanError) as error:
        copy(ct(**changes))
    assert error.value.code == code


def test_quarantine_lets_images_through() -> None:
    assert cleaned(ct(BurnedInAnnotation="NO")).BurnedInAnnotation == "NO"
    assert cleaned(ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.1", BurnedInAnnotation="NO")).Modality == "CT"
    overlay = ct()
    overlay.add(DataElement(0x60000100, "US", 16))
    with pytest.raises(ScanError, match="overlay"):
        copy(overlay)
    with pytest.raises(ScanError, match="FILE_NOT_DICOM"):
        copy(b"\x89PNG" + bytes(500))


# ----------------------------------------------------------------------------------------------------------- validation


def errors(path: Path) -> Counter[str]:
    """Errors of dciodvfy without the values that they quote."""
    out = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, check=False)
    lines = (out.stderr + out.stdout).decode("latin-1").splitlines()
    return Counter(re.sub(r"<[^>]*>", "<>", line.strip()) for line in lines if line.startswith("Error"))


def assert_no_new_error(paths: Sequence[Path], tmp_path: Path) -> Counter[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not there: apt-get install dicom3tools")
    copied: Counter[str] = Counter()
    for path in paths:
        try:
            data = copy(path.read_bytes())
        except ScanError:
            continue
        target = tmp_path / "copy.dcm"
        target.write_bytes(data)
        before, after = errors(path), errors(target)
        new = [line for line in after if line not in before]
        assert not new, (path.name, new)
        copied[str(parsed(data).Modality)] += 1
    return copied


def test_no_new_error_in_test_files(tmp_path: Path) -> None:
    # pixel data that end early are declared shorter in a copy; curation rejects such files
    paths = [p for p in READABLE if p.name != "MR_truncated.dcm" and p.stat().st_size < 3_000_000]
    copied = assert_no_new_error([p for p in paths if "dicomdirtests" not in str(p)], tmp_path)
    assert min(copied["MR"] - 5, copied["CT"] - 3, copied["SEG"] - 1) >= 0, copied


def test_no_new_error_in_real_data(realdata, tmp_path: Path) -> None:
    root = realdata("lung1") / "dicom"
    paths = [p for folder in sorted(root.iterdir()) for p in sorted(folder.glob("1?.dcm"))[::3]]
    structures = [
        p for p in root.glob("*/*.dcm") if pydicom.dcmread(p, specific_tags=["Modality"]).Modality == "RTSTRUCT"
    ]
    paths += [min(structures, key=lambda p: p.stat().st_size)]  # the validator takes 4 s for a large one
    copied = assert_no_new_error(paths, tmp_path)
    assert copied["CT"] >= 10
    assert copied["RTSTRUCT"] >= 1


# ---------------------------------------------------------------------------------------------------------------- shard


def share(folder: Path, code: str = "code", **settings: object):
    """The manifest and the results folder of a folder of DICOM, through index, curation and cohort."""
    centre = pipeline.Centre(folder, folder.parent / f"{folder.name}-out")
    private, root = centre.private, centre.root
    if not centre.files.exists():
        # curation would reject it before; the copy must refuse it by itself
        pipeline.curated(folder, CurationSettings(verdicts={"PHI_BURNED_IN": "flag"}), log=LOG)
    options = DeidentifySettings(**settings)
    share_shard(
        root / "shards" / "north-0.tsv",
        private / "north-0.parquet",
        folder,
        settings=options,
        salt=SALT,
        root=root,
        manifest=root / "shareable" / "north-0.tsv",
        settings_json=options.model_dump_json(),
        code=code,
        log=LOG,
    )
    return tables.read(root / "shareable" / "north-0.tsv", SHAREABLE), root


def two_scans(folder: Path) -> tuple[list, list]:
    first, second = tiny_dicom.series(6, name="a"), tiny_dicom.series(5, name="b", patient="OTHER-PATIENT-9")
    for one in second:
        one.PatientName = "Roe^Richard"
    contours = {"GTV-1": [tiny_dicom.circle(-40, -30, 103, 5)]}
    tiny_dicom.save(folder / "Doe Jane", first, tiny_dicom.structure_set(first, contours))
    tiny_dicom.save(folder / "Roe", second)
    return first, second


def test_shard(tmp_path: Path) -> None:
    first, _ = two_scans(tmp_path / "in")
    rows, root = share(tmp_path / "in")
    assert set(rows["status"]) == {"ok"}
    assert len(rows) == 12
    assert Counter(rows["kind"]) == {"slice": 11, "structure": 1}
    for row in rows.to_dict("records"):
        assert row["path"].startswith(f"shareable/north-0/{row['patient']}/{row['session']}/{row['scan']}/")
        dataset = pydicom.dcmread(root / row["path"])
        assert dataset.PatientID == row["patient"]
    by_scan = rows[rows["kind"] == "slice"].groupby("scan")
    for _, part in by_scan:
        heights = [float(pydicom.dcmread(root / p).ImagePositionPatient[2]) for p in part.sort_values("number")["path"]]
        assert heights == sorted(heights)
    described = read_json(root / "shareable" / "deidentification.json")
    assert described["standard"].startswith("DICOM PS3.15")
    assert "shift_days" not in described["settings"]
    secrets = [tiny_dicom.PATIENT, "OTHER-PATIENT-9", "Doe", "Roe", "Richard", first[0].SeriesInstanceUID]
    days = {Key.of(SALT).days(p, 365, 3650) for p in set(rows["patient"])}
    for path in sorted((root / "shareable").rglob("*")):
        assert not any(s in str(path.relative_to(root)) for s in ("Doe", "Roe", *secrets[:2]))
        if path.is_file():
            data = path.read_bytes()
            assert not [s for s in secrets if s.encode() in data], path
            if path.suffix in (".json", ".tsv"):
                assert not any(re.search(rf"\b{d}\b", data.decode()) for d in days)


def test_shard_is_resumed_and_made_anew_with_other_settings(tmp_path: Path) -> None:
    two_scans(tmp_path / "in")
    rows, root = share(tmp_path / "in")
    paths = [root / p for p in rows["path"]]
    stamps = {p: p.stat().st_mtime_ns for p in paths}
    manifest = (root / "shareable" / "north-0.tsv").read_bytes()
    time.sleep(0.01)
    share(tmp_path / "in")
    assert {p: p.stat().st_mtime_ns for p in paths} == stamps
    content = paths[0].read_bytes()
    paths[0].unlink()
    share(tmp_path / "in")
    assert paths[0].read_bytes() == content
    assert (root / "shareable" / "north-0.tsv").read_bytes() == manifest
    extra = paths[0].with_name("00099.dcm")  # of an earlier selection of slices
    extra.write_bytes(b"old")
    again, _ = share(tmp_path / "in", device="remove", dates="remove")
    assert not extra.exists()
    assert paths[0].read_bytes() != content
    assert not pydicom.dcmread(root / again["path"].iloc[0]).StudyDate


def test_bad_files_are_rows(tmp_path: Path) -> None:
    _, second = two_scans(tmp_path / "in")
    second[2].BurnedInAnnotation = "YES"
    tiny_dicom.save(tmp_path / "in" / "Roe", second)
    structure = tmp_path / "in" / "Doe Jane" / "0006.dcm"
    share(tmp_path / "in")
    broken = pydicom.dcmread(structure)
    broken.BurnedInAnnotation = "YES"
    broken.save_as(structure)
    rows, root = share(tmp_path / "in", code="other")
    refused = rows[rows["status"] != "ok"].set_index("kind")
    assert set(refused.index) == {"scan", "structure"}
    assert refused.loc["scan", "reason"].startswith("PHI_BURNED_IN: slice 3")
    assert refused.loc["scan", "status"] == "rejected"
    assert refused.loc["structure", "reason"].startswith("PHI_BURNED_IN")
    assert len(rows) == 6 + 1 + 1
    assert not list((root / "shareable").rglob(f"{refused.loc['scan', 'scan']}/*"))
    (tmp_path / "in" / "Doe Jane" / "0001.dcm").unlink()
    rows, _ = share(tmp_path / "in", code="third")
    assert set(rows["reason"].str.split(":").str[0]) == {"FILE_UNREADABLE", "PHI_BURNED_IN"}


def test_files_of_archives(tmp_path: Path) -> None:
    data = raw(ct())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("deep/er.dcm", data)
    with sources.open_file(tmp_path, "a.zip//deep/er.dcm") as stream:
        assert stream.read() == data
