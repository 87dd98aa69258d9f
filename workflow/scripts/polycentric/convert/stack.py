"""Slices as tables name them, and as they are stacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ScanError
from .header import Facts


@dataclass(frozen=True)
class Plane:
    """A slice: `frame` of the file at `path` (as tables have it), its rescaling (NaN where unknown).

    An `image` is no DICOM file: SimpleITK finds out what it is and applies the scaling that it holds itself.
    """

    path: str
    frame: int = 0
    image: bool = False
    slope: float = float("nan")
    intercept: float = float("nan")


@dataclass(frozen=True)
class Stack:
    """Stored values (z, y, x) as the files hold them, and facts about them."""

    array: np.ndarray
    facts: Facts


class Slots:
    """Room for the slices as they come, as wide as the widest of their types."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.array: np.ndarray | None = None
        self.narrow: tuple[int, np.ndarray] | None = None

    def room(self, number: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
        """Where to put a slice of this type; what was put there is kept by the next call or `settle`."""
        self.settle()
        wide = np.dtype(np.int16) if kind.itemsize == 1 else kind
        if self.array is None:
            self.array = np.empty((self.count, *shape), wide)
        if shape != self.array.shape[1:]:
            raise ScanError("GEOM_MATRIX_MIXED", f"slice {number} is not {self.array.shape[2]} x {self.array.shape[1]}")
        if (wider := np.result_type(self.array.dtype, wide)) != self.array.dtype:
            self.array = self.array.astype(wider)
        if self.array.dtype == kind:
            return self.array[number]
        self.narrow = number, np.empty(shape, kind)
        return self.narrow[1]

    def settle(self) -> None:
        if self.narrow is not None and self.array is not None:
            self.array[self.narrow[0]] = self.narrow[1]
            self.narrow = None
