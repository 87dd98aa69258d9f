"""Surveys of readers: percent correct or preferred, chi-squared within and between surveys, agreement of readers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import bootstrap, contingency, figures, kappa, ledger, tables
from ..artefacts import TableArtefacts
from ..config.agreement import SurveyAnalysis
from ..contingency import Test
from ..errors import UserError
from ..estimates import Estimate, estimate, finite, percentiles, shown, wilson
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables.readers import ANSWERS
from ..univariate import corrected
from .artefacts import sentence

NEEDED = ("reader", "item", "answer")
FEW = 5


def analyse(
    name: str,
    settings: SurveyAnalysis,
    *,
    seed: int,
    answers: Mapping[str, Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Evaluate surveys; write the analysis folder; return the metrics.

    Parameters
    ----------
    answers
        tables of answers (schema ANSWERS) by reader study, or one CSV of the user by any name.

    Raises
    ------
    UserError
        if a column is absent, or a reader answered an item of a survey twice.
    """
    where = f"analyses: {name}"
    frame = _read(settings, answers, where)
    truth = "truth" in frame.columns and settings.preferred is None
    if settings.preferred is None and not truth:
        raise UserError(f"{where}: without a column truth there is no right answer; add it, or write preferred.")
    if settings.preferred is not None and settings.preferred not in set(frame["answer"]):
        raise UserError(
            f"{where}: preferred: nobody answered {settings.preferred!r}; write one of {sorted(set(frame['answer']))}."
        )
    frame["good"] = (frame["answer"] == (frame["truth"] if truth else settings.preferred)).astype(float)
    surveys = list(dict.fromkeys(frame["survey"]))
    warnings = _warnings(frame, surveys)
    log.progress("surveys", 0, len(surveys))
    estimates: dict[str, Any] = {}
    draws: dict[str, np.ndarray] = {}
    tests: list[dict[str, Any]] = []
    for survey in surveys:
        own = frame[frame["survey"].eq(survey)]
        rng = generator(seed, "analyse", name, survey)
        estimates[survey], draws[survey] = _survey(own, settings, truth, seed, rng)
        tests += _within(survey, own, settings, truth, rng)
    differences: dict[str, Estimate] = {}
    for one, two in itertools.combinations(surveys, 2):
        pair = frame[frame["survey"].isin([one, two])]
        rng = generator(seed, "analyse", name, one, two)
        tests += _between(one, two, pair, truth, rng)
        lower, upper, used = percentiles(draws[one] - draws[two], settings.level)
        value = frame.loc[frame["survey"].eq(one), "good"].mean() - frame.loc[frame["survey"].eq(two), "good"].mean()
        differences[f"{one} less {two}"] = estimate(
            value, lower, upper, n=len(pair), level=settings.level, seed=seed,
            method=f"difference of shares; percentile bootstrap of readers and items, {used} samples",
        )  # fmt: skip
    log.progress("surveys", len(surveys), len(surveys))
    table = pd.DataFrame(tests)
    table["p_corrected"] = np.nan
    for _, place in table.groupby("family", sort=True).groups.items():
        table.loc[place, "p_corrected"] = corrected(table.loc[place, "p"].to_numpy(dtype=float), settings.correction)
    title = settings.title or name
    what = f"{settings.preferred!r}" if settings.preferred else "right"
    metrics = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": title,
        "question": settings.question,
        "seed": seed,
        "chance": settings.chance,
        "correction": settings.correction,
        "estimates": estimates | ({"differences": differences} if differences else {}),
        "tests": [{k: finite(v) if isinstance(v, float) else v for k, v in t.items()} for t in _records(table)],
        "summary": [f"{s}: share {what} {shown(estimates[s]['overall'])}." for s in surveys],
        "warnings": warnings,
    }
    n = f"{len(frame)} answers of {frame[['survey', 'reader']].drop_duplicates().shape[0]} readers"
    artefacts = TableArtefacts(folder, root)
    numbers = pd.DataFrame(
        [
            {"survey": survey, "share of": part} | {k: found.get(k) for k in ("value", "lower", "upper", "n", "p")}
            for survey, parts in estimates.items()
            for part, found in _flat(parts)
        ]
    )
    artefacts.table(
        numbers, "shares", f"{title}: shares",
        sentence(f"Share of answers that are {what} ({n}); intervals by bootstrap of readers and items; of single "
                 "readers by Wilson; p: exact binomial test against chance, or no agreement (kappa)"),
    )  # fmt: skip
    artefacts.table(
        table, "tests", f"{title}: tests",
        sentence(
            f"Tests within and between surveys ({n}). Binomial: right or wrong; multinomial: which answer. They count "
            "answers as independent, as published studies do, though answers of one reader or to one item are not: the "
            "intervals of shares and differences, by bootstrap of readers and items, do not",
            f"p corrected by {settings.correction} within each family",
        ),
    )  # fmt: skip
    figure = _figure(numbers, surveys, settings)
    artefacts.figure(
        figure, "summary", f"{title}: survey",
        sentence(settings.question, f"Share of answers that are {what} ({n}); {100 * settings.level:g} % intervals",
                 "Dashed: chance", settings.caption),
        numbers,
    )  # fmt: skip
    artefacts.write()
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json", name=name, stage="analyse", split="", seen={}, settings=settings_json, code=code
    )
    return metrics


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")  # type: ignore[return-value]


def _flat(parts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Estimate]]:
    result: list[tuple[str, Estimate]] = []
    for key, value in parts.items():
        result += [(prefix + key, value)] if "value" in value else _flat(value, f"{prefix}{key}: ")
    return result


def _read(settings: SurveyAnalysis, answers: Mapping[str, Path], where: str) -> pd.DataFrame:
    if settings.readers:
        parts = []
        for survey in settings.readers:
            own = tables.read(answers[survey], ANSWERS).rename(columns={"arm": "truth"})
            parts.append(own[["reader", "simulated", "item", "truth", "answer"]].assign(survey=survey))
        frame = pd.concat(parts, ignore_index=True)
        if frame.empty:
            raise UserError(f"{where}: no reader of {', '.join(settings.readers)} has answered yet.")
    else:
        (path,) = answers.values()
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        needed = (*NEEDED, *((settings.by,) if settings.by else ()))
        if absent := [c for c in needed if c not in frame.columns]:
            raise UserError(f"{where}: table: there is no column {absent[0]!r}; it has {list(frame.columns)}.")
        frame = frame.apply(lambda column: column.str.strip())
        if "survey" not in frame.columns:
            frame["survey"] = "survey"
        frame = frame[frame["answer"].ne("")].reset_index(drop=True)
        if frame.empty:
            raise UserError(f"{where}: table: no row has an answer.")
    if twice := int(frame.duplicated(["survey", "reader", "item"]).sum()):
        raise UserError(
            f"{where}: {twice} answers repeat a reader and an item of one survey; keep one of each, or name repeats as "
            "surveys of their own."
        )
    keys = ["survey", "reader", "item"]
    return frame.sort_values(keys, kind="stable", key=lambda c: c.astype(str)).reset_index(drop=True)


def _warnings(frame: pd.DataFrame, surveys: list[str]) -> list[str]:
    result = []
    for survey in surveys:
        readers = frame.loc[frame["survey"].eq(survey), "reader"].nunique()
        if readers < FEW:
            result.append(f"{survey}: {readers} readers; intervals over so few readers are too narrow.")
    if "simulated" in frame and frame["simulated"].astype(bool).any():
        result.append("Some readers are simulated: they show that the path works.")
    return result


def _wide(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.pivot(index="reader", columns="item", values=column)


def _strata(frame: pd.DataFrame, items: list[Any], truth: bool) -> np.ndarray:
    if not truth:
        return np.zeros(len(items), dtype=int)
    kinds = frame.drop_duplicates("item").set_index("item")["truth"]
    return kinds.loc[items].to_numpy(dtype=str)


def _survey(
    frame: pd.DataFrame, settings: SurveyAnalysis, truth: bool, seed: int, rng: np.random.Generator
) -> tuple[dict[str, Any], np.ndarray]:
    """Shares overall, by what the items are, by group and by reader, kappa; and draws of the overall share."""

    def draw(rows: pd.DataFrame) -> np.ndarray:
        wide = _wide(rows, "good")
        if min(wide.shape) < 2 or not settings.bootstraps:
            return np.full(max(settings.bootstraps, 1), math.nan)
        strata = _strata(rows, list(wide.columns), truth)
        return bootstrap.crossed(wide.to_numpy(dtype=float), strata, rng, resamples=settings.bootstraps)

    def share(rows: pd.DataFrame, drawn: np.ndarray) -> Estimate:
        lower, upper, used = percentiles(drawn, settings.level)
        good, n = int(rows["good"].sum()), len(rows)
        method = f"percentile bootstrap of readers and items, {used} samples; p: exact binomial test against chance"
        p = contingency.against_share(good, n, settings.chance)
        return estimate(good / n, lower, upper, method=method, n=n, level=settings.level, seed=seed, p=finite(p))

    draws = draw(frame)
    found: dict[str, Any] = {"overall": share(frame, draws)}
    if truth:
        found |= {f"on {kind}": share(rows, draw(rows)) for kind, rows in frame.groupby("truth", sort=True)}
    if settings.by:
        found["by " + settings.by] = {
            str(g): share(rows, draw(rows)) for g, rows in frame.groupby(settings.by, sort=True)
        }
    said = _wide(frame, "answer").T.dropna()
    if said.shape[1] > 1 and len(said) > 2:
        counts = kappa.counts(said.to_numpy(dtype=str))
        value, z, p = kappa.fleiss(counts)
        _, lower, upper, used = bootstrap.by_cluster(
            lambda w: kappa.fleiss_values(counts, w), np.arange(len(counts)), rng, resamples=settings.bootstraps,
            level=settings.level,
        )  # fmt: skip
        found["fleiss_kappa"] = estimate(
            value, lower, upper, method=f"BCa bootstrap of items, {used} samples; z and p under no agreement",
            n=len(counts), level=settings.level, seed=seed, z=finite(z), p=finite(p),
        )  # fmt: skip
    found["readers"] = {
        str(reader): wilson(int(rows["good"].sum()), len(rows), level=settings.level)
        for reader, rows in frame.groupby("reader", sort=True)
    }
    return found, draws


def _test(family: str, what: str, test: str, found: Test, n: int) -> dict[str, Any]:
    return {
        "family": family, "name": f"{what}, {test}", "test": found.name, "statistic": found.statistic, "df": found.df,
        "p": found.p, "n": n,
    }  # fmt: skip


def _cross(frame: pd.DataFrame, row: str, column: str) -> np.ndarray:
    return pd.crosstab(frame[row], frame[column]).to_numpy()


def _exact_if_small(table: np.ndarray, rng: np.random.Generator) -> Test:
    """Chi-squared, or Fisher's exact test where an expected count is below 5."""
    table = contingency.filled(table)
    if min(table.shape, default=0) >= 2:
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        if expected.min() < 5:
            return contingency.fisher(table, rng)
    return contingency.chi_squared(table)


def _within(
    survey: str, frame: pd.DataFrame, settings: SurveyAnalysis, truth: bool, rng: np.random.Generator
) -> list[dict[str, Any]]:
    n, good = len(frame), int(frame["good"].sum())
    chance = Test("exact binomial", math.nan, math.nan, contingency.against_share(good, n, settings.chance))
    rows = [_test("against chance", survey, "overall", chance, n)]
    wanted = []
    if truth:
        kinds = " against ".join(sorted(set(frame["truth"])))
        wanted = [
            ("within a survey, binomial", kinds, "truth", "good"),
            ("within a survey, multinomial", kinds, "truth", "answer"),
        ]
    if settings.by:
        wanted.append(("between groups", settings.by, settings.by, "good"))
    for family, what, row, column in wanted:
        rows.append(_test(family, survey, what, _exact_if_small(_cross(frame, row, column), rng), n))
    return rows


def _between(one: str, two: str, frame: pd.DataFrame, truth: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    parts = {"overall": frame}
    if truth:
        parts |= {f"on {kind}": rows for kind, rows in frame.groupby("truth", sort=True)}
    result = []
    for part, rows in parts.items():
        for words, column in (("binomial", "good"), ("multinomial", "answer")):
            found = _exact_if_small(_cross(rows, "survey", column), rng)
            result.append(_test(f"between surveys, {words}", f"{one} against {two}", part, found, len(rows)))
    return result


def _figure(numbers: pd.DataFrame, surveys: list[str], settings: SurveyAnalysis) -> Figure:
    rows = numbers[~numbers["share of"].str.startswith(("readers: ", "fleiss"))]
    single = numbers[numbers["share of"].str.startswith("readers: ")]
    figure, axis = figures.new(width_mm=120, height_mm=25 + 6 * len(rows))
    for y, row in enumerate(rows.to_dict("records")):
        colour = figures.COLOURS[surveys.index(row["survey"]) % 7]
        if row["lower"] is not None and math.isfinite(row["lower"]):
            axis.hlines(y, row["lower"], row["upper"], color=colour)
        axis.plot(row["value"], y, "o", color=colour)
        if row["share of"] == "overall":
            own = single.loc[single["survey"].eq(row["survey"]), "value"].astype(float)
            axis.plot(own, np.full(len(own), y + 0.3), "|", color=colour, alpha=0.7)
    axis.axvline(settings.chance, color="#888888", linestyle="--", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [f"{a}, {b}" for a, b in zip(rows["survey"], rows["share of"], strict=True)])
    axis.set(xlim=(0, 1), xlabel="share of answers (ticks: single readers)")
    axis.invert_yaxis()
    return figure
