"""Reduce a feature set to its stable features."""

from pathlib import Path

from polycentric.jobs import start
from polycentric.stability import select

log = start(snakemake)
select(
    snakemake.wildcards.set,
    features=Path(snakemake.input.features),
    stable=Path(snakemake.input.stable),
    analysis_ledger=Path(snakemake.input.ledger),
    output=Path(snakemake.output.features),
    ledger=Path(snakemake.output.ledger),
    upstream=[Path(path) for path in snakemake.input.upstream],
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
