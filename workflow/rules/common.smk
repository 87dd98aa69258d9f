# Helpers that the rules share. Each returns a path, a pattern, or a function of wildcards.
import json
import re

from polycentric import codehash, ledger
from polycentric.config import checklists, plan, users
from polycentric.config.export import NrrdExport
from polycentric.config.features import HarmonisedSet, ImportedSet, JoinedSet, RadiomicsSet, SelectedSet
from polycentric.config.analyses import features_of
from polycentric.jobs import THREAD_VARIABLES

# Sums depend on the number of threads: numerical libraries get one; training sets its own from the study file.
os.environ.update({variable: "1" for variable in THREAD_VARIABLES})

MAIN = "main"
# jobs that read images of views, and the views whose images do not stay
USERS = {user.key: user for user in users.users(study)}
PASSING = users.passing(study)


def result(path):
    return f"{study.root}/{path}"


def private(path):
    return f"{study.private_root}/{path}"


def results_root(wildcards):
    return study.root


def logfile(rule, *wildcards):
    return str(Path(result("logs"), rule, *(wildcards or [rule]))) + ".log"


def private_log(rule, *wildcards):
    """Log where original identifiers or paths are read, since a traceback may hold them."""
    return str(Path(private("logs"), rule, *(wildcards or [rule]))) + ".log"


def timing(rule, *wildcards):
    return str(Path(result("benchmarks"), rule, *(wildcards or [rule]))) + ".tsv"


def settings(rule):
    """The settings of a rule's jobs as canonical JSON, for `params:`."""
    return lambda wildcards: plan.settings(study, rule, dict(wildcards))


def code(rule):
    """Hash of the code behind a rule's adapter, for `params:`."""
    return codehash.code_hash(PROJECT / "workflow" / "scripts" / f"{rule}.py")


def memory(base_mb, per_input_mb=0):
    """Memory in MB: a base and a multiple of the inputs' size, more at each attempt."""
    return lambda wildcards, input, attempt: int((base_mb + per_input_mb * input.size_mb) * attempt)


def minutes(base):
    return lambda wildcards, attempt: base * attempt


def any_of(names):
    """Wildcard constraint: one of the names; matches nothing if there are none."""
    return "|".join(sorted(names)) or "(?!)"


def source_manifest(view, fold, shard):
    """Manifest of the image that a view is made from."""
    source = study.views[view].from_
    return result(f"volumes/{shard}.tsv") if source == "scan" else view_manifest(source, fold, shard)


def view_manifest(view, fold, shard):
    return result(f"views/{view}/{fold}/{shard}.tsv")


def room(wildcards, output):
    """What the images of the study take, for a check before any are made.

    A function of `output` counts as derived, so Snakemake does not compare it: another view converts nothing again. The
    estimate is no input either: even as ancient() it would hide what else has changed in the jobs behind it.
    """
    return plan.settings(study, "estimate_space")


def stays(wildcards):
    """Whether a view's images stay: beside the settings, so that images that are there are not made again."""
    return study.views[wildcards.view].keep


def held(rule, *names):
    """Leases on images of views that do not stay, for those of a rule's jobs that read them; see polycentric.passing.

    `names` are the wildcards that tell its users apart. Whoever makes images again for another has a lease of its own.
    """

    def leases(wildcards):
        given = dict(wildcards)
        user = USERS["--".join((rule, *(given[name] for name in names)))]
        shards = {"all": study.shards, "development": study.development_shards}.get(user.over, [given.get("shard")])
        key = f"{given['user']}--{user.key}" if "user" in given else user.key
        return [
            result(f"views/{view}/{given.get('fold', MAIN)}/{shard}.for.{key}.tsv")
            for view in user.views
            if view in PASSING
            for shard in shards
        ]

    return leases


def mask_manifest(source, fold, shard):
    return result(f"masks/{source}/{fold}/{shard}.tsv")


def volumes(shards):
    return [result(f"volumes/{shard}.tsv") for shard in shards]


def views(names, shards, fold=MAIN):
    return [view_manifest(view, fold, shard) for view in dict.fromkeys(names) for shard in shards]


def masks(source, shards, fold=MAIN):
    return [mask_manifest(source, fold, shard) for shard in shards]


def split_table(name):
    return result(f"cohort/splits/{name}.tsv")


def feature_table(name):
    return result(f"features/{name}.parquet")


def perturbed_table(name):
    """Rows of perturbed images; the table of a set has none, so that nobody counts a patient twice."""
    return result(f"features/{name}.perturbed.parquet")


def ledgers(models, fold=MAIN):
    return [result(f"models/{model}/{fold}/ledger.json") for model in models]


def analyses_of(kind):
    return [name for name, analysis in study.analyses.items() if analysis.kind == kind]


def analysis_split(wildcards):
    """Split tables that an analysis reads."""
    split = getattr(study.analyses[wildcards.analysis], "split", None)
    return [split_table(split)] if split else []


def feature_tables(wildcards):
    return [feature_table(name) for name in features_of(study.analyses[wildcards.analysis])]


def feature_ledgers(wildcards):
    """Ledgers of all that was fitted behind the features of an analysis: image models and harmonisation."""
    names = features_of(study.analyses[wildcards.analysis])
    models = [m for name in names for m in (*study.models_of_features(name), *study.fitted_sets(name))]
    return ledgers(dict.fromkeys(models))
