"""Correlations between kinds of features."""

import json
from pathlib import Path

from polycentric.analysis.associate import analyse
from polycentric.config.agreement import AssociationAnalysis
from polycentric.config.clinical import ColumnSettings
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    AssociationAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split[0]) if snakemake.input.split else None,
    columns={name: ColumnSettings.model_validate(column) for name, column in job["columns"].items()},
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
