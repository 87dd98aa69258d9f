"""Put feature sets side by side, one row per patient."""

import json
from pathlib import Path

from polycentric.config.features import JoinedSet
from polycentric.jobs import start
from polycentric.radiomics import join_features

log = start(snakemake)
job = json.loads(snakemake.params.settings)
join_features(
    snakemake.wildcards.set,
    JoinedSet.model_validate(job["features"]),
    features=[Path(path) for path in snakemake.input.features],
    output=Path(snakemake.output.features),
    log=log,
)
