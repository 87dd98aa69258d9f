"""Estimate the space that the images of the study take, and compare it with what is free."""

import json
from pathlib import Path

from polycentric.jobs import start
from polycentric.space import check

log = start(snakemake)
plan = json.loads(snakemake.params.settings)
check(
    Path(snakemake.input.curation),
    plan,
    root=Path(snakemake.params.root),
    output=Path(snakemake.output[0]) if snakemake.output else None,
    strict=False,  # the jobs that make images stop; here it is told
    log=log,
)
