"""From evidence to facts: contrast agent, dose, coverage of a scan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config.examine import EstablishSettings

# What a source says, as odds for contrast agent: how often it says so with agent over how often without. Assumed, not
# fitted, with lies in mind: exporters and protocols leave agents in the header of native scans (10 to 1), an empty tag
# says little (1 to 4), descriptions are chosen by people for the series at hand.
ODDS: dict[str, dict[str, float]] = {
    "tag": {"yes": 10.0, "no": 0.25},
    "description": {"yes": 11.0, "no": 1 / 11.0},
}
MOST_OF_HEADER = math.log(20.0)  # tag and description come from one protocol and often lie together
UNDECIDED = 0.55
# CTDIvol per mAs at 120 kVp in the 32 cm phantom, mGy: 0.06 to 0.09 on scanners since 2000; grows as kVp ** 2.5
MGY_PER_MAS, KVP_POWER = 0.07, 2.5
CHEST = ("CHEST", "THORAX", "LUNG")
# kinds of MR image that a plainer name includes
FINER: dict[str, tuple[str, ...]] = {
    "T1": ("in-phase", "out-of-phase", "water", "fat", "other"),
    "T2": ("FLAIR", "STIR", "DWI", "ADC", "water", "fat", "other"),
    "PD": ("STIR", "water", "fat", "other"),
    "T2*": ("SWI", "DWI", "other"),
    "DWI": ("ADC",),
    "other": ("ADC",),
}


@dataclass(frozen=True)
class Contrast:
    """Status, the source that weighs most for it, its probability, and why a person should look (or empty)."""

    status: str
    source: str
    confidence: float | None
    why: str


def contrast(row: Mapping[str, Any], settings: EstablishSettings) -> Contrast:
    """Join tag, description and image by their odds (naive Bayes, even odds before).

    `row` has contrast (by the tags, or what the study assumes), contrast_tag, contrast_description, contrast_image,
    contrast_image_confidence and modality.
    """
    said = {"tag": row["contrast_tag"], "description": row["contrast_description"], "image": row["contrast_image"]}
    said = {source: value for source, value in said.items() if value in ("yes", "no")}
    is_ct = row["modality"] == "CT"
    if not said:
        if row["contrast"] != "unknown":
            return Contrast(row["contrast"], "assumed", None, "")
        return Contrast("unknown", "none", None, "nothing tells" if is_ct else "")
    weights = {source: _log_odds(source, value, row) for source, value in said.items()}
    header = weights.get("tag", 0.0) + weights.get("description", 0.0)
    total = max(-MOST_OF_HEADER, min(MOST_OF_HEADER, header)) + weights.get("image", 0.0)
    status = "yes" if total > 0 else "no"
    confidence = 1 / (1 + math.exp(-abs(total)))
    sign = 1 if total > 0 else -1
    source = max(weights, key=lambda name: sign * weights[name])
    if confidence < UNDECIDED:
        status, source = "unknown", "none"
    return Contrast(status, source, round(confidence, 4), _why(said, confidence, settings) if is_ct else "")


@dataclass(frozen=True)
class Kind:
    """Kind of an MR image, the source that decides it, and why a person should look (or empty)."""

    status: str
    source: str
    why: str


def sequence(row: Mapping[str, Any]) -> Kind:
    """The kind of an MR image, without regard to an agent: the description decides, the tags where it says nothing.

    Both may be right at different depth: the words name the fat-water image or FLAIR of what the times of the pulses
    call T1 or T2. A person is asked where they exclude each other, and where nothing tells.
    """
    if row["modality"] != "MR":
        return Kind("", "", "")
    tag, words = (row.get(name) or "unknown" for name in ("sequence_tag", "sequence_description"))
    if words == tag == "unknown":
        return Kind("unknown", "none", "nothing tells")
    if words == "unknown":
        return Kind(tag, "tag", "")
    # the image type of a fat-water or diffusion series names the very image
    if words in FINER.get(tag, ()) or tag == "unknown":
        return Kind(words, "description", "")
    if tag in FINER.get(words, ()):
        return Kind(tag, "tag", "")
    return Kind(words, "description", "" if words == tag else "description against tag")


def _log_odds(source: str, value: str, row: Mapping[str, Any]) -> float:
    if source != "image":
        return math.log(ODDS[source][value])
    p = min(float(row["contrast_image_confidence"]), 0.9999)
    return math.log(p / (1 - p)) * (1 if value == "yes" else -1)


def _why(said: Mapping[str, str], confidence: float, settings: EstablishSettings) -> str:
    against = [source for source in ("tag", "description") if said.get(source, said.get("image")) != said.get("image")]
    if "image" in said and against:
        return f"image against {' and '.join(against)}"
    if "image" not in said and len(set(said.values())) > 1:
        return "tag against description"
    return "uncertain" if confidence < settings.review_below else ""


def dose(row: Mapping[str, Any], settings: EstablishSettings) -> tuple[str, str]:
    """Low, standard or unknown, and what shows it: CTDIvol, else exposure and tube voltage, else the descriptions.

    The ACR-STR practice parameter for lung cancer screening sets CTDIvol <= 3 mGy for a patient of standard size. An
    exposure gives CTDIvol within a factor of about 1.5 only, so that near the limit the descriptions decide.
    """
    if row["modality"] != "CT":
        return "unknown", "none"
    limit, words = settings.low_dose_mgy, row.get("dose_words") or ""
    if (measured := _number(row.get("ctdi_mgy"))) is not None:
        return ("low" if measured <= limit else "standard"), "ctdi"
    exposure = _number(row.get("exposure_mas"))
    if exposure is not None:
        estimate = MGY_PER_MAS * exposure * ((_number(row.get("kvp")) or 120.0) / 120.0) ** KVP_POWER
        if not words or not limit / 1.5 < estimate < limit * 1.5:
            return ("low" if estimate <= limit else "standard"), "exposure"
    return (words, "description") if words else ("unknown", "none")


def _number(value: Any) -> float | None:
    """A positive number, or None: exporters write 0 for what they do not know."""
    return None if value is None or value != value or float(value) <= 0 else float(value)


def coverage(row: Mapping[str, Any]) -> tuple[str, str]:
    """Complete, incomplete or unknown, and why a person should look (or empty)."""
    status = {"yes": "complete", "no": "incomplete"}.get(str(row["covers_thorax"]), "unknown")
    chest = any(word in str(row.get("body_part") or "").upper() for word in CHEST) or row["body_part_image"] == "chest"
    return status, "the lungs are not clear" if status == "unknown" and row["modality"] == "CT" and chest else ""
