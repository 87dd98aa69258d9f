"""Try to tell the synthetic images of a model from acquired ones."""

import json
from pathlib import Path

from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import Detectability
from polycentric.fidelity.detectability import detect
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
detect(
    snakemake.wildcards.analysis,
    Detectability.model_validate(job["analysis"]),
    synthesis=Synthesis.model_validate(job["synthesis"]),
    view=job["view"],
    seed=job["seed"],
    profiles=[Path(p) for p in snakemake.input.profiles],
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split),
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
