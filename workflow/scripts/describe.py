"""Describe the cohort: patients, outcomes and acquisition by group."""

import json
from pathlib import Path

from polycentric.analysis.describe import analyse
from polycentric.config.analyses import CohortAnalysis
from polycentric.config.clinical import ClinicalSettings
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
clinical = ClinicalSettings.model_validate(job["clinical"] or {})
analyse(
    snakemake.wildcards.analysis,
    CohortAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    patients=Path(snakemake.input.patients),
    scans=Path(snakemake.input.scans),
    split=Path(snakemake.input.split[0]) if snakemake.input.split else None,
    outcomes=clinical.outcomes,
    columns=clinical.columns,
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
