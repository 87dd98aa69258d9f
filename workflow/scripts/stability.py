"""Judge which features are stable under repetition and perturbation."""

import json
from pathlib import Path

from polycentric.config.stability import StabilityAnalysis
from polycentric.jobs import start
from polycentric.stability import analyse

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    StabilityAnalysis.model_validate(job["analysis"]),
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    perturbed={Path(path).name.removesuffix(".perturbed.parquet"): Path(path) for path in snakemake.input.perturbed},
    scans=Path(snakemake.input.scans),
    split=Path(snakemake.input.split[0]) if snakemake.input.split else None,
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
