"""Synthesis: train a generator that translates images, make views with it.

`ENGINE_VERSION` is raised when training gives other weights from the same settings and scans.
"""

ENGINE_VERSION = "2"
