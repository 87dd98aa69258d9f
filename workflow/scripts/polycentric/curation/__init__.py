"""Curation: which candidate volumes are accepted, repaired how, why not the others."""

from .curate import curate

__all__ = ["curate"]
