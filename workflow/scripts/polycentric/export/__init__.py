"""Images for other programs: synthetic ones as DICOM (DERIVED\\SECONDARY, with references to what they were made
from), volumes and masks as NRRD."""

from .nrrd import export_nrrd
from .shard import export_shard

__all__ = ["export_nrrd", "export_shard"]
