"""Record the versions, code hashes and manifests behind the results."""

import json
from pathlib import Path

from polycentric.jobs import start
from polycentric.report import PACKAGES, provenance

start(snakemake)
provenance(
    Path(snakemake.output.record),
    study=json.loads(snakemake.params.settings)["study"],
    code=json.loads(snakemake.params.code),
    packages=PACKAGES,
    manifests=[Path(path) for path in snakemake.input.evidence],
    root=Path(snakemake.params.root),
)
