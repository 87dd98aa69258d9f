"""The study report: one HTML file that needs nothing outside, and the provenance behind it."""

from __future__ import annotations

from .build import build
from .inputs import AnalysisFiles, ModelFiles, ReaderFiles, ReportInputs
from .provenance import provenance

__all__ = ["AnalysisFiles", "ModelFiles", "ReaderFiles", "ReportInputs", "build", "provenance"]
