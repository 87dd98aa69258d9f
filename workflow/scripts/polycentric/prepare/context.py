"""What a step may need besides the image: masks, fitted parameters, the unit of the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..config.steps import Region
from ..errors import ScanError
from ..grids import crop_geometry, mask_onto, same
from ..volumes import Geometry, Rigid, Volume

SLAB = 32


def inside(mask: Volume, geometry: Geometry, interpolation: str = "linear") -> np.ndarray:
    """Boolean mask (z, y, x) on another grid: linear interpolation taken from 0.5 upwards, slab by slab."""
    if same(mask.geometry, geometry):
        return mask.array > 0
    nx, ny, nz = geometry.size
    result = np.empty((nz, ny, nx), bool)
    for z in range(0, nz, SLAB):
        last = min(z + SLAB, nz) - 1
        slab = crop_geometry(geometry, (0, 0, z), (nx - 1, ny - 1, last))
        result[z : last + 1] = mask_onto(mask, slab, interpolation).array > 0
    return result


@dataclass(frozen=True)
class Context:
    """Masks of the scan by region, on any grid; parameters by number of the step; unit of the scan's values.

    `own` are the parameters of the step that runs; `notes` collects what steps have to say about the scan. `moved` is
    the motion that registration gave the image, here or in a view before; the masks have made it, too.
    """

    masks: Mapping[str, Volume] = field(default_factory=dict)
    fitted: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    unit: str | None = None
    own: Mapping[str, Any] | None = None
    number: int = 0
    moved: Rigid | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)

    def at(self, number: int) -> Context:
        return replace(self, number=number, own=self.fitted.get(number))

    def note(self, kind: str, **facts: Any) -> None:
        self.notes.append({"step": self.number, "kind": kind, **facts})

    def parameters(self, kind: str) -> Mapping[str, Any]:
        """The fitted parameters of the running step."""
        if self.own is None:
            raise ValueError(f"step {self.number} ({kind}) is fitted, but no fitted parameters are given")
        return self.own

    def region(self, region: Region, geometry: Geometry) -> np.ndarray:
        """Boolean mask (z, y, x) of a region on a grid, by linear interpolation of its masks taken from 0.5 upwards.

        Raises
        ------
        ScanError
            VIEW_NO_MASK if a mask is absent, VIEW_EMPTY_REGION if nothing of it lies on the grid.
        """
        for roi in region.names:
            if roi not in self.masks:
                raise ScanError("VIEW_NO_MASK", f"the scan has no mask of {roi}")
        result = np.zeros(geometry.size[::-1], bool)
        for roi in region.rois:
            result |= inside(self.masks[roi], geometry)
        for roi in region.without:
            result &= ~inside(self.masks[roi], geometry)
        if not result.any():
            raise ScanError("VIEW_EMPTY_REGION", f"no voxel of {' + '.join(region.rois)} lies in the image")
        return result
