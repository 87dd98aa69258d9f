"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
for folder in ("rules", "studies"):
    sys.path.insert(0, str(PROJECT / "tests" / folder))


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Only one worker at a time."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


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
        with alone(target / f".{name}.lock"):
            command = ["bash", str(source / "unpack.sh"), str(target), name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return target / name

    return unpack


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the smoke study has run, once for all workers; who changes it takes `project`."""
    import graph

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / "finished", base / "finished.done"
    with alone(base / "finished.lock"):
        if not done.exists():
            graph.copy_project(folder)
            graph.snakemake(folder, "--configfile", "config/studies/smoke.yaml")
            done.touch()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A finished project of the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
