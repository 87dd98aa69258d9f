"""Remove the images of one shard of a view that need not stay."""

from pathlib import Path

from polycentric.jobs import start
from polycentric.passing import remove

log = start(snakemake)
remove(Path(snakemake.input.view), Path(snakemake.output.record), Path(snakemake.params.root), log=log)
