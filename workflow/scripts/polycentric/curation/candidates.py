"""Candidate volumes: what a series holds, what was found, what was set aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from ..config.codes import CODES, ORDER, SEVERITY, Verdict
from ..config.curation import CurationSettings
from .geometry import Stack, positioned

Labels = tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """A defect of a candidate, and how it would be repaired.

    drop
        row labels of files that the repair sets aside.
    split
        row labels of the volumes into which the repair divides the candidate.
    before, after
        the facts that the repair changes.
    """

    code: str
    reason: str
    drop: Labels = ()
    split: tuple[Labels, ...] = ()
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Candidate:
    """Files of one series, or of one volume of it.

    files
        rows of the index that are still used, labelled as in the index.
    dropped, dropped_files
        (label, code) of files set aside, and their rows of the index.
    part
        number of the volume within the series, from 0.
    """

    files: pd.DataFrame
    part: int = 0
    findings: tuple[tuple[Finding, Verdict], ...] = ()
    dropped: tuple[tuple[int, str], ...] = ()
    dropped_files: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def stack(self) -> Stack | None:
        """The slices in order; None while any of them has no position."""
        if self.files.empty or not positioned(self.files).all():
            return None
        return Stack.of(self.files)

    @property
    def codes(self) -> list[str]:
        return sorted({finding.code for finding, _ in self.findings}, key=ORDER.__getitem__)

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict; what is wrong with contours flags a scan at most."""
        verdicts: list[Verdict] = ["accept"]
        for finding, verdict in self.findings:
            contours = CODES[finding.code].level == "structure"
            verdicts.append("flag" if contours and verdict != "accept" else verdict)
        return max(verdicts, key=SEVERITY.index)

    @property
    def rejecting(self) -> str:
        """The code under which a rejected candidate is counted: the first rejecting one of the registry."""
        codes = {f.code for f, v in self.findings if v == "reject" and CODES[f.code].level != "structure"}
        return min(codes, key=ORDER.__getitem__) if codes else ""

    @property
    def reason(self) -> str:
        return "; ".join(f"{f.code}: {f.reason}" for f, _ in sorted(self.findings, key=lambda e: ORDER[e[0].code]))

    @property
    def repairs(self) -> str:
        made = [
            {"code": f.code, "before": f.before, "after": f.after, "files": len(f.drop)}
            for f, verdict in self.findings
            if verdict == "repair"
        ]
        return json.dumps(made, sort_keys=True) if made else ""

    def note(self, finding: Finding, verdict: Verdict) -> Candidate:
        candidate = replace(self, findings=(*self.findings, (finding, verdict)))
        if verdict == "repair" and finding.drop:
            dropped = tuple((label, finding.code) for label in finding.drop)
            candidate = replace(
                candidate,
                files=self.files.drop(index=list(finding.drop)),
                dropped=(*self.dropped, *dropped),
                dropped_files=pd.concat([self.dropped_files, self.files.loc[list(finding.drop)]]),
            )
        return candidate


Check = Callable[[Candidate, CurationSettings], Iterator[Finding]]


def examine(files: pd.DataFrame, checks: tuple[Check, ...], settings: CurationSettings) -> list[Candidate]:
    """Run the checks in order; repairs take effect at once, a final rejection ends the examination.

    A repair may split a candidate; each part goes on with the checks that follow.
    """
    return _examine(Candidate(files), checks, settings)


def _examine(candidate: Candidate, checks: tuple[Check, ...], settings: CurationSettings) -> list[Candidate]:
    for number, check in enumerate(checks):
        for finding in check(candidate, settings):
            verdict = settings.verdict(finding.code)
            candidate = candidate.note(finding, verdict)
            if verdict == "repair" and finding.split:
                parts = [
                    replace(
                        candidate,
                        files=candidate.files.loc[list(labels)],
                        part=part,
                        dropped=candidate.dropped if part == 0 else (),
                    )
                    for part, labels in enumerate(finding.split)
                ]
                return [done for part in parts for done in _examine(part, checks[number + 1 :], settings)]
            if verdict == "reject" and CODES[finding.code].final:
                return [candidate]
    return [candidate]
