"""The study report: one HTML file that needs nothing outside, and the provenance behind it."""

from __future__ import annotations

from .build import build
from .inputs import AnalysisFiles, ModelFiles, ReaderFiles, ReportInputs, collect
from .provenance import PACKAGES, provenance

__all__ = ["PACKAGES", "AnalysisFiles", "ModelFiles", "ReaderFiles", "ReportInputs", "build", "collect", "provenance"]
