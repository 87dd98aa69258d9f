"""Train one segmentation network; a killed run resumes, a finished one is restored."""

import json
from pathlib import Path

from polycentric.codehash import code_hash
from polycentric.config.segmentation import Segmentation
from polycentric.jobs import start
from polycentric.segmentation.train import train

log = start(snakemake)
job = json.loads(snakemake.params.settings)
train(
    snakemake.wildcards.model,
    Segmentation.model_validate(job["segmentation"]),
    seed=job["seed"],
    **{key: Path(snakemake.input[key]) for key in ("scans", "patients", "split")},
    manifests=[Path(path) for path in snakemake.input.views],
    masks=[Path(path) for path in snakemake.input.masks],
    root=Path(snakemake.params.root),
    work=Path(snakemake.params.work),
    fold=snakemake.wildcards.fold,
    settings_out=Path(snakemake.output.settings),
    **{key: Path(snakemake.output[key]) for key in ("weights", "history", "ledger")},
    device=job["device"],
    upstream=[Path(path) for path in snakemake.input.ledgers],
    settings_json=snakemake.params.settings,
    code=code_hash(__file__),
    log=log,
)
