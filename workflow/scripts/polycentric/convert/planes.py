"""The planes on which the masks of a scan are drawn, and the way from there to its grid.

Masks are drawn where slices were acquired, since that is where contours were drawn and frames of segmentations lie;
where curation planned a repair of the stack, they are then brought onto the repaired grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..volumes import Geometry

SAME_MM = 1e-3


@dataclass(frozen=True)
class Planes:
    """Planes of a mask (z, y, x).

    grid
        the grid of the scan.
    corners
        (n, 3) first pixel of each plane, LPS mm; in-plane directions and spacing are those of the grid.
    acquired
        (n, 3) first pixel of the slice as acquired; other than `corners` where slices are sheared.
    synthetic
        planes where no slice was acquired.
    uneven
        whether the distances of the planes differ, so that the grid has other ones.
    """

    grid: Geometry
    corners: np.ndarray
    acquired: np.ndarray
    synthetic: tuple[int, ...] = ()
    uneven: bool = False

    @staticmethod
    def of(grid: Geometry) -> Planes:
        """The planes of a regular stack."""
        corners = np.array(grid.origin) + np.outer(np.arange(grid.size[2]) * grid.spacing[2], _axes(grid)[:, 2])
        return Planes(grid, corners, corners)

    @staticmethod
    def of_slices(grid: Geometry, along: np.ndarray, across: np.ndarray, repair: str) -> Planes:
        """The planes of slices as acquired.

        Parameters
        ----------
        along
            (n,) positions along the normal, mm.
        across
            (n, 2) displacement against the first slice along rows and columns, mm.
        repair
            how the stack is brought onto the grid: none, shear, resample or interpolate.
        """
        regular = Planes.of(grid)
        axes = _axes(grid)
        if not len(along) or not np.isfinite(along).all():
            return regular
        across = np.nan_to_num(across)
        if repair == "interpolate":
            height = regular.corners @ axes[:, 2]
            nearest = np.abs(height[:, None] - along[None, :]).min(axis=1)
            return Planes(
                grid, regular.corners, regular.corners, tuple(np.flatnonzero(nearest > grid.spacing[2] / 2).tolist())
            )
        # the grid of a sheared stack covers all slices, so its corner is that of the smallest displacement
        origin = np.array(grid.origin) @ axes[:, :2] - (across.min(axis=0) if repair == "shear" else 0)
        in_plane = origin + across
        acquired = np.hstack([in_plane, along[:, None]]) @ axes.T
        if not repair:
            known = len(along) == grid.size[2] and abs(along[0] - np.array(grid.origin) @ axes[:, 2]) < SAME_MM
            return Planes(grid, acquired, acquired) if known else regular
        corners = np.hstack([np.tile(np.array(grid.origin) @ axes[:, :2], (len(along), 1)), along[:, None]]) @ axes.T
        same = len(along) == grid.size[2] and np.allclose(corners, regular.corners, atol=grid.spacing[2] * 0.02)
        return Planes(grid, corners, acquired, uneven=not same)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a mask: planes, rows, columns."""
        return len(self.corners), self.grid.size[1], self.grid.size[0]

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance of columns and of rows, mm."""
        return self.grid.spacing[:2]

    @cached_property
    def axes(self) -> np.ndarray:
        """Directions of rows, columns and slices, one per column."""
        return _axes(self.grid)

    @cached_property
    def heights(self) -> np.ndarray:
        """Positions along the slice direction, mm, ascending."""
        return self.corners @ self.axes[:, 2]

    @cached_property
    def step(self) -> float:
        return float(np.median(np.diff(self.heights))) if len(self.heights) > 1 else self.grid.spacing[2]

    @cached_property
    def thickness(self) -> np.ndarray:
        """Share of the scan's length that belongs to each plane, mm."""
        if not self.uneven:
            return np.full(len(self.heights), self.grid.spacing[2])
        return np.gradient(self.heights) if len(self.heights) > 1 else np.array([self.grid.spacing[2]])

    def nearest(self, heights: np.ndarray) -> np.ndarray:
        """The plane nearest to each height."""
        after = np.clip(np.searchsorted(self.heights, heights), 1, max(len(self.heights) - 1, 1))
        after = np.minimum(after, len(self.heights) - 1)
        before = np.maximum(after - 1, 0)
        closer = np.abs(heights - self.heights[before]) <= np.abs(heights - self.heights[after])
        return np.where(closer, before, after)

    def to_grid(self, mask: np.ndarray) -> np.ndarray:
        """A mask on the planes, brought onto the grid.

        Planes without a slice lie between slices, so a region on both sides of them goes through: shape-based
        interpolation (Raya and Udupa, IEEE TMI 1990; 9(1):32-42). It also gives the shape between planes of uneven
        distance; beside the last plane of a region the nearest one holds.
        """
        if not self.uneven:
            return fill_gaps(mask, self.spacing, among=self.synthetic)[0] if self.synthetic else mask
        wanted = np.array(self.grid.origin) @ self.axes[:, 2] + np.arange(self.grid.size[2]) * self.grid.spacing[2]
        result = np.zeros((len(wanted), *mask.shape[1:]), dtype=mask.dtype)
        drawn = mask.any(axis=(1, 2))
        for number, height in enumerate(wanted):
            upper = int(np.clip(np.searchsorted(self.heights, height), 1, len(self.heights) - 1))
            lower = upper - 1
            share = float(np.clip((height - self.heights[lower]) / (self.heights[upper] - self.heights[lower]), 0, 1))
            if drawn[lower] and drawn[upper] and 0 < share < 1:
                result[number] = between(mask[lower], mask[upper], share, self.spacing)
            else:
                result[number] = mask[upper if share > 0.5 else lower]
        return result


def _axes(grid: Geometry) -> np.ndarray:
    return np.array(grid.direction).reshape(3, 3)


def between(one: np.ndarray, other: np.ndarray, share: float, spacing: tuple[float, float]) -> np.ndarray:
    """The shape at a share of the way from one mask (rows, columns) to another, neither of them empty: where the
    weighted mean of their signed distances is negative. Spacing is (x, y) in mm."""
    from scipy.ndimage import distance_transform_edt

    ys, xs = np.nonzero(one | other)
    box = np.s_[max(ys.min() - 1, 0) : ys.max() + 2, max(xs.min() - 1, 0) : xs.max() + 2]

    def signed(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask[box] > 0, 1)
        distance = distance_transform_edt(~padded, sampling=spacing[::-1])
        distance -= distance_transform_edt(padded, sampling=spacing[::-1])
        return distance[1:-1, 1:-1]

    result = np.zeros_like(one)
    result[box] = (1 - share) * signed(one) + share * signed(other) < 0
    return result


def gaps(drawn: np.ndarray) -> list[tuple[int, int]]:
    """Runs (first, last) of planes without contours between planes with some."""
    numbers = np.flatnonzero(drawn)
    return [(int(a) + 1, int(b) - 1) for a, b in pairwise(numbers) if b - a > 1]


def fill_gaps(
    mask: np.ndarray, spacing: tuple[float, float], *, longest: int | None = None, among: tuple[int, ...] | None = None
) -> tuple[np.ndarray, list[int]]:
    """Fill planes that a region skips by shape-based interpolation, and say which.

    Parameters
    ----------
    longest
        most planes of a gap that is filled.
    among
        planes that may be filled; a gap that has others stays.
    """
    result, filled = mask.copy(), []
    for first, last in gaps(mask.any(axis=(1, 2))):
        run = range(first, last + 1)
        if (longest is not None and len(run) > longest) or (among is not None and not {*run} <= {*among}):
            continue
        for number in run:
            share = (number - first + 1) / (len(run) + 1)
            result[number] = between(mask[first - 1], mask[last + 1], share, spacing)
            filled.append(number)
    return result, filled
