"""Make one view of one shard; or a lease of one whose images do not stay, made again where they are gone."""

import json
from pathlib import Path

from polycentric import passing
from polycentric.config.views import View
from polycentric.jobs import start
from polycentric.prepare import prepare_shard
from polycentric.space import guard

log = start(snakemake)
job = json.loads(snakemake.params.settings)
given = {name: paths for name, paths in snakemake.input.items() if paths}
cohort = given.get("cohort")
root, manifest = Path(snakemake.params.root), Path(snakemake.output.view)
record = Path(given["record"]) if "record" in given else None
if record is None:
    guard(root, snakemake.params.room, log)
if record is None or not passing.hold(record, manifest, root):
    prepare_shard(
        snakemake.wildcards.view,
        View.model_validate(job["view"]),
        source=Path(given["source"]),
        root=root,
        manifest=manifest,
        masks=Path(str(given["masks"])) if "masks" in given else None,
        references=Path(str(given["references"])) if "references" in given else None,
        minus=Path(str(given["minus"])) if "minus" in given else None,
        scans=Path(cohort[0]) if cohort else None,
        patients=Path(cohort[1]) if cohort else None,
        model=Path(str(given["model"])) if "model" in given else None,
        fold=snakemake.wildcards.fold,
        seed=job["seed"],
        settings_json=snakemake.params.settings,
        code=snakemake.params.code,
        log=log,
        workers=snakemake.threads,
    )
    if record is not None:
        passing.confirm(record, manifest)
