"""Training and application of a synthesis model."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydantic
import pytest
import SimpleITK as sitk
import torch
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.config.synthesis import Synthesis
from polycentric.errors import UserError
from polycentric.networks import devices, weights
from polycentric.randomness import generator as stream
from polycentric.synthesis import apply, cyclegan
from polycentric.synthesis.augment import Augmenter
from polycentric.synthesis.domains import Images
from polycentric.synthesis.train import train
from polycentric.tables import schemas
from polycentric.training import checkpoint, loop, patches, state
from polycentric.training import cohort as selection

TINY = {
    "split": "main",
    "source": {"view": "ct", "where": "contrast == 'yes'"},
    "target": {"view": "ct", "where": "contrast == 'no'"},
    "iterations": 6,
    "patch": [8, 8, 8],
    "generator": {"width": 2, "downs": 1, "residual_blocks": 1, "kernel": 3},
    "discriminator": {"width": 2, "layers": 1},
    "pool": 3,
    "history_every": 4,
    "threads": 1,
    "inference": {"stride": [4, 4, 4]},
}
PARTS = dict.fromkeys(["p0", "p1", "p2", "p3"], "training") | {"p4": "test", "p5": "test", "p6": "external"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("synthesis"), PARTS)


def call(
    cohort: Phantom, out: Path, *, work: Path | None = None, upstream: list[Path] | None = None, **changes
) -> None:
    train(
        "decontrast",
        Synthesis(**(TINY | changes)),
        seed=1,
        scans=cohort.scans,
        patients=cohort.patient_table,
        split=cohort.split,
        manifests=[cohort.view],
        root=cohort.root,
        work=work or out / "work",
        fold="main",
        weights=out / "weights.safetensors",
        settings_out=out / "settings.json",
        history=out / "history.csv",
        ledger=out / "ledger.json",
        samples=out / "samples.zip",
        device="cpu",
        upstream=upstream or [],
        settings_json="{}",
        code="0",
    )


def outputs(folder: Path) -> dict[str, bytes]:
    return {
        n: (folder / n).read_bytes() for n in ("weights.safetensors", "settings.json", "history.csv", "ledger.json")
    }


@pytest.fixture(scope="module")
def trained(cohort: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    call(cohort, folder)
    return folder


def test_outputs(trained: Path) -> None:
    record = ledger.read(trained / "ledger.json")
    assert record["seen"] == {"training": ["p0", "p1", "p2", "p3"]}
    tensors, facts = weights.read(trained / "weights.safetensors")
    assert {n.split(".")[0] for n in tensors} == {"forward", "backward"}
    assert facts["settings"]["patch"] == [8, 8, 8]
    history = (trained / "history.csv").read_text().splitlines()
    further = ["variety_backward", "variety_forward", "warnings"]
    assert history[0].split(",") == ["iteration", *cyclegan.loss_names(1), *further]
    assert [line.split(",")[0] for line in history[1:]] == ["4", "6"]
    told = json.loads((trained / "settings.json").read_text())
    assert [scan for scan, _ in told["scans"]["source"]] == ["scan-p0", "scan-p2"]
    assert [scan for scan, _ in told["scans"]["target"]] == ["scan-p1", "scan-p3"]


@pytest.mark.parametrize("broken_after", [1, 3, 5])
def test_a_broken_run_resumes_to_the_same_bytes(
    cohort: Phantom, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_after: int
) -> None:
    step, done = cyclegan.CycleGan.step, []

    def breaks(self: cyclegan.CycleGan) -> torch.Tensor:
        if len(done) == broken_after:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(cyclegan.CycleGan, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        call(cohort, tmp_path, checkpoint_iterations=2)
    assert not (tmp_path / "weights.safetensors").exists()
    done.clear()
    counted = []
    monkeypatch.setattr(cyclegan.CycleGan, "step", lambda self: counted.append(1) or step(self))
    call(cohort, tmp_path, checkpoint_iterations=2)
    assert len(counted) == 6 - broken_after // 2 * 2  # from the last checkpoint, not from the start
    assert outputs(tmp_path) == outputs(trained)


def test_a_finished_training_is_restored(
    cohort: Phantom, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cyclegan.CycleGan, "step", lambda self: pytest.fail("trained again"))
    call(cohort, tmp_path, work=trained / "work")
    assert outputs(tmp_path) == outputs(trained)


def test_settings_of_inference_train_nothing_again_but_others_do(
    cohort: Phantom, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cyclegan.CycleGan, "step", lambda self: pytest.fail("trained again"))
    call(cohort, tmp_path, work=trained / "work", inference={"stride": [2, 2, 2]}, checkpoint_minutes=1)
    with pytest.raises(BaseException, match="trained again"):
        call(cohort, tmp_path, work=trained / "work", learning_rate=1e-3)


def test_other_scans_inherit_nothing(cohort: Phantom, trained: Path, tmp_path: Path) -> None:
    call(cohort, tmp_path, work=trained / "work", source={"view": "ct", "where": "contrast == 'yes' and age < 52"})
    assert outputs(tmp_path)["weights.safetensors"] != outputs(trained)["weights.safetensors"]
    assert ledger.read(tmp_path / "ledger.json")["seen"] == {"training": ["p0", "p1", "p3"]}


def test_no_held_out_scan_is_opened(cohort: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = patches.open_nifti
    monkeypatch.setattr(patches, "open_nifti", lambda path: opened.append(Path(path).stem) or real(path))
    call(cohort, tmp_path, iterations=1)
    assert sorted(opened) == ["scan-p0", "scan-p1", "scan-p2", "scan-p3"]


def test_an_upstream_model_that_saw_a_patient_is_refused(cohort: Phantom, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    facts = {"name": "other", "stage": "synthesis", "split": "x", "settings": "{}", "code": "0"}
    ledger.write(path, seen={"training": ["p4"]}, **facts)
    with pytest.raises(UserError, match="'other' behind its inputs has seen 1 of its patients"):
        call(cohort, tmp_path, upstream=[path])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {"view": "ct", "where": "centre == 'west'"}}, "source: no scan is left to train on"),
        ({"source": {"view": "ct", "where": "contrst == 'yes'"}}, "cannot be evaluated.*columns: centre"),
        ({"source": {"view": "ct", "where": "@x == 1"}}, "cannot be evaluated"),
        ({"source": {"view": "ct", "where": "age"}}, "is not a condition"),
        ({"target": {"view": "mr"}}, "target: no scan is left"),
        ({"patch": [32, 32, 32]}, "scan scan-p0 has 24 x 24 x 20 voxels, fewer than the patch of 32 x 32 x 32"),
        ({"hu_range": [2000, 3000]}, r"constant within the range \[2000"),
    ],
)
def test_bad_input_is_told_before_training(cohort: Phantom, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        call(cohort, tmp_path, **changes)


def test_why_no_scan_is_left_is_told(cohort: Phantom, tmp_path: Path) -> None:
    rows = tables.read(cohort.view, schemas.VIEWS).assign(status="missing", reason="VIEW_FLAT: one value", path=None)
    tables.write(rows, tmp_path / "none.tsv", schemas.VIEWS)
    everyone = selection.cohort(cohort.scans, cohort.patient_table)
    with pytest.raises(UserError, match=r"none of them has an image there \(VIEW_FLAT: one value\)"):
        selection.images(everyone, [tmp_path / "none.tsv"], "ct", "synthesis: x: source")


def test_nan_in_a_scan_is_told(cohort: Phantom, tmp_path: Path) -> None:
    array = np.full(cohort.shape, 10, dtype=np.float32)
    array[3, 4, 5] = np.nan
    # past volumes.write, which refuses NaN: a view may come from elsewhere
    sitk.WriteImage(volumes.Volume(array, cohort.geometry).to_sitk(), str(tmp_path / "scan.nii"))
    with pytest.raises(UserError, match="scan-x holds NaN"):
        patches.checked([{"scan": "scan-x", "path": "scan.nii"}], tmp_path, (8, 8, 8), (-1000, 1000), "synthesis: x")


def test_memory_mapped_volumes_are_those_of_simpleitk(cohort: Phantom, tmp_path: Path) -> None:
    for kind in ("int16", "float32", "uint8", "float64", "uint16", "int32"):
        array = np.random.default_rng(0).integers(0, 200, cohort.shape).astype(kind)
        volumes.write(volumes.Volume(array, cohort.geometry), tmp_path / f"{kind}.nii")
        found = patches.open_nifti(tmp_path / f"{kind}.nii")
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
    (tmp_path / "x.nii").write_bytes(b"\x1f\x8b" + bytes(500))
    with pytest.raises(ValueError, match="not an uncompressed NIfTI"):
        patches.open_nifti(tmp_path / "x.nii")


def model(**changes) -> cyclegan.CycleGan:
    settings = Synthesis(**(TINY | {"pool": 0} | changes))
    size = patches.full_size(settings.patch)
    rng = np.random.default_rng(5)
    samplers = []
    for domain, ranges in (("a", settings.source_ranges), ("b", (settings.target_range,))):
        scan = tuple(rng.normal(0, 300, (8, 10, 12)) for _ in ranges)
        augmenter = Augmenter(settings.augment, stream(2, domain))
        samplers.append(Images([scan], [(1.0, 1.0, 2.0)], size, ranges, stream(1, domain), augmenter))
    return cyclegan.CycleGan(settings, *samplers, seed=3, names=("t",), device=torch.device("cpu"))


def test_merged_passes_equal_six_separate_ones() -> None:
    torch.set_num_threads(1)
    merged, plain = model(batch=2), model(batch=2)
    a, b = merged.draw("source"), merged.draw("target")
    forward, backward, judge_a, judge_b = (plain.networks[n] for n in (*cyclegan.GENERATORS, *plain.judges))
    found = merged.update(a, b)

    mse, mae = torch.nn.functional.mse_loss, torch.nn.functional.l1_loss
    fake_b, fake_a = forward(a), backward(b)
    again_a, again_b = backward(fake_b), forward(fake_a)
    same_b, same_a = forward(b), backward(a)
    on_b, on_a = judge_b(fake_b), judge_a(fake_a)
    terms = [mse(on_b, torch.ones_like(on_b)), mse(on_a, torch.ones_like(on_a))]
    terms += [mae(again_a, a), mae(again_b, b), mae(same_b, b), mae(same_a, a)]
    total = terms[0] + terms[1] + 10 * (terms[2] + terms[3]) + 5 * (terms[4] + terms[5])
    plain.optimizers["generators"].zero_grad()
    total.backward()
    gradients = [p.grad.clone() for n in ("forward", "backward") for p in plain.networks[n].parameters()]
    judged = []
    for judge, real, fake in ((judge_a, a, fake_a), (judge_b, b, fake_b)):
        on_real, on_fake = judge(real), judge(fake.detach())
        judged.append((mse(on_real, torch.ones_like(on_real)) + mse(on_fake, torch.zeros_like(on_fake))) / 2)
    expected = torch.stack([x.detach() for x in (*terms, *judged)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    new = [p.grad for n in ("forward", "backward") for p in merged.networks[n].parameters()]
    for g, h in zip(new, gradients, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-3, atol=1e-5)


def test_no_identity_loss_leaves_the_other_losses() -> None:
    a, b = model().draw("source"), model().draw("target")
    with_identity, without = model().update(a, b), model(losses={"identity": 0}).update(a, b)
    torch.testing.assert_close(with_identity[[0, 1, 2, 3]], without[[0, 1, 2, 3]], rtol=1e-5, atol=1e-6)
    assert without[4:6].tolist() == [0, 0]


def test_samplers_reach_every_origin_and_focus() -> None:
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    sampler = patches.PatchSampler([volume], (3, 3, 3), np.random.default_rng(0))
    origins = {sampler.origin()[1] for _ in range(500)}
    assert origins == {(z, y, x) for z in range(2) for y in range(3) for x in range(4)}
    centre = np.array([np.ravel_multi_index((2, 2, 3), volume.shape)])
    focused = patches.PatchSampler([volume], (3, 3, 3), np.random.default_rng(0), centres=[centre], focus=1.0)
    assert {focused.origin()[1] for _ in range(20)} == {(1, 1, 2)}
    before = sampler.state()
    first = [sampler.origin() for _ in range(5)]
    sampler.restore(json.loads(json.dumps(before)))
    assert [sampler.origin() for _ in range(5)] == first


class Straight:
    """A trainee of one number: every step adds 1 to it."""

    losses = ("x",)

    def __init__(self, bad: float | None = None) -> None:
        self.value, self.bad = torch.zeros(1), bad

    def step(self) -> torch.Tensor:
        self.value = self.value + 1
        if self.bad is not None and self.value.item() == 3:
            return torch.tensor([self.bad])
        return self.value.clone()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, tensors: dict[str, torch.Tensor], record: dict[str, int]) -> None:
        self.value = tensors["value"]


def test_history_holds_means(tmp_path: Path) -> None:
    plan = loop.Plan(iterations=5, history_every=2)
    history = loop.run(Straight(), plan, name="x", folder=tmp_path, key="k")
    assert history == [{"iteration": 2, "x": 1.5}, {"iteration": 4, "x": 3.5}, {"iteration": 5, "x": 5.0}]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e9])
def test_divergence_is_told_and_not_saved(tmp_path: Path, bad: float) -> None:
    plan = loop.Plan(iterations=5, history_every=3, checkpoint_iterations=1)
    with pytest.raises(UserError, match=r"diverged at iteration 3.*learning_rate"):
        loop.run(Straight(bad), plan, name="x", folder=tmp_path, key="k")
    assert checkpoint.load(tmp_path, "k").iteration == 2


def test_saves_by_time(tmp_path: Path) -> None:
    now = iter(range(0, 10_000, 50))
    events = []
    log = SimpleNamespace(event=lambda event, **facts: events.append((event, facts)))
    plan = loop.Plan(iterations=9, checkpoint_minutes=5)
    loop.run(Straight(), plan, name="x", folder=tmp_path, key="k", log=log, clock=lambda: next(now))
    # 50 s an iteration: after 300 s, and at the end
    assert sorted(p.stem for p in tmp_path.glob("*.json")) == ["000000006", "000000009"]
    assert events[-1][0] == "training"
    assert events[-1][1]["rate"] == pytest.approx(8 / 450, rel=0.2)  # reading the clock for a save counts
    assert {"iteration", "of", "left_s", "x"} <= events[-1][1].keys()


def test_auto_refuses_long_trainings_on_the_cpu(tmp_path: Path) -> None:
    now = iter(range(0, 100_000, 2))
    plan = loop.Plan(iterations=4000, limit_s=7200.0)
    with pytest.raises(UserError, match=r"about 2\.2 hours on the CPU.*device: cpu to insist"):
        loop.run(Straight(), plan, name="x", folder=tmp_path, key="k", clock=lambda: next(now))


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    for iteration in (1, 2, 3):
        record = checkpoint.Checkpoint(iteration, {"x": torch.full((3,), float(iteration))}, {"n": iteration})
        checkpoint.save(tmp_path, "k", record)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"00000000{i}.{suffix}" for i in (2, 3) for suffix in ("json", "safetensors")
    ]
    tensors = tmp_path / "000000003.safetensors"
    data = tensors.read_bytes()
    tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert checkpoint.load(tmp_path, "k").state == {"n": 2}
    (tmp_path / "000000003.json").write_text('{"half')
    assert checkpoint.load(tmp_path, "k").tensors["x"].tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="other settings"):
        checkpoint.load(tmp_path, "another key")
    (tmp_path / "000000002.safetensors").unlink()
    assert checkpoint.load(tmp_path, "k") is None


def test_optimizer_and_random_state_come_back(tmp_path: Path) -> None:
    networks = [torch.nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    first, second = (torch.optim.Adam(n.parameters(), 1e-2, fused=True) for n in networks)
    x = torch.randn(1, 2, 4, 4, 4)

    def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    step(networks[0], first)
    path = tmp_path / "x.safetensors"
    weights.write({**weights.of(networks[0], "n"), **state.of_optimizer(first, "o"), **state.of_random()}, path)
    expected = torch.rand(2)
    tensors, _ = weights.read(path)
    state.into_random(tensors)
    assert torch.equal(torch.rand(2), expected)
    weights.into(networks[1], tensors, "n")
    state.into_optimizer(second, tensors, "o")
    for network, optimizer in zip(networks, (first, second), strict=True):
        step(network, optimizer)
    assert torch.equal(networks[0].weight, networks[1].weight)


def shard(cohort: Phantom, trained: Path, name: str, **changes) -> Path:
    manifest = cohort.root / "views" / name / "main" / "all.tsv"
    apply.synthesize_shard(
        name,
        Synthesis(**(TINY | changes)),
        weights=trained / "weights.safetensors",
        ledger=trained / "ledger.json",
        source=cohort.view,
        root=cohort.root,
        manifest=manifest,
        fold="main",
        settings_json=json.dumps(changes),
        code="0",
        device="cpu",
        scans=cohort.scans,
        patients=cohort.patient_table,
    )
    return manifest


def test_a_view_keeps_grid_and_hu(cohort: Phantom, trained: Path) -> None:
    rows = tables.read(shard(cohort, trained, "noncontrast"), schemas.VIEWS)
    assert list(rows["status"]) == ["ok"] * len(PARTS)
    row = rows.iloc[0]
    made = volumes.read(cohort.root / row["path"], row)
    assert made.geometry == cohort.geometry
    assert made.array.dtype == np.int16
    assert -1000 <= made.array.min() < made.array.max() <= 1000
    assert not np.array_equal(made.array, cohort.images["p0"])
    again = shard(cohort, trained, "again")
    assert list(tables.read(again, schemas.VIEWS)["sha256"]) == list(rows["sha256"])


def test_where_hands_the_others_on(cohort: Phantom, trained: Path) -> None:
    manifest = shard(cohort, trained, "some", inference={"where": "contrast == 'yes'", "stride": [8, 8, 8]})
    for row in tables.read(manifest, schemas.VIEWS).to_dict("records"):
        same = np.array_equal(volumes.read(cohort.root / row["path"]).array, cohort.images[row["patient"]])
        assert same is not cohort.contrast(row["patient"])


def test_what_lies_beyond_the_range_is_kept(cohort: Phantom, tmp_path: Path) -> None:
    call(cohort, tmp_path, hu_range=[0, 100], iterations=1)
    settings = Synthesis(**(TINY | {"hu_range": [0, 100]}))
    translate = apply.Translator(settings, tmp_path / "weights.safetensors", torch.device("cpu"), "x", None)
    hu = cohort.images["p0"]
    change = translate(hu).astype(int) - hu
    assert np.abs(change).max() <= 100  # -1000 stays below -900, 300 above 200


def test_weights_of_another_generator_are_refused(cohort: Phantom, trained: Path) -> None:
    with pytest.raises(UserError, match="belongs to another generator"):
        shard(cohort, trained, "wrong", generator={"width": 3, "downs": 1, "residual_blocks": 1})


def test_a_source_without_image_becomes_a_row(cohort: Phantom, trained: Path) -> None:
    rows = tables.read(cohort.view, schemas.VIEWS)
    rows.loc[0, ["status", "reason", "path"]] = ["rejected", "GEOM_X: why", ""]
    source = cohort.root / "broken.tsv"
    tables.write(rows, source, schemas.VIEWS)
    manifest = cohort.root / "views" / "broken" / "main" / "all.tsv"
    apply.synthesize_shard(
        "broken", Synthesis(**TINY), weights=trained / "weights.safetensors", ledger=trained / "ledger.json",
        source=source, root=cohort.root, manifest=manifest, fold="main", settings_json="{}", code="0", device="cpu",
    )  # fmt: skip
    made = tables.read(manifest, schemas.VIEWS)
    assert list(made["status"]) == ["missing"] + ["ok"] * (len(PARTS) - 1)
    assert made.loc[0, "reason"] == "SOURCE_REJECTED: GEOM_X: why"


def test_slices_pass_a_two_dimensional_generator(cohort: Phantom, tmp_path: Path) -> None:
    flat = {"dimensions": 2, "patch": [12, 8], "iterations": 2, "inference": {}}
    call(cohort, tmp_path, **flat)
    manifest = shard(cohort, tmp_path, "flat", **flat)
    row = tables.read(manifest, schemas.VIEWS).iloc[0]
    made = volumes.read(cohort.root / row["path"]).array
    settings = Synthesis(**(TINY | flat))
    translate = apply.Translator(settings, tmp_path / "weights.safetensors", torch.device("cpu"), "x", None)
    # slices do not see each other
    assert np.array_equal(translate(cohort.images["p0"][4:6]), made[4:6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": [8, 8]}, "write 3, since dimensions is that"),
        ({"patch": [9, 8, 8]}, r"write multiples of 2, such as \[8, 8, 8\]"),
        ({"patch": [4, 4, 4]}, "too small for a discriminator of 1 layers, which needs 6 voxels"),
        ({"hu_range": [5, 5]}, "must rise"),
        ({"inference": {"stride": [9, 8, 8]}}, "would leave gaps"),
        ({"lambda": 10}, "Extra inputs"),
    ],
)
def test_bad_settings_say_what_to_write(changes: dict, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Synthesis(**(TINY | changes))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_patch_of_a_discriminator_has_one_verdict(layers: int) -> None:
    from polycentric.config.synthesis import smallest_patch
    from polycentric.networks.discriminator import Discriminator

    size = smallest_patch(layers)
    assert Discriminator(2, width=2, layers=layers)(torch.zeros(1, 1, size, size)).shape[2:] == (1, 1)


def test_every_setting_is_described() -> None:
    def walk(section: type[pydantic.BaseModel]) -> None:
        for name, field in section.model_fields.items():
            assert field.description, name
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
                walk(kind)

    walk(Synthesis)


def test_a_tiny_generator_learns_to_take_contrast_away(tmp_path: Path) -> None:
    parts = dict.fromkeys([f"p{i}" for i in range(6)], "training") | {"p6": "test"}
    cohort = Phantom(tmp_path, parts)
    learn = {
        "dimensions": 2, "patch": [24, 24], "batch": 4, "iterations": 100, "hu_range": [-200, 300],
        "learning_rate": 2e-3, "generator": {"width": 8, "downs": 1, "residual_blocks": 1, "kernel": 3},
        "discriminator": {"width": 16, "layers": 2}, "losses": {"identity": 2, "cycle": {"forward": 3, "backward": 3}},
        "inference": {"stride": [8, 8]},
    }  # fmt: skip
    call(cohort, tmp_path / "model", **learn)
    assert json.loads((tmp_path / "model" / "settings.json").read_text())["warnings"] == []
    settings = Synthesis(**(TINY | learn))
    path = tmp_path / "model" / "weights.safetensors"
    translate = apply.Translator(settings, path, devices.prepare("cpu", 1), "x", None)
    before, vessel = cohort.images["p6"], cohort.vessels["p6"]
    after = translate(before)
    tissue = (before > -100) & ~vessel & ~cohort.spheres["p6"]
    assert before[vessel].mean() > 180
    assert after[vessel].mean() < 90  # truth: 40
    assert abs(after[tissue].mean() - before[tissue].mean()) < 15


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_resumes_bit_for_bit(cohort: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(cohort, tmp_path / "whole", device="cuda")
    step = cyclegan.CycleGan.step
    done = []

    def breaks(self: cyclegan.CycleGan) -> torch.Tensor:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(cyclegan.CycleGan, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        call(cohort, tmp_path / "broken", device="cuda", checkpoint_iterations=2)
    monkeypatch.undo()
    call(cohort, tmp_path / "broken", device="cuda", checkpoint_iterations=2)
    assert outputs(tmp_path / "whole") == outputs(tmp_path / "broken")
