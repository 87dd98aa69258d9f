"""Views: resampling and treatment of intensities."""

from .shard import prepare_shard
from .steps import apply

__all__ = ["apply", "prepare_shard"]
