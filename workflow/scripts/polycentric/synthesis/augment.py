"""Random changes of training patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from ..config.synthesis import Augmentation

Place = tuple[int, int, int]


@dataclass(frozen=True)
class Placed:
    """A change at a place of a volume: the part of the volume to read, and what becomes of it. Axes are (z, y, x).

    `first` is the first voxel of that part, `extent` its size. `matrix` and `offset` map a voxel of the patch, before
    it is mirrored along the axes in `flip`, to voxels of the volume; None: the part is the patch.
    """

    first: Place
    extent: Place
    size: Place
    flip: tuple[int, ...]
    matrix: np.ndarray | None = None
    offset: np.ndarray | None = None

    def take(self, part: Tensor) -> Tensor:
        """The patch (channels, z, y, x) made of the part (channels, z, y, x), which is scaled already.

        Values between voxels are interpolated linearly; beyond the volume its border continues.
        """
        if self.matrix is not None:
            flat = self.size[0] == 1  # a slice is one in the volume, too
            theta, size = self._theta().to(part), list(self.size)
            if flat:
                part, theta, size = part[:, 0], theta[:, :2, [0, 1, 3]], size[1:]
            grid = functional.affine_grid(theta, [1, 1, *size], align_corners=True)
            part = functional.grid_sample(part[None], grid, padding_mode="border", align_corners=True)[0]
            part = part[:, None] if flat else part
        return part.flip([axis + 1 for axis in self.flip]) if self.flip else part

    def _theta(self) -> Tensor:
        """The map in torch's coordinates: (x, y, z), from -1 at the first voxel to 1 at the last."""
        extent, size = np.array(self.extent), np.array(self.size)
        into = 2 / np.maximum(extent - 1, 1)
        half = (size - 1) / 2
        matrix = into[:, None] * self.matrix * half
        offset = into * (self.matrix @ half + self.offset - self.first) - 1
        return torch.from_numpy(np.concatenate([matrix[::-1, ::-1], offset[::-1, None]], axis=1))[None]


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

    def placed(self, origin: Place, size: Place, spacing: Sequence[float], shape: Place) -> Placed:
        """This change of the patch of a `size` at an `origin` of a volume of a `shape`.

        `spacing` is mm along (x, y, z): a rotation turns millimetres, not voxels. Axes of one voxel stay as they are.
        """
        if (self.angle, self.scale, self.crop) == (0.0, 1.0, 1.0):
            return Placed(origin, size, size, self.flip)
        n = np.array(size, dtype=float)
        share = np.where(n > 1, self.crop, 1.0)
        # the patch reaches from -0.5 to size - 0.5
        centre = np.array(origin) + np.array(self.at) * (1 - share) * n + share * n / 2 - 0.5
        mm = np.array(spacing, dtype=float)[::-1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        matrix = np.diag(1 / mm) @ turn @ np.diag(mm * share / np.where(n > 1, self.scale, 1.0))
        offset = centre - matrix @ ((n - 1) / 2)
        reach = np.abs(matrix) @ ((n - 1) / 2)
        last = np.array(shape) - 1
        low = np.clip(np.floor(centre - reach), 0, last).astype(int)
        high = np.clip(np.ceil(centre + reach), 0, last).astype(int)
        return Placed(
            tuple(low.tolist()), tuple((high - low + 1).tolist()), size, self.flip, matrix, offset
        )  # fmt: skip


class Augmenter:
    """Draws changes as the settings say, from a stream of its own."""

    def __init__(self, settings: Augmentation, stream: np.random.Generator) -> None:
        self.settings, self.stream = settings, stream

    def draw(self) -> Change:
        settings, stream = self.settings, self.stream
        # the same number of draws whatever comes out of them
        flip = tuple(axis for axis, name in enumerate("zyx") if stream.random() < 0.5 and name in settings.flip)
        moved = stream.random() < settings.share and settings.moves
        ranges = (settings.rotate_degrees, settings.scale, settings.crop)
        angle, scale, crop = (float(stream.uniform(*limits)) for limits in ranges)
        at = tuple(stream.random(3).tolist())
        return Change(flip, math.radians(angle), scale, crop, at) if moved else Change(flip)

    def state(self) -> dict[str, Any]:
        return self.stream.bit_generator.state

    def restore(self, state: dict[str, Any]) -> None:
        self.stream.bit_generator.state = state
