"""Whether the columns that a study file names will exist, and can have the values that its conditions ask for."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..columns import PATIENT_COLUMNS, SCAN_COLUMNS, Column
from ..conditions import problems
from .agreement import AgreementAnalysis, AssociationAnalysis
from .analyses import CohortAnalysis
from .classification import ClassificationAnalysis
from .features import HarmonisedSet
from .stability import StabilityAnalysis
from .survival import SurvivalAnalysis
from .synthesis_analyses import FeatureShift

if TYPE_CHECKING:
    from .study import Study

Named = tuple[str, Collection[str], Collection[str]]
ROW = {key: Column("text", "key of a row of a feature set") for key in ("set", "source", "view", "roi", "perturbation")}
# rows of perturbed images are a table of their own, which nothing harmonises
SET_ROW = {key: column for key, column in ROW.items() if key != "perturbation"}
REPEATS = ("source", "set", "perturbation", "session", "timepoint", "scan")


def column_problems(study: Study) -> Iterator[tuple[str, str]]:
    """Where a column or a condition stands, and what is wrong with it."""
    patients = _patient_columns(study)
    scans = SCAN_COLUMNS | {"centre": patients["centre"]}
    for where, expression, columns in _conditions(study, patients, scans):
        if expression is not None:
            yield from ((where, message) for message in problems(expression, columns))
    for where, names, known in _names(study, patients):
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(known) or '(none)'}."
                yield (
                    where,
                    f"there is no column {name!r}; {hint} A clinical column is declared under clinical.columns.",
                )


def _patient_columns(study: Study) -> dict[str, Column]:
    """Columns of the patient table: its own and those of the clinical table."""
    columns = dict(PATIENT_COLUMNS)
    columns["centre"] = replace(columns["centre"], values=tuple(study.centres))
    if study.clinical is None:
        return columns
    times = {o.time for o in study.clinical.outcomes.values() if o.type == "time-to-event"}
    for name in study.clinical.outcome_columns():
        columns[name] = Column("number" if name in times else "text", "column of an outcome")
    for name, declared in study.clinical.columns.items():
        kind = "number" if declared.type == "numeric" else "text"
        columns[name] = Column(kind, "column of the clinical table", values=declared.values or ())
    return columns


def _conditions(
    study: Study, patients: Mapping[str, Column], scans: Mapping[str, Column]
) -> Iterator[tuple[str, str | None, Mapping[str, Column]]]:
    both = {**patients, **scans}
    for name, split in study.splits.items():
        yield f"splits.{name}.where", split.where, patients
    for name, view in study.views.items():
        yield f"views.{name}.where", view.where, both
        if view.onto:
            yield f"views.{name}.onto.where", view.onto.where, both
    for name, model in study.synthesis.items():
        at = f"synthesis.{name}"
        yield f"{at}.source.where", model.source.where, both
        yield f"{at}.target.where", model.target.where, both
        for number, extra in enumerate(model.source.also):
            yield f"{at}.source.also.{number}.where", extra.where, both
        yield f"{at}.inference.where", model.inference.where, both
    for name, net in study.segmentation.items():
        yield f"segmentation.{name}.where", net.where, both
    for name, features in study.features.items():
        if isinstance(features, HarmonisedSet) and features.phantom:
            yield f"features.{name}.phantom.where", features.phantom.where, {**both, **SET_ROW}
    for name, analysis in study.analyses.items():
        if isinstance(analysis, FeatureShift):
            yield f"analyses.{name}.where", analysis.where, both
        elif isinstance(analysis, StabilityAnalysis):
            for design, one in analysis.designs.items():
                yield f"analyses.{name}.designs.{design}.where", one.where, {**scans, **ROW}
    for name, reader in study.readers.items():
        for arm in ("acquired", "synthetic"):
            yield f"readers.{name}.views.{arm}.where", getattr(reader.views, arm).where, scans


def _names(study: Study, patients: Mapping[str, Column]) -> Iterator[Named]:
    """Where columns are named, which, and which there are."""
    outcomes = list(study.clinical.outcomes) if study.clinical else []
    declared = list(study.clinical.columns) if study.clinical else []
    images = list(dict.fromkeys([*patients, *SCAN_COLUMNS]))
    for name, split in study.splits.items():
        yield f"splits.{name}.stratify", split.stratify, list(dict.fromkeys([*patients, *outcomes]))
    for name, features in study.features.items():
        if isinstance(features, HarmonisedSet):
            batch = (features.batch,) if isinstance(features.batch, str) else features.batch
            yield f"features.{name}.batch", batch, [*images, *SET_ROW]
            yield f"features.{name}.covariates", features.covariates, list(patients)
    for name, analysis in study.analyses.items():
        where = f"analyses.{name}"
        if isinstance(analysis, ClassificationAnalysis | AssociationAnalysis):
            yield f"{where}.clinical", analysis.clinical, declared
        if isinstance(analysis, ClassificationAnalysis | SurvivalAnalysis):
            yield f"{where}.subgroups", analysis.subgroups, images
        if isinstance(analysis, SurvivalAnalysis):
            for model, own in analysis.models.items():
                yield f"{where}.models.{model}.clinical", own.clinical, declared
        elif isinstance(analysis, CohortAnalysis):
            people = list(dict.fromkeys([*patients, *outcomes]))
            yield f"{where}.by", (analysis.by,), [*people, "part"]
            yield f"{where}.columns", analysis.columns or (), people
            yield f"{where}.tests", analysis.tests, [*images, *outcomes]
        elif isinstance(analysis, AgreementAnalysis):
            yield f"{where}.columns", analysis.columns.values(), list(patients)
            yield f"{where}.truth", (analysis.truth,) if analysis.truth else (), list(patients)
        elif isinstance(analysis, StabilityAnalysis):
            for design, one in analysis.designs.items():
                yield f"{where}.designs.{design}.repeat", (one.repeat,), [*REPEATS, *SCAN_COLUMNS]
