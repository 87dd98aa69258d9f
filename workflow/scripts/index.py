"""Index one centre: one row per file, reusing rows of unchanged files."""

import json
from pathlib import Path

from polycentric.config.images import ImageTable
from polycentric.index import build
from polycentric.index.headers import read_header
from polycentric.index.images import image_reader
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
centre, folder = snakemake.wildcards.centre, Path(job["images"])
images = ImageTable.model_validate(job["table"]) if job["table"] else None
reader = image_reader(centre, folder, Path(images.file), images, read_header) if images else None
build(
    centre,
    folder,
    output=Path(snakemake.output.table),
    previous=Path(snakemake.params.previous),
    only=Path(snakemake.input.fetched[0]) if snakemake.input.fetched else None,
    **({"read": reader, "stamp": reader.stamp} if reader else {}),
    log=log,
    workers=snakemake.threads,
)
