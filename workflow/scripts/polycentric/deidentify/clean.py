"""De-identify one data set in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ..config.deidentify import DeidentifySettings
from .identity import Identifiers, Key, registered, shift_date, shift_datetime
from .profile import BULK, EDITION, LONG_TEXT, NUMERIC, NUMERIC_TEXT, ORDINALS, SHORT_TEXT, Fall, Rule, Rules, codes
from .words import Words

IMPLEMENTATION_UID = "2.25.232146523873452341236719845123901276543"
IMPLEMENTATION = "POLYCENTRIC"
METHOD = f"DICOM PS3.15 {EDITION} Annex E, Polycentric"
_REMOVED = "REMOVED"
_DUMMIES = {
    "CS": "UNKNOWN", "DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y", "DS": "0", "IS": "0",
    "PN": "Removed", "UR": "urn:removed",
}  # fmt: skip
_CHARSETS = re.compile(r"(ISO_IR (6|13|1\d\d|203)|ISO 2022 IR \d{1,3}|GB18030|GBK)?")
_TIME = re.compile(r"([01]\d|2[0-3])(:?[0-5]\d(:?([0-5]\d|60)(\.\d{1,6})?)?)?")
_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_NUMBERS = re.compile(rb"[0-9+\-.eE \\\x00]*")
_NUMBER = re.compile(r"[+-]?(\d{1,17}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,3})?")
_SHORT_VALUE = 64
_ORDINAL_DIGITS = 7
_OLDEST = 90
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}
_CODE_TAGS = frozenset(
    int(tag_for_keyword(k) or 0)
    for k in (
        "CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning",
    )
)  # fmt: skip
_CODE_VALUE, _DESIGNATOR, _MEANING = (
    int(tag_for_keyword(k) or 0) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
)
_DESIGNATOR_VERSION = int(tag_for_keyword("CodingSchemeVersion") or 0)
_LOCAL_SCHEME = "99REMOVED"
# how the codes of public schemes look
_SCHEMES = {
    "SCT": r"\d{6,18}", "SRT": r"[A-Z]{1,2}\d?-[0-9A-Z]{4,6}", "SNM3": r"[A-Z]{1,2}\d?-[0-9A-Z]{4,6}",
    "99SDM": r"[A-Z]{1,2}\d?-[0-9A-Z]{4,6}", "DCM": r"\d{6}|[A-Z]{2,7}", "UCUM": r"[A-Za-z0-9%/.\[\]{}*^+'-]{1,7}",
    "LN": r"\d{1,6}-\d", "NCIt": r"C\d{3,6}", "FMA": r"\d{3,6}", "RADLEX": r"RID\d{1,6}", "UMLS": r"C\d{7}",
    "IBSI": r"[A-Z0-9]{4}", "MDC": r"[0-9:]{1,8}",
}  # fmt: skip


@dataclass
class Changes:
    """What was done to an object: attributes that went, and attributes with another value."""

    removed: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Policy:
    """Everything that the treatment of an object depends on, but for the object.

    `patient` is the pseudonym, `identifiers` what may stand nowhere (those of the object itself are added), and
    `fallback` gives UIDs of top-level attributes that must have one and are empty.
    """

    settings: DeidentifySettings
    key: Key
    patient: str
    identifiers: Identifiers = field(default_factory=Identifiers)
    fallback: dict[str, str] = field(default_factory=dict)

    @property
    def days(self) -> int:
        return self.key.days(self.patient, *self.settings.shift_days)


def identifiers_of(dataset: Dataset, rules: Rules, words: Words) -> Identifiers:
    """Identifiers that an object holds in attributes which the profile takes away, at any nesting level."""
    found = Identifiers()

    def collect(level: Dataset) -> None:
        for tag in list(level.keys()):
            rule = rules.of(tag)
            if rule is None:
                continue
            item = _item(level, tag, rule)
            if item is None:
                continue
            if item.VR == "SQ":
                for one in _sequence(level, tag):
                    collect(one)
            elif rule.identifies and item.VR not in BULK:
                for raw in _bytes(item):
                    ordinary = rule.kind != "patient" and rule.vrs[0] != "PN"
                    if ordinary and words.whole(raw.decode("latin-1"), Identifiers()):
                        continue  # a department called Radiology
                    found.add(raw, name=rule.vrs[0] == "PN")

    collect(dataset)
    return found


def deidentify(dataset: Dataset, policy: Policy, rules: Rules, words: Words) -> Changes:
    """Remove or replace what identifies someone, at every nesting level, and declare that in the object.

    Values that stay are not touched: pixel data and all other attributes keep their bytes, the object its encoding.
    The file meta information is written anew and the preamble zeroed. The caller must have collected the identifiers
    of the object (`identifiers_of`) into the policy.
    """
    cleaner = _Cleaner(policy, rules, words)
    age = _age(dataset) if policy.settings.patient_characteristics else None
    cleaner.level(dataset, nested=False)
    for keyword, original in policy.fallback.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, policy.key.uid(original))
    dataset.PatientID = dataset.PatientName = policy.patient
    if age is not None and not dataset.get("PatientAge"):
        dataset.PatientAge = age
    _declare(dataset, policy.settings)
    dataset.preamble = b"\0" * 128
    dataset.file_meta = _meta(dataset)
    return cleaner.changes


class _Cleaner:
    def __init__(self, policy: Policy, rules: Rules, words: Words) -> None:
        self._policy, self._rules, self._words = policy, rules, words
        self._days = policy.days
        self._roi_patterns = [re.compile(p, re.IGNORECASE) for p in policy.settings.roi_names]
        self._treatments = self._make_treatments()
        self.changes = Changes()

    def level(self, dataset: Dataset, *, nested: bool) -> None:
        """Treat the attributes of a data set or of an item of a sequence."""
        if nested and _DESIGNATOR in dataset:
            self._code_item(dataset)
        for tag in list(dataset.keys()):
            if nested and tag in _CODE_TAGS and _DESIGNATOR in dataset:
                continue
            rule = self._rules.of(tag)
            item = None if rule is None else _item(dataset, tag, rule)
            if rule is None or item is None:
                del dataset[tag]
                self.changes.removed += 1
                continue
            self._element(dataset, tag, item, rule, nested)

    def _element(self, dataset: Dataset, tag: int, item: Any, rule: Rule, nested: bool) -> None:
        vr, fall = str(item.VR), rule.falls[nested]
        if rule.kind == "drop" or not _fits(vr, rule.vrs):
            self._fall(dataset, tag, vr, rule, fall)
        elif vr == "SQ":
            for one in _sequence(dataset, tag):
                self.level(one, nested=True)
        elif rule.kind == "pixels":
            if nested:
                self._fall(dataset, tag, vr, rule, fall)
        elif rule.kind == "lut":
            if not _is_table(dataset, item):
                self._fall(dataset, tag, vr, rule, fall)
        elif vr in NUMERIC:
            pass
        elif rule.kind == "number":
            if not self._numbers(tag, item):
                self._fall(dataset, tag, vr, rule, fall)
        else:
            self._text(dataset, tag, item, rule, fall)

    def _text(self, dataset: Dataset, tag: int, item: Any, rule: Rule, fall: Fall) -> None:
        vr = str(item.VR)
        raw = _bytes(item)
        if not any(raw):
            return
        if not all(one.isascii() for one in raw) and rule.kind not in ("device", "patient", "uid"):
            self._fall(dataset, tag, vr, rule, fall)
            return
        old = [one.decode("ascii", errors="backslashreplace").strip(" \0") for one in raw]
        treat = self._treatments[rule.kind]
        new = [one and treat(one, vr, dataset) for one in old]
        if new == old:
            return
        if len(new) > 1 and any(new):  # values of a list are told apart by their places
            new = [n if n or not o else _DUMMIES.get(vr, _REMOVED) for n, o in zip(new, old, strict=True)]
        if not any(new):
            self._fall(dataset, tag, vr, rule, fall)
            return
        dataset[tag] = DataElement(tag, vr, new if len(new) > 1 else new[0])
        self.changes.changed += 1

    def _make_treatments(self) -> dict[str, Callable[[str, str, Dataset], str]]:
        """By kind: what becomes of one value (of a representation, in a data set); empty if nothing may stay."""
        key, known, words = self._policy.key, self._policy.identifiers, self._words
        shifted = self._policy.settings.dates == "shift"
        return {
            "uid": lambda v, vr, d: v if registered(v) else key.uid(v),
            "date": lambda v, vr, d: (shift_datetime if vr == "DT" else shift_date)(v, self._days) if shifted else "",
            "time": lambda v, vr, d: _if(v, shifted and _TIME.fullmatch(v)),
            "zone": lambda v, vr, d: _if(v, _ZONE.fullmatch(v)),
            "charset": lambda v, vr, d: _if(v, _CHARSETS.fullmatch(v)),
            "age": lambda v, vr, d: _capped(v),
            "sex": lambda v, vr, d: _if(v, v in ("M", "F", "O")),
            "code": lambda v, vr, d: _if(v, words.coded(v, known)),
            "words": lambda v, vr, d: words.clean(v, known),
            "technical": lambda v, vr, d: words.clean(v, known, technical=True),
            "device": lambda v, vr, d: key.device(v),
            "device kept": lambda v, vr, d: _if(v, not known.within(v)),
            "patient": lambda v, vr, d: self._policy.patient,
            "roi": lambda v, vr, d: self._roi(v, d),
        }

    def _roi(self, name: str, dataset: Dataset) -> str:
        """The name of a region if the study wants it or it says nothing but words, else its number."""
        known = self._policy.identifiers
        wanted = any(p.fullmatch(name) for p in self._roi_patterns) and name.isprintable() and not known.within(name)
        if wanted or (self._policy.settings.descriptors == "clean" and self._words.whole(name, known)):
            return name
        number = dataset.get("ROINumber", dataset.get("SegmentNumber", ""))
        return f"ROI-{number}" if str(number).isdigit() else _REMOVED

    def _numbers(self, tag: int, item: Any) -> bool:
        """Whether the values are numbers and no identifier of the patient; long lists are checked by their bytes."""
        value = item.value
        if isinstance(value, bytes) and len(value) > _SHORT_VALUE:
            return _NUMBERS.fullmatch(value) is not None
        for raw in _bytes(item):
            text = raw.decode("latin-1").strip(" \0")
            if not text:
                continue
            if not _NUMBER.fullmatch(text) or text.lower() in self._policy.identifiers.phrases:
                return False
            if tag in ORDINALS and len(text) > _ORDINAL_DIGITS:
                return False
        return True

    def _code_item(self, item: Dataset) -> None:
        """Keep the code of a public scheme with a meaning in words; replace any other."""
        known = self._policy.identifiers
        scheme = _first_text(item, _DESIGNATOR)
        value = _first_text(item, _CODE_VALUE)
        pattern = _SCHEMES.get(scheme)
        public = pattern is not None and re.fullmatch(pattern, value) is not None and not known.within(value)
        before = sorted(t for t in _CODE_TAGS if t in item)
        meaning = _first_text(item, _MEANING)
        if public and not self._words.whole(meaning, known):
            meaning = _meaning(scheme, value)
        elif not public:
            scheme, value, meaning = _LOCAL_SCHEME, _REMOVED, _REMOVED
        version = _first_text(item, _DESIGNATOR_VERSION)
        keep_version = public and re.fullmatch(r"[0-9.]{1,8}", version) is not None
        plain = set(before) <= {_CODE_VALUE, _DESIGNATOR, _MEANING, _DESIGNATOR_VERSION}
        if public and plain and keep_version == bool(version) and meaning == _first_text(item, _MEANING):
            return
        for tag in before:
            del item[tag]
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        if keep_version:
            item.CodingSchemeVersion = version
        self.changes.changed += len(before)

    def _fall(self, dataset: Dataset, tag: int, vr: str, rule: Rule, fall: Fall) -> None:
        """Replace a value that may not stay as far as the object's definition requires."""
        vr = vr if vr in rule.vrs else rule.vrs[0]
        if fall == "remove":
            del dataset[tag]
            self.changes.removed += 1
            return
        self.changes.changed += 1
        if vr == "SQ":
            dataset[tag] = DataElement(tag, vr, Sequence())
        elif fall == "empty":
            dataset[tag] = DataElement(tag, vr, None)
        elif vr == "UI":
            dataset[tag] = DataElement(tag, vr, self._policy.key.uid(f"dummy\x1f{tag:08x}"))
        elif vr in BULK:
            dataset[tag] = DataElement(tag, vr, b"\0\0")
        elif vr in NUMERIC:
            dataset[tag] = DataElement(tag, vr, 0)
        else:
            dataset[tag] = DataElement(tag, vr, _DUMMIES.get(vr, _REMOVED))


def _is_table(dataset: Dataset, item: Any) -> bool:
    """Whether a look-up table has the length that its descriptor says."""
    described = dataset.get("LUTDescriptor")
    if not described or not isinstance(item.value, bytes):
        return described is not None and not isinstance(item.value, bytes)
    entries = int(described[0]) or 2**16
    return len(item.value) in (entries + entries % 2, 2 * entries)


def _if(value: str, condition: object) -> str:
    return value if condition else ""


def _item(dataset: Dataset, tag: int, rule: Rule) -> Any:
    """The element as it was read, or converted where the file does not say what it is; None if that fails."""
    item = dataset.get_item(tag)
    if not isinstance(item, RawDataElement):
        return item
    if item.VR is None or item.VR == "UN":
        if item.VR is None and rule.vrs[0] not in ("SQ",):
            return item._replace(VR=rule.vrs[0])
        try:
            element = dataset[tag]
            if element.VR == "SQ" and item.VR == "UN":  # their items are encoded in another way than the file
                for one in element.value:
                    list(one.iterall())
            return element
        except Exception:  # whatever it holds, it cannot be checked
            return None
    return item


def _sequence(dataset: Dataset, tag: int) -> list[Dataset]:
    try:
        return list(dataset[tag].value or [])
    except Exception:  # unreadable items: nothing of them may stay
        dataset[tag] = DataElement(tag, "SQ", Sequence())
        return []


def _fits(vr: str, allowed: tuple[str, ...]) -> bool:
    """Whether a value representation is the dictionary's, or another of its kind."""
    if vr in allowed:
        return True
    return any(vr in family and allowed[0] in family for family in (NUMERIC, NUMERIC_TEXT, SHORT_TEXT))


def _bytes(item: Any) -> list[bytes]:
    """The values of an element as bytes; text that was converted already is encoded as UTF-8."""
    value = item.value
    if value is None:
        return []
    if isinstance(value, bytes):
        return [value] if item.VR in LONG_TEXT or item.VR == "UR" else value.split(b"\\")
    many = value if isinstance(value, list | tuple) or hasattr(value, "_list") else [value]
    return [str(one).encode("utf-8", errors="surrogateescape") for one in many]


def _first_text(dataset: Dataset, tag: int) -> str:
    if tag not in dataset:
        return ""
    raw = _bytes(dataset.get_item(tag))
    return raw[0].decode("latin-1").strip(" \0") if raw else ""


def _capped(age: str) -> str:
    """An age, at most 90 years: higher ones are rare enough to tell who someone is."""
    match = _AGE.fullmatch(age)
    if match is None:
        return ""
    old = int(match[1]) / _PER_YEAR[match[2]] >= _OLDEST
    return f"{_OLDEST:03d}Y" if old else f"{int(match[1]):03d}{match[2]}"


def _age(dataset: Dataset) -> str | None:
    """The age in years at the study, for objects that have a birth date only."""
    dates = [_first_text(dataset, int(tag_for_keyword(k) or 0)) for k in ("PatientBirthDate", "StudyDate")]
    if not all(re.fullmatch(r"\d{8}", d) for d in dates):
        return None
    born, studied = (int(d) for d in dates)
    years = (studied - born) // 10_000
    return _capped(f"{years:03d}Y") if 0 <= years < 130 else None


def _meaning(scheme: str, value: str) -> str:
    from pydicom.sr._concepts_dict import concepts

    for known in concepts.get(scheme, {}).values():
        if value in known:
            return str(known[value][0])[:64]
    return _REMOVED


def _declare(dataset: Dataset, settings: DeidentifySettings) -> None:
    """Say in the object what was done (PS3.15, E.1.1)."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = Sequence()
    for value, meaning in codes(settings):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        dataset.DeidentificationMethodCodeSequence.append(item)
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if settings.dates == "shift" else "REMOVED"


def _meta(dataset: Dataset) -> FileMetaDataset:
    """New file meta information with nothing of the old but the transfer syntax."""
    old = getattr(dataset, "file_meta", None)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(str(dataset.get("SOPClassUID", "")))
    meta.MediaStorageSOPInstanceUID = UID(str(dataset.get("SOPInstanceUID", "")))
    syntax = old.get("TransferSyntaxUID") if old is not None else None
    if not syntax:
        implicit, little = dataset.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
    meta.TransferSyntaxUID = UID(str(syntax))
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID(IMPLEMENTATION_UID), IMPLEMENTATION
    return meta


def with_identifiers(policy: Policy, dataset: Dataset, rules: Rules, words: Words) -> Policy:
    """The policy for an object: what identifies someone in it counts as well."""
    return replace(policy, identifiers=policy.identifiers.merged([identifiers_of(dataset, rules, words)]))
