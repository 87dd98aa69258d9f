"""Convert one shard: volumes and contours on the scan's own grid."""

import json
from pathlib import Path

from polycentric.config.curation import ConvertSettings
from polycentric.convert import convert_shard
from polycentric.jobs import start
from polycentric.space import guard

log = start(snakemake)
guard(Path(snakemake.params.root), snakemake.params.room, log)
job = json.loads(snakemake.params.settings)
convert_shard(
    Path(snakemake.input.shard),
    Path(snakemake.input.files),
    Path(job["images"]),
    settings=ConvertSettings.model_validate(job["convert"]),
    root=Path(snakemake.params.root),
    volumes=Path(snakemake.output.volumes),
    masks={Path(path).parents[1].name: Path(path) for path in snakemake.output.masks},
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    verdicts=job["verdicts"],
    workers=snakemake.threads,
)
