"""Images for other programs: synthetic ones as DICOM (DERIVED\\SECONDARY, with references to what they were made
from), volumes and masks as NRRD."""

from .nrrd import export_nrrd
from .shard import Target, export_shard, target

__all__ = ["Target", "export_nrrd", "export_shard", "target"]
