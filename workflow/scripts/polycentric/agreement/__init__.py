"""Agreement of features with those of another extraction."""

from .analysis import analyse

__all__ = ["analyse"]
