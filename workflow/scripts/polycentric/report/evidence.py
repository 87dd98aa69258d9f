"""What a study's results show, by name: the evidence with which the report answers items of checklists.

Evidence is found in results (tables, metrics, ledgers), or in settings of jobs that these results come from. A function
returns nothing where there is none; a file that is named must exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ..tables.schemas import FEATURES
from .inputs import ReportInputs
from .leaks import Entry
from .licences import NOT_STATED, Licences
from .writing import plural

PREDICTION = ("classification", "survival")
SIMPLE = ("logistic", "ridge", "lasso", "elastic-net", "cox", "nearest-centroid")
REDUCING = ("correlation", "mrmr", "elimination", "forest", "top", "kendall", "test")
RATERS = ("mask-agreement", "agreement", "survey")
IMAGE_MEASURES = (
    "synthesis-fidelity", "synthesis-comparison", "detectability", "feature-shift", "synthesis-probe",
    "segmentation-quality",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A piece of evidence: what it is, the place in the report (an id), and the file below the results."""

    text: str
    place: str = ""
    file: str = ""


@dataclass(frozen=True)
class Results:
    """What evidence is looked for in.

    `analyses` and `readers` are the report's entries of them, `recipes` those of extracted feature sets, `places` the
    ids that the page has.
    """

    study: Mapping[str, Any]
    root: Path
    inputs: ReportInputs
    recipes: Mapping[str, Mapping[str, Any]]
    curation: pd.DataFrame
    scans: pd.DataFrame
    patients: pd.DataFrame
    flow: pd.DataFrame
    splits: Mapping[str, pd.DataFrame]
    analyses: list[dict[str, Any]]
    readers: list[dict[str, Any]]
    audit: list[Entry]
    licences: Licences
    provenance: Mapping[str, Any]
    places: frozenset[str]

    def section(self, name: str) -> Mapping[str, Any]:
        return self.study.get(name) or {}

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [entry for entry in self.analyses if entry["kind"] in kinds]

    def declared(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.section("analyses").get(entry["name"]) or {}

    def artefacts(self, names: Iterable[str], entries: Iterable[Mapping[str, Any]], what: str) -> Iterator[Found]:
        """The figures or tables of these names, without suffix; a table without rows does not count."""
        wanted = set(names)
        for entry in entries:
            for item in [*entry["tables"], *entry["figures"]]:
                table = item.get("table")
                if Path(item["name"]).stem in wanted and (table is None or table.rows):
                    yield Found(f"{what} of {entry['title']}", f"result-{entry['name']}", item["file"])
                    break


Finder = Callable[[Results], Iterable[Found]]


def _artefacts(what: str, kinds: tuple[str, ...], *names: str) -> Finder:
    """Finds the figures or tables of these names that the analyses of these kinds have."""
    return lambda r: r.artefacts(names, r.of(*kinds), what)


FINDERS: dict[str, Finder] = {
    "acquisition": _artefacts("Acquisition, from the headers,", ("cohort",), "acquisition", "scanners"),
    "table1": _artefacts("Table 1", ("cohort",), "table1"),
    "stability": _artefacts("Stability of features:", ("stability",), "features"),
    "feature-statistics": _artefacts("Statistics of features:", ("exploration",), "statistics", "features"),
    "performance": _artefacts("Performance", PREDICTION, "performance"),
    "comparisons": _artefacts("Paired comparisons", PREDICTION, "comparisons"),
    "calibration": _artefacts("Calibration", PREDICTION, "calibration"),
    "decision": _artefacts("Decision curves", PREDICTION, "decision"),
    "thresholds": _artefacts("Thresholds from training", PREDICTION, "thresholds"),
    "risk-groups": _artefacts("Risk groups", ("survival",), "groups"),
    "confusion": _artefacts("Calls against the truth", PREDICTION, "confusion"),
    "sample-size": _artefacts("What the training data carry", PREDICTION, "sample-size"),
    "equations": _artefacts("Models as equations", PREDICTION, "equations"),
    "variables": _artefacts("Variables", PREDICTION, "variables"),
    "explanations": _artefacts("Explanations", PREDICTION, "importance", "shapley", "dependence"),
}


def _evidence(name: str) -> Callable[[Finder], Finder]:
    def register(finder: Finder) -> Finder:
        FINDERS[name] = finder
        return finder

    return register


def find(name: str, results: Results) -> list[Found]:
    """All evidence of a name; what names a file that is not there is none, and places are those of the page."""
    found = [own for own in FINDERS[name](results) if not own.file or (results.root / own.file).is_file()]
    return list(dict.fromkeys(own if own.place in results.places else replace(own, place="") for own in found))


def _settings(text: str) -> Found:
    return Found(text, "settings")


# participants and data ------------------------------------------------------------------------------------------------


@_evidence("flow")
def _flow(r: Results) -> Iterator[Found]:
    if len(r.flow):
        text = f"Participant flow: {plural(len(r.curation), 'candidate')}, {plural(len(r.scans), 'scan')} accepted"
        yield Found(text, "participants", "cohort/flow.tsv")


@_evidence("criteria")
def _criteria(r: Results) -> Iterator[Found]:
    if r.section("curation"):
        yield _settings("Criteria on scans: settings, curation")


@_evidence("exclusions")
def _exclusions(r: Results) -> Iterator[Found]:
    n = int((r.curation["verdict"] == "reject").sum())
    yield Found(f"{plural(n, 'scan')} excluded, each with a reason", "exclusions", "cohort/curation.parquet")


@_evidence("centres")
def _centres(r: Results) -> Iterator[Found]:
    roles = r.patients.groupby("centre")["role"].first()
    named = ", ".join(f"{centre} ({role})" for centre, role in roles.items())
    if named:
        yield Found(f"Centres: {named}", "participants", "cohort/patients.tsv")


@_evidence("several-centres")
def _several(r: Results) -> Iterator[Found]:
    return _centres(r) if r.scans["centre"].nunique() > 1 else iter(())


@_evidence("simulated")
def _simulated(r: Results) -> Iterator[Found]:
    centres = r.section("centres").values()
    if centres and all(own.get("simulate") for own in centres):
        yield _settings("All centres are simulated")


@_evidence("sources")
def _sources(r: Results) -> Iterator[Found]:
    rows = r.licences.table.rows
    if rows and all(row[3] != NOT_STATED for row in rows):
        yield Found("Where each input comes from, with its licence", "licences")


@_evidence("open-data")
def _open_data(r: Results) -> Iterator[Found]:
    rows = r.licences.table.rows
    if rows and all("://" in row[3] and row[2] != NOT_STATED for row in rows):
        yield Found("All inputs have an address and a licence", "licences")


@_evidence("pseudonyms")
def _pseudonyms(r: Results) -> Iterator[Found]:
    yield Found("Patients and scans have pseudonyms from a keyed hash", "methods", "cohort/patients.tsv")


@_evidence("subsets")
def _subsets(r: Results) -> Iterator[Found]:
    chosen = [f"view {n}" for n, own in r.section("views").items() if own.get("where")]
    for name, model in r.section("synthesis").items():
        if any((model.get(domain) or {}).get("where") for domain in ("source", "target")):
            chosen.append(f"domains of {name}")
    if chosen:
        yield _settings(f"Conditions on scans: {', '.join(chosen)}")


@_evidence("table1-by-part")
def _table1_by_part(r: Results) -> Iterator[Found]:
    entries = [entry for entry in r.of("cohort") if r.declared(entry).get("by") == "part"]
    return r.artefacts(("table1",), entries, "Table 1 by part of the split")


@_evidence("table1-by-centre")
def _table1_by_centre(r: Results) -> Iterator[Found]:
    entries = [entry for entry in r.of("cohort") if r.declared(entry).get("by") == "centre"]
    return r.artefacts(("table1",), entries, "Table 1 by centre")


@_evidence("missing-values")
def _missing(r: Results) -> Iterator[Found]:
    for entry in r.of("cohort"):
        for table in entry["tables"]:
            if table["name"] == "table1.csv" and "missing" in table["table"].header and len(table["table"].rows) > 2:
                yield Found(f"Missing values in table 1 of {entry['title']}", f"result-{entry['name']}", table["file"])


@_evidence("imputation")
def _imputation(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        if method := (r.declared(entry).get("imputation") or {}).get("method"):
            yield _settings(f"{entry['title']}: missing values are imputed inside training ({method})")


@_evidence("splits")
def _splits(r: Results) -> Iterator[Found]:
    for name, table in r.splits.items():
        counts = table["part"].value_counts().sort_index()
        text = ", ".join(f"{part} {n}" for part, n in counts.items())
        yield Found(f"Split {name}: {text} patients", "participants", f"cohort/splits/{name}.tsv")


@_evidence("patients-apart")
def _apart(r: Results) -> Iterator[Found]:
    if r.splits and not any(table["patient"].duplicated().any() for table in r.splits.values()):
        yield Found("Each patient lies in one part of a split, checked here", "participants")


@_evidence("ledger")
def _ledger(r: Results) -> Iterator[Found]:
    known = [entry for entry in r.audit if entry.held_out is not None]
    if known and not any(entry.overlaps or entry.unknown for entry in r.audit):
        yield Found(f"No held-out patient was seen: {plural(len(known), 'ledger')} compared with splits", "ledger")


@_evidence("outcomes")
def _outcomes(r: Results) -> Iterator[Found]:
    if declared := (r.section("clinical").get("outcomes") or {}):
        yield _settings(f"Outcomes as columns of the clinical table: {', '.join(declared)}")


@_evidence("outlines")
def _outlines(r: Results) -> Iterator[Found]:
    for name in sorted(r.inputs.masks):
        by = "segmentation network" if name in r.section("segmentation") else "as delivered"
        yield _settings(f"Mask source {name}: {by}")


@_evidence("rater-agreement")
def _raters(r: Results) -> Iterator[Found]:
    for entry in r.of(*RATERS):
        if entry["estimates"]:
            yield Found(f"Agreement: {entry['title']}", f"result-{entry['name']}")
    for entry in r.of("stability"):
        designs = (r.declared(entry).get("designs") or {}).values()
        if any(own.get("repeat") in ("source", "set") for own in designs):
            yield Found(f"Features under other outlines: {entry['title']}", f"result-{entry['name']}")


@_evidence("questions")
def _questions(r: Results) -> Iterator[Found]:
    for entry in [*r.analyses, *r.readers]:
        if entry["question"]:
            yield Found(entry["question"], f"result-{entry['name']}")


# images, networks, features -------------------------------------------------------------------------------------------


@_evidence("views")
def _views(r: Results) -> Iterator[Found]:
    for name, own in r.section("views").items():
        of = f"made by model {own['synthesis']}" if own.get("synthesis") else f"from {own.get('from', 'scan')}"
        yield _settings(f"View {name}, {of}")


@_evidence("resampling")
def _resampling(r: Results) -> Iterator[Found]:
    for name, own in r.section("views").items():
        if own.get("spacing_mm"):
            yield _settings(f"View {name}: voxels of {own['spacing_mm']} mm, {own.get('interpolation', 'linear')}")
    for name, recipe in r.recipes.items():
        if recipe.get("spacing_mm"):
            yield _settings(f"Features {name}: voxels of {recipe['spacing_mm']} mm, {recipe.get('interpolation')}")


@_evidence("networks")
def _networks(r: Results) -> Iterator[Found]:
    for section in ("synthesis", "segmentation"):
        for name in r.section(section):
            yield Found(f"Network {name} ({section})", "training", f"models/{name}/main/settings.json")


@_evidence("network-settings")
def _network_settings(r: Results) -> Iterator[Found]:
    for own in _networks(r):
        yield Found(f"{own.text}: settings with layers, start of the weights and training", "settings", own.file)


@_evidence("history")
def _history(r: Results) -> Iterator[Found]:
    for name, files in r.inputs.models.items():
        if files.history is None or not files.history.is_file():
            continue
        if len(files.history.read_text(encoding="utf-8").splitlines()) > 1:  # imported weights have no curve
            yield Found(f"Training curve of {name}", "training", files.history.relative_to(r.root).as_posix())


@_evidence("image-measures")
def _image_measures(r: Results) -> Iterator[Found]:
    for entry in r.of(*IMAGE_MEASURES):
        if entry["estimates"]:
            yield Found(f"{entry['title']}: measures of images or masks", f"result-{entry['name']}")


@_evidence("mask-quality")
def _mask_quality(r: Results) -> Iterator[Found]:
    for entry in r.of("segmentation-quality"):
        if entry["estimates"]:
            yield Found(f"Quality of outlines: {entry['title']}", f"result-{entry['name']}")


def _radiomics(r: Results) -> dict[str, Mapping[str, Any]]:
    return {n: own for n, own in r.section("features").items() if own.get("kind", "radiomics") == "radiomics"}


def _masks_of(own: Mapping[str, Any]) -> list[str]:
    masks = own.get("masks") or []
    return [masks] if isinstance(masks, str) else list(masks)


@_evidence("radiomics")
def _radiomics_sets(r: Results) -> Iterator[Found]:
    for name in _radiomics(r):
        yield Found(f"Feature set {name}", "settings", f"features/{name}.parquet")


@_evidence("feature-tables")
def _feature_tables(r: Results) -> Iterator[Found]:
    for name in r.section("features"):
        yield Found(f"Table of feature set {name}", "settings", f"features/{name}.parquet")


@_evidence("radiomics-models")
def _radiomics_models(r: Results) -> Iterator[Found]:
    extracted = set(_radiomics(r))
    behind = r.section("features")
    for entry in r.of(*PREDICTION):
        used = _sets_of(r.declared(entry))
        seen: set[str] = set()
        while used:
            name = used.pop()
            if name in seen:
                continue
            seen.add(name)
            of = (behind.get(name) or {}).get("of") or []
            used += [of] if isinstance(of, str) else list(of)
        if seen & extracted:
            yield Found(f"Models of features: {entry['title']}", f"result-{entry['name']}")


def _sets_of(declared: Mapping[str, Any]) -> list[str]:
    """Feature sets that an analysis names."""
    models = declared.get("models")
    if isinstance(models, Mapping):
        return [own["features"] for own in models.values() if own.get("features")]
    return list(declared.get("features") or [])


@_evidence("automatic-outlines")
def _automatic(r: Results) -> Iterator[Found]:
    for name, own in _radiomics(r).items():
        if set(_masks_of(own)) & set(r.section("segmentation")):
            yield _settings(f"Feature set {name} comes from automatic outlines")


@_evidence("only-automatic-outlines")
def _only_automatic(r: Results) -> Iterator[Found]:
    sets, networks = _radiomics(r), set(r.section("segmentation"))
    if sets and all(set(_masks_of(own)) <= networks and _masks_of(own) for own in sets.values()):
        yield _settings("All features come from outlines of a network")


@_evidence("recipes")
def _recipes(r: Results) -> Iterator[Found]:
    for name, recipe in r.recipes.items():
        levels = (
            f"bins of {recipe['bin_width']:g}" if recipe.get("bin_width") else f"{recipe.get('bin_count')} grey levels"
        )
        images = ["original"] if recipe.get("original") else []
        images += ["Laplacian of Gaussian"] if recipe.get("log_sigmas_mm") else []
        images += [f"wavelet {recipe['wavelet']}"] if recipe.get("wavelet") else []
        images += list(recipe.get("further_image_types") or {})
        classes = ", ".join(recipe.get("classes") or {})
        text = f"Recipe of {name}: {levels}; images: {', '.join(images)}; classes: {classes}"
        yield Found(text, "settings", f"features/{name}.parquet")


@_evidence("feature-software")
def _feature_software(r: Results) -> Iterator[Found]:
    version = (r.provenance.get("packages") or {}).get("pyradiomics-bhklab")
    if _radiomics(r) and version:
        yield Found(f"PyRadiomics {version}, Polycentric {r.provenance['polycentric']}", "versions")


@_evidence("feature-numbers")
def _feature_numbers(r: Results) -> Iterator[Found]:
    for name in _radiomics(r):
        path = r.root / "features" / f"{name}.parquet"
        if path.is_file():
            count = sum(column not in FEATURES.columns for column in pq.read_schema(path).names)
            yield Found(f"{name}: {plural(count, 'feature')}", "settings", f"features/{name}.parquet")


@_evidence("imported-features")
def _imported(r: Results) -> Iterator[Found]:
    for name, own in r.section("features").items():
        if own.get("kind") == "imported":
            yield Found(f"Imported table {name}", "licences", f"features/{name}.parquet")


@_evidence("stable-features")
def _stable(r: Results) -> Iterator[Found]:
    chosen = {n for n, own in r.section("features").items() if own.get("kind") == "selected"}
    for entry in r.of(*PREDICTION):
        used = sorted(set(_sets_of(r.declared(entry))))
        if used and chosen.issuperset(used):
            yield Found(f"{entry['title']} uses stable features only: {', '.join(used)}", f"result-{entry['name']}")


@_evidence("harmonisation")
def _harmonisation(r: Results) -> Iterator[Found]:
    for entry in r.of("harmonisation"):
        yield Found(f"Differences between batches: {entry['title']}", f"result-{entry['name']}")


# prediction models ----------------------------------------------------------------------------------------------------


@_evidence("prediction")
def _prediction(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        yield Found(f"{entry['title']} ({entry['kind']})", f"result-{entry['name']}")


@_evidence("classification")
def _classification(r: Results) -> Iterator[Found]:
    for entry in r.of("classification"):
        yield Found(entry["title"], f"result-{entry['name']}")


@_evidence("predictors")
def _predictors(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        named = [*_sets_of(r.declared(entry)), *_clinical_of(r.declared(entry))]
        if named:
            yield _settings(f"{entry['title']}: {', '.join(dict.fromkeys(named))}")


def _clinical_of(declared: Mapping[str, Any]) -> list[str]:
    models = declared.get("models")
    if isinstance(models, Mapping):
        return [column for own in models.values() for column in own.get("clinical") or []]
    return list(declared.get("clinical") or [])


@_evidence("clinical-columns")
def _clinical_columns(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        if columns := list(dict.fromkeys(_clinical_of(r.declared(entry)))):
            yield _settings(f"{entry['title']}: clinical columns {', '.join(columns)}")


@_evidence("algorithms")
def _algorithms(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        if names := _algorithms_of(r.declared(entry)):
            yield _settings(f"{entry['title']}: {', '.join(names)}")


def _algorithms_of(declared: Mapping[str, Any]) -> list[str]:
    models = declared.get("models") or []
    if isinstance(models, Mapping):
        return list(dict.fromkeys(str(own.get("method", "ridge")) for own in models.values()))
    return list(models)


@_evidence("simple-models")
def _simple(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        names = _algorithms_of(r.declared(entry))
        if set(names) & set(SIMPLE) and set(names) - set(SIMPLE):
            text = f"{entry['title']}: {', '.join(names)} side by side"
            yield Found(text, f"result-{entry['name']}")


@_evidence("non-radiomic")
def _non_radiomic(r: Results) -> Iterator[Found]:
    """An analysis with a model without images beside one with them, and their comparison."""
    entries = []
    for entry in r.of("survival"):
        models = [own for own in (r.declared(entry).get("models") or {}).values() if not own.get("stack")]
        if any(own.get("features") for own in models) and any(not own.get("features") for own in models):
            entries.append(entry)
    return r.artefacts(("comparisons",), entries, "Models with and without images compared:")


@_evidence("selection")
def _selection(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        kinds = [own.get("kind") for own in r.declared(entry).get("selection") or []]
        if set(kinds) & set(REDUCING):
            text = f"{entry['title']}: {', '.join(map(str, kinds))}, inside training"
            yield Found(text, "settings")


@_evidence("tuning")
def _tuning(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        if own := r.declared(entry).get("resampling") or {}:
            text = f"{entry['title']}: tuned and selected inside training, {own['repeats']} x {own['folds']} folds"
            yield Found(text, "settings", f"analyses/{entry['name']}/metrics.json")


@_evidence("ensembles")
def _ensembles(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        declared = r.declared(entry)
        models = declared.get("models")
        stacks = [n for n, own in models.items() if own.get("stack")] if isinstance(models, Mapping) else []
        if names := [*(declared.get("ensembles") or {}), *stacks]:
            yield Found(f"{entry['title']}: {', '.join(names)}", f"result-{entry['name']}")


@_evidence("class-weights")
def _class_weights(r: Results) -> Iterator[Found]:
    for entry in r.of("classification"):
        declared = r.declared(entry)
        if given := declared.get("class_weight") or declared.get("sampling"):
            yield _settings(f"{entry['title']}: {given}")


@_evidence("accuracy")
def _accuracy(r: Results) -> Iterator[Found]:
    """Performance of classifiers on patients that they have not seen, with intervals."""
    for found in r.artefacts(("performance",), r.of("classification"), "Performance with intervals"):
        name = found.place.removeprefix("result-")
        entry = next(own for own in r.analyses if own["name"] == name)
        if any({"test", "external", "cross-validated"} & set(e.path) for e in _known(entry)):
            yield found


def _known(entry: Mapping[str, Any]) -> list[Any]:
    return [e for e in entry["estimates"] if None not in (e.value, e.lower, e.upper)]


@_evidence("intervals")
def _intervals(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION, *IMAGE_MEASURES):
        if known := _known(entry):
            text = f"{entry['title']}: {plural(len(known), 'estimate')} with {known[0].level:.0%} intervals"
            yield Found(text, f"result-{entry['name']}", f"analyses/{entry['name']}/metrics.json")


def _part(r: Results, *parts: str, what: str, kinds: tuple[str, ...]) -> Iterator[Found]:
    for entry in r.of(*kinds):
        if any(e.value is not None and set(parts) & set(e.path) for e in entry["estimates"]):
            yield Found(
                f"{entry['title']}: {what}", f"result-{entry['name']}", f"analyses/{entry['name']}/metrics.json"
            )


@_evidence("internal-test")
def _internal(r: Results) -> Iterator[Found]:
    """Results on patients of development centres that fitted nothing, or of cross-validation."""
    what = "test patients or cross-validation"
    yield from _part(r, "test", "cross-validated", "cross_validated_c_index", what=what, kinds=PREDICTION)
    development = set(r.patients.loc[r.patients["role"] != "external", "centre"])
    held_out = any(((table["part"] == "test") & table["centre"].isin(development)).any() for table in r.splits.values())
    if held_out:
        for found in _image_measures(r):
            declared = r.section("analyses").get(found.place.removeprefix("result-")) or {}
            if "test" in declared.get("parts", ("test",)):
                yield found


@_evidence("test-part")
def _test_part(r: Results) -> Iterator[Found]:
    return _part(r, "test", what="patients held out at first", kinds=PREDICTION)


@_evidence("external-test")
def _external(r: Results) -> Iterator[Found]:
    """Results on centres of the external role, of which nothing was fitted."""
    yield from _part(r, "external", what="external centres", kinds=PREDICTION)
    external = set(r.patients.loc[r.patients["role"] == "external", "centre"])
    for entry in r.of(*IMAGE_MEASURES):
        if any(e.value is not None and external & set(e.path) for e in entry["estimates"]):
            yield Found(f"{entry['title']}: external centres", f"result-{entry['name']}")


def _judged(entry: Mapping[str, Any]) -> set[str]:
    """Groups of patients with an estimate of their own, such as `centre: north` or `sex: female`."""
    places = {"groups", "subgroups", "centres"}
    return {e.path[-1] for e in entry["estimates"] if e.value is not None and places & set(e.path)}


@_evidence("subgroups")
def _subgroups(r: Results) -> Iterator[Found]:
    """Performance in at least two groups by a column other than the centre."""
    for entry in r.of(*PREDICTION):
        columns = [label.partition(": ")[0] for label in _judged(entry)]
        shown = [c for c in sorted(r.declared(entry).get("subgroups") or {}) if columns.count(c) > 1]
        if shown:
            yield from r.artefacts(("subgroups",), [entry], f"Performance by {', '.join(shown)}")


@_evidence("centre-performance")
def _centre_performance(r: Results) -> Iterator[Found]:
    """Performance in at least two centres, each with an estimate of its own."""
    names = set(r.patients["centre"])
    for entry in r.of(*PREDICTION):
        shown = names & {label.removeprefix("centre: ").partition(" (")[0] for label in _judged(entry)}
        if len(shown) > 1:
            yield from r.artefacts(("subgroups",), [entry], f"Performance by centre ({', '.join(sorted(shown))})")


@_evidence("events")
def _events(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        if any(("events" in what or "positive" in what or "classes" in what) for what, _ in entry["scalars"]):
            file = f"analyses/{entry['name']}/metrics.json"
            yield Found(f"{entry['title']}: patients and events by part", f"result-{entry['name']}", file)


@_evidence("robustness")
def _robustness(r: Results) -> Iterator[Found]:
    for entry in r.of("stability", "synthesis-probe"):
        yield Found(f"{entry['title']}", f"result-{entry['name']}")
    yield from r.artefacts(("validation", "splits"), r.of(*PREDICTION), "Other divisions of the patients:")


@_evidence("predictions")
def _predictions(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        file = f"analyses/{entry['name']}/predictions.parquet"
        yield Found(f"Prediction of each patient: {entry['title']}", f"result-{entry['name']}", file)


@_evidence("kept-models")
def _kept(r: Results) -> Iterator[Found]:
    for entry in r.of(*PREDICTION):
        for path in sorted((r.root / "analyses" / entry["name"] / "models").glob("*.skops"))[:1]:
            yield Found(f"Fitted models of {entry['title']}", "", path.relative_to(r.root).as_posix())
    for own in _networks(r):
        yield Found(f"Weights: {own.text}", "", own.file.replace("settings.json", "weights.safetensors"))


# the study as a whole -------------------------------------------------------------------------------------------------


@_evidence("settings")
def _all_settings(r: Results) -> Iterator[Found]:
    yield Found("Every setting of the study", "settings", "report/provenance.json")


@_evidence("versions")
def _versions(r: Results) -> Iterator[Found]:
    if r.provenance.get("packages"):
        yield Found("Versions of packages, hashes of the code", "versions", "report/provenance.json")


@_evidence("limits")
def _limits(r: Results) -> Iterator[Found]:
    yield Found("What this study cannot know", "limits")


@_evidence("never")
def _never(r: Results) -> Iterator[Found]:
    return iter(())
