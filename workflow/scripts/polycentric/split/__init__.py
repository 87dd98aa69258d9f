"""Splits: patients to training, validation, test and external, before anything is fitted."""

from .assignment import assign, members_of

__all__ = ["assign", "members_of"]
