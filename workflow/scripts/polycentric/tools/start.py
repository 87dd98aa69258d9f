"""Start Snakemake after a crash as after a clean end: what `make run` does.

A run that was killed leaves a lock and incomplete files. The lock is cleared only if no other Snakemake works in this
folder; incomplete files are made again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil


def others() -> list[int]:
    """Snakemake processes at work in this folder."""
    here, found = Path.cwd(), []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and process.info["cwd"] == str(here) and any("snakemake" in w for w in words):
            found.append(process.pid)
    return found


def main(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "snakemake", *arguments]
    if any((Path(".snakemake") / "locks").glob("*")):
        if pids := others():
            numbers = ", ".join(map(str, pids))
            print(f"Snakemake works in this folder already (process {numbers}). Wait for it, or stop it first.")
            return 1
        subprocess.run([*command, "--unlock"], check=True)
    return subprocess.run([*command, "--rerun-incomplete"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
