"""Standardised uptake values: factors against values calculated by hand, and against real PET."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from polycentric.curation import suv
from tiny_index import PET, one, slices

# 70 kg, 370 MBq of F-18 injected at 10:00, scanned from 11:00. 3600 s are 0.546597 half-lives of 6586.2 s, which leave
# 2^-0.546597 = 0.684632 of the activity: 253.314 MBq. 70,000 g / 253.314 MBq = 2.76337e-4 g/Bq.
F18 = {
    "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY"],
    "PatientWeight": 70.0, "SeriesDate": "20200101", "SeriesTime": "110000", "AcquisitionDate": "20200101",
    "AcquisitionTime": "110000.00", "RadiopharmaceuticalStartTime": "100000.00", "RadionuclideTotalDose": 370e6,
    "RadionuclideHalfLife": 6586.2,
}  # fmt: skip
BY_HAND = 2.76337e-4


def factor(*changes: dict[str, object]) -> pd.Series:
    return suv.factors(pd.DataFrame({"pet": [json.dumps(F18 | change) for change in changes]}))


def test_factor_by_hand() -> None:
    assert factor({}).tolist() == pytest.approx([BY_HAND], rel=1e-5)
    # decay-corrected to the injection: 70,000 g / 370 MBq
    assert factor({"DecayCorrection": "ADMIN"}).tolist() == pytest.approx([1.891892e-4], rel=1e-6)
    assert factor({"Units": "GML"}).tolist() == [1.0]
    assert factor({"Units": "CNTS", "PhilipsSUVFactor": 0.000551}).tolist() == [0.000551]
    assert factor({"Units": "CNTS", "PhilipsActivityFactor": 2.0}).tolist() == pytest.approx([2 * BY_HAND], rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"RadiopharmaceuticalStartDateTime": "20200101100000.00", "RadiopharmaceuticalStartTime": ""},
        {"CorrectedImage": "NORM\\ATTN\\DECY"},
        {"SeriesTime": "11:00:00"},
        {"PatientWeight": "70"},
        # a series that was processed in the evening bears that time; the acquisition tells
        {"SeriesTime": "183000"},
        # bed positions later in the scan are corrected to its start. A frame of 180 s (x = 180 ln 2 / 6586.2 =
        # 0.018944) has its mean activity after x/2 - x^2/24 = 0.009457 of 1/lambda = 9501.9 s, that is 89.86 s
        {"SeriesTime": "183000", "AcquisitionTime": "111500", "FrameReferenceTime": 989858.0,
         "ActualFrameDuration": 180000},
    ],
)  # fmt: skip
def test_the_same_injection_written_in_other_ways(change: dict[str, object]) -> None:
    assert factor(change).tolist() == pytest.approx([BY_HAND], rel=2e-5)


def test_scans_after_midnight() -> None:
    late = {"SeriesTime": "003000", "AcquisitionTime": "003000", "RadiopharmaceuticalStartTime": "233000"}
    assert factor(late).tolist() == pytest.approx([BY_HAND], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PatientWeight": None}, "body weight"), ({"PatientWeight": 0}, "body weight"),
        ({"RadionuclideTotalDose": None}, "injected activity"), ({"RadionuclideTotalDose": 370.0}, "370 Bq cannot be"),
        ({"RadionuclideHalfLife": None}, "half-life"), ({"RadiopharmaceuticalStartTime": ""}, "time of injection"),
        ({"DecayCorrection": "NONE"}, "decay correction NONE"), ({"DecayCorrection": None}, "decay correction"),
        ({"CorrectedImage": ["NORM", "DECY"]}, "attenuation"), ({"Units": "PROPCPS"}, "unit PROPCPS"),
        ({"Units": "CNTS"}, "counts"), ({"Units": "GML", "SUVType": "LBM"}, "LBM"),
        ({"RadiopharmaceuticalStartDateTime": "20200102100000"}, "cannot be"),
        ({"SeriesTime": "", "AcquisitionTime": ""}, "time of the scan"),
    ],
)  # fmt: skip
def test_what_makes_uptake_uncomputable(change: dict[str, object], words: str) -> None:
    with pytest.raises(suv.Uncomputable, match=words):
        factor(change)


def pet(**change: object) -> pd.DataFrame:
    return slices(modality="PT", sop_class=PET, kernel="", kvp=None, intercept=0.0, pet=json.dumps(F18 | change))


def test_factors_reach_the_table_of_files() -> None:
    row, files = one(pet(), preset="pet")
    assert (row["verdict"], row["codes"]) == ("accept", "")
    assert files["suv_factor"].tolist() == pytest.approx([BY_HAND] * 12, rel=1e-5)
    row, files = one(pet(PatientWeight=None), preset="pet")
    assert (row["excluded"], row["reason"]) == ("SUV_UNCOMPUTABLE", "SUV_UNCOMPUTABLE: no body weight")
    row, files = one(pet(PatientWeight=None), preset="pet", verdicts={"SUV_UNCOMPUTABLE": "flag"})
    assert row["verdict"] == "flag"
    assert files["suv_factor"].isna().all()


@pytest.mark.realdata
def test_real_pet_is_in_units_of_uptake(realdata: Callable[[str], Path]) -> None:
    """The sarcoma PETs are stored as g/mL; from their injections, their activity at the injection follows."""
    for path in sorted(realdata("sts").glob("STS_*/PET/image")):
        data = pydicom.dcmread(next(iter(sorted(path.glob("*.dcm")))), stop_before_pixels=True)
        injected = data.RadiopharmaceuticalInformationSequence[0]
        facts = {
            "Units": data.Units, "DecayCorrection": data.DecayCorrection, "CorrectedImage": list(data.CorrectedImage),
            "PatientWeight": float(data.PatientWeight), "SeriesDate": data.SeriesDate, "SeriesTime": data.SeriesTime,
            "RadiopharmaceuticalStartTime": injected.RadiopharmaceuticalStartTime,
            "RadionuclideTotalDose": float(injected.RadionuclideTotalDose),
            "RadionuclideHalfLife": float(injected.RadionuclideHalfLife),
        }  # fmt: skip
        assert factor(facts).tolist() == [1.0]
        weight, dose = facts["PatientWeight"], facts["RadionuclideTotalDose"]
        expected = 1000 * weight / dose
        assert factor(facts | {"Units": "BQML"}).tolist() == pytest.approx([expected])
        assert 1e-4 < expected < 4e-4  # 55 to 111 kg, 360 to 451 MBq
