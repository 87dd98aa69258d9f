"""Explore feature tables: distributions, correlations, single tests."""

import json
from pathlib import Path

from polycentric.analysis.explore import analyse
from polycentric.config.clinical import read_outcome
from polycentric.config.explore import ExplorationAnalysis
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    ExplorationAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split[0]) if snakemake.input.split else None,
    outcome=read_outcome(job["outcome"]),
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
