"""Every number that R gave for the synthetic cohort of the shared data, none left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import bootstrap, contingency, estimates, kappa, univariate
from polycentric.analysis import cox, discrimination, group_tests, roc, survival
from polycentric.concordance import averaged, concordance
from scipy import special

pytestmark = pytest.mark.realdata

X = ["age", "x1", "x2", "x3"]
CORRECTIONS = {"p_bonf": "bonferroni", "p_bh": "benjamini-hochberg", "p_holm": "holm"}


class Near(NamedTuple):
    """Ours for some of R's numbers: those at `places`, all by default; `why` where it is not agreement to rounding."""

    ours: Any
    within: float = 1e-8
    places: tuple[int, ...] | None = None
    why: str = ""


def _auc_interval(d: pd.DataFrame, column: str) -> list[float]:
    found = roc.delong(d["y"].to_numpy() > 0, d[column].to_numpy())
    return [found["lower"], found["value"], found["upper"]]


def _pairs(d: pd.DataFrame) -> dict[str, Near]:
    y, a, b = d["y"].to_numpy() > 0, d["pA"].to_numpy(), d["pB"].to_numpy()
    test = roc.delong_paired(y, a, b)
    drawn = roc.weights(y, 20_000, np.random.default_rng(1))
    sampled = roc.bootstrap_difference(y, a, b, drawn, level=0.95, seed=1)
    one, two = _auc_interval(d, "pA"), _auc_interval(d, "pB")
    errors = [(i[2] - i[0]) / 2 / estimates.normal_quantile(0.95) for i in (one, two)]
    threshold = roc.youden(y, a)
    spots = [threshold, (a[~y] < threshold).mean(), (a[y] >= threshold).mean()]
    return {
        "auc_A": Near(roc.auc(y, a)),
        "auc_B": Near(roc.auc(y, b)),
        "ci_delong_A": Near(one),
        "ci_delong_B": Near(two),
        "delong_paired_z_p": Near([test.z, test.p]),
        "delong_unpaired_D_p": Near((one[1] - two[1]) / math.hypot(*errors), 1e-8, (0,), "no analysis has unpaired p"),
        "boot_paired_D_p": Near([sampled["z"], sampled["p"]], 0.03, None, "two bootstraps, 10,000 and 20,000 samples"),
        "youden_A": Near(spots, 1e-8, (0, 1, 2), "pROC prints both of two equally good thresholds"),
    }


def _cox(d: pd.DataFrame) -> dict[str, Near]:
    x, time, event = d[X].to_numpy(), d["time"].to_numpy(), d["event"].to_numpy() > 0
    fit, breslow = cox.fit(x, time, event), cox.fit(x, time, event, ties="breslow")
    index, score = x @ fit.coefficients, d["pA"].to_numpy()
    chi, p = cox.proportional_hazards(x, time, event, fit.coefficients)
    kept = cox.backward(x, time, event)
    one = discrimination.ones(len(d))
    times, hazard = cox.baseline(index, time, event)
    risks = 1 - cox.survival(index, times, hazard, np.array([12.0, 24.0]))
    at = (12.0, 24.0)
    return {
        "cox_efron_coef": Near(fit.coefficients),
        "cox_efron_se": Near(fit.errors),
        "cox_loglik": Near([fit.loglik_null, fit.loglik]),
        "cox_concordance": Near(
            [survival.concordance(time, event, index), survival.concordance_error(time, event, index)]
        ),
        "cox_breslow_coef": Near(breslow.coefficients),
        "coxzph_chisq": Near(chi),
        "coxzph_p": Near(p),
        "logrank_chisq_p": Near(survival.log_rank(time, event, d["risk"].to_numpy())),
        "logrank3_chisq_p": Near(survival.log_rank(time, event, d["site"].to_numpy())),
        "concordance_pA_time": Near(survival.concordance(time, event, score)),
        "concordance_se": Near(survival.concordance_error(time, event, score)),
        "uno_concordance": Near(discrimination.uno(time, event, score, one)[0]),
        "stepAIC_aic": Near(2 * len(kept) - 2 * cox.fit(x[:, kept], time, event).loglik),
        "riskRegression_AUC_12_24": Near([discrimination.auc(time, event, index, t, one)[0] for t in at]),
        "riskRegression_Brier_null_cox_12_24": Near(
            [discrimination.null_brier(time, event, t, one)[0] for t in at]
            + [discrimination.brier(time, event, risks[:, k], t, one)[0] for k, t in enumerate(at)]
        ),
        **_curves(d),
    }


def _curves(d: pd.DataFrame) -> dict[str, Near]:
    found: dict[str, list[float]] = {"km_12_24": [], "km_lower_log": [], "km_median": []}
    for group in ("high", "low"):
        rows = d[d["risk"].eq(group)]
        km = survival.kaplan_meier(rows["time"].to_numpy(), rows["event"].to_numpy() > 0, interval="log")
        found["km_12_24"] += km.at(np.array([12, 24])).tolist()
        found["km_lower_log"] += km.between(np.array([12, 24]))[0].tolist()
        found["km_median"].append(km.median)
    return {name: Near(values) for name, values in found.items()}


def _calibration(d: pd.DataFrame) -> dict[str, Near]:
    y, p = d["y"].to_numpy() > 0, d["pA"].to_numpy()
    found = roc.calibration(y, p)
    fit = roc.fit_logistic(np.c_[np.ones(len(y)), special.logit(p)], y)
    z = estimates.normal_quantile(0.95)
    slope = found["calibration_slope"]
    tight = "R's glm stops when the deviance is stable: its errors are those of the step before"
    area = roc.auc(y, p)
    brier = float(np.mean((p - y) ** 2))
    return {
        # R squared is not reported by any analysis; all else of val.prob is
        "valprob_pA_Dxy_C_R2_Brier_Intercept_Slope": Near(
            [2 * area - 1, area, brier, fit.coefficients[0], slope["value"]], 1e-8, (0, 1, 3, 4, 5)
        ),
        "calibration_in_the_large": Near(found["calibration_in_the_large"]["value"]),
        "calib_logistic_int_slope": Near([fit.coefficients[0], slope["value"]]),
        "calib_slope_se": Near((slope["upper"] - slope["value"]) / z, 1e-6, (1,), tight),
    }


def _agreement(d: pd.DataFrame) -> dict[str, Near]:
    measured = concordance(d[["m1", "m2", "m3"]].to_numpy(dtype=float)[:, :, None])
    found: dict[str, Near] = {}
    for form, single in {"1": measured.icc_1, "2": measured.icc_a, "3": measured.icc_c}.items():
        f, p = (measured.f_one_way, measured.p_one_way) if form == "1" else (measured.f_two_way, measured.p_two_way)
        for name, own in ((f"icc_ICC{form}", single), (f"icc_ICC{form}k", averaged(single, 3))):
            found[name] = Near([float(v[0]) for v in (own.value, f, p, own.lower, own.upper)])
    test = contingency.mcnemar(d["pA"].to_numpy() > 0.5, d["pB"].to_numpy() > 0.5)
    x = (d["m1"] - d["m2"]).to_numpy()
    _, lower, upper, used = bootstrap.by_cluster(
        lambda w: w @ x / w.sum(axis=1), np.arange(len(x)), np.random.default_rng(2), resamples=20_000
    )
    assert used == 20_000
    return found | {
        "fleiss_kappa_z_p": Near(kappa.fleiss(kappa.counts(d[["r1", "r2", "r3"]].to_numpy()))),
        "mcnemar_chisq_p": Near([test.chi_squared, test.p_corrected]),
        "bca_mean_diff_m1_m2": Near([x.mean(), lower, upper], 0.008, None, "two bootstraps; three errors of both"),
    }


def _groups(d: pd.DataFrame) -> dict[str, Near]:
    y = d["y"].to_numpy() > 0
    two = [d.loc[d["y"].eq(k), "x1"].to_numpy() for k in (0, 1)]
    exact = group_tests.numbers(two, test="mann-whitney", normality="decides", spread="auto").location
    sites = [g["x1"].to_numpy() for _, g in d.groupby("site")]
    kruskal = group_tests.numbers(sites, test="kruskal-wallis", normality="decides", spread="auto").location
    third = d["x3"].to_numpy()
    pairs = y.sum() * (~y).sum()
    p = np.array([0.01, 0.02, 0.03, 0.2])
    return {
        "wilcox_W_p": Near([exact.statistic, exact.p]),
        "wilcox_nocorr": Near([pairs * (1 - roc.auc(y, third)), univariate.roc(third[:, None], y).p[0]]),
        "kruskal": Near([kruskal.statistic, kruskal.p]),
        **{name: Near(univariate.corrected(p, method)) for name, method in CORRECTIONS.items()},
    }


PARTS: tuple[Callable[[pd.DataFrame], dict[str, Near]], ...] = (_pairs, _cox, _calibration, _agreement, _groups)


def test_every_number_of_r_is_ours() -> None:
    d, results = cohorts.golden()
    ours = {name: near for part in PARTS for name, near in part(d).items()}
    assert set(ours) == set(results)
    for name, near in ours.items():
        wanted = results[name] if near.places is None else results[name][list(near.places)]
        got = np.ravel(np.asarray(near.ours, dtype=float))
        assert len(got) == len(wanted), name
        # p values too small to print are 0 in R's file
        absolute = near.within if near.why else 1e-12
        assert got == pytest.approx(wanted, rel=near.within, abs=absolute), name
        assert bool(near.why) == (near.within > 1e-8 or name in ("delong_unpaired_D_p", "youden_A")), name


def test_variables_that_r_keeps_are_kept() -> None:
    d, _ = cohorts.golden()
    kept = cohorts.golden_words()
    x, time, event = d[X].to_numpy(), d["time"].to_numpy(), d["event"].to_numpy() > 0
    names = np.array(X)
    assert set(kept) == {"stepAIC_kept", "fastbw_p05_kept", "fastbw_p157_kept"}
    assert list(names[cox.backward(x, time, event)]) == kept["stepAIC_kept"]
    for alpha, name in ((0.05, "fastbw_p05_kept"), (0.157, "fastbw_p157_kept")):
        assert list(names[cox.backward(x, time, event, alpha=alpha)]) == kept[name]
