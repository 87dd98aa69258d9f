"""Estimates in words, for the summaries that analyses write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_words(facts: Mapping[str, Any], *, digits: int = 2) -> str:
    """An estimate with its interval, such as ``0.71 (95 % interval 0.64 to 0.74)``."""
    if facts.get("value") is None:
        return "not estimable"
    value = f"{facts['value']:.{digits}f}"
    if facts.get("lower") is None or facts.get("upper") is None:
        return f"{value} (no interval)"
    return f"{value} ({100 * facts['level']:g} % interval {facts['lower']:.{digits}f} to {facts['upper']:.{digits}f})"
