"""Residual generator for image translation."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import CONVOLUTION, PADDING, TRANSPOSED, InstanceNorm


class ResidualBlock(nn.Module):
    """x + f(x), with f two padded convolutions of kernel 3 (Zhu et al. 2017, appendix 7.2)."""

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        convolution, padding = CONVOLUTION[dimensions], PADDING[dimensions]
        self.body = nn.Sequential(
            padding(1), convolution(channels, channels, 3), InstanceNorm(), nn.ReLU(inplace=True),
            padding(1), convolution(channels, channels, 3), InstanceNorm(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    """Maps (batch, inputs, [z,] y, x) in [-1, 1] to (batch, outputs, [z,] y, x).

    A convolution of kernel 7, `downs` of stride 2, residual blocks, as many transposed convolutions, kernel 7, tanh
    (Johnson et al. 2016; Zhu et al. 2017, appendix 7.2); `kernel` is that of the first and the last. Sizes must be
    multiples of 2**downs. With `skip` the tanh is added to the input, so that the network learns a change.
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
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        if skip and inputs != outputs:
            raise ValueError(f"skip needs as many outputs as inputs, not {outputs} and {inputs}")
        convolution, transposed, padding = CONVOLUTION[dimensions], TRANSPOSED[dimensions], PADDING[dimensions]
        border = kernel // 2
        layers: list[nn.Module] = [
            padding(border),
            convolution(inputs, width, kernel),
            InstanceNorm(),
            nn.ReLU(inplace=True),
        ]
        channels = width
        for _ in range(downs):
            layers += [convolution(channels, channels * 2, 3, 2, 1), InstanceNorm(), nn.ReLU(inplace=True)]
            channels *= 2
        layers += [ResidualBlock(dimensions, channels) for _ in range(residual_blocks)]
        for _ in range(downs):
            layers += [
                transposed(channels, channels // 2, 3, 2, 1, output_padding=1),
                InstanceNorm(),
                nn.ReLU(inplace=True),
            ]
            channels //= 2
        layers += [padding(border), convolution(channels, outputs, kernel), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)
