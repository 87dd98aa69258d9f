"""Section `synthesis: inference`: how a trained generator passes over whole images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PositiveInt

from .base import Expression, Section

Size = tuple[PositiveInt, ...]


class SynthesisInference(Section):
    """How a trained generator passes over whole images; a change here trains nothing again."""

    window: Size | None = Field(None, description="voxels of a window along x, y, z; empty: as the training patch")
    stride: Size | None = Field(
        None, description="voxels from window to window along x, y, z; empty: a quarter of the window"
    )
    batch: PositiveInt = Field(4, description="windows that pass the network at once")
    precision: Literal["auto", "fp32", "tf32", "fp16", "bf16"] = Field(
        "auto",
        description="number format of the network; auto: fp16 on a GPU, fp32 on a CPU. The difference from fp32 is "
        "measured in windows of each scan and written to the manifest; above 0.5 HU in the mean or 5 HU at most the "
        "scan is made with fp32. A CPU takes bf16 alone, and only one with AMX",
    )
    mode: Literal["exact", "fast"] = Field(
        "exact",
        description="exact: the window and stride above; fast: those below, with the difference from exact in the "
        "middle of each scan and the seams written to the manifest",
    )
    fast_window: Size | None = Field(
        None,
        description="voxels of a window along x, y, z in fast mode, made smaller where the scan is; empty: as `window`",
    )
    fast_stride: Size | None = Field(
        None, description="voxels from window to window in fast mode; empty: three quarters of its window"
    )
    where: Expression | None = Field(
        None,
        description="expression that selects the scans to translate, the others are handed on unchanged; empty: all "
        "scans are translated, so that every image of the view has passed the same generator",
    )

    def windows(self, patch: Size) -> tuple[Size, Size]:
        """Window and stride along x, y(, z) of the exact mode; `patch` is the training patch."""
        window = self.window or patch
        return window, self.stride or tuple(max(1, w // 4) for w in window)

    def fast_windows(self, patch: Size) -> tuple[Size, Size]:
        """The same of the fast mode."""
        window = self.fast_window or self.window or patch
        return window, self.fast_stride or tuple(max(1, 3 * w // 4) for w in window)

    def used(self, patch: Size) -> tuple[Size, Size]:
        """Those of the mode that is used."""
        return self.windows(patch) if self.mode == "exact" else self.fast_windows(patch)

    def problems(self, patch: Size, dimensions: int, factor: int) -> Iterator[str]:
        """What does not fit the rest of a model's settings, and what to write.

        Windows must be multiples of `factor`, strides fit in them.
        """
        if self.mode != "fast" and (self.fast_window or self.fast_stride):
            yield "inference: fast_window and fast_stride need mode: fast; write it, or leave them out"
            return
        for prefix in ("", "fast_") if self.mode == "fast" else ("",):
            found = []
            for part, multiple in (("window", factor), ("stride", 1)):
                if (size := getattr(self, prefix + part)) is not None:
                    found += size_problems(f"inference: {prefix}{part}", size, dimensions, multiple)
            window, stride = self.fast_windows(patch) if prefix else self.windows(patch)
            if not found and any(s > w for s, w in zip(stride, window, strict=True)):
                yield (
                    f"inference: {prefix}stride {list(stride)} is longer than the window {list(window)} and would "
                    f"leave gaps; write at most the window, such as a quarter of it"
                )
            yield from found


def size_problems(name: str, size: Size, dimensions: int, factor: int) -> list[str]:
    """What is wrong with a size that must have so many numbers, all multiples of `factor`, and what to write."""
    if len(size) != dimensions:
        return [f"{name} {list(size)} has {len(size)} numbers; write {dimensions}, since dimensions is that"]
    if any(s % factor for s in size):
        better = [max(factor, round(s / factor) * factor) for s in size]
        return [
            f"{name} {list(size)} cannot be halved as often as the network does; "
            f"write multiples of {factor}, such as {better}"
        ]
    return []
