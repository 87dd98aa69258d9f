"""Sliding window against a brute-force weighted average."""

import copy
import itertools

import numpy as np
import pytest
import torch
from polycentric import tiling
from polycentric.errors import UserError
from polycentric.inference import guard, precision, prepare, sliding
from polycentric.networks.generator import Generator
from polycentric.networks.layers import initialise

torch.set_num_threads(1)
VOLUME = np.random.default_rng(0).normal(size=(2, 9, 14, 11)).astype(np.float32)
CPU = torch.device("cpu")


class Local(torch.nn.Module):
    """Depends on the position in the window, so that every window predicts otherwise; two channels in, three out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(x.shape[-1], dtype=x.dtype)
        made = x * ramp + x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return torch.cat([made, made[:, :1] - 2 * made[:, 1:]], 1)


def brute_force(volume: np.ndarray, window: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Float64, with a map of weights, window by window; border voxels repeated for a volume that is too small."""
    missing = [max(0, w - n) for n, w in zip(volume.shape[1:], window, strict=True)]
    padded = np.pad(volume, [(0, 0), *((m // 2, m - m // 2) for m in missing)], mode="edge").astype(np.float64)
    gauss = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / (w / 8)) ** 2) for w in window]
    weight = np.einsum("i,j,k->ijk", *gauss)
    total, count = np.zeros((3, *padded.shape[1:])), np.zeros(padded.shape[1:])
    begins = [tiling.starts(n, w, s) for n, w, s in zip(padded.shape[1:], window, stride, strict=True)]
    for origin in itertools.product(*begins):
        place = tuple(slice(o, o + w) for o, w in zip(origin, window, strict=True))
        patch = padded[(slice(None), *place)]
        made = patch * np.arange(window[2]) + patch.mean(axis=(1, 2, 3), keepdims=True)
        total[(slice(None), *place)] += weight * np.concatenate([made, made[:1] - 2 * made[1:]])
        count[place] += weight
    inside = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, volume.shape[1:], strict=True))
    return (total / count)[(slice(None), *inside)]


@pytest.mark.parametrize(
    ("window", "stride", "batch"),
    [
        ((4, 6, 5), (2, 3, 2), 4),
        ((9, 14, 11), (1, 1, 1), 1),
        ((8, 8, 8), (8, 8, 8), 3),
        ((1, 6, 5), (1, 4, 5), 7),
        ((12, 6, 16), (3, 6, 4), 2),  # the volume is smaller along z and x
        ((3, 14, 16), (1, 7, 4), 1),  # one window per layer, so that slabs hold several layers
    ],
)
def test_equals_brute_force(window: tuple[int, ...], stride: tuple[int, ...], batch: int) -> None:
    found = sliding.slide(VOLUME, Local(), window=window, stride=stride, batch=batch)
    assert found.shape == (3, 9, 14, 11)
    np.testing.assert_allclose(found, brute_force(VOLUME, window, stride), rtol=2e-5, atol=3e-5)


@pytest.mark.parametrize("shape", [(9, 14, 11), (3, 30, 6), (2, 3, 2), (40, 7, 7)])
@pytest.mark.parametrize("skip", [True, False])
def test_reproduces_the_identity_to_the_hu(shape: tuple[int, int, int], skip: bool) -> None:
    hu = np.random.default_rng(1).integers(-1000, 1001, (1, *shape))
    hu[:, :, : shape[1] // 2] = -1000
    image = (hu / 1000).astype(np.float32)
    found = sliding.slide(image, lambda x: x, window=(6, 6, 6), stride=(2, 3, 4), skip=skip)
    assert np.array_equal(np.rint(found * 1000).astype(int), hu)


def test_an_offset_is_added_everywhere() -> None:
    found = sliding.slide(VOLUME, lambda x: x + 3, window=(4, 5, 6), stride=(3, 2, 5))
    np.testing.assert_allclose(found, VOLUME + 3, atol=1e-5)


def test_slabs_come_in_order_and_hold_few_planes() -> None:
    shape, window, stride = (60, 40, 40), (8, 8, 8), (2, 4, 4)
    asked, seen = [], 0

    def read(first: int, last: int) -> torch.Tensor:
        asked.append((first, last))
        return torch.zeros(1, last - first, *shape[1:])

    grid = tiling.Tiling.over(shape, window, stride)
    for first, slab in sliding.stream(sliding.Source(read, shape), lambda x: x, grid, batch=2, skip=False):
        assert first == seen
        seen += slab.shape[1]
        assert slab.shape[1] <= 3 or seen == shape[0]  # a stride, but for rounding; the window at the end
        assert max(last for _, last in asked) <= first + window[0]  # nothing is read before it is needed
    assert seen == shape[0]
    planes = [p for first, last in asked[1:] for p in range(first, last)]
    assert planes == list(range(shape[0]))  # and nothing twice, after the first look at the number of channels


@pytest.fixture(scope="module")
def generator() -> Generator:
    network = Generator(3, width=3, downs=1, residual_blocks=1, kernel=7).eval()
    initialise(network, 3, 0.1)
    return network


class Counting(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.windows = network, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.windows += len(x)
        return self.network(x)


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_constant_windows_are_computed_once_with_the_same_bytes(generator: Generator, batch: int) -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(size=(1, 24, 40, 32)).astype(np.float32)
    image[:, :, 20:] = -1  # air, the table, and what lies outside of the reconstruction
    image[:, :, :, 20:] = 0.25
    image[:, 14:] = -1
    network, grid = Counting(generator), {"window": (8, 8, 8), "stride": (4, 4, 4), "batch": batch}
    every = sliding.slide(image, network, **grid, skip=False)
    all_windows, network.windows = network.windows, 0
    assert np.array_equal(sliding.slide(image, network, **grid), every)
    assert network.windows < 0.6 * all_windows
    counts = sliding.Counts()
    source = sliding.Source.of(image)
    for _ in sliding.stream(source, network, tiling.Tiling.over(source.shape, (8, 8, 8), (4, 4, 4)), counts=counts):
        pass
    # by hand: a window is constant if it lies beyond one of the three borders, and not on another
    begins = [tiling.starts(n, 8, 4) for n in source.shape]
    constant = sum(
        len(np.unique(image[0, z : z + 8, y : y + 8, x : x + 8])) == 1 for z, y, x in itertools.product(*begins)
    )
    assert counts.windows == np.prod([len(b) for b in begins])
    assert counts.skipped == constant - 2


def test_nan_is_not_constant() -> None:
    image = np.full((1, 8, 8, 8), np.nan, np.float32)
    assert np.isnan(sliding.slide(image, lambda x: x, window=(4, 4, 4), stride=(2, 2, 2))).all()


def test_channels_must_be_constant_each() -> None:
    image = np.zeros((2, 8, 8, 16), np.float32)
    image[1, 2, 3, 10] = 7  # seen by the second channel alone
    total = sliding.slide(image, lambda x: x.sum(1, keepdim=True), window=(4, 4, 4), stride=(2, 2, 2))
    np.testing.assert_allclose(total[0], image.sum(0), atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("last", [True, False])
def test_prepared_networks_compute_the_same(dimensions: int, outputs: int, last: bool) -> None:
    network = Generator(
        dimensions, width=6, downs=1, residual_blocks=2, branch_blocks=1, inputs=2, outputs=outputs
    ).eval()
    initialise(network, 5, 0.1)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(-1, 1)
    made = prepare.prepare(network, channels_last=last)
    assert sum(isinstance(m, prepare.SplitConvolution) for m in made.modules()) == 1
    x = torch.randn(2, 2, *[16] * dimensions, generator=torch.Generator().manual_seed(0))
    x[:, :, :9] = -1
    with torch.inference_mode():
        found, exact = made(x), copy.deepcopy(network).double()(x.double())
    assert exact.std() > 0.1
    # of [-1, 1]: 0.05 HU of [-1000, 1000]; channels last is for half precision, which is far less exact
    assert (found - exact).abs().max() < (1e-3 if last else 5e-5)
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in made.parameters()}
    assert not shared


@pytest.mark.parametrize("last", [True, False])
def test_what_a_network_makes_of_a_window_does_not_depend_on_the_batch(generator: Generator, last: bool) -> None:
    """The condition under which constant windows may be reused."""
    x = torch.randn(4, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    network = prepare.prepare(generator, channels_last=last)
    with torch.inference_mode():
        made = network(x)
        for slot in range(4):
            other = torch.randn(4, 1, 8, 8, 8)
            other[3 - slot] = x[slot]
            assert torch.equal(network(other)[3 - slot], made[slot])


def test_precision_of_a_device() -> None:
    assert precision.choose("auto", CPU) == ("fp32", "")
    assert precision.choose("auto", torch.device("cuda")) == ("fp16", "")
    assert precision.choose("tf32", torch.device("cuda")) == ("tf32", "")
    assert precision.choose("fp16", CPU) == ("fp32", "fp16 needs a GPU")
    assert precision.choose("bf16", CPU)[0] == ("bf16" if precision.amx() else "fp32")


def test_the_error_of_a_precision_is_that_of_its_roundings() -> None:
    """x in bf16 differs from x by half of its last of eight bits at most: between 0.5 and 1, by 2**-9."""
    image = np.random.default_rng(6).uniform(0.5, 1, (1, 20, 20, 20)).astype(np.float32)
    source, grid = sliding.Source.of(image), tiling.Tiling.over((20, 20, 20), (8, 8, 8), (4, 4, 4))
    weight = torch.ones(1, 1, 1, 1, 1)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv3d(x, weight)

    def of(kind: str, network: sliding.Network = network) -> precision.Error:
        pair = [precision.within(network, k, CPU) for k in ("fp32", kind)]
        return precision.error(source, grid, *pair, lambda v: 1000 * v, 3)

    error = of("bf16")
    assert error.windows == 4
    assert 0.97 * 1000 * 2**-9 < error.max_hu <= 1000 * 2**-9 * 1.001
    assert error.mean_hu == pytest.approx(1000 * 2**-10, rel=0.05)
    assert not error.bearable
    assert of("fp32").max_hu == 0
    overflow = of("bf16", lambda x: x / 0 * 0 if torch.is_autocast_enabled("cpu") else x)
    assert not overflow.bearable
    assert not torch.is_autocast_enabled("cpu")


def test_starts_cover_the_axis_evenly() -> None:
    for length in range(4, 60):
        for window in range(1, min(length, 12) + 1):
            for stride in range(1, window + 1):
                starts = tiling.starts(length, window, stride)
                assert starts[0] == 0
                assert starts[-1] == length - window
                steps = np.diff(starts)
                assert all(0 < s <= stride for s in steps) if len(steps) else length == window
                assert not len(steps) or steps.max() - steps.min() <= 1


def test_normaliser_is_the_product_of_its_axes() -> None:
    begins = [tiling.starts(9, 4, 2), tiling.starts(14, 6, 3)]
    axes = [sliding.normaliser(b, w).numpy() for b, w in zip(begins, (4, 6), strict=True)]
    weight = np.outer(sliding.profile(4), sliding.profile(6))
    total = np.zeros((9, 14))
    for y in tiling.starts(9, 4, 2):
        for x in tiling.starts(14, 6, 3):
            total[y : y + 4, x : x + 6] += weight
    np.testing.assert_allclose(np.outer(*axes), total, rtol=1e-12)


def test_progress_reaches_the_number_of_windows() -> None:
    told: list[tuple[int, int]] = []
    window, stride = (4, 6, 5), (2, 3, 2)
    sliding.slide(VOLUME, Local(), window=window, stride=stride, progress=lambda d, t: told.append((d, t)))
    assert told[-1][0] == told[-1][1] == tiling.Tiling.over(VOLUME.shape[1:], window, stride).count
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_the_windows_around_a_region_are_those_that_touch_it() -> None:
    shape, window, stride = (50, 31, 40), (8, 10, 12), (3, 4, 5)
    grid = tiling.Tiling.over(shape, window, stride)
    region = grid.middle((1, 2, 2))
    for part, n in zip(region, shape, strict=True):
        assert abs((part.start + part.stop) / 2 - n / 2) <= 5
    image = np.random.default_rng(8).normal(size=(2, *shape)).astype(np.float32)
    whole = sliding.slide(image, Local(), window=window, stride=stride, batch=1)
    origin, part = grid.around(region)
    assert part.count < grid.count / 4
    source = sliding.Source.of(image).part([slice(o, o + n) for o, n in zip(origin, part.shape, strict=True)])
    own = np.concatenate([s.numpy().copy() for _, s in sliding.stream(source, Local(), part, batch=1)], axis=1)
    inside = tuple(slice(r.start - o, r.stop - o) for r, o in zip(region, origin, strict=True))
    np.testing.assert_allclose(own[(slice(None), *inside)], whole[(slice(None), *region)], atol=2e-5)


def test_the_cpu_is_refused_when_it_would_take_too_long() -> None:
    grids, facts = [((4, 4, 4), (2, 2, 2))], {"batch": 1, "where": "views: x", "channels": 2}
    guard.refuse_long(Local(), grids, [VOLUME.shape[1:]], **facts)
    with pytest.raises(UserError, match="device: cpu to insist"):
        guard.refuse_long(Local(), grids, [VOLUME.shape[1:]], **facts, limit_s=0.0)


def test_the_estimate_is_the_time_of_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_time", lambda network, shape: 10.0 * shape[0])
    # 3 * 6 * 4 = 72 windows in batches of 4: 18 of 40 s; and one window: a batch of one
    grids, shapes = [((4, 4, 5), (3, 2, 2)), ((4, 4, 4), (4, 4, 4))], [(9, 14, 11), (4, 4, 4)]
    guard.refuse_long(Local(), grids, shapes, batch=4, where="x", limit_s=730.0)
    with pytest.raises(UserError, match=r"0\.2 hours"):
        guard.refuse_long(Local(), grids, shapes, batch=4, where="x", limit_s=729.0)


def test_slices_that_do_not_see_each_other_are_compared_within_themselves() -> None:
    """Steps between slices are no seams of windows: there are no steps elsewhere along z to compare them with."""
    change = np.random.default_rng(9).normal(0, 5, (20, 40, 40))
    change += 100 * np.arange(20)[:, None, None]
    assert tiling.seams(change, np.ones(change.shape, bool), (1, 16, 16), (1, 12, 12)) == pytest.approx(1, abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("kind", "limit"), [("fp32", 0.05), ("tf32", 5.0), ("fp16", 5.0)])
def test_cuda_makes_the_same_to_the_limits(kind: str, limit: float) -> None:
    device = torch.device("cuda")
    network = Generator(3, width=16, downs=2, residual_blocks=4).eval()
    initialise(network, 3, 0.05)
    image = np.random.default_rng(4).normal(0, 0.4, (1, 40, 48, 48)).astype(np.float32)
    image[:, :, :20] = -1
    grid = {"window": (16, 16, 16), "stride": (8, 8, 8), "batch": 4}
    expected = sliding.slide(image, network, **grid)
    own = precision.within(prepare.prepare(network, channels_last=True).to(device), kind, device)
    made = sliding.slide(image, own, **grid, device=device)
    assert np.abs(made - expected).max() * 1000 < limit
    assert np.array_equal(made, sliding.slide(image, own, **grid, device=device, skip=False))
    assert np.array_equal(made, sliding.slide(image, own, **grid, device=device))
