"""Stability of features under repetition and perturbation, and selection by it."""

from .analysis import analyse
from .select import select

__all__ = ["analyse", "select"]
