"""Make one view of one shard; or a lease of one whose images do not stay, made again where they are gone."""

import json
from functools import partial
from pathlib import Path

from polycentric import passing
from polycentric.config.views import View
from polycentric.jobs import start
from polycentric.prepare import prepare_shard
from polycentric.space import guard

log = start(snakemake)
given = {name: paths for name, paths in snakemake.input.items() if paths}
scans, patients = map(Path, given["cohort"]) if "cohort" in given else (None, None)
root, record = Path(snakemake.params.root), given.get("record")
if record is None:
    guard(root, snakemake.params.room, log)
make = partial(
    prepare_shard,
    snakemake.wildcards.view,
    View.model_validate(json.loads(snakemake.params.settings)["view"]),
    source=Path(given["source"]),
    **{key: Path(str(given[key])) for key in ("masks", "references", "minus", "model") if key in given},
    scans=scans,
    patients=patients,
    fold=snakemake.wildcards.fold,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
passing.make(make, record, Path(snakemake.output.view), root)
