"""PatchGAN discriminator."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize

from . import layers as parts
from .layers import CONVOLUTION, NormOrSpectral


class Discriminator(nn.Module):
    """Maps (batch, inputs, [z,] y, x) to a grid of logits, each of which sees one patch of the image.

    Convolutions of kernel 4 (Isola et al. 2017, appendix 6.1.2): `layers` of stride 2, `flat` of stride 1, and the last
    of stride 1; three and one see 70 voxels along each axis. No layer of stride 2: convolutions of kernel 1, so that
    each logit sees one voxel (Isola's PixelGAN). Channels double with each layer, eight-fold at most. Rectifiers have
    the slope `slope` below zero. The first layer is normalised only with `norm_first`; spectral normalisation is of the
    weights of all layers, the first and the last among them.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        width: int = 64,
        layers: int = 3,
        flat: int = 1,
        norm: NormOrSpectral = "instance",
        norm_first: bool = False,
        slope: float = 0.2,
        inputs: int = 1,
    ) -> None:
        super().__init__()
        kernel, border = (4, 1) if layers else (1, 0)
        strides = [2] * layers + [1] * flat if layers else [1, 1]
        convolution = CONVOLUTION[dimensions]
        modules: list[nn.Module] = []
        before = inputs
        for number, stride in enumerate(strides):
            channels = width * min(2**number, 8)
            modules.append(convolution(before, channels, kernel, stride, border))
            if number or norm_first:
                modules += parts.norm(dimensions, norm, channels)
            modules.append(nn.LeakyReLU(slope, inplace=True))
            before = channels
        modules.append(convolution(before, 1, kernel, 1, border))
        if norm == "spectral":
            for module in modules:
                if isinstance(module, convolution):
                    parametrize.register_parametrization(module, "weight", parts.Spectral(module.out_channels))
        self.layers = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def receptive_field(layers: int, flat: int = 1) -> int:
    """Voxels along an axis that one logit sees."""
    if layers == 0:
        return 1
    seen = 1
    for stride in reversed([2] * layers + [1] * flat + [1]):
        seen = (seen - 1) * stride + 4
    return seen
