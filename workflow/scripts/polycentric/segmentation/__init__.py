"""Segmentation: train a network that outlines a region, make mask sources with it.

`ENGINE_VERSION` is raised when training gives other weights from the same settings, scans and masks.
"""

ENGINE_VERSION = "2"
