"""What a survival analysis works on, and what its data cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.analyses import clinical_of
from ..config.clinical import ColumnSettings
from ..config.survival import SurvivalAnalysis
from ..randomness import generator, integer_seed
from . import data, leaks, subgroups

CATEGORIES = 12  # a text column with more different values is likely a number or a name


@dataclass
class Study:
    """Patients with known follow-up and features in every model, in one order.

    `follow_up` (n, 2) is time and event; `cause` (n,) 0 censored, 1 the event, 2 a competing one; `tables` has a table
    of n rows for every model of columns; `times` are those at which predictions are judged; `groups` masks (n,) by
    label; `chosen` training patients whose outcomes chose imported features.
    """

    name: str
    settings: SurvivalAnalysis
    seed: int
    unit: str
    frame: pd.DataFrame
    follow_up: np.ndarray
    cause: np.ndarray
    tables: dict[str, pd.DataFrame]
    times: tuple[float, ...]
    groups: dict[str, np.ndarray]
    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    chosen: frozenset[str] = frozenset()

    def part(self, part: str) -> np.ndarray:
        return self.frame["part"].eq(part).to_numpy()

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def tables_of(self, rows: np.ndarray) -> dict[str, pd.DataFrame]:
        return {key: table[rows] for key, table in self.tables.items()}

    @property
    def where(self) -> str:
        return f"analyses: {self.name}"

    def stream(self, *names: str | int) -> Callable[..., np.random.Generator]:
        """Streams of folds and tuning below `names`, by further names."""
        return lambda *more: generator(self.seed, "analyse", self.name, "folds", *names, *more)

    @property
    def model_seed(self) -> int:
        return integer_seed(self.seed, "analyse", self.name, "models")

    @property
    def event(self) -> np.ndarray:
        return self.follow_up[:, 1] > 0

    @property
    def primary(self) -> str:
        return self.settings.primary or list(self.settings.models)[-1]


def read(
    name: str,
    settings: SurvivalAnalysis,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    scans: Path | None,
    columns: Mapping[str, ColumnSettings] | None,
    where: str,
) -> Study:
    """Join patients, outcome and features; warn of what the data cannot carry."""
    frame = data.cohort(patients, split, where)
    follow_up = data.survival(frame, outcome, settings.horizon_days, where)
    usable = follow_up["time"].notna()
    at_zero = int((pd.to_numeric(frame[outcome.time], errors="coerce") <= 0).sum())
    counts: dict[str, Any] = {
        "patients": len(frame), "without_outcome": int((~usable).sum()), "at_time_zero": at_zero, "sets": {},
    }  # fmt: skip
    per_set: dict[str, pd.DataFrame] = {}
    for set_name in sorted({m.features for m in settings.models.values() if m.features is not None}):
        per_set[set_name], counts["sets"][set_name] = data.features(
            features[set_name], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
        )
        usable &= frame.index.isin(per_set[set_name].index)
    per_model = {}
    for key, model in settings.models.items():
        if model.stack:
            continue
        table = data.clinical(frame, model.clinical, where, columns)[usable]
        if model.features is not None:
            table = pd.concat([table, per_set[model.features].loc[table.index]], axis=1)
        per_model[key] = table
    cause = data.causes(frame, outcome, follow_up, settings.competing)
    kept = usable.to_numpy()
    frame, follow_up, cause = frame[usable], follow_up[usable], cause[kept]
    per_model, warnings = data.predictors(per_model, frame, settings, where)
    counts["used"] = len(frame)
    counts["parts"] = {}
    for part in tables.PARTS:
        here = frame["part"].eq(part).to_numpy()
        counts["parts"][part] = {"patients": int(here.sum()), "events": int((cause[here] == 1).sum())}
        if settings.competing is not None:
            counts["parts"][part]["competing"] = int((cause[here] == 2).sum())
    training = frame["part"].eq("training").to_numpy()
    study = Study(
        name, settings, seed, str(getattr(outcome, "unit", "days")), frame, follow_up.to_numpy(dtype=float), cause,
        per_model, (), subgroups.groups(frame, {"centre": (), **settings.subgroups}, scans, training, where), counts,
        warnings,
    )  # fmt: skip
    study.times = _times(study)
    _check(study, outcome)
    clinical = data.clinical(frame, clinical_of(settings), where, columns)
    happened = pd.Series(study.event.astype(float), index=frame.index)
    for set_name, table in {"clinical": clinical, **{k: v.loc[frame.index] for k, v in per_set.items()}}.items():
        traces = leaks.find(table, frame["part"], outcome=happened, centre=frame["centre"], name=set_name)
        for text in leaks.check(traces, where):
            study.warn(text)
    return study


def _times(study: Study) -> tuple[float, ...]:
    """Times at which predictions are judged, in the unit of the outcome."""
    if study.settings.times_days:
        return tuple(sorted(t / data.DAYS[study.unit] for t in study.settings.times_days))
    happened = study.follow_up[study.part("training") & study.event, 0]
    return (float(f"{np.median(happened):.3g}"),) if len(happened) else ()


def _check(study: Study, outcome: Any) -> None:
    counts, settings = study.counts, study.settings
    if lost := counts["patients"] - counts["used"]:
        study.warn(
            f"{lost} of {counts['patients']} patients of the split are left out: {counts['without_outcome']} without "
            "follow-up after time zero, the others without features in every set."
        )
    if counts["at_time_zero"]:
        study.warn(
            f"{counts['at_time_zero']} patients have a time of zero or less in column {outcome.time!r} and are left "
            "out: nobody can be at risk before time zero. If they had the event on the first day, write a time between "
            "zero and one in the table; if the date is wrong, mend it."
        )
    for part, numbers in counts["parts"].items():
        n, events = numbers["patients"], numbers["events"]
        if n and not events:
            study.warn(
                f"No event among the {n} patients of the {part} part: nothing can be estimated there. Look at column "
                f"{outcome.event!r} and at event_value of the outcome."
            )
        elif n and events < 20:
            study.warn(f"The {part} part has {events} events among {n} patients: its estimates are very uncertain.")
    if not counts["parts"]["training"]["patients"]:
        study.warn("No patient in training: no model was fitted.")
    if not any(counts["parts"][part]["patients"] for part in data.HELD_OUT):
        study.warn("No patient outside training: there is no estimate of performance.")
    if settings.competing is not None:
        if not (study.cause == 2).any():
            study.warn(
                f"competing: no patient has the value {str(settings.competing)!r} in column {outcome.event!r}; write "
                "the value as the table has it, or leave competing: out."
            )
        study.warn(
            "Models are of the cause-specific hazard: other events count as censored, so that no risk of the event is "
            "predicted from them; AUC, Brier score and calibration at a time are left out, curves show cumulative "
            "incidences."
        )
    longest = {part: study.follow_up[study.part(part), 0].max() for part in tables.PARTS if study.part(part).any()}
    for part, longest_time in longest.items():
        if late := [t for t in study.times if t >= longest_time]:
            study.warn(
                f"Nobody of the {part} part is followed beyond {longest_time:g} {study.unit}: predictions at "
                f"{', '.join(f'{t:g}' for t in late)} {study.unit} are not judged there; write earlier times_days."
            )
    for key, table in study.tables.items():
        for column in table.select_dtypes(object).columns:
            if (different := table[column].nunique()) > CATEGORIES:
                study.warn(
                    f"{key}: column {column!r} is text with {different} different values, each a variable of its own; "
                    "if it holds numbers, declare it under clinical: columns: as numeric and mend its words, or else "
                    "merge its categories."
                )
