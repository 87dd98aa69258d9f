"""Training by several processes, a training that is told to go, a generator that collapses."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import Phantom
from PIL import Image
from polycentric.config.synthesis import Synthesis
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.networks import devices, weights
from polycentric.randomness import generator as stream
from polycentric.synthesis import cyclegan
from polycentric.synthesis.augment import Augmenter
from polycentric.synthesis.domains import Images
from polycentric.synthesis.train import train, windows
from polycentric.training import engine, interrupt, loop, patches, samples

torch.set_num_threads(1)
SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
PARTS = dict.fromkeys(["p0", "p1", "p2", "p3"], "training") | {"p4": "test"}
TINY = {
    "split": "main",
    "source": {"view": "ct", "where": "contrast == 'yes'"},
    "target": {"view": "ct", "where": "contrast == 'no'"},
    "iterations": 6,
    "batch": 2,
    "patch": [8, 8, 8],
    "generator": {"width": 2, "downs": 1, "residual_blocks": 1, "kernel": 3},
    "discriminator": {"width": 2, "layers": 1},
    "augment": {"flip": ["x"], "rotate_degrees": [-10, 10], "share": 0.5},
    "pool": 3,
    "history_every": 4,
    "threads": 1,
    "engine": {"samples_every": 4},
}
FILES = ("weights.safetensors", "settings.json", "history.csv", "ledger.json")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("synthesis"), PARTS)


def arguments(cohort: Phantom, out: Path, **changes) -> dict:
    return {
        "name": "decontrast",
        "settings": Synthesis(**(TINY | changes)),
        "seed": 1,
        "scans": cohort.scans,
        "patients": cohort.patient_table,
        "split": cohort.split,
        "manifests": [cohort.view],
        "root": cohort.root,
        "work": out / "work",
        "fold": "main",
        "weights": out / FILES[0],
        "settings_out": out / FILES[1],
        "history": out / FILES[2],
        "ledger": out / FILES[3],
        "samples": out / "samples.zip",
        "device": "cpu",
        "upstream": [],
        "settings_json": "{}",
        "code": "0",
    }


@pytest.fixture(scope="module")
def alone(cohort: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(**arguments(cohort, folder))
    return folder


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint: networks, optimizers, pools, statistics."""
    (path,) = (folder / "work").glob("*/000000006.safetensors")
    return weights.read(path)[0]


def test_two_processes_train_as_one(cohort: Phantom, alone: Path, tmp_path: Path) -> None:
    train(**arguments(cohort, tmp_path, engine={"devices": 2, "samples_every": 4}))
    one, two = state(alone), state(tmp_path)
    assert one.keys() == two.keys()
    # biases are not compared: before instance normalisation their gradient is 0 but for rounding, which Adam enlarges
    found = {name: tensor.double() for name, tensor in one.items() if tensor.ndim > 1}
    off = {name: ((two[name] - tensor).norm() / tensor.norm()).item() for name, tensor in found.items()}
    assert max(off.values()) < 1e-3, max(off, key=off.get)
    assert max(off.values()) > 0  # sums in another order: it was not one process in disguise
    assert torch.equal(one["random.cpu"], two["random.cpu"])
    rows = [np.genfromtxt(folder / "history.csv", delimiter=",", skip_header=1)[:, :9] for folder in (alone, tmp_path)]
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-3)
    told = json.loads((tmp_path / "settings.json").read_text())
    assert told["engine"]["devices"] == 2
    assert zipfile.ZipFile(tmp_path / "samples.zip").namelist() == ["000000004.png", "000000006.png"]


RANKS = """
import pickle, sys
from pathlib import Path
import torch
from polycentric.synthesis import cyclegan, train
from polycentric.training import team
made = []
model = train.CycleGan
class Kept(model):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        made.append(self)
train.CycleGan = Kept
close = team.Team.same
call = pickle.loads(Path(sys.argv[1]).read_bytes())
if call["settings"].engine.devices == 2:
    train.train(**call, **({"log": team.Quiet()}))
    torch.save(made[0].tensors() | {"drawn": torch.tensor(made[0].samplers["source"].sampler.stream.random(3))},
               sys.argv[2] + str(team.own_rank()))
"""


def test_every_process_of_a_team_holds_the_same_state(cohort: Phantom, tmp_path: Path) -> None:
    call = arguments(cohort, tmp_path / "out", engine={"devices": 2})
    (tmp_path / "call").write_bytes(pickle.dumps(call))
    meeting = str(tmp_path / "meeting")
    running = []
    for rank in (0, 1):  # by hand, so that both can be looked at
        told = json.dumps({"rank": rank, "meeting": meeting})
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1", "POLYCENTRIC_TEAM": told}
        command = [sys.executable, "-c", RANKS, str(tmp_path / "call"), str(tmp_path / "state")]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    one, two = (torch.load(tmp_path / f"state{rank}") for rank in (0, 1))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*FILES, "samples.zip", "work"}


def test_a_process_of_the_team_that_fails_is_told(
    cohort: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polycentric.training import team

    start = team._start

    def broken(rank: int, meeting: Path, call: Path, log: Path) -> subprocess.Popen:
        module, name, given = pickle.loads(call.read_bytes())
        call.write_bytes(pickle.dumps((module, name, given | {"split": tmp_path / "nothing.tsv"})))
        return start(rank, meeting, call, log)

    monkeypatch.setattr(team, "_start", broken)
    with pytest.raises(UserError, match=r"a process of the team failed: process 1 ended with 1"):
        train(**arguments(cohort, tmp_path, engine={"devices": 2}))


TOLD = """
import pickle, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from polycentric.synthesis import cyclegan
from polycentric.synthesis.train import train, windows
step = cyclegan.CycleGan.step
def slow(self):
    result = step(self)
    if self.iteration == 3:
        print("third", flush=True)
        time.sleep(float(sys.argv[2]))
    return result
cyclegan.CycleGan.step = slow
train(**pickle.loads(Path(sys.argv[1]).read_bytes()))
"""


def test_a_training_that_is_told_to_go_gives_the_same_bytes_in_the_end(
    cohort: Phantom, alone: Path, tmp_path: Path
) -> None:
    (tmp_path / "call").write_bytes(pickle.dumps(arguments(cohort, tmp_path)))
    command = [sys.executable, "-c", TOLD, str(tmp_path / "call"), "5"]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "third\n"
    time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == interrupt.TRY_AGAIN
    assert "the state of iteration 3 of 6 is saved" in said
    assert not (tmp_path / FILES[0]).exists()
    train(**arguments(cohort, tmp_path))
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (alone / name).read_bytes(), name
    assert (tmp_path / "samples.zip").read_bytes() == (alone / "samples.zip").read_bytes()


def test_both_stores_train_the_same_weights(cohort: Phantom, alone: Path, tmp_path: Path) -> None:
    train(**arguments(cohort, tmp_path, engine={"store": "device", "samples_every": 4}))
    assert (tmp_path / FILES[0]).read_bytes() == (alone / FILES[0]).read_bytes()


def test_imported_weights_of_another_generator_are_refused(cohort: Phantom, alone: Path, tmp_path: Path) -> None:
    given = {"path": str(alone / FILES[0]), "sha256": sha256_file(alone / FILES[0])}
    with pytest.raises(UserError, match=r"import: .* holds another generator: source range is \("):
        train(**arguments(cohort, tmp_path, **{"import": given, "hu_range": (-100.0, 900.0)}))
    assert not (tmp_path / FILES[0]).exists()


def test_precision_is_part_of_what_decides_the_weights(cohort: Phantom, tmp_path: Path) -> None:
    # larger patches: see networks/selfcheck.py for what torch 2.13 does to small ones
    for precision in ("auto", "bf16"):
        train(**arguments(cohort, tmp_path / precision, patch=[16, 16, 16], engine={"precision": precision}))
    one, two = (json.loads((tmp_path / p / "settings.json").read_text()) for p in ("auto", "bf16"))
    assert two["engine"]["precision"] == "bf16"
    assert one["engine"]["precision"] == ("bf16" if torch.cpu._is_amx_tile_supported() else "fp32")
    a, b = (weights.read(tmp_path / p / FILES[0])[0] for p in ("auto", "bf16"))
    for name, tensor in a.items():
        assert b[name].dtype == torch.float32
        assert (b[name] - tensor).abs().max() < 2 * 6 * 2e-4 * 1.5  # six steps of Adam of about the learning rate each
    if one["engine"] != two["engine"]:
        assert any(not torch.equal(a[name], b[name]) for name in a)


def test_sample_pictures_show_the_scans_of_both_domains(alone: Path, cohort: Phantom) -> None:
    with zipfile.ZipFile(alone / "samples.zip") as held:
        assert held.namelist() == ["000000004.png", "000000006.png"]
        sheet = np.asarray(Image.open(io.BytesIO(held.read("000000006.png"))))
    # four scans: two of the source, two of the target; 16 x 16 voxels enlarged to 128
    assert sheet.shape == (4 * 128 + 3 * 3, 4 * 128 + 3 * 3, 3)
    hu = cohort.images["p0"][10, 4:20, 4:20].astype(float)
    expected = np.clip((hu + 1000) / 2000, 0, 1) * 255
    assert np.abs(sheet[4:128:8, 4:128:8, 0] - expected).max() <= 1


def test_sample_pictures_of_domains_in_other_units_have_windows_of_their_own(cohort: Phantom, tmp_path: Path) -> None:
    domains = {
        "source": TINY["source"] | {"range": (-1000.0, 1000.0)},
        "target": TINY["target"] | {"range": (0.0, 100.0)},
        "engine": {"samples_window": (20.0, 60.0)},
        "iterations": 1,
    }
    train(**arguments(cohort, tmp_path, **domains))
    with zipfile.ZipFile(tmp_path / "samples.zip") as held:
        sheet = np.asarray(Image.open(io.BytesIO(held.read("000000001.png"))))[..., 0]
    step = 128 + samples.GAP
    lines = [sheet[n * step : n * step + 128] for n in range(4)]

    def scan(patient: str, low: float, high: float) -> np.ndarray:
        return np.clip((cohort.images[patient][10, 4:20, 4:20] - low) / (high - low), 0, 1) * 255

    assert np.abs(lines[0][4::8, 4:128:8] - scan("p0", -1000, 1000)).max() <= 1
    assert np.abs(lines[2][4::8, 4:128:8] - scan("p1", 20, 60)).max() <= 1
    # what the weights make of the first scan, in the target's unit
    network = cyclegan.generator(Synthesis(**(TINY | domains)))
    weights.into(network, weights.read(tmp_path / FILES[0])[0], "forward")
    x = torch.from_numpy(np.clip(cohort.images["p0"][6:14, 4:20, 4:20] / 1000, -1, 1).astype(np.float32))
    with torch.no_grad():
        made = network(x[None, None])[0, 0, 4].numpy() * 50 + 50
    assert np.abs(lines[0][4::8, step + 4 : step + 128 : 8] - np.clip((made - 20) / 40, 0, 1) * 255).max() <= 1
    assert all(set(line[:, 2 * step : 2 * step + 128].ravel()) == {255} for line in lines)
    assert windows(Synthesis(**(TINY | domains | {"engine": {"samples_window_source": (0, 500)}}))) == (
        (0.0, 0.5),
        (-1.0, 1.0),
    )
    same = windows(Synthesis(**(TINY | {"engine": {"samples_window": (-500, 0)}})))
    assert same == ((-0.5, 0.0), (-0.5, 0.0))


def test_imported_weights_have_no_samples(cohort: Phantom, alone: Path, tmp_path: Path) -> None:
    given = {"path": str(alone / FILES[0]), "sha256": sha256_file(alone / FILES[0])}
    train(**arguments(cohort, tmp_path, **{"import": given}))
    assert zipfile.ZipFile(tmp_path / "samples.zip").namelist() == []
    assert (tmp_path / FILES[0]).read_bytes() == (alone / FILES[0]).read_bytes()


def gan(**changes) -> cyclegan.CycleGan:
    settings = Synthesis(**(TINY | {"batch": 4, "augment": {}} | changes))
    size = patches.full_size(settings.patch)
    rng = np.random.default_rng(5)
    images = []
    for domain in ("a", "b"):
        # slow waves, so that patches differ in their means
        scan = (500 * np.sin(np.indices((24, 24, 24)).sum(0) / 5) + rng.normal(0, 50, (24, 24, 24)),)
        augmenter = Augmenter(settings.augment, stream(1, domain, "augment"))
        images.append(Images([scan], [(1.0, 1.0, 1.0)], size, [settings.hu_range], stream(1, domain), augmenter))
    return cyclegan.CycleGan(settings, *images, seed=3, names=("t",), device=torch.device("cpu"))


def watched(model: cyclegan.CycleGan, folder: Path) -> list[dict]:
    hooks = loop.Hooks(observe=model.observe, warn=model.watch().warnings)
    plan = loop.Plan(model.settings.iterations, 4)
    return loop.run(model, plan, name="x", folder=folder, key="k", hooks=hooks)


def test_a_variant_that_cannot_be_compiled_later_runs_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training compiles frozen discriminators and inputs without a gradient in its first step: that fails here."""
    real, compiled = torch.compile, []

    def back_end(graph: torch.fx.GraphModule, _: list) -> Callable:
        compiled.append(graph)
        if len(compiled) > tried:
            raise RuntimeError("no more")
        return graph.forward

    tried = 100
    eager, model = gan(), gan()
    monkeypatch.setattr(torch, "compile", lambda call, **kw: real(call, backend=back_end, **kw))
    model.arithmetic = devices.Arithmetic(torch.device("cpu"), "fp32", True)
    assert engine.compile_networks(model.examples(), model.arithmetic)
    tried = len(compiled)
    losses = [model.step() for _ in range(2)]
    assert len(compiled) > tried  # so it was tried, and failed
    torch.testing.assert_close(losses, [eager.step() for _ in range(2)], rtol=1e-4, atol=1e-5)
    before = len(compiled)
    regions = {name: [sampler.middle(0, 2)] for name, sampler in model.samplers.items()}
    model.pictures(regions)
    assert len(compiled) == before  # pictures are not worth a compilation


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_networks_compiled_for_this_processor_train_as_eager_ones() -> None:
    eager, model = gan(), gan()
    model.arithmetic = devices.Arithmetic(torch.device("cpu"), "fp32", True)
    assert engine.compile_networks(model.examples(), model.arithmetic)
    for _ in range(3):
        torch.testing.assert_close(model.step(), eager.step(), rtol=1e-3, atol=1e-4)


def test_a_collapsed_generator_is_noticed_and_a_sound_one_is_not(tmp_path: Path) -> None:
    model = gan(
        iterations=32, learning_rate=1e-9, generator={"width": 2, "downs": 1, "residual_blocks": 1, "skip": True}
    )
    rows = watched(model, tmp_path / "sound")
    assert all(row["warnings"] == "" for row in rows)
    assert all(0.3 < row[f"variety_{way}"] < 3 for row in rows for way in ("forward", "backward"))

    model = gan(
        iterations=32, learning_rate=1e-9, generator={"width": 2, "downs": 1, "residual_blocks": 1, "skip": True}
    )
    # the forward generator answers everything with one image
    fixed = torch.randn(1, 1, 8, 8, 8).tanh()
    layers = model.networks["forward"].layers
    model.networks["forward"].forward = lambda x: fixed + 0 * layers(x)  # type: ignore[method-assign]
    rows = watched(model, tmp_path / "collapsed")
    # nor does it leave images of its output domain alone
    told = {"variety_forward", "identity_forward"}
    assert [set(row["warnings"].split(";")) for row in rows] == [{""}, {""}, *[told] * 6]
    assert max(row["variety_forward"] for row in rows) < 1e-3


def test_devices_must_share_a_batch_evenly() -> None:
    with pytest.raises(ValueError, match="cannot share a batch of 2 evenly; write a batch of 3"):
        Synthesis(**(TINY | {"engine": {"devices": 3}}))
    with pytest.raises(ValueError, match="norm: batch would see a part of each batch"):
        Synthesis(**(TINY | {"engine": {"devices": 2}, "discriminator": {"width": 2, "layers": 1, "norm": "batch"}}))
