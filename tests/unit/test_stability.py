"""Stability: intervals against R and against coverage, designs on planted reliabilities, selection."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.concordance import concordance
from polycentric.config.stability import StabilityAnalysis
from polycentric.errors import UserError
from polycentric.stability import analyse, select
from polycentric.tables.schemas import ARTEFACTS, FEATURES, SCANS, SPLIT
from polycentric.tables.stability import STABLE

# psych 2.2.9 in R 4.2.2 on the three readings of golden/cohort.csv: value, lower, upper
PSYCH = {
    "icc_1": (0.9324993561, 0.9133225674, 0.9482132823),
    "icc_a": (0.9325750521, 0.9119122864, 0.9489571),
    "icc_c": (0.9357230412, 0.9173842797, 0.9507239394),
}


def test_intraclass_correlation_equals_r():
    shared = Path(os.environ.get("POLYCENTRIC_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (shared / "golden" / "cohort.csv").is_file():
        pytest.skip(f"the table of R's results is not in {shared}")
    frame = pd.read_csv(shared / "golden" / "cohort.csv")
    # another unit and a large offset change nothing
    found = concordance(1e6 + 250 * frame[["m1", "m2", "m3"]].to_numpy()[:, :, None])
    for name, expected in PSYCH.items():
        interval = getattr(found, name)
        np.testing.assert_allclose([interval.value[0], interval.lower[0], interval.upper[0]], expected, atol=1e-9)


def test_equal_shrout_and_fleiss():
    """Shrout and Fleiss, Psychol Bull 86 (1979) 420, tables 2 and 4: four judges, six targets."""
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
    )
    found = concordance(ratings[:, :, None])
    assert [round(float(getattr(found, s).value[0]), 2) for s in ("icc_1", "icc_a", "icc_c")] == [0.17, 0.29, 0.71]
    assert (round(float(found.icc_a.lower[0]), 2), round(float(found.icc_a.upper[0]), 2)) == (0.02, 0.76)


def test_concordance_correlation_is_that_of_its_definition():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 2))
    x[:, 1] = 0.8 * x[:, 0] + 0.3 * x[:, 1] + 0.4
    a, b = x.T
    lin = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert concordance(x[:, :, None]).ccc.value[0] == pytest.approx(lin, rel=1e-12)
    # three repeats: the mean of pairwise numerators over that of denominators
    y = np.c_[x, rng.normal(size=50)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    top = sum(2 * np.cov(y[:, i], y[:, j], bias=True)[0, 1] for i, j in pairs)
    bottom = sum(y[:, i].var() + y[:, j].var() + (y[:, i].mean() - y[:, j].mean()) ** 2 for i, j in pairs)
    assert concordance(y[:, :, None]).ccc.value[0] == pytest.approx(top / bottom, rel=1e-12)


@pytest.mark.parametrize("repeats", [2, 3])
def test_intervals_cover_the_truth(repeats):
    """1,500 simulated features with reliability 1 / 1.25: intervals of 95 % hold it in 95 % of them."""
    rng = np.random.default_rng(repeats)
    x = rng.normal(size=(60, 1, 1500)) + 0.5 * rng.normal(size=(60, repeats, 1500))
    found = concordance(x)
    for name in ("icc_1", "icc_a", "icc_c", "ccc"):
        interval = getattr(found, name)
        covered = ((interval.lower < 0.8) & (interval.upper > 0.8)).mean()
        assert covered == pytest.approx(0.95, abs=0.02), name
    assert np.median(found.within_sd) == pytest.approx(0.5, rel=0.02)
    assert np.median(found.repeatability) == pytest.approx(1.96 * np.sqrt(2) * 0.5, rel=0.02)


def test_missing_values_take_their_subject_out_of_one_feature_only():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(30, 1, 3)) + 0.3 * rng.normal(size=(30, 2, 3))
    x[7, 1, 0] = np.nan
    found = concordance(x)
    assert found.subjects.tolist() == [29, 30, 30]
    without = concordance(np.delete(x, 7, axis=0)[:, :, :1])
    assert found.icc_a.lower[0] == pytest.approx(without.icc_a.lower[0], rel=1e-12)


def test_constant_and_exact_features():
    x = np.zeros((10, 2, 3))
    x[:, :, 0] = 0.1 + 1e-17
    x[:, :, 1] = np.arange(10)[:, None]
    x[:, :, 2] = np.nan
    found = concordance(x)
    assert np.isnan(found.icc_a.value[[0, 2]]).all()
    assert np.isnan(found.ccc.value[[0, 2]]).all()
    assert found.icc_a.lower[1] == found.ccc.lower[1] == found.icc_a.value[1] == 1


# ------------------------------------------------------------------------------------------------- designs

NOISE = {"original_shape_MeshVolume": 0.05, "original_glcm_Contrast": 0.2, "original_glcm_Idm": 2.0}
CENTRES = ("north", "phantom")


def row(name: str, patient: str, scan: str, source: str, values: dict[str, float], session: str = "s") -> dict:
    key = {"centre": "north", "patient": patient, "session": session, "scan": scan, "set": name, "view": "ct"}
    key |= {"source": source, "roi": "tumour", "fold": "main", "status": "ok", "reason": "", "diagnostics": "{}"}
    return key | values


def cohort(root: Path) -> dict[str, Path]:
    """40 patients, read by two readers (two sets), scanned twice with kernels B and C; C shifts the contrast by 3."""
    rng = np.random.default_rng(11)
    sets: dict[str, list] = {"reader-a": [], "reader-b": []}
    scans, split = [], []
    for n in range(40):
        truth = {f: rng.normal() for f in NOISE}
        split.append(
            {"centre": "north", "patient": f"p{n:02d}", "part": "training" if n < 30 else "test", "stratum": ""}
        )
        for kernel in "BC":
            scan = f"scan-{n:02d}-{kernel}"
            record = dict.fromkeys(SCANS.columns) | {"centre": "north", "patient": f"p{n:02d}", "session": kernel}
            record |= {"scan": scan, "role": "development", "shard": "north-0", "modality": "CT", "contrast": "no"}
            scans.append(record | {"verdict": "accept", "kernel": kernel})
            shift = {"original_glcm_Contrast": 3.0 if kernel == "C" else 0.0}
            for name in sets:
                values = {f: v + shift.get(f, 0.0) + NOISE[f] * rng.normal() for f, v in truth.items()}
                sets[name].append(row(name, f"p{n:02d}", scan, name, values, kernel))
    sets["reader-a"][0]["original_shape_MeshVolume"] = np.nan
    sets["reader-b"].append(row("reader-b", "p99", "scan-99", "reader-b", dict.fromkeys(NOISE, 0.0)))
    paths = {"scans": root / "scans.tsv", "split": root / "split.tsv"}
    for name, rows in sets.items():
        paths[name] = root / f"{name}.parquet"
        tables.write(pd.DataFrame(rows), paths[name], FEATURES)
    # both readers as mask sources of one set, with a third who read few
    paths["reader-both"] = root / "reader-both.parquet"
    both = [r | {"set": "reader-both"} for name in sets for r in sets[name]]
    few = [r | {"source": "reader-c"} for r in both[:2]]
    tables.write(pd.DataFrame([*both, *few]), paths["reader-both"], FEATURES)
    tables.write(scans, paths["scans"], SCANS)
    tables.write(split, paths["split"], SPLIT)
    return paths


READERS = {"repeat": "set", "features": ["reader-a", "reader-b"]}
KERNELS = {"repeat": "kernel", "features": ["reader-a"], "statistic": "ccc", "bound": "value", "above": 0.75}


def run(root: Path, designs: dict, **changes) -> tuple[Path, dict]:
    paths = cohort(root)
    folder = root / "analyses" / "stable"
    settings = StabilityAnalysis.model_validate({"kind": "stability", "designs": designs} | changes)
    metrics = analyse(
        "stable", settings, features={k: v for k, v in paths.items() if k.startswith("reader")}, scans=paths["scans"],
        split=paths["split"], ledgers=[], root=root, folder=folder,
    )  # fmt: skip
    return folder, metrics


def test_planted_reliabilities_are_found_and_select(tmp_path):
    folder, metrics = run(tmp_path, {"readers": READERS, "kernels": KERNELS})
    table = pd.read_csv(folder / "tables" / "features.csv").set_index(["design", "feature"])
    for feature, noise in NOISE.items():
        # scans of a kernel share the shift, which adds to the variance between subjects
        between = 1 + (2.25 if "Contrast" in feature else 0)
        expected = between / (between + noise**2)
        found = table.loc["readers", feature]
        # the two scans of a patient share the truth, so the interval is a little too narrow
        assert found["icc_a_lower"] - 0.005 < expected < found["icc_a_upper"] + 0.005
    shifted = table.loc[("kernels", "original_glcm_Contrast")]
    # consistency does not mind the shift of the kernel, agreement does: CCC = 1 / (1 + 0.04 + 4.5)
    assert shifted["icc_c"] > 0.9
    assert shifted["ccc_lower"] < 1 / (1.04 + 4.5) < shifted["ccc_upper"]
    assert table.loc[("readers", "original_shape_MeshVolume"), "incomplete"] == 1
    assert metrics["designs"]["readers"]["subjects"] == 80  # two scans of 40 patients; p99 lacks a reader
    assert metrics["designs"]["readers"]["incomplete"] == 1
    assert metrics["designs"]["kernels"]["subjects"] == 40

    stable = tables.read(folder / "stable.tsv", STABLE).set_index("feature")
    assert stable["stable"].to_dict() == {f: f == "original_shape_MeshVolume" for f in sorted(NOISE)}
    assert "kernels: CCC" in stable.loc["original_glcm_Contrast", "reason"]
    assert "readers" not in stable.loc["original_glcm_Contrast", "reason"]
    assert "readers: lower bound of ICC(A,1)" in stable.loc["original_glcm_Idm", "reason"]
    for _, artefact in tables.read(folder / "manifest.tsv", ARTEFACTS).iterrows():
        assert (tmp_path / artefact["path"]).is_file()


def test_readers_of_one_set_are_those_of_two(tmp_path):
    one = {"repeat": "source", "features": ["reader-both"], "levels": ["reader-a", "reader-b"]}
    folder, metrics = run(tmp_path, {"one": one, "two": READERS})
    table = pd.read_csv(folder / "tables" / "features.csv").drop(columns="design")
    half = len(table) // 2
    pd.testing.assert_frame_equal(table[:half].reset_index(drop=True), table[half:].reset_index(drop=True))
    assert metrics["designs"]["one"]["subjects"] == 80
    with pytest.raises(UserError, match=r"reader-c \(2 rows\)"):
        run(tmp_path, {"all": {"repeat": "source", "features": ["reader-both"]}})


def test_only_training_patients_and_the_ledger(tmp_path):
    folder, metrics = run(tmp_path, {"readers": READERS | {"where": "kernel == 'B'"}}, split="main")
    assert metrics["designs"]["readers"]["subjects"] == 30
    record = ledger.read(folder / "ledger.json")
    assert record["seen"]["training"] == [f"p{n:02d}" for n in range(30)]
    assert record["split"] == "main"

    out = tmp_path / "kept.parquet"
    select(
        "kept", features=tmp_path / "reader-a.parquet", stable=folder / "stable.tsv",
        analysis_ledger=folder / "ledger.json", output=out, ledger=tmp_path / "kept.json",
    )  # fmt: skip
    frame = tables.read(out, FEATURES)
    assert {*frame.columns} & {*NOISE} == {"original_shape_MeshVolume", "original_glcm_Contrast"}
    assert frame["set"].unique().tolist() == ["kept"]
    assert ledger.read(tmp_path / "kept.json")["seen"] == record["seen"]


def test_sessions_are_numbered_within_each_patient(tmp_path):
    _, metrics = run(tmp_path, {"visits": {"repeat": "session", "features": ["reader-a"], "statistic": "icc-1"}})
    assert (metrics["designs"]["visits"]["subjects"], metrics["designs"]["visits"]["repeats"]) == (40, 2)


def test_several_rows_for_one_repeat_are_counted(tmp_path):
    with pytest.raises(UserError, match="40 have several rows"):
        run(tmp_path, {"readers": READERS | {"subject": "patient"}})


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"repeat": "colour", "features": ["reader-a"]}, "column 'colour'"),
        (KERNELS | {"levels": ["B", "D"]}, "no row has 'D'"),
        ({"repeat": "source", "features": ["reader-a"]}, "at least 3"),
    ],
)
def test_mistakes_are_told(tmp_path, design, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, {"x": design})


def test_results_are_the_same_bytes(tmp_path):
    one, _ = run(tmp_path / "a", {"readers": READERS, "kernels": KERNELS})
    again, _ = run(tmp_path / "c", {"readers": READERS, "kernels": KERNELS})
    for file in sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file()):
        assert (one / file).read_bytes() == (again / file).read_bytes(), file
    json.loads((one / "metrics.json").read_text())
