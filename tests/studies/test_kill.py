"""A study that is killed at any moment and started again gives the same bytes as an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import graph
import pytest
from trees import differences, tree

STUDY = "config/studies/smoke.yaml"


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "polycentric.tools.start", "--cores", "2", "--configfile", STUDY]
    environment = {**os.environ, "PYTHONPATH": str(folder / "workflow" / "scripts")}
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def finish(folder: Path) -> None:
    process = start(folder)
    assert process.wait(timeout=900) == 0, (folder / "run.log").read_text()[-5000:]


def kill_and_compare(tmp_path: Path, reference: dict[str, str], kills: list[float]) -> None:
    folder = graph.copy_project(tmp_path / "project")
    for seconds in kills:
        process = start(folder)
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finish(folder)
    again = tree(folder / "results" / "smoke")
    assert len(again) > 100
    assert differences(reference, again) == []


@pytest.fixture(scope="module")
def reference(finished: Path) -> dict[str, str]:
    return tree(finished / "results" / "smoke")


@pytest.mark.study
def test_three_kills_at_random_moments_change_no_byte(tmp_path: Path, reference: dict[str, str]) -> None:
    moments = random.Random(20261121)
    kill_and_compare(tmp_path, reference, [moments.uniform(5, 30) for _ in range(3)])


@pytest.mark.slow
@pytest.mark.study
@pytest.mark.parametrize("number", range(30))
def test_a_kill_at_any_moment_changes_no_byte(tmp_path: Path, reference: dict[str, str], number: int) -> None:
    kill_and_compare(tmp_path, reference, [random.Random(number).uniform(2, 55)])
