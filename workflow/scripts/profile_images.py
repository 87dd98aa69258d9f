"""Describe the axial slices of one shard of a view: layer, histogram, spectrum, features of a fixed network."""

import json
from pathlib import Path

from polycentric.config.profiles import ProfileSettings
from polycentric.jobs import start
from polycentric.profiles.shard import profile_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
profile_shard(
    snakemake.wildcards.profile,
    ProfileSettings.model_validate(job["profile"]),
    view=snakemake.wildcards.view,
    fold=snakemake.wildcards.fold,
    source=Path(snakemake.input.view),
    splits=[Path(p) for p in snakemake.input.splits],
    parts=job["parts"],
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.manifest),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    device=job["device"],
    log=log,
)
