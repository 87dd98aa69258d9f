"""The same study on other cores, shards and paths gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import graph
import pytest
from trees import differences, tree


@pytest.mark.slow
@pytest.mark.study
def test_cores_workers_and_path_change_no_byte(finished: Path, tmp_path: Path) -> None:
    folder = graph.copy_project(tmp_path / "another" / "path")
    path = graph.write_study(folder, {"workers": 2})
    graph.snakemake(folder, "--cores", "1", "--configfile", path)
    one, other = tree(finished / "results" / "smoke"), tree(folder / "results" / "smoke")
    # provenance and report print the study's settings, and so the number of workers
    assert set(differences(one, other)) <= {"report/report.html", "report/provenance.json"}


@pytest.mark.slow
@pytest.mark.study
def test_shards_change_no_number(finished: Path, tmp_path: Path) -> None:
    folder = graph.copy_project(tmp_path / "shards")
    path = graph.write_study(folder, {"centres": {"north": {"shards": 3}, "south": {"shards": 2}}})
    graph.snakemake(folder, "--configfile", path)
    one, other = tree(finished / "results" / "smoke"), tree(folder / "results" / "smoke")
    for name in one:
        if name.startswith(("models/", "cohort/splits/", "features/")) and name.count("/") < 3 and name in other:
            if name.startswith("features/") and name.count("/") > 1:
                continue
            assert one[name] == other[name], name
    for name in one:
        if name.startswith("analyses/") and name.endswith("metrics.json"):
            assert one[name] == other[name], name
