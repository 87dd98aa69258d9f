"""Curation of a simulated centre with every planted defect: codes and verdicts are the expected ones."""

from __future__ import annotations

from typing import get_args

import pandas as pd
import pytest
from polycentric import tables
from polycentric.config.codes import CODES
from polycentric.config.curation import CurationSettings
from polycentric.config.simulate import Defect, DefectCode, Scanner, SimulatedCentre, Simulation
from polycentric.curation import curate
from polycentric.index import build
from polycentric.jobs import SILENT
from polycentric.simulate import plan_cohort, simulate_centre
from polycentric.simulate.expected import EXPECTED
from polycentric.tables.private import FILES
from polycentric.tables.schemas import CURATION
from polycentric.tables.simulate import TRUTH

# what only pixels tell is found at conversion; simulated padding has no tag
PLANTED = [c for c in get_args(DefectCode) if CODES[c].stage == "curate" and c != "HU_IMPLAUSIBLE"]


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Truth, candidates and files of a centre with one patient per defect."""
    root = tmp_path_factory.mktemp("simulated")
    scanner = Scanner(matrix=40, slices=20, spacing_mm=(8.5, 8.5, 8.0), fwhm_mm=6, noise_hu=15)
    centres = {
        "west": SimulatedCentre(patients=len(PLANTED), scanner=scanner, defects=[Defect(code=c) for c in PLANTED])
    }
    simulation = Simulation(volume_ml=35, volume_range_ml=(18, 80))
    truth = root / "t.parquet"
    plan_cohort(centres, simulation, seed=11, clinical=root / "c.csv", truth=truth, effects=root / "e.json")
    simulate_centre(
        "west", centres["west"], simulation, seed=11, truth=truth, folder=root / "in", manifest=root / "m.tsv"
    )
    build("west", root / "in", output=root / "index.parquet", log=SILENT)
    curate(
        "west", root / "index.parquet", settings=CurationSettings(), salt=b"s" * 32,
        curation=root / "curation.parquet", files=root / "files.parquet", log=SILENT,
    )  # fmt: skip
    read = tables.read
    return read(truth, TRUTH), read(root / "curation.parquet", CURATION), read(root / "files.parquet", FILES)


@pytest.mark.parametrize("code", PLANTED)
def test_planted_defects_are_found(code: str, centre: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    truth, rows, files = centre
    (patient_id,) = truth.loc[truth["defect"] == code, "patient_id"]
    # files that name no patient, or another one, are found by their folder
    own = files[files["path"].str.split("/").str[0] == patient_id]
    scans = rows[rows["scan"].isin(set(own["scan"]))]
    expected = EXPECTED[code]
    if CODES[code].level == "file" and expected.level == "file" and code not in ";".join(scans["codes"]):
        assert code in set(own["code"])
    else:
        assert code in set(";".join(scans["codes"]).split(";"))
        if expected.verdict == "reject" and CODES[code].level != "structure":
            assert code in set(scans["excluded"])
    accepted = scans[(scans["verdict"] != "reject") & (scans["modality"] == "CT")]
    assert len(accepted) == expected.scans
