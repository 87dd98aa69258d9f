"""Compare a feature set with another extraction of the same regions, and volumes with known ones."""

import json
from functools import partial
from pathlib import Path

from polycentric.agreement import analyse
from polycentric.config.agreement import FeatureAgreementAnalysis
from polycentric.jobs import start
from polycentric.pseudonyms import patient, salt

log = start(snakemake)
settings = FeatureAgreementAnalysis.model_validate(json.loads(snakemake.params.settings)["analysis"])
analyse(
    snakemake.wildcards.analysis,
    settings,
    features={Path(path).stem: Path(path) for path in snakemake.input.features},
    masks=[Path(path) for path in snakemake.input.masks],
    known_volumes=Path(snakemake.input.volumes[0]) if snakemake.input.volumes else None,
    pseudonym=partial(patient, salt(Path(snakemake.params.salt))),
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
