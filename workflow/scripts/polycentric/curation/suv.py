"""Standardised uptake values by body weight, from the header of PET.

Follows the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance (QIBA wiki, "Standardized Uptake
Value (SUV)", happy path and robust path).
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

LEAST_DOSE_BQ = 1e6
MOST_HALF_LIVES = 10.0
Facts = dict[str, Any]


class Uncomputable(Exception):
    """Says which fact is missing or cannot be true."""


def factors(files: pd.DataFrame) -> pd.Series:
    """g/mL per rescaled value for each slice.

    Raises
    ------
    Uncomputable
        if any slice lacks what it takes, naming the fact.
    """
    facts = {text: _facts(text) for text in set(files["pet"])}
    reference = _reference_time(list(facts.values()))
    found = {text: _factor(one, reference) for text, one in sorted(facts.items())}
    return files["pet"].map(found).astype(float)


def _facts(text: str) -> Facts:
    if not text:
        raise Uncomputable("the facts of the injection are not there")
    return json.loads(text)


def _factor(facts: Facts, reference: datetime | None) -> float:
    units = str(facts.get("Units") or "").upper()
    if units == "GML":
        kind = str(facts.get("SUVType") or "BW").upper()
        if kind != "BW":
            raise Uncomputable(f"values are uptake by {kind}, not by body weight")
        return 1.0
    if units == "CNTS":
        if (factor := _number(facts, "PhilipsSUVFactor")) is not None and factor > 0:
            return factor
        if (activity := _number(facts, "PhilipsActivityFactor")) is None or activity <= 0:
            raise Uncomputable("counts without a factor to activity or uptake")
        return activity * _per_becquerel(facts, reference)
    if units == "BQML":
        return _per_becquerel(facts, reference)
    raise Uncomputable(f"unit {units or 'not given'}")


def _per_becquerel(facts: Facts, reference: datetime | None) -> float:
    """g/mL per Bq/mL: body weight over the injected activity at the time to which the image is decay-corrected."""
    corrected = {str(c).strip().upper() for c in _several(facts.get("CorrectedImage"))}
    if "ATTN" not in corrected:
        raise Uncomputable("not corrected for attenuation")
    weight, dose = _number(facts, "PatientWeight"), _number(facts, "RadionuclideTotalDose")
    if weight is None or weight <= 0:
        raise Uncomputable("no body weight")
    if dose is None or dose <= 0:
        raise Uncomputable("no injected activity")
    if dose < LEAST_DOSE_BQ:
        raise Uncomputable(f"an injected activity of {dose:g} Bq cannot be")
    correction = str(facts.get("DecayCorrection") or "").upper()
    if correction == "ADMIN":
        return weight * 1000.0 / dose
    if correction != "START" or not corrected & {"DECY", "DECAY"}:
        raise Uncomputable(f"decay correction {correction or 'not given'}")
    half_life = _number(facts, "RadionuclideHalfLife")
    if half_life is None or half_life <= 0:
        raise Uncomputable("no half-life")
    if reference is None:
        raise Uncomputable("no time of the scan")
    elapsed = (reference - _injection(facts, reference)).total_seconds()
    if not 0 <= elapsed <= MOST_HALF_LIVES * half_life:
        raise Uncomputable(f"{elapsed / 60:.0f} minutes from injection to scan cannot be")
    return weight * 1000.0 / (dose * 2.0 ** (-elapsed / half_life))


def _injection(facts: Facts, reference: datetime) -> datetime:
    """Time of injection; a time without date is of the day of the scan, or of the day before if it lies after it."""
    if (full := _moment(str(facts.get("RadiopharmaceuticalStartDateTime") or "")[:14])) is not None:
        return full
    start = _moment(reference.strftime("%Y%m%d") + str(facts.get("RadiopharmaceuticalStartTime") or ""))
    if start is None or not facts.get("RadiopharmaceuticalStartTime"):
        raise Uncomputable("no time of injection")
    return start if start <= reference else start - timedelta(days=1)


def _reference_time(every: list[Facts]) -> datetime | None:
    """Time to which a series is decay-corrected.

    The series time, if no slice was acquired before it. A series that was processed again bears the time of that; then
    each slice's acquisition tells: its frame reference time is the mean-activity time of its frame since the reference.
    """
    acquired = [m for f in every if (m := _joined(f, "Acquisition")) is not None]
    series = min((m for f in every if (m := _joined(f, "Series")) is not None), default=None)
    if series is not None and (not acquired or series <= min(acquired)):
        return series
    traced = []
    for facts in every:
        moment, offset = _joined(facts, "Acquisition"), _number(facts, "FrameReferenceTime")
        half_life, duration = _number(facts, "RadionuclideHalfLife"), _number(facts, "ActualFrameDuration")
        if moment and offset and half_life and duration and half_life > 0 and duration > 0:
            traced.append(moment - timedelta(seconds=offset / 1000 - _mean_time(duration / 1000, half_life)))
    return min(traced) if len(traced) == len(every) and traced else min(acquired, default=None)


def _mean_time(duration: float, half_life: float) -> float:
    """Time within a frame at which the activity is the frame's mean, s."""
    decay = math.log(2) / half_life * duration
    return duration / decay * math.log(decay / (1 - math.exp(-decay)))


def _joined(facts: Facts, prefix: str) -> datetime | None:
    date, time = facts.get(f"{prefix}Date") or facts.get("SeriesDate"), facts.get(f"{prefix}Time")
    return _moment(f"{date}{time}") if date and time else None


def _moment(text: str) -> datetime | None:
    """YYYYMMDDHHMMSS, with or without colons, dots, seconds and their fraction."""
    text = text.replace(":", "").replace("-", "")
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or not 10 <= len(whole) <= 14:
        return None
    try:
        moment = datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    digits = "".join(c for c in fraction if c.isdigit())
    return moment + timedelta(seconds=float(f"0.{digits}")) if digits else moment


def _number(facts: Facts, name: str) -> float | None:
    try:
        value = float(facts.get(name))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else str(value or "").split("\\")
