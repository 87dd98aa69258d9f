"""Every quantity of docs/statistics.md against R, and the page against the command that writes it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from polycentric.tools import agreement_r

PROJECT = Path(__file__).parents[2]


@functools.cache
def compared() -> list[agreement_r.Row]:
    return agreement_r.rows(PROJECT / "tests" / "golden")


def test_every_quantity_agrees_with_r_as_stated() -> None:
    far = {row.quantity: row.difference for row in compared() if not row.agrees}
    assert not far
    # what is not drawn and follows R's definition agrees to rounding
    exact = [row for row in compared() if not row.note]
    assert len(exact) > 40
    assert all(row.difference < 1e-8 for row in exact)
    assert all(row.allowed <= 0.05 for row in compared())


def test_a_difference_would_be_seen() -> None:
    row = agreement_r.Row("x", "f", (1.0, 2.0), (1.0, 2.001), 1e-8)
    assert not row.agrees
    assert "**differs**" in agreement_r.table([row])


def test_the_page_is_what_the_command_writes() -> None:
    text = (PROJECT / agreement_r.PAGE).read_text()
    if agreement_r.page(text, compared()) != text:
        pytest.fail("docs/statistics.md is out of date: run python -m polycentric.tools.agreement_r")
