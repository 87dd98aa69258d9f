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
    positions do. Contours of a series that was split belong to the volumes whose slices they name, or to all of them
    if they name none that exists. Of several structure sets for one candidate `settings.multiple_structures` chooses.
    """
    matches = [one for label, row in structures.iterrows() for one in _match(label, row, candidates)]
    by_candidate: dict[int, list[Match]] = {}
    for one in matches:
        if one.candidate is not None and not _rejected(one, settings):
            by_candidate.setdefault(one.candidate, []).append(one)
    refused: set[tuple[int, int]] = set()
    for number, several in by_candidate.items():
        if len(several) > 1 and settings.multiple_structures != "all":
            refused |= {(label, number) for label in _surplus(several, structures, settings)}
    reason = "several structure sets for one scan"
    more = Finding("RT_MULTIPLE_FOR_SERIES", reason)
    return [
        Match(m.label, m.candidate, (*m.findings, more)) if (m.label, m.candidate) in refused else m for m in matches
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


def _match(label: Any, row: pd.Series, candidates: list[Candidate]) -> list[Match]:
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
        return [Match(label, None, (Finding("RT_NO_IMAGE", "the images of these contours are not there"),))]
    findings: list[Finding] = []
    if not named:
        framed = [n for n in framed if candidates[n].verdict != "reject"] or framed
        if len(framed) > 1:
            reason = f"{len(framed)} series share the frame of reference, none is named"
            return [Match(label, None, (Finding("RT_NO_IMAGE", reason),))]
        findings.append(Finding("RT_SERIES_MISMATCH", "another series of the same frame of reference is named"))
    chosen = named or framed
    instances = set(facts["instances"])
    held = {n: len(instances & set(candidates[n].files["sop_instance"])) for n in chosen}
    if any(held.values()):  # of the volumes of one series, those whose slices are named
        chosen = [n for n in chosen if held[n]]
    existing = sum(held[n] for n in chosen)
    if stale := len(instances) - existing:
        reason = f"{stale} of {len(instances)} slices named by contours do not exist"
        findings.append(Finding("RT_SOPREF_STALE", reason, before=stale, after="by position"))
    return [Match(label, n, tuple(findings)) for n in chosen]
