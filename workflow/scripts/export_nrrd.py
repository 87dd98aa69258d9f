"""Write the volumes and masks of one shard as NRRD."""

import json
from pathlib import Path

from polycentric.config.export import NrrdExport
from polycentric.export import export_nrrd
from polycentric.jobs import start

log = start(snakemake)
export_nrrd(
    NrrdExport.model_validate(json.loads(snakemake.params.settings)["export"]),
    images=Path(snakemake.input.images),
    volumes=Path(snakemake.input.volumes),
    masks=Path(snakemake.input.masks[0]) if snakemake.input.masks else None,
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.manifest),
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
