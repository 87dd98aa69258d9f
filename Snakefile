# Polycentric: from DICOM folders of several hospitals to an audited report.
# The graph is known from the study file alone: no checkpoint, no globbing, nothing is read before the first job.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.19")

PROJECT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
sys.path.insert(0, str(PROJECT / "workflow" / "scripts"))

from polycentric.config.study import load
from polycentric.errors import UserError

# Snakemake merges config files deeply, which would mix two studies: the default one is read only when none is given.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


if len(workflow.overwrite_configfiles) > 1:
    raise WorkflowError("Give one --configfile. To build on another study write 'extends: other.yaml' in it.")

STUDY_FILE = Path([*workflow.overwrite_configfiles, "config/config.yaml"][0])
try:
    study = load(config, file=os.path.relpath(STUDY_FILE), base=STUDY_FILE.parent)
except UserError as error:
    raise WorkflowError("\n".join(error.messages)) from None


report: "workflow/report/workflow.rst"


wildcard_constraints:
    centre=r"[A-Za-z0-9-]+",
    shard=r"[A-Za-z0-9-]+",
    fold=r"[A-Za-z0-9-]+",


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/curate.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/examine.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/synthesize.smk"
include: "workflow/rules/passing.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/apply.smk"
include: "workflow/rules/read.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/share.smk"


rule all:
    default_target: True
    input:
        result("report/report.html"),
        REMOVED,
        SPACE,
    localrule: True
