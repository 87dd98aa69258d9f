"""Pool of earlier synthetic images for the discriminators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class ImagePool:
    """Shows a discriminator an earlier synthetic image every second time (Shrivastava et al. 2017, section 2.3).

    Images have the `shape` (channels, [z,] y, x); the channels of one image are exchanged together, each of which may
    have a discriminator of its own. They lie in one preallocated tensor, so that a checkpoint holds them and no memory
    is requested on the way.
    """

    def __init__(self, size: int, shape: tuple[int, ...], stream: np.random.Generator, device: torch.device) -> None:
        self.images = torch.zeros((size, *shape), device=device)
        self.filled = 0
        self.stream = stream

    def exchange(self, images: Tensor) -> Tensor:
        """Put images (batch, channels, ...) in; return as many, of which some are earlier ones."""
        if not len(self.images):
            return images
        shown = images.clone()
        for number in range(len(images)):
            if self.filled < len(self.images):
                self.images[self.filled] = images[number]
                self.filled += 1
            elif self.stream.random() < 0.5:
                place = int(self.stream.integers(len(self.images)))
                shown[number] = self.images[place]
                self.images[place] = images[number]
        return shown

    def state(self) -> dict[str, Any]:
        return {"filled": self.filled, "stream": self.stream.bit_generator.state}

    def restore(self, images: Tensor, state: dict[str, Any]) -> None:
        self.images.copy_(images)
        self.filled = state["filled"]
        self.stream.bit_generator.state = state["stream"]
