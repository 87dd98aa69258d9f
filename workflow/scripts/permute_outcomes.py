"""Permute the outcomes of a classification and run its whole chain anew."""

import json
from pathlib import Path

from polycentric.analysis.classify_null import permute
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.clinical import ColumnSettings, read_outcome
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
permute(
    snakemake.wildcards.analysis,
    ClassificationAnalysis.model_validate(job["analysis"]),
    range(*job["numbers"]),
    seed=job["seed"],
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split[0]),
    outcome=read_outcome(job["outcome"]),
    columns={name: ColumnSettings.model_validate(column) for name, column in job["columns"].items()},
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    path=Path(snakemake.output.values),
    log=log,
)
