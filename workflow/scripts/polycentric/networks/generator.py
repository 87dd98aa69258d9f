"""Residual generator for image translation, with one input or several."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .layers import CONVOLUTION, TRANSPOSED, Enlarge, Norm, Padding, Upsampling, norm, pad, rectifier

Merge = Literal["concatenate", "mean", "input"]


class ResidualBlock(nn.Module):
    """x + f(x), with f two padded convolutions of kernel 3 (Zhu et al. 2017, appendix 7.2)."""

    def __init__(
        self,
        dimensions: int,
        channels: int,
        padding: Padding = "replicate",
        kind: Norm = "instance",
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.body = nn.Sequential(
            pad(dimensions, padding, 1), convolution(channels, channels, 3), *norm(dimensions, kind, channels),
            rectifier(slope),
            pad(dimensions, padding, 1), convolution(channels, channels, 3), *norm(dimensions, kind, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    """Maps (batch, inputs, [z,] y, x) in [-1, 1] to (batch, outputs, [z,] y, x).

    A convolution of kernel 7, `downs` of stride 2, residual blocks, as many steps up, kernel 7, tanh (Johnson et al.
    2016; Zhu et al. 2017, appendix 7.2); `kernel` is that of the first and the last. Sizes must be multiples of
    2**downs. With `skip` the tanh is added to the input, so that the network learns a change. Without `tanh` the last
    convolution is the last layer. Rectifiers have the slope `slope` below zero.

    Each of several inputs has a branch of its own: first convolution, steps down and `branch_blocks` of the residual
    blocks. Behind them the branches are merged, by concatenation and a convolution of kernel 1, or by their mean, and
    share the other residual blocks and the way up (Crespi et al. 2024, figure 2c). With `merge` input they enter one
    network as channels instead.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        width: int = 64,
        downs: int = 2,
        residual_blocks: int = 9,
        kernel: int = 7,
        skip: bool = False,
        padding: Padding = "replicate",
        norm: Norm = "instance",
        upsampling: Upsampling = "transposed",
        inputs: int = 1,
        outputs: int = 1,
        branch_blocks: int = 4,
        merge: Merge = "concatenate",
        tanh: bool = True,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if skip and inputs != outputs:
            raise ValueError(f"skip needs as many outputs as inputs, not {outputs} and {inputs}")
        branches = inputs if merge != "input" else 1
        self.skip, self.merge = skip, merge
        self.dimensions, self.padding, self.norm, self.slope = dimensions, padding, norm, slope
        deep = width * 2**downs
        own = min(branch_blocks, residual_blocks) if branches > 1 else 0
        shared = [*self._blocks(deep, residual_blocks - own), *self._up(width, downs, upsampling)]
        shared += [pad(dimensions, padding, kernel // 2), CONVOLUTION[dimensions](width, outputs, kernel)]
        shared += [nn.Tanh()] if tanh else []
        if branches == 1:
            self.branches = None
            self.layers = nn.Sequential(*self._down(inputs, width, downs, kernel), *shared)
            return
        self.branches = nn.ModuleList(
            nn.Sequential(*self._down(1, width, downs, kernel), *self._blocks(deep, own)) for _ in range(branches)
        )
        joined: list[nn.Module] = []
        if merge == "concatenate":
            joined = [CONVOLUTION[dimensions](branches * deep, deep, 1), *self._norm(deep), rectifier(slope)]
        self.layers = nn.Sequential(*joined, *shared)

    def _norm(self, channels: int) -> list[nn.Module]:
        return norm(self.dimensions, self.norm, channels)

    def _down(self, inputs: int, width: int, downs: int, kernel: int) -> list[nn.Module]:
        convolution = CONVOLUTION[self.dimensions]
        layers = [pad(self.dimensions, self.padding, kernel // 2), convolution(inputs, width, kernel)]
        layers += [*self._norm(width), rectifier(self.slope)]
        for step in range(downs):
            channels = width * 2**step
            layers += [convolution(channels, channels * 2, 3, 2, 1), *self._norm(channels * 2), rectifier(self.slope)]
        return layers

    def _blocks(self, channels: int, number: int) -> list[nn.Module]:
        block = self.dimensions, channels, self.padding, self.norm, self.slope
        return [ResidualBlock(*block) for _ in range(number)]

    def _up(self, width: int, downs: int, upsampling: Upsampling) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for step in reversed(range(downs)):
            channels = width * 2**step
            if upsampling == "transposed":
                layers.append(TRANSPOSED[self.dimensions](channels * 2, channels, 3, 2, 1, output_padding=1))
            else:
                layers += [Enlarge(), pad(self.dimensions, self.padding, 1)]
                layers.append(CONVOLUTION[self.dimensions](channels * 2, channels, 3))
            layers += [*self._norm(channels), rectifier(self.slope)]
        return layers

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.branches is not None:
            latent = [branch(part) for branch, part in zip(self.branches, x.split(1, dim=1), strict=True)]
            y = torch.cat(latent, 1) if self.merge == "concatenate" else torch.stack(latent).mean(0)
        y = self.layers(y)
        return x + y if self.skip else y
