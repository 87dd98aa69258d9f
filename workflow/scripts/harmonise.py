"""Harmonise one feature set across batches, fitted on training patients only."""

import json
from pathlib import Path

from polycentric.config.features import HarmonisedSet
from polycentric.harmonise import harmonise
from polycentric.jobs import start

log = start(snakemake)
harmonise(
    snakemake.wildcards.set,
    HarmonisedSet.model_validate(json.loads(snakemake.params.settings)["features"]),
    features=Path(snakemake.input.features),
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split),
    output=Path(snakemake.output.features),
    model=Path(snakemake.output.model),
    ledger=Path(snakemake.output.ledger),
    phantom=Path(snakemake.input.phantom[0]) if snakemake.input.get("phantom") else None,
    upstream=[Path(path) for path in snakemake.input.ledgers],
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
