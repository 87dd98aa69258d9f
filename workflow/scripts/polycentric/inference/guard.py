"""Refuses, under `device: auto`, what would keep a CPU busy for hours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch

from ..errors import UserError
from .sliding import Network, starts

LIMIT_S = 2 * 3600.0


def windows(shape: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> int:
    """Number of windows of a volume; sizes along (z, y, x)."""
    total = 1
    for n, w, s in zip(shape, window, stride, strict=True):
        total *= len(starts(max(n, w), w, s))
    return total


def refuse_long(
    network: Network,
    shapes: Iterable[Sequence[int]],
    *,
    window: Sequence[int],
    stride: Sequence[int],
    batch: int,
    where: str,
    limit_s: float = LIMIT_S,
) -> None:
    """Time one batch of windows on the CPU and raise if all windows of all volumes would take longer than the limit.

    Raises
    ------
    UserError
        that tells the estimate and what to write.
    """
    batches = sum(-(-windows(shape, window, stride) // batch) for shape in shapes)
    probe = torch.zeros((batch, 1, *(window[1:] if window[0] == 1 else window)))
    times = []
    with torch.inference_mode():
        for _ in range(2):  # the first allocates
            begun = time.perf_counter()
            network(probe)
            times.append(time.perf_counter() - begun)
    estimate = min(times) * batches
    if estimate > limit_s:
        raise UserError(
            f"{where}: its images would take about {estimate / 3600:.1f} hours on the CPU, and device: auto accepts "
            f"{limit_s / 3600:g}. Write device: cpu to insist, device: cuda on a machine with a GPU, more shards for "
            f"the centre, or a larger inference: stride."
        )
