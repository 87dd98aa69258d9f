from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import graph


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the smoke study has run; tests that change it copy it."""
    folder = graph.copy_project(tmp_path_factory.mktemp("finished") / "project")
    graph.snakemake(folder, "--configfile", "config/studies/smoke.yaml")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
