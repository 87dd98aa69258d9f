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
    files
        the files with the facts that the repair changes, in place of the candidate's.
    before, after
        the facts that the repair changes.
    repairable
        whether there is a repair; without one the finding rejects where the verdict is repair.
    """

    code: str
    reason: str
    drop: Labels = ()
    split: tuple[Labels, ...] = ()
    files: pd.DataFrame | None = None
    before: Any = None
    after: Any = None
    repairable: bool = True


@dataclass(frozen=True)
class Candidate:
    """Files of one series, or of one volume of it.

    files
        rows of the index that are still used, labelled as in the index.
    dropped, dropped_files
        (label, code) of files set aside, and their rows of the index.
    part
        number of the volume within the series, from 0, and within that volume, if it was divided again.
    """

    files: pd.DataFrame
    part: tuple[int, ...] = ()
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

    @property
    def dropped_paths(self) -> list[str]:
        return [self.dropped_files.loc[label, "path"] for label, _ in self.dropped]

    def repaired(self, code: str) -> bool:
        return any(f.code == code and verdict == "repair" for f, verdict in self.findings)

    def note(self, finding: Finding, verdict: Verdict) -> Candidate:
        findings = (*self.findings, (finding, verdict))
        if verdict != "repair" or not (finding.drop or finding.files is not None):
            noted = replace(self, findings=findings)
            if "stack" in self.__dict__:  # the same slices: no need to sort them again
                noted.__dict__["stack"] = self.stack
            return noted
        files = self.files if finding.files is None else finding.files
        return replace(
            self,
            findings=findings,
            files=files.drop(index=list(finding.drop)),
            dropped=(*self.dropped, *((label, finding.code) for label in finding.drop)),
            dropped_files=pd.concat([self.dropped_files, self.files.loc[list(finding.drop)]]),
        )

    def divide(self, parts: tuple[Labels, ...]) -> list[Candidate]:
        """The volumes of a candidate; what was set aside before is counted with the first of them."""
        return [
            replace(
                self,
                files=self.files.loc[list(labels)],
                part=(*self.part, number),
                dropped=self.dropped if number == 0 else (),
            )
            for number, labels in enumerate(parts)
        ]


Check = Callable[[Candidate, CurationSettings], Iterator[Finding]]


def examine(
    files: pd.DataFrame,
    checks: tuple[Check, ...],
    settings: CurationSettings,
    findings: tuple[Finding, ...] = (),
) -> list[Candidate]:
    """Run the checks in order; repairs take effect at once, a final rejection ends the examination.

    A repair may split a candidate; each part goes on with the checks that follow. `findings` were made before, such as
    that the files had been spread over several series.
    """
    candidate = Candidate(files)
    for finding in findings:
        candidate = candidate.note(finding, settle(finding, settings))
    return _examine(candidate, checks, settings)


def settle(finding: Finding, settings: CurationSettings) -> Verdict:
    """The verdict on a finding; what cannot be repaired is rejected where it should be."""
    verdict = settings.verdict(finding.code)
    return "reject" if verdict == "repair" and not finding.repairable else verdict


def _examine(candidate: Candidate, checks: tuple[Check, ...], settings: CurationSettings) -> list[Candidate]:
    for number, check in enumerate(checks):
        for finding in check(candidate, settings):
            verdict = settle(finding, settings)
            candidate = candidate.note(finding, verdict)
            if verdict == "repair" and finding.split:
                rest = checks[number + 1 :]
                return [done for part in candidate.divide(finding.split) for done in _examine(part, rest, settings)]
            if verdict == "reject" and CODES[finding.code].final:
                return [candidate]
    return [candidate]
