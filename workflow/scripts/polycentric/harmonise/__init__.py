"""Harmonisation of feature sets between centres or scanners."""

from .combat import ComBat
from .sets import harmonise

__all__ = ["ComBat", "harmonise"]
