"""What tags and words say about the kind of MR images: T1, T2, FLAIR ..., in the words of scanners and hospitals."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable

import pandas as pd

UNKNOWN = "unknown"
WATER_FAT_PPM, MHZ_PER_T = 3.4, 42.577


def _found(*patterns: str) -> Callable[[str], bool]:
    search = re.compile(rf"(?<![a-z])({'|'.join(patterns)})", re.IGNORECASE).search
    return lambda text: search(text) is not None


_OTHER = _found(
    r"(t1|t2|t2\*|t1[-\s]?rho|t2[-\s]?star)[-\s]?map", r"molli", r"perf", r"(dsc|dce|pwi|asl|cb[fv])\b",
    r"swip?[-\s]?phase", r"tof(?![a-z])", r"mra\b", r"angio", r"locali[sz]er", r"scout", r"survey", r"pilot",
    r"(field|b[01])[-\s]?map", r"bold\b", r"fmri", r"spectro", r"csi\b",
)  # fmt: skip
_IN, _OUT = _found(r"in[-\s]?ph"), _found(r"(out|opp(osed|osite)?)[-\s]?(of[-\s]?)?ph")
# short forms count beside words for such images alone: "post op" is another matter
_DIXON = _found(r"m?dixon", r"dual", r"vibe", r"lava", r"ideal")
_IN_SHORT, _OUT_SHORT = _found(r"(ip|in)\b"), _found(r"(oo?p|opp|out)\b")
_PHASES = _found(
    r"(in|ip)\W{0,3}(and|und|et|e|y|&|/|-)?\W{0,3}(out|opp|op)", r"dual[-\s]?(echo\s)?.{0,8}(phase|ffe|fl\w*)"
)
# the most particular first; a text that names two of the plain weightings says nothing
_WORDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("ADC", _found(r"[de]?adc(?![a-z])", r"apparent[-\s]diff")),
    ("DWI", _found(r"dwi?bs|dwi", r"diff(?!er)", r"dti(?![a-z])", r"trace(w|\b)", r"b\s?=?\s?\d{3,4}\b")),
    ("SWI", _found(r"swi(?![a-z])", r"swan(?![a-z])", r"ven[-\s]?bold", r"susc")),
    ("water", _found(r"water(?![-\s]?(exc|sat|sup))")),
    ("fat", _found(r"fat[-\s]?(only|image|phase)\b")),
)
_FLAIR, _STIR = _found(r"flair", r"dark[-\s]?fluid", r"tirm.{0,6}(dark|df)"), _found(r"stir(?![a-z])", r"tirm")
_T2_STAR = _found(
    r"t2\s?\*", r"t2[-\s]?star", r"t2w?[-\s]?(gre?|ge|ffe|me|fl2d|fl3d|haem\w*|hemo\w*)\b", r"(haem|hemo)\b"
)
_PLAIN: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("T1", _found(r"t1(?!\d|\s?-\s?t?\d)", r"mp[-\s]?rage", r"bravo\b", r"f?spgr", r"vibe", r"lava\b", r"e?thrive")),
    ("T2", _found(r"t2(?!\d|\s?-\s?t?\d)", r"haste", r"ss[-\s]?fse", r"ss[-\s]?tse")),
    ("PD", _found(r"pd(w|\b|(?=[-\s]?(fs|tse|fse|spair)))", r"proton[-\s]?d", r"dp\b")),
)
_IMAGE_TYPES = {
    "IN_PHASE": "in-phase", "INPHASE": "in-phase", "IP": "in-phase", "IN": "in-phase",
    "OUT_PHASE": "out-of-phase", "OPP_PHASE": "out-of-phase", "OUTPHASE": "out-of-phase", "OP": "out-of-phase",
    "OUT": "out-of-phase", "OOP": "out-of-phase", "OPP": "out-of-phase", "WATER": "water", "W": "water", "FAT": "fat",
    "F": "fat", "ADC": "ADC", "EADC": "ADC", "DIFFUSION": "DWI", "TRACEW": "DWI", "SWI": "SWI",
}  # fmt: skip
_CONTRASTS = {  # Acquisition Contrast, PS3.3 C.8.13.3.1.2
    "DIFFUSION": "DWI", "FLUID_ATTENUATED": "FLAIR", "PROTON_DENSITY": "PD", "STIR": "STIR", "T1": "T1", "T2": "T2",
    "T2_STAR": "T2*", "FLOW_ENCODED": "other", "PERFUSION": "other", "SPIN_TAGGING": "other", "TAGGING": "other",
    "TOF": "other",
}  # fmt: skip


def by_description(files: pd.DataFrame) -> str:
    """The kind of image by the words of the series, else of the protocol, else by the name of the pulse sequence."""
    if not _magnetic(files):
        return ""
    for name in ("series_description", "protocol", "sequence"):
        columns = [name, "echo_time_ms", "field_t"]
        found = _most(files, columns, lambda text, echo, field: by_words(text, _number(echo), _number(field)))
        if found != UNKNOWN:
            return found
    return UNKNOWN


def by_tag(files: pd.DataFrame) -> str:
    """The kind of image by the image type, else the acquisition contrast, else the parameters of the pulse sequence."""
    if not _magnetic(files):
        return ""
    if (found := _most(files, ["image_type", "b_value"], _by_type)) != UNKNOWN:
        return found
    if (found := _most(files, ["acquisition_contrast"], lambda c: _CONTRASTS.get(c.upper(), UNKNOWN))) != UNKNOWN:
        return found
    columns = ["scanning_sequence", "sequence_variant", "echo_time_ms", "repetition_time_ms", "inversion_time_ms"]
    return _most(files, columns, lambda s, v, *times: by_parameters(s, v, *map(_number, times)))


def by_words(text: str, echo_ms: float | None = None, field_t: float | None = None) -> str:
    """The kind of image by one description; the echo time decides where it speaks of both phases of water and fat."""
    text = re.sub(r"[_,;:()\[\]]", " ", text)
    if _OTHER(text):
        return "other"
    short = _DIXON(text)
    inside, outside = _IN(text) or (short and _IN_SHORT(text)), _OUT(text) or (short and _OUT_SHORT(text))
    if _PHASES(text) or (inside and outside):
        return phase(echo_ms, field_t)
    if inside or outside:
        return "in-phase" if inside else "out-of-phase"
    if (found := next((kind for kind, said in _WORDS if said(text)), None)) is not None:
        return found
    plain = {kind for kind, said in _PLAIN if said(text)}
    if _FLAIR(text):
        return "T1" if plain == {"T1"} else "FLAIR"
    if _STIR(text):
        return "STIR"
    if _T2_STAR(text):
        return "T2*"
    return plain.pop() if len(plain) == 1 else UNKNOWN


def phase(echo_ms: float | None, field_t: float | None) -> str:
    """In or out of phase by the echo time: water and fat, 3.4 ppm apart, have turned whole or half times by then."""
    if not echo_ms or not field_t:
        return UNKNOWN
    turns = echo_ms / 1000 * WATER_FAT_PPM * MHZ_PER_T * field_t
    off = abs(turns - round(turns))
    return "in-phase" if off < 0.2 else "out-of-phase" if off > 0.3 else UNKNOWN


def by_parameters(
    scanning: str, variant: str, echo_ms: float | None, repetition_ms: float | None, inversion_ms: float | None
) -> str:
    """The kind of image by pulse sequence (SE, GR, IR, EP) and times in ms; what lies between the classes is unknown.

    Spin echo: T1 with a repetition below 1,200 and an echo below 35, PD with 1,500 or more and below 50, T2 with 1,500
    or more and 60 or more. After inversion: FLAIR from 1,500 on (with an echo of 60 or more), STIR up to 300 (with a
    repetition of 1,500 or more), T1 between 350 and 1,400 with an echo below 35. Gradient echo: T2* with an echo of 12
    or more, T1 with a spoiled or prepared one (SP, MP) below 8; echo-planar images are unknown.
    """
    kinds, variants = set(scanning.upper().split("\\")), set(variant.upper().split("\\"))
    if echo_ms is None or repetition_ms is None or "EP" in kinds:
        return UNKNOWN
    if inversion_ms:
        if inversion_ms >= 1500 and echo_ms >= 60:
            return "FLAIR"
        if inversion_ms <= 300 and "GR" not in kinds and repetition_ms >= 1500:
            return "STIR"
        return "T1" if 350 <= inversion_ms <= 1400 and echo_ms < 35 else UNKNOWN
    if "GR" in kinds:
        if echo_ms >= 12:
            return "T2*"
        return "T1" if echo_ms < 8 and variants & {"SP", "MP"} else UNKNOWN
    if "SE" not in kinds:
        return UNKNOWN
    if repetition_ms < 1200:
        return "T1" if echo_ms < 35 else UNKNOWN
    if repetition_ms < 1500:
        return UNKNOWN
    return "T2" if echo_ms >= 60 else "PD" if echo_ms < 50 else UNKNOWN


def _by_type(image_type: str, b_value: float) -> str:
    values = image_type.upper().split("\\")
    # the first two values are of every image; ADC goes before the diffusion that it comes from
    found = {_IMAGE_TYPES[v] for v in values[2:] if v in _IMAGE_TYPES} | {
        _CONTRASTS[v] for v in values[2:3] if v in _CONTRASTS
    }
    if "ADC" in found:
        return "ADC"
    if (_number(b_value) or 0) > 0:
        return "DWI"
    return found.pop() if len(found) == 1 else UNKNOWN


def _magnetic(files: pd.DataFrame) -> bool:
    return bool((files["modality"] == "MR").all())


def _most(files: pd.DataFrame, columns: list[str], judge: Callable[..., str]) -> str:
    """What most files say that say anything, if more than half of all do."""
    counts = Counter(map(tuple, files[columns].astype(object).itertuples(index=False, name=None)))
    said: dict[Hashable, int] = {}
    for values, count in counts.items():
        kind = judge(*values)
        said[kind] = said.get(kind, 0) + count
    best = max(said, key=lambda kind: (said[kind], str(kind)))
    return str(best) if said[best] * 2 > len(files) else UNKNOWN


def _number(value: object) -> float | None:
    number = float(value) if value not in (None, "") else math.nan  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
