"""Description of the cohort: Table 1 by group, tests, standardised differences, acquisition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import figures, ledger, tables
from .. import outcomes as out
from ..artefacts import TableArtefacts
from ..config.analyses import CohortAnalysis
from ..config.clinical import AtHorizon
from ..contingency import Test
from ..errors import UserError
from ..estimates import finite, p_text
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables.schemas import PATIENTS, SCANS, SPLIT
from ..univariate import corrected
from . import acquisition, group_tests
from .artefacts import sentence
from .survival import kaplan_meier, log_rank

# scanner models and body parts are many words: the figure has them
IN_TABLE = {n: label for n, label in acquisition.CATEGORIES.items() if n not in ("model", "body_part", "modality")}
LEVELS = 10  # a numeric column with at most this many whole values is described by counts
CORRECTIONS = {"holm": "Holm", "bonferroni": "Bonferroni", "benjamini-hochberg": "Benjamini-Hochberg"}
OUTCOME = "outcome "  # before the name of an outcome, as a column of its own; TIME and EVENT after it
TIME, EVENT = " time", " event"


@dataclass(frozen=True)
class Variable:
    """A row (block) of the table: its column, what is printed, what it holds, and whether scans are counted.

    Of a survival variable, `column` with ` time` and ` event` after it are the columns.
    """

    column: str
    label: str
    kind: Literal["number", "category", "survival"]
    scans: bool = False
    unit: str = ""

    @property
    def name(self) -> str:
        return self.column.removeprefix(OUTCOME)


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
    warnings: list[str] = []
    people = _with_outcomes(people, outcomes, where, warnings)
    if settings.by not in people.columns:
        people = _grouped(people, settings, outcomes, split is not None, where)
    people = people[people[settings.by].notna()].sort_values("patient")
    images = images[images["patient"].isin(people["patient"])].sort_values("scan")
    images = images.assign(**{settings.by: images["patient"].map(people.set_index("patient")[settings.by])})
    wanted = _variables(settings, people, images, outcomes, columns, where, warnings)
    groups = sorted(people[settings.by].unique(), key=str)
    log.progress("variables", 0, len(wanted))
    rows, numbers = [], []
    column_p = f"p, {CORRECTIONS[settings.correction]}" if settings.correction != "none" else "p, uncorrected"
    for variable in wanted:
        frame = images if variable.scans else people
        stream = generator(seed, "analyse", name, variable.label)
        try:
            block, facts = _describe(variable, frame, settings, groups, stream)
        except ValueError as error:
            raise UserError(f"{where}: tests: {variable.name}: {error}; write another test or leave it out.") from None
        rows.append(block)
        numbers.append(facts)
    family = corrected(np.array([_nan(f["p"]) for f in numbers]), settings.correction)
    for block, facts, p in zip(rows, numbers, family, strict=True):
        facts["p_corrected"] = finite(p)
        block[0][column_p] = p_text(facts["p_corrected"])
    rows = [row for block in rows for row in block]
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
            _rules(settings),
            "SMD: largest standardised difference between two groups",
        ),
    )
    if numbers:
        artefacts.table(
            _tests(numbers, groups),
            "tests",
            f"{title}: tests",
            sentence(
                f"Tests behind table 1, a row per variable: statistic, degrees of freedom, p and corrected p "
                f"({settings.correction}, {int(np.isfinite(family).sum())} tests); smallest p of Shapiro-Wilk over "
                "groups; test of equal spreads (F, or Levene round medians); missing values by group"
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


def _rules(settings: CohortAnalysis) -> str:
    """How tests were chosen, in words."""
    means = "Welch's t test (two groups) or one-way analysis of variance (more)"
    ranks = "Mann-Whitney or Kruskal-Wallis"
    text = (
        f"Numbers are compared by {means} where Shapiro-Wilk rejects normality in no group (p >= 0.05), else by {ranks}"
        if settings.normality == "decides"
        else f"Numbers are compared by {means}; Shapiro-Wilk is reported only"
    )
    text += (
        "; categories by Fisher's exact test in 2 x 2 tables and where an expected count is below 5 (by Monte Carlo "
        "where it takes too long), else by chi-squared; survival by the log-rank test"
    )
    if settings.tests:
        text += f". Chosen for {', '.join(f'{k}: {v}' for k, v in sorted(settings.tests.items()))}"
    if settings.correction == "none":
        return f"{text}. p values are not corrected"
    return f"{text}. p values are corrected by {CORRECTIONS[settings.correction]} over the table"


def _tests(numbers: list[dict[str, Any]], groups: list[Any]) -> pd.DataFrame:
    keys = ("test", "statistic", "df", "p", "p_corrected", "shapiro_p", "spread_test", "spread_p", "smd", "missing")
    rows = []
    for facts in numbers:
        row = {"variable": facts["label"]} | {key: facts.get(key) for key in keys}
        rows.append(row | {f"missing {g}": facts["missing_by_group"][str(g)] for g in groups})
    return pd.DataFrame(rows)


def _with_outcomes(people: pd.DataFrame, outcomes: Mapping[str, Any], where: str, warnings: list[str]) -> pd.DataFrame:
    """Time-to-event and horizon outcomes as columns of their own; outcomes without their columns are left out."""
    columns: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        source = outcomes[outcome.of] if outcome.type == "horizon" else outcome
        if outcome.type not in ("time-to-event", "horizon") or not {source.time, source.event} <= set(people.columns):
            continue
        if outcome.type == "horizon":
            resolved = AtHorizon(**outcome.model_dump(), follow_up=source.model_dump())
            values, lost = out.horizon(people, resolved, where)
            columns[OUTCOME + name] = values.map({1.0: "event", 0.0: "no event"}).astype("object")
            if lost.any():
                warnings.append(f"{name}: {out.horizon_rule(resolved, int(lost.sum()))}.")
        else:
            known = out.follow_up(people, outcome, where)
            known = known.where((known["time"] > 0) & known["event"].notna())
            columns[OUTCOME + name + TIME], columns[OUTCOME + name + EVENT] = known["time"], known["event"]
    return people.assign(**columns)


def _grouped(
    people: pd.DataFrame, settings: CohortAnalysis, outcomes: Mapping[str, Any], has_split: bool, where: str
) -> pd.DataFrame:
    """The patients with a column of the outcome by which they are grouped."""
    outcome = outcomes.get(settings.by)
    if outcome is not None and outcome.type == "horizon" and OUTCOME + settings.by in people:
        return people.assign(**{settings.by: people[OUTCOME + settings.by]})
    if outcome is not None and outcome.type in ("binary", "multiclass"):
        return people.assign(**{settings.by: _texts(out.column(people, outcome.column, where))})
    if outcome is not None and outcome.type == "time-to-event":
        raise UserError(
            f"{where}: by: {settings.by!r} is a time to an event and makes no groups; declare the event within a time "
            f"under clinical: outcomes ({{type: horizon, of: {settings.by}, at_days: 730.5}}) and write its name."
        )
    known = [c for c in people.columns if not c.startswith(OUTCOME)]
    raise UserError(
        f"{where}: by: there is no column {settings.by!r}; write centre, "
        f"{'part, ' if has_split else 'part (together with split), '}an outcome, or one of {known}."
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
        names += [c for o in outcomes.values() if o.type in ("binary", "multiclass") for c in (o.column,)]
    names = [n for n in dict.fromkeys(names) if n not in _same_as_group(settings.by, outcomes)]
    if settings.columns is None:
        # time and event of an outcome are one variable: their columns are not shown by themselves
        followed = [o for o in outcomes.values() if o.type == "time-to-event"]
        names = [n for n in names if n not in {c for o in followed for c in (o.time, o.event)}]
    shown = [n for n, o in outcomes.items() if o.type in ("time-to-event", "horizon")]
    shown = [n for n in shown if (settings.columns is None or n in settings.columns) and n not in people.columns]
    shown = [n for n in shown if n not in _same_as_group(settings.by, outcomes)]
    names = [n for n in names if n not in shown]
    if unknown := [n for n in names if n not in people.columns]:
        if settings.columns is not None:
            known = [c for c in people.columns if not c.startswith(OUTCOME)]
            raise UserError(
                f"{where}: columns: {unknown} are not in the patient table; write some of {known} or of the outcomes "
                f"{list(outcomes)}."
            )
        names = [n for n in names if n not in unknown]
    declared = columns if isinstance(columns, Mapping) else {}
    times = {outcome.time for outcome in outcomes.values() if outcome.type == "time-to-event"}
    result = [_variable(n, people[n], declared.get(n), n in times) for n in names]
    for name in shown:
        if outcomes[name].type == "horizon" and OUTCOME + name in people:
            result.append(Variable(OUTCOME + name, f"{name} (by {outcomes[name].at_days:g} days)", "category"))
        elif OUTCOME + name + TIME in people:
            result.append(Variable(OUTCOME + name, name, "survival", unit=outcomes[name].unit))
    if settings.acquisition:
        result += [Variable(n, n, "number", True) for n in acquisition.known(images, acquisition.NUMBERS)]
        result += [Variable(n, n, "category", True) for n in acquisition.known(images, IN_TABLE) if n != settings.by]
    if not result:
        warnings.append("No column to describe: declare clinical columns, or write columns.")
    _suitable(settings, result, where)
    return result


def _same_as_group(by: str, outcomes: Mapping[str, Any]) -> set[str]:
    """The group itself, and what it is made from."""
    outcome = outcomes.get(by)
    if outcome is None:
        return {by}
    if outcome.type == "horizon":
        siblings = {n for n, o in outcomes.items() if o.type == "horizon" and o.of == outcome.of}
        return {by, outcome.of, outcomes[outcome.of].time, outcomes[outcome.of].event, *siblings}
    return {by, outcome.column} if outcome.type in ("binary", "multiclass") else {by}


def _suitable(settings: CohortAnalysis, variables: list[Variable], where: str) -> None:
    """Refuse tests of columns that are not described, or that hold something else."""
    kinds = {v.name: v.kind for v in variables}
    problems = []
    for name, test in settings.tests.items():
        kind = kinds.get(name)
        fitting = {"number": group_tests.OF_NUMBERS, "category": group_tests.OF_COUNTS, "survival": ()}.get(kind, ())
        if kind is None:
            problems.append(f"{where}: tests: {name!r} is not described; write some of {list(kinds)}.")
        elif test != "none" and test not in fitting:
            allowed = ", ".join((*fitting, "none"))
            problems.append(f"{where}: tests: {name}: {test!r} does not fit a {kind}; write one of {allowed}.")
    if problems:
        raise UserError(*problems)


def _variable(name: str, values: pd.Series, declared: Any, time: bool) -> Variable:
    kind, unit = getattr(declared, "type", None), getattr(declared, "unit", None)
    kind = "numeric" if kind is None and time else kind
    numeric = _numeric(values) if kind is None else kind == "numeric" and pd.api.types.is_numeric_dtype(values)
    return Variable(name, f"{name}, {unit}" if unit else name, "number" if numeric else "category")


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
    variable: Variable, frame: pd.DataFrame, settings: CohortAnalysis, groups: list[Any], rng: np.random.Generator
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Lines of table 1 and the numbers behind them."""
    facts: dict[str, Any] = {"column": variable.name, "label": variable.label, "scans": variable.scans}
    of_group = {g: frame[settings.by].eq(g) for g in groups}
    wanted = settings.tests.get(variable.name)
    more: dict[str, Any] = {}
    if variable.kind == "number":
        values = frame[variable.column].astype("Float64").astype(float)
        samples = [values[of_group[g]].dropna().to_numpy() for g in groups]
        found = group_tests.numbers(samples, test=wanted, normality=settings.normality, spread=settings.spread)
        test, smd = found.location, _largest(samples, smd_numbers)
        more = {
            "shapiro_p": finite(found.shapiro),
            "spread_test": found.spread.name,
            "spread_p": finite(found.spread.p),
        }
        cells = [values.dropna().to_numpy(), *samples]
        lines = {"mean ± SD": [_mean(c) for c in cells], "median [quartiles]": [_median(c) for c in cells]}
        facts["groups"] = {
            str(g): {"n": len(c), "mean": _stat(np.mean, c), "sd": finite(c.std(ddof=1)) if len(c) > 1 else None,
                     **dict(zip(("q1", "median", "q3"), _quartiles(c), strict=True))}
            for g, c in zip(groups, samples, strict=True)
        }  # fmt: skip
    elif variable.kind == "survival":
        values = frame[variable.column + TIME]
        test, smd, lines, facts["groups"] = _follow_up(variable, frame, of_group, wanted)
    else:
        values = _texts(frame[variable.column])
        levels = sorted(values.dropna().unique())
        counts = np.array([[int((values[of_group[g]] == level).sum()) for g in groups] for level in levels])
        counts = counts.reshape(len(levels), len(groups))
        test = group_tests.counts(counts, rng, test=wanted)
        smd = _largest(list(counts.T), smd_counts)
        lines = {
            level: [_count(row.sum(), counts.sum()), *(_count(c, t) for c, t in zip(row, counts.sum(0), strict=True))]
            for level, row in zip(levels, counts, strict=True)
        } or {"": [""] * (1 + len(groups))}
        facts["groups"] = {str(g): dict(zip(levels, map(int, counts[:, k]), strict=True)) for k, g in enumerate(groups)}
    missing = int(values.isna().sum())
    facts |= {"test": test.name, "statistic": finite(test.statistic), "df": finite(test.df), "p": finite(test.p)}
    facts |= {"smd": finite(smd), "missing": missing, **more}
    facts["missing_by_group"] = {str(g): int(values[of_group[g]].isna().sum()) for g in groups}
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
                "test": test.name if first else "",
                "p": p_text(test.p) if first else "",
            }
        )
    return block, facts


def _follow_up(
    variable: Variable, frame: pd.DataFrame, of_group: dict[Any, pd.Series], wanted: str | None
) -> tuple[Test, float, dict[str, list[str]], dict[str, Any]]:
    """Events, median survival and median follow-up by group, and the log-rank test."""
    known = frame[variable.column + TIME].notna()
    time = frame[variable.column + TIME].to_numpy(dtype=float)
    event = frame[variable.column + EVENT].eq(1).to_numpy()
    parts = [known.to_numpy(), *((known & rows).to_numpy() for rows in of_group.values())]
    median, watched = f"median, {variable.unit} (95 % interval)", f"median follow-up, {variable.unit}"
    lines: dict[str, list[str]] = {"events": [], median: [], watched: []}
    facts = []
    for part in parts:
        lines["events"].append(_count(int(event[part].sum()), int(part.sum())))
        curve = kaplan_meier(time[part], event[part]) if part.any() else None
        # follow-up by the reverse of Kaplan-Meier: censoring is the event (Schemper and Smith 1996)
        follow = kaplan_meier(time[part], ~event[part]).median if part.any() else math.nan
        values = (curve.median, *curve.median_interval) if curve else (math.nan,) * 3
        shown = [f"{v:.4g}" if math.isfinite(v) else "not reached" for v in values]
        lines[median].append(f"{shown[0]} ({shown[1]} to {shown[2]})" if curve else "-")
        lines[watched].append(f"{follow:.4g}" if math.isfinite(follow) else "-")
        facts.append(
            {"n": int(part.sum()), "events": int(event[part].sum()), "median_follow_up": finite(follow)}
            | dict(zip(("median", "lower", "upper"), map(finite, values), strict=True))
        )
    groups = np.full(len(frame), -1)
    for number, part in enumerate(parts[1:]):
        groups[part] = number
    rows = groups >= 0
    chi, p = log_rank(time[rows], event[rows], groups[rows]) if wanted != "none" else (math.nan, math.nan)
    name = "log-rank" if math.isfinite(p) else ""
    test = Test(name, chi, len(np.unique(groups[rows])) - 1 if name else math.nan, p)
    return test, math.nan, lines, dict(zip(map(str, of_group), facts[1:], strict=True))


def _quartiles(values: np.ndarray) -> list[float | None]:
    return [finite(q) for q in np.quantile(values, [0.25, 0.5, 0.75])] if len(values) else [None] * 3


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
    own = [getattr(o, "column", None) or OUTCOME + n for n, o in outcomes.items() if o.type != "time-to-event"]
    category = next((c for c in own if c in people.columns and c.removeprefix(OUTCOME) != by), None)
    number = next((v for v in wanted if v.kind == "number" and not v.scans), None)
    slices = next((v for v in wanted if v.scans and v.column == "spacing_z_mm"), None)
    panels = 1 + (number is not None) + (slices is not None)
    figure, axes = figures.new(width_mm=60 * panels, height_mm=60, columns=panels, squeeze=False)
    axis = axes.flat[0]
    column = category or "role"
    labels = _texts(people[column]).fillna("missing")
    base = np.zeros(len(groups))
    for k, level in enumerate(sorted(labels.unique())):
        heights = np.array([int((labels[people[by].eq(g)] == level).sum()) for g in groups])
        axis.bar(range(len(groups)), heights, bottom=base, width=0.65, color=figures.COLOURS[k % 8], label=level)
        base += heights
        rows += [{"panel": column.removeprefix(OUTCOME), "group": str(g), "item": level, "value": int(h)}
                 for g, h in zip(groups, heights, strict=True)]  # fmt: skip
    axis.set(ylabel="patients", title=column.removeprefix(OUTCOME), ylim=(0, base.max(initial=1) * 1.3))
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
