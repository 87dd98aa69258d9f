"""Time and peak memory of a whole study: `python benchmarks/study.py [config/studies/X.yaml] [--cores N]`.

Runs the study in a fresh copy of the project and samples the process tree five times a second. Memory is the sum of the
proportional set sizes (PSS: shared pages count once), and, for comparison, of the resident set sizes.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rules"))
import graph


def sample(process: psutil.Process) -> tuple[int, int]:
    """PSS and RSS of a process and all below it, bytes."""
    pss = rss = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            pss += one.memory_full_info().pss
            rss += one.memory_info().rss
        except psutil.Error:
            continue
    return pss, rss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="?", default="config/config.yaml")
    parser.add_argument("--cores", default="2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = graph.copy_project(Path(folder) / "project")
        data = graph.PROJECT / "data"
        if data.exists():
            (project / "data").symlink_to(data)
        command = [sys.executable, "-m", "snakemake", "--cores", options.cores, "--configfile", options.study]
        start, peaks = time.monotonic(), [0, 0]
        with (project / "run.log").open("w") as log:
            process = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
            while process.poll() is None:
                peaks = [max(pair) for pair in zip(peaks, sample(psutil.Process(process.pid)), strict=True)]
                time.sleep(0.2)
        seconds = time.monotonic() - start
        jobs = (project / "run.log").read_text().count("Finished jobid")
    print(f"{options.study}: {jobs} jobs, {seconds:.0f} s on {options.cores} of {psutil.cpu_count()} cores")
    print(f"peak memory of the process tree: {peaks[0] / 1e9:.2f} GB (PSS), {peaks[1] / 1e9:.2f} GB (RSS)")
    print(f"Python {platform.python_version()}, {platform.machine()}")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
