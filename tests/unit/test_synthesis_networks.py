"""Networks: size, receptive field, shapes, losses, pool."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from polycentric.errors import UserError
from polycentric.networks import devices
from polycentric.networks.discriminator import Discriminator, receptive_field
from polycentric.networks.generator import Generator
from polycentric.networks.layers import InstanceNorm, initialise, parameters
from polycentric.networks.unet import UNet
from polycentric.synthesis.losses import absolute, least_squares
from polycentric.synthesis.pool import ImagePool

torch.set_num_threads(1)


def test_parameters_of_the_published_networks() -> None:
    # counts of the published layer lists, by an independent implementation
    with torch.device("meta"):
        assert parameters(Generator(3)) / 1e6 == pytest.approx(34.11, abs=0.005)
        assert parameters(Discriminator(3)) / 1e6 == pytest.approx(11.05, abs=0.005)
        assert parameters(Generator(2)) / 1e6 == pytest.approx(11.37, abs=0.01)
        assert parameters(Discriminator(2)) / 1e6 == pytest.approx(2.76, abs=0.005)


def test_parameters_by_hand() -> None:
    w = 4
    stem, down, up, head = 7**3 * w + w, 27 * w * 2 * w + 2 * w, 27 * 2 * w * w + w, 7**3 * w + 1
    block = 2 * (27 * (2 * w) ** 2 + 2 * w)
    assert parameters(Generator(3, width=w, downs=1, residual_blocks=3)) == stem + down + 3 * block + up + head


@pytest.mark.parametrize(("layers", "voxels"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field_is_what_the_gradient_reaches(layers: int, voxels: int) -> None:
    assert receptive_field(layers) == voxels
    network = Discriminator(2, width=2, layers=layers)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.ones_(module.weight)
    # without normalisation, which sees the whole image
    plain = torch.nn.Sequential(*[m for m in network.layers if not isinstance(m, InstanceNorm)])
    x = torch.ones(1, 1, 160, 160, requires_grad=True)
    y = plain(x)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    reached = x.grad[0, 0].abs().sum(0).nonzero()
    assert int(reached.max() - reached.min()) + 1 == voxels


@pytest.mark.parametrize("dimensions", [2, 3])
def test_shapes(dimensions: int) -> None:
    x = torch.zeros(2, 1, *[24] * dimensions)
    assert Generator(dimensions, width=2, residual_blocks=1)(x).shape == x.shape
    assert UNet(dimensions, width=2, depth=3)(x).shape == x.shape
    assert Discriminator(dimensions, width=2)(x).shape == (2, 1, *[1] * dimensions)
    several = Generator(dimensions, width=2, residual_blocks=1, branch_blocks=1, inputs=3, outputs=2)
    assert several(x.repeat_interleave(3, 1)).shape[1] == 2


def test_instance_norm_equals_torch() -> None:
    x = torch.randn(2, 3, 4, 5, 6) * 7 + 3
    torch.testing.assert_close(InstanceNorm()(x), torch.nn.functional.instance_norm(x))


def test_initialisation_does_not_depend_on_other_draws() -> None:
    networks = []
    for draws in (0, 5):
        torch.rand(draws)
        networks.append(Generator(2, width=2, residual_blocks=1))
        initialise(networks[-1], 3, 0.02)
    for p, q in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_losses_by_hand() -> None:
    verdicts = torch.tensor([0.0, 1.0, 3.0])
    assert least_squares(verdicts, True).item() == pytest.approx((1 + 0 + 4) / 3)
    assert least_squares(verdicts, False).item() == pytest.approx((0 + 1 + 9) / 3)
    assert absolute(verdicts, torch.tensor([1.0, 1.0, 1.0])).item() == pytest.approx(1.0)


def test_pool_fills_then_returns_earlier_images_half_of_the_time() -> None:
    pool = ImagePool(4, (1, 1), np.random.default_rng(0), torch.device("cpu"))
    for number in range(4):
        assert pool.exchange(torch.full((1, 1, 1), float(number))).item() == number
    shown = [pool.exchange(torch.full((1, 1, 1), float(number))).item() for number in range(4, 404)]
    earlier = sum(s != n for n, s in enumerate(shown, start=4))
    assert 160 < earlier < 240  # binomial(400, 0.5): 4 standard deviations
    assert all(s <= n for n, s in enumerate(shown, start=4))
    assert len(set(shown)) == len(shown)  # an image leaves the pool when it is shown


def test_pool_of_no_images_returns_its_input() -> None:
    images = torch.randn(2, 1, 3)
    assert ImagePool(0, (1, 3), np.random.default_rng(0), torch.device("cpu")).exchange(images) is images


BLOCKED = """
import importlib.abc, pkgutil, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pandas", "SimpleITK", "scipy", "pydantic", "matplotlib", "sklearn", "pyarrow"}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
from importlib import import_module
names = []
for package in ("networks", "training", "inference", "synthesis", "segmentation"):
    folder = import_module("polycentric." + package).__path__
    names += [f"polycentric.{package}.{m.name}" for m in pkgutil.iter_modules(folder)]
names.remove("polycentric.training.cohort")
for name in names:
    import_module(name)
print(len(names))
"""


def test_network_code_imports_with_numpy_torch_and_safetensors_alone() -> None:
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, cwd=scripts, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 18


def test_auto_refuses_a_cluster_job_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(UserError, match="write device: cpu"):
        devices.prepare("auto", 1)
    assert devices.prepare("cpu", 1).type == "cpu"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert devices.prepare("auto", 1).type == "cpu"
