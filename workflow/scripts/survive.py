"""Model a time to an event from feature tables."""

import json
from pathlib import Path

from polycentric.analysis.survive import analyse
from polycentric.config.clinical import ColumnSettings, read_outcome
from polycentric.config.survival import SurvivalAnalysis
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
models = {name: job["analysis"]["models"][name] for name in job["order"]}
settings = SurvivalAnalysis.model_validate(job["analysis"] | {"models": models})
analyse(
    snakemake.wildcards.analysis,
    settings,
    seed=job["seed"],
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split[0]),
    outcome=read_outcome(job["outcome"]),
    columns={name: ColumnSettings.model_validate(column) for name, column in job["columns"].items()},
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    permutations=[Path(path) for path in snakemake.input.permutations],
    scans=Path(snakemake.input.scans),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
