"""The network, its optimizer and one iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..networks import weights
from ..networks.layers import LAYOUT, initialise
from ..networks.unet import UNet
from ..randomness import integer_seed
from ..training import patches, state
from .losses import cross_entropy, soft_dice

if TYPE_CHECKING:
    from ..config.segmentation import Segmentation

MOST_CENTRES = 100_000


@dataclass(frozen=True)
class Region:
    """A mask on the grid of an image, kept as the box around it: `origin` (z, y, x) and `box` (z, y, x), bool."""

    origin: tuple[int, ...]
    box: np.ndarray

    @staticmethod
    def of(mask: np.ndarray) -> Region:
        """The region of a mask (z, y, x) with at least one voxel."""
        sides = []
        for axis in range(mask.ndim):
            (at,) = np.nonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
            sides.append(slice(int(at[0]), int(at[-1]) + 1))
        return Region(tuple(s.start for s in sides), np.ascontiguousarray(mask[tuple(sides)].astype(bool)))

    def cut(self, origin: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
        """The mask in a patch of the image, float32."""
        patch = np.zeros(size, dtype=np.float32)
        to, of = [], []
        for o, s, start, n in zip(origin, size, self.origin, self.box.shape, strict=True):
            first, last = max(o, start), min(o + s, start + n)
            if last <= first:
                return patch
            to.append(slice(first - o, last - o))
            of.append(slice(first - start, last - start))
        patch[tuple(to)] = self.box[tuple(of)]
        return patch

    def centres(self, shape: tuple[int, ...]) -> np.ndarray:
        """Flat indices of its voxels in the image, evenly thinned to at most `MOST_CENTRES`."""
        within = np.flatnonzero(self.box)
        within = within[:: -(-len(within) // MOST_CENTRES)]
        at = np.unravel_index(within, self.box.shape)
        return np.ravel_multi_index(tuple(a + o for a, o in zip(at, self.origin, strict=True)), shape)


def unet(settings: Segmentation) -> UNet:
    """A network as the settings say, with undrawn weights, on the CPU."""
    network = UNet(settings.dimensions, width=settings.width, depth=settings.depth)
    return network.to(memory_format=LAYOUT[settings.dimensions])


class Segmenter:
    """U-Net under training; `regions` belong to the sampler's volumes."""

    losses = ("dice", "bce")

    def __init__(
        self,
        settings: Segmentation,
        sampler: patches.PatchSampler,
        regions: list[Region],
        *,
        seed: int,
        names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.settings, self.sampler, self.regions, self.device = settings, sampler, regions, device
        self.network = unet(settings)
        initialise(self.network, integer_seed(seed, *names, "weights"))
        self.network.to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), settings.learning_rate, fused=True)
        self.iteration = 0

    def draw(self) -> tuple[Tensor, Tensor]:
        """Random patches and their truth, both (batch, 1, [z,] y, x)."""
        images, masks = [], []
        for _ in range(self.settings.batch):
            number, origin = self.sampler.origin()
            patch = patches.cut(self.sampler.volumes[number], origin, self.sampler.size)
            images.append(patches.scale(patch, self.settings.hu_range))
            masks.append(self.regions[number].cut(origin, self.sampler.size))
        dimensions = self.settings.dimensions
        image, truth = (torch.from_numpy(patches.batch(x, dimensions)).to(self.device) for x in (images, masks))
        return image.contiguous(memory_format=LAYOUT[dimensions]), truth

    def step(self) -> Tensor:
        # polynomial decay (Isensee et al. 2021, supplementary note 2)
        rate = self.settings.learning_rate * (1 - self.iteration / self.settings.iterations) ** self.settings.decay
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.iteration += 1
        image, truth = self.draw()
        logits = self.network(image)
        dice, bce = soft_dice(logits, truth), cross_entropy(logits, truth)
        self.optimizer.zero_grad(set_to_none=True)
        (self.settings.loss.dice * dice + self.settings.loss.bce * bce).backward()
        self.optimizer.step()
        return torch.stack([dice.detach(), bce.detach()]).float()

    def weights(self) -> dict[str, Tensor]:
        return weights.of(self.network, "network")

    def tensors(self) -> dict[str, Tensor]:
        return self.weights() | state.of_optimizer(self.optimizer, "optimizer")

    def state(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state(), "iteration": self.iteration}

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        weights.into(self.network, tensors, "network")
        state.into_optimizer(self.optimizer, tensors, "optimizer")
        self.sampler.restore(record["sampler"])
        self.iteration = record["iteration"]
