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
    from ..config.synthesis import Synthesis


class Generators:
    """Both directions of a model; nothing is rounded, and what lies beyond `hu_range` is added again.

    `back` is None where the weights hold the forward generator alone, as imported ones may.
    """

    def __init__(self, settings: Synthesis, weights: Path, device: str) -> None:
        self.settings = settings
        self.device = devices.prepare(settings.device or device, settings.threads)
        self.window = patches.full_size(settings.inference.window or settings.patch)
        tensors, _ = weight_files.read(weights)
        self.forward = self._network(tensors, "forward")
        known = any(name.startswith("backward.") for name in tensors)
        self.back = partial(self._slide, self._network(tensors, "backward"), stride=self.stride) if known else None

    def _network(self, tensors: dict[str, torch.Tensor], name: str) -> Generator:
        network = generator(self.settings)
        weight_files.into(network, tensors, name)
        return network.to(self.device).eval()

    @property
    def stride(self) -> tuple[int, int, int]:
        """The model's own stride (z, y, x)."""
        given = self.settings.inference.stride
        return patches.full_size(given) if given else tuple(max(1, w // 4) for w in self.window)  # type: ignore[return-value]

    def translate(self, hu: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
        """An image (z, y, x) in HU through the forward generator, windows `stride` (z, y, x) apart; float32."""
        return self._slide(self.forward, hu, stride=stride)

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """One window (z, y, x) in HU through the forward generator; float32."""
        return self._slide(self.forward, hu, stride=self.window)

    def _slide(self, network: Generator, hu: np.ndarray, *, stride: tuple[int, int, int]) -> np.ndarray:
        hu_range = self.settings.hu_range
        values = sliding.slide(
            patches.scale(hu, hu_range), network, window=self.window, stride=stride,
            batch=self.settings.inference.batch, device=self.device,
        )  # fmt: skip
        return patches.unscale(values, hu_range) + (hu - np.clip(hu, *hu_range)).astype(np.float32)
