"""CT scans on a coarse grid of about 3 mm, in one orientation: all that anatomy at the scale of organs needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volumes import Volume

COARSE_MM = 3.0
LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True)
class Coarse:
    """HU (z, y, x), float32: z from feet to head, y from front to back, x from right to left; spacing (z, y, x) mm."""

    hu: np.ndarray
    spacing: tuple[float, float, float]

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000

    @property
    def voxel_cm2(self) -> float:
        """Area of a voxel in the axial plane."""
        return self.spacing[1] * self.spacing[2] / 100

    def voxels(self, mm: float, axis: int = 1) -> int:
        """A length in voxels, at least 1."""
        return max(1, round(mm / self.spacing[axis]))


def upright(volume: Volume) -> tuple[np.ndarray, tuple[float, float, float]]:
    """View of the array whose axes run to the head, to the back and to the left, as near as can be; spacing (z, y, x).

    Oblique volumes keep their grid: only axes are swapped and flipped.
    """
    matrix = np.array(volume.geometry.direction).reshape(3, 3)  # columns: directions of i, j, k in LPS
    strength = np.abs(matrix)
    order = [0, 0, 0]  # axis of the grid that runs along x, y, z of the patient
    for _ in range(3):
        row, column = np.unravel_index(np.argmax(strength), (3, 3))
        order[row] = int(column)
        strength[row, :] = strength[:, column] = -1
    array = np.transpose(volume.array, [2 - order[2], 2 - order[1], 2 - order[0]])
    for axis, patient in enumerate((2, 1, 0)):
        if matrix[patient, order[patient]] < 0:
            array = np.flip(array, axis)
    spacing = tuple(float(volume.geometry.spacing[order[patient]]) for patient in (2, 1, 0))
    return array, spacing  # type: ignore[return-value]


def coarsen(array: np.ndarray, spacing: tuple[float, float, float], target_mm: float = COARSE_MM) -> Coarse:
    """Mean over blocks of about `target_mm`: also takes most of the noise away. Slabs bound the memory."""
    factors = [max(1, min(n, round(target_mm / s))) for n, s in zip(array.shape, spacing, strict=True)]
    counts = [n // f for n, f in zip(array.shape, factors, strict=True)]
    fz, fy, fx = factors
    nz, ny, nx = counts
    result = np.empty(counts, np.float32)
    for k in range(nz):
        slab = array[k * fz : (k + 1) * fz, : ny * fy, : nx * fx]
        plane = np.clip(slab, LOWEST_HU, HIGHEST_HU).astype(np.float32).sum(axis=0)
        result[k] = plane.reshape(ny, fy, nx, fx).sum(axis=(1, 3)) / (fz * fy * fx)
    return Coarse(result, tuple(s * f for s, f in zip(spacing, factors, strict=True)))  # type: ignore[arg-type]
