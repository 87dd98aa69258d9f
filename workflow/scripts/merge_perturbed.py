"""Join the rows of perturbed images of one feature set."""

from pathlib import Path

from polycentric.jobs import start
from polycentric.radiomics import merge

start(snakemake)
merge([Path(path) for path in snakemake.input.shards], Path(snakemake.output.features), perturbed=True)
