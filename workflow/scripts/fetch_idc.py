"""Fetch the images of one centre from the Imaging Data Commons, or see that they are there."""

import json
from pathlib import Path

from polycentric.config.idc import IdcSource
from polycentric.idc import fetch
from polycentric.jobs import start

log = start(snakemake)
fetch(
    snakemake.wildcards.centre,
    IdcSource.model_validate(json.loads(snakemake.params.settings)["idc"]),
    output=Path(snakemake.output.table),
    files=Path(snakemake.output.files),
    log=log,
)
