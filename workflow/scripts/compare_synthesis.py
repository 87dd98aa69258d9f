"""Compare the images of one or several synthesis models with real ones."""

import json
from pathlib import Path

from polycentric.config.profiles import ProfileSettings
from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import SynthesisComparison
from polycentric.fidelity.compare import Model, compare
from polycentric.jobs import start

log = start(snakemake)
job = json.loads(snakemake.params.settings)
splits = dict(zip(job["order"], snakemake.input.splits, strict=True))
compare(
    snakemake.wildcards.analysis,
    SynthesisComparison.model_validate(job["analysis"]),
    profile=ProfileSettings.model_validate(job["profile"]),
    models={
        name: Model(Synthesis.model_validate(job["synthesis"][name]), job["views"][name], Path(splits[name]))
        for name in job["order"]
    },
    seed=job["seed"],
    profiles=[Path(p) for p in snakemake.input.profiles],
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    features=dict(zip(job["features"], map(Path, snakemake.input.features), strict=True)),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
