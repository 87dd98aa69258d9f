"""Quick-look pictures of one shard: every scan with its outlines."""

import json
from pathlib import Path

from polycentric.config.quicklook import QuicklookSettings
from polycentric.jobs import start
from polycentric.quicklook import quicklook_shard

log = start(snakemake)
quicklook_shard(
    Path(snakemake.input.volumes),
    [Path(path) for path in snakemake.input.masks],
    Path(snakemake.input.scans),
    settings=QuicklookSettings.model_validate(json.loads(snakemake.params.settings)["quicklook"]),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.manifest),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
