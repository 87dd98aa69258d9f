"""Which structure set, segmentation or mask image belongs to which scan, by identifiers and frame of reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .candidates import Candidate, Finding


@dataclass(frozen=True)
class Match:
    """A structure set (row label of the index) with the number of its candidate, or None, and what was found.

    `named` tells whether it names a series of the candidate; `frames` are the frames of reference that both have.
    """

    label: int
    candidate: int | None
    findings: tuple[Finding, ...]
    named: bool = False
    frames: tuple[str, ...] = ()


def match(structures: pd.DataFrame, candidates: list[Candidate]) -> list[Match]:
    """Map structure sets and segmentations to candidates of the same patient: each to all that it describes.

    The named series comes first, then a unique series of the same frame of reference. References to instances are
    advisory: after de-identification hardly any holds (153 of 155 public sarcoma files), while frame of reference and
    positions do. Contours of a series that was split belong to the volumes whose slices they name, or to all of them
    if they name none that exists. Which of several structure sets of a scan is used depends on the mask source and the
    region, so conversion chooses.
    """
    return [one for label, row in structures.iterrows() for one in _match(label, row, candidates)]


def facts(row: pd.Series) -> dict[str, Any]:
    """What the index tells of a structure set, segmentation or mask image."""
    return {"kind": "RTSTRUCT", "series": [], "frames": [], "instances": []} | json.loads(row["structure"] or "{}")


def copies(structures: pd.DataFrame) -> pd.Series:
    """Which files are copies of an earlier one of the patient.

    Pictures of equal content are masks of several slices, empty ones say, unless they are of the same slices.
    """
    of = [
        "\n".join(known["instances"]) if (known := facts(row))["kind"] == "image" else ""
        for _, row in structures.iterrows()
    ]
    return structures.assign(of=of).duplicated(["patient_id", "content_sha256", "of"])


def for_conversion(row: pd.Series, one: Match) -> str:
    """JSON for conversion (column `structure` of `FILES`): how to read a file, and what mask sources choose by."""
    known = facts(row)
    kept = {name: known.get(name, "") for name in ("kind", "label", "saved")}
    regions = [{k: r[k] for k in ("name", "value") if k in r} for r in known.get("regions", [])]
    # the description of the series is a column of its own in the index; a structure set may have another
    description = known.get("description") or row.get("series_description") or ""
    kept |= {"description": description, "regions": regions, "named": one.named, "frames": list(one.frames)}
    if known["kind"] == "image":  # pictures have no positions: they lie where their slices do, a set of them together
        kept |= {"instances": known["instances"], "set": row.get("series_uid") or ""}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def _match(label: Any, row: pd.Series, candidates: list[Candidate]) -> list[Match]:
    known = facts(row)
    # an object of an unwanted modality (the plan, the dose) shares the frame of reference but holds no slices
    own = [
        n
        for n, c in enumerate(candidates)
        if (c.files["patient_id"] == row["patient_id"]).all() and "MODALITY_WRONG" not in c.codes
    ]
    frames = {n: {*candidates[n].files["frame_uid"]} & {*known["frames"]} - {""} for n in own}
    named = [n for n in own if {*candidates[n].files["series_uid"]} & {*known["series"]} - {""}]
    framed = [n for n in own if frames[n]]
    if not (named or framed):
        return [Match(label, None, (Finding("RT_NO_IMAGE", "the images of these contours are not there"),))]
    findings: list[Finding] = []
    if not named:
        framed = [n for n in framed if candidates[n].verdict != "reject"] or framed
        if len(framed) > 1:
            reason = f"{len(framed)} series share the frame of reference, none is named"
            return [Match(label, None, (Finding("RT_NO_IMAGE", reason),))]
        # mask images of a table and segmentations may name no series at all
        if known["series"]:
            reason = "another series of the same frame of reference is named"
            findings.append(Finding("RT_SERIES_MISMATCH", reason))
    chosen = named or framed
    instances = {*known["instances"]}
    held = {n: len(instances & {*candidates[n].files["sop_instance"]}) for n in chosen}
    if any(held.values()):  # of the volumes of one series, those whose slices are named
        chosen = [n for n in chosen if held[n]]
    existing = sum(held[n] for n in chosen)
    if stale := len(instances) - existing:
        reason = f"{stale} of {len(instances)} slices named by contours do not exist"
        findings.append(Finding("RT_SOPREF_STALE", reason, before=stale, after="by position"))
    return [Match(label, n, tuple(findings), n in named, tuple(sorted(frames[n]))) for n in chosen]
