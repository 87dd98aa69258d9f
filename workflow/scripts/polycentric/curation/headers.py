"""Checks of what headers say apart from geometry: kind of object, identity, encoding, values, words."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..config.curation import CurationSettings
from . import contrast as words
from . import kernels, suv
from .candidates import Candidate, Finding
from .geometry import POSITION

Found = Iterator[Finding]
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# modalities that objects of a kind may have (DICOM PS3.3, the modules of each)
KINDS: dict[str, tuple[str, ...]] = {
    f"{_STORAGE}{kind}": modalities
    for kind, modalities in {
        "1": ("CR",), "1.1": ("DX",), "1.1.1": ("DX",), "1.2": ("MG",), "1.2.1": ("MG",), "1.3": ("IO",),
        "2": ("CT",), "2.1": ("CT",), "2.2": ("CT",),
        "3.1": ("US",), "6.1": ("US",), "4": ("MR",), "4.1": ("MR",), "4.3": ("MR",), "4.4": ("MR",),
        "12.1": ("XA",), "12.2": ("RF",), "13.1.3": ("MG",), "20": ("NM", "ST"),
        "128": ("PT",), "130": ("PT",), "128.1": ("PT",),
    }.items()
}  # fmt: skip
UNCOMPRESSED = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.98"}
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
# what GDCM (in SimpleITK) decodes; neither it nor pydicom decodes HTJ2K, JPEG XL, JPEG 2000 part 2, JPIP and video
LOSSLESS = {f"1.2.840.10008.1.2.{s}" for s in ("4.57", "4.70", "4.80", "4.90", "5")}
LOSSY = {f"1.2.840.10008.1.2.{s}" for s in ("4.50", "4.51", "4.81", "4.91")}
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
# modalities whose pictures show text as a rule, and words of screens that scanners store as images
_TEXT_IN_PICTURE = {"US", "ES", "XC", "GM", "SC", "OT"}
_SCREENS = re.compile(
    r"exam summary|dose (report|info|record|sheet)|patient protocol|protocol summary|screen\s?(save|shot|capture)|"
    r"dosisprotokoll|dosisbericht|patientenprotokoll",
    re.IGNORECASE,
)


def modality(c: Candidate, s: CurationSettings) -> Found:
    found = sorted(set(c.files["modality"]))
    if wrong := [m or "none" for m in found if m not in s.modalities]:
        yield Finding("MODALITY_WRONG", f"modality {', '.join(wrong)} is not among {', '.join(s.modalities)}")


def modality_tag(c: Candidate, s: CurationSettings) -> Found:
    """The modality against the kind of object, and against facts that only another modality has."""
    pairs = c.files[["sop_class", "modality"]].drop_duplicates()
    wrong = sorted({m or "none" for k, m in pairs.itertuples(index=False) if k in KINDS and m not in KINDS[k]})
    if wrong:
        yield Finding("MODALITY_TAG_SUSPECT", f"modality {', '.join(wrong)} for another kind of object")
        return
    magnetic = bool((c.files["field_t"] > 0).any() or (c.files["repetition_time_ms"] > 0).any())
    tube = bool((c.files["kvp"] > 0).any())
    named = set(c.files["modality"])
    if named == {"CT"} and magnetic and not tube:
        yield Finding("MODALITY_TAG_SUSPECT", "modality CT, but a magnetic field and no tube voltage")
    if named == {"MR"} and ((tube and not magnetic) or (c.files["rescale_type"].str.upper() == "HU").all()):
        yield Finding("MODALITY_TAG_SUSPECT", "modality MR, but a tube voltage or Hounsfield units")


def patient(c: Candidate, s: CurationSettings) -> Found:
    identifiers = set(c.files["patient_id"])
    named = int(c.files["patient_from_path"].sum())
    if "" in identifiers or named:
        empty = int((c.files["patient_id"] == "").sum())
        yield Finding(
            "PATIENT_ID_EMPTY",
            f"{empty + named} files name no patient",
            before=empty + named,
            after="by folder",
            repairable=not empty,
        )
    if len(identifiers - {""}) > 1:
        yield Finding("PATIENT_ID_CONFLICT", f"{len(identifiers - {''})} patient identifiers in one series")


def patients_by_path(table: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
    """The table with patients taken from the paths of files that name none, and a column that says where."""
    empty = (table["patient_id"] == "") & (table["modality"] != "")
    if pattern is None or not empty.any():
        table["patient_from_path"] = False
        return table
    search = re.compile(pattern).search
    found = pd.Series([m[1] or "" if (m := search(path)) else "" for path in table["path"]], index=table.index)
    taken = empty & (found != "")
    return table.assign(patient_id=table["patient_id"].where(~taken, found), patient_from_path=taken)


def identifiers(c: Candidate, s: CurationSettings) -> Found:
    """Identifiers that are absent or no UIDs (PS3.5, 9.1): what needs one gets a hash."""
    if (c.files["reading"] == "image").all():
        return
    for column, name in (("study_uid", "study"), ("series_uid", "series"), ("sop_instance", "instance")):
        values = c.files[column]
        bad = {v for v in set(values) if len(v) > 64 or not _UID.fullmatch(v)}
        if bad:
            count = int(values.isin(bad).sum())
            what = "without" if bad == {""} else "without valid"
            yield Finding(
                "UID_EMPTY_OR_INVALID", f"{count} files {what} {name} identifier", before=count, after="derived"
            )


def collision(c: Candidate, s: CurationSettings) -> Found:
    if count := int(c.files["collides"].sum()):
        yield Finding("UID_COLLISION", f"{count} files share their instance identifier with other images")


def collides(objects: pd.DataFrame) -> pd.Series:
    """Which files have an instance identifier that another file has for another image.

    Another position, orientation or matrix, or other pixels in the same encoding, make another image; files of equal
    pixels are copies, wherever they lie. Pixels are compared where the index has hashed them.
    """
    result = pd.Series(False, index=objects.index)
    named = objects[objects["sop_instance"] != ""]
    shared = named[named.duplicated("sop_instance", keep=False)]
    if shared.empty:
        return result
    looks = shared[[*POSITION, "orientation", "rows", "columns"]].copy()
    looks[POSITION] = looks[POSITION].round(3)
    look = looks.groupby(list(looks.columns), dropna=False).ngroup()
    different = look.groupby(shared["sop_instance"]).transform("nunique") > 1
    content = shared["content_sha256"].where(shared["content_sha256"] != "")
    different |= content.groupby([shared["sop_instance"], shared["transfer_syntax"]]).transform("nunique") > 1
    result[different[different].index] = True
    return result


def meta(c: Candidate, s: CurationSettings) -> Found:
    if forced := int((c.files["reading"] == "forced").sum()):
        yield Finding(
            "FILE_NO_META", f"{forced} files without preamble", before=forced, after="read as plain data sets"
        )


def captures(files: pd.DataFrame) -> pd.Series:
    """Pictures of screens. ORIGINAL\\SECONDARY and reformatted volumes with positions are ordinary in radiotherapy."""
    derived = files["image_type"].str.upper().str.startswith("DERIVED\\SECONDARY")
    derived &= files[POSITION].isna().any(axis=1) & (files["reading"] != "image")
    return (files["sop_class"].str.startswith(SECONDARY) | derived).astype(bool)


def secondary_capture(c: Candidate, s: CurationSettings) -> Found:
    if (found := int(c.files["capture"].sum())) * 2 > len(c.files):
        yield Finding("SECONDARY_CAPTURE", f"{found} of {len(c.files)} files are secondary captures")


def synthetic(c: Candidate, s: CurationSettings) -> Found:
    """What a model made says so; it must not pass for an acquisition without a word (PS3.3 C.12.1)."""
    if found := int((c.files["synthetic"].str.upper().str.strip() == "YES").sum()):
        yield Finding("SYNTHETIC_IMAGE", f"{found} of {len(c.files)} files are synthetic")


def planar_capture(c: Candidate, s: CurationSettings) -> Found:
    """Planar images have no positions, and archives store them as secondary captures: type and colour decide."""
    kind = c.files["image_type"].str.upper().str.split("\\").str[1]
    screen = (kind == "SECONDARY") | (c.files["sop_class"].str.startswith(SECONDARY) & (kind != "PRIMARY"))
    screen |= c.files["samples"].fillna(1) > 1
    screen &= c.files["reading"] != "image"
    if screen.any():
        yield Finding("SECONDARY_CAPTURE", f"{int(screen.sum())} of {len(c.files)} files are secondary captures")


def burned_in(c: Candidate, s: CurationSettings) -> Found:
    """The tag, modalities that write into their pictures unless the tag denies it, and words of stored screens."""
    said = c.files["burned_in"].str.upper().str.strip()
    # a screenshot among slices is set aside as such; it does not bring down the scan
    minority = c.files["capture"].sum() * 2 <= len(c.files)
    risk = (said == "YES") & ~(c.files["capture"] & minority)
    risk |= c.files["modality"].isin(_TEXT_IN_PICTURE) & (said != "NO") & (c.files["reading"] != "image")
    risk |= c.files["series_description"].map(lambda text: _SCREENS.search(text) is not None).astype(bool)
    if risk.any():
        yield Finding("PHI_BURNED_IN", f"{int(risk.sum())} of {len(c.files)} files may show an identity")


def residual_tags(c: Candidate, s: CurationSettings) -> Found:
    """Identifying elements in data that the study declares to be de-identified; elements are named, never values."""
    if not s.deidentified:
        return
    found = sorted({k for text in set(c.files["identifying"]) for k in text.split(";")} - {""})
    if found:
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        yield Finding("PHI_RESIDUAL_TAG", f"values in {', '.join(found[:8])}{more}")


def multiframe(c: Candidate, s: CurationSettings) -> Found:
    many = c.files["frame"].notna() & (c.files["reading"] != "image")
    if many.any():
        files = c.files.loc[many, "path"].nunique()
        yield Finding("MULTIFRAME_ENHANCED", f"{int(many.sum())} frames in {files} files")
    tiled = c.files["image_type"].str.upper().str.contains("MOSAIC", regex=False)
    if tiled.any():
        yield Finding("MOSAIC", f"{int(tiled.sum())} files are mosaics")


def truncated(c: Candidate, s: CurationSettings) -> Found:
    if cut := c.files.loc[c.files["truncated"].to_numpy(dtype=bool), "path"].nunique():
        yield Finding("FILE_TRUNCATED", f"pixel data of {cut} of {c.files['path'].nunique()} files are cut off")


def transfer_syntax(c: Candidate, s: CurationSettings) -> Found:
    syntaxes = set(c.files["transfer_syntax"])
    if names := sorted(syntaxes & LOSSLESS):
        yield Finding("TS_COMPRESSED_OK", f"transfer syntax {', '.join(names)}")
    lossy = c.files["lossy"].isin(["01", "1"]) | c.files["transfer_syntax"].isin(LOSSY)
    if lossy.any():
        yield Finding("TS_LOSSY", f"{int(lossy.sum())} files were compressed with loss")
    if BIG_ENDIAN in syntaxes:
        yield Finding("TS_BIG_ENDIAN", "explicit VR big endian")
    if DEFLATED in syntaxes:
        yield Finding("TS_DEFLATED", "deflated")
    if names := sorted(syntaxes - UNCOMPRESSED - LOSSLESS - LOSSY - {BIG_ENDIAN, DEFLATED}):
        yield Finding("TS_UNDECODABLE", f"transfer syntax {', '.join(names)} cannot be decoded")
    if len(syntaxes) > 1:
        yield Finding("SERIES_MIXED_TS", f"{len(syntaxes)} transfer syntaxes")


def rescale(c: Candidate, s: CurationSettings) -> Found:
    """Slope and intercept of CT and PET; whether CT needs none is for its pixels to prove, when they are converted."""
    slope, intercept = (c.files[n].to_numpy(dtype=float) for n in ("slope", "intercept"))
    lacking = np.isnan(slope) | np.isnan(intercept)
    if lacking.any() and set(c.files["modality"]) <= {"CT", "PT"}:
        yield Finding(
            "RESCALE_MISSING",
            f"{int(lacking.sum())} of {len(c.files)} files lack rescale slope or intercept",
            before=int(lacking.sum()),
            after="slope 1, intercept 0 if air is at -1000 HU",
            repairable=bool((c.files["modality"] == "CT").all()),
        )
    if (pairs := len(set(zip(slope[~lacking], intercept[~lacking], strict=True)))) > 1:
        yield Finding("RESCALE_VARIES", f"{pairs} pairs of slope and intercept")


def padding(c: Candidate, s: CurationSettings) -> Found:
    """Padding outside the field of view, stored as a value that no tissue has; conversion clips it."""
    if not (c.files["modality"] == "CT").all():
        return
    hu = c.files["padding_value"] * c.files["slope"] + c.files["intercept"]
    if (below := hu < -1024).any():
        yield Finding("HU_IMPLAUSIBLE", f"padding is stored as {hu[below].min():g} HU")


def uptake(c: Candidate, s: CurationSettings) -> Found:
    if (c.files["modality"] == "PT").all():
        try:
            suv.factors(c.files)
        except suv.Uncomputable as why:
            yield Finding("SUV_UNCOMPUTABLE", str(why))


def kernel(c: Candidate, s: CurationSettings) -> Found:
    if not (c.files["modality"] == "CT").all():
        return
    found = set(zip(c.files["kernel"], c.files["manufacturer"], strict=True))
    if any(name == "" for name, _ in found):
        yield Finding("KERNEL_MISSING", "the convolution kernel is not given")
    if s.kernels is not None:
        wrong = {name for name, maker in found if name and not kernels.wanted(name, maker, s.kernels)}
        if wrong:
            yield Finding("KERNEL_NOT_ALLOWED", f"{len(wrong)} kernels are not among {', '.join(s.kernels)}")


def contrast(c: Candidate, s: CurationSettings) -> Found:
    by_tag, described = words.by_tag(c.files), words.by_description(c.files)
    # a scan without agent often lacks the tag, so absence conflicts only with a description that names one
    if described != "unknown" and described != (by_tag if by_tag != "unknown" else "no"):
        agent = {"yes": "names an agent", "no": "is empty", "unknown": "is absent"}[by_tag]
        yield Finding("CONTRAST_CONFLICT", f"the contrast tag {agent}, the description says {described}")


def study_time(c: Candidate, s: CurationSettings) -> Found:
    """Times never group slices: three real patients would fall into 27 to 37 pieces each."""
    if (times := c.files["study_time"].nunique()) > 1:
        yield Finding("STUDYTIME_VARIES", f"{times} study times in one series")
