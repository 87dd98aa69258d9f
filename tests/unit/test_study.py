"""Study files: messages, inheritance, leaks; and which settings reach which rule."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from polycentric.config import plan
from polycentric.config.codes import CODES
from polycentric.config.study import Study, load, load_file
from polycentric.config.views import View
from polycentric.errors import UserError

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def toy() -> dict:
    return yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())


def messages(raw: dict) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(raw)
    return [m.removeprefix("  - ") for m in caught.value.messages]


def test_the_studies_of_the_repository_are_valid() -> None:
    assert load_file("config/config.yaml").study == "toy"
    assert load_file("config/studies/smoke.yaml").shards == ["north-0", "south-0"]


def test_null_deletes_lists_replace_and_mappings_merge(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("study: low\nseed: 3\ncentres: {a: {simulate: {}}, b: {simulate: {}}}\n")
    (tmp_path / "high.yaml").write_text("extends: low.yaml\nstudy: high\ncentres: {b: null, a: {role: external}}\n")
    study = load_file(tmp_path / "high.yaml")
    assert (study.study, study.seed, list(study.centres)) == ("high", 3, ["a"])
    assert study.centres["a"].role == "external"
    assert study.centres["a"].simulate is not None


def test_a_missing_parent_is_an_error_with_the_path_to_write(tmp_path: Path) -> None:
    (tmp_path / "high.yaml").write_text("extends: no.yaml\nstudy: high\n")
    with pytest.raises(UserError, match=r"extends: no\.yaml is not a file"):
        load_file(tmp_path / "high.yaml")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("devise", "cpu", "devise: unknown key. Did you mean 'device'?"),
        ("device", "gpu", "device: 'gpu' is not allowed. Write one of: 'auto', 'cpu' or 'cuda'."),
        ("views.ct.spacing", [1, 1, 1], "views.ct.spacing: unknown key. Did you mean 'spacing_mm'?"),
        ("views.ct.from", "noncontrast", "circle"),
        ("views.noncontrast.synthesis", "recontrast", "views.noncontrast.synthesis: 'recontrast' is not defined"),
        ("splits.outcome.within", "image.test", "did you mean 'images'?"),
        ("splits.images.within", "outcome.test", "circle"),
        ("synthesis.decontrast.source.view", "noncontrast", "made by the model itself"),
        ("segmentation.unet.roi", "tumor", "'tumor' is not defined under convert.rois:; write one of: tumour."),
        ("features.mixed.recipe", "toi", "features.mixed.recipe"),
        ("features.mixed.kind", "radiomic", "features.mixed"),
        ("analyses.severity.kind", "classify", "analyses.severity: kind 'classify' is not known. Write one of:"),
        ("analyses.severity.features", ["mixd"], "did you mean 'mixed'?"),
        ("analyses.survival.outcome", "surviva", "did you mean 'survival'?"),
        ("analyses.survival.outcome", "severe", "survival needs a time-to-event outcome"),
        ("analyses.survival.models.clinical", {"clinical": ["age_year"]}, "did you mean 'age_years'?"),
        ("analyses.fidelity.synthesis", "unet", "analyses.fidelity.synthesis"),
        ("analyses.probe", {"kind": "synthesis-probe", "synthesis": "unet"}, "analyses.probe.synthesis"),
        ("analyses.all", {"kind": "synthesis-summary", "analyses": ["severity"]}, "'severity' examines no synthesis"),
        ("analyses.all", {"kind": "synthesis-summary", "synthesis": ["other"]}, "none of the joined analyses examines"),
        ("readers.turing.split", "outcom", "did you mean 'outcome'?"),
        ("centres.north", {"images": "data/north", "simulate": {}}, "write either 'images"),
        ("review", "nowhere.tsv", "review: there is no file 'nowhere.tsv'"),
        ("segmentation.manual", {"split": "images", "view": "ct", "roi": "tumour"}, "has the same name"),
        ("features.mixed.masks", "reader-a", "'reader-a' is not defined under segmentation:"),
        (
            "centres.north",
            {"images": "config", "table": {"file": "no.csv", "path": "f", "patient": "p", "modality": "CT"}},
            "centres.north.table.file: the file 'no.csv' does not exist",
        ),
        ("centres.north", {"images": "nowhere"}, "the folder 'nowhere' does not exist"),
        ("centres.nor th", {"simulate": {}}, "not a valid name"),
    ],
)
def test_each_mistake_is_named_with_what_to_write(toy: dict, path: str, value: object, words: str) -> None:
    *parents, key = path.split(".")
    section = toy
    for parent in parents:
        section = section[parent]
    section[key] = value
    found = messages(toy)
    assert any(words in message for message in found), found


def test_a_view_of_the_backward_generator_is_like_the_source(toy: dict) -> None:
    toy["views"]["again"] = {"from": "noncontrast", "synthesis": "decontrast", "direction": "backward"}
    toy["exports"]["again"] = {"view": "again"}
    toy["synthesis"]["decontrast"]["source"]["range"] = [-300, 500]
    study = load(toy)
    # what judges the model takes the forward view alone
    assert study.views_of_model("decontrast") == ["noncontrast"]
    assert study.models_of_view("again") == ["decontrast"]
    w = {"view": "again", "fold": "main", "shard": study.shards[0]}
    assert plan.synthesize(study, w)["view"]["direction"] == "backward"
    aim = plan.export_dicom(study, w)["target"]
    assert aim == {"wheres": ["contrast == 'yes'"], "limits": (-300, 500), "calibrated": True}
    toy["analyses"]["fidelity"]["view"] = "again"
    assert any("'again' is not made by 'decontrast'; write one of: noncontrast" in m for m in messages(toy))
    del toy["analyses"]["fidelity"]["view"]
    toy["views"]["ct"]["direction"] = "backward"
    assert any("direction is that of a synthesis model" in m for m in messages(toy))
    del toy["views"]["ct"]["direction"]
    toy["synthesis"]["decontrast"] |= {"losses": {"identity": 0}}
    toy["synthesis"]["decontrast"]["source"]["also"] = [{"view": "ct", "where": "contrast == 'no'"}]
    toy["synthesis"]["decontrast"]["generator"] |= {"branch_blocks": 1}
    assert any("views.again.direction: the backward generator" in m for m in messages(toy))


def test_further_inputs_of_a_synthesis_model_are_known_views(toy: dict) -> None:
    model = toy["synthesis"]["decontrast"]
    model["losses"]["identity"] = 0
    model["generator"] |= {"skip": False, "branch_blocks": 1}
    model["source"]["also"] = [{"view": "second", "where": "modality == 'MR'"}]
    model["start_from"] = {"path": "nowhere.safetensors", "sha256": "0" * 64}
    found = messages(toy)
    assert any("synthesis.decontrast.source.also.0.view: 'second' is not defined" in m for m in found), found
    assert any("synthesis.decontrast.start_from.path: there is no file 'nowhere.safetensors'" in m for m in found)
    del model["start_from"]
    model["source"]["also"][0]["view"] = "noncontrast"
    assert any("also.0.view: this view is made by the model itself" in m for m in messages(toy))
    # a fitted view among the inputs is a model behind the images
    model["source"]["also"][0]["view"] = "standardised"
    study = load(toy)
    assert study.models_of_view("noncontrast") == ["decontrast", "standardised"]
    assert study.synthesis["decontrast"].views == ("ct", "standardised")


def test_harmonisation_that_is_told_the_outcome_is_refused(toy: dict) -> None:
    toy["features"]["combat"] |= {"covariates": ["age_years"]}
    load(toy)
    toy["clinical"]["columns"]["again"] = {"type": "categorical", "column": "severe"}
    for key, value in (("covariates", ["age_years", "severe"]), ("covariates", ["again"]), ("batch", ["severe"])):
        changed = copy.deepcopy(toy)
        changed["features"]["combat"] |= {key: value}
        found = [m for m in messages(changed) if "harmonised by the own outcome" in m]
        assert [m.split(":")[0] for m in found] == ["analyses.severity.outcome"], key
        assert f"features.combat.{key}" in found[0]
    # survival is made of two columns, and a selected set is no way round
    toy["features"]["combat"] |= {"covariates": ["dead"]}
    load(toy)  # no survival analysis uses it
    toy["features"]["fewer"] = {"kind": "selected", "of": "combat", "stable": "outlined-twice"}
    toy["analyses"]["survival"]["models"]["clinical-radiomics"]["features"] = "fewer"
    assert any(m.startswith("analyses.survival.outcome") and "'dead'" in m for m in messages(toy))


def test_models_behind_what_is_subtracted_count(toy: dict) -> None:
    toy["views"]["change"] = {"from": "ct", "minus": "noncontrast"}
    study = load(toy)
    assert study.models_of_view("change") == study.models_of_view("noncontrast") == ["decontrast"]
    toy["features"]["change"] = {"view": "change", "masks": ["manual", "unet"], "recipe": "toy"}
    study = load(toy)
    assert study.models_of_features("change") == ["decontrast", "unet"]
    # trained in `images`: an analysis by that split would judge training patients
    toy["analyses"]["severity"] |= {"split": "images", "features": ["change"]}
    assert any("'decontrast', trained in split 'images'" in m for m in messages(toy))
    toy["views"]["change"]["minus"] = "changed"
    toy["views"]["changed"] = {"from": "change"}
    assert any("through onto, minus or masks" in m for m in messages(toy))
    toy["features"]["change"]["masks"] = ["manual", "nobody"]
    assert any(m.startswith("features.change.masks: 'nobody'") for m in messages(toy))


def test_a_wrong_entry_hides_no_other_mistake(toy: dict) -> None:
    toy["synthesis"]["decontrast"]["iterations"] = "many"
    toy["analyses"]["survival"]["models"] = {"a": {}}
    toy["views"]["ct"]["spacing"] = [1, 1, 1]
    toy["splits"]["outcome"]["within"] = "image.test"
    found = messages(toy)
    assert found[0].endswith("has 4 problems:")
    assert len(found) == 5
    # references to the wrong entries are not reported as a second mistake
    assert not any("'decontrast' is not defined" in m or "'ct' is not defined" in m for m in found)


IMPORTED = {"kind": "imported", "table": {"north": str(Path(__file__))}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"splits": {"outcome": {"within": None}}}, "model 'decontrast', trained in split 'images'"),
        ({"splits": {"outcome": {"within": "images.training"}}}, "would be a leak"),
        ({"analyses": {"severity": {"split": "images"}}}, "would be a leak"),
        (
            {"splits": {"other": {"test": 0.3}}, "features": {"combat": {"split": "other"}}},
            "fitted on the training patients of split 'other'",
        ),
        (
            {
                "features": {"theirs": IMPORTED | {"chosen_on": "everybody"}},
                "analyses": {
                    "early": {"kind": "classification", "split": "outcome", "outcome": "severe", "features": ["theirs"]}
                },
            },
            "nobody is left to evaluate a model on",
        ),
        ({"features": {"theirs": IMPORTED | {"chosen_on": {"centres": ["north"]}}}}, ""),
        ({"readers": {"turing": {"split": "outcome", "parts": ["training"]}}}, ""),
    ],
)
def test_designs_that_leak_are_refused_by_the_study_file_alone(toy: dict, change: dict, words: str) -> None:
    for section, entries in change.items():
        for name, keys in entries.items():
            toy[section].setdefault(name, {}).update(keys)
    if not words:
        load(toy)  # nested in the test part of the generator's split: no leak
    else:
        assert any(words in message for message in messages(toy))


def test_settings_do_not_depend_on_the_order_of_keys(toy: dict) -> None:
    # the order of models is a setting of its own
    del toy["analyses"]["survival"]
    turned = {key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in toy.items()}
    one, other = load(copy.deepcopy(toy)), load(dict(reversed(turned.items())))
    for rule, wildcards in jobs(one):
        assert plan.settings(one, rule, wildcards) == plan.settings(other, rule, wildcards), rule


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"model": "survival/clinical", "outcome": "survival"}, ""),
        ({"model": "survival/automatic", "features": "mixed"}, ""),
        ({"model": "severity/mixed/lasso", "features": "mixed", "outcome": "severe"}, ""),
        ({"model": "survival/automatic"}, "write a set, such as 'automatic'"),
        ({"model": "severity/mixed/lasso"}, "write a set, such as 'mixed'"),
        ({"model": "survival/other"}, "is not fitted; that analysis has clinical, clinical-radiomics, automatic"),
        ({"model": "cohort/mixed/lasso", "features": "mixed"}, "of no analysis that keeps models"),
        ({"model": "survival/clinical", "outcome": "severe"}, "write a time-to-event outcome"),
        ({"model": "severity/mixed/lasso", "features": "mixed", "outcome": "survival"}, "write an outcome of classes"),
        ({"model": "survival/both", "features": "mixed"}, "fitted on several sets"),
        ({"model": "severity/ensemble/one", "features": "mixed"}, ""),
        ({"model": "severity/ensemble/two", "features": "mixed"}, "fitted on several sets .combat, mixed."),
        ({"model": "severity/combat/lasso"}, "write a set, such as 'combat'"),
    ],
)
def test_what_is_applied_is_known_and_gets_what_it_needs(toy: dict, own: dict, words: str) -> None:
    toy["analyses"]["survival"]["models"]["both"] = {"stack": ["clinical-radiomics", "automatic"]}
    toy["analyses"]["severity"]["ensembles"] = {
        "one": ["mixed/lasso", "mixed/random-forest"], "two": ["mixed/lasso", "combat/lasso"],
    }  # fmt: skip
    if "other" in own["model"]:
        del toy["analyses"]["survival"]["models"]["both"]
    toy["apply"] = {"again": own}
    if not words:
        study = load(toy)
        assert json.loads(plan.settings(study, "apply_model", {"application": "again"}))["application"]["model"]
        return
    with pytest.raises(UserError, match=words):
        load(toy)


def test_the_first_survival_model_stays_the_first(toy: dict) -> None:
    models = toy["analyses"]["survival"]["models"]
    assert list(models) != sorted(models)
    job = json.loads(plan.settings(load(toy), "survive", {"analysis": "survival"}))
    assert job["order"] == list(models)


def test_the_example_of_several_inputs_plans(tmp_path: Path) -> None:
    """The example of docs/synthesis.md as a study of real MR and CT: every job has settings, each with its inputs."""
    text = (PROJECT / "docs" / "synthesis.md").read_text(encoding="utf-8").partition("**Several inputs.**")[2]
    example = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    (tmp_path / "dicom").mkdir()
    raw = {
        "study": "mr", "centres": {"chaos": {"images": str(tmp_path / "dicom")}},
        "curation": {"preset": "abdomen-ct-mr"}, "splits": {"images": {"test": 0.2}},
        "analyses": {
            "models": {"kind": "synthesis-comparison", "synthesis": ["in-n-out"], "source": False},
            "change": {"kind": "synthesis-fidelity", "synthesis": "in-n-out"},
            "windows": {"kind": "synthesis-probe", "synthesis": "in-n-out"},
            "all": {"kind": "synthesis-summary"},
        },
    }  # fmt: skip
    study = load(raw | example)
    model = study.synthesis["in-n-out"]
    assert model.inputs == 2
    assert [model.source.where, model.source.also[0].where] == ["sequence == 'in-phase'", "sequence == 'out-of-phase'"]
    rules = set()
    for rule, wildcards in jobs(study):
        plan.settings(study, rule, wildcards)
        rules.add(rule)
    assert {"train_synthesis", "synthesize", "fidelity", "probe_synthesis", "compare_synthesis"} <= rules


def test_a_view_holds_hu_until_a_step_changes_the_unit(toy: dict) -> None:
    toy["views"]["flat"] = {"from": "ct", "steps": [{"kind": "body"}, {"kind": "pack", "low": -1000, "high": 1000}]}
    toy["views"]["later"] = {"from": "flat", "clip": [0, 255]}
    toy["views"]["made"] = {"from": "ct", "synthesis": "packed"}
    toy["synthesis"]["packed"] = toy["synthesis"]["decontrast"] | {"target": {"view": "later", "range": [0, 255]}}
    toy["analyses"]["change"] = {"kind": "synthesis-fidelity", "synthesis": "packed"}
    study = load(toy)
    found = {view: study.calibrated(view) for view in ("ct", "noncontrast", "standardised", "flat", "later", "made")}
    assert found == {"ct": True, "noncontrast": True, "standardised": False, "flat": False, "later": False,
                     "made": False}  # fmt: skip
    assert json.loads(plan.settings(study, "fidelity", {"analysis": "change"}))["calibrated"] == [True, False]


def jobs(study: Study) -> list[tuple[str, dict[str, str]]]:
    """All jobs of a study as (rule, wildcards)."""
    radiomics = [n for n, f in study.features.items() if f.kind == "radiomics"]
    kinds = {
        "cohort": "describe",
        "classification": "classify",
        "survival": "survive",
        "synthesis-fidelity": "fidelity",
        "segmentation-quality": "segmentation_quality",
        "feature-agreement": "feature_agreement",
        "agreement": "agree",
        "survey": "survey",
        "mask-agreement": "mask_agreement",
        "association": "associate",
        "stability": "stability",
        "harmonisation": "harmonisation",
        "exploration": "explore",
        "synthesis-comparison": "compare_synthesis",
        "detectability": "detectability",
        "feature-shift": "feature_shift",
        "synthesis-probe": "probe_synthesis",
        "synthesis-summary": "summarise_synthesis",
    }
    shards = [{"shard": shard} for shard in study.shards]
    single = ("pseudonym_key", "cohort", "estimate_space", "establish", "provenance", "report")
    found = [(rule, {}) for rule in single]
    found += [("plan_cohort", {})] if study.simulated else []
    found += [("simulate_centre", {"centre": c}) for c in study.simulated]
    found += [(rule, {"centre": c}) for c in study.centres for rule in ("index", "curate")]
    found += [("split", {"split": s}) for s in study.splits]
    found += [(rule, s) for s in shards for rule in ("convert", "examine", "share", "quicklook")]
    found += [("fetch_idc", {"centre": n}) for n, c in study.centres.items() if c.idc]
    found += [
        ("synthesize" if v.synthesis else "prepare", {"view": n, "fold": "main", **s})
        for n, v in study.views.items()
        for s in shards
    ]
    found += [("train_synthesis", {"model": m, "fold": "main"}) for m in study.synthesis]
    for model in study.segmentation:
        found += [("train_segmentation", {"model": model, "fold": "main"})]
        found += [("segment", {"model": model, "fold": "main", **s}) for s in shards]
    found += [("extract", {"set": n, **s}) for n in radiomics for s in shards]
    found += [(rule, {"set": n}) for n in radiomics for rule in ("merge_features", "merge_perturbed")]
    found += [("harmonise", {"set": n}) for n, f in study.features.items() if f.kind == "harmonised"]
    found += [("select_features", {"set": n}) for n, f in study.features.items() if f.kind == "selected"]
    found += [("fit_view", {"view": n, "fold": "main"}) for n in study.fitted_views]
    found += [
        ("profile_images", {"profile": p, "view": v, "fold": "main", **s})
        for p in study.profiles
        for v in study.views
        if study.users_of_profile(p, v)
        for s in shards
    ]
    found += [("export_dicom", {"view": e.view, "fold": "main", **s}) for e in study.dicom_exports for s in shards]
    found += [("export_nrrd", {"export": n, **s}) for n, e in study.exports.items() if e.kind == "nrrd" for s in shards]
    found += [("import_features", {"set": n}) for n, f in study.features.items() if f.kind == "imported"]
    found += [("join_features", {"set": n}) for n, f in study.features.items() if f.kind == "joined"]
    found += [(kinds[a.kind], {"analysis": n}) for n, a in study.analyses.items()]
    found += [
        (rule, {"analysis": n, "shard": str(k)})
        for n, a in study.analyses.items()
        if (rule := {"classification": "permute_outcomes", "survival": "permute_follow_up"}.get(a.kind))
        for k in range(len(a.permutations_of()))
    ]
    found += [("apply_model", {"application": n}) for n in study.apply]
    found += [(rule, {"reader": n}) for n in study.readers for rule in ("export_readers", "ingest_readers")]
    return found


PERMUTE = {"permute_outcomes", "permute_follow_up"}
# where a key may act directly, by the longest prefix of its path; everything also reaches provenance and report
DIRECT: dict[str, set[str]] = {
    "study": {"index", "convert", "share", "export_dicom"},
    "title": set(),
    "results": {"index", "convert", "share", "export_dicom"},
    "private": set(),
    "workers": set(),
    "disk": {"estimate_space"},
    "seed": {
        *PERMUTE, "apply_model", "plan_cohort",
        "simulate_centre", "pseudonym_key", "split", "extract", "train_synthesis",
        "synthesize", "train_segmentation", "segment", "describe", "classify", "survive", "fidelity",
        "segmentation_quality", "feature_agreement", "stability", "harmonisation", "explore", "compare_synthesis",
        "detectability", "feature_shift", "probe_synthesis", "summarise_synthesis", "export_readers",
        "ingest_readers", "agree", "survey", "associate", "mask_agreement",
    },
    "device": {"train_synthesis", "synthesize", "train_segmentation", "segment", "profile_images", "probe_synthesis"},
    "centres.*.role": {"cohort"},
    "centres.*.shards": {"cohort"},
    "centres.*.simulate": {"plan_cohort", "simulate_centre"},
    "simulation": {"plan_cohort", "simulate_centre"},
    "withdraw": {"cohort", "import_features"},
    "exclude": {"cohort"},
    "examine": {"examine"},
    "establish": {"establish"},
    "deidentify": {"share"},
    "quicklook": {"quicklook"},
    "clinical": {"cohort", "describe"},
    "clinical.columns": {"cohort", "describe", "classify", "survive", "associate", "apply_model", *PERMUTE},
    "clinical.outcomes": {"cohort", "describe", "explore", "split", "classify", "survive", "apply_model", *PERMUTE},
    "curation": {"curate"},
    "curation.limits": {"cohort"},
    "convert": {"convert"},
    "convert.rois": {"convert", "share", "estimate_space"},
    "convert.sources": {"convert", "share", "estimate_space"},
    "splits": {"split"},
    # whether a view still holds HU matters to those who measure in HU
    "views": {"prepare", "fit_view", "synthesize", "export_dicom", "fidelity", "probe_synthesis", "estimate_space"},
    # beside the settings of the jobs that make the images: see stays() in common.smk
    "views.*.keep": {"estimate_space"},
    "synthesis": {"train_synthesis", "synthesize", "fidelity", "compare_synthesis", "detectability", "probe_synthesis",
                  "summarise_synthesis"},
    "profiles": {"profile_images", "compare_synthesis"},
    "exports": {"export_dicom", "export_nrrd"},
    "synthesis.*.inference": {"synthesize", "fidelity", "probe_synthesis"},
    "segmentation": {"train_segmentation", "segment", "segmentation_quality"},
    "segmentation.*.inference": {"segment"},
    "features": {"extract", "harmonise", "select_features", "import_features", "join_features"},
    "analyses": {
        "describe", "classify", "survive", "fidelity", "segmentation_quality", "feature_agreement", "stability",
        "harmonisation", "explore", "compare_synthesis", "detectability", "feature_shift", "profile_images",
        "probe_synthesis", "summarise_synthesis", "agree", "survey", "associate", "mask_agreement", *PERMUTE,
    },
    "analyses.*.permutations": {"classify", "survive", "harmonisation", *PERMUTE},
    "analyses.*.permutation_shards": PERMUTE,
    "apply": {"apply_model"},
    "analyses.*.title": set(),
    "analyses.*.question": set(),
    "analyses.*.caption": set(),
    "readers": {"export_readers", "ingest_readers"},
    "readers.*.answers": {"ingest_readers"},
    "readers.*.readers": {"ingest_readers"},
    "readers.*.simulated": {"ingest_readers"},
    "readers.*.bootstraps": {"ingest_readers"},
    "readers.*.title": set(),
    "readers.*.caption": set(),
    "report": set(),
}  # fmt: skip


def allowed(path: tuple[str, ...]) -> set[str]:
    for length in range(len(path), 0, -1):
        prefix = [p if n != 1 else "*" for n, p in enumerate(path[:length])]
        for candidate in (".".join(prefix), ".".join(path[:length])):
            if candidate in DIRECT:
                return DIRECT[candidate]
    raise AssertionError(f"DIRECT does not say what {'.'.join(path)} may change")


def leaves(value: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [(path, value)]


def other_values(value: object) -> list[object]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1, value * 2]
        case float():
            return [value * 1.1 + 0.001, value * 0.9, value / 2]
        case str():
            return [
                f"{value}x",
                "cuda",
                "external",
                "development",
                "union",
                "random-forest",
                "nearest",
                "error",
                "minimum",
            ]
        case None:
            return [1, "x", [0.0, 100.0]]
        case list() if value and all(isinstance(v, int | float) for v in value):
            return [[v * 2 for v in value], [v / 2 for v in value], [v + 1 for v in value]]
        case list() if len(value) > 1:
            return [value[:-1]]
    return []


def set_in(raw: dict, path: tuple[str, ...], value: object) -> dict:
    changed = copy.deepcopy(raw)
    section = changed
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    return changed


@pytest.mark.slow
def test_every_key_reaches_the_rules_it_may_and_no_other() -> None:
    study = load_file("config/config.yaml")
    raw = study.model_dump(mode="json", by_alias=True)
    before = {(rule, str(w)): plan.settings(study, rule, w) for rule, w in jobs(study)}
    tried, unreached = 0, []
    for path, value in leaves(raw):
        for other in other_values(value):
            if other == value:
                continue
            try:
                changed = load(set_in(raw, path, other))
            except UserError:
                continue
            tried += 1
            after = {(rule, str(w)): plan.settings(changed, rule, w) for rule, w in jobs(changed)}
            reached = {rule for (rule, w), text in after.items() if before.get((rule, w), text) != text}
            direct = reached - {"provenance", "report"}
            # other jobs, such as those of a further shard, are a change of the graph
            reached |= {rule for rule, w in after.keys() ^ before.keys()}
            assert direct <= allowed(path), f"{'.'.join(path)}: reaches {direct - allowed(path)}"
            if not reached:
                unreached.append(".".join(path))
            break
    assert tried > 150
    assert unreached == []


@pytest.mark.parametrize(
    ("code", "rules"),
    [
        ("GEOM_GANTRY_TILT", {"curate"}),
        ("RT_DUP_CONTOUR", {"convert"}),
        ("RESCALE_MISSING", {"curate", "convert"}),
        ("STUDY_DUPLICATE_PATIENT", {"establish"}),
    ],
)
def test_a_verdict_reaches_the_stage_that_gives_it(toy: dict, code: str, rules: set[str]) -> None:
    study = load(copy.deepcopy(toy))
    toy.setdefault("curation", {}).setdefault("verdicts", {})[code] = CODES[code].others[0]
    changed = load(toy)
    reached = {rule for rule, w in jobs(study) if plan.settings(study, rule, w) != plan.settings(changed, rule, w)}
    assert reached == {*rules, "provenance", "report"}


@pytest.mark.parametrize("analysis", ["severity", "survival"])
def test_permutations_hang_on_what_is_fitted_and_not_on_how_it_is_judged(toy: dict, analysis: str) -> None:
    def shards(changes: dict) -> dict[str, str]:
        raw = copy.deepcopy(toy)
        raw["analyses"][analysis] |= changes
        study = load(raw)
        return {w["shard"]: plan.settings(study, rule, w) for rule, w in jobs(study)
                if rule in PERMUTE and w["analysis"] == analysis}  # fmt: skip

    judging: dict[str, object] = {"bootstraps": 7, "level": 0.9, "subgroups": {"sex": []}, "expected_r2": 0.3}
    own = {
        "severity": {"sensitivities": [0.8], "explain": {"shap": False}, "validation": [{"kind": "leave-centre-out"}],
                     "agreements": {"both": ["mixed/lasso", "combat/lasso"]}},
        "survival": {"primary": "clinical", "cut": "maximal", "times_days": [30], "interval": "log"},
    }  # fmt: skip
    before = shards({})
    assert list(before) == ["0"]
    for key, value in (judging | own[analysis]).items():
        assert shards({key: value}) == before, key
    for key, value in {"resampling": {"folds": 2}, "imputation": {"method": "forest"}, "selection": [],
                       "permute_within": "centre", "permutations": 21}.items():  # fmt: skip
        assert shards({key: value}) != before, key
    # run k stays in its shard where twice the runs have twice the shards; no shard is empty
    double = shards({"permutations": 40, "permutation_shards": 2})
    assert (double["0"], len(double)) == (before["0"], 2)
    assert len(shards({"permutation_shards": 1000})) == 20
    assert shards({"permutations": 0, "permutation_shards": 5}) == {}


def test_a_caption_reaches_the_report_alone() -> None:
    study = load_file("config/config.yaml")
    raw = study.model_dump(mode="json", by_alias=True)
    changed = load(set_in(raw, ("analyses", "survival", "caption"), "Another caption."))
    reached = {rule for rule, w in jobs(study) if plan.settings(study, rule, w) != plan.settings(changed, rule, w)}
    assert reached == {"report"}


def test_preparations_of_published_studies_load_from_a_study_file(toy: dict) -> None:
    split = next(iter(toy["splits"]))
    toy["views"] |= yaml.safe_load(f"""
        at-mode:
          from: scan
          fit: {{split: {split}}}
          steps: [{{kind: resample, spacing_mm: mode, interpolation: cubic}}]
        minimal: {{from: at-mode, preset: minimalist}}
        standard: {{from: at-mode, preset: standardisation}}
        harmonised: {{from: at-mode, preset: harmonisation, fit: {{split: {split}}}}}
        planar:
          from: scan
          steps: [{{kind: resize, size: [256, 512, 0]}}, {{kind: min-max, per: plane}}, {{kind: side-by-side}}]
        onto-t1: {{from: scan, where: "sequence == 'T2'", onto: {{where: "sequence == 'T1+Gd'", register: rigid}}}}
    """)
    study = load(toy)
    assert {"at-mode", "harmonised"} <= set(study.fitted_views)
    for name, kinds in (
        ("minimal", ["z-score", "shift"]),
        ("standard", ["white-stripe", "shift"]),
        ("harmonised", ["histogram-match", "clahe"]),
        ("planar", ["resize", "min-max", "side-by-side"]),
    ):
        assert [step.kind for step in study.views[name].sequence()] == kinds
    job = json.loads(plan.settings(study, "prepare", {"view": "onto-t1", "fold": "main", "shard": study.shards[0]}))
    assert View.model_validate(job["view"]).onto.register_ == "rigid"


def test_registered_views_are_refused_where_positions_of_the_scan_count(toy: dict) -> None:
    toy["views"]["ct"] |= {"onto": {"where": "modality == 'CT'", "register": "rigid"}}
    toy["views"]["ct"].pop("spacing_mm", None)
    found = [m for m in messages(toy) if "is registered to another scan" in m]
    assert any(m.startswith("segmentation.") for m in found)
