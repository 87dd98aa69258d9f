"""Training on a CUDA device; simulated arrays, so that torch, numpy, safetensors, pydantic and pytest are enough."""

from pathlib import Path

import numpy as np
import pytest
import torch
from polycentric.config.synthesis import Synthesis
from polycentric.config.training import Engine
from polycentric.networks import devices
from polycentric.randomness import generator as stream
from polycentric.synthesis.augment import Augmenter
from polycentric.synthesis.cyclegan import CycleGan
from polycentric.synthesis.domains import Images
from polycentric.training import checkpoint, engine, loop, patches, store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def gan(device: torch.device, resident: bool = True, **changes) -> CycleGan:
    base = {
        "split": "main",
        "source": {"view": "ct"},
        "target": {"view": "ct", "where": "other"},
        "iterations": 8,
        "patch": [32, 32, 32],
        "generator": {"width": 16, "residual_blocks": 2},
        "discriminator": {"width": 16, "layers": 2},
        "augment": {"flip": ["x"], "rotate_degrees": [-10, 10], "share": 0.5},
        "pool": 3,
    }
    settings = Synthesis(**(base | changes))
    rng = np.random.default_rng(5)
    images = []
    for domain in ("a", "b"):
        scans = [(rng.normal(0, 300, (40, 48, 48)).astype(np.int16),) for _ in range(2)]
        augmenter = Augmenter(settings.augment, stream(1, domain, "augment"))
        size, places = patches.full_size(settings.patch), stream(1, domain)
        spacings = [(1.0, 1.0, 1.0)] * 2
        made = Images(scans, spacings, size, [settings.hu_range], places, augmenter, device=device, resident=resident)
        images.append(made)
    return CycleGan(settings, *images, seed=3, names=("t",), device=device)


def arranged(model: CycleGan, wanted: Engine) -> devices.Arithmetic:
    examples = model.examples()
    model.arithmetic = engine.decide(wanted, model.device, lambda: examples[::2])
    engine.compile_networks(examples, model.arithmetic)
    return model.arithmetic


@pytest.mark.parametrize("wanted", [Engine(), Engine(precision="fp32", compile="no"), Engine(precision="bf16")])
def test_a_broken_training_resumes_bit_for_bit_in_deterministic_mode(tmp_path: Path, wanted: Engine) -> None:
    device = devices.prepare("cuda", 1, deterministic=True)
    plan = loop.Plan(iterations=8, history_every=3, checkpoint_iterations=2)

    def run(folder: Path, fails_after: int | None) -> None:
        model = gan(device)
        arranged(model, wanted)
        step, done = model.step, []

        def breaks() -> torch.Tensor:
            if len(done) == fails_after:
                raise KeyboardInterrupt
            done.append(1)
            return step()

        model.step = breaks  # type: ignore[method-assign]
        loop.run(model, plan, name="x", folder=folder, key="k", hooks=loop.Hooks(observe=model.observe))

    run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 5)
    run(tmp_path / "broken", None)
    one, two = (checkpoint.load(tmp_path / name, "k") for name in ("whole", "broken"))
    assert one is not None
    assert two is not None
    assert one.state == two.state
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, two.tensors[name]), name


def test_a_step_in_other_precision_is_near_that_in_float32() -> None:
    device = devices.prepare("cuda", 1)
    losses = {}
    for precision in ("fp32", "tf32", "bf16"):
        model = gan(device)
        model.arithmetic = devices.Arithmetic(device, precision)
        losses[precision] = model.step()
    torch.testing.assert_close(losses["tf32"], losses["fp32"], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(losses["bf16"], losses["fp32"], rtol=3e-2, atol=1e-2)
    assert not torch.equal(losses["bf16"], losses["fp32"])


def test_a_compiled_step_is_near_an_eager_one() -> None:
    device = devices.prepare("cuda", 1)
    losses = []
    for compiled in (False, True):
        model = gan(device)
        model.arithmetic = devices.Arithmetic(device, "fp32", compiled)
        assert engine.compile_networks(model.examples(), model.arithmetic) is compiled
        losses.append(model.step())
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_both_stores_give_the_same_patches() -> None:
    device = devices.prepare("cuda", 1)
    one, two = (gan(device, resident) for resident in (True, False))
    for _ in range(10):
        for domain in ("source", "target"):
            a, b = one.draw(domain), two.draw(domain)
            assert a.device.type == "cuda"
            assert torch.equal(a, b)


def test_volumes_go_to_the_device_if_they_fit() -> None:
    device = devices.prepare("cuda", 1)
    small = [[(np.zeros((8, 8, 8), np.int16),)]]
    assert store.resident("auto", small, device, "x")
    assert store.room(device) > 0


def test_bfloat16_is_taken_where_there_are_units_for_it() -> None:
    device = devices.prepare("cuda", 1)
    found = arranged(gan(device), Engine(compile="no"))
    capable = torch.cuda.get_device_capability(device) >= (8, 0)
    assert found.precision in (("bf16", "fp32") if capable else ("fp32",))
