"""Establish the final table of scans from curation, images and reviewed answers."""

import json
from pathlib import Path

from polycentric.cohort.establish import establish
from polycentric.config.examine import EstablishSettings
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
establish(
    Path(snakemake.input.accepted),
    [Path(path) for path in snakemake.input.examined],
    [Path(path) for path in snakemake.input.volumes],
    flow=Path(snakemake.input.flow),
    review_table=Path(snakemake.input.review_table[0]) if snakemake.input.review_table else None,
    settings=EstablishSettings.model_validate(job["establish"]),
    duplicates_verdict=job["duplicates_verdict"],
    **{name: Path(snakemake.output[name]) for name in ("scans", "review", "duplicates")},
    flow_out=Path(snakemake.output.flow),
    log=log,
)
