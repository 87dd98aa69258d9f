"""Write the table of agreement with R into docs/statistics.md, between its marks.

`python -m polycentric.tools.agreement_r` computes every quantity from the cohorts of tests/golden, compares it with R's
number and writes the table; `--check` fails if a difference is larger than stated or the page drifted.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .. import concordance, contingency, estimates, kappa, univariate
from ..analysis import (
    associate,
    calibrate,
    calibration,
    competing,
    cox,
    coxnet,
    cutpoints,
    decision,
    discrimination,
    group_tests,
    roc,
    samplesize,
    subgroups,
    survival,
)
from ..bland_altman import bland_altman
from ..bootstrap import counts
from ..estimates import bca_interval
from ..files import write_text

PAGE, GOLDEN = Path("docs/statistics.md"), Path("tests/golden")
BEGIN, END = "<!-- agreement begins -->", "<!-- agreement ends -->"
EXACT, DRAWN = 1e-8, 0.03
SAMPLES = 20000


class Row(NamedTuple):
    """A quantity by us and by R, and the largest difference that is allowed.

    `note` says why the two differ where they do by more than rounding; there differences are relative where R's number
    is above 1, elsewhere they are relative however small it is.
    """

    quantity: str
    function: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    allowed: float
    note: str = ""

    @property
    def difference(self) -> float:
        pairs, least = zip(self.ours, self.theirs, strict=True), 1.0 if self.note else 1e-300
        return max(abs(a - b) / max(least, abs(b)) for a, b in pairs)

    @property
    def agrees(self) -> bool:
        return self.difference <= self.allowed


def rows(golden: Path = GOLDEN) -> list[Row]:
    """All quantities, in the order of the page."""
    evaluate, agree, survive = (
        json.loads((golden / f"{name}.json").read_text()) for name in ("evaluate", "agreement", "survival")
    )
    return [
        *_roc(evaluate),
        *_calibration(evaluate),
        *_agreement(evaluate),
        *_readers(agree),
        *_general(evaluate),
        *_counts(agree),
        *_groups(agree),
        *_survival(survive),
        *_penalised(survive),
    ]


def _row(quantity: str, function: str, ours: Any, theirs: Any, allowed: float = EXACT, note: str = "") -> Row:
    a, b = (tuple(float(x) for x in np.ravel(np.asarray(v, dtype=float))) for v in (ours, theirs))
    return Row(quantity, function, a, b, allowed, note)


def _bounds(estimate: dict[str, Any]) -> list[float]:
    return [math.nan if estimate[k] is None else estimate[k] for k in ("lower", "value", "upper")]


def _cohort(record: dict[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.array(values) for key, values in record["cohort"].items()}


def _roc(r: dict[str, Any]) -> Iterator[Row]:
    d, wanted = _cohort(r), r["roc"]
    y, a, b = d["y"], d["a"], d["b"]
    yield _row("AUC", "pROC::auc", [roc.auc(y, a), roc.auc(y, b)], wanted["auc"])
    intervals = [_bounds(roc.delong(y, a)), _bounds(roc.delong(y, b))]
    yield _row("AUC, DeLong's interval", "pROC::ci.auc", intervals, [wanted["first"], wanted["second"]])
    test = roc.delong_paired(y, a, b)
    yield _row("two AUCs, DeLong paired: z, p", "pROC::roc.test", [test.z, test.p], [wanted["z"], wanted["p"]])
    yield _row("the same: interval of the difference", "pROC::roc.test", [test.lower, test.upper], wanted["interval"])
    drawn = roc.weights(y, SAMPLES, np.random.default_rng(1))
    test_ = roc.bootstrap_difference(y, a, b, drawn, level=0.95, seed=1)
    text = "Monte Carlo, 20,000 and 10,000 samples"
    yield _row(
        "two AUCs, paired stratified bootstrap: z, p",
        "pROC::roc.test(method=bootstrap)",
        [test_["z"], test_["p"]],
        wanted["bootstrap"],
        DRAWN,
        text,
    )
    lower, upper, _ = estimates.percentiles(roc.bootstrap_auc(y, a, drawn), 0.95)
    yield _row(
        "AUC, percentile bootstrap",
        "pROC::ci.auc(method=bootstrap)",
        [lower, upper],
        np.array(wanted["bootstrap_first"])[[0, 2]],
        0.005,
        text,
    )


def _calibration(r: dict[str, Any]) -> Iterator[Row]:
    d = _cohort(r)
    y = d["y"]
    z = estimates.normal_quantile(0.95)
    for name in ("a", "b"):
        p, wanted = np.clip(d[name], 0.001, 0.999), r["calibration"][name]
        found = roc.calibration(y, p)
        for key, theirs, what in (
            ("calibration_slope", wanted["slope"], "calibration slope, SE"),
            ("calibration_in_the_large", wanted["large"], "calibration in the large, SE"),
        ):
            lower, value, upper = _bounds(found[key])
            yield _row(f"{what} ({name})", "glm", [value, (upper - lower) / (2 * z)], theirs)
        curve = calibration.loess(p, y.astype(float), p)
        ours = calibration.indices(p, curve)
        yield _row(f"ICI, E50, E90 ({name})", "loess(surface=direct)", ours, wanted["loess"][:3])
        yield _row(
            f"calibration curve at 0.1 to 0.9 ({name})",
            "loess(surface=direct)",
            calibration.loess(p, y.astype(float), np.array(wanted["at"])),
            wanted["curve"],
        )
        yield _row(
            f"ICI, E50, E90 ({name})",
            "loess",
            ours,
            wanted["loess_interpolated"][:3],
            0.005,
            "R interpolates between few exact fits; we fit at every patient",
        )
        yield _row(
            f"ICI, E90 ({name})",
            "rms::val.prob",
            ours[[0, 2]],
            wanted["lowess"][:2],
            0.05,
            "another smoother: lowess, straight lines",
        )
        yield _row(f"Brier score ({name})", "rms::val.prob", np.mean((p - y) ** 2), wanted["brier"])
    wanted = r["decision"]
    found_ = decision.net_benefit(y, d["a"], np.array(wanted["at"]))
    yield _row(
        "net benefit of model and all",
        "by definition",
        [found_.model[0], found_.everyone[0]],
        [wanted["model"], wanted["all"]],
    )


def _agreement(r: dict[str, Any]) -> Iterator[Row]:
    wanted = r["icc"]
    values = np.array(wanted["values"])
    yield from _icc(values, wanted, "psych::ICC")
    ratings = np.array(r["kappa"]["ratings"])
    found = kappa.fleiss(kappa.counts(ratings))
    yield _row("Fleiss' kappa, z, p", "formula of irr::kappam.fleiss", found, r["kappa"]["fleiss"])
    table = _crossed(ratings[:, 0], ratings[:, 1], 4)
    wanted = r["kappa"]
    own = kappa.cohen(table)
    ours = [own.value, own.lower, own.upper]
    yield _row("Cohen's kappa, interval", "psych::cohen.kappa", ours, [wanted["cohen"][0], *wanted["cohen_interval"]])
    value = kappa.cohen(table, weights="quadratic").value
    yield _row("kappa with quadratic weights", "psych::cohen.kappa", value, wanted["weighted"][0])
    d = _cohort(r)
    right = [(d[name] > 0.5) == (d["y"] > 0) for name in ("a", "b")]
    test, wanted = contingency.mcnemar(*right), r["mcnemar"]
    ours = [test.chi_squared, test.p_corrected, test.p_exact]
    yield _row(
        "McNemar: chi squared, p; exact p", "mcnemar.test, binom.test", ours, [*wanted["corrected"], wanted["exact"]]
    )


def _icc(values: np.ndarray, wanted: dict[str, Any], function: str, of: str = "") -> Iterator[Row]:
    """All six forms of ICC of values (subjects, raters): estimate, interval, F and p."""
    found, k = concordance.concordance(values[:, :, None]), values.shape[1]
    one_way, two_way = [found.f_one_way, found.p_one_way], [found.f_two_way, found.p_two_way]
    singles = ((found.icc_1, one_way), (found.icc_a, two_way), (found.icc_c, two_way))
    forms = [*singles, *((concordance.averaged(single, k), test) for single, test in singles)]
    names = ("ICC(1,1)", "ICC(A,1)", "ICC(C,1)", "ICC(1,k)", "ICC(A,k)", "ICC(C,k)")
    for j, (name, (form, test)) in enumerate(zip(names, forms, strict=True)):
        ours = [float(v[0]) for v in (form.lower, form.value, form.upper, *test)]
        theirs = [wanted[key][j] for key in ("lower", "icc", "upper", "f", "p")]
        yield _row(f"{name}{of}: interval, F, p", function, ours, theirs)


def _crossed(first: np.ndarray, second: np.ndarray, levels: int) -> np.ndarray:
    """Counts of two raters whose categories are 1 to `levels`."""
    table = np.zeros((levels, levels))
    np.add.at(table, (first - 1, second - 1), 1)
    return table


def _readers(r: dict[str, Any]) -> Iterator[Row]:
    """Cohen's kappa of three pairs of raters, and what Shrout and Fleiss and Carkeet published."""
    z = estimates.normal_quantile(0.95)
    plain, theirs, weighted, theirs_weighted = [], [], [], []
    for pair, wanted in sorted(r["cohen"].items()):
        table = _crossed(*(np.array(r["ratings"][rater]) for rater in pair), 4)
        own = kappa.cohen(table)
        plain += [own.value, ((own.upper - own.lower) / 2 / z) ** 2]
        theirs += wanted["unweighted"]
        for weights in ("linear", "quadratic"):
            weighted.append(kappa.cohen(table, weights=weights).value)  # type: ignore[arg-type]
            theirs_weighted.append(wanted[weights][0])
    yield _row("Cohen's kappa of three pairs, variance", "psych::cohen.kappa", plain, theirs)
    yield _row("the same, linear and quadratic weights", "psych::cohen.kappa", weighted, theirs_weighted)
    scores = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    yield from _icc(np.array(scores, dtype=float), r["shrout_fleiss"], "psych::ICC", " (Shrout and Fleiss)")
    bounds, wanted = [], []
    for n, factors in r["carkeet"].items():
        x = np.random.default_rng(int(n)).normal(size=int(n))
        found = bland_altman(x, np.zeros(int(n)))
        bounds += [(found.upper[k] - x.mean()) / x.std(ddof=1) for k in ("lower", "upper")]
        wanted += factors
    yield _row("Bland-Altman: bounds of a limit, in SD", "qt(ncp=)", bounds, wanted)


def _counts(r: dict[str, Any]) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    names = ("t33", "t25", "t44", "tea")
    exact = [contingency.fisher(np.array(r["fisher"][name]["table"]), rng).p for name in names]
    yield _row("Fisher's exact test up to 4 x 4: p", "fisher.test", exact, [r["fisher"][name]["p"] for name in names])
    found = contingency.chi_squared(np.array(r["chisq"]["table"]))
    wanted = [r["chisq"]["statistic"], r["chisq"]["p"]]
    yield _row("chi-squared of a table: statistic, p", "chisq.test", [found.statistic, found.p], wanted)
    found = contingency.two_proportions(*r["prop"]["counts"])
    ours, wanted = [found.statistic**2, found.p], [r["prop"]["chisq"], r["prop"]["p"]]
    yield _row("two proportions: z squared, p", "prop.test", ours, wanted)
    (a, b), (c, d) = r["mcnemar"]["table"]
    first, second = (
        np.repeat([True, True, False, False], [a, b, c, d]),
        np.repeat([True, False, True, False], [a, b, c, d]),
    )
    test, wanted_ = contingency.mcnemar(first, second), r["mcnemar"]
    small = r["mcnemar_small"]
    few = contingency.mcnemar(np.arange(15) < small["b"], np.arange(15) >= small["b"])
    ours = [test.chi_squared, test.p_corrected, test.p_exact, few.p_exact, few.p_mid]
    theirs = [*(wanted_[k] for k in ("chisq", "p", "exact")), small["exact"], small["mid"]]
    yield _row("McNemar (Agresti), exact and mid-p of 3 and 12", "mcnemar.test, binom.test", ours, theirs)
    k, n, p = (r["binom"][key] for key in ("k", "n", "p"))
    yield _row("binomial test against chance: p", "binom.test", contingency.against_share(k, n, 0.5), p)


def _groups(r: dict[str, Any]) -> Iterator[Row]:
    """Tests of table 1, two and three groups, and correlations."""
    d = _cohort(r)

    def test(name: str, column: str, groups: str) -> float:
        samples = [d[column][d["group"] == g] for g in groups]
        found = group_tests.numbers(samples, test=name, normality="decides", spread="auto")
        return found.location.p

    def spread(kind: str, groups: str) -> float:
        samples = [d["spread"][d["group"] == g] for g in groups]
        return group_tests.numbers(
            samples, test="t" if len(groups) == 2 else "anova", normality="reported", spread=kind
        ).spread.p

    def table(column: str, groups: str) -> np.ndarray:
        return np.array([[np.sum((d[column] == v) & (d["group"] == g)) for g in groups] for v in np.unique(d[column])])

    def counted(column: str, groups: str, name: str) -> float:
        return group_tests.counts(table(column, groups), np.random.default_rng(0), test=name).p

    two, three = r["two"], r["three"]
    yield _row(
        "two groups: Welch, Student, Mann-Whitney, F, Levene: p",
        "t.test, wilcox.test, var.test",
        [test("t", "normal", "ab"), test("student-t", "normal", "ab"), test("mann-whitney", "skewed", "ab"),
         spread("f", "ab"), spread("levene", "ab")],
        [two[k] for k in ("welch", "student", "mannwhitney", "f", "levene")],
    )  # fmt: skip
    yield _row(
        "two groups: Fisher, z, chi-squared, Fisher 4 x 2: p",
        "fisher.test, prop.test, chisq.test",
        [counted("sex", "ab", "fisher"), counted("sex", "ab", "two-proportion-z"), counted("sex", "ab", "chi-squared"),
         counted("stage", "ab", "fisher")],
        [two[k] for k in ("fisher", "prop", "chisq", "stage")],
    )  # fmt: skip
    samples = [np.array([1.1, 2.3, 0.4, 5.6, 3.3]), np.array([2.2, 7.1, 6.4, 9.0, 8.8, 4.1])]
    exact = group_tests.numbers(samples, test="mann-whitney", normality="decides", spread="auto").location.p
    yield _row("Mann-Whitney, exact: p", "wilcox.test", exact, r["exact"])
    yield _row(
        "three groups: analysis of variance, Welch's, Kruskal-Wallis, Levene, chi-squared, Fisher: p",
        "aov, oneway.test, kruskal.test, ...",
        [test("anova", "normal", "abc"), test("welch-anova", "normal", "abc"), test("kruskal-wallis", "skewed", "abc"),
         spread("levene", "abc"), counted("sex", "abc", "chi-squared"), counted("stage", "abc", "fisher")],
        [three[k] for k in ("anova", "welch", "kruskal", "levene", "chisq", "fisher")],
    )  # fmt: skip
    wanted, male = r["correlation"], (d["sex"] == "m").astype(float)
    stage = np.searchsorted(["I", "II", "III", "IV"], d["stage"]) + 1.0
    for what, function, x, y, rank, theirs in (
        ("point-biserial correlation, p, interval", "cor.test", male, d["normal"], "spearman", "point_biserial"),
        ("phi, p", "cor.test", male, (stage == 1).astype(float), "spearman", "phi"),
        ("Spearman's correlation, p", "cor.test(exact=FALSE)", d["normal"], d["skewed"], "spearman", "spearman"),
        ("Kendall's tau-b, p", "cor.test(exact=FALSE)", d["skewed"], stage, "kendall", "kendall"),
    ):
        row = associate.between(pd.DataFrame({"x": x}), pd.DataFrame({"y": y}), rank=rank).iloc[0]
        ours = [row[k] for k in ("r", "p", "lower", "upper")][: len(wanted[theirs])]
        yield _row(what, function, ours, wanted[theirs])


def _general(r: dict[str, Any]) -> Iterator[Row]:
    d = _cohort(r)
    y, m, a = d["y"], d["m"], d["a"]
    n, rng = len(y), np.random.default_rng(2)
    drawn = counts(np.zeros(n), SAMPLES, rng)
    found = bca_interval(m.mean(), drawn @ m / n, (m.sum() - m) / (n - 1), 0.95)
    text = "Monte Carlo, 20,000 and 50,000 samples"
    yield _row("mean, BCa", "boot::boot.ci", [m.mean(), *found[:2]], r["bca"]["mean"], 0.01, text)
    correlations = _correlation(a, m, drawn)
    knife = _correlation(a, m, 1.0 - np.eye(n))
    value = float(np.corrcoef(a, m)[0, 1])
    found = bca_interval(value, correlations, knife, 0.95)
    yield _row("correlation, BCa", "boot::boot.ci", [value, *found[:2]], r["bca"]["correlation"], 0.01, text)
    drawn = counts(y, SAMPLES, rng)
    value, samples = m[y == 1].mean() - m[y == 0].mean(), _contrast(m, y, drawn)
    found = bca_interval(value, samples, _contrast(m, y, 1.0 - np.eye(n)), 0.95, y)
    yield _row(
        "difference of means, BCa, stratified",
        "boot::boot.ci",
        [value, *found[:2]],
        r["bca"]["stratified"],
        0.015,
        f"{text}; R does not weigh strata by their sizes",
    )
    w = r["cochran"]
    h = subgroups.heterogeneity(np.array(w["value"]), np.array(w["se"]))
    yield _row(
        "Cochran's Q, p, I squared, pooled",
        "by definition",
        [h.q, h.p, h.i_squared, h.pooled],
        [w["q"], w["p"], w["i2"], w["pooled"]],
    )
    x = np.c_[a, d["b"], m]
    table = univariate.spearman(x)
    yield _row("Spearman's correlations", "cor", table[np.triu_indices(3, 1)][[0, 1, 2]], r["spearman"]["value"])
    proportions = [[w["lower"], w["upper"]] for w in (estimates.wilson(int(v[0]), int(v[1])) for v in r["wilson"])]
    yield _row("Wilson's intervals", "prop.test", proportions, [v[2:] for v in r["wilson"]])
    p = r["adjusted"]["p"]
    corrected = [estimates.holm(p), univariate.benjamini_hochberg(np.array(p))]
    yield _row(
        "p after Holm, Benjamini and Hochberg", "p.adjust", corrected, [r["adjusted"]["holm"], r["adjusted"]["bh"]]
    )
    wanted = dict(zip(r["tests"]["name"], r["tests"]["p"], strict=True))
    third = np.tile([1, 2, 3], n // 3)
    singles = univariate.roc(m[:, None], y > 0)
    yield _row("Mann-Whitney, p", "wilcox.test(correct=FALSE)", singles.p[0], wanted["Mann-Whitney"])
    yield _row(
        "Kruskal-Wallis, p", "kruskal.test", univariate.kruskal(m[:, None], third)[1][0], wanted["Kruskal-Wallis"]
    )
    groups = [m[y == 0], m[y == 1]]
    crossed = np.array([[np.sum((third == g) & (y == c)) for c in (0, 1)] for g in (1, 2, 3)])
    square = np.array([[np.sum(((a > 0.5) == f) & (y == c)) for c in (0, 1)] for f in (False, True)])
    spread = group_tests.numbers(groups, test="t", normality="reported", spread="f").spread.p
    z_test = group_tests.counts(square, rng, test="two-proportion-z").p
    yield _row(
        "F, two proportions: p", "var.test, prop.test", [spread, z_test], [wanted[k] for k in ("F", "two proportions")]
    )
    yield _row(
        "Welch's t, Shapiro-Wilk, chi-squared, Fisher: p (scipy)",
        "t.test and others",
        [
            stats.ttest_ind(*groups, equal_var=False).pvalue,
            stats.shapiro(m).pvalue,
            stats.chi2_contingency(crossed, correction=False).pvalue,
            stats.fisher_exact(square).pvalue,
        ],
        [wanted[k] for k in ("t (Welch)", "Shapiro-Wilk", "chi-squared", "Fisher")],
    )
    s = r["samplesize"]
    binary = samplesize.riley_binary(24, patients=662, prevalence=0.174, r2=0.288)
    few = samplesize.riley_binary(10, patients=662, prevalence=0.4, r2=0.1)
    for ours, theirs, what in ((binary, s["binary"], ""), (few, s["binary_few"], ", few variables")):
        yield _row(f"patients needed, binary{what}", "pmsampsize", [*ours[:3], ours.needed], theirs)
    last = samplesize.riley(30, patients=5143, rate=0.065, mean_follow_up=2.07, at=2, r2=0.051)
    yield _row(
        "patients needed, survival",
        "pmsampsize",
        [last.shrinkage, last.optimism, last.needed],
        [s["survival"][k] for k in (0, 1, 3)],
    )
    ours = samplesize.riley_continuous(25, r2=0.2, mean=1.9, sd=0.6)
    yield _row("patients needed, continuous", "pmsampsize", [*ours, ours.needed], s["continuous"])
    yield _row(
        "R squared of an AUC of 0.89",
        "pmsampsize",
        samplesize.r2_of_auc(0.89, 0.174),
        s["r2_of_auc"],
        0.002,
        "pmsampsize draws a million patients, we integrate",
    )


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1)
    ma, mb = weights @ a / total, weights @ b / total
    va, vb = weights @ a**2 / total - ma**2, weights @ b**2 / total - mb**2
    return (weights @ (a * b) / total - ma * mb) / np.sqrt(va * vb)


def _contrast(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    one, zero = weights * (y == 1), weights * (y == 0)
    return one @ x / one.sum(axis=1) - zero @ x / zero.sum(axis=1)


def _at(times: np.ndarray, values: np.ndarray, wanted: list[float], start: float = 0.0) -> np.ndarray:
    return np.r_[start, values][np.searchsorted(times, wanted, side="right")]


def _survival(r: dict[str, Any]) -> Iterator[Row]:
    d = _cohort(r)
    time, event, x = d["time"], d["event"] > 0, np.c_[d["x1"], d["x2"], d["x3"]]
    for kind in ("log", "log-log"):
        km, wanted = survival.kaplan_meier(time, event, interval=kind), r[f"km_{kind}"]  # type: ignore[arg-type]
        lower, upper = km.between(np.array(wanted["at"], dtype=float))
        yield _row(
            f"Kaplan-Meier, interval on the scale {kind}",
            "survfit",
            [km.at(np.array(wanted["at"])), lower, upper],
            [wanted[k] for k in ("surv", "lower", "upper")],
        )
        yield _row(f"median survival, interval ({kind})", "survfit", [km.median, *km.median_interval], wanted["median"])
    yield _row(
        "log-rank, three groups: chi squared, p", "survdiff", survival.log_rank(time, event, d["group"]), r["logrank"]
    )
    fit, breslow = cox.fit(x, time, event), cox.fit(x, time, event, ties="breslow")
    yield _row(
        "Cox, Efron: coefficients, SE", "coxph", [fit.coefficients, fit.errors], [r["cox"]["coef"], r["cox"]["se"]]
    )
    yield _row("Cox: log-likelihoods", "coxph", [fit.loglik_null, fit.loglik], r["cox"]["loglik"])
    yield _row("Cox, Breslow: coefficients", "coxph", breslow.coefficients, r["baseline_breslow"]["coef"])
    shift = 0.5 * d["x1"] - 0.2 * d["x2"]
    moved = cox.fit(x, time, event, offset=shift)
    yield _row("Cox with an offset: coefficients", "coxph", moved.coefficients, r["offset"]["coef"])
    wanted = r["baseline_efron"]
    times, hazard = cox.baseline(x @ fit.coefficients, time, event)
    yield _row("baseline hazard, Efron", "basehaz", _at(times, hazard, wanted["time"]), wanted["hazard"])
    for transform in ("km", "rank", "identity", "log"):
        found = cox.proportional_hazards(x, time, event, fit.coefficients, transform)  # type: ignore[arg-type]
        yield _row(
            f"proportional hazards ({transform}): chi squared, p",
            "cox.zph",
            list(found),
            [r["zph"][transform][k] for k in ("chisq", "p")],
        )
    misfit = calibrate.misspecification(x, shift, time, event)
    yield _row(
        "misspecification with offset: chi squared, p",
        "coxph",
        [misfit.chi_squared, misfit.p],
        [r["offset"]["lr"][0], r["offset"]["lr"][2]],
    )
    score, one = np.round(d["x1"] - 0.5 * d["x2"], 1), discrimination.ones(len(time))
    c = [survival.concordance(time, event, score), survival.concordance_error(time, event, score)]
    yield _row("Harrell's C, SE", "concordance", c, [r["concordance"]["n"][k] for k in ("value", "se")])
    uno = discrimination.uno(time, event, score, one)[0]
    yield _row("Uno's C", "concordance(timewt=n/G2)", uno, r["concordance"]["n/G2"]["value"])
    early = discrimination.uno(time, event, score, one, 15.0)[0]
    yield _row("Uno's C of events before 15", "concordance(ymax=15)", early, r["concordance_ymax15"])
    wanted, index = r["score"], x @ fit.coefficients
    risks = 1 - cox.survival(index, times, hazard, np.array(wanted["times"], dtype=float))
    auc = [discrimination.auc(time, event, index, t, one)[0] for t in wanted["times"]]
    yield _row("AUC at three times", "riskRegression::Score", auc, wanted["auc"])
    brier = [discrimination.brier(time, event, risks[:, k], t, one)[0] for k, t in enumerate(wanted["times"])]
    yield _row("Brier score at three times", "riskRegression::Score", brier, wanted["brier"])
    null = [discrimination.null_brier(time, event, t, one)[0] for t in wanted["times"]]
    yield _row("the same without predictors", "riskRegression::Score", null, wanted["null"])
    yield _row("predicted risks of five patients", "riskRegression", 1 - risks[:5], r["predicted"])
    incidence, wanted = competing.aalen_johansen(time, d["cause"]), r["aalen_johansen"]
    ours = [_at(incidence.time, v, wanted["at"]) for v in (incidence.incidence, incidence.lower, incidence.upper)]
    yield _row(
        "competing risks, interval", "survfit", ours, [np.array(wanted[k])[:, 1] for k in ("est", "lower", "upper")]
    )
    yield _row("competing risks", "cmprsk::cuminc", incidence.at(np.array(wanted["at"])), r["cuminc"]["est"][0])
    gray = [competing.gray(time, d["cause"], d["group"], cause) for cause in (1, 2)]
    yield _row("Gray's test: chi squared, p", "cmprsk::cuminc", np.transpose(gray), [r["gray"]["stat"], r["gray"]["p"]])
    e = {k: np.array(v) for k, v in r["glmnet"]["cohort"].items()}
    cut, wanted = cutpoints.maximally_selected(e["X1"], e["time"], e["event"] > 0), r["maxstat_untied"]
    yield _row(
        "maximally selected cut: cut, statistic, p",
        "maxstat::maxstat.test",
        list(cut),
        [wanted[k] for k in ("cut", "statistic", "p")],
    )


def _penalised(r: dict[str, Any]) -> Iterator[Row]:
    e = {k: np.array(v) for k, v in r["glmnet"]["cohort"].items()}
    x, time, event = np.column_stack([e[f"X{j}"] for j in range(1, 9)]), e["time"], e["event"] > 0
    # glmnet divides by the patients and makes the penalty factors (one 0, seven 1) sum to eight
    penalties = np.array(r["glmnet"]["lambda"]) * len(x) / event.sum() * 8 / 7
    for mixing, what in ((1.0, "lasso"), (0.5, "elastic net")):
        beta = coxnet.path(x, time, event, penalties, mixing=mixing, free=1, tolerance=1e-10)
        note = "both iterate (glmnet: thresh 1e-16)"
        yield _row(f"Cox, {what}: path of coefficients", "glmnet", beta.T, r["glmnet"][f"alpha{mixing:g}"], 5e-8, note)


def table(compared: list[Row]) -> str:
    """The rows as a Markdown table; of several numbers the first stand there, the difference is the largest of all."""
    lines = ["| quantity | ours | R | function of R | largest difference | why |", "|---|---|---|---|---|---|"]
    for row in compared:
        size = "< 1e-8" if row.difference < 1e-8 else f"{row.difference:.1g}"
        why = row.note or ("rounding" if row.agrees else "**differs**")
        cells = (row.quantity, _shown(row.ours), _shown(row.theirs), f"`{row.function}`", size, why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(numbers: tuple[float, ...]) -> str:
    text = ", ".join(f"{v:.6g}" for v in numbers[:4])
    return f"{text}, ..." if len(numbers) > 4 else text


def page(text: str, compared: list[Row]) -> str:
    """The page with a new table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(compared)}\n\n{END}{rest.split(END)[1]}"


def main(arguments: list[str]) -> int:
    compared = rows()
    text = PAGE.read_text()
    wanted = page(text, compared)
    far = [row.quantity for row in compared if not row.agrees]
    if far:
        print(f"further from R than stated: {'; '.join(far)}", file=sys.stderr)
    if "--check" in arguments:
        if text != wanted:
            print(f"{PAGE} is out of date: run python -m polycentric.tools.agreement_r", file=sys.stderr)
        return int(bool(far) or text != wanted)
    write_text(PAGE, wanted)
    print(table(compared))
    return int(bool(far))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
