"""Performance in groups of patients by columns of the patient or the scan table, and whether the groups differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from .. import tables
from ..errors import UserError
from ..estimates import Estimate, estimate, finite, holm, normal_quantile, p_text
from ..tables.schemas import SCANS
from . import roc

SEVERAL = "several"
UNKNOWN = "no value"


def groups(
    frame: pd.DataFrame, wanted: dict[str, tuple[float, ...]], scans: Path | None, training: np.ndarray, where: str
) -> dict[str, np.ndarray]:
    """Masks (n,) of the patients of `frame` by label, such as "sex: female" or "age_years: 60 or above".

    Numbers are divided at the given bounds (a bound belongs to the upper group), without bounds at the median of the
    training patients. A column of the scan table holds one value per patient, or the patient is in group "several".
    Patients without a value are in group "no value", of which nothing is estimated.
    """
    result: dict[str, np.ndarray] = {}
    images = tables.read(scans, SCANS) if scans is not None and wanted else None
    for name, bounds in wanted.items():
        values = _values(frame, name, images, where)
        lacking = {f"{name}: {UNKNOWN}": values.isna().to_numpy()} if values.isna().any() else {}
        numbers = pd.to_numeric(values, errors="coerce")
        if values.notna().any() and numbers.notna().sum() == values.notna().sum() and (bounds or values.nunique() > 6):
            at = numbers.to_numpy(dtype=float)
            known = at[training & np.isfinite(at)]
            edges = sorted(bounds) or ([float(np.median(known))] if len(known) else [])
            result |= {f"{name}: {label}": mask for label, mask in _by_bounds(at, edges)} | lacking
            continue
        if bounds and values.notna().any():
            raise UserError(f"{where}: subgroups: {name!r} holds no numbers; write {name}: [] to take its values.")
        text = values.map(lambda v: None if pd.isna(v) else _text(v))
        for label in sorted(text.dropna().unique()):
            result[f"{name}: {label}"] = text.eq(label).to_numpy()
        result |= lacking
    return result


def _values(frame: pd.DataFrame, name: str, images: pd.DataFrame | None, where: str) -> pd.Series:
    if name in frame.columns:
        return frame[name].astype("object")
    if images is None or name not in images.columns:
        known = sorted({*map(str, frame.columns), *([] if images is None else map(str, images.columns))})
        raise UserError(f"{where}: subgroups: there is no column {name!r}; write one of {known}.")
    images = images[images["patient"].isin(frame.index)]
    known = images[images[name].notna() & images[name].astype(str).ne("")]
    each = known.groupby("patient")[name].agg(lambda v: v.iloc[0] if v.nunique() == 1 else SEVERAL)
    return each.reindex(frame.index).astype("object")


def _by_bounds(at: np.ndarray, edges: list[float]) -> list[tuple[str, np.ndarray]]:
    if not edges:
        return []
    parts = [(f"below {edges[0]:g}", at < edges[0])]
    parts += [(f"{a:g} to below {b:g}", (at >= a) & (at < b)) for a, b in pairwise(edges)]
    return [*parts, (f"{edges[-1]:g} or above", at >= edges[-1])]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class Measured(NamedTuple):
    """A measure in one group: its estimate, and the standard error on the scale on which groups are compared.

    `value` and `error` stand on that scale (logit for the AUC, log for a ratio, plain for a slope); NaN where unknown.
    """

    estimate: Estimate
    value: float
    error: float


class Heterogeneity(NamedTuple):
    """Cochran's Q over groups with k - 1 degrees of freedom, its p, and the inverse-variance mean with interval."""

    groups: int
    q: float
    p: float
    i_squared: float
    pooled: float
    lower: float
    upper: float


def heterogeneity(values: np.ndarray, errors: np.ndarray, *, level: float = 0.95) -> Heterogeneity:
    """Do independent groups differ more than their errors explain? (Cochran 1954, Biometrics 10:101)

    For two groups this is the test of interaction (z squared). I squared after Higgins and Thompson 2002, Stat Med
    21:1539. Groups without a value or with an error of 0 do not count; fewer than two give NaN. With few centres the
    test has little power: a large p does not show that they agree.
    """
    values, errors = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    known = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, errors, k = values[known], errors[known], int(known.sum())
    if k < 2:
        return Heterogeneity(k, *(math.nan,) * 6)
    weight = 1 / errors**2
    pooled = float((weight * values).sum() / weight.sum())
    q = float((weight * (values - pooled) ** 2).sum())
    half = normal_quantile(level) / math.sqrt(float(weight.sum()))
    i_squared = max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0
    return Heterogeneity(k, q, float(special.chdtrc(k - 1, q)), i_squared, pooled, pooled - half, pooled + half)


def by_auc(outcome: np.ndarray, score: np.ndarray, *, level: float = 0.95) -> Callable[[np.ndarray], Measured]:
    """A measure for `performance`: AUC with DeLong's interval, compared on the logit scale."""

    def measure(here: np.ndarray) -> Measured:
        found = roc.delong(outcome[here], score[here], level=level)
        value, error = found["value"], math.nan
        if value is None or found["lower"] is None or not 0 < value < 1:
            return Measured(found, math.nan, math.nan)
        parts = roc.placements(outcome[here], score[here])
        error = math.sqrt(sum(float(v.var(ddof=1)) / len(v) for v in parts)) / (value * (1 - value))
        return Measured(found, math.log(value / (1 - value)), error)

    return measure


def by_interval(measure: Callable[[np.ndarray], Estimate]) -> Callable[[np.ndarray], Measured]:
    """A measure for `performance` from any estimate whose interval is nearly symmetric; its width gives the error."""

    def measured(here: np.ndarray) -> Measured:
        found = measure(here)
        if any(found[k] is None for k in ("value", "lower", "upper")):
            return Measured(found, math.nan, math.nan)
        error = (found["upper"] - found["lower"]) / (2 * normal_quantile(found["level"]))
        return Measured(found, found["value"], error)

    return measured


PERFORMANCE = ("column", "group", "n", "events", "value", "lower", "upper", "method", "why_not")
DIFFERENCES = ("column", "groups", "q", "degrees", "p", "p_holm", "i_squared")


def performance(
    masks: dict[str, np.ndarray],
    measure: Callable[[np.ndarray], Measured],
    event: np.ndarray,
    *,
    smallest: int = 10,
    fewest_events: int = 5,
    both: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A measure in every group of `groups`, and per column whether the groups differ (columns as named above).

    A group with fewer than `smallest` patients, fewer than `fewest_events` with the event (`event` (n,) bool) or, with
    `both`, as few without, has no estimate; `why_not` says so. p values over the columns are corrected after Holm.
    """
    event = np.asarray(event, dtype=bool)
    rows: list[dict[str, Any]] = []
    scaled: dict[str, list[tuple[float, float]]] = {}
    for label, mask in masks.items():
        column, _, group = label.partition(": ")
        n, events = int(mask.sum()), int(event[mask].sum())
        why = ""
        if group == UNKNOWN:
            why = "not known which group they are in"
        elif n < smallest:
            why = f"{n} patients, fewer than {smallest}"
        elif events < fewest_events:
            why = f"{events} with the event, fewer than {fewest_events}"
        elif both and n - events < fewest_events:
            why = f"{n - events} without the event, fewer than {fewest_events}"
        row: dict[str, Any] = {"column": column, "group": group, "n": n, "events": events, "why_not": why}
        scaled.setdefault(column, [])
        if not why:
            found = measure(mask)
            row |= {k: found.estimate[k] for k in ("value", "lower", "upper", "method")}
            scaled[column].append((found.value, found.error))
        rows.append(row)
    tests = []
    for column, pairs in scaled.items():
        found_ = heterogeneity(*np.array(pairs).reshape(-1, 2).T)
        tests.append({"column": column, "groups": found_.groups, "q": found_.q, "degrees": max(found_.groups - 1, 0),
                      "p": found_.p, "i_squared": found_.i_squared})  # fmt: skip
    differences = pd.DataFrame(tests, columns=[c for c in DIFFERENCES if c != "p_holm"])
    differences.insert(5, "p_holm", holm(differences["p"].tolist()))
    return pd.DataFrame(rows, columns=list(PERFORMANCE)), differences


def for_metrics(rows: pd.DataFrame, differences: pd.DataFrame, *, level: float) -> dict[str, Any]:
    """What `performance` found, as it stands in metrics.json: estimates by group, and the tests between groups."""
    groups = {}
    for row in rows.to_dict("records"):
        value, lower, upper = (math.nan if row[k] is None else row[k] for k in ("value", "lower", "upper"))
        method = f"not estimated: {row['why_not']}" if row["why_not"] else row["method"]
        groups[f"{row['column']}: {row['group']}"] = estimate(
            value, lower, upper, method=method, n=row["n"], level=level, events=row["events"]
        )
    tests = [
        {name: finite(v) if isinstance(v, float) else v for name, v in row.items()}
        for row in differences.to_dict("records")
    ]
    return {"groups": groups, "differences": tests}


def test_row(test: dict[str, Any]) -> dict[str, Any]:
    """A test between groups, of `for_metrics`, as a row of a table."""
    return {
        "column": test["column"], "groups": test["groups"], "Q": None if test["q"] is None else round(test["q"], 2),
        "I squared": "" if test["i_squared"] is None else f"{100 * test['i_squared']:.0f} %",
        "p": p_text(test["p"]), "p, Holm": p_text(test["p_holm"]),
    }  # fmt: skip


def forest_rows(overall: Estimate, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows for `plots.forest`: all patients first, then every group with an estimate."""
    known = rows[rows["value"].notna()]
    first = {"group": "all", "label": f"all (n = {overall['n']})"}
    lines = [first | {k: overall[k] for k in ("value", "lower", "upper")}]
    for row in known.to_dict("records"):
        events = f", events = {row['events']}" if "events" in row else ""
        label = f"{row['column']}: {row['group']} (n = {row['n']}{events})"
        lines.append({"group": row["column"], "label": label} | {k: row[k] for k in ("value", "lower", "upper")})
    return pd.DataFrame(lines).astype(dict.fromkeys(("value", "lower", "upper"), float))
