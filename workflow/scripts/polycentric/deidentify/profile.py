"""What becomes of an attribute: the basic profile of PS3.15 with the options of a study, and what it leaves open.

``attributes.tsv`` holds, per attribute, the action of the basic profile (DICOM PS3.15 2024e, table E.1-1: X remove, Z
empty, D dummy, U another UID), the options that keep or clean it (D device identity, P patient characteristics, T
modified dates, W descriptors), and the strictest type that PS3.3 gives it, at the top level and in items, in the
objects that are copied: an attribute that must be there is emptied or replaced instead of removed. Attributes that
the table does not name are treated by their kind of value: text stays only word by word (`words`), numbers, codes and
UIDs are checked, everything else goes.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.datadict import keyword_for_tag as keyword_of

from ..config.deidentify import DeidentifySettings

EDITION = "2024e"
Fall = Literal["remove", "empty", "dummy"]
Kind = Literal[
    "age", "charset", "code", "date", "device", "device kept", "drop", "items", "lut", "number", "patient", "pixels",
    "roi", "sex", "technical", "time", "uid", "words", "zone",
]  # fmt: skip
SHORT_TEXT = frozenset({"LO", "SH", "UC"})
LONG_TEXT = frozenset({"LT", "ST", "UT"})
NUMERIC_TEXT = frozenset({"DS", "IS"})
NUMERIC = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "AT", "SV", "UV"})
BULK = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})


def _tags(*keywords: str) -> frozenset[int]:
    found = {tag_for_keyword(keyword) for keyword in keywords}
    assert None not in found
    return frozenset(found)  # type: ignore[arg-type]


# text that software or a vendor writes: models and versions are no words of a vocabulary
TECHNICAL = _tags(
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "ConvolutionKernelGroup",
    "FilterType", "FilterMaterial", "SequenceName", "PulseSequenceName", "ReceiveCoilName", "TransmitCoilName",
    "ReceiveCoilManufacturerName", "TransmitCoilManufacturerName", "MultiCoilElementName", "MultiCoilConfiguration",
    "ReconstructionMethod", "AttenuationCorrectionMethod", "ScatterCorrectionMethod", "ReconstructionAlgorithm",
    "ProcessingFunction", "ImagedNucleus", "ResonantNucleus", "RescaleType", "AcquisitionDeviceProcessingCode",
    "DetectorMode", "PixelSpacingCalibrationDescription", "CollimatorGridName", "ApplicationVersion",
    "AlgorithmVersion", "AlgorithmName", "SegmentAlgorithmName", "Radiopharmaceutical", "RadionuclideTotalDose",
    "FrameOfInterestType", "StackID", "AngioFlag", "TransducerData", "ContrastBolusAgent",
)  # fmt: skip
_PIXEL_DATA, _LUT_DATA = _tags("PixelData"), _tags("LUTData")
# not in the table, or written anew
_DROPPED = _tags(
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "CodingSchemeIdentificationSequence", "EncryptedAttributesSequence",
    "MACParametersSequence", "ContributingEquipmentSequence",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "PaletteColorLookupTableUID",
)  # fmt: skip
# the three numbers that people give: long ones are dates or numbers of an examination
ORDINALS = _tags("SeriesNumber", "AcquisitionNumber", "InstanceNumber")
_SPECIAL: dict[int, Kind] = {
    **dict.fromkeys(_tags("PatientName", "PatientID"), "patient"),
    **dict.fromkeys(_tags("ROIName", "SegmentLabel"), "roi"),
    **dict.fromkeys(_tags("TimezoneOffsetFromUTC"), "zone"),
    **dict.fromkeys(_tags("SpecificCharacterSet"), "charset"),
    **dict.fromkeys(_tags("PatientSex"), "sex"),
}


@dataclass(frozen=True)
class Rule:
    """Treatment of an attribute: what is checked or done, what happens if its value may not stay, at the top level and
    in items, whether its value identifies someone, and the value representations that it may have."""

    kind: Kind
    falls: tuple[Fall, Fall]
    identifies: bool
    vrs: tuple[str, ...]


@dataclass(frozen=True)
class _Line:
    action: str
    options: str
    types: tuple[str, str]


@cache
def _table() -> dict[int, _Line]:
    with Path(__file__).with_name("attributes.tsv").open(encoding="ascii", newline="") as stream:
        return {
            int(row["tag"], 16): _Line(
                row["action"].strip("-"), row["options"].strip("-"), (row["type"], row["nested"])
            )
            for row in csv.DictReader(stream, delimiter="\t")
        }


class Rules:
    """The rules of a study, each worked out when first asked for."""

    def __init__(self, settings: DeidentifySettings) -> None:
        self._settings = settings
        self._known: dict[int, Rule | None] = {}

    def of(self, tag: int) -> Rule | None:
        """The rule of an attribute; None for one that is private, unknown, a group length or part of an overlay or a
        curve, and goes."""
        if tag not in self._known:
            self._known[tag] = self._make(tag)
        return self._known[tag]

    def _make(self, tag: int) -> Rule | None:
        group, element = tag >> 16, tag & 0xFFFF
        # overlays and curves repeat over groups 60xx and 50xx
        if group % 2 or group < 0x0008 or element == 0 or group >> 8 in (0x50, 0x60):
            return None
        try:
            vrs = tuple(dictionary_VR(tag).split(" or "))
        except KeyError:
            return None
        if not keyword_of(tag):
            return None
        line = _table().get(tag, _Line("", "", ("3", "3")))
        kind = self._kind(tag, vrs, line)
        # a made-up age would be taken for one
        falls = ("remove", "remove") if kind == "age" else tuple(_fall(line.action, t) for t in line.types)
        text = vrs[0] in SHORT_TEXT | LONG_TEXT | {"AE"}
        identifies = vrs[0] == "PN" or (kind in ("drop", "device") and text and "W" not in line.options)
        return Rule(kind, falls, identifies or kind == "patient", vrs)  # type: ignore[arg-type]

    def _kind(self, tag: int, vrs: tuple[str, ...], line: _Line) -> Kind:
        vr, settings = vrs[0], self._settings
        if tag in _DROPPED:
            return "drop"
        if tag in _SPECIAL and (tag not in _tags("TimezoneOffsetFromUTC") or settings.dates == "shift"):
            special = _SPECIAL[tag]
            return "drop" if special == "sex" and not settings.patient_characteristics else special
        if not line.action:
            return _by_value(tag, vrs)
        if "T" in line.options and settings.dates == "shift" and vr in ("DA", "DT", "TM"):
            return "time" if vr == "TM" else "date"
        if "U" in line.action:
            return "items" if vr == "SQ" else "uid"
        if "P" in line.options and settings.patient_characteristics:
            return _by_value(tag, vrs)
        if "D" in line.options and vr in SHORT_TEXT | LONG_TEXT:
            if settings.device == "keep":
                return "device kept"
            # a description of a device is no number to tell devices apart
            return "device" if settings.device == "pseudonym" and vr in SHORT_TEXT else "drop"
        if "D" in line.options and vr == "SQ" and settings.device == "keep":
            return "items"
        if "W" in line.options and vr in SHORT_TEXT and settings.descriptors == "clean":
            return "technical" if tag in TECHNICAL else "words"
        if vr == "SQ" and line.action == "D":
            return "items"
        return "drop"


def _by_value(tag: int, vrs: tuple[str, ...]) -> Kind:
    """Attributes that the table leaves open."""
    vr = vrs[0]
    if tag in _PIXEL_DATA:
        return "pixels"
    if tag in _LUT_DATA:
        return "lut"
    if vr in NUMERIC or vr in NUMERIC_TEXT:
        return "number"
    if vr in SHORT_TEXT:
        return "technical" if tag in TECHNICAL else "words"
    kinds: dict[str, Kind] = {"SQ": "items", "UI": "uid", "CS": "code", "AS": "age", "DA": "date", "DT": "date"}
    return "time" if vr == "TM" else kinds.get(vr, "drop")


def _fall(action: str, kind: str) -> Fall:
    """What replaces a value that may not stay: the object must keep what its definition requires."""
    if kind == "1":
        return "dummy"
    if kind == "2":
        return "dummy" if action == "D" else "empty"
    if action in ("", "U") or "X" in action:
        return "remove"
    return "empty" if "Z" in action else "dummy"


def codes(settings: DeidentifySettings) -> list[tuple[str, str]]:
    """Codes and meanings of the profile and its options (PS3.16, context group 7050) that a copy conforms to."""
    found = [("113100", "Basic Application Confidentiality Profile")]
    if settings.descriptors == "clean":
        found.append(("113105", "Clean Descriptors Option"))
    if settings.dates == "shift":
        found.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    if settings.patient_characteristics:
        found.append(("113108", "Retain Patient Characteristics Option"))
    if settings.device == "keep":
        found.append(("113109", "Retain Device Identity Option"))
    return found
