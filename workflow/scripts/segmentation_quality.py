"""Compare the masks of a network with reference masks, on patients it has not seen."""

import json
from pathlib import Path

from polycentric.config.image_analyses import SegmentationQualityAnalysis
from polycentric.config.segmentation import Segmentation
from polycentric.jobs import start
from polycentric.segquality.analyse import analyse

log = start(snakemake)
job = json.loads(snakemake.params.settings)
analyse(
    snakemake.wildcards.analysis,
    SegmentationQualityAnalysis.model_validate(job["analysis"]),
    segmentation=Segmentation.model_validate(job["segmentation"]),
    seed=job["seed"],
    split=Path(snakemake.input.split),
    **{name: [Path(path) for path in snakemake.input[name]] for name in ("masks", "reference", "ledgers")},
    root=Path(snakemake.params.root),
    folder=Path(snakemake.output.metrics).parent,
    settings_json=snakemake.params.settings,
    code=snakemake.params.code,
    log=log,
)
