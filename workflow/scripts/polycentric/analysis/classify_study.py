"""What a classification works on, and what its data cannot carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import outcomes, tables
from ..coding import per_patient
from ..config.classification import ClassificationAnalysis, Lesions
from ..config.clinical import ColumnSettings
from ..errors import UserError
from ..tables.schemas import FEATURES
from . import data, leaks, subgroups

CATEGORIES = 12  # a text column with more different values is likely a number or a name


@dataclass(frozen=True)
class Arm:
    """What models are fitted on: a row per patient or lesion, and the twin rows that features are selected on."""

    name: str
    table: pd.DataFrame
    reference: pd.DataFrame | None


@dataclass
class Study:
    """Patients with a known outcome and features in every set, in one order.

    `outcome` (n,) are positions in `classes`, in two classes 1 is the positive one; `patient` gives the position in
    `frame` of every row of the arms (None: a row is a patient), `row_outcome` the outcome of every row, `groups_of`
    masks (n,) of the patients of each subgroup, `chosen` training patients whose outcomes chose
    imported features.
    """

    name: str
    settings: ClassificationAnalysis
    seed: int
    frame: pd.DataFrame
    outcome: np.ndarray
    classes: tuple[str, ...]
    arms: dict[str, Arm]
    counts: dict[str, Any]
    patient: np.ndarray | None = None
    row_outcome: np.ndarray | None = None
    groups_of: dict[str, np.ndarray] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    chosen: frozenset[str] = frozenset()

    @property
    def where(self) -> str:
        return f"analyses: {self.name}"

    @property
    def binary(self) -> bool:
        return len(self.classes) == 2

    def part(self, part: str) -> np.ndarray:
        return self.frame["part"].eq(part).to_numpy()

    def rows(self, patients: np.ndarray) -> np.ndarray:
        """Rows of the arms (bool) of patients (bool)."""
        return patients if self.patient is None else patients[self.patient]

    def targets(self) -> np.ndarray:
        """Outcome of every row."""
        return self.outcome if self.row_outcome is None else self.row_outcome

    def groups(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.patient is None else self.patient[rows]

    def joined(self, p: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probabilities of patients (in their order) from those of their rows."""
        if self.patient is None:
            return p
        assert self.settings.lesions is not None
        return join(p, self.patient[rows], self.settings.lesions.join)

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def title(study: Study) -> str:
    return study.settings.title or study.name


def percent(study: Study) -> str:
    return f"{100 * study.settings.level:g} %"


def numbers_of(study: Study, part: str) -> dict[str, Any]:
    parts = study.counts["parts"] | study.counts.get("validation", {})
    numbers = parts["training" if part == "cross-validated" else part]
    if study.binary:
        return {"patients": numbers["patients"], "positive": numbers["positive"]}
    return {"patients": numbers["patients"]}


def join(p: np.ndarray, patient: np.ndarray, how: str) -> np.ndarray:
    """Probabilities per patient (patients, K) from lesions p (rows, K), patients in the order of their numbers.

    maximum and noisy-or act on the positive class of two, the other one is what is left of 1; the noisy-or is
    1 - prod(1 - p) (Pearl 1988).
    """
    if how == "mean":
        return pd.DataFrame(p).groupby(patient).mean().to_numpy()
    positive = pd.Series(p[:, 1])
    if how == "maximum":
        joined = positive.groupby(patient).max().to_numpy()
    else:
        joined = 1 - (1 - positive).groupby(patient).prod().to_numpy()
    return np.c_[1 - joined, joined]


def read(
    name: str,
    settings: ClassificationAnalysis,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path,
    outcome: Any,
    columns: Mapping[str, ColumnSettings] | None,
    scans: Path | None = None,
) -> Study:
    """Join patients, outcome and features; warn of what the data cannot carry."""
    where = f"analyses: {name}"
    frame = data.cohort(patients, split, where)
    y, classes, warnings = _outcome(frame, outcome, where)
    if len(classes) > 2 and settings.lesions and settings.lesions.join != "mean":
        raise UserError(f"{where}: lesions.join: {settings.lesions.join} is for two classes; write join: mean.")
    leaks.refuse_outcome_columns(settings.clinical, outcome, where)
    clinical = data.clinical(frame, settings.clinical, where, columns)
    counts: dict[str, Any] = {"patients": len(frame), "without_outcome": int(y.isna().sum()), "sets": {}}
    if outcome.type == "horizon":
        counts["horizon"] = data.horizon_counts(frame, outcome, where)
    per_set: dict[str, pd.DataFrame] = {}
    lesion_outcome: dict[str, pd.Series] = {}
    for set_name in settings.features:
        if settings.lesions:
            per_set[set_name], own = lesion_rows(features[set_name], frame.index, settings, settings.lesions, where)
            counts["sets"][set_name] = {"rows": len(per_set[set_name]), "features": per_set[set_name].shape[1]}
            if own is not None:
                lesion_outcome[set_name] = own
        else:
            per_set[set_name], counts["sets"][set_name] = data.features(
                features[set_name], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
            )
    if settings.references:
        shared = set.intersection(*(set(table.columns) for table in per_set.values()))
        if not shared:
            raise UserError(
                f"{where}: the sets {list(per_set)} share no feature, so none can be selected on "
                f"{settings.references[0]!r}: use one recipe for all of them, or remove select_on."
            )
        per_set = {key: table[sorted(shared)] for key, table in per_set.items()}
    usable, patient = y.notna(), None
    if settings.lesions:
        index = per_set[settings.features[0]].index
        for table in per_set.values():
            index = index.intersection(table.index)
        index = index[y.reindex(index.get_level_values("patient")).notna().to_numpy()].sort_values()
        per_set = {key: table.loc[index] for key, table in per_set.items()}
        usable &= frame.index.isin(index.get_level_values("patient"))
        frame, y, clinical = frame[usable], y[usable], clinical[usable]
        names = index.get_level_values("patient")
        patient = frame.index.get_indexer(names)
        rows = clinical.loc[names].set_axis(index)
        counts["lesions"] = len(index)
    else:
        for table in per_set.values():
            usable &= frame.index.isin(table.index)
        frame, y, clinical = frame[usable], y[usable], clinical[usable]
        per_set = {key: table.loc[frame.index] for key, table in per_set.items()}
        rows = clinical
    whole = {key: pd.concat([rows, table], axis=1) for key, table in per_set.items()} or {"clinical": rows}
    of_rows = frame if patient is None else frame.iloc[patient].set_axis(rows.index)
    whole, more = data.predictors(whole, of_rows, settings, where)
    arms = {
        arm: Arm(arm, whole[of or "clinical"], None if by in (None, of) else whole[by])
        for arm, (of, by) in settings.arms.items()
    }
    codes = y.to_numpy(dtype=int)
    row_outcome = None if patient is None else codes[patient]
    if lesion_outcome:
        own = lesion_outcome[settings.features[0]].reindex(rows.index)
        if own.isna().any():
            raise UserError(
                f"{where}: lesions.outcome: {int(own.isna().sum())} lesions have no 1 or 0 in column "
                f"{settings.lesions.outcome!r} of set {settings.features[0]!r}; fill the column, or leave it out."
            )
        row_outcome = own.to_numpy(dtype=int)
    counts["used"] = len(frame)
    counts["classes"] = list(classes)
    counts["parts"] = {}
    for part in tables.PARTS:
        here = frame["part"].eq(part).to_numpy()
        numbers: dict[str, Any] = {"patients": int(here.sum())}
        if len(classes) == 2:
            numbers["positive"] = int(codes[here].sum())
        numbers["by_class"] = {c: int((codes[here] == k).sum()) for k, c in enumerate(classes)}
        counts["parts"][part] = numbers
    training, by = frame["part"].eq("training").to_numpy(), {"centre": (), **settings.subgroups}
    groups = subgroups.groups(frame, by, scans, training, where)
    study = Study(
        name, settings, seed, frame, codes, classes, arms, counts, patient, row_outcome, groups, [*warnings, *more]
    )
    _check(study, outcome)
    if patient is None:
        known = y if len(classes) == 2 else None
        for set_name, table in {"clinical": clinical, **per_set}.items():
            traces = leaks.find(table, frame["part"], outcome=known, centre=frame["centre"], name=set_name)
            for text in leaks.check(traces, where):
                study.warn(text)
    return study


def _outcome(frame: pd.DataFrame, outcome: Any, where: str) -> tuple[pd.Series, tuple[str, ...], list[str]]:
    """Positions of classes (NaN where unknown), the classes, and warnings."""
    if outcome.type != "multiclass":
        y = data.binary(frame, outcome, where)
        if outcome.type == "horizon":
            return y, ("no event", "event"), []
        warnings = []
        if y.notna().any() and not y.eq(1).any():
            found = sorted(set(outcomes.as_text(frame[outcome.column]).dropna()))
            warnings = [
                f"No patient has the value {str(outcome.positive)!r} in column {outcome.column!r}; it holds "
                f"{', '.join(map(repr, found[:6]))}{' and more' if len(found) > 6 else ''}: write one of these as "
                "positive: of the outcome."
            ]
        positive = outcome.positive
        named = str(int(positive)) if isinstance(positive, float) and positive.is_integer() else str(positive)
        return y, (f"not {named}", named), warnings
    text = data.multiclass(frame, outcome, where)
    found = sorted(set(text.dropna()))
    classes = tuple(outcome.classes) if outcome.classes else tuple(found)
    warnings = []
    if strange := [value for value in found if value not in classes]:
        warnings.append(
            f"{int(text.isin(strange).sum())} patients have a value of column {outcome.column!r} that is no class "
            f"({', '.join(map(repr, strange[:6]))}) and are left out: add it to classes: of the outcome, or mend the "
            "table."
        )
    trained = set(text[frame["part"].eq("training")].dropna())
    if lacking := [c for c in classes if c not in trained]:
        lost = int(text.isin(lacking).sum())
        warnings.append(
            f"No training patient has the class {', '.join(map(repr, lacking))} in column {outcome.column!r}, so no "
            f"model knows it; {lost} other patients of it are left out. Stratify the split by the outcome."
        )
    kept = tuple(c for c in classes if c in trained)
    if len(kept) < 2:
        kept = (*kept, *(c for c in classes if c not in kept))[:2] if len(classes) > 1 else (*classes, "(none)")[:2]
    if len(classes) > 20:
        raise UserError(
            f"{where}: column {outcome.column!r} has {len(classes)} different values: is it a number or a text? Write "
            "classes: of the outcome, or use another column."
        )
    return text.map({c: float(k) for k, c in enumerate(kept)}).astype(float), kept, warnings


def lesion_rows(
    path: Path, patients: pd.Index, settings: ClassificationAnalysis, lesions: Lesions, where: str
) -> tuple[pd.DataFrame, pd.Series | None]:
    """A row per lesion, indexed by patient, scan and roi; and the lesions' own outcomes if a column is named."""
    table = tables.read(path, FEATURES)
    table = table[table["patient"].isin(set(patients)) & table["status"].eq("ok") & table["fold"].eq("main")]
    if settings.rois is not None:
        table = table[table["roi"].isin(settings.rois)]
    key = table[["patient", "scan", "roi"]].astype("object").fillna("")
    keys = key.agg("\x1f".join, axis=1)
    names = sorted(c for c in table.columns if c not in FEATURES.columns and not c.startswith("diagnostics"))
    outcome = None
    if lesions.outcome is not None:
        if lesions.outcome not in names:
            raise UserError(
                f"{where}: lesions.outcome: {path.name} has no column {lesions.outcome!r}; write one of its columns, "
                "or leave it out."
            )
        names.remove(lesions.outcome)
    index = pd.MultiIndex.from_frame(key).drop_duplicates()
    flat = index.to_frame().agg("\x1f".join, axis=1).to_numpy()
    values, _ = per_patient(table.assign(patient=keys), names, settings.aggregate)
    if lesions.outcome is not None:
        numbers = pd.to_numeric(table[lesions.outcome], errors="coerce").astype(float)
        own = numbers.where(numbers.isin([0, 1])).groupby(keys.to_numpy()).max()
        outcome = own.reindex(flat).set_axis(index)
    return values.reindex(flat).set_axis(index), outcome


def _check(study: Study, outcome: Any) -> None:
    """Say in plain words what the data cannot carry."""
    counts, settings = study.counts, study.settings
    column = getattr(outcome, "column", getattr(outcome, "of", ""))
    if counts.get("horizon", {}).get("censored_before"):
        study.warn(f"{counts['horizon']['rule']}.")
    if lost := counts["patients"] - counts["used"]:
        study.warn(
            f"{lost} of {counts['patients']} patients of the split are left out: {counts['without_outcome']} without "
            f"the outcome (column {column!r} is empty), the others without features in every set."
        )
    for part, numbers in counts["parts"].items():
        n, sizes = numbers["patients"], list(numbers["by_class"].values())
        smaller = min(sizes)
        if n and sum(size > 0 for size in sizes) < 2:
            study.warn(
                f"All {n} patients of the {part} part have the same outcome: nothing can be estimated there. Look at "
                f"column {column!r}, or stratify the split by the outcome."
            )
        elif n and smaller < 10 and part != "training":
            study.warn(f"The smaller class of the {part} part has {smaller} patients: estimates are very uncertain.")
        elif part == "training" and n and smaller < 20:
            study.warn(
                f"Training has {smaller} patients in its smaller class: any model will be unstable, and choices by "
                "cross-validation are close to chance."
            )
            if smaller < 2:
                study.warn(
                    f"Column {column!r} has a class with one training patient: no cross-validation is possible, so "
                    "settings are not tuned and thresholds stay at 0.5."
                )
    if not counts["parts"]["training"]["patients"]:
        study.warn("No patient in training: no model was fitted.")
    if not any(counts["parts"][part]["patients"] for part in data.HELD_OUT):
        study.warn("No patient outside training: there is no estimate of performance.")
    if settings.sampling:
        study.warn(
            f"Models are fitted on {settings.sampling}d training rows: their probabilities refer to equally frequent "
            "classes, so calibration in the large is off by design."
        )
    training = study.rows(study.part("training"))
    for name, arm in study.arms.items():
        rows = arm.table[training]
        constant = [c for c in rows.columns if len(rows) > 1 and rows[c].nunique(dropna=True) < 2]
        if constant:
            more = f" and {len(constant) - 3} more" if len(constant) > 3 else ""
            study.warn(
                f"{name}: {', '.join(map(str, constant[:3]))}{more}: without two different values in training, so no "
                "model uses them."
            )
        for column in rows.columns:
            if pd.api.types.is_numeric_dtype(rows[column]):
                continue
            if (different := rows[column].nunique()) > CATEGORIES:
                study.warn(
                    f"{name}: column {column!r} is text with {different} different values, each a variable of its own; "
                    "if it holds numbers, declare it under clinical: columns: as numeric and mend its words, or else "
                    "merge its categories."
                )
