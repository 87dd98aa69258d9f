"""Settings of reader studies."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .base import Expression, Name, Section

Part = Literal["training", "validation", "test", "external"]
Share = Annotated[float, Field(ge=0, le=1)]


class Arm(Section):
    """Images of one kind in a reader study."""

    view: Name = Field(description="view that the slices are cut from")
    where: Expression | None = Field(
        None, description="which scans, as an expression of the columns of scans.tsv, such as contrast == 'no'"
    )


class Arms(Section):
    """The two kinds of images that readers tell apart."""

    acquired: Arm = Field(description="images as a scanner made them")
    synthetic: Arm = Field(description="images that a model made")


class SimulatedReader(Section):
    """A reader played by the computer, for tests and for planning how many readers a study needs."""

    name: Name = Field(description="name of the simulated reader")
    sensitivity: Share = Field(description="chance to call a synthetic image synthetic")
    specificity: Share = Field(description="chance to call an acquired image acquired")


class ReaderStudy(Section):
    """A reader study: an offline page shows slices one by one, people say what they see."""

    kind: Literal["real-or-synthetic"] = Field("real-or-synthetic", description="the question that readers answer")
    title: str = Field("", description="heading in the report; the name of the reader study if empty")
    caption: str = Field("", description="a sentence or two that the report shows with the results")
    views: Arms = Field(description="the two kinds of images")
    split: Name = Field(
        description="split that the patients come from; the models behind the images must hold them out"
    )
    parts: tuple[Part, ...] = Field(("test",), description="parts of the split that the patients come from")
    items: int = Field(60, ge=2, le=2000, description="images to show, half of each kind")
    size_px: int = Field(320, ge=32, le=1024, description="width and height of every image, pixels")
    pixel_mm: float = Field(1.0, gt=0, le=10, description="size of a pixel of every image, mm")
    range_hu: tuple[int, int] = Field((-1024, 3071), description="grey values are clipped to this range, HU")
    window_hu: tuple[int, int] = Field((-160, 240), description="window that the page opens with: from, to, HU")
    answers: str | None = Field(
        None, description="folder with the answer files (JSON) that readers sent back; it may be empty or absent"
    )
    readers: int = Field(3, ge=1, le=500, description="number of readers whose answers are expected")
    simulated: tuple[SimulatedReader, ...] = Field((), description="simulated readers, for tests and planning")
    bootstraps: int = Field(1000, ge=50, description="bootstrap samples for intervals of pooled values")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("range_hu", "window_hu"):
            low, high = getattr(self, key)
            if low >= high:
                raise ValueError(f"{key}: {[low, high]} goes down; write the lower value first, as in [-160, 240]")
        names = [reader.name for reader in self.simulated]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"simulated: the names {twice} occur twice; give every reader a name of its own")
        if not self.parts:
            raise ValueError("parts: the list is empty; write parts: [test]")
        if self.views.acquired == self.views.synthetic:
            raise ValueError("views: acquired and synthetic are the same images; name two views, or different scans")
        return self
