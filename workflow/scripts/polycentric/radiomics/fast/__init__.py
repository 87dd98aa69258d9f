"""The fast engine: PyRadiomics' names and values, with one pass over the voxels per image and ROI.

It keeps PyRadiomics' definitions and its code for bin edges, directions and mesh tables, and replaces the loops.
"""

from .engine import Outline, compute

__all__ = ["Outline", "compute"]
