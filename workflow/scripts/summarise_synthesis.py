"""Join what the analyses of synthesis models found."""

import json
from pathlib import Path

from polycentric.config.synthesis_analyses import SynthesisSummary
from polycentric.fidelity.summary import summarise
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
summarise(
    snakemake.wildcards.analysis,
    SynthesisSummary.model_validate(job["analysis"]),
    models=job["models"],
    metrics=dict(zip(job["joined"], map(Path, snakemake.input.metrics), strict=True)),
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    split=job["split"],
    seed=job["seed"],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
