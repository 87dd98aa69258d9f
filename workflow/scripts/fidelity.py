"""Examine what a synthesis model changed, on patients it has not seen."""

import json
from pathlib import Path

from polycentric.config.image_analyses import FidelityAnalysis
from polycentric.config.synthesis import Synthesis
from polycentric.fidelity.analyse import analyse
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
lists = ("source", "target", "synthetic", "ledgers", "masks", "masks_after")
analyse(
    snakemake.wildcards.analysis,
    FidelityAnalysis.model_validate(job["analysis"]),
    synthesis=Synthesis.model_validate(job["synthesis"]),
    view=job["view"],
    calibrated=job["calibrated"],
    seed=job["seed"],
    **{key: Path(snakemake.input[key]) for key in ("scans", "patients", "split")},
    **{key: [Path(p) for p in snakemake.input.get(key, [])] for key in lists},
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
