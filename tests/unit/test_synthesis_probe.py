"""The generators of a trained model as functions, and their examination by the adapter, from settings to results."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import tables, volumes
from polycentric.codehash import PACKAGE
from polycentric.config.synthesis import Synthesis
from polycentric.synthesis.apply import synthesize_shard
from polycentric.synthesis.generators import Generators
from polycentric.synthesis.train import train
from polycentric.tables import schemas

SETTINGS = {
    "split": "main",
    "source": {"view": "ct", "where": "contrast == 'yes'"},
    "target": {"view": "ct", "where": "contrast == 'no'"},
    "iterations": 3,
    "patch": [8, 8, 8],
    "hu_range": [-500, 200],
    "generator": {"width": 2, "downs": 1, "residual_blocks": 1, "kernel": 3},
    "discriminator": {"width": 2, "layers": 1},
    "threads": 1,
    "inference": {"stride": [4, 4, 4]},
}
PARTS = dict.fromkeys(["p0", "p1", "p2", "p3"], "training") | dict.fromkeys(["p4", "p5", "p6", "p7"], "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, Path]:
    cohort = Phantom(tmp_path_factory.mktemp("probe"), PARTS)
    out = cohort.root / "models" / "m" / "main"
    train(
        "m", Synthesis(**SETTINGS), seed=1, scans=cohort.scans, patients=cohort.patient_table, split=cohort.split,
        manifests=[cohort.view], root=cohort.root, work=out / "work", fold="main",
        weights=out / "weights.safetensors", settings_out=out / "settings.json", history=out / "history.csv",
        ledger=out / "ledger.json", samples=out / "samples", device="cpu", upstream=[], settings_json="{}", code="0",
    )  # fmt: skip
    return cohort, out


def test_generators_are_what_makes_the_view(trained: tuple[Phantom, Path]) -> None:
    cohort, out = trained
    settings = Synthesis(**SETTINGS)
    generators = Generators(settings, out / "weights.safetensors", "cpu")
    hu = cohort.images["p4"]
    synthesize_shard(
        "made", settings, weights=out / "weights.safetensors", ledger=out / "ledger.json", source=cohort.view,
        root=cohort.root, manifest=cohort.root / "views" / "made" / "main" / "all.tsv", fold="main",
        settings_json="{}", code="0", device="cpu",
    )  # fmt: skip
    view = volumes.read(cohort.root / "views" / "made" / "main" / "all" / "scan-p4.nii").array
    assert np.abs(generators.translate(hu, generators.stride) - view).max() < 1  # which has whole HU
    # one window by itself is what the sliding window makes of a volume of its size
    corner = hu[:8, :8, :8]
    assert np.array_equal(generators.predict(corner), generators.translate(corner, (3, 3, 3)))
    assert generators.back is not None
    assert np.abs(generators.back(hu) - generators.translate(hu, generators.stride)).max() > 1  # another network


def test_the_adapter_writes_the_analysis(trained: tuple[Phantom, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a job changes
    cohort, out = trained
    folder = cohort.root / "analyses" / "probe"
    analysis = {"kind": "synthesis-probe", "synthesis": "m", "scans": 2, "overlaps": [1, 2], "bootstrap": 20}
    job = {"seed": 1, "device": "cpu", "analysis": analysis, "synthesis": SETTINGS}
    snakemake = SimpleNamespace(
        rule="probe_synthesis",
        wildcards=SimpleNamespace(analysis="probe", items=lambda: [("analysis", "probe")]),
        log=[str(cohort.root / "probe.log")],
        params=SimpleNamespace(settings=json.dumps(job), code="0", root=str(cohort.root)),
        input=SimpleNamespace(
            weights=str(out / "weights.safetensors"), source=[str(cohort.view)], scans=str(cohort.scans),
            patients=str(cohort.patient_table), split=str(cohort.split), ledgers=[str(out / "ledger.json")],
        ),
        output=SimpleNamespace(metrics=str(folder / "metrics.json")),
    )  # fmt: skip
    runpy.run_path(str(PACKAGE.parent / "probe_synthesis.py"), init_globals={"snakemake": snakemake})
    found = json.loads((folder / "metrics.json").read_text())
    assert found["patients"] == 2
    assert found["estimates"]["noise_amplification"]["n"] == 2
    assert found["estimates"]["coarsest_stride_mean_hu"]["value"] > 0.1
    assert found["estimates"]["own_stride_mean_hu"]["value"] == 0  # the finest one
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    assert {"summary.svg", "disagreement-1.png"} <= {Path(p).name for p in listed["path"]}
    strides = (folder / "tables" / "strides.csv").read_text().splitlines()
    assert len(strides) == 1 + 2 * 2  # the model's own stride is one of the two
