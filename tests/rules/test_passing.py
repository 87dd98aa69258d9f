"""Views that do not stay: who reads them holds them, they go at the end, a changed setting makes just what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import graph
import pytest
from polycentric.files import sha256_file

SIMULATED = "config/config.yaml"
# two views that do not stay, one made from the other; features of both, and of a view that stays
SMALL = {
    "study": "passing",
    "centres": {"north": {"shards": 2, "simulate": {"patients": 3, "defects": []}}, "south": None, "east": None},
    "splits": {"images": None, "outcome": None},
    "views": {
        "ct": {"keep": False},
        "smooth": {"from": "ct", "steps": [{"kind": "gaussian", "sigma_mm": 4}], "keep": False},
        "last": {"from": "smooth", "clip": [-500, 500]},
        "noncontrast": None,
        "standardised": None,
    },
    **dict.fromkeys(("synthesis", "segmentation", "profiles", "exports", "readers")),
    "features": {
        "mixed": {"perturb": None},
        "smoothed": {"view": "smooth", "masks": "manual", "recipe": "toy"},
        **dict.fromkeys(("homogeneous", "automatic", "standardised", "combat", "stable")),
    },
    "analyses": dict.fromkeys(
        ("exploration", "outlined-twice", "centres", "severity", "survival", "fidelity", "against-real")
    )
    | dict.fromkeys(("feature-shift", "outlines")),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph.copy_project(tmp_path_factory.mktemp("passing") / "project")


def jobs(text: str) -> list[tuple[str, list[str]]]:
    """Rule and inputs of every job that a dry-run prints."""
    found = re.findall(r"^(?:local)?rule (\w+):\n    input: ([^\n]*)", text, re.MULTILINE)
    return [(rule, inputs.split(", ")) for rule, inputs in found]


def test_whoever_reads_images_that_do_not_stay_holds_them(clone: Path) -> None:
    """In the whole toy study: a job with such a manifest among its inputs has a lease, but those that read no image."""
    changes = {"study": "held", "views": {"ct": {"keep": False}, "noncontrast": {"keep": False}}, "exports": None}
    done = graph.snakemake(clone, "-n", "--configfile", graph.write_study(clone, changes, base=SIMULATED))
    reading = set()
    for rule, inputs in jobs(done.stdout):
        for view in ("ct", "noncontrast"):
            manifests = {path for path in inputs if re.fullmatch(rf".*/views/{view}/main/[\w-]+\.tsv", path)}
            leases = {
                re.sub(r"\.for\..*\.tsv$", ".tsv", path)
                for path in inputs
                if f"/views/{view}/" in path and ".for." in path
            }
            if rule in ("provenance", "report", "remove_view"):
                assert not leases
            else:
                of_its_own = rule.startswith("hold_") and manifests and not leases
                assert of_its_own or manifests == leases, f"{rule} reads {view}"
                reading |= {rule} if manifests else set()
    assert reading >= {
        "synthesize", "fit_view", "prepare", "train_synthesis", "train_segmentation", "segment", "extract", "fidelity",
        "profile_images", "export_readers",
    }  # fmt: skip


@pytest.mark.study
def test_images_go_and_a_changed_reader_makes_them_again(clone: Path) -> None:
    study = graph.write_study(clone, SMALL, base=SIMULATED)
    root = clone / "results" / "passing"
    graph.snakemake(clone, "--configfile", study)

    def images(view: str) -> list[Path]:
        return sorted((root / "views" / view).rglob("*.nii"))

    assert images("ct") == images("smooth") == []
    assert len(images("last")) == 3
    assert not list((root / "views").rglob("*.for.*")), "no lease is left"
    assert graph.planned(clone, "--configfile", study) == {}
    graph.snakemake(clone, "audit", "--configfile", study)
    manifests = {path: path.read_bytes() for path in sorted((root / "views").rglob("*.tsv"))}
    tables = {path.name: path.stat().st_mtime_ns for path in (root / "features").glob("*.parquet")}

    # another region for the features of the second view: both views are made again, for that set alone
    changes = {
        **SMALL,
        "features": {**SMALL["features"], "smoothed": {**SMALL["features"]["smoothed"], "rois": ["tumour"]}},
    }
    study = graph.write_study(clone, changes, base=SIMULATED)
    planned = graph.planned(clone, "--configfile", study)
    assert planned == {
        "hold_prepared": 4, "extract": 2, "merge_features": 1, "remove_view": 4, "provenance": 1, "report": 1,
    }  # fmt: skip
    graph.snakemake(clone, "--configfile", study)
    assert {path: path.read_bytes() for path in manifests} == manifests
    after = {path.name: path.stat().st_mtime_ns for path in (root / "features").glob("*.parquet")}
    assert {name for name in tables if after[name] != tables[name]} == {"smoothed.parquet"}
    assert images("ct") == images("smooth") == []
    assert graph.planned(clone, "--configfile", study) == {}

    # a view that is to stay after all is made again with the bytes that its manifest has always listed
    changes["views"] = {**SMALL["views"], "ct": {}}
    study = graph.write_study(clone, changes, base=SIMULATED)
    graph.snakemake(clone, "--configfile", study)
    listed = manifests[root / "views" / "ct" / "main" / "north-0.tsv"].decode()
    there = [path for path in images("ct") if path.parent.name == "north-0"]
    assert there
    assert all(sha256_file(path) in listed for path in there)
    assert len(images("ct")) == 3
