"""Examine what a synthesis model changed, on patients it has not seen."""

import json
from pathlib import Path

from polycentric.config.image_analyses import FidelityAnalysis
from polycentric.config.synthesis import Synthesis
from polycentric.fidelity.analyse import analyse
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    FidelityAnalysis.model_validate(job["analysis"]),
    synthesis=Synthesis.model_validate(job["synthesis"]),
    view=job["view"],
    calibrated=job["calibrated"],
    seed=job["seed"],
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split),
    **{
        name: [Path(p) for p in snakemake.input.get(name, [])]
        for name in ("source", "target", "synthetic", "ledgers", "masks", "masks_after")
    },
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
