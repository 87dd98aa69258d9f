"""Agreement of readers or methods."""

import json
from pathlib import Path

from polycentric.analysis.agree import analyse
from polycentric.config.agreement import AgreementAnalysis
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    AgreementAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    patients=Path(snakemake.input.patients),
    features=Path(snakemake.input.features[0]) if snakemake.input.features else None,
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
