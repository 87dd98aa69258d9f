"""Outline one shard with a trained segmentation network."""

import json
from pathlib import Path

from polycentric.config.segmentation import Segmentation
from polycentric.jobs import start
from polycentric.segmentation.apply import segment_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
segment_shard(
    snakemake.wildcards.model,
    Segmentation.model_validate(job["segmentation"]),
    weights=Path(snakemake.input.weights),
    ledger=Path(snakemake.input.ledger),
    view=Path(snakemake.input.view),
    volumes=Path(snakemake.input.volumes),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.masks),
    fold=snakemake.wildcards.fold,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    device=job["device"],
    log=log,
)
