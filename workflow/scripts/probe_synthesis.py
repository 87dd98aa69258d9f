"""Run the generators of a synthesis model again on some scans: strides, seams, disagreement, hidden signals."""

import json
from pathlib import Path

from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import SynthesisProbe
from polycentric.fidelity.probe import probe
from polycentric.jobs import start
from polycentric.synthesis.generators import Generators, beside

log = start(snakemake)
job, name = json.loads(snakemake.params.settings), snakemake.wildcards.analysis
synthesis = Synthesis.model_validate(job["synthesis"])
source, also, target, ledgers = (
    [Path(p) for p in snakemake.input.get(key, [])] for key in ("source", "also", "target", "ledgers")
)
scans, patients, split, weights = (Path(snakemake.input[key]) for key in ("scans", "patients", "split", "weights"))
probe(
    name, SynthesisProbe.model_validate(job["analysis"]), synthesis=synthesis,
    generators=Generators(synthesis, weights, job["device"]),
    further=beside(synthesis, source, scans, patients, also, name),
    calibrated=job["calibrated"], seed=job["seed"], source=source, target=target, scans=scans, patients=patients,
    split=split, ledgers=ledgers, root=Path(snakemake.params.root), folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings, code=snakemake.params.code, log=log,
)  # fmt: skip
