"""What the images themselves say about CT scans: contrast agent, coverage of the thorax, noise."""

from .facts import facts_of
from .shard import examine_shard

__all__ = ["examine_shard", "facts_of"]
