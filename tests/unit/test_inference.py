"""Sliding window against a brute-force weighted average."""

import numpy as np
import pytest
import torch
from polycentric.errors import UserError
from polycentric.inference import guard, sliding

torch.set_num_threads(1)
VOLUME = np.random.default_rng(0).normal(size=(9, 14, 11)).astype(np.float32)


class Local(torch.nn.Module):
    """Depends on the position in the window, so that every window predicts otherwise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(x.shape[-1], dtype=x.dtype)
        return x * ramp + x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def brute_force(volume: np.ndarray, window: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Float64, with a map of weights, window by window."""
    gauss = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / (w / 8)) ** 2) for w in window]
    weight = np.einsum("i,j,k->ijk", *gauss)
    total, count = np.zeros(volume.shape), np.zeros(volume.shape)
    for z in sliding.starts(volume.shape[0], window[0], stride[0]):
        for y in sliding.starts(volume.shape[1], window[1], stride[1]):
            for x in sliding.starts(volume.shape[2], window[2], stride[2]):
                place = np.s_[z : z + window[0], y : y + window[1], x : x + window[2]]
                patch = volume[place].astype(np.float64)
                total[place] += weight * (patch * np.arange(window[2]) + patch.mean())
                count[place] += weight
    return total / count


@pytest.mark.parametrize(
    ("window", "stride", "batch"),
    [((4, 6, 5), (2, 3, 2), 4), ((9, 14, 11), (1, 1, 1), 1), ((8, 8, 8), (8, 8, 8), 3), ((1, 6, 5), (1, 4, 5), 7)],
)
def test_equals_brute_force(window: tuple[int, ...], stride: tuple[int, ...], batch: int) -> None:
    found = sliding.slide(VOLUME, Local(), window=window, stride=stride, batch=batch)
    np.testing.assert_allclose(found, brute_force(VOLUME, window, stride), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(9, 14, 11), (3, 30, 6), (2, 3, 2)])
def test_reproduces_the_identity_to_the_hu(shape: tuple[int, int, int]) -> None:
    hu = np.random.default_rng(1).integers(-1000, 1001, shape)
    found = sliding.slide((hu / 1000).astype(np.float32), lambda x: x, window=(6, 6, 6), stride=(2, 3, 4))
    assert np.array_equal(np.rint(found * 1000).astype(int), hu)


def test_starts_cover_the_axis_evenly() -> None:
    for length in range(4, 60):
        for window in range(1, min(length, 12) + 1):
            for stride in range(1, window + 1):
                starts = sliding.starts(length, window, stride)
                assert starts[0] == 0
                assert starts[-1] == length - window
                steps = np.diff(starts)
                assert all(0 < s <= stride for s in steps) if len(steps) else length == window
                assert not len(steps) or steps.max() - steps.min() <= 1


def test_normaliser_is_the_product_of_its_axes() -> None:
    axes = [sliding.normaliser(n, w, s).numpy() for n, w, s in zip((9, 14), (4, 6), (2, 3), strict=True)]
    weight = np.outer(sliding.profile(4), sliding.profile(6))
    total = np.zeros((9, 14))
    for y in sliding.starts(9, 4, 2):
        for x in sliding.starts(14, 6, 3):
            total[y : y + 4, x : x + 6] += weight
    np.testing.assert_allclose(np.outer(*axes), total, rtol=1e-12)


def test_progress_reaches_the_number_of_windows() -> None:
    told: list[tuple[int, int]] = []
    window, stride = (4, 6, 5), (2, 3, 2)
    sliding.slide(VOLUME, Local(), window=window, stride=stride, progress=lambda d, t: told.append((d, t)))
    assert told[-1][0] == told[-1][1] == guard.windows(VOLUME.shape, window, stride)


def test_the_cpu_is_refused_when_it_would_take_too_long() -> None:
    facts = {"window": (4, 4, 4), "stride": (2, 2, 2), "batch": 1, "where": "views: x"}
    guard.refuse_long(Local(), [VOLUME.shape], **facts)
    with pytest.raises(UserError, match="device: cpu to insist"):
        guard.refuse_long(Local(), [VOLUME.shape], limit_s=0.0, **facts)
