"""The graph: lint, sizes, planning time, messages of bad study files."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import graph
import pytest
import yaml
from polycentric.config.study import Study
from polycentric.files import sha256_file

STUDIES = ["config/config.yaml", "config/studies/smoke.yaml"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph.copy_project(tmp_path_factory.mktemp("clone") / "project")


def test_the_default_study_is_planned_without_a_configfile(clone: Path) -> None:
    jobs = graph.planned(clone)
    assert jobs["train_synthesis"] == 1
    assert jobs["train_segmentation"] == 1
    assert sum(jobs.values()) + 1 <= 80, "the toy study promises at most 80 jobs"


@pytest.mark.parametrize("study", STUDIES)
def test_every_stage_is_in_the_study(clone: Path, study: str) -> None:
    jobs = graph.planned(clone, "--configfile", study)
    stages = {
        "simulate_centre", "index", "curate", "cohort", "split", "convert", "prepare", "train_synthesis", "synthesize",
        "train_segmentation", "segment", "extract", "describe", "classify", "survive", "fidelity",
        "segmentation_quality", "export_readers", "ingest_readers", "provenance", "report",
    }  # fmt: skip
    assert stages <= set(jobs)


def test_the_cluster_command_plans(clone: Path) -> None:
    done = graph.snakemake(clone, "--cores", "8", "--profile", "slurm", "-n")
    assert "train_synthesis" in done.stdout + done.stderr


def test_lint_is_clean(clone: Path) -> None:
    done = graph.snakemake(clone, "--lint", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_two_thousand_scans_are_planned_in_ten_seconds(clone: Path) -> None:
    centre = {"patients": 167, "scanner": {"matrix": 56, "spacing_mm": [6, 6, 6], "slices": 32}}
    centres = {
        f"site{n}": {
            "simulate": {**centre, "patients": 167},
            "shards": 4,
            "role": "external" if n > 9 else "development",
        }
        for n in range(12)
    }
    study = {"study": "large", "centres": {"north": None, "south": None, "east": None, **centres}}
    path = graph.write_study(clone, study, base="config/config.yaml")
    # of the processor, since other tests run beside this one
    start = _child_seconds()
    jobs = graph.planned(clone, "--configfile", path)
    seconds = _child_seconds() - start
    assert jobs["convert"] == 48
    assert sum(jobs.values()) < 2000
    assert seconds < 10, f"planning {sum(jobs.values())} jobs took {seconds:.1f} s"


def test_a_thousand_permutations_are_fifty_jobs_before_one_analysis(clone: Path) -> None:
    changes = {
        "analyses": {name: {"permutations": 1000, "permutation_shards": 50} for name in ("severity", "survival")}
    }
    jobs = graph.planned(clone, "--configfile", graph.write_study(clone, changes))
    before = graph.planned(clone, "--configfile", "config/studies/smoke.yaml")
    assert {rule: jobs[rule] - before[rule] for rule in jobs if jobs[rule] != before[rule]} == {
        "permute_outcomes": 49, "permute_follow_up": 49,
    }  # fmt: skip


def test_imported_weights_wait_for_no_images(clone: Path) -> None:
    study = yaml.safe_load((clone / "config/config.yaml").read_text())
    (clone / "given.safetensors").write_bytes(b"weights")
    given = {"path": "given.safetensors", "sha256": sha256_file(clone / "given.safetensors")}
    changes = {s: {name: {"import": given} for name in study[s]} for s in ("synthesis", "segmentation")}
    file = graph.write_study(clone, changes, base="config/config.yaml")
    weights = [f"results/toy/models/{name}/main/weights.safetensors" for own in changes.values() for name in own]
    arguments = ("--configfile", file, "--", *weights)
    jobs = graph.planned(clone, *arguments)
    assert {"train_synthesis", "train_segmentation", "cohort"} <= set(jobs)
    assert "prepare" not in jobs
    assert "prepare" in graph.planned(clone, "--", *weights)


def test_all_mistakes_are_listed_at_once_without_a_traceback(clone: Path) -> None:
    changes = {
        "devise": "cpu",
        "views": {"ct": {"spacing": [1, 1, 1]}},
        "splits": {"outcome": {"within": "image.test"}},
        "analyses": {"survival": {"outcome": "surviva"}},
    }
    done = graph.snakemake(clone, "-n", "--configfile", graph.write_study(clone, changes), check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    for words in (
        "4 problems",
        "devise: unknown key. Did you mean 'device'?",
        "views.ct.spacing: unknown key. Did you mean 'spacing_mm'?",
        "splits.outcome.within: 'image' is not defined under splits:; did you mean 'images'?",
        "analyses.survival.outcome: 'surviva' is not defined",
    ):
        assert words in text
    assert "Traceback" not in text


def test_a_leaking_study_is_refused_before_any_job(clone: Path) -> None:
    changes = {"splits": {"outcome": {"within": None}}}
    done = graph.snakemake(clone, "-n", "--configfile", graph.write_study(clone, changes), check=False)
    assert done.returncode != 0
    assert "would be a leak" in done.stdout + done.stderr
    assert "within: images.test" in done.stdout + done.stderr


def test_absent_real_data_says_what_to_get_and_where_to_put_it(clone: Path) -> None:
    done = graph.snakemake(clone, "-n", "--configfile", "config/studies/lung1.yaml", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "10.7937/K9/TCIA.2015.PF0M9REI" in text
    assert "data/lung1" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("study", "jobs"),
    [
        ("contrast-homogenisation", {"train_synthesis": 1, "synthesize": 36, "classify": 1, "export_readers": 1}),
        ("glioblastoma-survival", {"survive": 1, "import_features": 1}),
    ],
)
def test_studies_of_images_that_are_given_on_request_are_planned_once_these_are_there(
    tmp_path: Path, study: str, jobs: dict[str, int]
) -> None:
    project = graph.copy_project(tmp_path / "project")
    file = f"config/studies/{study}.yaml"
    raw = yaml.safe_load((project / file).read_text())
    for centre in raw["centres"].values():
        (project / centre["images"]).mkdir(parents=True)
    for table in (raw["clinical"], *raw["features"].values()):
        if "table" in table:
            (project / table["table"]).touch()
    found = graph.planned(project, "--configfile", file)
    assert jobs.items() <= found.items()


def test_two_configfiles_are_refused(clone: Path) -> None:
    done = graph.snakemake(clone, "-n", "--configfile", *STUDIES, check=False)
    assert "Give one --configfile" in done.stdout + done.stderr


def test_every_rule_that_computes_has_log_benchmark_resources_and_environment() -> None:
    for path in sorted((graph.PROJECT / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.partition(":")[0]
            if "script:" not in rule:  # a target that only names files
                continue
            for directive in ("log:", "conda:", "threads:", "resources:", "params:"):
                assert directive in rule, f"{name} has no {directive}"
            if "localrule" not in rule:
                assert "benchmark:" in rule, f"{name} has no benchmark"
            assert not re.search(r"^\s+run:", rule, re.MULTILINE)
            assert "directory(" not in rule


def test_generated_reference_is_up_to_date() -> None:
    from polycentric.tools.reference import generate

    for path, text in generate().items():
        assert (graph.PROJECT / path).read_text() == text, "run: python -m polycentric.tools.reference"


def test_the_schema_accepts_the_studies_and_every_key_is_described() -> None:
    schema = json.loads((graph.PROJECT / "config" / "schema.json").read_text())
    assert schema["additionalProperties"] is False
    for name, definition in {"Study": schema, **schema["$defs"]}.items():
        for key, value in definition.get("properties", {}).items():
            # a description that equals the section's own is left out beside the reference
            if "const" not in value and "$ref" not in value:
                assert value.get("description"), f"{name}.{key} has no description"
    keys = set(Study.model_fields)
    assert keys <= set(schema["properties"])
    assert yaml.safe_load((graph.PROJECT / "config" / "defaults.yaml").read_text())["seed"] == 1


def test_the_picture_of_the_rule_graph_is_the_real_one(clone: Path) -> None:
    from polycentric.tools.graph import page

    text = (graph.PROJECT / "docs" / "architecture.md").read_text()
    drawn = page(text, graph.snakemake(clone, "--rulegraph", "mermaid-js").stdout)
    assert "train_synthesis --> synthesize" in drawn
    assert drawn == text, "run: snakemake --rulegraph mermaid-js | python -m polycentric.tools.graph"
