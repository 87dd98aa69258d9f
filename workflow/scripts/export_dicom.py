"""Write the synthetic images of one shard as DICOM."""

import json
from pathlib import Path

from polycentric.config.export import DicomExport
from polycentric.deidentify.identity import Key
from polycentric.export import export_shard, target
from polycentric.files import sha256_file
from polycentric.jobs import start
from polycentric.pseudonyms import salt

log = start(snakemake)
job = json.loads(snakemake.params.settings)
scans, patients = Path(snakemake.input.scans), Path(snakemake.input.patients)
export_shard(
    DicomExport.model_validate(job["export"]),
    source=Path(snakemake.input.view),
    files=Path(snakemake.input.files),
    folder_of_centre=Path(job["images"]),
    model=job["model"],
    model_sha256=sha256_file(snakemake.input.weights),
    uid=Key.of(salt(Path(snakemake.params.salt))).uid,
    like=target(scans, patients, **job["target"], where=f"exports: view {job['export']['view']!r}"),
    root=Path(snakemake.params.root),
    manifest=Path(snakemake.output.manifest),
    fold=snakemake.wildcards.fold,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
    workers=snakemake.threads,
)
