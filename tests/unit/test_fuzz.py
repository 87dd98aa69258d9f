"""Mutated files: no hang, no crash, no memory beyond bounds, and every file a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
from polycentric.config.codes import CODES
from polycentric.tables.private import READINGS


def check(paths: list[Path], numbers: range) -> None:
    outcomes = list(fuzzing.sweep(paths, numbers))
    assert [o.number for o in outcomes] == list(numbers)
    for outcome in outcomes:
        assert set(outcome.decoded) <= {"ok", *CODES}, outcome
        assert set(outcome.readings) <= set(READINGS), outcome
        assert outcome.readings or outcome.kind == "archive", outcome
        assert outcome.curated in ("", "ok"), outcome
        assert outcome.seconds < 5, outcome
        assert outcome.peak_bytes < 1e9, outcome
    # the mutants do harm, and not all of it is fatal
    assert {"ok", "not-dicom", "unreadable", "archive"} <= {r for o in outcomes for r in o.readings}
    assert {"ok", "TS_UNDECODABLE"} <= {d for o in outcomes for d in o.decoded}


def test_mutants_are_the_same_every_time() -> None:
    paths = fuzzing.seeds()
    assert [fuzzing.mutant(paths, n) for n in range(5)] == [fuzzing.mutant(paths, n) for n in range(5)]
    assert {fuzzing.mutant(paths, n)[0] for n in range(200)} == set(fuzzing.KINDS)


def test_hundreds_of_mutants() -> None:
    check(fuzzing.seeds(), range(300))


@pytest.mark.slow
@pytest.mark.realdata
def test_twenty_thousand_mutants(realdata: Callable[[str], Path]) -> None:
    names = ("lung1", "sts", "ibsi", "dicom_defects", "gantry_tilt", "bone_scan", "chaos_ct")
    check(fuzzing.seeds(*(realdata(name) for name in names)), range(20_000))
