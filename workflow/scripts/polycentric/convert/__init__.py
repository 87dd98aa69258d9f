"""Conversion: volumes and contour masks on the scan's own grid."""

from .shard import convert_shard

__all__ = ["convert_shard"]
