"""PatchGAN discriminator."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import CONVOLUTION, InstanceNorm


class Discriminator(nn.Module):
    """Maps (batch, inputs, [z,] y, x) to a grid of logits, each of which sees one patch of the image.

    Convolutions of kernel 4 (Isola et al. 2017, appendix 6.1.2): `layers` of stride 2, two of stride 1; three layers
    see 70 voxels along each axis.
    """

    def __init__(self, dimensions: int, *, width: int = 64, layers: int = 3, inputs: int = 1) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        modules: list[nn.Module] = [convolution(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for number in range(1, layers + 1):
            wider = width * min(2**number, 8)
            stride = 2 if number < layers else 1
            modules += [
                convolution(channels, wider, 4, stride, 1),
                InstanceNorm(),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        modules.append(convolution(channels, 1, 4, 1, 1))
        self.layers = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def receptive_field(layers: int) -> int:
    """Voxels along an axis that one logit sees."""
    seen = 1
    for stride in reversed([2] * layers + [1, 1]):
        seen = (seen - 1) * stride + 4
    return seen
