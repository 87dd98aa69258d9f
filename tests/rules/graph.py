"""Dry-runs for tests: which rules Snakemake would run, and why."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config", "workflow", "profiles", "slurm", "envs", "requirements", "resources")


def copy_project(target: Path) -> Path:
    """The files that a run needs, without results."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / part)
    return target


def snakemake(folder: Path, *arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=900, check=False, **options
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def planned(folder: Path, *arguments: str) -> Counter[str]:
    """Rules that a dry-run would run, with the number of their jobs; `all` is left out."""
    done = snakemake(folder, "--dry-run", "--quiet", "rules", *arguments)
    text = done.stdout + done.stderr
    done = snakemake(folder, "--dry-run", *arguments) if "Job stats" not in text else done
    table = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return Counter({rule: int(number) for rule, number in table if rule not in ("all", "total")})


def write_study(folder: Path, changes: dict, base: str = "config/studies/smoke.yaml") -> str:
    """A study file that changes some keys of another; returns its path relative to `folder`."""
    path = folder / "config" / "changed.yaml"
    path.write_text(yaml.safe_dump({"extends": os.path.relpath(base, "config"), **changes}))
    return "config/changed.yaml"
