"""Planned cohorts: planted effects are recovered by other packages, and nothing depends on other centres."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.config.simulate import Defect, DefectCode, Scanner, SimulatedCentre, Simulation
from polycentric.errors import UserError
from polycentric.files import read_json
from polycentric.simulate import plan_cohort
from polycentric.simulate.expected import EXPECTED
from polycentric.tables.simulate import TRUTH
from pydantic import ValidationError
from scipy import stats

CHEST = Scanner(matrix=64, slices=32, spacing_mm=(5.5, 5.5, 6.0))


def plan(folder: Path, centres: dict[str, SimulatedCentre], simulation: Simulation, seed: int = 3) -> pd.DataFrame:
    plan_cohort(
        centres,
        simulation,
        seed=seed,
        clinical=folder / "clinical.csv",
        truth=folder / "truth.parquet",
        effects=folder / "effects.json",
    )
    return tables.read(folder / "truth.parquet", TRUTH)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, dict[str, float]]:
    folder = tmp_path_factory.mktemp("large")
    simulation = Simulation(hazard_log_heterogeneity=-0.25)
    frame = plan(folder, {"north": SimulatedCentre(patients=5000, scanner=CHEST)}, simulation, seed=5)
    return frame, read_json(folder / "effects.json")["effects"]


def test_planted_odds_are_recovered_by_statsmodels(large):
    import statsmodels.api as sm

    frame, effects = large
    terms = ["z_volume", "z_heterogeneity", "z_age"]
    fit = sm.Logit((frame["severe"] == "yes").astype(float), sm.add_constant(frame[terms].astype(float))).fit(disp=0)
    for term, name in [("const", "log_odds_intercept"), *((t, f"log_odds_{t}") for t in terms)]:
        assert abs(fit.params[term] - effects[name]) < 3 * fit.bse[term], term
        assert fit.bse[term] < 0.06


def test_planted_hazards_are_recovered_by_lifelines(large):
    from lifelines import CoxPHFitter

    frame, effects = large
    terms = ["z_volume", "z_heterogeneity", "z_age"]
    fit = CoxPHFitter().fit(frame[[*terms, "survival_days", "dead"]].astype(float), "survival_days", "dead")
    for term in terms:
        assert abs(fit.params_[term] - effects[f"log_hazard_{term}"]) < 3 * fit.standard_errors_[term], term
        assert fit.standard_errors_[term] < 0.03


def test_the_baseline_hazard_is_the_weibull_that_was_asked_for(large):
    frame, effects = large
    cumulative = (frame["death_days"] / effects["weibull_scale_days"]) ** effects["weibull_shape"]
    residual = cumulative * np.exp(frame["log_hazard"])  # Cox-Snell residuals are standard exponential
    assert stats.kstest(residual, "expon").pvalue > 0.001
    median = effects["weibull_scale_days"] * math.log(2) ** (1 / effects["weibull_shape"])
    assert median == pytest.approx(Simulation().median_survival_days)


def test_censoring_follows_rate_and_end_of_follow_up(large):
    frame, _ = large
    simulation = Simulation()
    assert frame["censored_days"].max() == simulation.follow_up_days
    lost = frame["censored_days"] < simulation.follow_up_days
    expected = 1 - math.exp(-simulation.censoring_rate_per_year * simulation.follow_up_days / 365.25)
    assert lost.mean() == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / len(frame)))
    observed = frame[["death_days", "censored_days"]].min(axis=1)
    assert (frame["survival_days"] == np.ceil(observed).clip(lower=1)).all()
    assert (frame["dead"] == (frame["death_days"] <= frame["censored_days"])).all()


def test_volumes_and_enhancement_have_the_distributions_asked_for(large):
    frame, _ = large
    simulation = Simulation()
    low, high = (math.log(v / simulation.volume_ml) / simulation.volume_log_sd for v in simulation.volume_range_ml)
    assert stats.kstest(frame["z_volume"], stats.truncnorm(low, high).cdf).pvalue > 0.001
    assert frame["volume_ml"].between(*simulation.volume_range_ml).all()
    given = frame[frame["contrast"] == "yes"]
    assert len(given) == 2500
    assert given["enhancement_hu"].mean() == pytest.approx(150, abs=3 * 30 / 50)
    assert given["enhancement_hu"].std() == pytest.approx(30, abs=3 * 30 / math.sqrt(2 * 2500))
    assert (frame.loc[frame["contrast"] == "no", "blood_hu"] == 40).all()


def test_a_centre_does_not_depend_on_the_others_or_their_order(tmp_path):
    north = SimulatedCentre(patients=6, scanner=CHEST, defects=[Defect(code="DUP_EXACT", count=2)])
    south = SimulatedCentre(patients=5, scanner=CHEST, contrast_fraction=0.2)
    one = plan(tmp_path / "one", {"north": north, "south": south}, Simulation())
    two = plan(tmp_path / "two", {"west": south, "south": south, "north": north}, Simulation())
    shared = two[two["centre"] != "west"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, shared)
    again = tmp_path / "three"
    plan(again, {"south": south, "north": north}, Simulation())
    for name in ("clinical.csv", "truth.parquet", "effects.json"):
        assert (again / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    other = plan(tmp_path / "four", {"north": north, "south": south}, Simulation(), seed=4)
    assert not np.isclose(other["volume_ml"], one["volume_ml"]).any()


def test_clinical_table_shows_what_a_hospital_would_know(tmp_path):
    centre = SimulatedCentre(
        patients=40,
        scanner=CHEST,
        without_scans=2,
        without_clinical=3,
        defects=[Defect(code="RT_ROI_MISSING", count=4)],
    )
    truth = plan(tmp_path, {"north": centre}, Simulation(missing_share=0.25)).set_index("patient_id")
    clinical = pd.read_csv(tmp_path / "clinical.csv").set_index("patient_id")
    assert not clinical.index.duplicated().any()
    assert sorted(clinical.index) == sorted(truth.index[truth["clinical"]])
    assert len(truth) == 42
    assert (~truth["scanned"]).sum() == 2
    assert (~truth["clinical"]).sum() == 3
    assert not (set(truth.index[~truth["clinical"]]) & set(truth.index[truth["defect"] != ""]))
    for column in ("age_years", "sex", "severe", "survival_days", "dead"):
        assert clinical[column].tolist() == truth.loc[clinical.index, column].tolist()
    known = clinical["stage"].dropna()
    assert known.tolist() == truth.loc[known.index, "stage"].tolist()
    assert 1 <= clinical["stage"].isna().sum() <= 20  # binomial(39, 0.25): outside with probability 1e-4
    assert clinical["contrast"].isna().sum() == 2
    assert {c for c in clinical.columns if c.startswith("z_") or "volume" in c} == set()
    found = truth[truth["defect"] != ""]
    assert len(found) == 4
    assert (found["scans_expected"] == 1).all()
    assert (found["masks_expected"] == 0).all()


def test_every_defect_has_an_expectation():
    assert set(EXPECTED) == set(get_args(DefectCode))
    for expected in EXPECTED.values():
        if expected.verdict == "reject" and expected.level in ("file", "series"):
            assert (expected.scans, expected.masks) == (0, 0)
        if expected.verdict == "reject" and expected.level == "structure":
            assert (expected.scans, expected.masks) == (1, 0)


def test_user_errors_name_the_key_and_what_to_write(tmp_path):
    centre = SimulatedCentre(patients=4, scanner=CHEST)
    with pytest.raises(UserError, match=r"centres\.norway\.simulate\.prefix.*'NORB'"):
        plan(tmp_path, {"north": centre, "norway": centre}, Simulation())
    with pytest.raises(UserError, match=r"simulation\.volume_range_ml from 4\.5 mL"):
        plan(tmp_path, {"north": centre}, Simulation(volume_range_ml=(2, 90)))
    with pytest.raises(ValidationError, match="there are 4 and each gets one defect"):
        SimulatedCentre(patients=4, defects=[Defect(code="DUP_EXACT", count=5)])
    with pytest.raises(ValidationError, match="write each code once"):
        SimulatedCentre(defects=[Defect(code="DUP_EXACT"), Defect(code="DUP_EXACT")])
    with pytest.raises(ValidationError, match=r"spacing_mm of at least 4\.38"):
        Scanner(matrix=64, slices=32, spacing_mm=(4, 4, 6))
    with pytest.raises(ValidationError, match="at least 20 slices"):
        Scanner(matrix=64, slices=16, spacing_mm=(5, 5, 6))
    with pytest.raises(ValidationError, match="does not hold the median"):
        Simulation(volume_range_ml=(30, 90))
