"""Estimates, ROC analysis, table 1 and joins, against other implementations, R and numbers by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import estimates, ledger, tables
from polycentric.analysis import data, describe, roc
from polycentric.config.analyses import CohortAnalysis
from polycentric.errors import UserError
from polycentric.tables.schemas import ARTEFACTS, FEATURES
from scipy import stats
from sklearn.metrics import roc_auc_score


@pytest.mark.realdata
def test_auc_of_the_proc_data(realdata) -> None:
    frame = pd.read_csv(realdata("statistics") / "pROC_aSAH.csv")
    y = (frame["outcome"] == "Poor").to_numpy()
    for column, expected in (("s100b", 0.7314), ("ndka", 0.6120), ("wfns", 0.8237)):
        assert roc.auc(y, frame[column].to_numpy()) == pytest.approx(expected, abs=5e-5)
    # ci.auc(roc(outcome, s100b)) in the help pages of pROC: 0.6301-0.8326 (DeLong)
    interval = roc.delong(y, frame["s100b"].to_numpy())
    assert [interval["lower"], interval["upper"]] == pytest.approx([0.6301, 0.8326], abs=5e-5)


def test_proportions_and_corrections_agree_with_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    for k, n in ((0, 7), (3, 9), (50, 50), (31, 90)):
        mine = estimates.wilson(k, n)
        assert [mine["lower"], mine["upper"]] == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    p = [0.01, 0.02, 0.03, 0.2, 0.04]
    assert estimates.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert estimates.holm([0.01, np.nan, 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_permutation_p_counts_ties_against_the_model() -> None:
    assert estimates.permutation_p(0.7, np.array([0.5, 0.7, 0.8, np.nan])) == pytest.approx(3 / 4)


def test_auc_with_ties_and_its_bootstrap_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    y = rng.random(60) < 0.4
    score = np.round(rng.normal(size=60) + y, 1)
    assert roc.auc(y, score) == pytest.approx(roc_auc_score(y, score))
    drawn = roc.weights(y, 30, rng)
    samples = roc.bootstrap_auc(y, score, drawn)
    for k in range(30):
        rows = np.r_[np.repeat(np.flatnonzero(y), drawn[0][k].astype(int)),
                     np.repeat(np.flatnonzero(~y), drawn[1][k].astype(int))]  # fmt: skip
        assert samples[k] == pytest.approx(roc_auc_score(y[rows], score[rows]))
    assert np.isnan(roc.auc(np.ones(5, dtype=bool), score[:5]))


def test_intervals_of_the_auc_cover_the_truth() -> None:
    # scores N(0, 1) and N(1, 1): the AUC is Phi(1 / sqrt 2)
    truth, rng, covered = stats.norm.cdf(1 / np.sqrt(2)), np.random.default_rng(11), np.zeros(2)
    for _ in range(200):
        y = np.repeat([True, False], [40, 60])
        score = rng.normal(size=100) + y
        both = (roc.delong(y, score), roc.bootstrap(y, score, roc.weights(y, 200, rng), level=0.95, seed=0))
        covered += [e["lower"] <= truth <= e["upper"] for e in both]
    assert (np.abs(covered / 200 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 200) + 0.02).all()


def test_logistic_regression_agrees_with_statsmodels_and_says_separation() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    x = sm.add_constant(rng.normal(size=(80, 2)))
    y = (rng.random(80) < 0.5).astype(float)
    fit, other = roc.fit_logistic(x, y), sm.GLM(y, x, sm.families.Binomial()).fit()
    assert fit.coefficients == pytest.approx(other.params, rel=1e-7)
    assert fit.errors == pytest.approx(other.bse, rel=1e-6)
    assert not roc.fit_logistic(x, x[:, 1] > 0).converged


def test_curve_passes_through_the_counts_by_hand() -> None:
    false, true = roc.curve(np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.7, 0.1]))
    assert false == pytest.approx([0, 0, 0.5, 1, 1])
    assert true == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert np.trapezoid(true, false) == pytest.approx(roc.auc([1, 0, 1, 0, 1], np.array([0.9, 0.8, 0.7, 0.7, 0.1])))


def test_features_become_one_row_per_patient(tmp_path: Path) -> None:
    rows = [
        ("p1", "s1", "GTV-1", "main", "ok", 1.0, 5.0),
        ("p1", "s2", "GTV-1", "main", "ok", 3.0, np.nan),
        ("p1", "s2", "lung", "main", "ok", 100.0, 1.0),
        ("p2", "s3", "GTV-1", "main", "failed", np.nan, np.nan),
        ("p3", "s4", "GTV-1", "main", "ok", np.inf, 2.0),
        ("p4", "s5", "GTV-1", "main", "ok", 9.0, 9.0),
    ]
    table = pd.DataFrame(rows, columns=["patient", "scan", "roi", "fold", "status", "f_b", "f_a"])
    table = table.assign(centre="north", session="x", set="mixed", view="", source="", reason="")
    tables.write(table, tmp_path / "f.parquet", FEATURES)
    result, counts = data.features(
        tmp_path / "f.parquet", ["p1", "p2", "p3"], rois=("GTV-1",), aggregate="mean", where="here"
    )
    assert list(result.columns) == ["f_a", "f_b"]
    assert result.loc["p1"].tolist() == [5.0, 2.0]
    assert np.isnan(result.loc["p3", "f_b"])  # an infinite feature is a missing one
    assert counts["patients_without_features"] == 1
    assert counts["patients_with_several_rows"] == 1
    with pytest.raises(UserError, match="GTV-1"):
        data.features(tmp_path / "f.parquet", ["p1"], rois=("brain",), aggregate="mean", where="here")


def test_outcomes_are_read_whatever_their_type() -> None:
    frame = pd.DataFrame({"a": [1.0, 0.0, None], "b": ["yes", "no", ""], "t": [5, 0, 900], "e": ["Dead", "dead", "no"]})
    assert data.flag(frame["a"], 1).tolist()[:2] == [1.0, 0.0]
    assert np.isnan(data.flag(frame["a"], "1").iloc[2])
    result = data.survival(frame, cohorts.TimeToEvent("t", "e"), None, "here")
    assert result["event"].tolist()[0::2] == [1.0, 0.0]
    assert np.isnan(result["time"].iloc[1])  # a time of zero is no follow-up
    cut = data.survival(frame.assign(e="dead"), cohorts.TimeToEvent("t", "e", unit="weeks"), 70, "here")
    assert cut.iloc[2].tolist() == [10.0, 0.0]
    with pytest.raises(UserError, match="no numbers"):
        data.survival(frame.assign(t=["5", "x", "7"]), cohorts.TimeToEvent("t", "e"), None, "here")


def write_ledger(path: Path, name: str, stage: str, split: str, seen: list[str], upstream: list[Path] = []) -> Path:  # noqa: B006
    ledger.write(path, name=name, stage=stage, split=split, seen={"training": seen}, upstream=upstream, settings="",
                 code="")  # fmt: skip
    return path


def test_leaks_are_refused_and_clean_twins_are_not(tmp_path: Path) -> None:
    generator = write_ledger(tmp_path / "g.json", "decontrast", "synthesize", "synthesis", ["a", "b"])
    ledger.refuse(["c"], ["d"], [generator], split="main", where="x")
    for training, held_out in ((["a"], ["d"]), (["c"], ["b"])):
        with pytest.raises(UserError, match=r"decontrast.*within: synthesis.test"):
            ledger.refuse(training, held_out, [generator], split="main", where="x")
    # harmonisation fitted on the training part of this very split is part of the chain ...
    combat = write_ledger(tmp_path / "c.json", "combat", "extract", "main", ["c"], [generator])
    ledger.refuse(["c"], ["d"], [combat], split="main", where="x")
    # ... but not one that saw test patients, one of another split, or a generator behind it
    with pytest.raises(UserError, match="combat"):
        ledger.refuse(["d"], ["c"], [combat], split="main", where="x")
    with pytest.raises(UserError, match="combat"):
        ledger.refuse(["c"], ["d"], [combat], split="other", where="x")
    with pytest.raises(UserError, match="decontrast"):
        ledger.refuse(["a"], ["d"], [combat], split="main", where="x")


def test_standardised_differences_by_hand() -> None:
    assert describe.smd_numbers(np.array([1.0, 3.0]), np.array([2.0, 6.0])) == pytest.approx(2 / np.sqrt(5))
    p, q = 0.3, 0.6
    expected = abs(p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert describe.smd_counts(np.array([70, 30]), np.array([40, 60])) == pytest.approx(expected)


def test_table_1_holds_the_numbers_of_the_cohort(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 40, "south": 30, "east": 25}, external="east", seed=4)
    folder = tmp_path / "analyses/cohort"
    metrics = describe.analyse(
        "cohort",
        CohortAnalysis(),
        seed=1,
        patients=cohort.patients,
        scans=cohort.scans,
        split=None,
        outcomes=cohorts.OUTCOMES,
        columns=["age_years", "stage"],
        root=tmp_path,
        folder=folder,
        settings_json="{}",
        code="c",
    )
    facts = {v["column"]: v for v in metrics["variables"]}
    groups = [g["age_years"].to_numpy() for _, g in cohort.frame.groupby("centre")]
    normal = min(stats.shapiro(g).pvalue for g in groups) >= 0.05
    expected = stats.f_oneway(*groups).pvalue if normal else stats.kruskal(*groups).pvalue
    assert facts["age_years"]["p"] == pytest.approx(expected)
    assert facts["age_years"]["groups"]["south"]["mean"] == pytest.approx(groups[2].mean())
    table = pd.crosstab(cohort.frame["stage"], cohort.frame["centre"])
    assert facts["stage"]["groups"]["north"] == table["north"].to_dict()
    assert facts["stage"]["p"] == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    assert facts["spacing_z_mm"]["scans"]
    written = pd.read_csv(folder / "tables/table1.csv", dtype=str)
    assert written.iloc[0][["all", "north", "south", "east"]].tolist() == ["95", "40", "30", "25"]
    manifest = tables.read(folder / "manifest.tsv", ARTEFACTS)
    assert manifest["path"].iloc[0] == "analyses/cohort/figures/summary.svg"
    assert all((tmp_path / p).exists() for p in [*manifest["path"], *manifest["data"][manifest["data"] != ""]])
    assert json.loads((folder / "metrics.json").read_text())["cohort"]["patients"] == 95
    with pytest.raises(UserError, match="nowhere"):
        describe.analyse("cohort", CohortAnalysis(by="nowhere"), seed=1, patients=cohort.patients, scans=cohort.scans,
                         split=None, outcomes={}, columns=[], root=tmp_path, folder=folder, settings_json="{}",
                         code="c")  # fmt: skip
