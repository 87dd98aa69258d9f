"""The generators of a trained model as functions of images in HU, for those who examine them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..inference import sliding
from ..networks import devices
from ..networks import weights as weight_files
from ..networks.generator import Generator
from ..training import patches
from .cyclegan import generator

if TYPE_CHECKING:
    from ..config.synthesis import Range, Synthesis


class Generators:
    """Both directions of a model of one input; nothing is rounded.

    What lies beyond the range of intensities is added again where both domains have the same, as in views.
    `back` is None where the weights hold the forward generator alone, as imported ones may.
    """

    def __init__(self, settings: Synthesis, weights: Path, device: str) -> None:
        self.settings = settings
        self.device = devices.prepare(settings.device or device, settings.threads)
        self.window, self.stride = map(patches.full_size, settings.inference.used(settings.patch))  # the model's own
        tensors, _ = weight_files.read(weights)
        self.forward = self._network(tensors, "forward")
        known = any(name.startswith("backward.") for name in tensors)
        self.back = partial(self._return, self._network(tensors, "backward")) if known else None

    def _network(self, tensors: dict[str, torch.Tensor], name: str) -> Generator:
        network = generator(self.settings, name)
        weight_files.into(network, tensors, name)
        return network.to(self.device).eval()

    def translate(self, hu: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
        """An image (z, y, x) of the source through the forward generator, windows `stride` (z, y, x) apart; float32."""
        ranges = self.settings.source_ranges[0], self.settings.target_range
        return self._slide(self.forward, hu, stride, ranges)

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """One window (z, y, x) of the source through the forward generator; float32."""
        return self.translate(hu, self.window)

    def _return(self, network: Generator, hu: np.ndarray) -> np.ndarray:
        return self._slide(network, hu, self.stride, (self.settings.target_range, self.settings.source_ranges[0]))

    def _slide(
        self, network: Generator, image: np.ndarray, stride: tuple[int, int, int], ranges: tuple[Range, Range]
    ) -> np.ndarray:
        given, made = ranges
        values = sliding.slide(
            patches.scale(image, given)[None], network, window=self.window, stride=stride,
            batch=self.settings.inference.batch, device=self.device,
        ).reshape(image.shape)  # fmt: skip
        back = patches.unscale(values, made)
        return back + (image - np.clip(image, *made)).astype(np.float32) if given == made else back
