"""Examine the images of one shard: contrast agent, coverage, noise."""

import json
from pathlib import Path

from polycentric.config.examine import ExamineSettings
from polycentric.examine import examine_shard
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
examine_shard(
    Path(snakemake.input.volumes),
    settings=ExamineSettings.model_validate(job["examine"]),
    root=Path(snakemake.params.root),
    examined=Path(snakemake.output.examined),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
