"""Geometry of a stack of slices, float64, in DICOM's patient system (LPS)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from ..volumes import Geometry

SAME_POSITION_MM = 1e-3
POSITION = ["position_x_mm", "position_y_mm", "position_z_mm"]


@lru_cache(maxsize=4096)
def axes(orientation: str) -> np.ndarray | None:
    """Row, column and normal directions (3 x 3, one per row) of an orientation; None if they are no such thing.

    DICOM PS3.3 C.7.6.2.1.1: row and column cosines are orthogonal unit vectors; the normal is their cross product.
    """
    values = np.array([float(v) for v in orientation.split()])
    if values.size != 6:
        return None
    row, column = values[:3], values[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(row @ column) > 0.01:
        return None
    row = row / lengths[0]
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two directions, degrees; exact near zero too."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def positioned(files: pd.DataFrame) -> pd.Series:
    """Which slices have position, orientation and pixel spacing."""
    spaced = (files["pixel_spacing_x_mm"].to_numpy() > 0) & (files["pixel_spacing_y_mm"].to_numpy() > 0)
    oriented = np.array([axes(o) is not None for o in files["orientation"]], dtype=bool)
    placed = np.isfinite(files[POSITION].to_numpy(dtype=float)).all(axis=1)
    return pd.Series(placed & oriented & spaced, index=files.index)


def places(files: pd.DataFrame) -> np.ndarray:
    """A number for each slice, the same for slices at the same position (within a micrometre)."""
    rounded = np.round(files[POSITION].to_numpy(dtype=float), 3) + 0.0
    return np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal.

    order
        row labels of the files, by ascending position.
    along
        position of each slice along the normal, mm.
    across
        (n, 2) displacement of each slice's first pixel in its plane, along row and column, relative to the first, mm.
    """

    order: list[int]
    axes: np.ndarray
    along: np.ndarray
    across: np.ndarray
    origin: np.ndarray

    @staticmethod
    def of(files: pd.DataFrame) -> Stack:
        """The stack of positioned slices of one orientation (that of the first slice holds for all)."""
        keys = [c for c in ("sop_instance", "content_sha256", "path", "frame") if c in files]
        files = files.sort_values(keys)
        directions = axes(files["orientation"].iloc[0])
        assert directions is not None
        projected = files[POSITION].to_numpy(dtype=float) @ directions.T
        order = np.argsort(projected[:, 2], kind="stable")
        projected = projected[order]
        first = files[POSITION].to_numpy(dtype=float)[order[0]]
        across = projected[:, :2] - projected[0, :2]
        return Stack([int(i) for i in files.index[order]], directions, projected[:, 2], across, first)

    @property
    def steps(self) -> np.ndarray:
        return np.diff(self.along)

    @property
    def modal_step(self) -> float:
        """The most frequent slice distance (within 0.05 mm), the smaller one of equals; the median of that group."""
        steps = np.sort(self.steps)
        groups = np.split(steps, np.flatnonzero(np.diff(steps) > 0.05) + 1)
        return float(np.median(max(groups, key=len)))

    def spacing(self, tolerance: float) -> float:
        """Slice distance of the grid: the median, unless its error adds up along the scan beyond the tolerance.

        Positions written with two decimals may have a median step of 0.63 mm where 0.625 mm is meant; over 300 slices
        that is 1.5 mm, so then the mean step holds.
        """
        median = float(np.median(self.steps))
        drift = np.abs(self.along - self.along[0] - median * np.arange(len(self.along)))
        if drift.max() <= max(tolerance, 1e-9):
            return median
        return float((self.along[-1] - self.along[0]) / (len(self.along) - 1))

    @property
    def shear_deg(self) -> float:
        """Angle between the normal and the line through the first pixels of first and last slice, degrees."""
        return float(np.degrees(np.arctan2(np.linalg.norm(self.across[-1]), self.along[-1] - self.along[0])))

    @property
    def wander_mm(self) -> float:
        """Largest distance of a slice from that line, in its plane, mm."""
        share = (self.along - self.along[0]) / (self.along[-1] - self.along[0])
        return float(np.linalg.norm(self.across - share[:, None] * self.across[-1], axis=1).max())

    @property
    def advance(self) -> np.ndarray:
        """Direction from the first pixel of the first slice to that of the last: the normal, unless sheared."""
        origin = self.across[-1] @ self.axes[:2] + (self.along[-1] - self.along[0]) * self.axes[2]
        length = np.linalg.norm(origin)
        return origin / length if length > 0 else self.axes[2]

    def geometry(self, files: pd.DataFrame, spacing: float, slices: int | None = None) -> Geometry:
        """The grid of the volume: x along rows, y along columns, z along the normal."""
        first = files.loc[self.order[0]]
        return Geometry(
            (int(first["columns"]), int(first["rows"]), slices or len(self.order)),
            (float(first["pixel_spacing_x_mm"]), float(first["pixel_spacing_y_mm"]), spacing),
            tuple(float(v) for v in self.origin),
            tuple(float(v) + 0.0 for v in self.axes.T.ravel()),
        )

    def straightened(self, grid: Geometry) -> Geometry:
        """The grid widened in the plane of the slices so that it holds all of them wherever they are shifted to."""
        low, high = self.across.min(axis=0), self.across.max(axis=0)
        spacing = np.array(grid.spacing[:2])
        more = np.ceil((high - low) / spacing - 1e-3).astype(int)
        origin = self.origin + low @ self.axes[:2]
        size = (grid.size[0] + int(more[0]), grid.size[1] + int(more[1]), grid.size[2])
        return replace(grid, size=size, origin=tuple(float(v) for v in origin))
