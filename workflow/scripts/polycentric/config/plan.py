"""Which settings each rule depends on: one canonical JSON string per job.

Snakemake compares this string with the one recorded at the last run. A rule gets just what its result depends on, so
that a changed key re-runs what it must and nothing else. Paths in it are as written in the study file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..files import canonical_json, sha256_file
from . import checklists
from .analyses import clinical_of
from .base import Section
from .codes import CODES
from .features import RadiomicsSet, find_recipe, load_recipe
from .study import Study, centre_of
from .views import View

Wildcards = dict[str, str]
Settings = Callable[[Study, Wildcards], dict[str, Any]]
RULES: dict[str, Settings] = {}


def settings(study: Study, rule: str, wildcards: Wildcards | None = None) -> str:
    """Canonical JSON of the settings of one job."""
    return canonical_json(RULES[rule](study, wildcards or {}))


def _rule(function: Settings) -> Settings:
    RULES[function.__name__] = function
    return function


def dump(section: Section | None) -> Any:
    return None if section is None else section.model_dump(mode="json", by_alias=True)


def without_origin(section: Section | None) -> Any:
    """A section without what it says of where its file comes from: that changes the report only."""
    return None if section is None else {key: value for key, value in dump(section).items() if key != "source"}


# texts change the report only
PROSE = {"title", "question", "caption"}


def without_prose(section: Section) -> dict[str, Any]:
    return {key: value for key, value in dump(section).items() if key not in PROSE}


@_rule
def plan_cohort(study: Study, _: Wildcards) -> dict[str, Any]:
    centres = {n: dump(study.centres[n].simulate) for n in study.simulated}
    return {"seed": study.seed, "centres": centres, "simulation": dump(study.simulation)}


@_rule
def simulate_centre(study: Study, w: Wildcards) -> dict[str, Any]:
    centre = dump(study.centres[w["centre"]].simulate)
    return {"seed": study.seed, "centre": centre, "simulation": dump(study.simulation)}


@_rule
def pseudonym_key(study: Study, _: Wildcards) -> dict[str, Any]:
    # a simulated cohort has nobody to protect: its key comes from the seed, so that its results can be reproduced
    return {"seed": study.seed if study.simulated else None}


@_rule
def fetch_idc(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"idc": dump(study.centres[w["centre"]].idc)}


@_rule
def index(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"images": images_folder(study, w["centre"]), "table": dump(study.centres[w["centre"]].table)}


@_rule
def curate(study: Study, w: Wildcards) -> dict[str, Any]:
    settings = dump(study.curation)
    del settings["limits"]  # of the cohort
    settings["verdicts"] = {c: verdict for c, verdict in settings["verdicts"].items() if CODES[c].stage == "curate"}
    return {"curation": settings}


@_rule
def cohort(study: Study, _: Wildcards) -> dict[str, Any]:
    centres = {name: {"role": c.role, "shards": c.shards} for name, c in study.centres.items()}
    return {
        "centres": centres,
        "clinical": without_origin(study.clinical),
        "limits": dump(study.curation)["limits"],
        "withdraw": sorted(study.withdraw),
        "exclude": study.exclude,
    }


@_rule
def split(study: Study, w: Wildcards) -> dict[str, Any]:
    own = study.splits[w["split"]]
    declared = study.clinical.outcomes if study.clinical else {}
    return {
        "seed": study.seed,
        "split": dump(own),
        "outcomes": {name: dump(study.clinical.resolved(name)) for name in own.stratify if name in declared},
    }


AT_CONVERSION = ("TS_UNDECODABLE", "MODALITY_TAG_SUSPECT", "RESCALE_MISSING", "HU_IMPLAUSIBLE")


@_rule
def convert(study: Study, w: Wildcards) -> dict[str, Any]:
    codes = [code for code, own in CODES.items() if own.stage == "convert" or code in AT_CONVERSION]
    return {
        "convert": dump(study.convert),
        "verdicts": {code: study.curation.verdict(code) for code in codes},
        "images": images_folder(study, centre_of(w["shard"])),
    }


@_rule
def examine(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"examine": dump(study.examine)}


@_rule
def establish(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"establish": dump(study.establish), "duplicates_verdict": study.curation.verdict("STUDY_DUPLICATE_PATIENT")}


@_rule
def quicklook(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"quicklook": dump(study.quicklook)}


@_rule
def share(study: Study, w: Wildcards) -> dict[str, Any]:
    settings = dump(study.deidentify)
    regions = [roi for source in study.convert.sources for roi in study.convert.rois_of(source).values()]
    wanted = [p for roi in regions for p in ((roi.pattern,) if roi.pattern else ()) + tuple(map(re.escape, roi.names))]
    settings["roi_names"] = sorted({*settings["roi_names"], *wanted})
    return {"deidentify": settings, "images": images_folder(study, centre_of(w["shard"]))}


@_rule
def estimate_space(study: Study, _: Wildcards) -> dict[str, Any]:
    return {
        "disk": study.disk,
        "sources": {source: len(study.convert.rois_of(source)) for source in study.convert.sources},
        "networks": list(study.segmentation),
        "views": {name: _extent(view) for name, view in study.views.items()},
    }


# steps that change the number of voxels
RESIZING = ("resample", "resize", "crop-or-pad", "crop-around", "otsu-crop", "custom")


def _extent(view: View) -> dict[str, Any]:
    """What the size of a view's images depends on."""
    steps = [] if view.synthesis else [dump(step) for step in view.sequence() if step.kind in RESIZING]
    return {
        "from": view.from_,
        "synthesis": view.synthesis is not None,
        "onto": view.onto is not None,
        "keep": view.keep,
        "steps": [{key: step[key] for key in ("kind", "spacing_mm", "size") if key in step} for step in steps],
    }


@_rule
def prepare(study: Study, w: Wildcards) -> dict[str, Any]:
    view = study.views[w["view"]]
    return {"view": making(view), "uses": own_steps(view)}


def making(view: View) -> dict[str, Any]:
    """What the images of a view depend on: not how long they stay."""
    return {key: value for key, value in dump(view).items() if key != "keep"}


def network(section: Section) -> dict[str, Any]:
    """A trained network's settings; how its training was computed shows in its weights."""
    record = dump(section)
    record.pop("engine", None)
    for key in ("import", "start_from"):
        if record.get(key):
            del record[key]["source"]
    return record


@_rule
def fit_view(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"view": making(study.views[w["view"]]), "uses": own_steps(study.views[w["view"]])}


def own_steps(view: View) -> dict[str, str]:
    """Hashes of the files that hold a user's own steps."""
    return {step.file: sha256_file(step.file) for step in view.sequence() if step.kind == "custom"}


def training(section: Section) -> dict[str, Any]:
    """What training depends on: how whole images pass the trained network is not part of it."""
    return {key: value for key, value in network(section).items() if key != "inference"}


@_rule
def train_synthesis(study: Study, w: Wildcards) -> dict[str, Any]:
    own = study.synthesis[w["model"]]
    return {"seed": study.seed, "synthesis": training(own) | {"engine": dump(own.engine)}, "device": study.device}


@_rule
def synthesize(study: Study, w: Wildcards) -> dict[str, Any]:
    view = study.views[w["view"]]
    model = study.synthesis[view.synthesis]
    return {"seed": study.seed, "view": making(view), "synthesis": network(model), "device": study.device}


@_rule
def train_segmentation(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"seed": study.seed, "segmentation": training(study.segmentation[w["model"]]), "device": study.device}


@_rule
def segment(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"seed": study.seed, "segmentation": network(study.segmentation[w["model"]]), "device": study.device}


@_rule
def extract(study: Study, w: Wildcards) -> dict[str, Any]:
    features = study.features[w["set"]]
    assert isinstance(features, RadiomicsSet)
    recipe = load_recipe(find_recipe(features.recipe))
    return {"features": dump(features), "recipe": dump(recipe), "seed": study.seed if features.perturb else None}


@_rule
def merge_features(study: Study, w: Wildcards) -> dict[str, Any]:
    return {}


@_rule
def merge_perturbed(study: Study, w: Wildcards) -> dict[str, Any]:
    return {}


@_rule
def import_features(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"features": without_origin(study.features[w["set"]]), "withdraw": sorted(study.withdraw)}


@_rule
def join_features(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"features": dump(study.features[w["set"]])}


@_rule
def harmonise(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"features": dump(study.features[w["set"]])}


def _analysis(study: Study, w: Wildcards) -> dict[str, Any]:
    analysis = study.analyses[w["analysis"]]
    outcome = getattr(analysis, "outcome", None)
    declared = study.clinical.resolved(outcome) if study.clinical and outcome else None
    return {"seed": study.seed, "analysis": without_prose(analysis), "outcome": dump(declared)}


def _with_columns(study: Study, w: Wildcards) -> dict[str, Any]:
    """Settings of an analysis whose models have clinical columns, with what these may hold."""
    declared = study.clinical.columns if study.clinical else {}
    columns = {name: dump(declared[name]) for name in clinical_of(study.analyses[w["analysis"]]) if name in declared}
    # where a column stands in the file, and its limits, are of the cohort
    kept = ("type", "values", "reference")
    return _analysis(study, w) | {"columns": {name: {k: own[k] for k in kept} for name, own in columns.items()}}


@_rule
def describe(study: Study, w: Wildcards) -> dict[str, Any]:
    clinical = dump(study.clinical)
    columns = {k: clinical[k] for k in ("columns", "outcomes")} if clinical else None
    return _analysis(study, w) | {"clinical": columns}


@_rule
def select_features(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"features": dump(study.features[w["set"]])}


def _fitted(study: Study, w: Wildcards) -> dict[str, Any]:
    """Settings of an analysis that gathers permutations, whatever their shards."""
    job = _with_columns(study, w)
    del job["analysis"]["permutation_shards"]
    return job


# what says how fitted models are judged only: runs with permuted outcomes do not hang on it
JUDGING = {
    "agreements", "bootstraps", "cut", "decision_thresholds", "expected_r2", "explain", "interval", "level",
    "permutation_shards", "permutations", "primary", "sensitivities", "subgroups", "times_days", "validation",
}  # fmt: skip


def _permute(study: Study, w: Wildcards) -> dict[str, Any]:
    """Settings of a shard of permutations: those of the fits, and which runs; the same run stays where it was."""
    job = RULES["classify" if study.analyses[w["analysis"]].kind == "classification" else "survive"](study, w)
    numbers = study.analyses[w["analysis"]].permutations_of()[int(w["shard"])]
    kept = {key: value for key, value in job["analysis"].items() if key not in JUDGING}
    return job | {"analysis": kept, "numbers": [numbers.start, numbers.stop]}


RULES |= dict.fromkeys(
    ("stability", "harmonisation", "explore", "agree", "survey", "mask_agreement", "feature_agreement"), _analysis
)
RULES |= {"associate": _with_columns, "classify": _fitted}
RULES |= dict.fromkeys(("permute_outcomes", "permute_follow_up"), _permute)


@_rule
def apply_model(study: Study, w: Wildcards) -> dict[str, Any]:
    own = study.apply[w["application"]]
    declared = study.clinical.columns if study.clinical else {}
    kept = ("type", "values", "reference")
    columns = {name: {k: v for k, v in dump(column).items() if k in kept} for name, column in declared.items()}
    outcome = dump(study.clinical.resolved(own.outcome)) if study.clinical and own.outcome else None
    return {"seed": study.seed, "application": dump(own), "columns": columns, "outcome": outcome}


@_rule
def survive(study: Study, w: Wildcards) -> dict[str, Any]:
    # canonical JSON sorts keys, but the first model is the one that the others are compared with
    return _fitted(study, w) | {"order": list(study.analyses[w["analysis"]].models)}


@_rule
def fidelity(study: Study, w: Wildcards) -> dict[str, Any]:
    analysis = study.analyses[w["analysis"]]
    # with the windows of the inference, at whose borders seams are looked for
    model = network(study.synthesis[analysis.synthesis])
    return _analysis(study, w) | {"synthesis": model, "view": study.fidelity_view(analysis)} | _units(study, w)


@_rule
def probe_synthesis(study: Study, w: Wildcards) -> dict[str, Any]:
    model = network(study.synthesis[study.analyses[w["analysis"]].synthesis])
    return _analysis(study, w) | {"synthesis": model, "device": study.device} | _units(study, w)


def _units(study: Study, w: Wildcards) -> dict[str, Any]:
    """Whether the views of the domains of an analysis's model hold HU, if they are of CT."""
    model = study.synthesis[study.analyses[w["analysis"]].synthesis]
    return {"calibrated": [study.calibrated(domain.view) for domain in (model.source, model.target)]}


@_rule
def profile_images(study: Study, w: Wildcards) -> dict[str, Any]:
    parts = {p for name in study.users_of_profile(w["profile"], w["view"]) for p in study.analyses[name].parts}
    return {"profile": dump(study.profiles[w["profile"]]), "parts": sorted(parts), "device": study.device}


@_rule
def compare_synthesis(study: Study, w: Wildcards) -> dict[str, Any]:
    judged = study.judged(w["analysis"])
    return _analysis(study, w) | {
        "profile": dump(study.profiles[study.analyses[w["analysis"]].profile]),
        "order": list(judged),
        "synthesis": {model: training(study.synthesis[model]) for model in judged},
        "views": judged,
        "features": compared_sets(study, w["analysis"]),
    }


def compared_sets(study: Study, analysis: str) -> list[str]:
    """Feature sets of a comparison of synthesis models, the target's first."""
    sets = study.analyses[analysis].radiomics
    return list(dict.fromkeys([sets.target, *sets.synthetic.values()])) if sets else []


@_rule
def detectability(study: Study, w: Wildcards) -> dict[str, Any]:
    ((model, view),) = study.judged(w["analysis"]).items()
    return _analysis(study, w) | {"synthesis": training(study.synthesis[model]), "view": view}


@_rule
def feature_shift(study: Study, w: Wildcards) -> dict[str, Any]:
    return _analysis(study, w) | {"split": study.synthesis[study.analyses[w["analysis"]].synthesis].split}


@_rule
def summarise_synthesis(study: Study, w: Wildcards) -> dict[str, Any]:
    models = study.summarised_models(w["analysis"])
    split = study.synthesis[models[0]].split
    joined = study.summarised(w["analysis"])
    return _analysis(study, w) | {"models": models, "joined": joined, "split": split}


@_rule
def export_dicom(study: Study, w: Wildcards) -> dict[str, Any]:
    (export,) = (own for own in study.dicom_exports if own.view == w["view"])
    images, name = images_folder(study, centre_of(w["shard"])), study.views[w["view"]].synthesis
    target, limits = study.made_like(w["view"])
    wheres = [target.where, *(study.views[view].where for view in study.view_chain(target.view))]
    aim = {
        "wheres": [expression for expression in wheres if expression],
        "limits": limits,
        "calibrated": study.calibrated(target.view),
    }
    return {"export": dump(export), "images": images, "model": name, "target": aim}


@_rule
def segmentation_quality(study: Study, w: Wildcards) -> dict[str, Any]:
    model = study.segmentation[study.analyses[w["analysis"]].segmentation]
    return _analysis(study, w) | {"segmentation": training(model)}


@_rule
def export_nrrd(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"export": dump(study.exports[w["export"]])}


@_rule
def export_readers(study: Study, w: Wildcards) -> dict[str, Any]:
    reader = {k: v for k, v in without_prose(study.readers[w["reader"]]).items() if k not in ANSWERS}
    return {"seed": study.seed, "reader": reader}


@_rule
def ingest_readers(study: Study, w: Wildcards) -> dict[str, Any]:
    return {"seed": study.seed, "reader": without_prose(study.readers[w["reader"]])}


# keys of a reader study that say how answers come in, not what is shown
ANSWERS = {"answers", "readers", "simulated", "bootstraps"}


@_rule
def provenance(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"study": without_captions(study)}


@_rule
def report(study: Study, _: Wildcards) -> dict[str, Any]:
    recipes = {n: f.recipe for n, f in study.features.items() if isinstance(f, RadiomicsSet)}
    return {
        "study": dump(study),
        "recipes": {name: dump(load_recipe(find_recipe(recipe))) for name, recipe in recipes.items()},
        "checklists": {name: checklists.fingerprint(name) for name in checklists.NAMES},
    }


@_rule
def clean(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"study": dump(study)}


@_rule
def remove_view(study: Study, _: Wildcards) -> dict[str, Any]:
    return {}


@_rule
def audit(study: Study, _: Wildcards) -> dict[str, Any]:
    return {"passing": [name for name, view in study.views.items() if not view.keep]}


def without_captions(study: Study) -> dict[str, Any]:
    """The study without what only the report shows."""
    record = dump(study)
    del record["report"], record["title"]
    for section in ("analyses", "readers"):
        for entry in record[section].values():
            for key in PROSE & entry.keys():
                del entry[key]
    return record


def images_folder(study: Study, centre: str) -> str:
    """Folder of a centre's images: that of the study file, of its downloads, or the simulator's."""
    own = study.centres[centre]
    if own.idc:
        return own.idc.folder
    return own.images or f"{study.root}/simulated/{centre}"
