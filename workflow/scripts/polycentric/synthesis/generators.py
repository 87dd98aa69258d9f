"""The generators of a trained model as functions of images in HU, and what enters them, to examine them."""

from __future__ import annotations

from collections.abc import Sequence
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
from . import domains
from .cyclegan import generator

if TYPE_CHECKING:
    from ..config.synthesis import Range, Synthesis


class Generators:
    """Both directions of a model; nothing is rounded.

    What lies beyond the range of intensities is added again where both domains have the same, as in views.
    `back` is None where the weights hold the forward generator alone, as imported ones may, and for several inputs.
    """

    def __init__(self, settings: Synthesis, weights: Path, device: str) -> None:
        self.settings = settings
        self.device = devices.prepare(settings.device or device, settings.threads)
        self.window, self.stride = map(patches.full_size, settings.inference.used(settings.patch))  # the model's own
        tensors, _ = weight_files.read(weights)
        self.forward = self._network(tensors, "forward")
        known = settings.inputs == 1 and any(name.startswith("backward.") for name in tensors)
        self.back = partial(self._return, self._network(tensors, "backward")) if known else None

    def _network(self, tensors: dict[str, torch.Tensor], name: str) -> Generator:
        network = generator(self.settings, name)
        weight_files.into(network, tensors, name)
        return network.to(self.device).eval()

    def translate(self, hu: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
        """An image (z, y, x) of the source through the forward generator, windows `stride` (z, y, x) apart; float32.

        A model of several inputs takes (inputs, z, y, x).
        """
        return self._slide(self.forward, hu, stride, self.settings.source_ranges, self.settings.target_range)

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """One window ([inputs,] z, y, x) of the source through the forward generator; float32."""
        return self.translate(hu, self.window)

    def _return(self, network: Generator, hu: np.ndarray) -> np.ndarray:
        return self._slide(network, hu, self.stride, (self.settings.target_range,), self.settings.source_ranges[0])

    def _slide(
        self,
        network: Generator,
        image: np.ndarray,
        stride: tuple[int, int, int],
        given: Sequence[Range],
        made: Range,
    ) -> np.ndarray:
        inputs = image.reshape(len(given), *image.shape[-3:])
        values = sliding.slide(
            np.stack([patches.scale(one, limits) for one, limits in zip(inputs, given, strict=True)]),
            network, window=self.window, stride=stride, batch=self.settings.inference.batch, device=self.device,
        ).reshape(inputs.shape[1:])  # fmt: skip
        back = patches.unscale(values, made)
        return back + (inputs[0] - np.clip(inputs[0], *made)).astype(np.float32) if given[0] == made else back


def beside(
    settings: Synthesis, source: Sequence[Path], scans: Path, patients: Path, also: Sequence[Path], where: str
) -> dict[str, tuple[list[domains.Row], str]] | None:
    """Rows of the further inputs by scan of the source view, and why there are none; None for a single input."""
    from .. import tables
    from ..tables import schemas
    from ..training import cohort

    if settings.inputs == 1:
        return None
    rows = tables.read_all(list(source), schemas.VIEWS)
    rows = rows[rows["view"] == settings.source.view].to_dict("records")
    return domains.beside(settings, rows, cohort.cohort(scans, patients), also, where)
