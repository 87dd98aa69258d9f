"""Show what harmonisation changed between batches."""

import json
from pathlib import Path

from polycentric.config.harmonise import HarmonisationAnalysis
from polycentric.harmonise.analysis import analyse
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    HarmonisationAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split[0]),
    parameters=Path(snakemake.input.parameters[0]) if snakemake.input.parameters else None,
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
