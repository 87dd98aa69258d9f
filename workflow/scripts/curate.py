"""Curate one centre: which candidate volumes are accepted, repaired how, why not the others."""

import json
from pathlib import Path

from polycentric.config.curation import CurationSettings
from polycentric.curation import curate
from polycentric.jobs import start
from polycentric.pseudonyms import salt

log = start(snakemake)
curate(
    snakemake.wildcards.centre,
    Path(snakemake.input.table),
    settings=CurationSettings.model_validate(json.loads(snakemake.params.settings)["curation"]),
    salt=salt(Path(snakemake.params.salt)),
    curation=Path(snakemake.output.curation),
    files=Path(snakemake.output.files),
    log=log,
)
