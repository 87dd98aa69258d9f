"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


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
        subprocess.run(["bash", str(source / "unpack.sh"), str(target), name], check=True, stdout=subprocess.DEVNULL)
        return target / name

    return unpack
