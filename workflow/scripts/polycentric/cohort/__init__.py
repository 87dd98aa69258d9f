"""Cohort: the centres together, with the clinical table; scans, patients, participant flow, shards."""

from .assemble import CentreFacts, assemble
from .clinical import read_clinical

__all__ = ["CentreFacts", "assemble", "read_clinical"]
