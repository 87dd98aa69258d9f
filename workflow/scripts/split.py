"""Assign patients to the parts of one split."""

import json
from pathlib import Path

from polycentric.config.clinical import read_outcome
from polycentric.config.splits import Split
from polycentric.jobs import start
from polycentric.split import assign, members_of

log = start(snakemake)
job = json.loads(snakemake.params.settings)
assign(
    snakemake.wildcards.split,
    Split.model_validate(job["split"]),
    seed=job["seed"],
    patients=Path(snakemake.input.patients),
    outcomes={name: read_outcome(data) for name, data in job["outcomes"].items()},
    parent=Path(snakemake.input.parent[0]) if snakemake.input.parent else None,
    members=members_of(Path(snakemake.input.members[0])) if snakemake.input.members else None,
    output=Path(snakemake.output.split),
    log=log,
)
