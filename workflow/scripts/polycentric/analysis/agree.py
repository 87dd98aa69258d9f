"""Agreement of readers and measurements: kappa, ICC, CCC, Bland-Altman, McNemar."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from .. import bootstrap, contingency, figures, kappa, ledger
from ..artefacts import TableArtefacts
from ..bland_altman import BlandAltman, bland_altman
from ..concordance import Concordance, Interval, averaged, concordance
from ..config.agreement import AgreementAnalysis
from ..errors import UserError
from ..estimates import Estimate, estimate, finite, shown, wilson
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator
from ..univariate import corrected
from . import ratings
from .artefacts import sentence
from .ratings import Ratings

FEW = 10
PAIRS = 6  # panels of the figure
Row = dict[str, Any]
FORMS = {  # Shrout and Fleiss's names, as R package psych has them
    "icc_1": "ICC(1,1), one-way", "icc_2": "ICC(2,1) = ICC(A,1), absolute agreement",
    "icc_3": "ICC(3,1) = ICC(C,1), consistency", "icc_1k": "ICC(1,k), one-way, mean of raters",
    "icc_2k": "ICC(2,k) = ICC(A,k), absolute agreement, mean of raters",
    "icc_3k": "ICC(3,k) = ICC(C,k), consistency, mean of raters", "ccc": "concordance correlation coefficient",
}  # fmt: skip


def analyse(
    name: str,
    settings: AgreementAnalysis,
    *,
    seed: int,
    patients: Path,
    features: Path | None,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Agreement of raters for every variable; write the analysis folder; return the metrics.

    Raises
    ------
    UserError
        if a column does not exist or cannot be of the scale, or fewer than three items have two raters or more.
    """
    where = f"analyses: {name}"
    found = (
        ratings.of_columns(settings, patients, where)
        if features is None
        else ratings.of_features(settings, features, where)
    )
    warnings: list[str] = []
    if settings.scale == "numeric":
        rows, compared = _numeric(found, settings, seed, name, where, log)
    else:
        rows, compared = _categories(found, settings, seed, name, where, warnings, log), {}
    table = pd.DataFrame(rows)
    if table.empty or not table["value"].notna().any():
        raise UserError(f"{where}: no items with known values of two raters; see the columns or the reader column.")
    table["p_corrected"] = np.nan
    for _, place in table.groupby("measure", sort=True).groups.items():
        table.loc[place, "p_corrected"] = corrected(table.loc[place, "p"].to_numpy(dtype=float), settings.correction)
    if settings.scale == "numeric" and len(set(found.patients)) < len(found.patients):
        warnings.append("Patients have several items: intervals of ICC and CCC treat these as independent.")
    smallest = int(table["n"].min())
    if smallest < FEW:
        warnings.append(f"Some estimates rest on {smallest} items: they say little.")
    kept = list(found.values)[: settings.show]
    if len(found.values) > settings.show:
        warnings.append(f"{len(found.values)} features: the first {settings.show} stand here, the tables hold all.")
    title = settings.title or name
    metrics: dict[str, Any] = {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": title,
        "question": settings.question,
        "scale": settings.scale,
        "seed": seed,
        "raters": found.raters,
        "items": len(found.patients),
        "patients": len(set(found.patients)),
        "correction": settings.correction,
        "estimates": _tree(table, kept, settings.level, seed),
        "summary": _summary(table, settings, len(found.values)),
        "warnings": warnings,
    }
    artefacts = TableArtefacts(folder, root)
    n = f"{len(found.patients)} items of {metrics['patients']} patients, {len(found.raters)} raters"
    artefacts.table(
        table,
        "agreement",
        f"{title}: estimates",
        sentence(
            f"A row per variable, raters and measure ({n}); n counts items with known values of these raters",
            f"p speaks of no agreement beyond chance, or no difference; corrected by {settings.correction} within each "
            "measure",
        ),
    )
    figure, plotted, caption = _figure(found, table, compared, settings)
    artefacts.figure(
        figure,
        "summary",
        f"{title}: agreement",
        sentence(settings.question, f"{caption} ({n})", settings.caption),
        plotted,
    )
    artefacts.write()
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split="",
        seen={},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def _row(variable: str, raters: str, measure: str, found: Estimate, *, z: float = math.nan, p: float = math.nan) -> Row:
    return {
        "variable": variable, "raters": raters, "measure": measure, "value": found["value"], "lower": found["lower"],
        "upper": found["upper"], "n": found["n"], "statistic": finite(z), "p": finite(p), "method": found["method"],
    }  # fmt: skip


def _tree(table: pd.DataFrame, variables: list[str], level: float, seed: int) -> dict[str, Any]:
    """Estimates by variable, raters and measure, as metrics.json holds them."""
    tree: dict[str, Any] = {}
    for row in table[table["variable"].isin(variables)].to_dict("records"):
        place = tree.setdefault(row["variable"], {}) if row["variable"] else tree
        numbers = {k: _finite(row[k]) for k in ("value", "lower", "upper", "statistic", "p", "p_corrected")}
        place.setdefault(row["raters"], {})[row["measure"]] = {
            **numbers, "level": level, "method": row["method"], "n": int(row["n"]), "seed": seed,
        }  # fmt: skip
    return tree


def _finite(value: Any) -> float | None:
    return None if value is None else finite(float(value))


def _summary(table: pd.DataFrame, settings: AgreementAnalysis, variables: int) -> list[str]:
    first = {"nominal": "fleiss_kappa", "ordinal": "kappa_quadratic", "numeric": "icc_2"}[settings.scale]
    rows = table[table["measure"].eq(first)]
    if variables > 1:
        values = rows["value"].astype(float).dropna()
        if values.empty:
            return []
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        spread = f"median {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
        return [f"{first.replace('_', ' ')}: {spread} over {len(values)} rows."]
    return [f"{first.replace('_', ' ')}, {r['raters']}: {shown(_clean(r))}." for r in rows.to_dict("records")[:PAIRS]]


def _clean(row: Row) -> Row:
    return {k: _finite(row[k]) for k in ("value", "lower", "upper")}


# ------------------------------------------------------------------------------------------------------- categories


def _categories(
    found: Ratings,
    settings: AgreementAnalysis,
    seed: int,
    name: str,
    where: str,
    warnings: list[str],
    log: Log,
) -> list[Row]:
    rows: list[Row] = []
    truth = found.truth
    for number, (variable, frame) in enumerate(found.values.items()):
        log.progress("variables", number, len(found.values))
        rng = generator(seed, "analyse", name, variable)
        whole = frame if truth is None else frame.assign(**{" truth": truth.reindex(frame.index).to_numpy()})
        coded, levels = ratings.codes(whole, settings, where)
        said = coded[:, : frame.shape[1]]
        complete = (said >= 0).all(axis=1)
        if not complete.all() and frame.shape[1] > 2:
            text = f"{int((~complete).sum())} of {len(complete)} items lack a rating and are left out of Fleiss' kappa"
            warnings.append(f"{variable}: {text}." if variable else f"{text}.")
        if complete.sum() >= 3:
            rows += _fleiss(variable, said[complete], levels, found.patients[complete], settings, rng)
        for i, j in itertools.combinations(range(frame.shape[1]), 2):
            both = (said[:, i] >= 0) & (said[:, j] >= 0)
            label = f"{frame.columns[i]} and {frame.columns[j]}"
            if both.sum() < 3:
                continue
            rows += _cohen(variable, label, said[both][:, [i, j]], levels, found.patients[both], settings, rng)
        if truth is not None:
            rows += _rightly(variable, list(frame.columns), said, coded[:, -1], settings)
    log.progress("variables", len(found.values), len(found.values))
    return rows


def _fleiss(
    variable: str,
    said: np.ndarray,
    levels: list[str],
    patients: np.ndarray,
    settings: AgreementAnalysis,
    rng: np.random.Generator,
) -> list[Row]:
    counts = kappa.counts(said, range(len(levels)))
    value, z, p = kappa.fleiss(counts)
    _, lower, upper, used = bootstrap.by_cluster(
        lambda w: kappa.fleiss_values(counts, w), patients, rng, resamples=settings.bootstraps, level=settings.level
    )
    method = f"Fleiss' kappa; BCa bootstrap of patients, {used} samples; z and p under no agreement (Fleiss 1979)"
    whole = estimate(value, lower, upper, method=method, n=len(said), level=settings.level)
    rows = [_row(variable, "all", "fleiss_kappa", whole, z=z, p=p)]
    if len(levels) > 2:
        for level, one, its_z, its_p in zip(levels, *kappa.fleiss_categories(counts), strict=True):
            own = estimate(one, method="Fleiss' kappa of a category against the others", n=len(said))
            rows.append(_row(variable, "all", f"fleiss_kappa of {level}", own, z=its_z, p=its_p))
    return rows


def _cohen(
    variable: str,
    label: str,
    said: np.ndarray,
    levels: list[str],
    patients: np.ndarray,
    settings: AgreementAnalysis,
    rng: np.random.Generator,
) -> list[Row]:
    """Kappa of two raters; with several items of a patient its interval is by bootstrap of patients."""
    table = np.zeros((len(levels), len(levels)))
    np.add.at(table, (said[:, 0], said[:, 1]), 1)
    agreed = wilson(int((said[:, 0] == said[:, 1]).sum()), len(said), level=settings.level)
    rows = [_row(variable, label, "agreement", agreed)]
    clustered = len(set(patients)) < len(patients)
    for weights in ("unweighted", "linear", "quadratic")[: 3 if settings.scale == "ordinal" else 1]:
        found = kappa.cohen(table, weights=weights, level=settings.level)
        lower, upper = found.lower, found.upper
        method = f"Cohen's kappa, {weights}; large-sample variance (Fleiss, Cohen and Everitt 1969)"
        if clustered:
            w = kappa.agreement_weights(len(levels), weights)
            statistic = _cohen_of(said, w)
            _, lower, upper, used = bootstrap.by_cluster(
                statistic, patients, rng, resamples=settings.bootstraps, level=settings.level
            )
            method = f"Cohen's kappa, {weights}; BCa bootstrap of patients, {used} samples"
        one = estimate(found.value, lower, upper, method=method, n=len(said), level=settings.level)
        measure = "kappa" if weights == "unweighted" else f"kappa_{weights}"
        rows.append(_row(variable, label, measure, one, z=found.z, p=found.p))
    if len(levels) == 2:
        rows += _mcnemar(variable, label, "said", said[:, 0] == 1, said[:, 1] == 1, levels[1], settings.level)
    return rows


def _cohen_of(said: np.ndarray, w: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda drawn: kappa.cohen_values(said[:, 0], said[:, 1], w, drawn)


def _mcnemar(
    variable: str, label: str, verb: str, first: np.ndarray, second: np.ndarray, what: str, level: float
) -> list[Row]:
    """Difference of two paired shares, with the mid-p and the exact test."""
    difference = contingency.paired_difference(first, second, level=level)
    test = contingency.mcnemar(first, second)
    measure = f"difference in {what} {verb}"
    counted = f"; {test.first} only the first, {test.second} only the second"
    return [
        _row(variable, label, measure, difference | {"method": f"{difference['method']}; McNemar mid-p{counted}"},
             z=test.chi_squared, p=test.p_mid),
        _row(variable, label, f"{measure}, exact", difference | {"method": f"{difference['method']}; McNemar exact"},
             z=test.chi_squared, p=test.p_exact),
    ]  # fmt: skip


def _rightly(
    variable: str, raters: list[str], said: np.ndarray, truth: np.ndarray, settings: AgreementAnalysis
) -> list[Row]:
    rows: list[Row] = []
    for i, rater in enumerate(raters):
        both = (said[:, i] >= 0) & (truth >= 0)
        right = int((said[both, i] == truth[both]).sum())
        rows.append(_row(variable, rater, "right", wilson(right, int(both.sum()), level=settings.level)))
    for i, j in itertools.combinations(range(len(raters)), 2):
        known = (said[:, i] >= 0) & (said[:, j] >= 0) & (truth >= 0)
        if known.sum() >= 3:
            label = f"{raters[i]} and {raters[j]}"
            first, second = said[known, i] == truth[known], said[known, j] == truth[known]
            rows += _mcnemar(variable, label, "called rightly", first, second, "items", settings.level)
    return rows


# ------------------------------------------------------------------------------------------------------ measurements


def _numeric(
    found: Ratings, settings: AgreementAnalysis, seed: int, name: str, where: str, log: Log
) -> tuple[list[Row], dict[tuple[str, str, str], BlandAltman]]:
    variables = list(found.values)
    x = np.stack([found.values[v].to_numpy(dtype=float) for v in variables], axis=2)
    agreed = concordance(x, level=settings.level)
    log.progress("measures", 1, 2)
    rows: list[Row] = []
    compared: dict[tuple[str, str, str], BlandAltman] = {}
    clustered = len(set(found.patients)) < len(found.patients)
    pairs = list(itertools.combinations(range(x.shape[1]), 2))
    ccc_of = {(i, j): concordance(x[:, [i, j]], level=settings.level).ccc for i, j in pairs}
    for number, variable in enumerate(variables):
        rows += _reliability(variable, agreed, number, settings.level)
        for i, j in pairs:
            values = x[:, [i, j], number]
            known = np.isfinite(values).all(axis=1)
            a, b = values[known].T
            if known.sum() < 3:
                continue
            if settings.ratio and (values[known] <= 0).any():
                what = variable or "a column"
                raise UserError(f"{where}: ratio: {what} has values of 0 or less; write ratio: false.")
            label = f"{found.raters[i]} and {found.raters[j]}"
            pair = bland_altman(a, b, level=settings.level, ratio=settings.ratio)
            compared[variable, found.raters[i], found.raters[j]] = pair
            rows += _limits(variable, label, pair)
            if clustered and number < settings.show:
                rng = generator(seed, "analyse", name, variable, label)
                rows = rows[:-6] + _by_patient(rows[-6:], pair, found.patients[known], settings, rng)
            elif clustered:
                rows = rows[:-6] + [row | {"lower": None, "upper": None, "p": None} for row in rows[-6:]]
            if x.shape[1] > 2:
                ccc = estimate(
                    *_at(ccc_of[i, j], number), method="CCC of two raters (Lin 1989)", n=len(a), level=settings.level
                )
                rows.append(_row(variable, label, "ccc", ccc))
    log.progress("measures", 2, 2)
    return rows, compared


def _at(found: Interval, k: int) -> tuple[float, float, float]:
    return float(found.value[k]), float(found.lower[k]), float(found.upper[k])


def _reliability(variable: str, found: Concordance, k: int, level: float) -> list[Row]:
    """ICC of one rater and of the mean of all, CCC, and the repeatability coefficient."""
    n, raters = int(found.subjects[k]), found.repeats
    rows = []
    for number, single in (("1", found.icc_1), ("2", found.icc_a), ("3", found.icc_c)):
        f, p = (found.f_one_way, found.p_one_way) if number == "1" else (found.f_two_way, found.p_two_way)
        for suffix, form in (("", single), ("k", averaged(single, raters))):
            measure = f"icc_{number}{suffix}"
            method = f"{FORMS[measure]}; F-based interval (McGraw and Wong 1996); statistic: F"
            own = estimate(*_at(form, k), method=method, n=n, level=level)
            rows.append(_row(variable, "all", measure, own, z=float(f[k]), p=float(p[k])))
    how = "Lin 1989, with its erratum" if raters == 2 else "Barnhart 2002, jackknife"
    own = estimate(*_at(found.ccc, k), method=f"{FORMS['ccc']} ({how})", n=n, level=level)
    rows.append(_row(variable, "all", "ccc", own))
    # chi-squared interval of a standard deviation
    freedom, ends = n * (raters - 1), (0.5 + level / 2, 0.5 - level / 2)
    low, high = (math.sqrt(freedom / stats.chi2.ppf(q, freedom)) if n else math.nan for q in ends)
    for measure, value, method in (
        ("within_sd", found.within_sd[k], "SD between raters of an item"),
        ("repeatability", found.repeatability[k], "1.96 sqrt(2) within-item SD: 95 % of two raters differ by less"),
    ):
        own = estimate(value, value * low, value * high, method=f"{method}; chi-squared interval", n=n, level=level)
        rows.append(_row(variable, "all", measure, own))
    return rows


def _limits(variable: str, label: str, pair: BlandAltman) -> list[Row]:
    """Six rows: bias, two limits, SD, proportional bias, widening."""
    n = pair.bias["n"]
    sd = estimate(pair.sd, method="SD of the differences", n=n)
    widening = estimate(pair.widening, method="rank correlation of the size of residuals with the mean", n=n)
    return [
        _row(variable, label, "bias", pair.bias, p=pair.p_bias),
        _row(variable, label, "lower_limit", pair.lower),
        _row(variable, label, "upper_limit", pair.upper),
        _row(variable, label, "sd_of_differences", sd),
        _row(variable, label, "proportional_bias", pair.slope, p=pair.p_slope),
        _row(variable, label, "widening", widening, p=pair.p_widening),
    ]


def _by_patient(
    rows: list[Row], pair: BlandAltman, patients: np.ndarray, settings: AgreementAnalysis, rng: np.random.Generator
) -> list[Row]:
    """The first three rows with intervals by bootstrap of patients: several items of one are not independent."""
    values = np.log(pair.difference) if settings.ratio else pair.difference
    back = np.exp if settings.ratio else np.asarray

    def statistic(factor: float) -> Callable[[np.ndarray], np.ndarray]:
        def of(weights: np.ndarray) -> np.ndarray:
            total = weights.sum(axis=1)
            mean = weights @ values / total
            variance = np.maximum(weights @ values**2 / total - mean**2, 0) * total / np.maximum(total - 1, 1)
            return back(mean + factor * np.sqrt(variance))

        return of

    result = []
    for row, factor in zip(rows, (0.0, -1.959964, 1.959964, None, None, None), strict=True):
        if factor is not None:
            _, lower, upper, used = bootstrap.by_cluster(
                statistic(factor), patients, rng, resamples=settings.bootstraps, level=settings.level
            )
            text = f"{row['method'].partition(',')[0]}, BCa bootstrap of patients, {used} samples"
            row = row | {"lower": finite(lower), "upper": finite(upper), "method": text, "p": None}
        elif row["measure"] != "sd_of_differences":  # least squares and ranks know of independent items only
            row = row | {"lower": None, "upper": None, "p": None}
        result.append(row)
    return result


# ----------------------------------------------------------------------------------------------------------- figure


def _figure(
    found: Ratings, table: pd.DataFrame, compared: dict[tuple[str, str, str], BlandAltman], settings: AgreementAnalysis
) -> tuple[Figure, pd.DataFrame, str]:
    if settings.scale == "numeric" and len(found.values) <= PAIRS:
        return _bland_altman(compared, settings)
    measures = ("icc_2",) if settings.scale == "numeric" else ("fleiss_kappa", "kappa", "kappa_quadratic", "right")
    rows = table[table["measure"].isin(measures) & table["value"].notna()]
    if len(found.values) > 1 and settings.scale == "numeric":
        rows = rows.sort_values("value", kind="stable")
    rows = rows.head(200) if settings.scale != "numeric" else rows
    figure, axis = figures.new(width_mm=130, height_mm=25 + min(4.5 * len(rows), 200))
    y = np.arange(len(rows))
    value, lower, upper = (rows[k].astype(float).to_numpy() for k in ("value", "lower", "upper"))
    for k, measure in enumerate(measures):
        own = rows["measure"].eq(measure).to_numpy()
        if own.any():
            known = own & np.isfinite(lower) & np.isfinite(upper)
            axis.hlines(y[known], lower[known], upper[known], color=figures.COLOURS[k], linewidth=1)
            axis.plot(value[own], y[own], "o", color=figures.COLOURS[k], label=measure.replace("_", " "), markersize=3)
    axis.axvline(0, color="#888888", linewidth=0.7)
    whom = rows["raters"].where(rows["raters"].ne("all") | rows["variable"].eq(""), "")
    labels = [f"{variable} {raters}".strip() for variable, raters in zip(rows["variable"], whom, strict=True)]
    if len(rows) <= 60:
        axis.set_yticks(y, labels)
    else:
        axis.set_yticks([])
        axis.set_ylabel(f"{len(rows)} features")
    axis.set(xlabel="agreement", xlim=(min(-0.1, float(np.nanmin(lower)) if np.isfinite(lower).any() else 0), 1.02))
    axis.invert_yaxis()
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12 if len(rows) > 8 else -0.3), ncols=len(measures))
    words = "ICC(2,1) of every feature" if settings.scale == "numeric" else "Kappa of all raters and of pairs"
    words += "; right: share called rightly" if found.truth is not None else ""
    return figure, rows, f"{words}, with {100 * settings.level:g} % intervals"


def _bland_altman(
    compared: dict[tuple[str, str, str], BlandAltman], settings: AgreementAnalysis
) -> tuple[Figure, pd.DataFrame, str]:
    chosen = list(compared.items())[:PAIRS]
    columns = min(3, len(chosen)) or 1
    lines = math.ceil(len(chosen) / columns) or 1
    figure, axes = figures.new(65 * columns, 60 * lines, columns, lines, squeeze=False)
    frames = []
    for axis, ((variable, one, two), pair) in zip(axes.flat, chosen, strict=False):
        axis.plot(pair.mean, pair.difference, ".", color=figures.COLOURS[0], alpha=0.6, markersize=4)
        for line, style in ((pair.bias, "-"), (pair.lower, "--"), (pair.upper, "--")):
            axis.axhline(line["value"], color=figures.COLOURS[1], linestyle=style, linewidth=1)
            axis.axhspan(line["lower"], line["upper"], color=figures.COLOURS[1], alpha=0.12, linewidth=0)
        what = f"{one} / {two}" if settings.ratio else f"{one} - {two}"
        axis.set(xlabel="geometric mean of both" if settings.ratio else "mean of both", ylabel=what, title=variable)
        if settings.ratio:
            axis.set(xscale="log", yscale="log")
        numbers = {"variable": variable, "pair": what, "mean": pair.mean, "difference": pair.difference}
        frames.append(pd.DataFrame(numbers))
    for axis in axes.flat[len(chosen) :]:
        axis.set_axis_off()
    plotted = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["mean", "difference"])
    words = "Ratios" if settings.ratio else "Differences"
    text = f"{words} of two raters over their mean: bias (line), 95 % limits of agreement (dashed), bands: their "
    return figure, plotted, f"{text}{100 * settings.level:g} % intervals for independent items"
