"""Make one view of one shard with a trained synthesis model."""

import json
from pathlib import Path

from polycentric.config.synthesis import Synthesis
from polycentric.jobs import start
from polycentric.synthesis.apply import synthesize_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
synthesize_shard(
    snakemake.wildcards.view,
    Synthesis.model_validate(job["synthesis"]),
    weights=Path(snakemake.input.weights),
    ledger=Path(snakemake.input.ledger),
    source=Path(snakemake.input.source),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.view),
    fold=snakemake.wildcards.fold,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    device=job["device"],
    direction=job["view"]["direction"],
    scans=Path(snakemake.input.cohort[0]) if snakemake.input.cohort else None,
    patients=Path(snakemake.input.cohort[1]) if snakemake.input.cohort else None,
    also=[Path(path) for path in snakemake.input.also],
    log=log,
)
