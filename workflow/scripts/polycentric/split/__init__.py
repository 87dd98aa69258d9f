"""Splits: patients to training, validation, test and external, before anything is fitted."""

from .assignment import assign

__all__ = ["assign"]
