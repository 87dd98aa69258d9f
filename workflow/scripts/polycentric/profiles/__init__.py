"""Profiles of images: every axial slice by its layer, histogram, spectrum and features of a fixed network.

Torch is imported by the networks alone. What the evaluation of synthetic images compares are these profiles.
"""
