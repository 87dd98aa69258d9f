"""Views: resampling, treatment of intensities, isolation of regions, in steps that combine."""

from .context import Context
from .fit import fit_view
from .shard import prepare_shard
from .steps import apply

__all__ = ["Context", "apply", "fit_view", "prepare_shard"]
