"""Index one centre: one row per file, reusing rows of unchanged files."""

import json
from pathlib import Path

from polycentric.index import build
from polycentric.jobs import start

log = start(snakemake)
build(
    snakemake.wildcards.centre,
    Path(json.loads(snakemake.params.settings)["images"]),
    output=Path(snakemake.output.table),
    previous=Path(snakemake.params.previous),
    only=Path(snakemake.input.fetched[0]) if snakemake.input.fetched else None,
    log=log,
    workers=snakemake.threads,
)
