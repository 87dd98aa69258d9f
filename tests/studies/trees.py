"""Compare results trees byte by byte."""

from __future__ import annotations

from pathlib import Path

from polycentric.files import sha256_file

# run stamps: logs, timings, and the training state that a finished model no longer needs
EXCEPTED = ("logs", "benchmarks", "work")


def tree(results: Path) -> dict[str, str]:
    """Hash of every file of results, but for the excepted folders and what a killed job had begun to write."""
    return {
        path.relative_to(results).as_posix(): sha256_file(path)
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in EXCEPTED and not path.name.startswith(".tmp-")
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
