"""Polycentric: reproducible multi-centre imaging experiments.

One package per stage of the workflow. The library never imports snakemake, and stage packages import only
`config`, `tables`, `volumes` and the small modules beside this file, never each other.
"""

__version__ = "0.1.0"
