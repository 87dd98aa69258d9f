"""Take in the answers of one reader study and analyse them."""

import json
from pathlib import Path

from polycentric.config.readers import ReaderStudy
from polycentric.jobs import start
from polycentric.readers import ingest

log = start(snakemake)
job = json.loads(snakemake.params.settings)
settings = ReaderStudy.model_validate(job["reader"])
ingest(
    snakemake.wildcards.reader,
    settings,
    seed=job["seed"],
    items=Path(snakemake.input.blinded),
    key=Path(snakemake.input.key),
    answers=Path(settings.answers) if settings.answers else None,
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    output=Path(snakemake.output.answers),
    rejected=Path(snakemake.output.rejected),
    log=log,
)
