"""Extract one feature set from one shard."""

import json
from pathlib import Path

from polycentric.config.features import RadiomicsSet, Recipe
from polycentric.jobs import start
from polycentric.radiomics import extract_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
extract_shard(
    snakemake.wildcards.set,
    RadiomicsSet.model_validate(job["features"]),
    Recipe.model_validate(job["recipe"]),
    views=Path(snakemake.input.view),
    volumes=Path(snakemake.input.volumes),
    masks=[Path(path) for path in snakemake.input.masks],
    root=Path(snakemake.params.root),
    output=Path(snakemake.output.features),
    seed=job["seed"],
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
