"""What was found while a mask was made, and what its verdicts make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.codes import CODES, ORDER, Verdict
from ..errors import ScanError


@dataclass
class Findings:
    """Findings of one mask. `verdicts` are those of the study file; the others are the default ones."""

    verdicts: Mapping[str, Verdict]
    notes: list[tuple[str, str]] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)

    def verdict(self, code: str) -> Verdict:
        return self.verdicts.get(code, CODES[code].default)

    def find(self, code: str, reason: str, *, repairable: bool = False, before: Any = None, after: Any = None) -> bool:
        """Note a defect; True if it is to be repaired, as `before` and `after` say.

        Raises
        ------
        ScanError
            if the verdict is reject, or repair where that is not possible.
        """
        verdict = self.verdict(code)
        if verdict == "reject" or (verdict == "repair" and not repairable):
            raise ScanError(code, reason)
        self.notes.append((code, reason))
        if verdict == "repair":
            self.made.append({"code": code, "before": before, "after": after})
        return verdict == "repair"

    def columns(self) -> dict[str, str]:
        """Codes, notes and repairs as columns of the manifest."""
        notes = sorted({*self.notes}, key=lambda n: (ORDER[n[0]], n[1]))
        return {
            "codes": ";".join(sorted({code for code, _ in notes}, key=ORDER.__getitem__)),
            "notes": "; ".join(f"{code}: {reason}" for code, reason in notes),
            "repairs": json.dumps(self.made, sort_keys=True) if self.made else "",
        }
