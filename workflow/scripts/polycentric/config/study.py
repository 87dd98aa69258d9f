"""A study file: every section, and the checks that span sections."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from ..errors import UserError
from .agreement import (
    AgreementAnalysis,
    AssociationAnalysis,
    FeatureAgreementAnalysis,
    MaskAgreementAnalysis,
    SurveyAnalysis,
)
from .analyses import CohortAnalysis, features_of
from .base import Name, Section, Source
from .classification import Application, ClassificationAnalysis
from .clinical import ClinicalSettings
from .curation import ConvertSettings, CurationSettings
from .deidentify import DeidentifySettings
from .examine import EstablishSettings, ExamineSettings
from .explore import ExplorationAnalysis
from .export import DicomExport, Export, NrrdExport
from .features import FeatureSet, HarmonisedSet, ImportedSet, JoinedSet, RadiomicsSet, find_recipe, load_recipe
from .harmonise import HarmonisationAnalysis
from .idc import IdcSource
from .idc import problems as idc_problems
from .image_analyses import FidelityAnalysis, SegmentationQualityAnalysis
from .images import ImageTable
from .named_columns import column_problems
from .perturb import UNPERTURBED
from .profiles import ProfileSettings
from .quicklook import QuicklookSettings
from .readers import ReaderStudy
from .report import ReportSettings
from .segmentation import Segmentation
from .simulate import SimulatedCentre, Simulation
from .simulate import problems as simulation_problems
from .splits import Split
from .stability import SelectedSet, StabilityAnalysis
from .steps import RESCALING
from .survival import SurvivalAnalysis
from .survival import problems as survival_problems
from .synthesis import Domain, Range, Synthesis
from .synthesis_analyses import Detectability, FeatureShift, SynthesisComparison, SynthesisProbe, SynthesisSummary
from .views import View

Analysis = Annotated[
    CohortAnalysis
    | ClassificationAnalysis
    | SurvivalAnalysis
    | FidelityAnalysis
    | SegmentationQualityAnalysis
    | FeatureAgreementAnalysis
    | AgreementAnalysis
    | SurveyAnalysis
    | MaskAgreementAnalysis
    | AssociationAnalysis
    | StabilityAnalysis
    | HarmonisationAnalysis
    | ExplorationAnalysis
    | SynthesisComparison
    | Detectability
    | FeatureShift
    | SynthesisProbe
    | SynthesisSummary,
    Field(discriminator="kind"),
]


# analyses of synthesis models that a summary joins
JOINED = (FidelityAnalysis, SynthesisComparison, Detectability, FeatureShift, SynthesisProbe)


class Centre(Section):
    """A centre: a folder of images, series of the Imaging Data Commons, or a simulated one."""

    role: Literal["development", "external"] = Field(
        "development", description="Development centres train models; external ones only ever test them."
    )
    images: str | None = Field(None, description="Folder with the DICOM files, relative to the project.")
    simulate: SimulatedCentre | None = Field(None, description="Simulate the centre instead of reading a folder.")
    idc: IdcSource | None = Field(None, description="Fetch the images from the Imaging Data Commons.")
    shards: int = Field(
        1, ge=1, le=200, description="Jobs per stage for this centre; 50 to 200 patients a shard are a good grain."
    )
    table: ImageTable | None = Field(None, description="Table of images that are no DICOM: NIfTI, NRRD, PNG, ...")
    source: Source | None = Field(None, description="Where the images come from and how to get them.")


class Study(Section):
    """One experiment: from folders of images to a report."""

    schema_version: Literal[1] = Field(1, description="Version of the study file's schema.")
    study: Name = Field(description="Name of the study; results are written to results/{study}/.")
    title: str = Field("", description="Title in the report; the name if empty.")
    seed: int = Field(1, ge=0, lt=2**63, description="The one seed from which every random stream is derived.")
    results: str = Field("results", description="Folder of results.")
    private: str = Field(
        "private", description="Folder of the index, the original identifiers and the pseudonym key; never share it."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run; auto takes a GPU and refuses the CPU for work above two hours."
    )
    disk: Literal["stop", "warn"] = Field(
        "stop",
        description="What happens before the first image is made if the disk of the results has no room for all: stop, "
        "or only warn.",
    )
    workers: int = Field(1, ge=1, description="Processes per shard job; results do not depend on it.")
    centres: dict[Name, Centre] = Field(min_length=1, description="The centres by name.")
    simulation: Simulation = Field(Simulation(), description="Effects planted in simulated centres.")
    withdraw: tuple[str, ...] = Field(
        (),
        description="Pseudonyms of patients who withdrew their consent; the next run removes their images, masks, "
        "features and clinical data from the results.",
    )
    exclude: dict[str, str] = Field(
        {}, description="Scans left out by hand: pseudonym of the scan: why. They stay counted in the participant flow."
    )
    review: str | None = Field(
        None, description="The review table of an earlier run (cohort/review.tsv) with the column answer filled in."
    )
    clinical: ClinicalSettings | None = Field(None, description="The clinical table and its outcomes.")
    curation: CurationSettings = Field(CurationSettings(), description="Which scans are accepted.")
    convert: ConvertSettings = Field(ConvertSettings(), description="Volumes and masks on the scan's own grid.")
    examine: ExamineSettings = Field(ExamineSettings(), description="What the images themselves show.")
    establish: EstablishSettings = Field(
        EstablishSettings(), description="How tags, descriptions and images become facts of the table of scans."
    )
    deidentify: DeidentifySettings = Field(
        DeidentifySettings(), description="The de-identified copy that `snakemake share` writes."
    )
    quicklook: QuicklookSettings = Field(
        QuicklookSettings(), description="The pictures that `snakemake quicklook` makes."
    )
    splits: dict[Name, Split] = Field({}, description="Named assignments of patients to training, validation and test.")
    views: dict[Name, View] = Field({}, description="Versions of every scan's image, each made from another.")
    synthesis: dict[Name, Synthesis] = Field({}, description="Image-to-image models.")
    segmentation: dict[Name, Segmentation] = Field({}, description="Segmentation networks; each is a mask source.")
    profiles: dict[Name, ProfileSettings] = Field(
        {"default": ProfileSettings()}, description="Ways to describe axial slices, for the evaluation of synthesis."
    )
    exports: dict[Name, Export] = Field(
        {},
        description="What `snakemake export` writes for other programs: synthetic views as DICOM, marked as derived "
        "and synthetic; volumes and masks as NRRD.",
    )
    features: dict[Name, FeatureSet] = Field({}, description="Feature sets.")
    analyses: dict[Name, Analysis] = Field({}, description="Named questions, each with its method.")
    apply: dict[Name, Application] = Field(
        {},
        description="Kept models that `snakemake apply` applies to feature tables, of this study or of another.",
    )
    readers: dict[Name, ReaderStudy] = Field({}, description="Blinded reader studies.")
    report: ReportSettings = Field(ReportSettings(), description="The report.")

    @property
    def root(self) -> str:
        return f"{self.results}/{self.study}"

    @property
    def private_root(self) -> str:
        return f"{self.private}/{self.study}"

    @property
    def simulated(self) -> list[str]:
        return [name for name, centre in self.centres.items() if centre.simulate]

    @property
    def shards(self) -> list[str]:
        return [f"{name}-{k}" for name, centre in self.centres.items() for k in range(centre.shards)]

    @property
    def development_shards(self) -> list[str]:
        return [s for s in self.shards if self.centres[centre_of(s)].role == "development"]

    @property
    def mask_sources(self) -> list[str]:
        """Mask sources by people, then segmentation networks."""
        return [*self.convert.sources, *self.segmentation]

    @property
    def fitted_views(self) -> list[str]:
        """Views with steps that are fitted on training patients; each is a model of its own."""
        return [name for name, view in self.views.items() if view.fit]

    def view_chain(self, view: str) -> list[str]:
        """The view and the views that it is made from, nearest first; ends before `scan` or at a loop."""
        chain: list[str] = []
        while view in self.views and view not in chain:
            chain.append(view)
            view = self.views[view].from_
        return chain

    def calibrated(self, view: str) -> bool:
        """Whether a view of CT holds HU: no step of it, of those before, or of its model's target changes the unit."""
        seen: set[str] = set()
        while view in self.views and view not in seen:
            seen.add(view)
            own = self.views[view]
            if any(isinstance(step, RESCALING) for step in own.sequence()):
                return False
            # a synthetic view has the unit of what it was made to look like
            view = self.made_like(view)[0].view if own.synthesis in self.synthesis else own.from_
        return True

    def models_of_view(self, view: str) -> list[str]:
        """Models behind a view: synthesis, its own fit, segmentation, those behind their training views included."""
        found: list[str] = []
        self._gather(view, found, set())
        return found

    def _gather(self, view: str, found: list[str], seen: set[str]) -> None:
        """Add the models behind a view; `seen` views are done, so that circles end."""
        for step in self.view_chain(view):
            if step in seen:
                return
            seen.add(step)
            own = self.views[step]
            if own.synthesis in self.synthesis:
                found += [own.synthesis] if own.synthesis not in found else []
                for trained_on in self.synthesis[own.synthesis].views:
                    self._gather(trained_on, found, seen)
            if own.fit and step not in found:
                found.append(step)
            for other in (own.onto.view if own.onto else None, own.minus):
                if other:
                    self._gather(other, found, seen)
            if own.masks in self.segmentation:
                found += [own.masks] if own.masks not in found else []
                self._gather(self.segmentation[own.masks].view, found, seen)

    def views_of_model(self, model: str) -> list[str]:
        """Views that the forward generator of a model makes: those that analyses of the model judge."""
        return [n for n, view in self.views.items() if view.synthesis == model and view.direction == "forward"]

    def made_like(self, view: str) -> tuple[Domain, Range]:
        """The domain that a synthetic view is made to look like, and the model's range of intensities for it."""
        model = self.synthesis[self.views[view].synthesis]
        if self.views[view].direction == "backward":
            return model.source, model.source_ranges[0]
        return model.target, model.target_range

    def fidelity_view(self, analysis: FidelityAnalysis) -> str:
        """The synthetic view that a fidelity analysis examines."""
        return analysis.view or self.views_of_model(analysis.synthesis)[0]

    def judged(self, name: str) -> dict[str, str]:
        """Synthesis models that an analysis judges by profiles, each with the view that it makes."""
        analysis = self.analyses[name]
        if isinstance(analysis, SynthesisComparison):
            chosen = {model: analysis.views.get(model) for model in analysis.synthesis}
        elif isinstance(analysis, Detectability):
            chosen = {analysis.synthesis: analysis.view}
        else:
            return {}
        return {model: view or self.views_of_model(model)[0] for model, view in chosen.items()}

    def profiled(self, name: str) -> list[str]:
        """Views whose slices an analysis compares: source, target and synthetic ones of its models."""
        views: list[str] = []
        for model, made in self.judged(name).items():
            own = self.synthesis[model]
            views += [own.source.view, own.target.view, made]
        return list(dict.fromkeys(views))

    def summarised(self, name: str) -> list[str]:
        """Analyses of synthesis models that a summary joins, in the order of the study."""
        chosen = self.analyses[name].analyses
        return [n for n, own in self.analyses.items() if isinstance(own, JOINED) and (not chosen or n in chosen)]

    def summarised_models(self, name: str) -> list[str]:
        """Models that a summary shows, in its order or else in that of the study."""
        examined: set[str] = set()
        for joined in self.summarised(name):
            of = self.analyses[joined].synthesis
            examined |= {of} if isinstance(of, str) else set(of)
        return list(self.analyses[name].synthesis) or [m for m in self.synthesis if m in examined]

    def users_of_profile(self, profile: str, view: str) -> list[str]:
        """Analyses that describe a view by a profile."""
        return [
            name
            for name, own in self.analyses.items()
            if getattr(own, "profile", None) == profile and view in self.profiled(name)
        ]

    def models_of_masks(self, source: str) -> list[str]:
        if source not in self.segmentation:
            return []
        return [source, *self.models_of_view(self.segmentation[source].view)]

    @property
    def dicom_exports(self) -> list[DicomExport]:
        return [export for export in self.exports.values() if isinstance(export, DicomExport)]

    def sets_behind(self, name: str) -> list[str]:
        """Feature sets that a set is made from or fitted on, itself first."""
        found: list[str] = []
        todo = [name]
        while todo:
            name = todo.pop(0)
            if name in found or name not in self.features:
                continue
            found.append(name)
            features = self.features[name]
            if isinstance(features, HarmonisedSet | SelectedSet):
                todo.append(features.of)
            if isinstance(features, JoinedSet):
                todo += features.of
            if isinstance(features, HarmonisedSet) and features.phantom and features.phantom.features:
                todo.append(features.phantom.features)
            if isinstance(features, SelectedSet) and features.stable in self.analyses:
                todo += features_of(self.analyses[features.stable])
        return found

    def models_of_features(self, name: str) -> list[str]:
        """Image models (fitted views, synthesis, segmentation) behind a feature set."""
        models: list[str] = []
        for other in self.sets_behind(name):
            if isinstance(features := self.features[other], RadiomicsSet):
                models += self.models_of_view(features.view)
                models += [model for source in features.sources for model in self.models_of_masks(source)]
        return list(dict.fromkeys(models))

    def fitted_sets(self, name: str) -> list[str]:
        """Feature sets behind a set that have a ledger, itself first: harmonised, selected, and imported ones, whose
        features may have been chosen elsewhere."""
        fitted = (HarmonisedSet, SelectedSet, ImportedSet)
        return [other for other in self.sets_behind(name) if isinstance(self.features[other], fitted)]

    def split_of_set(self, name: str) -> str | None:
        """Split on whose training patients a harmonised or selected set was fitted; None: on phantoms, or elsewhere."""
        features = self.features[name]
        if isinstance(features, ImportedSet):
            return None
        if isinstance(features, SelectedSet):
            return getattr(self.analyses.get(features.stable), "split", None)
        return features.split

    def split_of_model(self, model: str) -> str:
        if model in self.fitted_views:
            return self.views[model].fit.split
        return (self.synthesis.get(model) or self.segmentation[model]).split

    def held_out(self, split: str, by: str) -> bool:
        """Whether a split lies, at some level, within the test part of the split `by`."""
        seen: set[str] = set()
        while split in self.splits and split not in seen and self.splits[split].within:
            seen.add(split)
            parent, part = self.splits[split].parent
            # a parent that is not defined is a mistake of its own
            if (parent == by and part == "test") or parent not in self.splits:
                return True
            split = parent
        return False


def centre_of(shard: str) -> str:
    return shard.rpartition("-")[0]


# ---------------------------------------------------------------------------------------------------------- loading


def load(raw: Mapping[str, Any], *, file: str = "the study file", base: Path | None = None) -> Study:
    """Validate a study; all its errors come at once, each with what to write instead.

    Parameters
    ----------
    raw
        The mapping of the YAML file.
    file
        Its name, for messages.
    base
        Folder against which `extends` is resolved (that of the file); the current folder if None.

    Raises
    ------
    UserError
        with one message per problem.
    """
    raw = extend(dict(raw), base or Path(), file)
    study, errors = _best_effort(raw)
    if study is not None:
        errors += [f"{where}: {message}" for where, message in cross_checks(study, raw)]
    if errors:
        raise UserError(
            f"{file} has {len(errors)} problem{'s' if len(errors) > 1 else ''}:", *(f"  - {e}" for e in errors)
        )
    assert study is not None
    return study


def load_file(path: str | Path) -> Study:
    path = Path(path)
    return load(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, file=str(path), base=path.parent)


def extend(raw: dict[str, Any], base: Path, file: str) -> dict[str, Any]:
    """Merge the study that `extends` names below this one: mappings merge, anything else replaces, null deletes."""
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    path = base / parent
    if not path.is_file():
        raise UserError(f"{file}: extends: {parent} is not a file. Write its path relative to {base or '.'}/.")
    lower = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return _merge(extend(lower, path.parent, str(path)), raw)


def _merge(lower: dict[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _best_effort(raw: dict[str, Any]) -> tuple[Study | None, list[str]]:
    """Validate; where entries are wrong, also return the study without them, so that the rest can be checked."""
    try:
        return Study.model_validate(raw), []
    except ValidationError as error:
        errors = [describe(e, raw) for e in error.errors()]
        rest = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
        for e in error.errors():
            section, *names = e["loc"] or ("",)
            if isinstance(rest.get(section), dict) and names and section in NAMED_SECTIONS:
                rest[section].pop(names[0], None)
            else:
                rest.pop(section, None)
        rest.setdefault("study", "unnamed")
        try:
            return Study.model_validate(rest), list(dict.fromkeys(errors))
        except ValidationError:
            return None, list(dict.fromkeys(errors))


NAMED_SECTIONS = tuple(n for n, f in Study.model_fields.items() if str(f.annotation).startswith("dict["))


def describe(error: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    """One pydantic error in words: the key, what is wrong, what to write instead."""
    where = ".".join(_keys(error["loc"], raw)) or "the file"
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _known_keys(error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), keys, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys are: {', '.join(keys)}." if keys else "Remove it."
        return f"{where}: unknown key. {hint}"
    if kind == "missing":
        return f"{where}: this key is needed. Add it."
    if kind == "literal_error":
        return f"{where}: {error['input']!r} is not allowed. Write one of: {context['expected']}."
    if kind == "union_tag_invalid":
        return f"{where}: kind {context['tag']!r} is not known. Write one of: {context['expected_tags']}."
    if kind == "union_tag_not_found":
        return f"{where}: the kind is missing. Add a line 'kind: ...'."
    if kind == "string_pattern_mismatch":
        hint = "Use letters, digits and single hyphens; start with a letter."
        return f"{where}: {error['input']!r} is not a valid name. {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | type(None)) else ""
    return f"{where}: {message}{shown}"


def _keys(loc: tuple[Any, ...], raw: Any) -> Iterator[str]:
    """The parts of a location that are keys of the file: pydantic adds the kind of a chosen alternative."""
    for number, part in enumerate(loc):
        if isinstance(raw, Mapping):
            inside = part in raw
        else:
            inside = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        if inside:
            raw = raw[part]
        elif number < len(loc) - 1:
            continue
        yield str(part)


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Keys of the section that holds an unknown key, found by walking the schema along the location."""
    schema: Any = Study.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})

    def candidates(node: Any) -> Iterator[Any]:
        if "$ref" in node:
            yield from candidates(definitions[node["$ref"].rpartition("/")[2]])
        elif "anyOf" in node or "oneOf" in node:
            for other in node.get("anyOf", node.get("oneOf")):
                yield from candidates(other)
        else:
            yield node

    level = [schema]
    for part in loc[:-1]:
        following = []
        for node in level:
            for child in candidates(node):
                if part in child.get("properties", {}):
                    following += candidates(child["properties"][part])
                elif (named := child.get("additionalProperties") or child.get("patternProperties")) is not None:
                    values = [named] if named is child.get("additionalProperties") else named.values()
                    following += [c for value in values if isinstance(value, dict) for c in candidates(value)]
                elif isinstance(part, int) and "items" in child:
                    following += candidates(child["items"])
        # a discriminator's tag is part of the location but no key of the file
        tagged = [n for n in level if n.get("properties", {}).get("kind", {}).get("const") == part]
        level = following or tagged or level
    return sorted({key for node in level for child in candidates(node) for key in child.get("properties", {})})


# ------------------------------------------------------------------------------------------------------- cross-checks


def cross_checks(study: Study, raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What no single section can know: references, loops, leaks, files that are not there."""

    def names(section: str) -> list[str]:
        # entries that are wrong in themselves still exist: a reference to them is not a second error
        return list(dict.fromkeys([*getattr(study, section), *(raw.get(section) or {})]))

    def unknown(where: str, value: str, section: str, *also: str) -> Iterator[tuple[str, str]]:
        known = [*names(section), *also]
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(known) or '(none is defined)'}."
            yield where, f"{value!r} is not defined under {section}:; {hint}"

    for name, centre in study.centres.items():
        where = f"centres.{name}"
        if [bool(centre.images), bool(centre.idc), bool(centre.simulate)].count(True) != 1:
            yield where, "write either 'images: <folder>', 'idc: {...}' or 'simulate: {...}'."
        elif centre.idc:
            yield from idc_problems(f"{where}.idc", centre.idc)
        elif centre.images and not Path(centre.images).is_dir():
            hint = (
                centre.source.instructions.strip() if centre.source else "Write the folder that holds its DICOM files."
            )
            yield f"{where}.images", f"the folder {centre.images!r} does not exist. {hint}"
    if study.simulated and len(study.simulated) < len(study.centres):
        yield "centres", "simulated and real centres cannot be mixed in one study. Make two study files."
    simulated = {n: c.simulate for n, c in study.centres.items() if c.simulate}
    yield from ((where, message) for where, message in simulation_problems(simulated, study.simulation))
    if study.clinical and study.clinical.table and not study.simulated and not Path(study.clinical.table).is_file():
        yield (
            "clinical.table",
            f"the file {study.clinical.table!r} does not exist. Write its path.",
        )
    if study.review and not Path(study.review).is_file():
        hint = f"Copy {study.root}/cohort/review.tsv of an earlier run, fill in its column answer, and write its path."
        yield "review", f"there is no file {study.review!r}. {hint}"
    drawn = study.convert.sources
    for name in sorted(set(drawn) & set(study.segmentation)):
        yield f"segmentation.{name}", "a mask source under convert.sources has the same name. Choose another one."
    for name, centre in study.centres.items():
        yield from _table_checks(f"centres.{name}.table", centre, drawn)
    for name in sorted(set(study.synthesis) & set(study.segmentation)):
        yield f"segmentation.{name}", "a synthesis model has the same name. Choose another one."

    yield from column_problems(study)
    outcomes = list(study.clinical.outcomes) if study.clinical else []
    imported = [n for n, f in study.features.items() if isinstance(f, ImportedSet)]
    for name, split in study.splits.items():
        where = f"splits.{name}"
        if split.within:
            yield from unknown(f"{where}.within", split.parent[0], "splits")
            if _loops(study, name):
                yield f"{where}.within", "the splits lie within each other in a circle. Let one of them stand alone."
        if split.of not in ("scans", "clinical", *imported):
            yield f"{where}.of", f"{split.of!r}: write scans, clinical or one of the imported feature sets {imported}."

    for name, view in study.views.items():
        where = f"views.{name}"
        if name == "scan":
            yield where, "the name 'scan' means the converted image itself. Choose another name."
        yield from unknown(f"{where}.from", view.from_, "views", "scan")
        if view.synthesis:
            yield from unknown(f"{where}.synthesis", view.synthesis, "synthesis")
            if view.from_ == "scan":
                yield f"{where}.from", "a synthesis model needs a prepared view; write the view it was trained on."
            inputs = study.synthesis[view.synthesis].inputs if view.synthesis in study.synthesis else 1
            if view.direction == "backward" and inputs > 1:
                yield (
                    f"{where}.direction",
                    f"the backward generator of {view.synthesis!r} makes {inputs} images of one. Leave the view out.",
                )
        if view.masks:
            yield from unknown(f"{where}.masks", view.masks, "segmentation", *drawn)
            if view.masks in drawn:
                for roi in view.rois():
                    if roi not in (there := study.convert.rois_of(view.masks)):
                        known = ", ".join(there) or "(none)"
                        yield f"{where}.steps", f"{roi!r} is not a region of {view.masks!r}; write one of: {known}."
        if view.fit:
            yield from unknown(f"{where}.fit.split", view.fit.split, "splits")
            for centre in view.fit.centres:
                yield from unknown(f"{where}.fit.centres", centre, "centres")
            if name in (*study.synthesis, *study.segmentation):
                yield where, "a model has the same name. Choose another one for this view, which is fitted."
            if study.fitted_sets(name):
                yield where, "a harmonised, selected or imported feature set has the same name. Choose another one."
        if view.onto:
            yield from unknown(f"{where}.onto.view", view.onto.view, "views", "scan")
        if view.minus:
            yield from unknown(f"{where}.minus", view.minus, "views", "scan")
        if (view.onto or view.minus or view.masks) and name in _behind(study, name):
            yield (
                where,
                "this view is made with help of itself, through onto, minus or masks. Take another view or source.",
            )
        for step in view.steps:
            if step.kind == "custom" and not Path(step.file).is_file():
                yield f"{where}.steps", f"there is no file {step.file!r}. Write the path of your Python file."
        chain = study.view_chain(name)
        if chain and study.views[chain[-1]].from_ in chain:
            yield f"{where}.from", f"the views {' <- '.join(chain)} form a circle. Let one come from 'scan'."

    for name, model in study.synthesis.items():
        where = f"synthesis.{name}"
        yield from unknown(f"{where}.split", model.split, "splits")
        entering = {"source": model.source, "target": model.target}
        entering |= {f"source.also.{n}": extra for n, extra in enumerate(model.source.also)}
        for domain, images in entering.items():
            yield from unknown(f"{where}.{domain}.view", images.view, "views")
            if name in study.models_of_view(images.view):
                yield (
                    f"{where}.{domain}.view",
                    "this view is made by the model itself. Write the view it comes from.",
                )
    for name, net in study.segmentation.items():
        where = f"segmentation.{name}"
        yield from unknown(f"{where}.split", net.split, "splits")
        yield from unknown(f"{where}.view", net.view, "views")
        yield from _unmoved(study, f"{where}.view", net.view, "masks lie where the scanner saw the patient")
        yield from unknown(f"{where}.masks", net.masks, "segmentation", *drawn)
        rois = dict.fromkeys(roi for source in drawn for roi in study.convert.rois_of(source))
        rois |= {n.roi: None for n in study.segmentation.values() if n is not net}
        if net.roi not in rois:
            yield (
                f"{where}.roi",
                f"{net.roi!r} is not defined under convert.rois:; write one of: {', '.join(rois) or '(none)'}.",
            )

    for section in ("synthesis", "segmentation"):
        for name, model in getattr(study, section).items():
            for key, given in (("import", model.import_), ("start_from", getattr(model, "start_from", None))):
                if given and not Path(given.path).is_file():
                    where = f"{section}.{name}.{key}.path"
                    yield where, f"there is no file {given.path!r}. Write where the weights lie."

    for name, features in study.features.items():
        where = f"features.{name}"
        match features:
            case RadiomicsSet():
                yield from unknown(f"{where}.view", features.view, "views")
                for source in features.sources:
                    yield from unknown(f"{where}.masks", source, "segmentation", *drawn)
                try:
                    load_recipe(find_recipe(features.recipe))
                except UserError as error:
                    yield from ((f"{where}.recipe", message) for message in error.messages)
            case HarmonisedSet() | SelectedSet():
                yield from unknown(f"{where}.of", features.of, "features")
                if any(name in study.sets_behind(other) for other in study.sets_behind(name)[1:]):
                    yield f"{where}.of", "a set cannot be made from itself, nor fitted on what is made from it."
                yield from _numbers_only(study, f"{where}.of", features.of)
                if name in study.synthesis or name in study.segmentation:
                    yield where, "a model has the same name. Choose another one."
                if isinstance(features, SelectedSet):
                    yield from unknown(f"{where}.stable", features.stable, "analyses")
                    kind = getattr(study.analyses.get(features.stable), "kind", "stability")
                    if kind != "stability":
                        yield f"{where}.stable", f"{features.stable!r} is of kind {kind}; write a stability analysis."
                else:
                    yield from unknown(f"{where}.split", features.split, "splits")
                    if features.phantom and features.phantom.features:
                        yield from unknown(f"{where}.phantom.features", features.phantom.features, "features")
            case ImportedSet():
                if name in study.synthesis or name in study.segmentation:
                    yield where, "a model has the same name. Choose another one."
                told = "table" if isinstance(features.table, dict) else "centre"
                for centre in dict.fromkeys(centre for _, centre in features.files if centre):
                    yield from unknown(f"{where}.{told}", centre, "centres")
                for path, _ in features.files:
                    if not Path(path).is_file():
                        yield f"{where}.table", f"the file {path!r} does not exist. Write its path."
            case JoinedSet():
                for other in features.of:
                    yield from unknown(f"{where}.of", other, "features")
                if any(name in study.sets_behind(other) for other in features.of):
                    yield f"{where}.of", "a set cannot be made from itself."

    for name, analysis in study.analyses.items():
        yield from _analysis_checks(study, f"analyses.{name}", analysis, outcomes, unknown)
    for name, own in study.apply.items():
        yield from _application_checks(study, f"apply.{name}", own, outcomes, unknown)
    exported = [export.view for export in study.dicom_exports]
    for name, export in study.exports.items():
        if isinstance(export, NrrdExport):
            yield from unknown(f"exports.{name}.view", export.view, "views", "scan")
            yield from _stays(study, f"exports.{name}.view", export.view)
            if export.masks is not None:
                yield from unknown(f"exports.{name}.masks", export.masks, "segmentation", *drawn)
            continue
        yield from unknown(f"exports.{name}.view", export.view, "views")
        if export.view in study.views and not study.views[export.view].synthesis:
            yield f"exports.{name}.view", f"{export.view!r} is not made by a synthesis model. Write a view that is."
        yield from _stays(study, f"exports.{name}.view", export.view)
        yield from _unmoved(study, f"exports.{name}.view", export.view, "DICOM positions are those of the scan")
        if exported.count(export.view) > 1:
            yield f"exports.{name}.view", f"{export.view!r} is exported more than once. Leave one export of it."
    for name, reader in study.readers.items():
        where = f"readers.{name}"
        yield from unknown(f"{where}.split", reader.split, "splits")
        for arm in ("acquired", "synthetic"):
            view = getattr(reader.views, arm).view
            yield from unknown(f"{where}.views.{arm}.view", view, "views")
            for model in study.models_of_view(view):
                by = study.split_of_model(model)
                if by != reader.split and not study.held_out(reader.split, by):
                    yield (
                        f"{where}.split",
                        f"its images come from model {model!r} of split {by!r}; use that or one 'within: {by}.test'.",
                    )


def _chosen_by_all(study: Study, name: str) -> bool:
    features = study.features[name]
    return isinstance(features, ImportedSet) and features.chosen_on == "everybody"


def _unmoved(study: Study, where: str, view: str, why: str) -> Iterator[tuple[str, str]]:
    """A view that registration has moved cannot be used where the scan's own positions count."""
    for name in study.view_chain(view):
        if (onto := study.views[name].onto) and onto.register_ != "none":
            yield where, f"view {name!r} is registered to another scan, and {why}. Take a view without `register`."


def _stays(study: Study, where: str, view: str) -> Iterator[tuple[str, str]]:
    """An export is asked for at any time, so the images must be there."""
    if view in study.views and not study.views[view].keep:
        yield where, f"the images of view {view!r} do not stay. Remove its `keep: false`, or this export."


def _behind(study: Study, view: str) -> set[str]:
    """Views that must be there before a view can be made."""
    found: set[str] = set()
    todo = [view]
    while todo:
        own = study.views.get(todo.pop())
        if own is None:
            continue
        needed = [own.from_, own.onto.view if own.onto else "scan", own.minus or "scan"]
        if own.synthesis in study.synthesis:
            needed += study.synthesis[own.synthesis].views
        if own.masks in study.segmentation:
            needed.append(study.segmentation[own.masks].view)
        new = [name for name in needed if name not in found and name != "scan"]
        found |= set(new)
        todo += new
    return found


def _table_checks(where: str, centre: Centre, drawn: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if centre.table is None:
        return
    if not centre.images:
        yield where, "a table of images needs 'images: <folder>', to which its paths relate."
    if not Path(centre.table.file).is_file():
        yield f"{where}.file", f"the file {centre.table.file!r} does not exist. Write its path."
    for source in centre.table.masks:
        if source not in drawn:
            hint = f"add '{source}: {{label: {source}}}' there, or write one of: {', '.join(drawn)}."
            yield f"{where}.masks.{source}", f"{source!r} is not defined under convert.sources:; {hint}"


def _loops(study: Study, split: str) -> bool:
    seen: set[str] = set()
    while split in study.splits and study.splits[split].within:
        if split in seen:
            return True
        seen.add(split)
        split = study.splits[split].parent[0]
    return False


def _outcome_checks(study: Study, where: str, outcome: str, features: str) -> Iterator[tuple[str, str]]:
    """Harmonisation that is told the outcome of the patients it transforms gives it away."""
    assert study.clinical is not None
    told = {study.clinical.in_file(column) for column in study.clinical.columns_of(outcome)}
    for name in study.sets_behind(features):
        if isinstance(own := study.features.get(name), HarmonisedSet):
            for key, columns in (("covariates", own.covariates), ("batch", own.batches)):
                if leaking := [column for column in columns if study.clinical.in_file(column) in told]:
                    yield (
                        f"{where}.outcome",
                        f"{outcome!r} is made of the column {leaking[0]!r}, which features.{name}.{key} uses: every "
                        f"patient, test patients too, would be harmonised by the own outcome. Remove it there.",
                    )


def _analysis_checks(
    study: Study, where: str, analysis: Any, outcomes: list[str], unknown: Any
) -> Iterator[tuple[str, str]]:
    if split := getattr(analysis, "split", None):
        yield from unknown(f"{where}.split", split, "splits")
    if (outcome := getattr(analysis, "outcome", None)) and outcome not in outcomes:
        near = difflib.get_close_matches(outcome, outcomes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(outcomes) or '(none is defined)'}."
        yield f"{where}.outcome", f"{outcome!r} is not defined under clinical.outcomes:; {hint}"
    if isinstance(analysis, SurvivalAnalysis) and study.clinical:
        yield from survival_problems(where, analysis, study.clinical)
    for name in features_of(analysis):
        yield from unknown(f"{where}.features", name, "features")
        if outcome in outcomes:
            yield from _outcome_checks(study, where, outcome, name)
        if analysis.kind not in ("classification", "survival", "exploration", "agreement", "association"):
            yield from _numbers_only(study, f"{where}.features", name)
        if not split:
            continue
        for model in study.models_of_features(name):
            by = study.split_of_model(model)
            shared = model in study.fitted_views and by == split
            if not shared and not study.held_out(split, by):
                yield (
                    f"{where}.split",
                    f"feature set {name!r} comes from images or masks of model {model!r}, trained in split {by!r}; "
                    f"evaluating its own training patients would be a leak. Use a split with 'within: {by}.test'.",
                )
        for fitted in study.fitted_sets(name):
            if analysis.kind in ("classification", "survival") and _chosen_by_all(study, fitted):
                yield (
                    f"{where}.features",
                    f"the features of {fitted!r} were chosen with the outcomes of everybody in it (chosen_on), so that "
                    "nobody is left to evaluate a model on. Import all features and let a selection choose inside "
                    "training, or say under chosen_on whose outcomes were used.",
                )
            by = study.split_of_set(fitted)
            if by not in (None, split) and not study.held_out(split, by):
                yield (
                    f"{where}.split",
                    f"feature set {fitted!r} was fitted on the training patients of split {by!r}; "
                    f"use that split here, or one with 'within: {by}.test'.",
                )
    if isinstance(analysis, AgreementAnalysis | SurveyAnalysis | MaskAgreementAnalysis):
        yield from _reader_checks(study, where, analysis, unknown)
    if isinstance(analysis, StabilityAnalysis):
        yield from _perturbation_checks(study, where, analysis)
    for field, section, also in (
        ("synthesis", "synthesis", ()),
        ("segmentation", "segmentation", ()),
        ("view", "views", ()),
        ("masks", "segmentation", tuple(study.convert.sources)),
        ("reference", "segmentation", tuple(study.convert.sources)),
    ):
        value = getattr(analysis, field, None)
        if isinstance(value, str):
            yield from unknown(f"{where}.{field}", value, section, *also)
    if isinstance(analysis, FidelityAnalysis) and (analysis.masks or analysis.masks_after):
        for domain in ("source", "target") if analysis.synthesis in study.synthesis else ():
            view = getattr(study.synthesis[analysis.synthesis], domain).view
            yield from _unmoved(study, f"{where}.masks", view, "masks lie where the scanner saw the patient")
    if isinstance(analysis, FidelityAnalysis | Detectability):
        yield from _made_checks(study, where, f"{where}.view", analysis.synthesis, analysis.view)
    if isinstance(analysis, SynthesisComparison):
        for model in analysis.synthesis:
            yield from unknown(f"{where}.synthesis", model, "synthesis")
            yield from _made_checks(study, where, f"{where}.views.{model}", model, analysis.views.get(model))
        if analysis.radiomics:
            for name in (analysis.radiomics.target, *analysis.radiomics.synthetic.values()):
                yield from unknown(f"{where}.radiomics", name, "features")
    if isinstance(analysis, SynthesisSummary):
        yield from _summary_checks(study, where, where.removeprefix("analyses."))
    if isinstance(analysis, FeatureShift):
        for key in ("before", "after"):
            yield from unknown(f"{where}.{key}", getattr(analysis, key), "features")
    if (profile := getattr(analysis, "profile", None)) is not None:
        yield from unknown(f"{where}.profile", profile, "profiles")
        if isinstance(analysis, Detectability) and profile in study.profiles and not study.profiles[profile].network:
            yield f"{where}.profile", f"{profile!r} has no network, whose features this analysis needs."


def _reader_checks(
    study: Study, where: str, analysis: AgreementAnalysis | SurveyAnalysis | MaskAgreementAnalysis, unknown: Any
) -> Iterator[tuple[str, str]]:
    """Whether what several readers did is there, and a network among them has not seen the patients."""
    if isinstance(analysis, AgreementAnalysis):
        for name in analysis.features:
            own = study.features.get(name)
            if own is not None and (not isinstance(own, ImportedSet) or own.columns.reader is None):
                yield (
                    f"{where}.features",
                    f"{name!r} has no readers. Import a table with 'columns: {{reader: <column>}}'.",
                )
    elif isinstance(analysis, SurveyAnalysis):
        for name in analysis.readers:
            yield from unknown(f"{where}.readers", name, "readers")
        if analysis.table and not Path(analysis.table).is_file():
            yield f"{where}.table", f"the file {analysis.table!r} does not exist. Write its path."
    else:
        for source in analysis.sources:
            yield from unknown(f"{where}.sources", source, "segmentation", *study.convert.sources)
            for model in study.models_of_masks(source):
                by = study.split_of_model(model)
                if analysis.split is None or (by != analysis.split and not study.held_out(analysis.split, by)):
                    yield (
                        f"{where}.split",
                        f"network {model!r} learnt from training patients of split {by!r}; write it.",
                    )


def _application_checks(
    study: Study, where: str, own: Application, outcomes: list[str], unknown: Any
) -> Iterator[tuple[str, str]]:
    """Whether what is applied exists."""
    if own.features is not None:
        yield from unknown(f"{where}.features", own.features, "features")
    if own.outcome is not None and own.outcome not in outcomes:
        yield f"{where}.outcome", f"{own.outcome!r} is not defined under clinical.outcomes:; write one of: {outcomes}."
    if own.file:
        if not Path(own.model).exists():
            yield f"{where}.model", f"the file {own.model!r} does not exist. Write its path, or analysis/set/model."
        return
    analysis = study.analyses.get(own.model.split("/")[0])
    if not isinstance(analysis, ClassificationAnalysis | SurvivalAnalysis):
        kept = [n for n, a in study.analyses.items() if isinstance(a, ClassificationAnalysis | SurvivalAnalysis)]
        yield f"{where}.model", f"{own.model!r} is of no analysis that keeps models; write one of: {', '.join(kept)}."
        return
    if isinstance(analysis, SurvivalAnalysis):
        known = list(analysis.models)
    else:
        known = [f"{arm}/{model}" for arm in analysis.arms for model in analysis.models]
        known += [f"ensemble/{name}" for name in analysis.ensembles]
    if own.model.partition("/")[2] not in known:
        yield f"{where}.model", f"{own.model!r} is not fitted; that analysis has {', '.join(known)}."
        return
    timed = own.outcome in outcomes and study.clinical.outcomes[own.outcome].type == "time-to-event"  # type: ignore[union-attr,index]
    if own.outcome in outcomes and timed != isinstance(analysis, SurvivalAnalysis):
        what = "a time-to-event outcome" if isinstance(analysis, SurvivalAnalysis) else "an outcome of classes"
        yield f"{where}.outcome", f"{own.outcome!r} is of another type than that of the model; write {what}."
    yield from _applied_features(where, own, analysis)


def _applied_features(
    where: str, own: Application, analysis: ClassificationAnalysis | SurvivalAnalysis
) -> Iterator[tuple[str, str]]:
    """Whether the model gets the features that it needs."""
    if isinstance(analysis, SurvivalAnalysis):
        key = own.model.partition("/")[2]
        members = analysis.models[key].stack or (key,)
        sets = sorted({s for s in (analysis.models[name].features for name in members) if s is not None})
    else:
        arm, _, model = own.model.partition("/")[2].partition("/")
        names = analysis.ensembles[model] if arm == "ensemble" else (f"{arm}/{model}",)
        sets = sorted({s for name in names if (s := analysis.arms[name.partition("/")[0]][0]) is not None})
    if sets and own.features is None:
        yield f"{where}.features", f"{own.model!r} was fitted on features: write a set, such as {sets[0]!r}."
    if len(sets) > 1:
        yield (
            f"{where}.model",
            f"the models of {own.model!r} were fitted on several sets ({', '.join(sets)}), and one table is "
            "applied. Apply its models one by one, or fit them on one joined set.",
        )


def _perturbation_checks(study: Study, where: str, analysis: StabilityAnalysis) -> Iterator[tuple[str, str]]:
    """Whether designs that repeat over perturbations name sets that have them."""
    for key, design in analysis.designs.items():
        for name in design.features if design.repeat == "perturbation" else ():
            if name not in study.features:
                continue
            made = getattr(study.features[name], "perturb", {})
            if not made:
                yield (
                    f"{where}.designs.{key}.features",
                    f"feature set {name!r} has no perturbations. Write 'perturb:' in a set of kind radiomics.",
                )
            elif absent := [level for level in design.levels or () if level not in (*made, UNPERTURBED)]:
                yield (
                    f"{where}.designs.{key}.levels",
                    f"{absent[0]!r} is no perturbation of {name!r}; write some of: {UNPERTURBED}, {', '.join(made)}.",
                )


def _numbers_only(study: Study, where: str, name: str) -> Iterator[tuple[str, str]]:
    for other in study.sets_behind(name):
        features = study.features[other]
        if isinstance(features, ImportedSet) and features.nominal:
            yield (
                where,
                f"feature set {other!r} has categories ({', '.join(features.nominal[:5])}), and this needs numbers. "
                "Import the table a second time with these columns under drop, and use that set here.",
            )


def _summary_checks(study: Study, where: str, name: str) -> Iterator[tuple[str, str]]:
    """Whether a summary has something to join, and models of which something is known."""
    analysis = study.analyses[name]
    possible = [n for n, own in study.analyses.items() if isinstance(own, JOINED)]
    for other in analysis.analyses:
        if other not in possible:
            yield f"{where}.analyses", f"{other!r} examines no synthesis model; write some of: {', '.join(possible)}."
    if not study.summarised(name):
        yield f"{where}.analyses", "the study has no analysis of a synthesis model to join."
        return
    for model in analysis.synthesis:
        if not any(model in _examined(study.analyses[n]) for n in study.summarised(name)):
            yield f"{where}.synthesis", f"none of the joined analyses examines {model!r}."


def _examined(analysis: Any) -> tuple[str, ...]:
    return (analysis.synthesis,) if isinstance(analysis.synthesis, str) else tuple(analysis.synthesis)


def _made_checks(study: Study, where: str, key: str, model: str, view: str | None) -> Iterator[tuple[str, str]]:
    """Whether a synthesis model makes a view, and which one is meant."""
    if model not in study.synthesis:
        return
    made = study.views_of_model(model)
    if not made:
        yield f"{where}.synthesis", f"no view is made by {model!r}. Add a view with 'synthesis: {model}'."
    elif view is None and len(made) > 1:
        yield key, f"the model makes several views; write one of: {', '.join(made)}."
    elif view and view not in made:
        yield key, f"{view!r} is not made by {model!r}; write one of: {', '.join(made)}."
