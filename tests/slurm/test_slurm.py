"""The literal cluster command on a real Slurm of one node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SLURM = Path(__file__).with_name("slurm.sh")
TINY = Path(__file__).with_name("tiny.yaml")
PARTS = ("Snakefile", "config", "workflow", "profiles", "slurm", "envs", "requirements", "resources")
GPU_RULES = {"train_synthesis", "synthesize", "train_segmentation", "segment"}
ACCOUNT = "polycentric"


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Environment in which the Slurm commands speak to our cluster; one that was up already is left up."""
    was_up = subprocess.run(["bash", SLURM, "status"], capture_output=True, check=False).returncode == 0
    done = subprocess.run(["bash", SLURM, "up"], text=True, capture_output=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    configuration = re.search(r"SLURM_CONF='(.*)'", done.stdout)
    binaries = re.search(r"PATH='(.*)':", done.stdout)
    assert configuration
    assert binaries
    python = str(Path(sys.executable).parent)
    yield {
        **os.environ,
        "SLURM_CONF": configuration[1],
        "PATH": os.pathsep.join([binaries[1], python, os.environ["PATH"]]),
        "SBATCH_ACCOUNT": ACCOUNT,
    }
    if not was_up:
        subprocess.run(["bash", SLURM, "down"], check=True)


def copy_project(target: Path) -> Path:
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / part)
    (target / "tests" / "slurm").mkdir(parents=True)
    shutil.copy(TINY, target / "tests" / "slurm")
    return target


def accounting(environment: dict[str, str], run: str) -> list[dict[str, str]]:
    """One row per job of a Snakemake run, from Slurm's own accounting."""
    fields = ["jobid", "partition", "state", "alloctres", "account", "comment"]
    command = ["sacct", "-X", "-n", "-P", f"--name={run}", "-o", ",".join(fields)]
    text = subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout
    return [dict(zip(fields, line.split("|"), strict=True)) for line in text.splitlines()]


def rule_of(job: dict[str, str]) -> str:
    found = re.match(r"rule_(\w+?)(_wildcards_|$)", job["comment"])
    assert found, job
    return found[1]


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("study", "here"),
    [
        # all before the networks is made here first: a job of a second takes Slurm twenty
        pytest.param("tests/slurm/tiny.yaml", ["cohort/splits/outcome.tsv", "views/ct/main/north-0.tsv"], id="tiny"),
        pytest.param("config/studies/smoke.yaml", [], id="smoke", marks=pytest.mark.slow),
        pytest.param("config/config.yaml", [], id="toy", marks=pytest.mark.slow),
    ],
)
def test_cluster_command_puts_each_rule_into_its_partition(
    study: str, here: list[str], cluster: dict[str, str], tmp_path: Path
) -> None:
    project = copy_project(tmp_path)
    if here:
        targets = [f"results/{Path(study).stem}/{file}" for file in here]
        local = ["snakemake", *targets, "--cores", "2", "--configfile", study, "--nocolor"]
        made = subprocess.run(local, cwd=project, env=cluster, text=True, capture_output=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    command = ["snakemake", "--cores", "8", "--profile", "slurm", "--configfile", study, "--nocolor"]
    planned = subprocess.run([*command, "-n"], cwd=project, env=cluster, text=True, capture_output=True, check=False)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    table = re.findall(r"^(\w+) +(\d+)$", planned.stdout + planned.stderr, re.MULTILINE)
    rules = {rule for rule, _ in table} - {"all", "total"}

    # Jobs of these studies last seconds: look at them sooner than the profile does, and run every job only once.
    quick = ["--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5", "--retries", "0"]
    done = subprocess.run([*command, *quick], cwd=project, env=cluster, text=True, capture_output=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-10_000:]
    name = yaml.safe_load((project / study).read_text())["study"]
    assert (project / "results" / name / "report" / "report.html").exists()

    run = re.search(r"SLURM run ID: (\S+)", output)
    assert run, output[:3000]
    jobs = accounting(cluster, run[1])
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {job["account"] for job in jobs} == {ACCOUNT}
    seen = {rule_of(job) for job in jobs}
    assert seen <= rules
    assert seen & GPU_RULES == rules & GPU_RULES != set()
    for job in jobs:
        on_gpu = rule_of(job) in GPU_RULES
        assert job["partition"] == ("gpu" if on_gpu else "cpu"), job
        assert ("gres/gpu=1" in job["alloctres"].split(",")) == on_gpu, job


def test_profiles_share_no_key() -> None:
    """A key of profiles/default would replace the one of the cluster profile as a whole."""
    default = yaml.safe_load((PROJECT / "profiles/default/profile.yaml").read_text())
    for other in ("slurm/profile.yaml", "profiles/workstation/profile.yaml"):
        assert not set(default) & set(yaml.safe_load((PROJECT / other).read_text())), other


def test_profiles_are_real_folders_with_one_profile_file() -> None:
    """Symlinks break in archives; a profile folder without its file makes every run fail."""
    for folder in (PROJECT / "slurm", PROJECT / "profiles/default", PROJECT / "profiles/workstation"):
        assert not folder.is_symlink()
        assert [path.name for path in sorted(folder.glob("*")) if re.match(r"(profile|config)\.", path.name)] == [
            "profile.yaml"
        ]
