"""Is bfloat16 right and fast here? Every convolution of a network, at its real shape, against float32.

Some releases of torch and cuDNN compute convolutions of half precision wrongly at large shapes (pytorch#163539) or many
times slower than float32 (pytorch#166122). Torch 2.13 on a CPU gives the gradient of a Conv3d's weights wrongly where
the input is smaller than the kernel, as it can be in a discriminator of small patches; found by this check.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# bfloat16 has 8 bits of mantissa: sums of rounded products differ from exact ones by about 2**-9 of their size
TOLERANCE = 0.02
REPEATS = 5
KINDS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Check:
    """Largest relative error (root mean square, over outputs and gradients) and the speed against float32."""

    error: float
    worst: str
    speed: float

    @property
    def accurate(self) -> bool:
        return self.error <= TOLERANCE  # false for NaN, too


def convolutions(network: nn.Module, example: Tensor) -> list[tuple[nn.Module, Tensor, str]]:
    """The distinct convolutions of a network that an example passes: module, its input, a description."""
    found: dict[str, tuple[nn.Module, Tensor, str]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        text = f"{module} at {tuple(x.shape)}"
        found.setdefault(text, (module, x, text))

    handles = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, KINDS)]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def check(networks: Sequence[tuple[nn.Module, Tensor]], device: torch.device, *, repeats: int = REPEATS) -> Check:
    """Compare bfloat16 with float32 in all convolutions of networks, forward and backward, each with an example."""
    error, worst, slow, fast = 0.0, "none", 0.0, 0.0
    for network, example in networks:
        for module, x, text in convolutions(network, example):
            seconds: dict[bool, list[float]] = {False: [], True: []}
            results: dict[bool, list[Tensor]] = {}
            for turn in range(repeats + 1):
                for half in (False, True):
                    taken, results[half] = _once(module, x, device, half)
                    if turn:  # the first allocates and chooses algorithms
                        seconds[half].append(taken)
            slow += statistics.median(seconds[False])
            fast += statistics.median(seconds[True])
            for exact, other in zip(results[False], results[True], strict=True):
                off = ((other.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-30)).item()
                if not off <= error:  # also when it is NaN
                    error, worst = off, text
    return Check(error, worst, slow / fast if fast else 1.0)


def _once(module: nn.Module, x: Tensor, device: torch.device, half: bool) -> tuple[float, list[Tensor]]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_(True)
    # not of the bias: a sum of all of the output, whose terms may cancel, so that any rounding is large beside it
    wanted = [x, module.weight]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        y = module(x)
    # the gradient of half the sum of squares, so that it is not constant over the output
    gradients = torch.autograd.grad(y, wanted, y.detach())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun, [y.detach(), *gradients]
