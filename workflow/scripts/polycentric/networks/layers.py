"""Layers in two and three dimensions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}

Padding = Literal["replicate", "reflect", "zero"]
Norm = Literal["instance", "batch", "none"]
NormOrSpectral = Literal["instance", "batch", "spectral", "none"]
Upsampling = Literal["transposed", "resize"]


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters or running statistics (Ulyanov et al. 2016), epsilon 1e-5.

    Written as a group normalisation with a group per channel: the same sums, but on a GPU the channels-last layout
    stays, which `instance_norm` would copy to another and back. On a CPU it is copied here: torch's kernel for channels
    last takes a variance as difference of sums of squares, which nothing is left of where a channel is nearly constant
    (errors of 0.2 to 2.7 standard deviations at mean 1 and deviation 0.01), and is no faster than the copies.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            # parts that the compiler fuses with what is around them, in any layout
            axes = tuple(range(2, x.ndim))
            variance, mean = torch.var_mean(x.float(), axes, correction=0, keepdim=True)
            return ((x - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            # autocast would write float32 there; sums are float32 either way
            with torch.autocast("cuda", enabled=False):
                return functional.group_norm(x, x.shape[1])
        if not x.is_cuda and not x.is_contiguous():
            made = functional.group_norm(x.contiguous(), x.shape[1])
            return made.contiguous(memory_format=LAYOUT[x.ndim - 2])
        return functional.group_norm(x, x.shape[1])


class Spectral(nn.Module):
    """Divides a convolution's weights by their largest singular value, as a matrix of (outputs, all else).

    What a network of such layers says cannot change faster than its input by more than a fixed factor (Miyato et al.
    2018, section 2.1). The left singular vector is a buffer that `advance` alone moves, once an iteration and not in
    each pass: what a network says depends on nothing but what a checkpoint holds.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("left", torch.full((outputs,), outputs**-0.5))
        self.left: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight / torch.linalg.vector_norm(weight.flatten(1).T @ self.left)

    @torch.no_grad()
    def step(self, weight: Tensor, times: int) -> None:
        """Power iterations (Miyato et al. 2018, algorithm 1)."""
        matrix = weight.flatten(1)
        for _ in range(times):
            right = functional.normalize(matrix.T @ self.left, dim=0)
            self.left.copy_(functional.normalize(matrix @ right, dim=0))


def advance(network: nn.Module, times: int = 1) -> None:
    """Let the singular vectors of a network with spectral normalisation follow its weights; of others nothing."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            kept = module.parametrizations["weight"]
            kept[0].step(kept.original, times)


class Reflect(nn.Module):
    """Reflection at the border, which is not repeated; made of flipped slices, whose gradient is deterministic on CUDA.

    That of torch's own reflection padding is not.
    """

    def __init__(self, border: int) -> None:
        super().__init__()
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        b = self.border
        for axis in range(2, x.ndim) if b else ():
            n = x.shape[axis]
            if n <= b:
                raise ValueError(f"reflection by {b} needs more than {b} voxels along each axis, not {n}")
            before, after = x.narrow(axis, 1, b).flip(axis), x.narrow(axis, n - 1 - b, b).flip(axis)
            x = torch.cat([before, x, after], axis)
        return x


class Enlarge(nn.Module):
    """Doubles each spatial axis by repeating voxels."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="nearest")


def pad(dimensions: int, kind: Padding, border: int) -> nn.Module:
    """Padding by `border` voxels at both ends of each axis."""
    if kind == "reflect":
        return Reflect(border)
    if kind == "zero":
        return (nn.ZeroPad2d, nn.ZeroPad3d)[dimensions - 2](border)
    return (nn.ReplicationPad2d, nn.ReplicationPad3d)[dimensions - 2](border)


def norm(dimensions: int, kind: NormOrSpectral, channels: int) -> list[nn.Module]:
    """A normalisation as a list of at most one module; the one by batch has a scale, an offset, running statistics.

    That of weights (spectral) is no module behind a layer: none.
    """
    if kind == "batch":
        return [BATCH_NORM[dimensions](channels)]
    return [InstanceNorm()] if kind == "instance" else []


def rectifier(slope: float) -> nn.Module:
    """A rectifier, in place; leaky if `slope` is above 0."""
    return nn.LeakyReLU(slope, inplace=True) if slope > 0 else nn.ReLU(inplace=True)


def initialise(network: nn.Module, seed: int, deviation: float | None = None, *, last: float = 1.0) -> None:
    """Draw all weights from a stream of their own, so that neither call order nor other users of torch matter.

    With `deviation`, weights of convolutions are normal with that standard deviation and biases zero, as cycle-GANs
    need it (Zhu et al. 2017, appendix 7.1); without, He's rule (He et al. 2015) for leaky rectifiers of slope 0.01.
    The weights of the last convolution, behind which there is no rectifier, are multiplied by `last`.
    """
    stream = torch.Generator().manual_seed(seed)
    convolutions = [m for m in network.modules() if isinstance(m, (*CONVOLUTION.values(), *TRANSPOSED.values()))]
    for module in convolutions:
        if deviation is None:
            nn.init.kaiming_normal_(_own_weight(module), a=0.01, generator=stream)
        else:
            nn.init.normal_(_own_weight(module), 0.0, deviation, generator=stream)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if last != 1:
        with torch.no_grad():
            _own_weight(convolutions[-1]).mul_(last)
    advance(network, 20)


def _own_weight(module: nn.Module) -> Tensor:
    """The weight that is trained, not what a normalisation of weights makes of it."""
    return (
        module.parametrizations["weight"].original if parametrize.is_parametrized(module, "weight") else module.weight
    )


def parameters(network: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(p.numel() for p in network.parameters())
