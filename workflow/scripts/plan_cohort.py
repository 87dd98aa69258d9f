"""Draw the patients of the simulated centres, their outcomes and their defects."""

import json
from pathlib import Path

from polycentric.config.simulate import SimulatedCentre, Simulation
from polycentric.jobs import start
from polycentric.simulate import plan_cohort

log = start(snakemake)
job = json.loads(snakemake.params.settings)
plan_cohort(
    {name: SimulatedCentre.model_validate(centre) for name, centre in job["centres"].items()},
    Simulation.model_validate(job["simulation"]),
    seed=job["seed"],
    clinical=Path(snakemake.output.clinical),
    truth=Path(snakemake.output.truth),
    effects=Path(snakemake.output.effects),
)
