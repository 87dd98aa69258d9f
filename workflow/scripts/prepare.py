"""Make one view of one shard."""

import json
from pathlib import Path

from polycentric.config.views import View
from polycentric.jobs import start
from polycentric.prepare import prepare_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
prepare_shard(
    snakemake.wildcards.view,
    View.model_validate(job["view"]),
    source=Path(snakemake.input.source),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.view),
    fold=snakemake.wildcards.fold,
    seed=job["seed"],
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
