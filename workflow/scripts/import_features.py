"""Take in a feature table that was made elsewhere, under pseudonyms."""

import json
from functools import partial
from pathlib import Path

from polycentric import tables
from polycentric.config.features import ImportedSet
from polycentric.jobs import start
from polycentric.pseudonyms import identify, salt
from polycentric.radiomics import import_table
from polycentric.tables.schemas import PATIENTS

log = start(snakemake)
job = json.loads(snakemake.params.settings)
import_table(
    snakemake.wildcards.set,
    ImportedSet.model_validate(job["features"]),
    files=[Path(path) for path in snakemake.input.tables],
    identify=partial(identify, salt(Path(snakemake.params.salt))),
    cohort=set(tables.read(snakemake.input.patients, PATIENTS)["patient"]),
    withdrawn=job["withdraw"],
    output=Path(snakemake.output.features),
    ledger=Path(snakemake.output.ledger),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
