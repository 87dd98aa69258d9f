"""Write the report of the study: one self-contained page."""

import json
from pathlib import Path

from polycentric.config.report import ReportSettings
from polycentric.jobs import start
from polycentric.report import build, collect

log = start(snakemake)
job = json.loads(snakemake.params.settings)
study = job["study"]
root = Path(snakemake.params.root)
build(
    ReportSettings.model_validate(study["report"]),
    study=study,
    root=root,
    inputs=collect(study, root),
    output=Path(snakemake.output.page),
    flow_svg=Path(snakemake.output.flow),
    checklists_out=Path(snakemake.output.checklists[0]).parent,
    recipes=job["recipes"],
    log=log,
)
