"""Take in a feature table that was made elsewhere, under pseudonyms."""

import json
from functools import partial
from pathlib import Path

from polycentric.config.features import ImportedSet
from polycentric.jobs import start
from polycentric.pseudonyms import patient, salt
from polycentric.radiomics import import_table

log = start(snakemake)
job = json.loads(snakemake.params.settings)
import_table(
    snakemake.wildcards.set,
    ImportedSet.model_validate(job["features"]),
    table=Path(snakemake.input.table),
    pseudonym=partial(patient, salt(Path(snakemake.params.salt))),
    withdrawn=job["withdraw"],
    output=Path(snakemake.output.features),
    log=log,
)
