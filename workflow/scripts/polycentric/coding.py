"""Declared columns as what models need: numbers, codes, categories; and one row per patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .config.clinical import ColumnSettings
from .outcomes import as_text


def coded(values: pd.Series, declared: ColumnSettings) -> tuple[pd.Series, pd.Series]:
    """A column as it is declared, and which of its values are none of the declared ones (they become missing).

    numeric: float. ordinal and binary: float codes 0, 1, ... in the declared order. categorical: a pandas Categorical
    whose first category is the reference, or text (object) where no values are declared. A value and a declared one
    are equal as text, or as numbers ("1.0" and "01" are 1).
    """
    if declared.type == "numeric":
        numbers = pd.to_numeric(values.astype("object").where(values.notna()), errors="coerce").astype(float)
        return numbers, values.notna() & numbers.isna()
    text = as_text(values)
    if declared.type == "categorical" and declared.values is None:
        return text, pd.Series(False, index=values.index)
    levels = declared.levels
    same: dict[str, str] = {}
    for level in levels:
        same.setdefault(_number(level), level)
    same |= {level: level for level in levels}
    found = text.map(lambda v: None if v is None else same.get(v, same.get(_number(v))), na_action="ignore")
    wrong = text.notna() & found.isna()
    if declared.type == "categorical":
        return pd.Series(pd.Categorical(found, categories=list(levels)), index=values.index), wrong
    return found.map({level: float(code) for code, level in enumerate(levels)}).astype(float), wrong


def _number(text: str) -> str:
    """The shortest text of a number, or the text itself."""
    try:
        return f"{float(text):.15g}"
    except ValueError:
        return text


def per_patient(table: pd.DataFrame, names: list[str], aggregate: str) -> tuple[pd.DataFrame, int]:
    """One row per patient of several (column `patient`), and how many values of categories contradicted one another.

    Numbers become their mean, median, maximum or minimum without missing and infinite values; a category stays where
    all rows of the patient agree and is missing where they differ. Sorted by patient, columns as in `names`.
    """
    patients = table["patient"].astype("object")
    categories = [n for n in names if _is_category(table[n])]
    numeric = [n for n in names if n not in set(categories)]
    values = table[numeric].apply(pd.to_numeric, errors="coerce").astype(float)
    values = values.where(np.isfinite(values))
    method = {"mean": "mean", "median": "median", "maximum": "max", "minimum": "min"}[aggregate]
    result = getattr(values.groupby(patients, sort=True), method)()
    if not categories:
        return result, 0
    conflicts = 0
    added: dict[str, pd.Series] = {}
    for name in categories:
        groups = table[name].astype("object").groupby(patients, sort=True)
        different = groups.nunique() > 1
        conflicts += int(different.sum())
        column = groups.first().where(~different).reindex(result.index)
        column = column.where(column.notna(), None)
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            column = column.astype(table[name].dtype)
        added[name] = column
    return pd.concat([result, pd.DataFrame(added, index=result.index)], axis=1)[names], conflicts


def _is_category(values: pd.Series) -> bool:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return True
    return not pd.api.types.is_numeric_dtype(values) and values.notna().any()


def indicators(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an indicator (0, 1, missing) for every category in the place of each categorical column.

    For descriptions only: no category is a reference, and the categories are those of all rows.
    """
    columns: dict[str, pd.Series] = {}
    for name in table.columns:
        if not _is_category(table[name]):
            columns[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
            continue
        values = table[name].astype("object")
        for level in sorted(set(values.dropna())):
            columns[f"{name}={level}"] = values.eq(level).astype(float).where(values.notna())
    return pd.DataFrame(columns, index=table.index)
