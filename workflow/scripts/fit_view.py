"""Fit the fitted steps of one view on the training patients of its split."""

import json
from pathlib import Path

from polycentric.config.views import View
from polycentric.jobs import start
from polycentric.prepare import fit_view

log = start(snakemake)
given = snakemake.input
fit_view(
    snakemake.wildcards.view,
    View.model_validate(json.loads(snakemake.params.settings)["view"]),
    sources=[Path(path) for path in given.sources],
    split=Path(given.split),
    root=Path(snakemake.params.root),
    model=Path(snakemake.output.model),
    ledger=Path(snakemake.output.ledger),
    masks=[Path(path) for path in given.masks],
    references=[Path(path) for path in given.references],
    minus=[Path(path) for path in given.minus],
    scans=Path(given.cohort[0]) if given.cohort else None,
    patients=Path(given.cohort[1]) if given.cohort else None,
    upstream=[Path(path) for path in given.ledgers],
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
