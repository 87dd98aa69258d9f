"""Simulated multi-centre cohorts: real DICOM and clinical tables whose truth is known.

`plan_cohort` draws the patients of all centres and writes the clinical table and the truth; `simulate_centre` writes
the DICOM files of one centre. Both depend on the seed and their settings alone.
"""

from .centre import simulate_centre
from .plan import plan_cohort

__all__ = ["plan_cohort", "simulate_centre"]
