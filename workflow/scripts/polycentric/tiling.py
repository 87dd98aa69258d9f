"""Where the windows of a sliding window lie, and the seams that they leave. numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Shape = tuple[int, int, int]
SMALLEST_STEP_HU = 0.1


def starts(length: int, window: int, stride: int) -> list[int]:
    """First voxels of windows along an axis: at most `stride` apart, evenly spaced, from border to border.

    An axis shorter than the window has one window, which begins at 0.
    """
    steps = max(0, -(-(length - window) // stride))
    return [0] if steps == 0 else [round(i * (length - window) / steps) for i in range(steps + 1)]


def borders(length: int, window: int, stride: int) -> list[int]:
    """Voxels before which a window begins or ends within the volume, sorted."""
    places = {p for s in starts(length, window, stride) for p in (s, s + window)}
    return sorted(p for p in places if 0 < p < length)


@dataclass(frozen=True)
class Tiling:
    """A grid of windows (z, y, x): their size, and their first voxels along each axis, from 0 on and rising."""

    window: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @staticmethod
    def over(shape: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> Tiling:
        """Windows at most `stride` apart over a volume (z, y, x)."""
        found = tuple(tuple(starts(n, w, s)) for n, w, s in zip(shape, window, stride, strict=True))
        return Tiling(tuple(window), found)  # type: ignore[arg-type]

    @cached_property
    def shape(self) -> Shape:
        """Voxels (z, y, x) that the windows cover: the volume's, or the window's where that is longer."""
        return tuple(s[-1] + w for s, w in zip(self.starts, self.window, strict=True))  # type: ignore[return-value]

    @cached_property
    def count(self) -> int:
        return int(np.prod([len(s) for s in self.starts]))

    def around(self, region: Sequence[slice]) -> tuple[Shape, Tiling]:
        """The windows that touch a region (z, y, x): the first voxel of the first one, and their grid from there."""
        first, kept = [], []
        for part, own, length in zip(region, self.starts, self.window, strict=True):
            touching = [s for s in own if s < part.stop and s + length > part.start]
            first.append(touching[0])
            kept.append(tuple(s - touching[0] for s in touching))
        return tuple(first), Tiling(self.window, tuple(kept))  # type: ignore[arg-type, return-value]

    def middle(self, cells: Sequence[int]) -> tuple[slice, slice, slice]:
        """A region (z, y, x) in the middle, of so many steps from window to window; the whole axis if it has fewer."""
        region = []
        for own, total, number in zip(self.starts, self.shape, cells, strict=True):
            if len(own) <= number:
                region.append(slice(0, total))
                continue
            # the cell that holds the middle voxel is covered by as many windows as any
            away = [abs(begin + end - total) for begin, end in zip(own, own[number:], strict=False)]
            nearest = away.index(min(away))
            region.append(slice(own[nearest], own[nearest + number]))
        return tuple(region)  # type: ignore[return-value]


def seams(change: np.ndarray, within: np.ndarray, window: Shape, stride: Shape) -> float:
    """How much steeper an image is across the borders of windows than elsewhere: 1 without seams; NaN without borders.

    `change` (z, y, x) is synthetic minus source, HU, whose steps are the generator's own doing; `within` a mask, and a
    step counts if both its voxels lie in it; `window` and `stride` (z, y, x) in voxels.
    """
    found = [borders(n, w, s) for n, w, s in zip(change.shape, window, stride, strict=True)]
    return seams_at(change, within, found)


def seams_at(change: np.ndarray, within: np.ndarray, borders: Sequence[Sequence[int]]) -> float:
    """As `seams`, with the voxels before which windows begin or end along each axis (z, y, x).

    The ratio is of the mean absolute steps, all axes together; means below `SMALLEST_STEP_HU`, which rounding hides,
    count as that.
    """
    across, elsewhere = [0.0, 0], [0.0, 0]
    for axis in range(3):
        step = np.abs(np.diff(change.astype(np.float64), axis=axis))
        inside = np.moveaxis(np.logical_and(*_pair(within, axis)), axis, 0)
        step = np.moveaxis(step, axis, 0)
        at = np.zeros(len(step), dtype=bool)
        at[[b - 1 for b in borders[axis]]] = True
        if not at.any() or at.all():  # an axis along which windows have one voxel has nothing to compare with
            continue
        for total, chosen in ((across, at), (elsewhere, ~at)):
            total[0] += float(step[chosen][inside[chosen]].sum())
            total[1] += int(inside[chosen].sum())
    if not across[1] or not elsewhere[1]:
        return float("nan")
    steps = [max(total / count, SMALLEST_STEP_HU) for total, count in (across, elsewhere)]
    return steps[0] / steps[1]


def _pair(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    return array[tuple(first)], array[tuple(second)]
