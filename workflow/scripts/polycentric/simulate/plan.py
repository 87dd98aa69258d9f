"""Patients, their planted effects and their defects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.simulate import SimulatedCentre, Simulation, patient_prefix, problems
from ..errors import UserError
from ..files import atomic, write_json
from ..randomness import generator
from ..tables.simulate import TRUTH
from .expected import EXPECTED

NATIVE_BLOOD_HU = 40.0
NATIVE_TUMOUR_HU = 35.0
AGE_MEAN, AGE_SD = 65.0, 10.0
CLINICAL_COLUMNS = (
    "patient_id", "centre", "age_years", "sex", "stage", "pack_years", "contrast", "severe", "survival_days", "dead",
)  # fmt: skip


def plan_cohort(
    centres: Mapping[str, SimulatedCentre],
    simulation: Simulation,
    *,
    seed: int,
    clinical: Path,
    truth: Path,
    effects: Path,
) -> None:
    """Draw every centre's patients; write the clinical table (CSV), the truth (Parquet) and the effects (JSON).

    A centre's patients depend on the seed, the centre's own settings and the effects, not on the other centres.

    Raises
    ------
    UserError
        if centres share patient numbers, or tumours would have too few voxels.
    """
    if found := [f"{where}: {what}" for where, what in problems(centres, simulation)]:
        raise UserError(*found)
    rows = [row for name in sorted(centres) for row in plan_centre(name, centres[name], simulation, seed=seed)]
    frame = tables.write(rows, truth, TRUTH)
    _write_clinical(frame, simulation, seed, clinical)
    write_json(effects, {"schema_version": 1, "seed": seed, "effects": planted(simulation)})


def planted(simulation: Simulation) -> dict[str, float]:
    """The planted coefficients by name: log odds and log hazard per standard deviation, and the baselines."""
    return {
        "log_odds_intercept": math.log(simulation.outcome_share / (1 - simulation.outcome_share)),
        "log_odds_z_volume": simulation.outcome_log_odds_volume,
        "log_odds_z_heterogeneity": simulation.outcome_log_odds_heterogeneity,
        "log_odds_z_age": simulation.outcome_log_odds_age,
        "log_hazard_z_volume": simulation.hazard_log_volume,
        "log_hazard_z_heterogeneity": simulation.hazard_log_heterogeneity,
        "log_hazard_z_age": simulation.hazard_log_age,
        "weibull_shape": simulation.survival_shape,
        "weibull_scale_days": simulation.median_survival_days / math.log(2) ** (1 / simulation.survival_shape),
    }


def plan_centre(name: str, centre: SimulatedCentre, simulation: Simulation, *, seed: int) -> list[dict[str, Any]]:
    """Truth rows of a centre's patients, those without scans last."""
    rng = generator(seed, "simulate", name, "plan")
    total = centre.patients
    # exact shares instead of coin flips: a small cohort must have patients of both kinds
    contrast = rng.permutation(total) < round(centre.contrast_fraction * total)
    order = rng.permutation(total)
    defects = dict(zip(order.tolist(), [d.code for d in centre.defects for _ in range(d.count)], strict=False))
    # those that the clinical table lacks come from the other end, so that they have no defect if possible
    unlisted = set(order[::-1][: centre.without_clinical].tolist())
    prefix = patient_prefix(name, centre)
    rows = []
    for index in range(total + centre.without_scans):
        patient = f"{prefix}{index + 1:04d}"
        scanned = index < total
        rows.append(
            {
                "centre": name,
                "patient_id": patient,
                "scanned": scanned,
                "clinical": index not in unlisted,
                **_patient(simulation, generator(seed, "simulate", name, patient), scanned and bool(contrast[index])),
                **_expectation(defects.get(index), scanned),
            }
        )
    return rows


def _expectation(code: str | None, scanned: bool) -> dict[str, Any]:
    if code is None:
        return {
            "defect": "", "defect_level": "", "defect_verdict": "",
            "scans_expected": int(scanned), "masks_expected": int(scanned),
        }  # fmt: skip
    expected = EXPECTED[code]
    return {
        "defect": code,
        "defect_level": expected.level,
        "defect_verdict": expected.verdict,
        "scans_expected": expected.scans,
        "masks_expected": expected.masks,
    }


def _patient(simulation: Simulation, rng: np.random.Generator, contrast: bool) -> dict[str, Any]:
    effects = planted(simulation)
    low, high = (math.log(v / simulation.volume_ml) / simulation.volume_log_sd for v in simulation.volume_range_ml)
    z_volume = rng.normal()
    while not low <= z_volume <= high:  # truncated normal by rejection
        z_volume = rng.normal()
    z_heterogeneity = float(np.clip(rng.normal(), -2.5, 2.5))
    age = int(np.clip(round(rng.normal(AGE_MEAN, AGE_SD)), 35, 92))
    z = {"z_volume": z_volume, "z_heterogeneity": z_heterogeneity, "z_age": (age - AGE_MEAN) / AGE_SD}
    log_odds = effects["log_odds_intercept"] + sum(effects[f"log_odds_{k}"] * v for k, v in z.items())
    log_hazard = sum(effects[f"log_hazard_{k}"] * v for k, v in z.items())
    severe = rng.random() < 1 / (1 + math.exp(-log_odds))
    # Bender, Augustin & Blettner (2005), Stat Med 24:1713, section 3: T = scale * (-log U / exp(lp)) ** (1 / shape)
    death = effects["weibull_scale_days"] * (rng.exponential() / math.exp(log_hazard)) ** (1 / effects["weibull_shape"])
    rate = simulation.censoring_rate_per_year / 365.25
    lost = rng.exponential() / rate if rate else math.inf
    censored = min(lost, simulation.follow_up_days)
    # large tumours have higher stages, as in life; stage has no effect of its own
    stage = ("I", "II", "III", "IV")[int(np.clip(math.floor(1.5 + 0.8 * z_volume + rng.normal(0, 0.8)), 0, 3))]
    smoker = rng.random() < 0.8
    pack_years = round(rng.gamma(4, 9), 1)
    sex = "M" if rng.random() < 0.6 else "F"
    mean, sd = simulation.enhancement_hu
    enhancement = max(rng.normal(mean, sd), 0.4 * mean) if contrast else 0.0
    return {
        "sex": sex,
        "age_years": age,
        "stage": stage,
        "pack_years": pack_years if smoker else 0.0,
        "contrast": "yes" if contrast else "no",
        "enhancement_hu": enhancement,
        "blood_hu": NATIVE_BLOOD_HU + enhancement,
        "tumour_hu": NATIVE_TUMOUR_HU + simulation.tumour_uptake * enhancement,
        "volume_ml": simulation.volume_ml * math.exp(simulation.volume_log_sd * z_volume),
        "heterogeneity_hu": simulation.heterogeneity_hu * math.exp(simulation.heterogeneity_log_sd * z_heterogeneity),
        **z,
        "log_odds": log_odds,
        "severe": "yes" if severe else "no",
        "log_hazard": log_hazard,
        "death_days": death,
        "censored_days": censored,
        "survival_days": max(1, math.ceil(min(death, censored))),
        "dead": int(death <= censored),
    }


def _write_clinical(truth: pd.DataFrame, simulation: Simulation, seed: int, path: Path) -> None:
    frame = truth.loc[truth["clinical"], list(CLINICAL_COLUMNS)].copy()
    for column in ("stage", "pack_years"):
        empty = [
            generator(seed, "simulate", "missing", column, patient).random() < simulation.missing_share
            for patient in frame["patient_id"]
        ]
        frame[column] = frame[column].mask(pd.Series(empty, index=frame.index))
    # patients without a scan have no contrast status
    frame["contrast"] = frame["contrast"].mask(~truth.loc[frame.index, "scanned"])
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
