"""Networks: size, receptive field, shapes, losses, pool."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from polycentric.config.synthesis import Schedule
from polycentric.errors import UserError
from polycentric.networks import devices
from polycentric.networks.discriminator import Discriminator, receptive_field
from polycentric.networks.generator import Generator
from polycentric.networks.layers import LAYOUT, InstanceNorm, Reflect, advance, initialise, parameters
from polycentric.networks.unet import UNet
from polycentric.synthesis.losses import absolute, judge, least_squares, ssim
from polycentric.synthesis.pool import ImagePool
from polycentric.synthesis.schedule import share

torch.set_num_threads(1)


# by hand from the layer lists: docs/synthesis.md has the sums
COUNTS = {
    "generator, 3D": (lambda: Generator(3), 34_111_489),
    "generator, 2D": (lambda: Generator(2), 11_365_633),
    "generator, 2D, 2 inputs": (lambda: Generator(2, inputs=2), 16_589_825),
    "generator, 2D, 3 inputs": (lambda: Generator(2, inputs=3), 21_748_225),
    "generator, 2D, 2 outputs": (lambda: Generator(2, outputs=2), 11_368_770),
    "generator, 2D, 3 outputs": (lambda: Generator(2, outputs=3), 11_371_907),
    "discriminator, 3D, flat: 0": (lambda: Discriminator(3, flat=0), 2_642_369),
    "discriminator, 3D": (lambda: Discriminator(3), 11_047_873),
    "discriminator, 2D": (lambda: Discriminator(2), 2_762_689),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_the_published_networks(name: str) -> None:
    make, count = COUNTS[name]
    with torch.device("meta"):
        assert parameters(make()) == count
    table = (Path(__file__).parents[2] / "docs" / "synthesis.md").read_text()
    assert any(f"| {name} |" in line and f"{count:,}" in line for line in table.splitlines())


def test_parameters_by_hand() -> None:
    w = 4
    stem, down, up, head = 7**3 * w + w, 27 * w * 2 * w + 2 * w, 27 * 2 * w * w + w, 7**3 * w + 1
    block = 2 * (27 * (2 * w) ** 2 + 2 * w)
    assert parameters(Generator(3, width=w, downs=1, residual_blocks=3)) == stem + down + 3 * block + up + head


def test_a_branch_is_what_the_plain_network_has_before_the_merge() -> None:
    settings = {"width": 3, "downs": 1, "residual_blocks": 3, "kernel": 3, "branch_blocks": 2}
    plain = parameters(Generator(2, **settings))
    branch = (9 * 3 + 3) + (9 * 3 * 6 + 6) + 2 * 2 * (9 * 6 * 6 + 6)
    # the mean has no weights of its own; one branch is the plain network whatever the settings of branches
    assert parameters(Generator(2, **settings, inputs=2, merge="mean")) == plain + branch
    assert parameters(Generator(2, **settings, inputs=4, merge="mean")) == plain + 3 * branch
    assert parameters(Generator(2, **settings, inputs=2)) == plain + branch + 12 * 6 + 6
    assert parameters(Generator(2, **settings, inputs=2, merge="input")) == plain + 9 * 3
    assert parameters(Generator(2, **settings, merge="mean")) == plain
    # repeated voxels and a convolution have as many weights as the transposed convolution
    assert parameters(Generator(2, **settings, upsampling="resize")) == plain
    # a scale and an offset per channel
    norms = 3 + 6 + 3 * 2 * 6 + 3
    assert parameters(Generator(2, **settings, norm="batch")) == plain + 2 * norms
    assert parameters(Generator(2, **settings, norm="none")) == plain


def test_each_input_reaches_the_output_through_its_own_branch() -> None:
    for merge in ("concatenate", "mean", "input"):
        network = Generator(2, width=2, residual_blocks=2, branch_blocks=1, inputs=3, merge=merge)
        initialise(network, 1, 0.2)
        x = torch.randn(1, 3, 16, 16, requires_grad=True)
        network(x).square().sum().backward()
        assert all(x.grad[0, n].abs().max() > 0 for n in range(3)), merge
    branches = Generator(2, width=2, residual_blocks=2, branch_blocks=1, inputs=3).branches
    assert len(branches) == 3
    assert branches[0][1].weight is not branches[1][1].weight


@pytest.mark.parametrize("dimensions", [2, 3])
def test_reflection_equals_torch(dimensions: int) -> None:
    x = torch.randn(2, 3, *[5] * dimensions, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(2, 3, *[11] * dimensions)
    ours = Reflect(3)(x)
    theirs = torch.nn.functional.pad(y, [3] * 2 * dimensions, mode="reflect")
    assert torch.equal(ours, theirs)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    with pytest.raises(ValueError, match="more than 3 voxels"):
        Reflect(3)(torch.zeros(1, 1, *[3] * dimensions))


@pytest.mark.parametrize("padding", ["replicate", "reflect", "zero"])
def test_paddings_and_upsamplings_keep_the_shape(padding: str) -> None:
    for dimensions in (2, 3):
        x = torch.randn(1, 1, *[16] * dimensions)
        for upsampling in ("transposed", "resize"):
            network = Generator(dimensions, width=2, residual_blocks=1, padding=padding, upsampling=upsampling)
            assert network(x).shape == x.shape
    # what lies beyond the border: a constant image stays constant but for zeros
    network = Generator(2, width=2, downs=0, residual_blocks=1, padding=padding, norm="none")
    initialise(network, 0, 0.3)
    out = network(torch.full((1, 1, 20, 20), 0.7))
    assert bool(out.std() > 1e-4) is (padding == "zero")


@pytest.mark.parametrize(("layers", "flat", "voxels"), [(1, 1, 16), (2, 1, 34), (3, 1, 70), (3, 0, 46), (0, 1, 1)])
def test_receptive_field_is_what_the_gradient_reaches(layers: int, flat: int, voxels: int) -> None:
    assert receptive_field(layers, flat) == voxels
    network = Discriminator(2, width=2, layers=layers, flat=flat)
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


@pytest.mark.parametrize("dimensions", [2, 3])
def test_instance_norm_of_nearly_constant_channels_is_exact_in_either_layout(dimensions: int) -> None:
    """Air in most of a patch: mean 1, deviation 0.01; the truth in float64, the gradient by torch's own."""
    torch.manual_seed(0)
    plain = 1 + 0.01 * torch.randn(2, 3, *[32] * dimensions)
    exact = plain.double().requires_grad_()
    axes = tuple(range(2, plain.ndim))
    variance, mean = torch.var_mean(exact, axes, correction=0, keepdim=True)
    expected = (exact - mean) / torch.sqrt(variance + 1e-5)
    expected.pow(3).sum().backward()
    for layout in (torch.contiguous_format, LAYOUT[dimensions]):
        x = plain.clone(memory_format=torch.contiguous_format).contiguous(memory_format=layout).requires_grad_()
        made = InstanceNorm()(x)
        assert made.is_contiguous(memory_format=layout)
        torch.testing.assert_close(made.double(), expected, atol=1e-3, rtol=0)
        made.pow(3).sum().backward()
        torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-3 * float(exact.grad.abs().max()), rtol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_spectral_normalisation_equals_torch_and_the_singular_values(dimensions: int) -> None:
    own = Discriminator(dimensions, width=3, layers=2, norm="spectral")
    initialise(own, 4)
    own.to(memory_format=LAYOUT[dimensions])
    advance(own, 500)
    other = Discriminator(dimensions, width=3, layers=2, norm="none")
    initialise(other, 4)
    convolutions = [[m for m in n.modules() if hasattr(m, "out_channels")] for n in (own, other)]
    for mine, theirs in zip(*convolutions, strict=True):
        weight = theirs.weight.detach().flatten(1).numpy()
        found = np.linalg.svd(mine.weight.detach().flatten(1).numpy(), compute_uv=False)
        assert found[0] == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found, (s := np.linalg.svd(weight, compute_uv=False)) / s[0], atol=1e-5)
        torch.nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=500)
    x = torch.randn(2, 1, *[16] * dimensions, generator=torch.Generator().manual_seed(1))
    said = [network(x) for network in (own, other)]
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)
    for verdicts in said:
        verdicts.square().sum().backward()
    for mine, theirs in zip(*convolutions, strict=True):
        of = [m.parametrizations["weight"].original.grad for m in (mine, theirs)]
        torch.testing.assert_close(*of, rtol=1e-3, atol=1e-4 * float(of[1].abs().max()))
        torch.testing.assert_close(mine.bias.grad, theirs.bias.grad, rtol=1e-3, atol=1e-5)


def test_spectral_normalisation_bounds_what_a_network_says_and_moves_only_when_told() -> None:
    x, y = torch.randn(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    # a convolution of kernel 4 and stride 2 shows each voxel at most 4 times, one of stride 1 16 times
    for norm, bounded in (("spectral", True), ("none", False)):
        network = Discriminator(2, width=4, layers=2, flat=0, norm=norm)
        initialise(network, 1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(50)
        advance(network, 200)
        state = {key: value.clone() for key, value in network.state_dict().items()}
        far = (network(x) - network(y)).norm() / (x - y).norm()
        assert (far <= 2 * 2 * 4) == bounded
        network(x).sum().backward()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_spectral_normalisation_is_float32_within_autocast() -> None:
    network = Discriminator(2, width=4, layers=1, norm="spectral")
    initialise(network, 1)
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(x)
        weight = network.layers[0].weight
    assert rough.dtype == torch.bfloat16
    assert torch.equal(weight, network.layers[0].weight)
    torch.testing.assert_close(rough.float(), network(x), rtol=0.05, atol=0.02)


def test_initialisation_does_not_depend_on_other_draws() -> None:
    networks = []
    for draws in (0, 5):
        torch.rand(draws)
        networks.append(Generator(2, width=2, residual_blocks=1))
        initialise(networks[-1], 3, 0.02)
    for p, q in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_without_normalisation_the_signal_passes_all_layers() -> None:
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    deviations = {}
    for name, given in {"normal": (0.02,), "He": (None,)}.items():
        network = Generator(2, width=8, residual_blocks=3, norm="none")
        initialise(network, 3, *given, last=0.3)
        deviations[name] = network(x).std().item()
    assert deviations["normal"] < 1e-3
    assert 0.05 < deviations["He"] < 0.7  # seen, and within the tanh
    # the last convolution alone is smaller
    whole = Generator(2, width=8, residual_blocks=3, norm="none")
    initialise(whole, 3)
    ratios = {
        p.norm().item() / q.norm().item()
        for p, q in zip(network.parameters(), whole.parameters(), strict=True)
        if q.norm()
    }
    assert sorted(ratios) == pytest.approx([0.3, *[1.0] * (len(ratios) - 1)])


def test_losses_by_hand() -> None:
    verdicts = torch.tensor([0.0, 1.0, 3.0])
    assert least_squares(verdicts, True).item() == pytest.approx((1 + 0 + 4) / 3)
    assert least_squares(verdicts, False).item() == pytest.approx((0 + 1 + 9) / 3)
    assert absolute(verdicts, torch.tensor([1.0, 1.0, 1.0])).item() == pytest.approx(1.0)


def test_cross_entropy_of_logits_is_that_of_the_sigmoid() -> None:
    logits = torch.linspace(-5, 5, 11)
    chance = torch.sigmoid(logits)
    entropy = torch.nn.functional.binary_cross_entropy
    for real in (True, False):
        truth = torch.full_like(chance, float(real))
        for sigmoid in (True, False):
            found = judge("bce", logits, real, sigmoid=sigmoid)
            torch.testing.assert_close(found, entropy(chance, truth))
            torch.testing.assert_close(found, torch.nn.functional.binary_cross_entropy_with_logits(logits, truth))
    assert judge("minimax", logits, True, sigmoid=True).item() == pytest.approx(
        (1 - chance).log().mean().item(), rel=1e-5
    )
    # finite and with a gradient where the sigmoid is 0 or 1 in float32
    for kind in ("bce", "minimax", "least-squares"):
        far = torch.tensor([-200.0, 200.0], requires_grad=True)
        loss = judge(kind, far, True, sigmoid=False)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(far.grad).all()
        assert far.grad.abs().max() > 0
    for sigmoid, verdicts in ((True, chance), (False, logits)):
        torch.testing.assert_close(judge("least-squares", logits, True, sigmoid=sigmoid), ((verdicts - 1) ** 2).mean())


def skimage_ssim(a: torch.Tensor, b: torch.Tensor, window: str) -> float:
    from skimage.metrics import structural_similarity

    kind = {"gaussian_weights": True, "sigma": 1.5} if window == "gaussian" else {"win_size": 7}
    values = [
        structural_similarity(x.double().numpy(), y.double().numpy(), data_range=2, use_sample_covariance=False, **kind)
        for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
    ]
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(2, 1, 24, 31), (1, 2, 15, 16, 17)])
@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_similarity_is_that_of_scikit_image(shape: tuple[int, ...], window: str) -> None:
    stream = torch.Generator().manual_seed(1)
    a = torch.rand(shape, generator=stream) * 2 - 1
    for b in (a * 0.6 + 0.1, (a + 0.3 * torch.randn(shape, generator=stream)).clamp(-1, 1), -a, a):
        found = ssim(a, b, window=window, size=11 if window == "gaussian" else 7, sigma=1.5)
        assert found.item() == pytest.approx(skimage_ssim(a, b, window), abs=2e-5)
    # three axes count in 3D: slices in another order are not the same image
    if len(shape) == 5:
        turned = a[:, :, torch.arange(shape[2]).flip(0)]
        assert ssim(a, turned, size=7).item() < 0.5


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_similarity_of_constant_regions_has_finite_gradients(value: float) -> None:
    a = torch.full((1, 1, 16, 16), value, requires_grad=True)
    for b in (torch.full((1, 1, 16, 16), value), torch.zeros(1, 1, 16, 16), torch.randn(1, 1, 16, 16)):
        a.grad = None
        similarity = ssim(a, b)
        similarity.backward()
        assert torch.isfinite(similarity)
        assert torch.isfinite(a.grad).all()
    assert ssim(a, a).item() == pytest.approx(1, abs=1e-5)


def test_gradient_of_similarity_is_its_slope() -> None:
    stream = torch.Generator().manual_seed(2)
    a, b, way = (torch.rand(1, 1, 14, 14, generator=stream) * 2 - 1 for _ in range(3))
    a.requires_grad_()
    ssim(a, b).backward()
    slope = (ssim(a + 1e-2 * way, b) - ssim(a - 1e-2 * way, b)).item() / 2e-2
    assert (a.grad * way).sum().item() == pytest.approx(slope, rel=2e-2)


def test_similarity_refuses_an_image_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="smaller than the window of 11"):
        ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_learning_rate_by_iteration() -> None:
    rates = {kind: [share(Schedule(kind=kind, start=4), i, 8) for i in range(8)] for kind in ("linear", "cosine")}
    assert rates["linear"] == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    root = math.sqrt(0.5)
    assert rates["cosine"] == pytest.approx([1, 1, 1, 1, 1, (1 + root) / 2, 0.5, (1 - root) / 2])
    assert [share(Schedule(), i, 8) for i in range(8)] == [1.0] * 8
    assert share(Schedule(kind="linear"), 7, 10) == pytest.approx(0.6)  # from the half on


def test_pool_fills_then_returns_earlier_images_half_of_the_time() -> None:
    pool = ImagePool(4, (1, 1), np.random.default_rng(0), torch.device("cpu"))
    for number in range(4):
        assert pool.exchange(torch.full((1, 1, 1), float(number))).item() == number
    shown = [pool.exchange(torch.full((1, 1, 1), float(number))).item() for number in range(4, 404)]
    earlier = sum(s != n for n, s in enumerate(shown, start=4))
    assert 160 < earlier < 240  # binomial(400, 0.5): 4 standard deviations
    assert all(s <= n for n, s in enumerate(shown, start=4))
    assert len(set(shown)) == len(shown)  # an image leaves the pool when it is shown


def test_pool_keeps_the_images_of_one_patient_together() -> None:
    pool = ImagePool(3, (2, 1), np.random.default_rng(0), torch.device("cpu"))
    for number in range(60):
        shown = pool.exchange(torch.tensor([[[float(number)], [-float(number)]]]))
        assert shown[0, 0].item() == -shown[0, 1].item()


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
