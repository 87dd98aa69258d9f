"""Permute the follow-up of a survival analysis and run its whole chain anew."""

import json
from pathlib import Path

from polycentric.analysis.survive_null import permute
from polycentric.config.clinical import ColumnSettings, read_outcome
from polycentric.config.survival import SurvivalAnalysis
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
models = {name: job["analysis"]["models"][name] for name in job["order"]}
permute(
    snakemake.wildcards.analysis,
    SurvivalAnalysis.model_validate(job["analysis"] | {"models": models}),
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
