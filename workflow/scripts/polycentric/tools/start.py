"""Start Snakemake after a crash as after a clean end: what `make run` does.

A run that was killed leaves a lock and incomplete files. The lock is cleared only if no other Snakemake works in this
folder; incomplete files are made again.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

LOCK = Path(".snakemake") / "polycentric.lock"


def main(arguments: list[str]) -> int:
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            # the system frees this lock when its holder dies, whatever killed it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another `make run` works in this folder. Wait for it, or stop it first.", file=sys.stderr)
            return 1
        os.set_inheritable(lock.fileno(), True)
        command = [sys.executable, "-m", "snakemake", *arguments]
        if any((Path(".snakemake") / "locks").glob("*")):
            subprocess.run([*command, "--unlock"], check=True, pass_fds=(lock.fileno(),))
        return subprocess.run([*command, "--rerun-incomplete"], check=False, pass_fds=(lock.fileno(),)).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
