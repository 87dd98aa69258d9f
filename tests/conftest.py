"""Fixtures that several test folders share."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
for folder in ("rules", "studies"):
    sys.path.insert(0, str(PROJECT / "tests" / folder))


@pytest.hookimpl(tryfirst=True)  # before the workers read the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares costly fixtures stays on one worker: the tests of a file, and all that need the finished study."""
    for item in items:
        study = {"finished", "project"} & set(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("study" if study else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def realdata() -> Callable[[str], Path]:
    """`realdata("lung1")`: the unpacked archive of real data, or a skip that says what is missing.

    The archives lie in ../shared/data (or $POLYCENTRIC_SHARED_DATA); they are unpacked once below data/, which git
    ignores.
    """

    def unpack(name: str) -> Path:
        source = Path(os.environ.get("POLYCENTRIC_SHARED_DATA", PROJECT.parent / "shared" / "data"))
        if not (source / "unpack.sh").exists():
            pytest.skip(f"real data ({name}) is not there: {source} holds no unpack.sh")
        target = Path(os.environ.get("POLYCENTRIC_DATA", PROJECT / "data"))
        target.mkdir(parents=True, exist_ok=True)
        with (target / f".{name}.lock").open("w") as lock:  # another worker may be unpacking it
            fcntl.flock(lock, fcntl.LOCK_EX)
            command = ["bash", str(source / "unpack.sh"), str(target), name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return target / name

    return unpack


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the smoke study has run; tests that change it take `project`."""
    import graph

    folder = graph.copy_project(tmp_path_factory.mktemp("finished") / "project")
    graph.snakemake(folder, "--configfile", "config/studies/smoke.yaml")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
