"""Run the generators of a synthesis model again on some scans: strides, seams, disagreement, hidden signals."""

import json
from pathlib import Path

from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import SynthesisProbe
from polycentric.fidelity.probe import probe
from polycentric.jobs import start
from polycentric.synthesis.generators import Generators

log = start(snakemake)
job = json.loads(snakemake.params.settings)
synthesis = Synthesis.model_validate(job["synthesis"])
generators = Generators(synthesis, Path(snakemake.input.weights), job["device"])
probe(
    snakemake.wildcards.analysis,
    SynthesisProbe.model_validate(job["analysis"]),
    synthesis=synthesis,
    translate=generators.translate,
    predict=generators.predict,
    back=generators.back,
    seed=job["seed"],
    source=[Path(p) for p in snakemake.input.source],
    scans=Path(snakemake.input.scans),
    patients=Path(snakemake.input.patients),
    split=Path(snakemake.input.split),
    ledgers=[Path(p) for p in snakemake.input.ledgers],
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
