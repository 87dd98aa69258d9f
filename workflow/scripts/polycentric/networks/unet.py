"""U-Net for segmentation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .layers import CONVOLUTION, TRANSPOSED, InstanceNorm


class UNet(nn.Module):
    """Maps (batch, inputs, [z,] y, x) to logits (batch, outputs, [z,] y, x); sizes must be multiples of 2**depth.

    Two convolutions of kernel 3 per level, down by stride 2, up by transposed convolution of kernel 2, skip
    connections by concatenation (Cicek et al. 2016, section 2), with instance normalisation and leaky rectifiers
    (Isensee et al. 2021, supplementary note 2).
    """

    def __init__(self, dimensions: int, *, width: int = 32, depth: int = 4, inputs: int = 1, outputs: int = 1) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList()
        before = inputs
        for level, channels in enumerate(widths):
            self.down.append(_level(dimensions, before, channels, stride=1 if level == 0 else 2))
            before = channels
        self.lift = nn.ModuleList(
            TRANSPOSED[dimensions](below, above, 2, 2) for above, below in reversed(list(pairwise(widths)))
        )
        self.up = nn.ModuleList(_level(dimensions, 2 * above, above, stride=1) for above in reversed(widths[:-1]))
        self.head = CONVOLUTION[dimensions](width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level in self.down:
            x = level(x)
            kept.append(x)
        kept.pop()
        for lift, level in zip(self.lift, self.up, strict=True):
            x = level(torch.cat([kept.pop(), lift(x)], dim=1))
        return self.head(x)


def _level(dimensions: int, inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    convolution = CONVOLUTION[dimensions]
    return nn.Sequential(
        convolution(inputs, outputs, 3, stride, 1), InstanceNorm(), nn.LeakyReLU(0.01, inplace=True),
        convolution(outputs, outputs, 3, 1, 1), InstanceNorm(), nn.LeakyReLU(0.01, inplace=True),
    )  # fmt: skip
