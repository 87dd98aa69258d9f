"""Remove results that the study no longer lists."""

import json
from pathlib import Path

from polycentric.jobs import start
from polycentric.tools.clean import clean

log = start(snakemake)
clean(json.loads(snakemake.params.settings)["study"], Path(snakemake.params.root), log=log)
