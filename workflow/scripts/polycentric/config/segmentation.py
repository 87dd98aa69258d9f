"""Section `segmentation`: networks that outline a region of interest."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .base import Expression, ImportedWeights, Name, Section

Size = tuple[PositiveInt, ...]


class SegmentationLoss(Section):
    """Loss of a segmentation network: soft Dice plus cross-entropy."""

    dice: NonNegativeFloat = Field(1.0, description="weight of the soft Dice loss")
    bce: NonNegativeFloat = Field(1.0, description="weight of the binary cross-entropy")


class SegmentationInference(Section):
    """How a trained network outlines whole images; a change here trains nothing again."""

    window: Size | None = Field(None, description="voxels of a window along x, y, z; empty: as the training patch")
    stride: Size | None = Field(
        None, description="voxels from window to window along x, y, z; empty: half of the window"
    )
    batch: PositiveInt = Field(4, description="windows that pass the network at once")
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="probability above which a voxel belongs")
    largest_component: bool = Field(True, description="keep the largest connected piece alone (26 neighbours)")


class Segmentation(Section):
    """A U-Net (Ronneberger et al. 2015; Cicek et al. 2016) that learns a region of interest from a mask source."""

    split: Name = Field(description="split whose training patients the network may see")
    view: Name = Field(description="view that the images are taken from")
    masks: Name = Field("manual", description="mask source to learn from")
    roi: str = Field("GTV-1", min_length=1, description="region of interest to learn; its own masks carry this name")
    where: Expression | None = Field(
        None, description="expression that selects the scans to learn from; empty: all with a mask"
    )
    import_: ImportedWeights | None = Field(
        None,
        alias="import",
        description="use these weights instead of training; the keys of the network must describe them",
    )
    dimensions: Literal[2, 3] = Field(3, description="3 for volumes, 2 for axial slices")
    patch: Size = Field((96, 96, 64), description="voxels of a training patch along x, y(, z)")
    batch: PositiveInt = Field(2, description="patches per iteration")
    foreground: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of patches that are centred on a voxel of the region"
    )
    width: PositiveInt = Field(32, description="channels of the first level; doubled by each level")
    depth: Annotated[int, Field(ge=1, le=6)] = Field(4, description="down-samplings by 2, and as many up-samplings")
    iterations: PositiveInt = Field(50_000, description="training iterations")
    learning_rate: PositiveFloat = Field(1e-3, description="learning rate of Adam")
    decay: NonNegativeFloat = Field(
        0.9,
        description="the learning rate falls to 0 as (1 - iteration / iterations) to this power; 0 keeps it constant",
    )
    loss: SegmentationLoss = Field(SegmentationLoss(), description="terms of the loss and their weights")
    hu_range: tuple[float, float] = Field(
        (-1000.0, 400.0), description="HU mapped to -1 and 1; what lies outside is clipped"
    )
    history_every: PositiveInt = Field(100, description="iterations per row of the training history")
    checkpoint_minutes: PositiveFloat = Field(5.0, description="minutes between two saves of the training state")
    checkpoint_iterations: PositiveInt | None = Field(
        None, description="save after so many iterations, too; empty: by time alone"
    )
    threads: PositiveInt = Field(2, description="CPU threads of training; sums, and so the weights, depend on it")
    device: Literal["auto", "cpu", "cuda"] | None = Field(
        None, description="auto, cpu or cuda; empty: as the study says"
    )
    inference: SegmentationInference = Field(SegmentationInference(), description="how whole images are outlined")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        factor = 2**self.depth
        window = self.inference.window or self.patch
        for name, size, multiple in (
            ("patch", self.patch, factor),
            ("inference: window", window, factor),
            ("inference: stride", self.inference.stride or window, 1),
        ):
            if len(size) != self.dimensions:
                raise ValueError(f"{name} {list(size)} has {len(size)} numbers; write {self.dimensions}, as dimensions")
            if any(s % multiple for s in size):
                better = [max(multiple, round(s / multiple) * multiple) for s in size]
                raise ValueError(
                    f"{name} {list(size)} cannot be halved {self.depth} times; "
                    f"write multiples of {multiple}, such as {better}, or a smaller depth"
                )
        if self.inference.stride and any(s > w for s, w in zip(self.inference.stride, window, strict=True)):
            raise ValueError(
                f"inference: stride {list(self.inference.stride)} is longer than the window {list(window)} and would "
                f"leave gaps; write at most the window, such as half of it"
            )
        if all(s == factor for s in self.patch):
            raise ValueError(
                f"patch {list(self.patch)} leaves one voxel at the lowest level; write at least twice that size along "
                f"an axis, or a smaller depth"
            )
        if self.loss.dice == self.loss.bce == 0:
            raise ValueError("loss: both weights are 0; give dice or bce a weight, such as 1")
        if self.hu_range[0] >= self.hu_range[1]:
            raise ValueError(f"hu_range {list(self.hu_range)} must rise; write the lower value first")
        return self
