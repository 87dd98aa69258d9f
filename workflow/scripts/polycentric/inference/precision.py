"""In which precision a network runs, and what that costs in HU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..tiling import Tiling
from . import sliding

Precision = Literal["fp32", "tf32", "fp16", "bf16"]
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
MEAN_LIMIT_HU, MAX_LIMIT_HU = 0.5, 5.0  # of a range of 2,000 HU; of a narrower one in proportion
LIMITS_OF_HU = 2000.0
SAMPLES = 4


def choose(wanted: Precision | Literal["auto"], device: torch.device) -> tuple[Precision, str]:
    """The precision to use on a device, and why it is not the one that was asked for (empty if it is).

    `auto` is fp16 on a GPU and fp32 on a CPU. A CPU takes bf16 alone, and where it has matrix units (AMX) for it;
    elsewhere bf16 is as inexact and slower.
    """
    if device.type == "cuda":
        return ("fp16", "") if wanted == "auto" else (wanted, "")
    if wanted in ("auto", "fp32"):
        return "fp32", ""
    if wanted != "bf16":
        return "fp32", f"{wanted} needs a GPU"
    if amx():
        return "bf16", ""
    return "fp32", "bf16 needs a GPU or a CPU with AMX"


def channels_last(precision: Precision, device: torch.device) -> bool:
    """Whether a network shall have its channels last (`prepare.prepare`)."""
    return device.type == "cuda" or precision in TYPES


def amx() -> bool:
    """Whether the CPU has matrix units for bf16."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())  # older releases do not tell


@contextlib.contextmanager
def using(precision: Precision, device: torch.device) -> Iterator[None]:
    """Run what torch computes within the block in a precision; weights and sums of windows stay float32."""
    flags = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, dtype=TYPES.get(precision), enabled=precision in TYPES):
            yield
    finally:
        for flag, old in zip(flags, before, strict=True):
            flag.allow_tf32 = old


def within(network: sliding.Network, precision: Precision, device: torch.device) -> sliding.Network:
    """The network in a precision, whatever the caller's."""

    def run(windows: Tensor) -> Tensor:
        with using(precision, device):
            return network(windows)

    return run


@dataclass(frozen=True)
class Error:
    """Absolute difference in HU from fp32, over all voxels of some windows."""

    windows: int
    mean_hu: float
    max_hu: float

    def bearable(self, width: float) -> bool:
        """Whether it keeps the limits for a range of intensities of a width, such as 2000 HU, or 1 for 0 to 1.

        Never with NaN, which half precision makes of what is too large for it.
        """
        share = min(1.0, width / LIMITS_OF_HU)
        return self.mean_hu <= MEAN_LIMIT_HU * share and self.max_hu <= MAX_LIMIT_HU * share


@torch.inference_mode()
def error(
    source: sliding.Source, tiling: Tiling, exact: sliding.Network, other: sliding.Network,
    to_hu: Callable[[Tensor], Tensor], batch: int,
) -> Error:  # fmt: skip
    """What a precision changes in windows of a volume that stand for it: the middle ones of evenly spaced layers.

    `exact` is the network in float32, `other` in the precision (`within`).

    They depend on the volume and its windows alone, and so does what is decided by them: an image is the same in
    whatever shard it lies. `to_hu` maps the network's output to HU. The windows pass in batches of `batch`, filled up
    as in `sliding.stream`, so that the same kernels are compared.
    """
    origins = samples(tiling)
    depth = tiling.window[0]
    windows = [
        source.read(z, z + depth)[:, :, y : y + tiling.window[1], x : x + tiling.window[2]] for z, y, x in origins
    ]
    batch = min(batch, tiling.count)
    total, largest, voxels = 0.0, 0.0, 0
    for begin in range(0, len(windows), batch):
        own = windows[begin : begin + batch]
        inputs = torch.stack(own + own[-1:] * (batch - len(own)))
        made, wanted = (to_hu(sliding.predict(network, inputs))[: len(own)] for network in (other, exact))
        difference = (made - wanted).abs().double()
        total += float(difference.sum())
        largest = max(largest, float(difference.max())) if difference.isfinite().all() else float("nan")
        voxels += difference.numel()
    return Error(len(windows), total / voxels, largest)


def samples(tiling: Tiling) -> list[tuple[int, int, int]]:
    """First voxels (z, y, x) of the middle windows of at most `SAMPLES` evenly spaced layers."""
    z, y, x = tiling.starts
    number = min(SAMPLES, len(z))
    layers: Sequence[int] = [z[(2 * i + 1) * len(z) // (2 * number)] for i in range(number)]
    return [(begin, y[len(y) // 2], x[len(x) // 2]) for begin in layers]
