"""Layers in two and three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
# replication, not reflection: the gradient of reflection padding is not deterministic on CUDA
PADDING = {2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d}
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters or running statistics (Ulyanov et al. 2016), epsilon 1e-5.

    Written as a group normalisation with a group per channel: the same sums, but the channels-last layout stays, which
    `instance_norm` would copy to another and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, x.shape[1])


def initialise(network: nn.Module, seed: int, deviation: float | None = None) -> None:
    """Draw all weights from a stream of their own, so that neither call order nor other users of torch matter.

    With `deviation`, weights of convolutions are normal with that standard deviation and biases zero, as cycle-GANs
    need it (Zhu et al. 2017, appendix 7.1); without, He's rule (He et al. 2015) for leaky rectifiers of slope 0.01.
    """
    stream = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (*CONVOLUTION.values(), *TRANSPOSED.values())):
            if deviation is None:
                nn.init.kaiming_normal_(module.weight, a=0.01, generator=stream)
            else:
                nn.init.normal_(module.weight, 0.0, deviation, generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameters(network: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(p.numel() for p in network.parameters())
