"""Join the centres: accepted scans, patients with their clinical data, participant flow, shards."""

import json
from pathlib import Path

from polycentric.cohort import CentreFacts, assemble
from polycentric.config.clinical import ClinicalSettings
from polycentric.config.curation import Limits
from polycentric.jobs import start
from polycentric.pseudonyms import salt

log = start(snakemake)
job = json.loads(snakemake.params.settings)
assemble(
    [Path(path) for path in snakemake.input.curation],
    [Path(path) for path in snakemake.input.files],
    centres={name: CentreFacts(**facts) for name, facts in job["centres"].items()},
    clinical=Path(snakemake.input.clinical[0]) if snakemake.input.clinical else None,
    clinical_settings=ClinicalSettings.model_validate(job["clinical"]) if job["clinical"] else None,
    limits=Limits.model_validate(job["limits"]),
    withdrawn=job["withdraw"],
    excluded=job["exclude"],
    salt=salt(Path(snakemake.params.salt)),
    **{name: Path(snakemake.output[name]) for name in ("patients", "flow", "pseudonyms")},
    curation_out=Path(snakemake.output.curation),
    accepted_out=Path(snakemake.output.accepted),
    shards={Path(path).stem: Path(path) for path in snakemake.output.shards},
    private_shards={Path(path).stem: Path(path) for path in snakemake.output.files},
    log=log,
)
