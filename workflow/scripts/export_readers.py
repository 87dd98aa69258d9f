"""Export one reader study as a blinded page that works offline."""

import json
from pathlib import Path

from polycentric.config.readers import ReaderStudy
from polycentric.jobs import start
from polycentric.pseudonyms import salt
from polycentric.readers import export

log = start(snakemake)
job = json.loads(snakemake.params.settings)
export(
    snakemake.wildcards.reader,
    ReaderStudy.model_validate(job["reader"]),
    seed=job["seed"],
    manifests={arm: [Path(path) for path in snakemake.input[arm]] for arm in ("acquired", "synthetic")},
    scans=Path(snakemake.input.scans),
    split=Path(snakemake.input.split),
    ledgers=[Path(path) for path in snakemake.input.ledgers],
    secret=salt(Path(snakemake.params.salt)),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.params.folder),
    items=Path(snakemake.output.blinded),
    key=Path(snakemake.output.key),
    manifest=Path(snakemake.output.manifest),
    log=log,
)
