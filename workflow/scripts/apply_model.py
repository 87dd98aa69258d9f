"""Apply a kept model to a feature table."""

import json
from pathlib import Path

from polycentric.analysis.apply import apply
from polycentric.config.classification import Application
from polycentric.config.clinical import ColumnSettings, read_outcome
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
apply(
    snakemake.wildcards.application,
    Application.model_validate(job["application"]),
    models=[Path(path) for path in snakemake.params.models],
    record=Path(snakemake.input.record),
    features=next((Path(path) for path in snakemake.input.features), None),
    patients=Path(snakemake.input.patients),
    outcome=read_outcome(job["outcome"]) if job["outcome"] else None,
    columns={name: ColumnSettings.model_validate(column) for name, column in job["columns"].items()},
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    folder=Path(snakemake.output.metrics).parent,
    seed=job["seed"],
    scans=Path(snakemake.input.scans),
    root=Path(snakemake.params.root),
    log=log,
)
