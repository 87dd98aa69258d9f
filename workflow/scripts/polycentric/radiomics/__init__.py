"""Radiomics features in PyRadiomics' definitions, behind IBSI's preparation of image and mask."""

from .extract import Features, extract, extract_rois
from .imported import import_table
from .joined import join_features
from .shard import extract_shard, merge

__all__ = ["Features", "extract", "extract_rois", "extract_shard", "import_table", "join_features", "merge"]
