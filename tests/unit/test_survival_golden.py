"""Survival statistics against the numbers of R (tests/golden/survival.R) and published values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from polycentric import bootstrap, estimates
from polycentric.analysis import (
    boost,
    calibrate,
    competing,
    cox,
    coxnet,
    cutpoints,
    discrimination,
    forest,
    samplesize,
    survival,
)
from scipy import stats

R: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "survival.json").read_text())
D = {key: np.array(values) for key, values in R["cohort"].items()}
TIME, EVENT, X = D["time"], D["event"] > 0, np.c_[D["x1"], D["x2"], D["x3"]]
FIT = cox.fit(X, TIME, EVENT)
ONE = discrimination.ones(len(TIME))
exact = {"rel": 1e-8, "abs": 1e-12}


def at(times: np.ndarray, values: np.ndarray, wanted: list[float], start: float = 0.0) -> np.ndarray:
    return np.r_[start, values][np.searchsorted(times, wanted, side="right")]


def test_cox_equals_coxph_with_offset_baseline_and_proportional_hazards() -> None:
    assert FIT.coefficients == pytest.approx(R["cox"]["coef"], **exact)
    assert FIT.errors == pytest.approx(R["cox"]["se"], **exact)
    assert [FIT.loglik_null, FIT.loglik] == pytest.approx(R["cox"]["loglik"], **exact)
    for transform in ("km", "rank", "identity", "log"):
        chi, p = cox.proportional_hazards(X, TIME, EVENT, FIT.coefficients, transform)
        assert chi == pytest.approx(R["zph"][transform]["chisq"], **exact)
        assert p == pytest.approx(R["zph"][transform]["p"], **exact)
    for ties in ("efron", "breslow"):
        fit, wanted = cox.fit(X, TIME, EVENT, ties=ties), R[f"baseline_{ties}"]
        times, hazard = cox.baseline(X @ fit.coefficients, TIME, EVENT, ties)
        assert at(times, hazard, wanted["time"]) == pytest.approx(wanted["hazard"], **exact)
    offset = cox.fit(X, TIME, EVENT, offset=0.5 * D["x1"] - 0.2 * D["x2"])
    assert offset.coefficients == pytest.approx(R["offset"]["coef"], rel=1e-8, abs=1e-9)
    chi, degrees, p = R["offset"]["lr"]
    assert cox.likelihood_ratio(offset, int(degrees)) == pytest.approx((chi, p), rel=1e-8)
    misfit = calibrate.misspecification(X, 0.5 * D["x1"] - 0.2 * D["x2"], TIME, EVENT)
    assert (misfit.chi_squared, misfit.p) == pytest.approx((chi, p), rel=1e-8)


@pytest.mark.parametrize("kind", ["log", "log-log"])
def test_kaplan_meier_equals_survfit_with_both_intervals(kind: Any) -> None:
    km, wanted = survival.kaplan_meier(TIME, EVENT, interval=kind), R[f"km_{kind}"]
    lower, upper = km.between(np.array(wanted["at"], dtype=float))
    assert km.at(np.array(wanted["at"])) == pytest.approx(wanted["surv"], **exact)
    assert lower == pytest.approx(wanted["lower"], **exact)
    assert upper == pytest.approx(wanted["upper"], **exact)
    assert [km.median, *km.median_interval] == pytest.approx(wanted["median"], **exact)
    assert survival.log_rank(TIME, EVENT, D["group"]) == pytest.approx(tuple(R["logrank"]), **exact)


def test_concordance_equals_r_with_its_error_and_ipcw_weights() -> None:
    score = np.round(D["x1"] - 0.5 * D["x2"], 1)
    harrell, uno = R["concordance"]["n"], R["concordance"]["n/G2"]
    assert survival.concordance(TIME, EVENT, score) == pytest.approx(harrell["value"], **exact)
    assert survival.concordance_error(TIME, EVENT, score) == pytest.approx(harrell["se"], **exact)
    assert discrimination.uno(TIME, EVENT, score, ONE)[0] == pytest.approx(uno["value"], **exact)
    until = discrimination.uno(TIME, EVENT, score, ONE, 15.0)[0]
    assert until == pytest.approx(R["concordance_ymax15"], **exact)
    # leaving a patient out, one at a time
    knife = survival.jackknife_concordance(TIME, EVENT, score)
    for k in (0, 17, 199):
        rest = np.arange(len(TIME)) != k
        assert knife[k] == pytest.approx(survival.concordance(TIME[rest], EVENT[rest], score[rest]))


def test_auc_brier_and_predictions_equal_risk_regression() -> None:
    index = X @ FIT.coefficients
    times, hazard = cox.baseline(index, TIME, EVENT)
    wanted = R["score"]
    predicted = cox.survival(index, times, hazard, np.array(wanted["times"], dtype=float))
    assert predicted[:5] == pytest.approx(np.array(R["predicted"]), **exact)
    for k, t in enumerate(wanted["times"]):
        risk = 1 - predicted[:, k]
        assert discrimination.auc(TIME, EVENT, index, t, ONE)[0] == pytest.approx(wanted["auc"][k], **exact)
        assert discrimination.brier(TIME, EVENT, risk, t, ONE)[0] == pytest.approx(wanted["brier"][k], **exact)
        assert discrimination.null_brier(TIME, EVENT, t, ONE)[0] == pytest.approx(wanted["null"][k], **exact)
    # the bootstrap's spread is that of the influence function of riskRegression, within its Monte-Carlo error
    drawn = bootstrap.counts(np.zeros(len(TIME)), 1500, np.random.default_rng(0))
    for values, error in (
        (discrimination.auc(TIME, EVENT, index, 10, drawn), wanted["auc_se"][1]),
        (discrimination.brier(TIME, EVENT, 1 - predicted[:, 1], 10, drawn), wanted["brier_se"][1]),
    ):
        assert values.std() == pytest.approx(error, rel=0.1)
    # a sample computed from counts is the sample computed from its rows
    rows = np.repeat(np.arange(len(TIME)), drawn[0].astype(int))
    one = discrimination.ones(len(rows))
    for function in (discrimination.auc, discrimination.brier):
        values = index if function is discrimination.auc else 1 - predicted[:, 0]
        alone = function(TIME[rows], EVENT[rows], values[rows], 5, one)
        assert function(TIME, EVENT, values, 5, drawn[:1]) == pytest.approx(alone)
    alone = discrimination.uno(TIME[rows], EVENT[rows], index[rows], one)
    assert discrimination.uno(TIME, EVENT, index, drawn[:1]) == pytest.approx(alone)


def test_competing_risks_equal_survfit_and_cuminc() -> None:
    found, wanted = competing.aalen_johansen(TIME, D["cause"]), R["aalen_johansen"]
    for values, key in ((found.incidence, "est"), (found.error, "se"), (found.lower, "lower"), (found.upper, "upper")):
        assert at(found.time, values, wanted["at"]) == pytest.approx(np.array(wanted[key])[:, 1], **exact)
    assert found.at(np.array(wanted["at"])) == pytest.approx(R["cuminc"]["est"][0], **exact)
    for cause in (1, 2):
        chi, p = competing.gray(TIME, D["cause"], D["group"], cause)
        assert (chi, p) == pytest.approx((R["gray"]["stat"][cause - 1], R["gray"]["p"][cause - 1]), **exact)
    alone = competing.aalen_johansen(TIME, EVENT.astype(int))
    assert 1 - alone.incidence == pytest.approx(survival.kaplan_meier(TIME, EVENT).survival)
    assert found.incidence[-1] < alone.incidence[-1]


def test_maximally_selected_cut_equals_maxstat() -> None:
    e = pd.DataFrame(R["glmnet"]["cohort"])
    found, wanted = (
        cutpoints.maximally_selected(e["X1"].to_numpy(), e["time"].to_numpy(), e["event"].to_numpy() > 0),
        R["maxstat_untied"],
    )
    assert tuple(found) == pytest.approx((wanted["cut"], wanted["statistic"], wanted["p"]), **exact)
    for name, expected in R["maxstat"].items():  # maxstat breaks tied times in its scores: within one percent
        tied = cutpoints.maximally_selected(D[name], TIME, EVENT)
        assert tied.cut == expected["cut"]
        assert tied.statistic == pytest.approx(expected["statistic"], rel=0.01)


def test_the_corrected_p_keeps_its_level_where_the_uncorrected_does_not() -> None:
    rng, wrong, naive = np.random.default_rng(5), 0, 0
    for _ in range(300):
        x, time = rng.normal(size=80), rng.exponential(size=80)
        event = rng.random(80) < 0.7
        best = cutpoints.maximally_selected(x, time, event)
        wrong += best.p < 0.05
        naive += 2 * stats.norm.sf(best.statistic) < 0.05
    assert wrong / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300) + 0.02
    assert naive / 300 > 0.2


@pytest.mark.parametrize("mixing", [1.0, 0.5])
def test_the_lasso_path_equals_glmnet(mixing: float) -> None:
    e = pd.DataFrame(R["glmnet"]["cohort"])
    x, time, event = e.filter(like="X").to_numpy(), e["time"].to_numpy(), e["event"].to_numpy() > 0
    # glmnet divides by the patients and makes the penalty factors (one 0, seven 1) sum to eight
    penalties = np.array(R["glmnet"]["lambda"]) * len(x) / event.sum() * 8 / 7
    beta = coxnet.path(x, time, event, penalties, mixing=mixing, free=1, tolerance=1e-10)
    assert pytest.approx(np.array(R["glmnet"][f"alpha{mixing:g}"]), abs=5e-8) == beta.T
    top = coxnet.largest(x, time, event, mixing=mixing, free=1)
    just = coxnet.path(x, time, event, np.array([top * 1.001, top * 0.98]), mixing=mixing, free=1)
    assert (just[0, 1:] == 0).all()
    assert (just[1, 1:] != 0).sum() == 1


def test_backward_elimination_keeps_what_r_keeps() -> None:
    from lifelines.datasets import load_lung

    columns = ["age", "sex", "ph.ecog", "ph.karno", "pat.karno", "wt.loss"]
    frame = load_lung()[["time", "status", *columns]].dropna()
    x, time, event = frame[columns].to_numpy(float), frame["time"].to_numpy(float), frame["status"].to_numpy() > 0
    names = np.array(columns)
    assert list(names[cox.backward(x, time, event, alpha=0.1)]) == R["eliminated"]["kept_p10"]
    assert list(names[cox.backward(x, time, event)]) == R["eliminated"]["kept_aic"]
    assert 0 in cox.backward(x, time, event, alpha=0.1, free=1)  # age stays where it is not up for elimination


def test_lung_and_rossi_give_the_documented_numbers() -> None:
    from lifelines.datasets import load_lung, load_rossi

    lung = load_lung()[["time", "status", "age", "sex", "ph.ecog"]]
    time, event = lung["time"].to_numpy(float), lung["status"].to_numpy() > 0
    assert survival.log_rank(time, event, lung["sex"].to_numpy())[0] == pytest.approx(R["lung"]["logrank"], rel=1e-8)
    lung = lung.dropna()
    x, time, event = lung.iloc[:, 2:].to_numpy(float), lung["time"].to_numpy(float), lung["status"].to_numpy() > 0
    fit = cox.fit(x, time, event)
    assert fit.coefficients == pytest.approx(R["lung"]["coef"], rel=1e-8)
    assert fit.errors == pytest.approx(R["lung"]["se"], rel=1e-8)
    c = [survival.concordance(time, event, x @ fit.coefficients)]
    c.append(survival.concordance_error(time, event, x @ fit.coefficients))
    assert c == pytest.approx(R["lung"]["concordance"], rel=1e-8)
    assert cox.proportional_hazards(x, time, event, fit.coefficients)[0] == pytest.approx(R["lung"]["zph"], rel=1e-8)
    # lifelines documents load_rossi: log-likelihood -658.75, concordance 0.64, fin -0.38 (0.19), prio 0.09 (0.03)
    rossi = load_rossi()
    x = rossi.drop(columns=["week", "arrest"])
    time, event = rossi["week"].to_numpy(float), rossi["arrest"].to_numpy() > 0
    fit = cox.fit(x.to_numpy(float), time, event)
    assert fit.loglik == pytest.approx(-658.75, abs=5e-3)
    assert survival.concordance(time, event, x.to_numpy(float) @ fit.coefficients) == pytest.approx(0.64, abs=5e-3)
    for name, value, error in (("fin", -0.38, 0.19), ("age", -0.06, 0.02), ("prio", 0.09, 0.03)):
        k = list(x.columns).index(name)
        assert (fit.coefficients[k], fit.errors[k]) == pytest.approx((value, error), abs=5e-3)


def test_democracies_give_the_documented_numbers() -> None:
    """Of "Survival analysis with lifelines": a median of 4 years, log-rank 260.47 with -log2(p) 192.23."""
    from lifelines.datasets import load_dd, load_rossi

    states = load_dd()
    time, event = states["duration"].to_numpy(float), states["observed"].to_numpy() > 0
    assert survival.kaplan_meier(time, event).median == 4
    chi, p = survival.log_rank(time, event, states["democracy"].to_numpy(str))
    assert (chi, -np.log2(p)) == pytest.approx((260.47, 192.23), abs=5e-3)
    rossi = load_rossi()
    x = rossi.drop(columns=["week", "arrest"]).to_numpy(float)
    fit = cox.fit(x, rossi["week"].to_numpy(float), rossi["arrest"].to_numpy() > 0)
    assert cox.likelihood_ratio(fit, 7)[0] == pytest.approx(33.27, abs=5e-3)
    assert 2 * 7 - 2 * fit.loglik == pytest.approx(1331.50, abs=5e-3)


def test_a_forest_does_as_well_on_breast_cancer_as_documented() -> None:
    """scikit-survival's user guide: 1,000 trees with 15 patients in a leaf reach C 0.675 in a quarter of GBSG2."""
    from lifelines.datasets import load_gbsg2
    from sklearn.model_selection import train_test_split

    frame = load_gbsg2()
    x = np.c_[
        frame[["age", "estrec", "pnodes", "progrec", "tsize"]].to_numpy(float), frame["horTh"] == "yes",
        frame["menostat"] == "Post", frame["tgrade"].map({"I": 0, "II": 1, "III": 2}),
    ].astype(float)  # fmt: skip
    y = frame[["time", "cens"]].to_numpy(float)
    train, test = train_test_split(np.arange(len(x)), test_size=0.25, random_state=20)
    fitted = forest.SurvivalForest(200, leaf=15, seed=1).fit(x[train], y[train])
    reached = survival.concordance(y[test, 0], y[test, 1] > 0, fitted.predict(x[test]))
    assert reached == pytest.approx(0.67453, abs=0.015)


def test_data_sets_of_scikit_survival_give_its_documented_numbers() -> None:
    """Its user guide (introduction) and its own tests; the package itself is no dependency, for its licence."""
    datasets = pytest.importorskip("sksurv.datasets", reason="pip install scikit-survival to compare with its data")
    people, followed = datasets.load_veterans_lung_cancer()
    time, event = followed["Survival_in_days"], followed["Status"]
    cell = people["Celltype"].to_numpy(str)
    assert survival.log_rank(time, event, cell) == pytest.approx((25.4037003457854, 1.27124593900609e-05), rel=1e-10)
    columns = {
        "age": (people["Age_in_years"], -0.008549, 0.515107),
        "large": (cell == "large", -0.788672, 0.561620),
        "small": (cell == "smallcell", -0.331813, 0.572581),
        "squamous": (cell == "squamous", -1.188299, 0.550545),
        "karnofsky": (people["Karnofsky_score"], -0.032622, 0.709280),
        "months": (people["Months_from_Diagnosis"], -0.000092, 0.509030),
        "prior": (people["Prior_therapy"] == "yes", 0.072327, 0.494434),
        "test": (people["Treatment"] == "test", 0.289936, 0.525386),
    }
    x = np.column_stack([np.asarray(values, dtype=float) for values, _, _ in columns.values()])
    fit = cox.fit(x, time, event, ties="breslow")
    assert fit.coefficients == pytest.approx([b for _, b, _ in columns.values()], abs=5.01e-7)
    assert survival.concordance(time, event, x @ fit.coefficients) == pytest.approx(0.73626, abs=5e-6)
    for k, (_, _, c) in enumerate(columns.values()):
        one = cox.fit(x[:, [k]], time, event, ties="breslow").coefficients[0] * x[:, k]
        assert survival.concordance(time, event, one) == pytest.approx(c, abs=5.01e-7)
    # bone marrow transplants: transplant-related deaths and relapses, as in its tests
    _, marrow = datasets.load_bmt()
    at = np.array([1, 3, 4, 9, 12, 26, 72])
    wanted = (
        [0.05714286, 0.14581281, 0.20492611, 0.23771164, 0.27283899, 0.27283899, 0.27283899],
        [0.05714286, 0.11527094, 0.14482759, 0.30563279, 0.34076015, 0.48126955, 0.48126955],
    )
    for cause, values in enumerate(wanted, start=1):
        found = competing.aalen_johansen(marrow["ftime"], marrow["status"], cause)
        assert found.at(at) == pytest.approx(values, abs=5.01e-9)


def test_forest_and_boosting_find_what_a_straight_line_cannot() -> None:
    """The hazard depends on |x1| and an interaction; ranger's forests reach C 0.657 (maxstat) and 0.667 (logrank)."""
    h = pd.DataFrame(R["forest"]["cohort"])
    x, y = h.filter(like="X").to_numpy(), h[["time", "event"]].to_numpy(float)
    new = (y[300:, 0], y[300:, 1] > 0)
    trees = forest.SurvivalForest(150, tries=3, seed=1).fit(x[:300], y[:300])
    reached = survival.concordance(*new, trees.predict(x[300:]))
    assert reached == pytest.approx((R["forest"]["maxstat"] + R["forest"]["logrank"]) / 2, abs=0.02)
    straight = cox.fit(x[:300], y[:300, 0], y[:300, 1] > 0).coefficients
    assert survival.concordance(*new, x[300:] @ straight) < reached - 0.05
    curve = trees.survival(x[300:], np.array([0.0, 0.1, 0.5, 5.0]))
    assert (np.diff(curve, axis=1) <= 0).all()
    assert (curve[:, 0] == 1).all()
    boosted = boost.BoostedCox(100).fit(x[:300], y[:300])
    assert survival.concordance(*new, boosted.predict(x[300:])) > reached - 0.02
    rounds = boost.path(x[:300], y[:300], (25, 100), x[300:])
    assert rounds[1] == pytest.approx(boosted.predict(x[300:]), abs=1e-6)
    again = forest.SurvivalForest(150, tries=3, seed=1).fit(x[:300], y[:300])
    assert np.array_equal(again.predict(x[300:]), trees.predict(x[300:]))


def test_the_best_cut_of_a_node_is_that_of_a_search_over_all() -> None:
    rng = np.random.default_rng(2)
    x = np.round(rng.normal(size=(40, 3)), 1)
    scores = survival.log_rank_scores(rng.exponential(np.exp(-x[:, 1])), rng.random(40) < 0.8)
    found, best = forest.best_cut(x, scores, 7), -1.0
    for column in range(3):
        for value in np.unique(x[:, column])[:-1]:
            left = x[:, column] <= value
            if min(left.sum(), (~left).sum()) >= 7:
                best = max(best, abs(scores[left].sum()) / np.sqrt(left.sum() * (~left).sum() / 40))
    assert found is not None
    left = x[:, found[0]] <= found[1]
    assert abs(scores[left].sum()) / np.sqrt(left.sum() * (~left).sum() / 40) == pytest.approx(best)


def test_sample_size_is_that_of_the_published_example() -> None:
    """Recurrent venous thromboembolism, BMJ 2020;368:m441: 30 parameters, R squared 0.051: 5,143 patients."""
    found = samplesize.riley(30, patients=5143, rate=0.065, mean_follow_up=2.07, at=2, r2=0.051)
    assert (found.shrinkage, found.needed, found.carries) == (5143, 5143, 30)
    assert samplesize.riley(60, patients=80, rate=0.2, mean_follow_up=2, at=2, r2=0.1).carries < 5


def test_bca_equals_scipy_and_survives_its_limits() -> None:
    rng = np.random.default_rng(4)
    x = rng.exponential(size=40)
    drawn = bootstrap.counts(np.zeros(40), 20000, rng)
    samples, knife = drawn @ x / 40, (x.sum() - x) / 39
    lower, upper, used = estimates.bca(x.mean(), samples, knife, 0.95)
    other = stats.bootstrap((x,), np.mean, n_resamples=20000, method="BCa", rng=1).confidence_interval
    assert used == 20000
    assert (lower, upper) == pytest.approx((other.low, other.high), abs=0.015)
    assert lower > estimates.percentiles(samples, 0.95)[0]  # a skewed mean: the interval moves up
    assert estimates.bca(9.0, samples, knife, 0.95) == estimates.percentiles(samples, 0.95)
    assert np.isnan(estimates.bca(np.nan, samples, knife, 0.95)[0])


def test_net_benefit_and_calibration_of_a_true_model() -> None:
    rng = np.random.default_rng(6)
    n = 1500
    eta = rng.normal(size=n)
    time, lost = rng.exponential(np.exp(-eta)), rng.exponential(3, n)
    observed, event = np.minimum(time, lost), time <= lost
    risk = 1 - np.exp(-np.exp(eta) * 0.7)
    assert calibrate.ici(observed, event, risk, 0.7) < 0.03
    ratio = calibrate.observed_to_expected(observed, event, risk, 0.7, discrimination.ones(n))[0]
    assert ratio == pytest.approx(1, abs=0.06)
    off = 1 - (1 - risk) ** 2  # twice the hazard everywhere
    truth = np.abs(off - risk).mean()
    assert calibrate.ici(observed, event, off, 0.7) == pytest.approx(truth, abs=0.03)
    benefit, everyone = discrimination.net_benefit(observed, event, risk, 0.7, np.array([0.01, 0.5]))
    assert benefit[0] == pytest.approx(everyone[0], abs=0.01)
    died = time <= 0.7
    whole = (died & (risk >= 0.5)).mean() - (~died & (risk >= 0.5)).mean()  # no one censored
    assert benefit[1] == pytest.approx(whole, abs=0.03)
    assert benefit[1] > max(everyone[1], 0)
