"""Tables of ratings: what each reader said of each item, from the patient table or a feature set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import tables
from ..config.agreement import AgreementAnalysis
from ..errors import UserError
from ..outcomes import as_text, column
from ..tables.schemas import FEATURES, PATIENTS


@dataclass(frozen=True)
class Ratings:
    """What raters said of items.

    values : variable: frame (items, raters) of floats (numeric), or of text with None where missing.
    patients : patient of every item, the cluster of bootstraps.
    truth : true category of every item, None where unknown; None if there is no truth.
    """

    values: dict[str, pd.DataFrame]
    patients: np.ndarray
    truth: pd.Series | None = None

    @property
    def raters(self) -> list[str]:
        return list(next(iter(self.values.values())).columns)


def of_columns(settings: AgreementAnalysis, patients: Path, where: str) -> Ratings:
    """Raters are columns of the patient table, items are patients."""
    people = tables.read(patients, PATIENTS).set_index("patient", drop=False).sort_index()
    raw = {rater: column(people, name, where) for rater, name in settings.columns.items()}
    if settings.scale == "numeric":
        frame = pd.DataFrame({rater: _numbers(values, where, rater) for rater, values in raw.items()})
    else:
        frame = pd.DataFrame({rater: as_text(values) for rater, values in raw.items()}, dtype=object)
    truth = as_text(column(people, settings.truth, where)) if settings.truth else None
    return Ratings({"": frame}, people.index.to_numpy(dtype=object), truth)


def _numbers(values: pd.Series, where: str, name: str) -> pd.Series:
    result = pd.to_numeric(values, errors="coerce").astype(float)
    if bad := int((values.notna() & result.isna()).sum()):
        raise UserError(f"{where}: columns: {name}: {bad} values are no numbers; mend them, or write scale: nominal.")
    return result


def of_features(settings: AgreementAnalysis, path: Path, where: str) -> Ratings:
    """Raters are the readers of an imported feature set, items its patients, scans and regions."""
    table = tables.read(path, FEATURES)
    table = table[table["status"].eq("ok") & table["fold"].eq("main")]
    if settings.rois is not None:
        table = table[table["roi"].isin(settings.rois)]
    readers = sorted(set(table["source"]) - {""})
    if len(readers) < 2:
        raise UserError(
            f"{where}: {path.stem} has {len(readers)} readers; import it with columns: {{reader: <column>}}, or name "
            "the columns of readers under columns."
        )
    table = table[table["source"].ne("")]
    found = sorted(c for c in table.columns if c not in FEATURES.columns and not c.startswith("diagnostics"))
    if unknown := sorted(set(settings.variables or ()) - set(found)):
        raise UserError(f"{where}: variables: {unknown} are not in {path.stem}; write some of {found[:20]}.")
    items = table[["patient", "scan", "roi"]].drop_duplicates().sort_values(["patient", "scan", "roi"])
    index = pd.MultiIndex.from_frame(items)
    keyed = table.assign(perturbation=None).set_index(["patient", "scan", "roi", "source"])
    keyed = keyed[~keyed.index.duplicated()]
    values: dict[str, pd.DataFrame] = {}
    for name in settings.variables or found:
        numeric = pd.api.types.is_numeric_dtype(keyed[name])
        if settings.scale == "numeric" and not numeric:
            if settings.variables:
                raise UserError(f"{where}: variables: {name!r} holds categories; write scale: nominal.")
            continue
        own = keyed[name].astype(float) if settings.scale == "numeric" else as_text(keyed[name])
        values[name] = own.unstack("source").reindex(index=index, columns=readers)
    if not values:
        raise UserError(f"{where}: {path.stem} has no feature of scale {settings.scale}; write another scale.")
    return Ratings(values, items["patient"].to_numpy(dtype=object))


def codes(frame: pd.DataFrame, settings: AgreementAnalysis, where: str) -> tuple[np.ndarray, list[str]]:
    """Categories as codes (items, raters), -1 where missing, and the categories in their order."""
    seen = {v for v in frame.to_numpy(dtype=object).ravel() if isinstance(v, str)}
    if settings.levels:
        if strange := sorted(seen - set(settings.levels)):
            raise UserError(f"{where}: levels: {strange} occur and are not among {list(settings.levels)}; add them.")
        levels = list(settings.levels)
    else:
        try:
            levels = sorted(seen, key=float)
        except ValueError:
            if settings.scale == "ordinal":
                found = f"the categories {sorted(seen)[:8]} have no order"
                raise UserError(f"{where}: {found}; write levels: [<lowest>, ..., <highest>].") from None
            levels = sorted(seen)
    place = {level: k for k, level in enumerate(levels)}
    coded = [[place[v] if isinstance(v, str) else -1 for v in row] for row in frame.to_numpy(dtype=object)]
    return np.array(coded, dtype=int).reshape(len(frame), frame.shape[1]), levels
