"""Correlations between kinds of features: point-biserial, phi and rank correlations of every pair."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special, stats
from scipy.stats import rankdata

from .. import figures, ledger, tables
from ..artefacts import TableArtefacts
from ..coding import indicators
from ..config.agreement import AssociationAnalysis
from ..config.clinical import ColumnSettings
from ..errors import UserError
from ..estimates import finite, normal_quantile
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import PATIENTS
from ..univariate import corrected, patterns
from . import data
from .artefacts import sentence

CLINICAL = "clinical"
SHOWN = 40  # rows and columns of the figure
FEWEST = 4


def analyse(
    name: str,
    settings: AssociationAnalysis,
    *,
    seed: int,
    features: Mapping[str, Path],
    patients: Path,
    split: Path | None,
    columns: Mapping[str, ColumnSettings],
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Correlate every feature of one kind with every one of another; write the analysis folder; return the metrics.

    `columns` are the declared clinical columns, which say how those of `settings.clinical` are coded.

    Raises
    ------
    UserError
        if a column does not exist or a kind has no feature.
    """
    where = f"analyses: {name}"
    if settings.split is not None and split is not None:
        frame = data.cohort(patients, split, where)
        frame = frame[frame["part"].eq("training")]
    else:
        frame = tables.read(patients, PATIENTS).set_index("patient", drop=False).sort_index()
    kinds: dict[str, pd.DataFrame] = {}
    for key in settings.features:
        table, _ = data.features(
            features[key], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
        )
        kinds[key] = _coded(table).reindex(frame.index)
    if settings.clinical:
        kinds[CLINICAL] = _coded(data.clinical(frame, settings.clinical, where, columns))
    for kind, table in kinds.items():
        if table.empty or not table.notna().any(axis=None):
            raise UserError(f"{where}: no patient has a value of {kind}; see its table, or leave it out.")
    parts = []
    for number, (one, two) in enumerate(pairs := list(itertools.combinations(kinds, 2))):
        found = between(kinds[one], kinds[two], rank=settings.rank, level=settings.level)
        parts.append(found.assign(kind_1=one, kind_2=two))
        log.progress("pairs of kinds", number + 1, len(pairs))
    table = pd.concat(parts, ignore_index=True)
    table["p_corrected"] = corrected(table["p"].to_numpy(dtype=float), settings.correction)
    first = ["kind_1", "feature_1", "kind_2", "feature_2"]
    table = table[[*first, *(c for c in table.columns if c not in first)]]
    table = table.sort_values(["p", *first], kind="stable").reset_index(drop=True)
    title = settings.title or name
    n = f"{len(frame)} patients, {len(table)} pairs of features"
    warnings = [] if len(frame) >= 20 else [f"{len(frame)} patients: correlations are uncertain."]
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": title,
        "question": settings.question,
        "split": settings.split,
        "seed": seed,
        "patients": len(frame),
        "correction": settings.correction,
        "pairs": {f"{a} and {b}": _counts(table, a, b, settings) for a, b in pairs},
        "estimates": {
            f"{row['feature_1']} and {row['feature_2']}": {
                "value": row["r"], "lower": finite(row["lower"]), "upper": finite(row["upper"]),
                "level": settings.level, "method": row["method"], "n": row["n"], "p": row["p"],
                "p_corrected": finite(row["p_corrected"]), "seed": None,
            }
            for row in table[table["r"].notna()].head(10).to_dict("records")
        },
        "summary": [_counted(table, a, b, settings) for a, b in pairs],
        "warnings": warnings,
    }  # fmt: skip
    artefacts = TableArtefacts(folder, root)
    artefacts.table(
        table,
        "correlations",
        f"{title}: correlations",
        sentence(
            f"Every pair of features of two kinds ({n}), smallest p first; n: patients with both values",
            "Two yes/no features: phi; one: point-biserial (Pearson); none: "
            f"{settings.rank.capitalize()}. p corrected by {settings.correction} over all pairs",
        ),
    )
    figure, plotted = _figure(table, pairs)
    artefacts.figure(
        figure,
        "summary",
        f"{title}: correlations",
        sentence(
            settings.question,
            f"Correlations between kinds of features ({n}); of large kinds the {SHOWN} features with the strongest "
            "correlations",
            settings.caption,
        ),
        plotted,
    )
    artefacts.write()
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split or "",
        seen={"training": frame["patient"]} if settings.split else {},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def _coded(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers, and an indicator per category; of two categories one says all."""
    wide = indicators(table)
    for name in table.columns:
        own = [c for c in wide.columns if str(c).startswith(f"{name}=")]
        if name not in wide and len(own) == 2:
            wide = wide.drop(columns=own[0])
    return wide


def between(one: pd.DataFrame, two: pd.DataFrame, *, rank: str = "spearman", level: float = 0.95) -> pd.DataFrame:
    """Every column of `one` with every column of `two` (same patients): r, interval, n, p, method.

    Point-biserial correlation and phi are Pearson's of 0 and 1 (Tate 1954, Ann Math Stat 25:603), with Student's t;
    Spearman's has Student's t as R's approximate test, and the interval of Bonett and Wright (Psychometrika 65 (2000)
    23); Kendall's tau-b its asymptotic test with ties, and their interval. Pairs with fewer than four patients or a
    constant have none.
    """
    x, y = one.to_numpy(dtype=float), two.to_numpy(dtype=float)
    binary_x, binary_y = (np.array([_binary(v) for v in m.T], dtype=bool) for m in (x, y))
    shape = (x.shape[1], y.shape[1])
    pearson = binary_x[:, None] | binary_y[None, :]
    r, n = np.full(shape, np.nan), np.zeros(shape, dtype=int)
    p = np.full(shape, np.nan)
    # columns with the same known rows go together: one product of matrices for each two patterns
    for rows_x, columns_x in patterns(x):
        for rows_y, columns_y in patterns(y):
            rows = np.intersect1d(rows_x, rows_y)
            place = np.ix_(columns_x, columns_y)
            n[place] = len(rows)
            if len(rows) < FEWEST:
                continue
            a, b = x[np.ix_(rows, columns_x)], y[np.ix_(rows, columns_y)]
            plain = _product(a, b)
            if rank == "spearman":
                ranked = _product(rankdata(a, axis=0), rankdata(b, axis=0))
            else:
                ranked = plain * 0
                for i, j in np.argwhere(~pearson[place] & np.isfinite(plain)):
                    found = stats.kendalltau(a[:, i], b[:, j], method="asymptotic")
                    ranked[i, j], p[columns_x[i], columns_y[j]] = found.statistic, found.pvalue
            r[place] = np.where(pearson[place], plain, ranked)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = n - 2.0
        by_t = 2 * special.stdtr(np.maximum(freedom, 1), -np.abs(r) * np.sqrt(freedom / (1 - r**2)))
        p = np.where(pearson | (rank == "spearman"), np.where(np.abs(r) >= 1, 0.0, by_t), p)
        p = np.where(np.isfinite(r), p, np.nan)
        error = np.where(pearson, 1.0, np.sqrt(1 + r**2 / 2) if rank == "spearman" else math.sqrt(0.437))
        spare = np.where(pearson | (rank == "spearman"), n - 3.0, n - 4.0)
        half = normal_quantile(level) * error / np.sqrt(np.where(spare > 0, spare, np.nan))
        lower, upper = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    both = binary_x[:, None] & binary_y[None, :]
    method = np.where(both, "phi", np.where(pearson, "point-biserial", rank.capitalize()))
    return pd.DataFrame(
        {
            "feature_1": np.repeat(list(map(str, one.columns)), shape[1]),
            "feature_2": [*map(str, two.columns)] * shape[0],
            "r": r.ravel(), "lower": lower.ravel(), "upper": upper.ravel(), "n": n.ravel(), "p": p.ravel(),
            "method": method.ravel(),
        }
    )  # fmt: skip


def _binary(values: np.ndarray) -> bool:
    return set(np.unique(values[np.isfinite(values)])) <= {0.0, 1.0}


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of every column of a with every column of b; NaN for constants."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size_a, size_b = np.sqrt((a**2).sum(axis=0)), np.sqrt((b**2).sum(axis=0))
    size = np.outer(np.where(size_a > 1e-12, size_a, np.nan), np.where(size_b > 1e-12, size_b, np.nan))
    return np.clip(a.T @ b / size, -1, 1)


def _counts(table: pd.DataFrame, one: str, two: str, settings: AssociationAnalysis) -> dict[str, int]:
    rows = table[table["kind_1"].eq(one) & table["kind_2"].eq(two)]
    return {
        "pairs": int(rows["r"].notna().sum()),
        "p_corrected_below_0.05": int((rows["p_corrected"] < 0.05).sum()),
        "strong": int((rows["r"].abs() >= settings.strong).sum()),
    }


def _counted(table: pd.DataFrame, one: str, two: str, settings: AssociationAnalysis) -> str:
    found = _counts(table, one, two, settings)
    return (
        f"{one} and {two}: {found['p_corrected_below_0.05']} of {found['pairs']} pairs with corrected p below 0.05, "
        f"{found['strong']} with a correlation of at least {settings.strong:g} in size."
    )


def _figure(table: pd.DataFrame, pairs: list[tuple[str, str]]) -> tuple[Figure, pd.DataFrame]:
    """A map of correlations for each pair of kinds."""
    frames = []
    for one, two in pairs:
        own = table[table["kind_1"].eq(one) & table["kind_2"].eq(two)]
        wide = own.pivot(index="feature_1", columns="feature_2", values="r")
        size = wide.abs()
        rows = size.max(axis=1).sort_values(ascending=False, kind="stable").index[:SHOWN]
        columns = size.loc[rows].max(axis=0).sort_values(ascending=False, kind="stable").index[:SHOWN]
        frames.append(wide.loc[sorted(rows), sorted(columns)])
    height = max(50, 22 + 3.2 * max(len(f) for f in frames))
    figure, axes = figures.new(95 * len(pairs), height, len(pairs), squeeze=False)
    plotted = []
    for axis, (one, two), frame in zip(axes.flat, pairs, frames, strict=True):
        image = axis.imshow(frame.to_numpy(dtype=float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axis.set_yticks(range(len(frame)), [str(v)[-34:] for v in frame.index], fontsize=5)
        axis.set_xticks(range(frame.shape[1]), [str(v)[-34:] for v in frame.columns], rotation=90, fontsize=5)
        axis.set_title(f"{one} and {two}")
        figure.colorbar(image, ax=axis, label="correlation", shrink=0.7)
        long = frame.rename_axis(index="feature_1", columns="feature_2").stack().rename("r").reset_index()
        plotted.append(long.assign(kind_1=one, kind_2=two))
    return figure, pd.concat(plotted, ignore_index=True)
