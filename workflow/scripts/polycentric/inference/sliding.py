"""Sliding window with integer stride, centre-weighted averaging and an exact normaliser."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]


def starts(length: int, window: int, stride: int) -> list[int]:
    """First voxels of windows along an axis: at most `stride` apart, evenly spaced, from border to border."""
    steps = -(-(length - window) // stride)
    return [0] if steps == 0 else [round(i * (length - window) / steps) for i in range(steps + 1)]


def profile(window: int) -> Tensor:
    """Weights of a window along an axis: a Gaussian of an eighth of the window around its centre, float64.

    The prediction at the border of a window, which saw nothing beyond it, counts little.
    """
    x = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    return torch.exp(-0.5 * (x / (window / 8)) ** 2)


def normaliser(length: int, window: int, stride: int) -> Tensor:
    """Sum of the weights of all windows at each voxel of an axis, float64.

    Windows form a grid, so the sum over all of them is the product of these over the axes: no map of counts.
    """
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts(length, window, stride):
        total[start : start + window] += profile(window)
    return total


@torch.inference_mode()
def slide(
    volume: np.ndarray,
    network: Network,
    *,
    window: Sequence[int],
    stride: Sequence[int],
    batch: int = 4,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Weighted mean of a network's predictions in all windows of a volume.

    Parameters
    ----------
    volume : ([channels,] z, y, x), float32. One smaller than the window is padded by its border voxels, and cropped
        again.
    network : maps (batch, channels, z, y, x) to (batch, 1, z, y, x); with a window of one voxel along z without z.
    window, stride : voxels along (z, y, x), integers: whole windows everywhere, none shifted by rounding of an overlap.
    batch : windows at once. The last batch is filled up, so that every window passes with the same number of others.

    Returns
    -------
    (z, y, x), float32.
    """
    flat = window[0] == 1
    channels = volume if volume.ndim == 4 else volume[None]
    missing = [max(0, w - n) for n, w in zip(channels.shape[1:], window, strict=True)]
    before = [m // 2 for m in missing]
    image = torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32)).to(device)
    if any(missing):
        pads = [p for b, m in zip(reversed(before), reversed(missing), strict=True) for p in (b, m - b)]
        image = functional.pad(image[None], pads, mode="replicate")[0]
    shape = image.shape[1:]
    weights = [profile(w).to(device, torch.float32) for w in window]
    weight = weights[0][:, None, None] * weights[1][:, None] * weights[2]
    out = torch.zeros(shape, dtype=torch.float32, device=device)
    origins = list(itertools.product(*(starts(n, w, s) for n, w, s in zip(shape, window, stride, strict=True))))
    for done in range(0, len(origins), batch):
        some = origins[done : done + batch]
        places = [tuple(slice(o, o + w) for o, w in zip(origin, window, strict=True)) for origin in some]
        filled = places + places[-1:] * (batch - len(places))
        inputs = torch.stack([image[(slice(None), *place)] for place in filled])
        outputs = network(inputs[:, :, 0]) if flat else network(inputs)
        outputs = outputs.float()[:, :, None] if flat else outputs.float()
        for number, place in enumerate(places):
            out[place] += outputs[number, 0] * weight
        if progress is not None:
            progress(min(done + batch, len(origins)), len(origins))
    for axis, (n, w, s) in enumerate(zip(shape, window, stride, strict=True)):
        # the sums of the float32 weights that were used, in float64, so that no rounding is left in a constant image
        view = [1, 1, 1]
        view[axis] = n
        out /= normaliser(n, w, s).to(device, torch.float32).view(view)
    crop = tuple(slice(b, b + n) for b, n in zip(before, channels.shape[1:], strict=True))
    return out[crop].cpu().numpy()
