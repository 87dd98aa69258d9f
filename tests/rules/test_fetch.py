"""Centres of the Imaging Data Commons in the graph: planned, refused where the query changed, no network needed."""

from __future__ import annotations

import uuid
from pathlib import Path

import graph
import pandas as pd
import pytest
import tiny_dicom
import yaml
from polycentric.config.idc import IdcSource, query_text
from polycentric.tables.idc import Manifest, write_manifest

EXAMPLE = "config/studies/interobserver1.yaml"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph.copy_project(tmp_path_factory.mktemp("fetch") / "project")


def test_the_example_is_planned_without_data_network_or_index(clone: Path) -> None:
    text = graph.snakemake(clone, "-n", "--configfile", EXAMPLE).stdout
    assert "fetch_idc" in text
    assert "simulate_centre" not in text


def test_a_query_that_was_not_frozen_is_refused_before_any_job(clone: Path) -> None:
    study = yaml.safe_load((clone / EXAMPLE).read_text())
    study["centres"]["maastro"]["idc"]["patients"] = 3
    (clone / "other.yaml").write_text(yaml.safe_dump(study))
    done = graph.snakemake(clone, "-n", "--configfile", "other.yaml", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "centres.maastro.idc.manifest" in text
    assert "polycentric.tools.freeze STUDY.yaml --update" in text
    assert "Traceback" not in text


def test_the_centre_is_what_the_manifest_lists_and_nothing_else(clone: Path) -> None:
    folder = clone / "data" / "idc"
    folder.mkdir(parents=True)
    rows = []
    for name, listed in (("wanted", True), ("other", False)):
        images = tiny_dicom.series(5, name=name, patient=name)
        for number, image in enumerate(images):
            image.save_as(folder / f"{name}-{number}")
        if listed:
            rows.append(
                {
                    "collection": "small", "patient_id": name, "study_uid": images[0].StudyInstanceUID,
                    "modality": "CT", "series_uid": images[0].SeriesInstanceUID, "instances": 5,
                    "size_bytes": sum(p.stat().st_size for p in folder.glob(f"{name}-*")), "licence": "CC BY 4.0",
                    "doi": "", "analysis_result": "", "transfer_syntax": "1.2", "revised": 1,
                    "bucket": "idc-open-data", "series_uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
                }
            )  # fmt: skip
    section = {"collection": "small", "manifest": "small.tsv", "download": False}
    frozen = Manifest(pd.DataFrame(rows), query_text(IdcSource.model_validate(section)), "test")
    write_manifest(frozen, clone / "small.tsv")
    (clone / "small.yaml").write_text(yaml.safe_dump({"study": "small", "centres": {"north": {"idc": section}}}))
    graph.snakemake(clone, "private/small/index/north.parquet", "--configfile", "small.yaml")
    index = pd.read_parquet(clone / "private" / "small" / "index" / "north.parquet")
    assert sorted(index["path"]) == [f"wanted-{n}" for n in range(5)]
