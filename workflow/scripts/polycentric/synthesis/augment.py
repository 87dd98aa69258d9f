"""Random changes of training patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from ..training import patches

if TYPE_CHECKING:
    from ..config.synthesis import Augmentation


@dataclass(frozen=True)
class Change:
    """One change of a patch; axes are (z, y, x).

    The part of side `crop` (a share of the patch's) at the relative place `at` is enlarged to the patch, magnified by
    `scale` and turned by `angle` (radians, in the axial plane) about its centre, and mirrored along the axes in `flip`.
    """

    flip: tuple[int, ...] = ()
    angle: float = 0.0
    scale: float = 1.0
    crop: float = 1.0
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def moves(self) -> bool:
        return (self.angle, self.scale, self.crop) != (0.0, 1.0, 1.0)

    def affine(
        self, origin: Sequence[int], size: Sequence[int], spacing: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and offset that map a voxel of the patch to the voxels of the volume, before mirroring; (z, y, x).

        `spacing` is mm along (x, y, z): a rotation turns millimetres, not voxels.
        """
        share = np.array([self.crop if s > 1 else 1.0 for s in size])
        n = np.array(size, dtype=float)
        # the patch reaches from -0.5 to size - 0.5
        centre = np.array(origin) + np.array(self.at) * (1 - share) * n + share * n / 2 - 0.5
        mm = np.array(spacing, dtype=float)[::-1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        matrix = np.diag(1 / mm) @ turn @ np.diag(mm * share / np.where(n > 1, self.scale, 1.0))
        return matrix, centre - matrix @ ((n - 1) / 2)

    def take(
        self,
        volume: np.ndarray,
        origin: Sequence[int],
        size: Sequence[int],
        limits: tuple[float, float],
        spacing: Sequence[float],
    ) -> np.ndarray:
        """The changed patch (z, y, x) of a volume, in [-1, 1], float32.

        Voxels between those of the volume are interpolated linearly, after scaling; beyond it its border continues.
        """
        if not self.moves:
            patch = patches.scale(patches.cut(volume, origin, size), limits)
        else:
            patch = _sample(volume, *self.affine(origin, size, spacing), size, limits)
        return np.ascontiguousarray(np.flip(patch, self.flip)) if self.flip else patch


def _sample(
    volume: np.ndarray, matrix: np.ndarray, offset: np.ndarray, size: Sequence[int], limits: tuple[float, float]
) -> np.ndarray:
    """Values of a volume at matrix @ voxel + offset. Only the part that is needed is read."""
    index = np.stack(np.meshgrid(*(np.arange(s, dtype=float) for s in size), indexing="ij"), axis=-1)
    at = index @ matrix.T + offset
    last = np.array(volume.shape) - 1
    at = np.clip(at, 0, last)
    low = np.floor(at.min(axis=(0, 1, 2))).astype(int)
    high = np.minimum(np.ceil(at.max(axis=(0, 1, 2))).astype(int), last)
    part = patches.scale(patches.cut(volume, low, high - low + 1), limits)
    # torch wants (x, y, z), from -1 at the first voxel to 1 at the last
    grid = 2 * (at - low) / np.maximum(high - low, 1) - 1
    values = functional.grid_sample(
        torch.from_numpy(part)[None, None],
        torch.from_numpy(np.ascontiguousarray(grid[..., ::-1])).float()[None],
        padding_mode="border",
        align_corners=True,
    )
    return values[0, 0].numpy()


class Augmenter:
    """Draws changes as the settings say, from a stream of its own."""

    def __init__(self, settings: Augmentation, stream: np.random.Generator) -> None:
        self.settings, self.stream = settings, stream

    def draw(self) -> Change:
        settings, stream = self.settings, self.stream
        # the same number of draws whatever comes out of them
        mirrored = tuple(axis for axis, name in enumerate("zyx") if stream.random() < 0.5 and name in settings.flip)
        moved = stream.random() < settings.share and settings.moves
        angle, scale, crop = (
            stream.uniform(*limits) for limits in (settings.rotate_degrees, settings.scale, settings.crop)
        )
        at = tuple(stream.random(3).tolist())
        return Change(mirrored, math.radians(angle), scale, crop, at) if moved else Change(mirrored)

    def state(self) -> dict[str, Any]:
        return self.stream.bit_generator.state

    def restore(self, state: dict[str, Any]) -> None:
        self.stream.bit_generator.state = state
