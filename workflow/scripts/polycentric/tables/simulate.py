"""Schemas of simulated cohorts: the truth behind the patients, and the files that were written."""

from __future__ import annotations

from ..columns import VERDICTS, integer, number, optional, text
from . import Column, Schema

LEVELS = ("file", "series", "extra series", "structure")

TRUTH = Schema(
    "simulated-truth",
    1,
    {
        "centre": text("name of the centre in the study file"),
        "patient_id": text("patient number of the simulated hospital, as in headers and clinical table"),
        "scanned": Column("flag", "whether the patient has a scan"),
        "clinical": Column("flag", "whether the clinical table has the patient"),
        "sex": text("sex", "F", "M"),
        "age_years": integer("age at the scan"),
        "stage": text("stage, before cells were emptied", "I", "II", "III", "IV"),
        "pack_years": number("pack years of smoking, before cells were emptied"),
        "contrast": text("contrast agent given", "yes", "no"),
        "enhancement_hu": number("what contrast agent adds to the blood; 0 without"),
        "blood_hu": number("HU of heart and vessels, without the scanner's offset"),
        "tumour_hu": number("mean HU of the tumour, without the scanner's offset"),
        "volume_ml": number("volume of the tumour"),
        "heterogeneity_hu": number("standard deviation of the tumour's texture"),
        "z_volume": number("standardised log volume, the latent behind the planted effects"),
        "z_heterogeneity": number("standardised log heterogeneity"),
        "z_age": number("(age - 65) / 10"),
        "log_odds": number("linear predictor of the outcome 'severe'"),
        "severe": text("outcome", "yes", "no"),
        "log_hazard": number("log hazard ratio of death against the average patient"),
        "death_days": number("time of death without censoring"),
        "censored_days": number("time at which follow-up ends"),
        "survival_days": integer("observed time"),
        "dead": integer("1 if death was observed"),
        "defect": optional("text", "code that curation must report; empty without a defect"),
        "defect_level": optional("text", "what the defect concerns", *LEVELS),
        "defect_verdict": optional("text", "verdict that the defect deserves by default", *VERDICTS),
        "scans_expected": integer("scans of the patient that curation accepts by default"),
        "masks_expected": integer("tumour contours that can be mapped to an accepted scan by default"),
    },
    key=("patient_id",),
)
SIMULATED = Schema(
    "simulated-files",
    1,
    {
        "path": text("file relative to the centre's folder"),
        "bytes": integer("size"),
        "sha256": text("SHA-256 of the file"),
    },
    key=("path",),
)
