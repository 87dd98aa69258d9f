"""Sources and licences: every input has a row, restrictions are said, the page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from polycentric.config.report import ReportSettings
from polycentric.errors import UserError
from polycentric.report import build
from polycentric.report.licences import licences
from polycentric.tables.idc import Manifest, write_manifest
from report_support import factory


def series(n: int, modality: str, licence: str, doi: str, result: str = "") -> list[dict[str, Any]]:
    return [
        {
            "collection": "nsclc_radiomics", "patient_id": f"LUNG1-{k % 3}", "study_uid": "1.2", "modality": modality,
            "series_uid": f"1.{len(modality)}.{len(licence)}.{k}", "instances": 2, "size_bytes": 1000,
            "licence": licence, "doi": doi, "analysis_result": result, "transfer_syntax": "1.2", "revised": 3,
            "bucket": "idc-open-data", "series_uuid": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
        }
        for k in range(n)
    ]  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    rows = [
        *series(4, "CT", "CC BY-NC 3.0", "10.7937/original"), *series(2, "SEG", "CC BY-NC 3.0", "10.7937/original"),
        *series(5, "SEG", "CC BY 4.0", "10.5281/others", "nnu_net"),
    ]  # fmt: skip
    path = tmp_path / "m.tsv"
    write_manifest(Manifest(pd.DataFrame(rows), "{}", "idc-index-data 25.0.5"), path)
    return str(path)


def study(manifest: str) -> dict[str, Any]:
    source = {"description": "Chest CT.", "url": "https://doi.org/10.1/x", "licence": "CC BY-ND 4.0"}
    return {
        "centres": {
            "public": {"idc": {"manifest": manifest}},
            "given": {"images": "/data/given", "source": source},
            "own": {"images": "/data/own"},
            "toy": {"simulate": {"patients": 3}},
            "odd": {"images": "x", "source": {"description": "Old films.", "licence": "House rules of 1999"}},
        },
        "clinical": {"table": "/data/clinical.csv"},
        "features": {"ours": {"kind": "radiomics"}, "theirs": {"kind": "imported", "table": "x.csv"}},
        "segmentation": {"lung": {"import": {"path": "w", "source": {"description": "Lung.", "licence": "CC0 1.0"}}}},
        "synthesis": {"decontrast": {"import": {"path": "w.safetensors"}}, "own": {"import": None}},
    }


def test_every_input_has_a_row(manifest: str) -> None:
    found = licences(study(manifest))
    rows = {(row[0], row[2]): row for row in found.table.rows}
    assert [row[0] for row in found.table.rows] == [
        "images of public", "images of public", "images of given", "images of own", "images of toy", "images of odd",
        "clinical table", "feature set theirs", "weights of decontrast", "weights of lung",
    ]  # fmt: skip
    original = rows["images of public", "CC BY-NC 3.0"]
    assert original[1] == "nsclc_radiomics: 4 CT, 2 SEG series of 3 patients"
    assert original[3] == "https://doi.org/10.7937/original; idc-index-data 25.0.5"
    assert "analysis result nnu_net: 5 SEG series" in rows["images of public", "CC BY 4.0"][1]
    assert rows["images of given", "CC BY-ND 4.0"][1:] == ["Chest CT.", "CC BY-ND 4.0", "https://doi.org/10.1/x"]
    assert rows["images of own", "not stated"][3] == "not stated"
    assert not any("/data" in cell for row in found.table.rows for cell in row)


def test_restrictions_are_said_and_naming_the_authors_is_none(manifest: str) -> None:
    found = licences(study(manifest))
    assert found.restricted == [
        "CC BY-NC 3.0 (images of public) allows non-commercial use only.",
        "CC BY-ND 4.0 (images of given) forbids to share what is made from it, such as masks or synthetic images.",
        "House rules of 1999 (images of odd): read its text; its terms are not known here.",
    ]
    text = " ".join(found.notes)
    for expected in ("CC BY 4.0 (images of public) asks to name", "images of own, clinical table, feature set theirs"):
        assert expected in text
    assert "toy" not in text


def test_an_absent_manifest_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"polycentric\.tools\.freeze"):
        licences(study(str(tmp_path / "none.tsv")))


def test_the_report_has_them(manifest: str, tmp_path: Path) -> None:
    made = factory.make(tmp_path / "results", simulated=False)
    settings = {**made.settings, **study(manifest)}
    output = tmp_path / "report.html"
    build(ReportSettings(gallery=0), study=settings, root=made.root, inputs=made.inputs, output=output)
    page = output.read_text(encoding="utf-8")
    for expected in (
        "Data sources and licences", "CC BY-NC 3.0 (images of public) allows non-commercial use only.",
        "nsclc_radiomics: 4 CT, 2 SEG series of 3 patients", "The study file states no licence for: images of own",
    ):  # fmt: skip
        assert expected in page, expected
