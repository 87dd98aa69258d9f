"""Refuses, under `device: auto`, what would keep a CPU busy for hours."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ..errors import UserError
from ..tiling import Tiling
from .sliding import Network, predict

LIMIT_S = 2 * 3600.0


def refuse_long(
    network: Network,
    windows: Sequence[tuple[Sequence[int], Sequence[int]]],
    shapes: Sequence[Sequence[int]],
    *,
    batch: int,
    where: str,
    channels: int = 1,
    limit_s: float = LIMIT_S,
) -> None:
    """Time one batch of windows on the CPU and raise if all windows of all volumes would take longer than the limit.

    Windows that are constant, and so skipped, are counted: they are not known before the volumes are read.

    Parameters
    ----------
    windows : window and stride (z, y, x) of each volume; one batch is timed for each size of window.
    shapes : volumes (z, y, x).

    Raises
    ------
    UserError
        that tells the estimate and what to write.
    """
    estimate = 0.0
    seconds: dict[tuple[int, ...], float] = {}
    for (window, stride), shape in zip(windows, shapes, strict=True):
        tiling = Tiling.over(shape, window, stride)
        own = min(batch, tiling.count)
        probe = (own, channels, *window)
        if probe not in seconds:
            seconds[probe] = _time(network, probe)
        estimate += seconds[probe] * -(-tiling.count // own)
    if estimate > limit_s:
        raise UserError(
            f"{where}: its images would take about {estimate / 3600:.1f} hours on the CPU, and device: auto accepts "
            f"{limit_s / 3600:g}. Write device: cpu to insist, device: cuda on a machine with a GPU, more shards for "
            f"the centre, or a larger inference: stride."
        )


@torch.inference_mode()
def _time(network: Network, shape: tuple[int, ...]) -> float:
    times = []
    for _ in range(2):  # the first allocates
        begun = time.perf_counter()
        predict(network, torch.zeros(shape))
        times.append(time.perf_counter() - begun)
    return min(times)
