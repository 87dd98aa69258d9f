"""Description of the cohort: Table 1 by group, tests, standardised differences, acquisition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from .. import figures, ledger, tables
from ..artefacts import TableArtefacts
from ..config.analyses import CohortAnalysis
from ..errors import UserError
from ..estimates import finite, holm, p_text
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables.schemas import PATIENTS, SCANS, SPLIT
from . import acquisition
from .artefacts import sentence

# scanner models and body parts are many words: the figure has them
IN_TABLE = {n: label for n, label in acquisition.CATEGORIES.items() if n not in ("model", "body_part", "modality")}
LEVELS = 10  # a numeric column with at most this many whole values is described by counts


@dataclass(frozen=True)
class Variable:
    """A row (block) of the table: its column, what is printed, number or category, and what is counted."""

    column: str
    label: str
    numeric: bool
    scans: bool = False


def analyse(
    name: str,
    settings: CohortAnalysis,
    *,
    seed: int,
    patients: Path,
    scans: Path,
    split: Path | None,
    outcomes: Mapping[str, Any],
    columns: Iterable[str],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> dict[str, Any]:
    """Describe patients and scans by group; write the analysis folder; return the metrics.

    Parameters
    ----------
    scans
        table of accepted scans, schema SCANS.
    split
        split table where `settings.split` is given.
    outcomes
        declared outcomes by name.
    columns
        declared clinical columns: names, or declarations by name with `type` (numeric, categorical) and `unit`.
    """
    where = f"analyses: {name}"
    people = tables.read(patients, PATIENTS)
    images = tables.read(scans, SCANS)
    if split is not None:
        parts = tables.read(split, SPLIT).set_index("patient")["part"].astype("object")
        people = people[people["patient"].isin(parts.index)]
        people = people.assign(part=people["patient"].map(parts))
    if settings.by not in people.columns:
        raise UserError(
            f"{where}: by: there is no column {settings.by!r}; write centre, "
            f"{'part, ' if split is not None else 'part (together with split), '}or one of {list(people.columns)}."
        )
    people = people[people[settings.by].notna()].sort_values("patient")
    images = images[images["patient"].isin(people["patient"])].sort_values("scan")
    images = images.assign(**{settings.by: images["patient"].map(people.set_index("patient")[settings.by])})
    warnings: list[str] = []
    wanted = _variables(settings, people, images, outcomes, columns, where, warnings)
    groups = sorted(people[settings.by].unique(), key=str)
    log.progress("variables", 0, len(wanted))
    rows, numbers = [], []
    for variable in wanted:
        frame = images if variable.scans else people
        block, facts = _describe(variable, frame, settings.by, groups, generator(seed, "analyse", name, variable.label))
        rows += block
        numbers.append(facts)
    for facts, corrected in zip(numbers, holm([_nan(f["p"]) for f in numbers]), strict=True):
        facts["p_holm"] = finite(corrected)
    for row in rows:
        if row["variable"]:
            facts = next(f for f in numbers if f["label"] == row["variable"])
            row["p, Holm"] = p_text(facts["p_holm"])
    log.progress("variables", len(wanted), len(wanted))
    if len(groups) < 2:
        warnings.append(f"Only one group in {settings.by!r}: nothing is compared.")
    for group in groups:
        n = int(people[settings.by].eq(group).sum())
        if n < 10:
            warnings.append(f"Group {group} has {n} patients: tests have little power and differences are uncertain.")
    title = settings.title or name
    artefacts = TableArtefacts(folder, root)
    head = {"variable": "patients", "level": "", "missing": "", "all": str(len(people))}
    head |= {str(g): str(int(people[settings.by].eq(g).sum())) for g in groups}
    second = {"variable": "scans", "level": "", "missing": "", "all": str(len(images))}
    second |= {str(g): str(int(images[settings.by].eq(g).sum())) for g in groups}
    table = pd.DataFrame([head, second, *rows]).fillna("")
    artefacts.table(
        table,
        "table1",
        f"{title}: table 1",
        sentence(
            f"{len(people)} patients and {len(images)} scans by {settings.by}. Numbers as mean ± SD, median [quartiles]"
            " and categories as count (% of known); missing counts the empty",
            "Two groups are compared by Welch's t test where Shapiro-Wilk rejects normality in none (p >= 0.05), "
            "else by Mann-Whitney; more by one-way analysis of variance or Kruskal-Wallis; categories by Fisher's "
            "exact test in 2 x 2 tables, else chi-squared (by Monte Carlo where an expected count is below 5); p "
            "values are corrected by Holm over the table",
            "SMD: largest standardised difference between two groups",
        ),
    )
    figure, plotted = _figure(people, images, settings.by, groups, wanted, outcomes)
    artefacts.figure(
        figure,
        "summary",
        f"{title}: cohort",
        sentence(
            settings.question,
            f"{len(people)} patients and {len(images)} scans by {settings.by}: counts by outcome, and the "
            "distribution of numbers (points: patients or scans, line: median)",
            settings.caption,
        ),
        plotted,
    )
    if settings.acquisition and len(images):
        _show_acquisition(artefacts, images, settings.by, groups, title)
    artefacts.write()
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": title,
        "question": settings.question,
        "split": settings.split,
        "by": settings.by,
        "seed": seed,
        "cohort": {
            "patients": len(people),
            "scans": len(images),
            "groups": {str(g): int(people[settings.by].eq(g).sum()) for g in groups},
        },
        "variables": numbers,
        "warnings": warnings,
    }
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split or "",
        seen={},
        settings=settings_json,
        code=code,
    )
    return metrics


def _show_acquisition(artefacts: TableArtefacts, images: pd.DataFrame, by: str, groups: list[Any], title: str) -> None:
    """Distributions of acquisition parameters, and shares of scanners, kernels and contrast, by group."""
    if acquisition.known(images, acquisition.NUMBERS):
        figure, plotted = acquisition.numbers(images, by, groups)
        artefacts.figure(
            figure,
            "acquisition",
            f"{title}: acquisition",
            sentence(
                f"Acquisition parameters of {len(images)} scans by {by}: histograms of {acquisition.BINS} bins, each "
                "scaled to its own highest bar; orange line: median; n: scans whose headers state the value",
            ),
            plotted,
        )
    if [n for n in acquisition.known(images, acquisition.CATEGORIES) if n != by]:
        figure, plotted = acquisition.categories(images, by, groups)
        artefacts.figure(
            figure,
            "scanners",
            f"{title}: scanners and protocols",
            sentence(
                f"Scanners, kernels and contrast of {len(images)} scans by {by}, % of scans; in brackets the scans of "
                f"all groups. At most {acquisition.LEVELS} levels are told apart",
            ),
            plotted,
        )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _variables(
    settings: CohortAnalysis,
    people: pd.DataFrame,
    images: pd.DataFrame,
    outcomes: Mapping[str, Any],
    columns: Iterable[str],
    where: str,
    warnings: list[str],
) -> list[Variable]:
    names = list(settings.columns) if settings.columns is not None else list(columns)
    if settings.columns is None:
        for outcome in outcomes.values():
            if outcome.type == "horizon":  # the columns of what it is made from are listed there
                continue
            fields = ("time", "event") if outcome.type == "time-to-event" else ("column",)
            names += [getattr(outcome, f) for f in fields]
    names = [n for n in dict.fromkeys(names) if n != settings.by]
    if unknown := [n for n in names if n not in people.columns]:
        if settings.columns is not None:
            raise UserError(
                f"{where}: columns: {unknown} are not in the patient table; write some of {list(people.columns)}."
            )
        names = [n for n in names if n not in unknown]
    declared = columns if isinstance(columns, Mapping) else {}
    times = {outcome.time for outcome in outcomes.values() if outcome.type == "time-to-event"}
    result = [_variable(n, people[n], declared.get(n), n in times) for n in names]
    if settings.acquisition:
        result += [Variable(n, n, True, True) for n in acquisition.known(images, acquisition.NUMBERS)]
        result += [Variable(n, n, False, True) for n in acquisition.known(images, IN_TABLE) if n != settings.by]
    if not result:
        warnings.append("No column to describe: declare clinical columns, or write columns.")
    return result


def _variable(name: str, values: pd.Series, declared: Any, time: bool) -> Variable:
    kind, unit = getattr(declared, "type", None), getattr(declared, "unit", None)
    kind = "numeric" if kind is None and time else kind
    numeric = _numeric(values) if kind is None else kind == "numeric" and pd.api.types.is_numeric_dtype(values)
    return Variable(name, f"{name}, {unit}" if unit else name, numeric)


def _numeric(values: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    known = values.dropna().astype(float)
    return known.nunique() > LEVELS or bool((known % 1 != 0).any())


def _texts(values: pd.Series) -> pd.Series:
    """Categories as text, empty ones as missing; whole floats as integers."""

    def text(value: Any) -> str | None:
        if pd.isna(value) or value == "":
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    return values.astype("object").map(text)


def _describe(
    variable: Variable, frame: pd.DataFrame, by: str, groups: list[Any], rng: np.random.Generator
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    facts: dict[str, Any] = {"column": variable.column, "label": variable.label, "scans": variable.scans}
    if variable.numeric:
        values = frame[variable.column].astype("Float64").astype(float)
        samples = [values[frame[by].eq(g)].dropna().to_numpy() for g in groups]
        test, p = _test_numbers(samples)
        smd = _largest(samples, smd_numbers)
        cells = [values.dropna().to_numpy(), *samples]
        lines = {"mean ± SD": [_mean(c) for c in cells], "median [quartiles]": [_median(c) for c in cells]}
        facts["groups"] = {
            str(g): {"n": len(c), "mean": _stat(np.mean, c), "sd": finite(c.std(ddof=1)) if len(c) > 1 else None,
                     "median": _stat(np.median, c)}
            for g, c in zip(groups, samples, strict=True)
        }  # fmt: skip
        missing = int(values.isna().sum())
    else:
        values = _texts(frame[variable.column])
        levels = sorted(values.dropna().unique())
        counts = np.array([[int((values[frame[by].eq(g)] == level).sum()) for g in groups] for level in levels])
        counts = counts.reshape(len(levels), len(groups))
        test, p = _test_counts(counts, rng)
        smd = _largest(list(counts.T), smd_counts)
        lines = {
            level: [_count(row.sum(), counts.sum()), *(_count(c, t) for c, t in zip(row, counts.sum(0), strict=True))]
            for level, row in zip(levels, counts, strict=True)
        }
        facts["groups"] = {str(g): dict(zip(levels, map(int, counts[:, k]), strict=True)) for k, g in enumerate(groups)}
        missing = int(values.isna().sum())
    facts |= {"test": test, "p": finite(p), "smd": finite(smd), "missing": missing}
    block = []
    for k, (level, cells) in enumerate(lines.items()):
        first = k == 0
        block.append(
            {
                "variable": variable.label if first else "",
                "level": level,
                "missing": str(missing) if first else "",
                "all": cells[0],
                **{str(g): c for g, c in zip(groups, cells[1:], strict=True)},
                "SMD": f"{smd:.2f}" if first and math.isfinite(smd) else "",
                "test": test if first else "",
                "p": p_text(p) if first else "",
                "p, Holm": "",
            }
        )
    return block, facts


def _stat(function: Any, values: np.ndarray) -> float | None:
    return finite(function(values)) if len(values) else None


def _mean(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    return f"{values.mean():.4g}" + (f" ± {values.std(ddof=1):.3g}" if len(values) > 1 else "")


def _median(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"


def _count(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f} %)" if total else "0"


def _test_numbers(samples: list[np.ndarray]) -> tuple[str, float]:
    """Name and p of the test of equal location of the groups with at least two values."""
    samples = [s for s in samples if len(s) >= 2]
    if len(samples) < 2 or np.ptp(np.concatenate(samples)) == 0:
        return "", math.nan
    normal = all(len(s) >= 3 and np.ptp(s) > 0 and stats.shapiro(s).pvalue >= 0.05 for s in samples)
    if len(samples) == 2:
        if normal:
            return "Welch t", float(stats.ttest_ind(*samples, equal_var=False).pvalue)
        return "Mann-Whitney", float(stats.mannwhitneyu(*samples).pvalue)
    if normal:
        return "analysis of variance", float(stats.f_oneway(*samples).pvalue)
    return "Kruskal-Wallis", float(stats.kruskal(*samples).pvalue)


def _test_counts(counts: np.ndarray, rng: np.random.Generator) -> tuple[str, float]:
    """Name and p of the test of independence of levels (rows) and groups (columns)."""
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0] if counts.size else counts
    if min(counts.shape, default=0) < 2:
        return "", math.nan
    if counts.shape == (2, 2):
        return "Fisher", float(stats.fisher_exact(counts).pvalue)
    if stats.contingency.expected_freq(counts).min() >= 5:
        return "chi-squared", float(stats.chi2_contingency(counts, correction=False).pvalue)
    method = stats.MonteCarloMethod(n_resamples=1999, rng=rng)
    return "chi-squared, Monte Carlo", float(stats.chi2_contingency(counts, correction=False, method=method).pvalue)


def smd_numbers(a: np.ndarray, b: np.ndarray) -> float:
    """|Difference of means| over the root mean variance (Austin 2009, Stat Med 28:3083)."""
    if len(a) < 2 or len(b) < 2:
        return math.nan
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    size = max(abs(a.mean()), abs(b.mean()))
    return abs(a.mean() - b.mean()) / spread if spread > 1e-9 * size else math.nan


def smd_counts(a: np.ndarray, b: np.ndarray) -> float:
    """Standardised difference of two multinomial samples of counts: Mahalanobis distance of their proportions.

    (Yang and Dalton 2012, SAS Global Forum 335); for two levels |p - q| / sqrt((p(1-p) + q(1-q)) / 2).
    """
    if not a.sum() or not b.sum():
        return math.nan
    p, q = (a / a.sum())[1:], (b / b.sum())[1:]
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    value = (p - q) @ np.linalg.pinv(covariance) @ (p - q)
    return math.sqrt(value) if value > 0 else (0.0 if np.allclose(p, q) else math.nan)


def _largest(samples: list[np.ndarray], distance: Any) -> float:
    values = [distance(a, b) for a, b in itertools.combinations(samples, 2)]
    values = [v for v in values if math.isfinite(v)]
    return max(values, default=math.nan)


def _figure(
    people: pd.DataFrame,
    images: pd.DataFrame,
    by: str,
    groups: list[Any],
    wanted: list[Variable],
    outcomes: Mapping[str, Any],
) -> tuple[Figure, pd.DataFrame]:
    """Counts by group and first categorical outcome; the first clinical number; slice distance or thickness."""
    rows: list[dict[str, Any]] = []
    category = next((o.column for o in outcomes.values() if o.type != "time-to-event" and o.column != by), None)
    number = next((v for v in wanted if v.numeric and not v.scans), None)
    slices = next((v for v in wanted if v.scans and v.column == "spacing_z_mm"), None)
    panels = 1 + (number is not None) + (slices is not None)
    figure, axes = figures.new(width_mm=60 * panels, height_mm=60, columns=panels, squeeze=False)
    axis = axes.flat[0]
    column = category if category in people.columns else "role"
    labels = _texts(people[column]).fillna("missing")
    base = np.zeros(len(groups))
    for k, level in enumerate(sorted(labels.unique())):
        heights = np.array([int((labels[people[by].eq(g)] == level).sum()) for g in groups])
        axis.bar(range(len(groups)), heights, bottom=base, width=0.65, color=figures.COLOURS[k % 8], label=level)
        base += heights
        rows += [{"panel": column, "group": str(g), "item": level, "value": int(h)}
                 for g, h in zip(groups, heights, strict=True)]  # fmt: skip
    axis.set(ylabel="patients", title=column, ylim=(0, base.max(initial=1) * 1.3))
    axis.legend(loc="upper left", ncols=2, handlelength=1)
    for axis, variable in zip(axes.flat[1:], [v for v in (number, slices) if v is not None], strict=True):
        frame, key = (images, "scan") if variable.scans else (people, "patient")
        for k, group in enumerate(groups):
            here = frame[frame[by].eq(group)]
            values = here[variable.column].astype("Float64").astype(float).to_numpy()
            offsets = (np.arange(len(values)) % 9 - 4) / 16  # spread by rank, not at random
            axis.plot(k + offsets, values, ".", color=figures.COLOURS[0], alpha=0.6, markersize=4)
            if np.isfinite(values).any():
                axis.hlines(np.nanmedian(values), k - 0.32, k + 0.32, color=figures.COLOURS[1])
            rows += [{"panel": variable.column, "group": str(group), "item": item, "value": value}
                     for item, value in zip(here[key], values, strict=True)]  # fmt: skip
        axis.set(ylabel=variable.label, title="scans" if variable.scans else "patients")
    for axis in axes.flat:
        axis.set_xticks(range(len(groups)), [str(g) for g in groups], rotation=30 if len(groups) > 4 else 0)
        axis.set_xlim(-0.6, len(groups) - 0.4)
    return figure, pd.DataFrame(rows)
