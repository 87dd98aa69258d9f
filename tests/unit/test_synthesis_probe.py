"""The generators of a trained model as functions, and their examination by the adapter, from settings to results."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.anatomy import body
from polycentric.codehash import PACKAGE
from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import SynthesisProbe
from polycentric.errors import UserError
from polycentric.fidelity.probe import probe
from polycentric.inference import sliding
from polycentric.networks import weights
from polycentric.networks.layers import initialise
from polycentric.synthesis import cyclegan
from polycentric.synthesis.apply import synthesize_shard
from polycentric.synthesis.generators import Generators, beside
from polycentric.synthesis.train import train
from polycentric.tables import schemas
from polycentric.training import patches

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


class Inputs(dict):
    """As Snakemake gives them: by key or by attribute."""

    __getattr__ = dict.__getitem__


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, Path]:
    cohort = Phantom(tmp_path_factory.mktemp("probe"), PARTS)
    out = cohort.root / "models" / "m" / "main"
    train(
        "m", Synthesis(**SETTINGS), seed=1, scans=cohort.scans, patients=cohort.patient_table, split=cohort.split,
        manifests=[cohort.view], root=cohort.root, work=out / "work", fold="main",
        weights=out / "weights.safetensors", settings_out=out / "settings.json", history=out / "history.csv",
        ledger=out / "ledger.json", samples=out / "samples.zip", device="cpu", upstream=[], settings_json="{}",
        code="0",
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
    job = {"seed": 1, "device": "cpu", "analysis": analysis, "synthesis": SETTINGS, "calibrated": [True, True]}
    snakemake = SimpleNamespace(
        rule="probe_synthesis",
        wildcards=SimpleNamespace(analysis="probe", items=lambda: [("analysis", "probe")]),
        log=[str(cohort.root / "probe.log")],
        params=SimpleNamespace(settings=json.dumps(job), code="0", root=str(cohort.root)),
        input=Inputs(
            weights=str(out / "weights.safetensors"), source=[str(cohort.view)], also=[], target=[str(cohort.view)],
            scans=str(cohort.scans),
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


def test_models_of_several_inputs_are_probed(trained: tuple[Phantom, Path], tmp_path: Path) -> None:
    """The second input is a view of the same scans; one of them has none and is left out."""
    cohort, _ = trained
    also = {"view": "second", "where": "contrast == 'yes'"}
    changes = {"source": SETTINGS["source"] | {"also": [also]}, "losses": {"identity": 0}}
    settings = Synthesis(**(SETTINGS | changes | {"generator": SETTINGS["generator"] | {"branch_blocks": 1}}))
    network = cyclegan.generator(settings)
    initialise(network, 1, 0.1)
    weights.write(weights.of(network, "forward"), tmp_path / "weights.safetensors")
    rows = tables.read(cohort.view, schemas.VIEWS).assign(view="second")
    rows.loc[rows["scan"] == "scan-p6", ["status", "reason", "path"]] = ["missing", "X: gone", None]
    second = tmp_path / "second.tsv"
    tables.write(rows, second, schemas.VIEWS)
    further = beside(settings, [cohort.view], cohort.scans, cohort.patient_table, [second], "x")
    assert {s: bool(why) for s, (_, why) in further.items() if s in ("scan-p4", "scan-p6")} == {
        "scan-p4": False, "scan-p6": True
    }  # fmt: skip
    generators = Generators(settings, tmp_path / "weights.safetensors", "cpu")
    assert generators.back is None
    image = np.stack([cohort.images["p4"]] * 2).astype(np.float32)
    made = generators.translate(image, (4, 4, 4))
    window, stride = (8, 8, 8), (4, 4, 4)
    plain = sliding.slide(patches.scale(image, settings.hu_range), network.eval(), window=window, stride=stride)[0]
    assert np.allclose(made, patches.unscale(plain, settings.hu_range) + image[0] - image[0].clip(-500, 200), atol=0.05)
    ledger.write(
        tmp_path / "ledger.json", name="m", stage="synthesis", split="main", seen={}, upstream=[], settings="{}",
        code="0",
    )  # fmt: skip
    probe(
        "probe", SynthesisProbe(synthesis="m", scans=2, overlaps=(1, 2), bootstrap=20), synthesis=settings,
        generators=generators, seed=1, source=[cohort.view],
        target=[cohort.view],
        scans=cohort.scans, patients=cohort.patient_table, split=cohort.split, ledgers=[tmp_path / "ledger.json"],
        root=cohort.root, folder=cohort.root / "analyses" / "several", settings_json="{}", code="0", further=further,
    )  # fmt: skip
    found = json.loads((cohort.root / "analyses" / "several" / "metrics.json").read_text())
    assert found["patients"] == 1  # p4; p6 lacks an input
    coarse = np.abs(generators.translate(image, window) - made)[body(image[0])].mean()
    assert found["estimates"]["coarsest_stride_mean_hu"]["value"] == pytest.approx(coarse, rel=1e-4)
    nothing = dict.fromkeys(further, ((), "no image as input 2"))
    with pytest.raises(UserError, match="no scan of the source domain"):
        probe(
            "probe", SynthesisProbe(synthesis="m", parts=("external",)), synthesis=settings, generators=generators,
            seed=1, source=[cohort.view], target=[cohort.view], scans=cohort.scans, patients=cohort.patient_table,
            split=cohort.split, ledgers=[tmp_path / "ledger.json"], root=cohort.root, folder=tmp_path / "none",
            settings_json="{}", code="0", further=nothing,
        )  # fmt: skip
