"""Agreement of the outlines of several readers."""

import json
from pathlib import Path

from polycentric.config.agreement import MaskAgreementAnalysis
from polycentric.jobs import start
from polycentric.segquality.readers import analyse

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    MaskAgreementAnalysis.model_validate(job["analysis"]),
    seed=job["seed"],
    masks=[Path(path) for path in snakemake.input.masks],
    split=Path(snakemake.input.split[0]) if snakemake.input.split else None,
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
