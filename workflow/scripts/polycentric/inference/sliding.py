"""Sliding window with integer stride, centre-weighted averaging and an exact normaliser, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..tiling import Tiling, starts

Network = Callable[[Tensor], Tensor]
Read = Callable[[int, int], Tensor]
Progress = Callable[[int, int], None]

# layers of windows are held together until they fill so many batches, so that little is wasted on the last one
BATCHES = 8
# outputs for constant windows that are kept: air, what lies outside of the reconstruction, a mask's filling
CONSTANTS = 8
# planes that are read at a time
READ = 16


def profile(window: int) -> Tensor:
    """Weights of a window along an axis: a Gaussian of an eighth of the window around its centre, float64.

    The prediction at the border of a window, which saw nothing beyond it, counts little.
    """
    x = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    return torch.exp(-0.5 * (x / (window / 8)) ** 2)


def normaliser(begins: Sequence[int], window: int) -> Tensor:
    """Sum of the weights of all windows that begin at `begins`, at each voxel of an axis, float64.

    Windows form a grid, so the sum over all of them is the product of these over the axes: no map of counts.
    """
    total = torch.zeros(begins[-1] + window, dtype=torch.float64)
    for start in begins:
        total[start : start + window] += profile(window)
    return total


@dataclass(frozen=True)
class Source:
    """A volume that is read as it is needed.

    `read(first, last)` gives planes first to last - 1 as (channels, z, y, x), float32, on the device of the network;
    `shape` is that of the volume (z, y, x).
    """

    read: Read
    shape: tuple[int, int, int]

    @staticmethod
    def of(array: np.ndarray, device: torch.device | str = "cpu") -> Source:
        """An array (channels, z, y, x)."""

        def read(first: int, last: int) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array[:, first:last], dtype=np.float32)).to(device)

        return Source(read, array.shape[1:])

    def padded(self, window: Sequence[int]) -> tuple[Source, tuple[slice, slice, slice]]:
        """The volume, repeated beyond its border up to the size of the window, and where it lies in that (z, y, x)."""
        missing = [max(0, w - n) for n, w in zip(self.shape, window, strict=True)]
        crop = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, self.shape, strict=True))
        if not any(missing):
            return self, crop  # type: ignore[return-value]
        (z, y, x), above = missing, crop[0].start

        def read(first: int, last: int) -> Tensor:
            planes = torch.arange(first - above, last - above).clamp(0, self.shape[0] - 1)
            held = self.read(int(planes[0]), int(planes[-1]) + 1)
            held = held[:, (planes - planes[0]).to(held.device)] if z else held
            pads = [x // 2, x - x // 2, y // 2, y - y // 2]
            return functional.pad(held, pads, mode="replicate") if x or y else held

        shape = tuple(n + m for n, m in zip(self.shape, missing, strict=True))
        return Source(read, shape), crop  # type: ignore[arg-type, return-value]

    def part(self, region: Sequence[slice]) -> Source:
        """The part of the volume within a region (z, y, x)."""
        z, y, x = region

        def read(first: int, last: int) -> Tensor:
            return self.read(z.start + first, z.start + last)[:, :, y.start : y.stop, x.start : x.stop]

        return Source(read, tuple(s.stop - s.start for s in region))  # type: ignore[arg-type]


@dataclass
class Counts:
    """Windows of a volume: all of them, and those that were not computed since an equal constant one had been."""

    windows: int = 0
    skipped: int = 0


@torch.inference_mode()
def stream(
    source: Source,
    network: Network,
    tiling: Tiling,
    *,
    batch: int = 4,
    skip: bool = True,
    counts: Counts | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Weighted mean of a network's predictions in all windows of a volume, in slabs of finished planes from 0 on.

    Only the planes that the windows of one or some layers cover are held, in float32: a slab as thick as the window for
    each input and output channel, however many planes the volume has.

    Parameters
    ----------
    source : at least as large as the window (`Source.padded`).
    network : maps (batch, channels, z, y, x) to (batch, outputs, z, y, x); with a window of one voxel along z it gets
        and gives no z. What it makes of a window must not depend on the others of the batch.
    tiling : where the windows lie; they cover the source.
    batch : windows at once. The last batch is filled up, so that every window passes with the same number of others.
    skip : compute windows that hold nothing but the same constant in each channel once, and reuse the output. The
        result is the same, bit for bit.
    counts : is raised by the windows.

    Yields
    ------
    First plane, and (outputs, z, y, x), float32, on the device, to be used before the next is asked for.
    """
    if tiling.shape != source.shape:
        raise ValueError(f"windows cover {tiling.shape}, the volume has {source.shape}")
    depth = tiling.window[0]
    zs, ys, xs = tiling.starts
    layer = len(ys) * len(xs)
    batch = min(batch, tiling.count)
    group = -(-BATCHES * batch // layer)
    tally = counts or Counts()
    groups = [zs[i : i + group] for i in range(0, len(zs), group)]
    thickness = max(own[-1] + depth - own[0] for own in groups)
    channels, device = (first := source.read(0, 1)).shape[0], first.device
    axes = [profile(w).to(device, torch.float32) for w in tiling.window]
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    # the sums of the float32 weights that are used, in float64, so that no rounding is left in a constant image
    sums = [normaliser(s, w).to(device, torch.float32) for s, w in zip(tiling.starts, tiling.window, strict=True)]
    # what is held: planes from `begin` on of the image and of the weighted sums, moved up from group to group
    image = torch.empty((channels, thickness, *source.shape[1:]), device=device)
    total: Tensor | None = None
    constants: dict[tuple[float, ...], Tensor] = {}
    done, begin, end = 0, 0, 0
    for number, own in enumerate(groups):
        held = end - own[0]
        _move_up(image, own[0] - begin, held)
        if total is not None:
            _move_up(total, own[0] - begin, held)
            total[:, held:] = 0
        begin, already, end = own[0], end, own[-1] + depth
        for one in range(already, end, READ):
            image[:, one - begin : min(one + READ, end) - begin] = source.read(one, min(one + READ, end))
        work = _Batches(image, network, tiling.window, batch, constants)
        for z in own:
            flat = _constants(image[:, z - begin : z - begin + depth], tiling) if skip else {}
            for y in ys:
                for x in xs:
                    work.add((z - begin, y, x), flat.get((y, x)))
        for place, output in work.outputs():
            if total is None:
                total = output.new_zeros((len(output), *image.shape[1:]))
            total[(slice(None), *place)].addcmul_(output, weight)
            done += 1
            if progress is not None and (done % batch == 0 or done == tiling.count):
                progress(done, tiling.count)
        tally.skipped += work.skipped
        assert total is not None
        finished = groups[number + 1][0] if number + 1 < len(groups) else end
        ready = total[:, : finished - begin]
        ready /= sums[0][begin:finished, None, None]
        ready /= sums[1][:, None]
        ready /= sums[2]
        yield begin, ready
    tally.windows += tiling.count


def _move_up(planes: Tensor, by: int, number: int) -> None:
    """Move planes `by` to `by` + `number` to the first places, in pieces that do not overlap with their new places."""
    for first in range(0, number if by else 0, by or 1):
        last = min(first + by, number)
        planes[:, first:last] = planes[:, first + by : last + by]


class _Batches:
    """Windows of some layers in order, of which those with the same constant are computed once."""

    def __init__(
        self, image: Tensor, network: Network, window: tuple[int, int, int], batch: int,
        constants: dict[tuple[float, ...], Tensor],
    ) -> None:  # fmt: skip
        self.image, self.network, self.window, self.batch, self.constants = image, network, window, batch, constants
        self.origins: list[tuple[tuple[int, int, int], tuple[float, ...] | None]] = []
        self.skipped = 0

    def add(self, origin: tuple[int, int, int], constant: tuple[float, ...] | None) -> None:
        self.origins.append((origin, constant))

    def outputs(self) -> Iterator[tuple[tuple[slice, slice, slice], Tensor]]:
        """Places (z, y, x) and outputs (outputs, z, y, x) in the order in which the windows were added.

        The order of sums, and so their rounding, is that of the windows, whatever is skipped.
        """
        waiting: list[tuple[tuple[slice, slice, slice], int | tuple[float, ...]]] = []
        slots: list[tuple[slice, slice, slice]] = []
        coming: dict[tuple[float, ...], int] = {}
        for origin, constant in self.origins:
            place = tuple(slice(o, o + w) for o, w in zip(origin, self.window, strict=True))
            if constant is not None and (constant in self.constants or constant in coming):
                waiting.append((place, constant))
                self.skipped += 1
                if not slots:
                    yield place, self.constants[constant]
                    waiting.clear()
                continue
            if constant is not None and len(self.constants) + len(coming) < CONSTANTS:
                coming[constant] = len(slots)
            waiting.append((place, len(slots)))
            slots.append(place)
            if len(slots) == self.batch:
                yield from self._flush(waiting, slots, coming)
        if slots:
            yield from self._flush(waiting, slots, coming)

    def _flush(self, waiting: list, slots: list, coming: dict) -> Iterator[tuple]:
        filled = slots + slots[-1:] * (self.batch - len(slots))
        inputs = torch.stack([self.image[(slice(None), *place)] for place in filled])
        outputs = predict(self.network, inputs)
        for constant, slot in coming.items():
            self.constants[constant] = outputs[slot].clone()
        for place, what in waiting:
            yield place, outputs[what] if isinstance(what, int) else self.constants[what]
        for held in (waiting, slots, coming):
            held.clear()


def predict(network: Network, windows: Tensor) -> Tensor:
    """Pass windows (batch, channels, z, y, x) through a network, which gets no z if it is 1; float32 of that layout."""
    if windows.shape[2] == 1:
        return network(windows[:, :, 0]).float()[:, :, None]
    return network(windows).float()


def _constants(slab: Tensor, tiling: Tiling) -> dict[tuple[int, int], tuple[float, ...]]:
    """Windows of a layer (by their first y and x) of which each channel is constant, and the constants."""
    low, high = (f(slab, 1).cpu().numpy() for f in (torch.amin, torch.amax))
    _, height, width = tiling.window
    found = {}
    for y in tiling.starts[1]:
        lows, highs = low[:, y : y + height].min(axis=1), high[:, y : y + height].max(axis=1)
        if (lows.max(axis=1) < highs.min(axis=1)).any():
            continue
        for x in tiling.starts[2]:
            smallest = lows[:, x : x + width].min(axis=1)
            if np.array_equal(smallest, highs[:, x : x + width].max(axis=1)):  # never with NaN
                found[y, x] = tuple(float(v) for v in smallest)
    return found


def slide(
    volume: np.ndarray,
    network: Network,
    *,
    window: Sequence[int],
    stride: Sequence[int],
    batch: int = 4,
    device: torch.device | str = "cpu",
    skip: bool = True,
    progress: Progress | None = None,
) -> np.ndarray:
    """`stream` over an array, and its slabs put together.

    Parameters
    ----------
    volume : (channels, z, y, x), float32. One smaller than the window is padded by its border voxels, and cropped.
    window, stride : voxels along (z, y, x), integers: whole windows everywhere, none shifted by rounding of an overlap.

    Returns
    -------
    (outputs, z, y, x), float32.
    """
    source, crop = Source.of(volume, device).padded(window)
    tiling = Tiling.over(source.shape, window, stride)
    slabs = stream(source, network, tiling, batch=batch, skip=skip, progress=progress)
    return np.concatenate([slab.cpu().numpy().copy() for _, slab in cropped(slabs, crop)], axis=1)


def cropped(slabs: Iterator[tuple[int, Tensor]], crop: tuple[slice, slice, slice]) -> Iterator[tuple[int, Tensor]]:
    """Slabs without what was padded; first planes count from the crop's."""
    z, y, x = crop
    for first, slab in slabs:
        begin, end = max(first, z.start), min(first + slab.shape[1], z.stop)
        if begin < end:
            yield begin - z.start, slab[:, begin - first : end - first, y, x]


__all__ = ["Counts", "Source", "cropped", "normaliser", "predict", "profile", "slide", "starts", "stream"]
