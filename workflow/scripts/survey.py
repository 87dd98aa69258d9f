"""Evaluate surveys of readers."""

import json
from pathlib import Path

from polycentric.analysis.survey import analyse
from polycentric.config.agreement import SurveyAnalysis
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
settings = SurveyAnalysis.model_validate(job["analysis"])
names = settings.readers or ("table",)
analyse(
    snakemake.wildcards.analysis,
    settings,
    seed=job["seed"],
    answers=dict(zip(names, map(Path, snakemake.input.answers), strict=True)),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
