"""Quick-look pictures: three planes of every scan with all outlines, to be looked through by a person."""

from .shard import QUICKLOOK, quicklook_shard

__all__ = ["QUICKLOOK", "quicklook_shard"]
