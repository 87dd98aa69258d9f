"""A shareable copy of the accepted cohort: de-identified DICOM (PS3.15, annex E)."""

from .share import share_shard

__all__ = ["share_shard"]
