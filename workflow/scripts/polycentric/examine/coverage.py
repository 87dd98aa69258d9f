"""Which part of the body a CT scan shows, and whether the thorax is in it from apex to base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .coarse import Coarse
from .tissue import Tissue

SHORTEST_LUNGS_MM, SMALLEST_SECTION_CM2 = 100.0, 60.0


@dataclass(frozen=True)
class Coverage:
    """`thorax` (yes, no, unknown); empty slices above and below the lungs (mm, 0 where they touch the end)."""

    thorax: str
    body_part: str
    top_mm: float | None
    bottom_mm: float | None


def coverage(scan: Coarse, tissue: Tissue, apex_share: float, vessel: bool) -> Coverage:
    """Judge by the section of the lungs in every slice.

    The thorax is covered if the lungs end within the scan at both ends: their section falls below `apex_share` of the
    largest. Trunk without lungs, or with their bases alone, is abdomen; `vessel` says that a large vessel was found
    before a spine, which limbs and heads have not.
    """
    area = tissue.lungs.sum(axis=(1, 2)) * scan.voxel_cm2
    largest = float(area.max(initial=0))
    if largest == 0:
        return Coverage("no", "abdomen", None, None) if vessel else Coverage("unknown", "other", None, None)
    present = np.flatnonzero(area > apex_share * largest)
    top = (area.size - 1 - int(present[-1])) * scan.spacing[0]
    bottom = int(present[0]) * scan.spacing[0]
    length = present.size * scan.spacing[0]
    narrowing = area[-1] < 0.5 * largest
    # bases alone: the lungs are largest where the scan ends, and most of the scan lies below them
    bases = top == 0 and not narrowing and bottom > 0 and length < 0.6 * area.size * scan.spacing[0]
    part = "abdomen" if bases and length < 150 else "chest"
    if top == 0 or bottom == 0 or _cut(tissue):
        return Coverage("no", part, top, bottom)
    if length < SHORTEST_LUNGS_MM or largest < SMALLEST_SECTION_CM2 or not _two(scan, tissue):
        return Coverage("unknown", part, top, bottom)
    return Coverage("yes", part, top, bottom)


def _cut(tissue: Tissue) -> bool:
    """Whether the field of view cuts through the lungs sideways."""
    lungs = tissue.lungs
    rim = lungs[:, 0].sum() + lungs[:, -1].sum() + lungs[:, :, 0].sum() + lungs[:, :, -1].sum()
    return bool(tissue.truncated and rim > 0.002 * lungs.sum())


def _two(scan: Coarse, tissue: Tissue) -> bool:
    """Whether there is lung on both sides of the body: a collapsed lung leaves the question open."""
    columns = tissue.lungs.sum(axis=(0, 1))
    across = np.flatnonzero(tissue.body.any(axis=(0, 1)))
    middle = round(float(ndimage.center_of_mass(tissue.body.sum(axis=(0, 1)))[0])) if across.size else 0
    right, left = columns[:middle].sum(), columns[middle:].sum()
    return bool(min(right, left) > 0.1 * (right + left))
