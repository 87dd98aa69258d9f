"""Exploration: vectorised tests against scipy and R, planted effects, the rule for the censored."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.analysis import roc as single
from polycentric.analysis.explore import analyse, precision_recall
from polycentric.config.clinical import read_outcome
from polycentric.config.explore import ExplorationAnalysis
from polycentric.outcomes import at_horizon
from polycentric.tables.schemas import ARTEFACTS, FEATURES, PATIENTS, SPLIT
from polycentric.univariate import kruskal, roc, spearman, spearman_with
from scipy import stats


def test_many_tests_at_once_equal_one_by_one():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 6)).round(1)
    y = rng.random(80) < 0.4
    x[y, 0] += 1
    x[rng.random(80) < 0.2, 1] = np.nan
    x[:, 5] = 3.0
    found = roc(x, y)
    for j in range(5):
        known = np.isfinite(x[:, j])
        expected = single.delong(y[known], x[known, j])
        assert (found.auc[j], found.lower[j], found.upper[j]) == pytest.approx(
            (expected["value"], expected["lower"], expected["upper"]), rel=1e-12
        )
        a, b = x[known & y, j], x[known & ~y, j]
        test = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
        assert found.p[j] == pytest.approx(test.pvalue, rel=1e-9)
        assert (found.positives[j], found.negatives[j]) == (len(a), len(b))
    assert found.auc[5] == 0.5
    assert found.p[5] == 1
    assert np.isnan(found.lower[5])


def test_equals_r():
    shared = Path(os.environ.get("POLYCENTRIC_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (shared / "golden" / "cohort.csv").is_file():
        pytest.skip(f"the table of R's results is not in {shared}")
    frame = pd.read_csv(shared / "golden" / "cohort.csv")
    x, y = frame[["pA", "pB", "x3"]].to_numpy(), frame["y"].to_numpy() == 1
    found = roc(x, y)  # pROC 1.18: ci.auc by DeLong
    np.testing.assert_allclose(found.auc[:2], [0.67953125, 0.616796875], rtol=1e-12)
    np.testing.assert_allclose(found.lower[:2], [0.5961263728, 0.5292681783], rtol=1e-9)
    np.testing.assert_allclose(found.upper[:2], [0.7629361272, 0.7043255717], rtol=1e-9)
    assert found.p[2] == pytest.approx(0.9673346023, rel=1e-9)  # wilcox.test, no continuity correction
    h, p, _ = kruskal(frame[["x1"]].to_numpy(), frame["site"].to_numpy(dtype=object))
    assert (h[0], p[0]) == pytest.approx((4.162824346, 0.1247539136), rel=1e-9)


def test_spearman_equals_pandas_with_missing_values():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 7)).round(1)
    x[:, 3] = x[:, 0] ** 3
    x[rng.random((40, 7)) < [0, 0.3, 0, 0, 0.1, 0.1, 0]] = np.nan
    expected = pd.DataFrame(x).corr(method="spearman").to_numpy()
    np.testing.assert_allclose(spearman(x), expected, atol=1e-12)
    with_first = pd.DataFrame(x).corrwith(pd.Series(x[:, 1]), method="spearman")
    np.testing.assert_allclose(spearman_with(x, x[:, 1]), with_first, atol=1e-12)


def test_spearman_with_many_patterns_of_missing_values_is_close():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 1)) + rng.normal(size=(200, 30))
    x[:, 7] = 1.0
    x[rng.random(x.shape) < 0.02] = np.nan
    expected = pd.DataFrame(x).corr(method="spearman").to_numpy()
    found = spearman(x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(found - expected)) < 0.01


def test_average_precision_equals_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(3)
    y, score = rng.random(60) < 0.3, rng.normal(size=60).round(1)
    weights = rng.integers(0, 4, size=(3, 60)).astype(float)
    _, _, found = precision_recall(y, score, weights)
    for value, weight in zip(found, weights, strict=True):
        assert value == pytest.approx(average_precision_score(y, score, sample_weight=weight), rel=1e-12)


def test_the_censored_follow_the_stated_rule():
    time = np.array([100, 365, 400, 400, 365, 200, np.nan])
    event = np.array([1, 1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(at_horizon(time, event, 365), [1, 1, 0, 0, 0, np.nan, np.nan])
    np.testing.assert_array_equal(at_horizon(time, event, 365, censored="no-event"), [1, 1, 0, 0, 0, 0, np.nan])


NAMES = ["original_shape_MeshVolume", "original_glcm_Strong", "original_glcm_Twin", "log-sigma-1-0-mm-3D_glszm_Size",
         *(f"wavelet-LLH_firstorder_N{i}" for i in range(20))]  # fmt: skip


def cohort(root: Path, n: int = 160) -> dict[str, Path]:
    """Strong differs by one SD between the classes and between the grades; its twin copies it; size follows volume."""
    rng = np.random.default_rng(4)
    rows, patients, split = [], [], []
    for i in range(n):
        sick, grade, volume = i % 2, i % 3, rng.lognormal(3, 0.5)
        strong = rng.normal() + sick + grade
        values = [
            volume * (1.6 if sick else 1),
            strong,
            strong + 0.1 * rng.normal(),
            2 * np.sqrt(volume),
            *rng.normal(size=20),
        ]
        if i < 8:
            values[4] = np.nan
        key = {"centre": "north" if i % 5 else "south", "patient": f"p{i:03d}"}
        rows.append(key | {"session": "s", "scan": f"scan{i}", "set": "ct", "view": "ct", "source": "manual",
                           "roi": "tumour", "fold": "main", "status": "ok", "reason": "", "diagnostics": "{}"}
                    | dict(zip(NAMES, values, strict=True)))  # fmt: skip
        record = {"role": "development", "scans": 1, "clinical": True, "diagnosis": "sick" if sick else "well"}
        record |= {"grade": ["I", "II", "III"][grade], "days": float(rng.exponential(700 - 300 * sick) + 1)}
        patients.append(key | record | {"dead": "yes" if rng.random() < 0.7 else "no"})
        split.append(key | {"part": "training" if i < 120 else "test", "stratum": ""})
    paths = {"features": root / "ct.parquet", "patients": root / "patients.tsv", "split": root / "split.tsv"}
    tables.write(pd.DataFrame(rows), paths["features"], FEATURES)
    tables.write(pd.DataFrame(patients), paths["patients"], PATIENTS)
    tables.write(pd.DataFrame(split), paths["split"], SPLIT)
    return paths


OUTCOMES = {
    "covid": {"type": "binary", "column": "diagnosis", "positive": "sick"},
    "grade": {"type": "multiclass", "column": "grade"},
    "os": {"type": "time-to-event", "time": "days", "event": "dead", "unit": "days"},
}


def run(root: Path, outcome: str, show: int = 2, ledgers: tuple[Path, ...] = (), **changes) -> tuple[Path, dict]:
    paths = cohort(root)
    settings = ExplorationAnalysis.model_validate(
        {"kind": "exploration", "features": ["ct"], "outcome": outcome, "show": show, "bootstraps": 100} | changes
    )
    folder = root / "analyses" / "look"
    metrics = analyse(
        "look", settings, seed=1, features={"ct": paths["features"]}, patients=paths["patients"],
        split=paths["split"] if settings.split else None, outcome=read_outcome(OUTCOMES[outcome]), ledgers=[*ledgers],
        root=root, folder=folder, settings_json="", code="",
    )  # fmt: skip
    return folder, metrics


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> tuple[Path, Path, dict]:
    root = tmp_path_factory.mktemp("binary")
    return root, *run(root, "covid", show=14)


def test_binary(binary):
    root, folder, metrics = binary
    table = pd.read_csv(folder / "tables" / "features.csv").set_index("feature")
    # classes shifted by one SD on top of grades 0, 1, 2 (SD sqrt(1 + 2/3)): AUC = P(d > 0)
    rng = np.random.default_rng(0)
    a = rng.normal(size=200_000) + rng.integers(0, 3, 200_000)
    expected = (rng.permutation(a) + 1 > a).mean()
    strong = table.loc["original_glcm_Strong"]
    assert strong["auc_lower"] < expected < strong["auc_upper"]
    assert strong["p_bonferroni"] == pytest.approx(strong["p"] * len(NAMES))
    assert strong["q"] <= strong["p_bonferroni"]
    assert table.loc["log-sigma-1-0-mm-3D_glszm_Size", "rho_volume"] > 0.8
    assert abs(table.loc["wavelet-LLH_firstorder_N3", "rho_volume"]) < 0.3
    assert table.loc["wavelet-LLH_firstorder_N0", "missing"] == 8
    found = metrics["results"]["covid"]
    assert found["classes"] == {"diagnosis: other": 80, "diagnosis: sick": 80}
    assert 3 <= found["significant"]["benjamini_hochberg"] <= 6  # strong, its twin, volume
    assert found["volume"]["average_precision"]["lower"] > found["volume"]["prevalence"] == 0.5
    # of all features only strong and its twin go together above 0.9
    assert metrics["cohort"]["correlation_clusters"] == len(NAMES) - 1
    written = tables.read(folder / "manifest.tsv", ARTEFACTS)
    stems = {Path(p).stem for p in written["path"]}
    assert {"summary", "distributions-1", "distributions-2", "correlation", "volume", "missing", "features"} <= stems
    for path in written.loc[written["kind"].eq("figure"), "path"]:
        ET.parse(root / path)
    spread = pd.read_csv(folder / "tables" / "statistics.csv")
    frame = tables.read(root / "ct.parquet", FEATURES)
    south = spread[spread["centre"].eq("south") & spread["feature"].eq(NAMES[1])].iloc[0]
    values = frame.loc[frame["centre"].eq("south"), NAMES[1]]
    assert (south["n"], south["sd"], south["q1"]) == pytest.approx((len(values), values.std(), values.quantile(0.25)))


def test_only_training_patients_are_looked_at(tmp_path):
    folder, metrics = run(tmp_path, "covid", split="main")
    assert metrics["cohort"]["used"] == 120
    assert metrics["part"] == "training"
    assert ledger.read(folder / "ledger.json")["seen"]["training"] == [f"p{i:03d}" for i in range(120)]


def test_multiclass(tmp_path):
    folder, metrics = run(tmp_path, "grade")
    table = pd.read_csv(folder / "tables" / "features.csv").set_index("feature")
    assert table["test"].unique().tolist() == ["Kruskal-Wallis"]
    assert metrics["results"]["grade"]["strongest"]["feature"] in NAMES[1:3]
    strong = table.loc["original_glcm_Strong"]
    assert strong["auc I"] < 0.35
    assert strong["auc III"] > 0.65
    assert strong["p"] < 1e-6
    assert 1 <= metrics["results"]["grade"]["significant"]["bonferroni"] <= 3


def test_survival_at_one_and_two_years(tmp_path):
    folder, metrics = run(tmp_path, "os", years=[1, 2])
    patients = tables.read(tmp_path / "patients.tsv", PATIENTS)
    for years in (1, 2):
        limit = 365.25 * years
        lost = int((patients["days"].lt(limit) & patients["dead"].eq("no")).sum())
        events = int((patients["days"].le(limit) & patients["dead"].eq("yes")).sum())
        found = metrics["results"][f"os at {years} year{'s' * (years > 1)}"]
        assert found["classes"] == {"no event": 160 - lost - events, "event": events}
        assert found["unknown"] == lost
        assert found["rule"] == f"{lost} patients censored before are left out"
    assert (folder / "figures" / "associations-2.svg").is_file()


@pytest.mark.parametrize("outcome", ["covid", "grade", "os"])
@pytest.mark.parametrize("kept", [["p000", "p001"], None])
def test_too_few_patients_or_constant_features_are_told(tmp_path, monkeypatch, outcome, kept):
    whole = cohort

    def small(root: Path) -> dict[str, Path]:
        paths = whole(root)
        frame = tables.read(paths["features"], FEATURES)
        frame = frame.assign(**dict.fromkeys(NAMES, 1.0)) if kept is None else frame[frame["patient"].isin(kept)]
        tables.write(frame, paths["features"], FEATURES)
        return paths

    monkeypatch.setitem(globals(), "cohort", small)
    folder, metrics = run(tmp_path, outcome)
    assert metrics["cohort"]["used"] == (160 if kept is None else 2)
    assert any("No features can be correlated" in warning for warning in metrics["warnings"])
    assert "correlation" not in {Path(p).stem for p in tables.read(folder / "manifest.tsv", ARTEFACTS)["path"]}
    assert not any(target["significant"]["uncorrected"] for target in metrics["results"].values())


def test_results_are_the_same_bytes(binary, tmp_path):
    _, one, _ = binary
    two, _ = run(tmp_path, "covid", show=14)
    for file in sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file()):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_features_that_were_chosen_elsewhere_are_said(tmp_path):
    chosen, silent = tmp_path / "chosen.json", tmp_path / "silent.json"
    common = {"stage": ledger.CHOSEN, "split": "", "settings": "", "code": ""}
    ledger.write(chosen, name="theirs", seen={"chosen": ["p000", "p001", "p150", "stranger"]}, **common)
    ledger.write(silent, name="other", seen={"chosen": []}, unknown="whose outcomes chose them", **common)
    _, metrics = run(tmp_path, "covid", ledgers=(chosen, silent), split="main")  # p150 is a test patient
    assert any("'theirs' were chosen elsewhere with the outcomes of 2 of these" in w for w in metrics["warnings"])
    assert any("'other': it is not known whose outcomes" in w for w in metrics["warnings"])
