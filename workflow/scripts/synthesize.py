"""Translate the images of one shard by a synthesis model."""

import json
from functools import partial
from pathlib import Path

from polycentric import passing
from polycentric.config.synthesis import Synthesis
from polycentric.jobs import start
from polycentric.synthesis.apply import synthesize_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
tables = [Path(path) for path in snakemake.input.cohort] or [None, None]
make = partial(
    synthesize_shard,
    snakemake.wildcards.view,
    Synthesis.model_validate(job["synthesis"]),
    weights=Path(snakemake.input.weights),
    ledger=Path(snakemake.input.ledger),
    source=Path(snakemake.input.source),
    fold=snakemake.wildcards.fold,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    device=job["device"],
    direction=job["view"]["direction"],
    scans=tables[0],
    patients=tables[1],
    also=[Path(path) for path in snakemake.input.also],
    log=log,
)
passing.make(make, snakemake.input.get("record"), Path(snakemake.output.view), Path(snakemake.params.root))
