"""Exact reruns: a changed key re-runs what depends on it and nothing else."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import graph
import pytest

SMOKE = ("--configfile", "config/studies/smoke.yaml")
REPORT = {"provenance": 1, "report": 1}
# jobs of the smoke study downstream of a stage: two centres with one shard each
FEATURES = {"extract": 2, "merge_features": 1}
CLASSIFY = {"permute_outcomes": 1, "classify": 1}
READ = {"export_readers": 1, "ingest_readers": 1}
SYNTHESIS = {"synthesize": 2, **FEATURES, **CLASSIFY, **READ, "fidelity": 1}
SEGMENTATION = {"segment": 2, "segmentation_quality": 1}

# one key of each section of the study file, with what must re-run and nothing else
CASES: dict[str, tuple[dict, dict[str, int]]] = {
    "title": ({"title": "Another title"}, {"report": 1}),
    "report": ({"report": {"intro": "Another introduction."}}, {"report": 1}),
    "caption of an analysis": ({"analyses": {"survival": {"caption": "Another caption."}}}, {"report": 1}),
    "a Cox setting": ({"analyses": {"survival": {"penalty": 0.5}}}, {"permute_follow_up": 1, "survive": 1, **REPORT}),
    "how fits are judged": ({"analyses": {"severity": {"bootstraps": 60}}}, {"classify": 1, **REPORT}),
    "permutations": ({"analyses": {"severity": {"permutations": 3}}}, {**CLASSIFY, **REPORT}),
    "shards of permutations": (
        {"analyses": {"severity": {"permutation_shards": 2}}},
        {"permute_outcomes": 2, "classify": 1, **REPORT},
    ),
    # the first shard holds the same runs as before
    "twice the permutations in twice the shards": (
        {"analyses": {"severity": {"permutations": 4, "permutation_shards": 2}}},
        {**CLASSIFY, **REPORT},
    ),
    "simulated readers": (
        {"readers": {"turing": {"simulated": [{"name": "one", "sensitivity": 0.9, "specificity": 0.9}]}}},
        {"ingest_readers": 1, **REPORT},
    ),
    "what readers see": ({"readers": {"turing": {"pixel_mm": 4}}}, {**READ, **REPORT}),
    "one feature set": ({"features": {"homogeneous": {"rois": ["tumour"]}}}, {**FEATURES, **CLASSIFY, **REPORT}),
    "inference of a generator": (
        {"synthesis": {"decontrast": {"inference": {"stride": [8, 16, 8]}}}},
        {**SYNTHESIS, **REPORT},
    ),
    "training of a generator": (
        {"synthesis": {"decontrast": {"learning_rate": 1.0e-4}}},
        {"train_synthesis": 1, **SYNTHESIS, **REPORT},
    ),
    "inference of a segmenter": (
        {"segmentation": {"unet": {"inference": {"threshold": 0.4}}}},
        {**SEGMENTATION, **REPORT},
    ),
    "training of a segmenter": (
        {"segmentation": {"unet": {"learning_rate": 1.0e-4}}},
        {"train_segmentation": 1, **SEGMENTATION, **REPORT},
    ),
}


def changed(folder: Path, changes: dict) -> Counter[str]:
    return graph.planned(folder, "--configfile", graph.write_study(folder, changes))


@pytest.mark.study
def test_a_finished_study_has_nothing_to_do(finished: Path) -> None:
    assert graph.planned(finished, *SMOKE) == {}


@pytest.mark.study
@pytest.mark.parametrize("case", CASES)
def test_a_changed_key_reruns_exactly_its_dependants(finished: Path, case: str) -> None:
    changes, expected = CASES[case]
    assert changed(finished, changes) == expected


@pytest.mark.study
def test_touches_comments_and_a_move_rerun_nothing(project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(project, moved)
    for path in sorted(moved.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts and "results" not in path.parts:
            if "private" not in path.parts:
                if path.suffix == ".py":
                    path.write_text(path.read_text() + "\n# another comment\n")
                elif path.suffix == ".yaml" and "envs" not in path.parts:
                    path.write_text("# another comment\n" + path.read_text())
                elif path.suffix == ".smk" or path.name == "Snakefile":
                    path.write_text(path.read_text() + "\n# another comment\n")
            os.utime(path)
    assert graph.planned(moved, *SMOKE) == {}


@pytest.mark.study
@pytest.mark.parametrize(
    ("file", "reruns", "stays"),
    [
        ("analysis/survive.py", {"survive", "provenance", "report"}, {"permute_follow_up", "classify", "extract"}),
        ("analysis/survive_null.py", {"permute_follow_up", "survive"}, {"permute_outcomes", "classify", "extract"}),
        ("readers/page.py", {"export_readers"}, {"survive", "fidelity", "train_segmentation"}),
        ("convert/raster.py", {"convert", "examine", "prepare", "extract"}, {"curate", "index", "cohort"}),
        ("report/page/style.css", {"report"}, {"classify", "ingest_readers", "convert"}),
        # training follows its ENGINE_VERSION, never a mere edit of code
        ("training/loop.py", set(), {"train_synthesis", "train_segmentation"}),
    ],
)
def test_an_edited_function_reruns_its_dependants(project: Path, file: str, reruns: set[str], stays: set[str]) -> None:
    path = project / "workflow" / "scripts" / "polycentric" / file
    added = "\n\ndef added() -> int:\n    return 1\n" if path.suffix == ".py" else "\np { margin: 1px; }\n"
    path.write_text(path.read_text() + added)
    rules = set(graph.planned(project, *SMOKE))
    assert reruns <= rules
    assert not stays & rules


@pytest.mark.study
def test_a_raised_engine_version_trains_again(project: Path) -> None:
    path = project / "workflow" / "scripts" / "polycentric" / "synthesis" / "__init__.py"
    text = path.read_text()
    assert 'ENGINE_VERSION = "' in text
    path.write_text(text.replace('ENGINE_VERSION = "', 'ENGINE_VERSION = "next-'))
    assert graph.planned(project, *SMOKE)["train_synthesis"] == 1


@pytest.mark.study
def test_the_study_file_is_also_found_from_the_workflow_folder(finished: Path) -> None:
    assert graph.planned(finished, *SMOKE, "--snakefile", "workflow/Snakefile") == {}
