"""Write the DICOM files of one simulated centre."""

import json
from pathlib import Path

from polycentric.config.simulate import SimulatedCentre, Simulation
from polycentric.jobs import start
from polycentric.simulate import simulate_centre

log = start(snakemake)
job = json.loads(snakemake.params.settings)
simulate_centre(
    snakemake.wildcards.centre,
    SimulatedCentre.model_validate(job["centre"]),
    Simulation.model_validate(job["simulation"]),
    seed=job["seed"],
    truth=Path(snakemake.input.truth),
    folder=Path(snakemake.params.folder),
    manifest=Path(snakemake.output.manifest),
    log=log,
)
