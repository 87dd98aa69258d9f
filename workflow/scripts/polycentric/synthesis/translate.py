"""One image through a trained generator: HU in, HU out, slab by slab, with what precision and mode cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..inference import guard, sliding
from ..inference import precision as precisions
from ..inference.prepare import prepare
from ..jobs import SILENT, Log
from ..networks import weights as weight_files
from ..tiling import Shape, Tiling, seams_at
from ..training import patches
from . import start
from .cyclegan import generator

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis

Direction = Literal["forward", "backward"]
PROGRESS_S = 10.0
WHOLE_FROM = 400.0  # width of a range from which on whole numbers are good enough: an error of 1/8 % of it at most
PLANES = 8  # that are finished at a time
SEAM_PLANES = 16
SAMPLE_STEPS = (1, 2, 2)


def planes(image: np.memmap, first: int, last: int) -> np.ndarray:
    """Planes (z, y, x) of a file that `patches.open_nifti` opened, read into memory: mapped ones would stay there."""
    last = min(last, len(image))
    area = image.shape[1] * image.shape[2]
    with Path(image.filename).open("rb") as stream:
        stream.seek(image.offset + first * area * image.itemsize)
        read = np.fromfile(stream, image.dtype, (last - first) * area)
    return read.reshape(last - first, *image.shape[1:]).astype(image.dtype.newbyteorder("="), copy=False)


class NotFinite(Exception):
    """The network made NaN or infinity."""


def stored(limits: tuple[float, float]) -> np.dtype:
    """How images of a range of intensities are written.

    Those of HU, and others of a wide range, as int16: an error of at most 0.5 HU is far below noise, and files are half
    of float32's. Intensities of 0 to 1, or 0 to 255, or beyond int16 stay float32, unrounded.
    """
    low, high = limits
    whole = high - low >= WHOLE_FROM and low >= -32768 and high <= 32767
    return np.dtype(np.int16 if whole else np.float32)


class Translator:
    """A generator, loaded once and when first needed; maps HU to HU.

    What lies beyond the model's range of HU (metal, or lung if the range is narrow) is not the generator's business:
    the part that is clipped off is added again, unless source and target have different ranges. The result is rounded
    to whole HU, unless the range of the target is too narrow for it (`stored`).
    """

    def __init__(
        self,
        settings: Synthesis,
        weights: Path,
        device: torch.device,
        where: str,
        log: Log = SILENT,
        direction: Direction = "forward",
    ) -> None:
        self.settings, self.weights, self.device, self.where, self.log = settings, weights, device, where, log
        self.direction: Direction = direction
        self.ranges, self.target = settings.source_ranges, settings.target_range
        if direction == "backward":
            self.ranges, self.target = (self.target,), self.ranges[0]
        self.networks: dict[bool, nn.Module] = {}
        self.precision, self.why = precisions.choose(settings.inference.precision, device)
        self.stored = stored(self.target)
        if problems := start.differences(settings, weight_files.facts(weights)["settings"], ranges=True):
            raise UserError(
                f"{where}: {weights.name} belongs to another generator ({'; '.join(problems)}); train the model again."
            )
        if not any(key.startswith(f"{direction}.") for key in weight_files.names(weights)):
            raise UserError(f"{where}: {weights.name} holds no {direction} generator; leave the view out.")

    def network(self, precision: precisions.Precision) -> nn.Module:
        """The generator, laid out for a precision."""
        last = precisions.channels_last(precision, self.device)
        if last not in self.networks:
            tensors, _ = weight_files.read(self.weights)
            network = generator(self.settings, self.direction)
            weight_files.into(network, tensors, self.direction)
            self.networks[last] = prepare(network, channels_last=last).to(self.device)
        return self.networks[last]

    def windows(self, shape: Sequence[int], mode: Literal["exact", "fast"] | None = None) -> tuple[Shape, Shape]:
        """Window and stride (z, y, x) for a volume (z, y, x); those of the fast mode are made smaller if it is."""
        inference = self.settings.inference
        if (mode or inference.mode) == "exact":
            return tuple(map(patches.full_size, inference.windows(self.settings.patch)))  # type: ignore[return-value]
        window, stride = map(patches.full_size, inference.fast_windows(self.settings.patch))
        factor = 2**self.settings.generator.downs
        window = tuple(min(w, -(-n // factor) * factor) for w, n in zip(window, shape, strict=True))
        return window, tuple(map(min, stride, window))  # type: ignore[return-value]

    def refuse_long(self, shapes: list[list[int]]) -> None:
        network = precisions.within(self.network(self.precision), self.precision, self.device)
        windows = [self.windows(shape) for shape in shapes]
        if self.settings.inference.mode == "fast":
            own = [self.windows(shape, "exact") for shape in shapes]
            windows = windows + own
            shapes = shapes + [_sample(shape, *w).shape for shape, w in zip(shapes, own, strict=True)]
        guard.refuse_long(network, windows, shapes, batch=self.settings.inference.batch, where=self.where,
            channels=self.settings.inputs)  # fmt: skip

    def __call__(self, hu: np.ndarray, *further: np.ndarray) -> np.ndarray:
        """Translate an array (z, y, x), with further inputs of the same grid, in the precision of the settings."""
        made: list[np.ndarray] = []
        self.translate((hu, *further), made.append, self.precision)
        return np.concatenate(made)

    def translate(
        self, images: Sequence[np.ndarray], put: Callable[[np.ndarray], None], precision: precisions.Precision
    ) -> list[dict[str, Any]]:
        """Translate an image (z, y, x), in memory or a file, and hand out its planes in order; return what was found.

        `images` are the inputs of the generator, the first of which is translated.

        Raises
        ------
        NotFinite
            when the network overflows.
        """
        pass_ = Pass(self, images, precision)
        pass_.run(put)
        return pass_.found


class Pass:
    """One image, or several on one grid, on the way through the generator."""

    def __init__(self, translator: Translator, images: Sequence[np.ndarray], precision: precisions.Precision) -> None:
        self.owner, self.images, self.image = translator, images, images[0]
        self.settings, self.device = translator.settings, translator.device
        self.ranges, self.target = translator.ranges, translator.target
        if len(images) != len(self.ranges):
            raise ValueError(f"the generator has {len(self.ranges)} inputs, not {len(images)}")
        self.batch = self.settings.inference.batch
        self.source = sliding.Source(self._read, self.image.shape)
        self.window, self.stride = translator.windows(self.image.shape)
        self.padded, self.crop = self.source.padded(self.window)
        self.tiling = Tiling.over(self.padded.shape, self.window, self.stride)
        self.found: list[dict[str, Any]] = []
        self.precision = self._bearable(precision)
        self.network = precisions.within(translator.network(self.precision), self.precision, self.device)

    def run(self, put: Callable[[np.ndarray], None]) -> None:
        counts, told = sliding.Counts(), time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                self.owner.log.event("windows", done=done, total=total)

        check = FastCheck(self) if self.settings.inference.mode == "fast" else None
        slabs = sliding.stream(
            self.padded, self.network, self.tiling, batch=self.batch, counts=counts, progress=progress
        )
        for begin, slab in sliding.cropped(slabs, self.crop):
            for first in range(0, slab.shape[1], PLANES):
                values = slab[0, first : first + PLANES]
                if not values.isfinite().all():
                    raise NotFinite
                hu = self.hu(begin + first, begin + first + len(values))
                kind = torch.int16 if self.owner.stored == np.int16 else torch.float32
                made = self.finish(values, hu).to(kind).cpu().numpy()
                if check is not None:
                    check.see(begin + first, made)
                put(made)
        self.found[0] |= {"windows": counts.windows, "constant": counts.skipped}
        if check is not None:
            self.found.append(check.result())

    def _load(self, image: np.ndarray, first: int, last: int) -> Tensor:
        read = planes(image, first, last) if isinstance(image, np.memmap) else image[first:last]
        return torch.from_numpy(np.ascontiguousarray(read)).to(self.device).to(torch.float32, copy=True)

    def hu(self, first: int, last: int) -> Tensor:
        """Planes of the image itself."""
        return self._load(self.image, first, last)

    def _read(self, first: int, last: int) -> Tensor:
        made = []
        for image, (low, high) in zip(self.images, self.ranges, strict=True):
            # in place: temporary slabs would be as large as those that are held
            own = self._load(image, first, last).clamp_(low, high)
            made.append(own.sub_((low + high) / 2).div_((high - low) / 2))
        return torch.stack(made)

    def to_hu(self, values: Tensor) -> Tensor:
        """Output of the network as HU."""
        low, high = self.target
        return values.clamp(-1, 1) * ((high - low) / 2) + (low + high) / 2

    def finish(self, values: Tensor, hu: Tensor) -> Tensor:
        """Output of the network in HU, as it is written; `hu` are the same voxels of the image."""
        made = self.to_hu(values)
        if self.ranges[0] == self.target:  # what was clipped off is in the unit of the target
            made += hu - hu.clamp(*self.target)
        return made.round_().clamp_(-32768, 32767) if self.owner.stored == np.int16 else made

    def _bearable(self, precision: precisions.Precision) -> precisions.Precision:
        """The precision, or fp32 if its error exceeds the limits; noted in `found`."""
        facts: dict[str, Any] = {"step": "synthesize", "kind": "precision", "precision": precision}
        self.found.append(facts)
        if precision == "fp32":
            return precision
        pair = [precisions.within(self.owner.network(one), one, self.device) for one in ("fp32", precision)]
        error = precisions.error(self.padded, self.tiling, *pair, self.to_hu, self.batch)
        facts |= {"error_windows": error.windows, "error_mean_hu": number(error.mean_hu)}
        facts |= {"error_max_hu": number(error.max_hu)}
        if error.bearable(self.target[1] - self.target[0]):
            return precision
        facts |= {"precision": "fp32", "refused": precision}
        self.owner.log.event(
            "precision", refused=precision, used="fp32", mean_hu=number(error.mean_hu), max_hu=number(error.max_hu)
        )
        return "fp32"


class FastCheck:
    """What the fast mode changes in an image: its difference from the exact mode in the middle, and its seams.

    The region in the middle is of two steps (along z one) from window to window of the exact mode, so that a small
    part of its windows tells what it would have made. Seams are sought in some whole planes around it.
    """

    def __init__(self, one: Pass) -> None:
        self.one = one
        window, stride = one.owner.windows(one.image.shape, "exact")
        self.source, self.crop = one.source.padded(window)
        self.exact = Tiling.over(self.source.shape, window, stride)
        self.region = self.exact.middle(SAMPLE_STEPS)
        self.inside = tuple(
            slice(max(r.start, c.start) - c.start, min(r.stop, c.stop) - c.start)
            for r, c in zip(self.region, self.crop, strict=True)
        )
        planes_, middle = one.image.shape[0], (self.inside[0].start + self.inside[0].stop) // 2
        first = max(0, min(middle - SEAM_PLANES // 2, planes_ - SEAM_PLANES))
        self.slab = slice(first, min(planes_, first + SEAM_PLANES))
        self.begin = min(self.slab.start, self.inside[0].start)
        self.end = max(self.slab.stop, self.inside[0].stop)
        self.kept: list[np.ndarray] = []

    def see(self, first: int, made: np.ndarray) -> None:
        begin, end = max(first, self.begin), min(first + len(made), self.end)
        if begin < end:
            self.kept.append(made[begin - first : end - first].copy())

    def result(self) -> dict[str, Any]:
        from ..anatomy import body  # needs scipy, which the networks do without

        one = self.one
        made = np.concatenate(self.kept)
        origin, tiling = self.exact.around(self.region)
        part = self.source.part([slice(o, o + n) for o, n in zip(origin, tiling.shape, strict=True)])
        slabs = [slab[0].clone() for _, slab in sliding.stream(part, one.network, tiling, batch=one.batch)]
        at = tuple(
            slice(i.start + c.start - o, i.stop + c.start - o)
            for i, c, o in zip(self.inside, self.crop, origin, strict=True)
        )
        exact = torch.cat(slabs)[at]
        hu = one.hu(self.inside[0].start, self.inside[0].stop)[:, self.inside[1], self.inside[2]]
        wanted = one.finish(exact, hu).cpu().numpy()
        fast = made[
            self.inside[0].start - self.begin : self.inside[0].stop - self.begin, self.inside[1], self.inside[2]
        ]
        difference = np.abs(fast - wanted)
        slab = made[self.slab.start - self.begin : self.slab.stop - self.begin].astype(np.float32)
        image = one.hu(self.slab.start, self.slab.stop).cpu().numpy()
        # of another modality, where the body is and what changed cannot be told in HU: what was made tells
        hounsfield = one.ranges[0] == one.target
        within = body(image if hounsfield else slab)
        steps = seams_at(slab - image if hounsfield else slab, within, [self._borders(axis) for axis in range(3)])
        return {
            "step": "synthesize",
            "kind": "fast",
            "window": list(reversed(one.window)),
            "stride": list(reversed(one.stride)),
            "sample_first_voxel": [int(i.start) for i in reversed(self.inside)],
            "sample_voxels": [int(i.stop - i.start) for i in reversed(self.inside)],
            "mean_hu": number(float(difference.mean())),
            "p99_hu": number(float(np.quantile(difference, 0.99))),
            "max_hu": number(float(difference.max())),
            "seam_planes": [self.slab.start, self.slab.stop],
            "seams": number(steps),
        }

    def _borders(self, axis: int) -> list[int]:
        """Voxels of the slab along an axis before which a window of the fast mode begins or ends."""
        one = self.one
        edges = {e for s in one.tiling.starts[axis] for e in (s, s + one.window[axis])}
        first, last = one.crop[axis].start, one.crop[axis].stop
        if axis == 0:
            first, last = first + self.slab.start, first + self.slab.stop
        return sorted(e - first for e in edges if first < e < last)


def _sample(shape: Sequence[int], window: Shape, stride: Shape) -> Tiling:
    """The windows of the exact mode that `FastCheck` computes for a volume."""
    tiling = Tiling.over(shape, window, stride)
    return tiling.around(tiling.middle(SAMPLE_STEPS))[1]


def number(value: float) -> float | None:
    """A figure with four digits, as JSON takes it."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
