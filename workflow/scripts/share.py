"""Write the shareable, de-identified copy of one shard."""

import json
from pathlib import Path

from polycentric.config.deidentify import DeidentifySettings
from polycentric.deidentify import share_shard
from polycentric.jobs import start
from polycentric.pseudonyms import salt

log = start(snakemake)
job = json.loads(snakemake.params.settings)
share_shard(
    Path(snakemake.input.shard),
    Path(snakemake.input.files),
    Path(job["images"]),
    settings=DeidentifySettings.model_validate(job["deidentify"]),
    salt=salt(Path(snakemake.params.salt)),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.manifest),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
