"""Index: one row per file of a centre's folder. It decides nothing."""

from .build import build

__all__ = ["build"]
