"""Reader studies: export blinded items and an offline page, take in the answers, analyse them."""

from __future__ import annotations

from .export import export
from .ingest import ingest

__all__ = ["export", "ingest"]
