"""Radiomics features in PyRadiomics' definitions, behind IBSI's preparation of image and mask."""

from .extract import extract
from .imported import import_table
from .shard import extract_shard, merge

__all__ = ["extract", "extract_shard", "import_table", "merge"]
