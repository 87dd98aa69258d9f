"""Compare the features of images before and after a synthesis model."""

import json
from pathlib import Path

from polycentric.config.synthesis_analyses import FeatureShift
from polycentric.fidelity.shift import shift
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
shift(
    snakemake.wildcards.analysis,
    FeatureShift.model_validate(job["analysis"]),
    before=Path(snakemake.input.before),
    after=Path(snakemake.input.after),
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split),
    split_name=job["split"],
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    seed=job["seed"],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
