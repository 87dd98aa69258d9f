"""Synthetic images as DICOM: DERIVED\\SECONDARY, with references to what they were made from."""

from .shard import export_shard

__all__ = ["export_shard"]
