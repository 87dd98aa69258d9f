"""Analyses of agreement on tables with planted or published agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from polycentric import tables
from polycentric.analysis import agree, associate, survey
from polycentric.config.agreement import (
    AgreementAnalysis,
    AssociationAnalysis,
    MaskAgreementAnalysis,
    SurveyAnalysis,
)
from polycentric.config.clinical import ColumnSettings
from polycentric.config.study import load
from polycentric.errors import UserError
from polycentric.randomness import generator
from polycentric.segquality import readers
from polycentric.tables.readers import ANSWERS
from polycentric.tables.schemas import FEATURES, MASKS, PATIENTS, SPLIT
from polycentric.volumes import Geometry, Volume
from polycentric.volumes import write as write_volume
from pydantic import ValidationError

# Bland and Altman 1986, table 1: peak expiratory flow of 17 subjects by a large and a mini Wright meter, first readings
LARGE = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)


@pytest.fixture(scope="module")
def r() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[1] / "golden" / "agreement.json").read_text(encoding="utf-8"))


def people(folder: Path, **columns: Any) -> Path:
    n = len(next(iter(columns.values())))
    frame = pd.DataFrame({"centre": "north", "patient": [f"p{k:03d}" for k in range(n)], "role": "development"})
    frame = frame.assign(scans=0, clinical=True, **columns)
    tables.write(frame.to_dict("records"), folder / "patients.tsv", PATIENTS)
    return folder / "patients.tsv"


def run(tmp_path: Path, patients: Path, table: Path | None = None, **settings: Any) -> dict[str, Any]:
    return agree.analyse(
        "a", AgreementAnalysis(kind="agreement", **settings), seed=1, patients=patients, features=table, ledgers=[],
        root=tmp_path, folder=tmp_path / "a",
    )  # fmt: skip


def test_peak_flow_meters_as_published(tmp_path: Path) -> None:
    patients = people(tmp_path, large=LARGE, mini=MINI)
    metrics = run(tmp_path, patients, scale="numeric", columns={"large": "large", "mini": "mini"})
    pair = metrics["estimates"]["large and mini"]
    assert [pair["bias"][k] for k in ("value", "lower", "upper")] == pytest.approx([-2.1, -22.0, 17.8], abs=0.1)
    assert pair["sd_of_differences"]["value"] == pytest.approx(38.8, abs=0.05)
    assert metrics["estimates"]["all"]["icc_3"]["value"] > 0.9
    manifest = pd.read_csv(tmp_path / "a/manifest.tsv", sep="\t", skiprows=1)
    assert manifest["path"].iloc[0] == "a/figures/summary.svg"


def test_icc_of_shrout_and_fleiss_as_printed(tmp_path: Path) -> None:
    judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    patients = people(tmp_path, **{f"j{k}": judges[:, k] for k in range(4)})
    metrics = run(tmp_path, patients, scale="numeric", columns={f"judge-{k}": f"j{k}" for k in range(4)})
    found = metrics["estimates"]["all"]
    forms = ("icc_1", "icc_2", "icc_3", "icc_1k", "icc_2k", "icc_3k")
    assert [round(found[f]["value"], 2) for f in forms] == [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]
    assert any("6 items" in w for w in metrics["warnings"])


def test_kappa_with_weights_equals_r(tmp_path: Path, r: dict[str, Any]) -> None:
    patients = people(tmp_path, **r["ratings"])
    metrics = run(tmp_path, patients, scale="ordinal", columns={"a": "a", "b": "b", "c": "c"}, bootstraps=200)
    for pair, key in (("a and b", "ab"), ("b and c", "bc")):
        for measure, weights in (("kappa", "unweighted"), ("kappa_linear", "linear"), ("kappa_quadratic", "quadratic")):
            found = metrics["estimates"][pair][measure]["value"]
            assert found == pytest.approx(r["cohen"][key][weights][0], abs=1e-8)
    fleiss = metrics["estimates"]["all"]["fleiss_kappa"]
    assert fleiss["lower"] < fleiss["value"] < fleiss["upper"]
    table = pd.read_csv(tmp_path / "a/tables/agreement.csv")
    own = table[table["measure"].eq("kappa")]
    assert (own["p_corrected"] >= own["p"] - 1e-15).all()


def test_truth_gives_mcnemar_between_readers(tmp_path: Path) -> None:
    """12 patients right by the model alone, 3 by the physician alone: exact p 0.0352, mid-p 0.0213 (R)."""
    truth = np.array(["yes", "no"] * 50)
    other = np.where(truth == "yes", "no", "yes")
    model, physician = truth.copy(), truth.copy()
    model[:3], physician[3:15] = other[:3], other[3:15]
    patients = people(tmp_path, t=truth, m=model, p=physician)
    metrics = run(
        tmp_path, patients, scale="nominal", columns={"model": "m", "physician": "p"}, truth="t", bootstraps=100
    )
    found = metrics["estimates"]["model and physician"]
    assert found["difference in items called rightly"]["p"] == pytest.approx(0.021270751953125)
    assert found["difference in items called rightly, exact"]["p"] == pytest.approx(0.03515625)
    assert found["difference in items called rightly"]["value"] == pytest.approx(0.09)
    assert metrics["estimates"]["model"]["right"]["value"] == pytest.approx(0.97)


def feature_set(folder: Path, seed: int = 1, n: int = 60) -> Path:
    """Two lesions of every patient, three readers; one feature with ICC 0.8 between lesions' values, one of noise."""
    rng = generator(seed, "test")
    rows = []
    for k in range(n):
        for roi in ("lesion-1", "lesion-2"):
            size = rng.normal(0, 2)
            for reader in ("reader-1", "reader-2", "reader-3"):
                rows.append(
                    {"centre": "north", "patient": f"p{k:03d}", "session": "", "scan": f"s{k:03d}", "set": "read",
                     "source": reader, "roi": roi, "fold": "main", "status": "ok", "size": size + rng.normal(0, 1),
                     "noise": rng.normal()}
                )  # fmt: skip
    frame = pd.DataFrame(rows).assign(session="v")
    tables.write(frame, folder / "read.parquet", FEATURES)
    return folder / "read.parquet"


def test_planted_reliability_of_features_is_found(tmp_path: Path) -> None:
    patients = people(tmp_path, x=[1, 2])
    metrics = run(tmp_path, patients, feature_set(tmp_path), scale="numeric", features=("read",), bootstraps=100)
    size, noise = (metrics["estimates"][v]["all"]["icc_2"] for v in ("size", "noise"))
    assert size["lower"] < 0.8 < size["upper"]
    assert abs(noise["value"]) < 4 * np.sqrt(2 / (120 * 3 * 2))  # four standard errors under no agreement
    assert size["n"] == 120
    assert "bootstrap of patients" in metrics["estimates"]["size"]["reader-1 and reader-2"]["bias"]["method"]
    assert any("several items" in w for w in metrics["warnings"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": "ordinal", "columns": {"a": "a", "b": "b"}}, "write levels"),
        ({"scale": "numeric", "columns": {"a": "a", "b": "b"}}, "are no numbers"),
        ({"scale": "nominal", "columns": {"a": "a", "b": "nowhere"}}, "no clinical column"),
        ({"scale": "ordinal", "columns": {"a": "a", "b": "b"}, "levels": ("low",)}, "add them"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    patients = people(tmp_path, a=["low", "high", "low", "high"], b=["low", "high", "high", "high"])
    with pytest.raises(UserError, match=words):
        run(tmp_path, patients, **settings)


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValidationError, match="either columns"):
        AgreementAnalysis(kind="agreement", scale="nominal")
    with pytest.raises(ValidationError, match="agrees with nobody"):
        AgreementAnalysis(kind="agreement", scale="nominal", columns={"a": "a"})
    with pytest.raises(ValidationError, match="two kinds"):
        AssociationAnalysis(kind="association", features=("a",))
    with pytest.raises(ValidationError, match="either readers"):
        SurveyAnalysis(kind="survey")
    with pytest.raises(ValidationError, match="at least three"):
        MaskAgreementAnalysis(kind="mask-agreement", sources=("a", "b"), against="a")


@pytest.mark.parametrize(
    ("analysis", "words"),
    [
        ({"kind": "agreement", "scale": "numeric", "features": ["mixed"]}, "has no readers"),
        ({"kind": "survey", "readers": ["turin"]}, "did you mean 'turing'"),
        ({"kind": "survey", "table": "nowhere.csv"}, "does not exist"),
        ({"kind": "mask-agreement", "sources": ["manual", "unet"]}, "learnt from training patients"),
        ({"kind": "mask-agreement", "sources": ["manual", "nobody"]}, "is not defined under segmentation"),
        ({"kind": "association", "features": ["mixed", "nothing"]}, "is not defined under features"),
    ],
)
def test_a_study_that_lacks_what_is_compared_is_refused(analysis: dict[str, Any], words: str) -> None:
    raw = yaml.safe_load((Path(__file__).parents[2] / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["analyses"]["own"] = analysis
    with pytest.raises(UserError, match=words):
        load(raw)


# ----------------------------------------------------------------------------------------------------------- surveys


def answers(folder: Path, shares: dict[str, tuple[float, float]], readers_: int = 8, items: int = 20) -> Path:
    """Surveys in which a share of answers to real and to synthetic items is right."""
    rng = generator(3, "test")
    rows = []
    for name, (real, synthetic) in shares.items():
        for k in range(readers_):
            for item in range(items):
                truth = "real" if item % 2 else "synthetic"
                right = rng.random() < (real if truth == "real" else synthetic)
                wrong = "indeterminable" if rng.random() < 0.2 else ("synthetic" if truth == "real" else "real")
                rows.append((name, f"r{k}", f"i{item}", truth, truth if right else wrong))
    columns = ["survey", "reader", "item", "truth", "answer"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "answers.csv", index=False)
    return folder / "answers.csv"


def ask(tmp_path: Path, path: Path, **settings: Any) -> dict[str, Any]:
    return survey.analyse(
        "s", SurveyAnalysis(kind="survey", table=str(path), **settings), seed=1, answers={"table": path}, root=tmp_path,
        folder=tmp_path / "s",
    )  # fmt: skip


def test_a_survey_counts_what_readers_said(tmp_path: Path) -> None:
    path = answers(tmp_path, {"first": (0.5, 0.5), "second": (0.9, 0.5)})
    metrics = ask(tmp_path, path, bootstraps=300)
    frame = pd.read_csv(path)
    good = frame["answer"].eq(frame["truth"])
    second = metrics["estimates"]["second"]
    for key, rows in (
        ("overall", frame["survey"].eq("second")),
        ("on real", frame["survey"].eq("second") & frame["truth"].eq("real")),
    ):
        assert second[key]["value"] == pytest.approx(good[rows].mean())
        assert second[key]["lower"] < second[key]["value"] < second[key]["upper"]
    tests = {(t["family"], t["name"]): t for t in metrics["tests"]}
    from scipy import stats

    own = frame[frame["survey"].eq("second")]
    expected = stats.chi2_contingency(pd.crosstab(own["truth"], own["answer"].eq(own["truth"])), correction=False)
    found = tests["within a survey, binomial", "second, real against synthetic"]
    assert [found["statistic"], found["p"]] == pytest.approx([expected.statistic, expected.pvalue])
    real = frame[frame["truth"].eq("real")]
    expected = stats.chi2_contingency(pd.crosstab(real["survey"], real["answer"]), correction=False)
    assert tests["between surveys, multinomial", "first against second, on real"]["p"] == pytest.approx(expected.pvalue)
    assert tests["against chance", "second, overall"]["p"] < 0.001
    difference = metrics["estimates"]["differences"]["first less second"]
    assert difference["lower"] < -0.2 < difference["upper"] < 0


def test_preference_by_profession_with_interval_over_readers_and_items(tmp_path: Path) -> None:
    rng = generator(5, "test")
    rows = [
        {"reader": f"r{k}", "item": f"i{i}", "answer": "automatic" if rng.random() < 0.3 + 0.05 * k else "manual",
         "profession": "radiologist" if k < 5 else "oncologist"}
        for k in range(10) for i in range(100)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    metrics = ask(tmp_path, tmp_path / "p.csv", preferred="automatic", by="profession", bootstraps=400)
    found = metrics["estimates"]["survey"]
    assert found["overall"]["lower"] < 0.525 < found["overall"]["upper"]
    naive = 2 * 1.96 * np.sqrt(0.525 * 0.475 / 1000)
    assert found["overall"]["upper"] - found["overall"]["lower"] > 1.5 * naive
    groups = found["by profession"]
    assert groups["radiologist"]["value"] < groups["oncologist"]["value"]


def test_reader_studies_are_surveys(tmp_path: Path) -> None:
    rows = [
        {"reader": f"r{k}", "simulated": True, "position": i + 1, "item": f"i{i}",
         "arm": "acquired" if i % 2 else "synthetic", "answer": "acquired" if i % 2 or k else "synthetic"}
        for k in range(3) for i in range(10)
    ]  # fmt: skip
    tables.write(rows, tmp_path / "answers.parquet", ANSWERS)
    metrics = survey.analyse(
        "s", SurveyAnalysis(kind="survey", readers=("turing",), bootstraps=100), seed=1,
        answers={"turing": tmp_path / "answers.parquet"}, root=tmp_path, folder=tmp_path / "s",
    )  # fmt: skip
    found = metrics["estimates"]["turing"]
    assert found["on acquired"]["value"] == 1
    assert found["on synthetic"]["value"] == pytest.approx(1 / 3)
    assert any("simulated" in w for w in metrics["warnings"])


def test_wrong_tables_of_answers_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"reader": ["a", "a"], "item": ["1", "1"], "answer": ["x", "y"], "truth": ["x", "x"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="repeat a reader"):
        ask(tmp_path, tmp_path / "t.csv")
    frame["item"] = ["1", "2"]
    frame.drop(columns="truth").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="no right answer"):
        ask(tmp_path, tmp_path / "t.csv")
    with pytest.raises(UserError, match="nobody answered"):
        ask(tmp_path, tmp_path / "t.csv", preferred="z")
    frame.drop(columns="item").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="'item'"):
        ask(tmp_path, tmp_path / "t.csv")


# ------------------------------------------------------------------------------------------------------ associations


def test_correlations_equal_r(r: dict[str, Any]) -> None:
    d = pd.DataFrame(r["cohort"])
    one = pd.DataFrame({"male": d["sex"].eq("m").astype(float), "normal": d["normal"], "skewed": d["skewed"]})
    two = pd.DataFrame(
        {"first": d["stage"].eq("I").astype(float), "normal": d["normal"], "skewed": d["skewed"],
         "stage": d["stage"].map({"I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0})}
    )  # fmt: skip
    golden = r["correlation"]
    found = associate.between(one, two).set_index(["feature_1", "feature_2"])
    row = found.loc[("male", "normal")]
    assert row["method"] == "point-biserial"
    assert [row["r"], row["p"], row["lower"], row["upper"]] == pytest.approx(golden["point_biserial"], abs=1e-8)
    row = found.loc[("male", "first")]
    assert row["method"] == "phi"
    assert [row["r"], row["p"]] == pytest.approx(golden["phi"], abs=1e-8)
    row = found.loc[("normal", "skewed")]
    assert [row["r"], row["p"]] == pytest.approx(golden["spearman"], abs=1e-8)
    row = associate.between(one, two, rank="kendall").set_index(["feature_1", "feature_2"]).loc[("skewed", "stage")]
    assert [row["r"], row["p"]] == pytest.approx(golden["kendall"], abs=1e-8)


def test_missing_values_leave_the_pairs_that_are_known() -> None:
    rng = generator(1, "test")
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    x[:5, 1], y[20:, 0] = np.nan, np.nan
    found = associate.between(pd.DataFrame(x), pd.DataFrame(y)).set_index(["feature_1", "feature_2"])
    from scipy import stats

    assert found.loc[("1", "0"), "n"] == 15
    assert found.loc[("1", "0"), "r"] == pytest.approx(stats.spearmanr(x[5:20, 1], y[5:20, 0]).statistic)


def test_kinds_of_features_of_a_study_are_correlated(tmp_path: Path) -> None:
    patients = people(tmp_path, sex=["f", "m"] * 30, age_years=np.arange(60.0))
    metrics = associate.analyse(
        "c", AssociationAnalysis(kind="association", features=("read",), clinical=("sex", "age_years")), seed=1,
        features={"read": feature_set(tmp_path)}, patients=patients, split=None,
        columns={"sex": ColumnSettings(type="binary", values=("f", "m"))}, ledgers=[], root=tmp_path,
        folder=tmp_path / "c",
    )  # fmt: skip
    assert metrics["pairs"]["read and clinical"]["pairs"] == 4
    table = pd.read_csv(tmp_path / "c/tables/correlations.csv")
    assert set(table["method"]) == {"point-biserial", "Spearman"}
    assert (table["p_corrected"] >= table["p"]).all()


# ------------------------------------------------------------------------------------------------------------- masks


def outlines(folder: Path, shifts: dict[str, int], patients: int = 6) -> Path:
    """Cubes of 10 voxels, shifted by some voxels for each source: Dice (10 - shift) / 10 with an unshifted one."""
    grid = Geometry((30, 14, 14), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    rows = []
    for k in range(patients):
        for source, shift in shifts.items():
            array = np.zeros((14, 14, 30), dtype=np.uint8)
            array[2:12, 2:12, 5 + shift : 15 + shift] = 1
            path = folder / f"masks/{source}/{k}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array, grid), path)
            rows.append(
                {"centre": "north", "patient": f"p{k}", "session": "v", "scan": f"s{k}", "source": source,
                 "fold": "main", "roi": "tumour", "path": path.relative_to(folder).as_posix(), "status": "ok"}
            )  # fmt: skip
    tables.write(rows, folder / "masks.tsv", MASKS)
    return folder / "masks.tsv"


def test_dice_of_readers_and_of_a_model_against_them(tmp_path: Path) -> None:
    masks = outlines(tmp_path, {"one": 0, "two": 1, "model": 3})
    settings = MaskAgreementAnalysis(
        kind="mask-agreement", sources=("one", "two", "model"), against="model", bootstraps=100
    )
    metrics = readers.analyse(
        "m", settings, seed=1, masks=[masks], split=None, ledgers=[], root=tmp_path, folder=tmp_path / "m"
    )
    found = metrics["estimates"]
    assert found["one and two"]["dice"]["value"] == pytest.approx(0.9)
    assert found["one and model"]["dice"]["value"] == pytest.approx(0.7)
    assert found["model with the others"]["dice"]["value"] == pytest.approx(0.75)
    assert found["difference"]["dice_difference"]["value"] == pytest.approx(-0.15)
    assert found["one and two"]["volume_difference_ml"]["value"] == 0
    parts = [{"centre": "north", "patient": f"p{k}", "part": "training" if k < 2 else "test"} for k in range(6)]
    tables.write(parts, tmp_path / "split.tsv", SPLIT)
    metrics = readers.analyse(
        "m", settings, seed=1, masks=[masks], split=tmp_path / "split.tsv", ledgers=[], root=tmp_path,
        folder=tmp_path / "m",
    )  # fmt: skip
    assert metrics["patients"] == 4
