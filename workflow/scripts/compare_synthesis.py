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
splits = dict(zip(job["order"], map(Path, snakemake.input.splits), strict=True))
compare(
    snakemake.wildcards.analysis,
    SynthesisComparison.model_validate(job["analysis"]),
    profile=ProfileSettings.model_validate(job["profile"]),
    models={n: Model(Synthesis.model_validate(job["synthesis"][n]), job["views"][n], splits[n]) for n in job["order"]},
    seed=job["seed"],
    profiles=[Path(p) for p in snakemake.input.profiles],
    **{key: Path(snakemake.input[key]) for key in ("scans", "patients")},
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    features=dict(zip(job["features"], map(Path, snakemake.input.features), strict=True)),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
