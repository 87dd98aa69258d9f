"""Make one view of one shard with a trained synthesis model; or a lease of one whose images do not stay."""

import json
from pathlib import Path

from polycentric import passing
from polycentric.config.synthesis import Synthesis
from polycentric.jobs import start
from polycentric.synthesis.apply import synthesize_shard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
root, manifest = Path(snakemake.params.root), Path(snakemake.output.view)
record = Path(snakemake.input.record) if snakemake.input.get("record") else None
if record is None or not passing.hold(record, manifest, root):
    synthesize_shard(
        snakemake.wildcards.view,
        Synthesis.model_validate(job["synthesis"]),
        weights=Path(snakemake.input.weights),
        ledger=Path(snakemake.input.ledger),
        source=Path(snakemake.input.source),
        root=root,
        manifest=manifest,
        fold=snakemake.wildcards.fold,
        settings_json=snakemake.params.settings,
        code=snakemake.params.code,
        device=job["device"],
        scans=Path(snakemake.input.cohort[0]) if snakemake.input.cohort else None,
        patients=Path(snakemake.input.cohort[1]) if snakemake.input.cohort else None,
        also=[Path(path) for path in snakemake.input.also],
        log=log,
    )
    if record is not None:
        passing.confirm(record, manifest)
