"""The training engine: precision, store, prefetching, team, signals, watching, samples."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydantic
import pytest
import torch
from PIL import Image
from polycentric.config.training import Engine
from polycentric.errors import UserError
from polycentric.networks import devices, selfcheck
from polycentric.networks.generator import Generator
from polycentric.training import checkpoint, engine, feed, interrupt, loop, patches, samples, store, watch
from polycentric.training.team import Team

torch.set_num_threads(1)
CPU = torch.device("cpu")
SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


class Told:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict]] = []

    def event(self, event: str, **facts: object) -> None:
        self.events.append((event, facts))

    def named(self, name: str) -> list[dict]:
        return [facts for event, facts in self.events if event == name]


# ---- precision


def tiny() -> Generator:
    torch.manual_seed(0)
    return Generator(3, width=4, downs=1, residual_blocks=1, kernel=3).to(memory_format=torch.channels_last_3d)


def test_the_check_sees_every_distinct_convolution_at_its_shape() -> None:
    network = tiny()
    found = selfcheck.convolutions(network, torch.randn(2, 1, 8, 8, 8))
    shapes = [tuple(x.shape) for _, x, _ in found]
    # stem, down, two convolutions of the block (alike: one), up, head; padded where the network pads
    assert shapes == [(2, 1, 10, 10, 10), (2, 4, 8, 8, 8), (2, 8, 6, 6, 6), (2, 8, 4, 4, 4), (2, 4, 10, 10, 10)]


def test_bfloat16_passes_the_check_and_a_wrong_convolution_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [(tiny(), torch.randn(1, 1, 8, 8, 8))]
    found = selfcheck.check(networks, CPU, repeats=1)
    assert 1e-4 < found.error < selfcheck.TOLERANCE  # rounded to 8 bits, no more
    assert found.accurate
    true = torch.nn.Conv3d.forward

    def wrong(self: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        y = true(self, x)
        return y * 1.1 if torch.is_autocast_enabled("cpu") and self.stride == (2, 2, 2) else y

    monkeypatch.setattr(torch.nn.Conv3d, "forward", wrong)
    found = selfcheck.check(networks, CPU, repeats=1)
    assert not found.accurate
    assert "stride=(2, 2, 2)" in found.worst
    assert found.error == pytest.approx(1.1**2 - 1, rel=0.05)  # that of the gradient of half the square


def test_a_check_with_nan_is_not_accurate() -> None:
    assert not selfcheck.Check(float("nan"), "x", 1.0).accurate


def decided(wanted: Engine, found: selfcheck.Check, monkeypatch: pytest.MonkeyPatch, **kw) -> devices.Arithmetic:
    monkeypatch.setattr(selfcheck, "check", lambda networks, device: found)
    return engine.decide(wanted, CPU, list, **kw)


GOOD, SLOW, WRONG = (selfcheck.Check(*c) for c in ((0.003, "x", 3.0), (0.003, "x", 0.3), (0.5, "Conv3d", 3.0)))


@pytest.mark.parametrize(
    ("amx", "found", "expected"),
    [(False, None, "fp32"), (True, GOOD, "bf16"), (True, SLOW, "fp32"), (True, WRONG, "fp32")],
)
def test_auto_on_a_cpu(amx: bool, found: selfcheck.Check, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    made = decided(Engine(), found, monkeypatch)
    assert (made.precision, made.compiled) == (expected, False)


def test_the_choice_of_auto_is_remembered_for_the_same_device_and_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    memory = tmp_path / "precision.json"
    assert decided(Engine(), SLOW, monkeypatch, memory=memory).precision == "fp32"
    assert decided(Engine(), GOOD, monkeypatch, memory=memory).precision == "fp32"  # not asked again
    assert decided(Engine(precision="bf16"), GOOD, monkeypatch, memory=memory).precision == "bf16"
    record = json.loads(memory.read_text()) | {"device": "cpu of another kind"}
    memory.write_text(json.dumps(record))
    assert decided(Engine(), GOOD, monkeypatch, memory=memory).precision == "bf16"


def test_bf16_is_refused_where_it_is_wrong_and_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"computed wrongly here \(relative error 0\.5 in Conv3d.*write precision: fp32"
    ):
        decided(Engine(precision="bf16"), WRONG, monkeypatch)
    log = Told()
    assert decided(Engine(precision="bf16"), SLOW, monkeypatch, log=log).precision == "bf16"
    assert log.named("bf16 is slower than fp32 here") == [{"speed": 0.3}]
    with pytest.raises(UserError, match="tf32 exists on CUDA alone"):
        engine.decide(Engine(precision="tf32"), CPU, list)


def test_precision_rounds_products_and_nothing_else_is_set() -> None:
    network, x = tiny(), torch.randn(1, 1, 8, 8, 8)
    outputs = {}
    for precision in ("fp32", "bf16"):
        arithmetic = devices.Arithmetic(CPU, precision)
        with torch.no_grad(), arithmetic.cast():
            outputs[precision] = network(x).float()
    assert not torch.backends.cudnn.allow_tf32
    off = (outputs["bf16"] - outputs["fp32"]).norm() / outputs["fp32"].norm()
    assert 1e-4 < off < 0.05


def test_a_compiler_that_fails_leaves_the_network_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler here\nand a long story")

    network, x, log = tiny(), torch.randn(1, 1, 8, 8, 8), Told()
    expected = network(x)
    monkeypatch.setattr(torch, "compile", breaks)
    arithmetic = devices.Arithmetic(CPU, "fp32", True)
    assert not engine.compile_networks([(network, x)], arithmetic, log=log)
    assert log.named("not compiled, training goes on without") == [{"because": "RuntimeError: no compiler here"}]
    assert torch.equal(network(x), expected)
    assert all(p.grad is None for p in network.parameters())

    # one that compiles and fails when the network is used
    monkeypatch.setattr(torch, "compile", lambda call, **_: lambda *a, **k: breaks())
    assert not engine.compile_networks([(network, x)], arithmetic, log=log)
    assert torch.equal(network(x), expected)


def test_without_a_working_compiler_training_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real compiler, which finds no C++ compiler on this machine."""
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("/nowhere/c++",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    network, x, log = tiny(), torch.randn(1, 1, 8, 8, 8), Told()
    expected = network(x)
    assert not engine.compile_networks([(network, x)], devices.Arithmetic(CPU, "fp32", True), log=log)
    assert "C++ compiler" in log.named("not compiled, training goes on without")[0]["because"]
    assert torch.equal(network(x), expected)


def test_compiled_networks_keep_names_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    # traced by the compiler's front end, run by torch: the back end needs a C++ compiler and a minute
    monkeypatch.setattr(torch, "compile", lambda call, **kw: real(call, backend="eager", **kw))
    network, x = tiny(), torch.randn(1, 1, 8, 8, 8)
    names, expected = list(network.state_dict()), network(x)
    assert engine.compile_networks([(network, x)], devices.Arithmetic(CPU, "fp32", True))
    assert network._compiled_call_impl is not None
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(x), expected)
    assert not engine.compile_networks([(network, x)], devices.Arithmetic(CPU))


# ---- store and feed


def volumes() -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    kinds = ("int16", "float32", "uint16", "float64", "uint8", ">i2")
    made = []
    for number, kind in enumerate(kinds):
        shape = (6 + number, 9, 11)
        made.append((rng.uniform(0, 250, shape).astype(kind), rng.normal(0, 1, shape).astype("float32")))
    return made


def test_both_stores_give_the_same_bytes_and_those_of_numpy() -> None:
    ranges = [(10.0, 99.9), (-1.3, 0.7)]
    mapped, resident = (store.Store(volumes(), ranges, CPU, resident=r) for r in (False, True))
    first, second = (
        patches.PatchSampler([v[0] for v in volumes()], (4, 5, 6), np.random.default_rng(3)) for _ in range(2)
    )
    for _ in range(50):
        one, two = first.origin(), second.origin()
        a, b = mapped.scaled(mapped.cut(*one, (4, 5, 6))), resident.scaled(resident.cut(*two, (4, 5, 6)))
        for channel, (x, y) in enumerate(zip(a, b, strict=True)):
            assert x.dtype == torch.float32
            assert x.numpy().tobytes() == y.contiguous().numpy().tobytes()
            expected = patches.scale(patches.cut(volumes()[one[0]][channel], one[1], (4, 5, 6)), ranges[channel])
            assert x.numpy().tobytes() == np.ascontiguousarray(expected).tobytes()


def test_cutting_leaves_the_stored_volume_alone() -> None:
    kept = store.Store(volumes(), [(0.0, 1.0), (0.0, 1.0)], CPU, resident=True)
    before = [[v.clone() for v in scan] for scan in kept.scans]
    kept.scaled(kept.cut(1, (0, 0, 0), (6, 9, 11)))
    assert all(
        torch.equal(a, b) for one, two in zip(kept.scans, before, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_volumes_that_do_not_fit_stay_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(v.nbytes for scan in volumes() for v in scan)
    gpu = SimpleNamespace(type="cuda")
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(store, "room", lambda device, free=free: free)
        log = Told()
        assert store.resident("auto", [volumes()], gpu, "x", log) is fits
        assert {"kind", "volumes_gb", "room_gb"} <= log.named("store")[0].keys()
        assert not store.resident("auto", [volumes()], CPU, "x")
        assert not store.resident("memory-mapped", [volumes()], gpu, "x")
    with pytest.raises(UserError, match="write store: auto"):
        store.resident("device", [volumes()], CPU, "x")


def test_room_is_part_of_the_free_memory() -> None:
    assert 0 < store.room(CPU) < 2**50


def stream_feed(ahead: bool, threads: list[str]) -> feed.Feed:
    rng = np.random.default_rng(1)

    def draw() -> float:
        threads.append(threading.current_thread().name)
        return rng.random()

    def restore(state: dict) -> None:
        rng.bit_generator.state = state

    return feed.Feed(draw, lambda: rng.bit_generator.state, restore, ahead=ahead)


def test_batches_drawn_ahead_are_those_drawn_in_turn_and_resume() -> None:
    expected = np.random.default_rng(1).random(12).tolist()
    for ahead in (False, True):
        threads: list[str] = []
        one = stream_feed(ahead, threads)
        assert [one.next() for _ in range(5)] == expected[:5]
        state = json.loads(json.dumps(one.state()))
        assert [one.next() for _ in range(3)] == expected[5:8]
        one.restore(state)
        assert [one.next() for _ in range(3)] == expected[5:8]
        other = stream_feed(not ahead, [])
        other.restore(state)
        assert [other.next() for _ in range(7)] == expected[5:]
        assert all(("patches" in name) is ahead for name in threads)
        one.close()
        other.close()


def test_what_fails_while_drawing_ahead_is_told() -> None:
    def draw() -> None:
        raise OSError("disk gone")

    broken = feed.Feed(draw, dict, lambda s: None, ahead=True)
    with pytest.raises(OSError, match="disk gone"):
        broken.next()
    broken.close()


# ---- watching


def variety(synthetic: torch.Tensor, real: torch.Tensor) -> float | None:
    own = watch.Variety(real.shape[1], real.ndim - 2, CPU)
    for s, r in zip(synthetic.split(4), real.split(4), strict=True):
        own.add(own.coarse(s), own.coarse(r))
    found = own.take()
    assert own.take() is None
    return found


@pytest.mark.parametrize("dimensions", [2, 3])
def test_variety_is_the_ratio_of_standard_deviations(dimensions: int) -> None:
    torch.manual_seed(1)
    levels = torch.randn(64, 1, *[1] * dimensions)
    real = levels + 0.1 * torch.randn(64, 1, *[8] * dimensions)
    assert variety(0.3 * real + 0.5, real) == pytest.approx(0.3, rel=1e-4)
    # one picture for every input, with texture: no variety between patches
    assert variety(real[:1].expand_as(real), real) == pytest.approx(0, abs=1e-6)
    assert variety(real[:4], real[:4]) is None  # too few to tell
    assert variety(real, torch.ones_like(real)) is None


def rows(**columns: list) -> list[dict]:
    length = len(next(iter(columns.values())))
    return [{"iteration": 100 * (i + 1), **{n: v[i] for n, v in columns.items()}} for i in range(length)]


def test_warnings_come_after_rows_in_a_line_and_after_the_warm_up() -> None:
    own = watch.Watch(["variety_forward"], {"discriminator_target": 0.25}, iterations=1000)
    fine = [0.3] * 10

    def first(**columns: list) -> int | None:
        made = rows(**columns)
        return next((made[n]["iteration"] for n in range(len(made)) if own.warnings(made[: n + 1])), None)

    assert first(variety_forward=[0.9] * 10, discriminator_target=fine) is None
    # an untrained generator gives the same everywhere: rows up to 100 do not count
    assert first(variety_forward=[0.01] * 4 + [0.9] * 6, discriminator_target=fine) == 400
    assert first(variety_forward=[0.01] * 3 + [0.9] * 7, discriminator_target=fine) is None
    assert (
        first(variety_forward=[0.9, 0.9, 0.09, 0.05, 0.09, 0.9, 0.9, 0.9, 0.9, 0.9], discriminator_target=fine) == 500
    )
    assert first(variety_forward=[0.9, 0.01, None, 0.01, None, 0.01], discriminator_target=fine[:6]) == 600
    assert first(variety_forward=fine, discriminator_target=[0.2, 0.2, *[0.001] * 8]) == 700


def test_a_generator_that_spoils_what_it_shall_leave_alone_is_told() -> None:
    own = watch.Watch([], {}, iterations=1000, identities=["identity_forward"])
    losses = [0.9, 0.6, 0.1, 0.9, 1.0, 1.0, 0.01]  # at the start it may be anything; then two rows are no breakdown
    made = rows(identity_forward=losses)
    assert [own.warnings(made[: n + 1]) for n in range(7)] == [[]] * 5 + [["identity_forward"], []]
    assert "broke down" in watch.sentence("identity_forward")


class Collapsing:
    """A trainee whose variety falls after iteration 30."""

    losses = ("x",)

    def __init__(self) -> None:
        self.iteration = 0

    def step(self) -> torch.Tensor:
        self.iteration += 1
        return torch.ones(1)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(1)}

    def state(self) -> dict[str, int]:
        return {"iteration": self.iteration}

    def restore(self, tensors: dict, state: dict[str, int]) -> None:
        self.iteration = state["iteration"]


def test_warnings_are_said_once_and_stay_in_the_history(tmp_path: Path) -> None:
    trainee, log, drawn = Collapsing(), Told(), []
    own = watch.Watch(["variety_forward"], {}, iterations=100)
    seen = dict.fromkeys(range(40, 81), 0.02) | {100: None}
    hooks = loop.Hooks(
        observe=lambda: {"variety_forward": seen.get(trainee.iteration, 1.0)},
        warn=own.warnings,
        sample=drawn.append,
        waited_s=time.perf_counter,
    )
    plan = loop.Plan(iterations=100, history_every=10, samples_every=40)
    history = loop.run(trainee, plan, name="x", folder=tmp_path, key="k", hooks=hooks, log=log)
    assert [row["warnings"] for row in history] == ["", "", "", "", "", *["variety_forward"] * 3, "", ""]
    assert [facts["iteration"] for facts in log.named("warning")] == [60]
    assert "mode collapse" in log.named("warning")[0]["text"]
    assert drawn == [40, 80, 100]
    assert watch.told(history) == [
        {"column": "variety_forward", "first": 60, "last": 80, "text": watch.sentence("variety_forward")}
    ]
    assert log.named("training")[-1]["data"].endswith("%")
    loop.write_history(history, ("x",), tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "iteration,x,variety_forward,warnings"
    assert lines[1] == "10,1.0,1.0,"
    assert lines[8] == "80,1.0,0.02,variety_forward"
    assert lines[10] == "100,1.0,,"


# ---- signals


CHILD = """
import signal, sys, time
from pathlib import Path
import torch
from polycentric.training import loop
class Walk:
    losses = ("x",)
    def __init__(self):
        self.x, self.rng = torch.zeros(3), torch.Generator().manual_seed(1)
    def step(self):
        self.x = self.x * 0.9 + torch.rand(3, generator=self.rng) + torch.rand(3)
        time.sleep(0.01)
        return self.x[:1].clone()
    def tensors(self):
        return {"x": self.x, "rng": self.rng.get_state()}
    def state(self):
        return {}
    def restore(self, tensors, state):
        self.x = tensors["x"]
        self.rng.set_state(tensors["rng"])
torch.manual_seed(5)
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
walk = Walk()
plan = loop.Plan(iterations=150, history_every=7, checkpoint_iterations=int(sys.argv[3]) or None)
print("begun", flush=True)
history = loop.run(walk, plan, name="x", folder=folder, key="k")
out.write_text(repr((walk.x.tolist(), history)))
"""


def here(folder: Path, every: int) -> str:
    """What the child writes, from this process."""
    out = folder.with_suffix(".txt")
    keep, sys.argv = sys.argv, ["child", str(folder), str(out), str(every)]
    try:
        exec(textwrap.dedent(CHILD), {})
    finally:
        sys.argv = keep
    return out.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return here(tmp_path_factory.mktemp("walk") / "whole", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_process_told_to_go_saves_and_a_killed_one_falls_back(
    tmp_path: Path, number: signal.Signals, undisturbed: str
) -> None:
    every = 5 if number == signal.SIGKILL else 0  # a kill leaves what was saved before it
    command = [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, (tmp_path / "state", tmp_path / "x", every))]
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    broken = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert broken.stdout is not None
    broken.stdout.readline()
    time.sleep(0.5)
    broken.send_signal(number)
    _, said = broken.communicate(timeout=60)
    assert broken.returncode == (-signal.SIGKILL if number == signal.SIGKILL else interrupt.TRY_AGAIN)
    assert not (tmp_path / "x").exists()
    saved = checkpoint.load(tmp_path / "state", "k")
    assert saved is not None
    assert 0 < saved.iteration < 150
    if number != signal.SIGKILL:
        assert f"told to go by {number.name}: the state of iteration {saved.iteration} of 150 is saved" in said
    assert here(tmp_path / "state", every) == undisturbed


def test_a_signal_in_the_last_iteration_finishes_the_training(tmp_path: Path) -> None:
    trainee = Collapsing()
    step = trainee.step

    def last() -> torch.Tensor:
        if trainee.iteration == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return step()

    trainee.step = last  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    history = loop.run(trainee, loop.Plan(iterations=10), name="x", folder=tmp_path, key="k")
    assert history[-1]["iteration"] == 10
    assert signal.getsignal(signal.SIGTERM) is before


# ---- samples


def test_png_is_what_another_reader_sees(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    samples.write_png(picture, tmp_path / "x.png")
    with Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())) as image:
        image.verify()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), picture)


def test_a_sheet_shows_source_synthetic_difference_and_back_in_one_window() -> None:
    source = np.zeros((64, 128), np.float32)
    synthetic, back = source.copy(), np.full_like(source, 1.0)
    synthetic[:32] = 0.25
    synthetic[32:] = -0.25
    sheet = samples.sheet(
        [samples.Line(shown, (-0.5, 0.5), (-0.5, 0.5)) for shown in ((source, synthetic, back), (source,) * 3)]
    )
    gap = samples.GAP
    assert sheet.shape == (64 * 2 + gap, 128 * 4 + gap * 3, 3)
    columns = [sheet[:64, k * (128 + gap) : k * (128 + gap) + 128] for k in range(4)]
    assert set(columns[0].ravel()) == {128}  # the middle of the window
    assert columns[1][0, 0].tolist() == [191] * 3
    assert columns[1][40, 0].tolist() == [64] * 3
    assert columns[2][0, 0].tolist() == [178, 24, 43]  # a quarter of the window and more: full red
    assert columns[2][40, 0].tolist() == [33, 102, 172]
    assert set(columns[3].ravel()) == {255}
    second = sheet[64 + gap :]
    assert set(second[:, 2 * (128 + gap) : 2 * (128 + gap) + 128].ravel()) == {255}  # no difference: white
    small = samples.sheet([samples.Line((source[:8, :16],) * 3)])
    assert small.shape == (64, 128 * 4 + gap * 3, 3)  # small ones are enlarged


def test_each_domain_has_its_window_and_no_difference_where_units_differ() -> None:
    source, synthetic, back = (np.full((128, 128), value, np.float32) for value in (0.5, -0.5, 0.25))
    line = samples.Line((source, synthetic, back), own=(0.0, 1.0), other=(-1.0, 0.0), comparable=False)
    sheet = samples.sheet([line])
    tiles = [int(sheet[5, k * (128 + samples.GAP) + 5, 0]) for k in range(4)]
    assert tiles == [128, 128, 255, 64]  # each the half of its own window; white; a quarter


def test_the_region_of_samples_lies_in_the_middle_and_suits_the_network() -> None:
    assert samples.middle((20, 30, 40), (8, 8, 8), 4) == (slice(6, 14), slice(7, 23), slice(12, 28))
    assert samples.middle((8, 11, 9), (8, 8, 8), 4) == (slice(0, 8), slice(1, 9), slice(0, 8))
    assert samples.middle((9, 30, 30), (1, 12, 12), 4)[0] == slice(4, 5)


def test_sheets_are_handed_over_up_to_the_last_iteration(tmp_path: Path) -> None:
    drawn, archive = tmp_path / "drawn", tmp_path / "samples.zip"
    drawn.mkdir()
    for iteration in (5, 10, 15):
        (drawn / samples.name(iteration)).write_text(str(iteration))
    samples.hand_over(drawn, archive, 10)
    with zipfile.ZipFile(archive) as held:
        assert held.namelist() == ["000000005.png", "000000010.png"]
        assert held.read("000000005.png") == b"5"
    samples.hand_over(tmp_path / "none", archive, 10)
    with zipfile.ZipFile(archive) as held:
        assert held.namelist() == []


# ---- settings


def test_settings_of_the_engine() -> None:
    assert Engine().deterministic
    assert Engine().precision == "auto"
    for name in ("samples_window", "samples_window_source"):
        with pytest.raises(pydantic.ValidationError, match=rf"{name} .* must rise"):
            Engine(**{name: (1, 1)})
    with pytest.raises(pydantic.ValidationError, match="precision"):
        Engine(precision="fp16")


def test_one_process_is_a_team_of_its_own() -> None:
    alone, x = Team(), torch.ones(2)
    assert alone.leads
    assert alone.share(3) == slice(0, 3)
    assert alone.gather(x) is x
    assert (alone.any(True), alone.any(False)) == (True, False)
    assert [Team(rank, 2).share(4) for rank in (0, 1)] == [slice(0, 2), slice(2, 4)]
