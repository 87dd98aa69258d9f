"""Check every file of the study against the hashes of its manifests."""

import json
from pathlib import Path

from polycentric.jobs import start
from polycentric.tools.audit import audit

log = start(snakemake)
audit(
    [Path(path) for path in snakemake.input.manifests],
    root=Path(snakemake.params.root),
    output=Path(snakemake.params.table),
    passing=json.loads(snakemake.params.settings)["passing"],
    log=log,
)
