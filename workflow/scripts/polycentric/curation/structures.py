"""Which structure set belongs to which scan, by identifiers and by frame of reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..config.curation import CurationSettings
from .candidates import Candidate, Finding


@dataclass(frozen=True)
class Match:
    """A structure set (row label of the index) with the number of its candidate, or None, and what was found."""

    label: int
    candidate: int | None
    findings: tuple[Finding, ...]


def match(structures: pd.DataFrame, candidates: list[Candidate], settings: CurationSettings) -> list[Match]:
    """Map structure sets to candidates of the same patient.

    The named series comes first, then a unique series of the same frame of reference. References to instances are
    advisory: after de-identification hardly any holds (153 of 155 public sarcoma files), while frame of reference and
    positions do. Of several structure sets for one candidate `settings.multiple_structures` chooses.
    """
    matches = [_match(label, row, candidates) for label, row in structures.iterrows()]
    by_candidate: dict[int, list[Match]] = {}
    for one in matches:
        if one.candidate is not None and not _rejected(one, settings):
            by_candidate.setdefault(one.candidate, []).append(one)
    refused: set[int] = set()
    for several in by_candidate.values():
        if len(several) > 1 and settings.multiple_structures != "all":
            refused |= _surplus(several, structures, settings)
    reason = "several structure sets for one scan"
    return [
        Match(m.label, m.candidate, (*m.findings, Finding("RT_MULTIPLE_FOR_SERIES", reason)))
        if m.label in refused
        else m
        for m in matches
    ]


def _rejected(one: Match, settings: CurationSettings) -> bool:
    return any(settings.verdict(f.code) == "reject" for f in one.findings)


def _surplus(several: list[Match], structures: pd.DataFrame, settings: CurationSettings) -> set[int]:
    labels = [m.label for m in several]
    if settings.multiple_structures == "latest":
        saved = {n: (_facts(structures.loc[n])["saved"], structures.loc[n, "sop_instance"]) for n in labels}
        labels.remove(max(labels, key=saved.__getitem__))
    return set(labels)


def _facts(row: pd.Series) -> dict[str, Any]:
    return json.loads(row["structure"])


def _match(label: Any, row: pd.Series, candidates: list[Candidate]) -> Match:
    facts = _facts(row)
    # an object of an unwanted modality (the plan, the dose) shares the frame of reference but holds no slices
    own = [
        n
        for n, c in enumerate(candidates)
        if (c.files["patient_id"] == row["patient_id"]).all() and "MODALITY_WRONG" not in c.codes
    ]
    named = [n for n in own if set(candidates[n].files["series_uid"]) & set(facts["series"])]
    framed = [n for n in own if set(candidates[n].files["frame_uid"]) & set(facts["frames"])]
    if not (named or framed):
        return Match(label, None, (Finding("RT_NO_IMAGE", "the images of these contours are not there"),))
    findings: list[Finding] = []
    chosen = named or framed
    if not named:
        findings.append(
            Finding("RT_SERIES_MISMATCH", f"another series is named, {len(framed)} share the frame of reference")
        )
    if len(chosen) > 1:  # volumes split from one series, or several series in one frame: prefer what can be used
        usable = [n for n in chosen if candidates[n].verdict != "reject"]
        chosen = usable or chosen
    if len(chosen) > 1 and not named:
        return Match(
            label, None, (Finding("RT_NO_IMAGE", f"{len(chosen)} series share the frame of reference, none is named"),)
        )
    candidate = candidates[chosen[0]]
    instances = set(facts["instances"])
    if stale := len(instances - set(candidate.files["sop_instance"])):
        findings.append(
            Finding(
                "RT_SOPREF_STALE",
                f"{stale} of {len(instances)} slices named by contours do not exist",
                before=stale,
                after="by position",
            )
        )
    return Match(label, chosen[0], tuple(findings))
