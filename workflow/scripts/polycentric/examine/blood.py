"""Find large blood pools: heart and great vessels between the lungs, and the aorta or vena cava before the spine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .coarse import Coarse
from .tissue import IN_PLANE, Tissue, largest

FATTY_HU = 70.0  # darker than muscle by this is fat
SMALLEST_POOL_ML = 15.0
SMALLEST_TRUNK_CM2, SMALLEST_CUT_TRUNK_CM2 = 300.0, 500.0  # where the image cuts the body, limbs look like trunks
BASES_ML = 1500.0
SHORTEST_VESSEL_MM = 50.0
BONE_HU = 200.0


@dataclass(frozen=True)
class Pool:
    """A blood pool: median HU, volume (mL), and where it was found (heart or vessel)."""

    hu: float
    ml: float
    place: str


def find_pool(scan: Coarse, tissue: Tissue, muscle_hu: float) -> Pool | None:
    """The heart with the great vessels if lungs show where it lies, else the large vessels before the spine.

    Between the bases of the lungs lies more liver than heart: there the vessels come first.
    """
    if tissue.lungs.sum() * scan.voxel_ml > BASES_ML:
        return between_lungs(scan, tissue, muscle_hu) or before_spine(scan, tissue, muscle_hu)
    return before_spine(scan, tissue, muscle_hu) or between_lungs(scan, tissue, muscle_hu)


def smooth(scan: Coarse, mask: np.ndarray, mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over a box of about `mm` within a mask; 0 and infinity where the mask is thin."""
    size = [max(1, 2 * round(mm / (2 * s)) + 1) for s in scan.spacing]
    weight = ndimage.uniform_filter(mask.astype(np.float32), size, mode="constant")
    some = weight > 0.6
    safe = np.where(some, weight, 1)
    values = np.where(mask, scan.hu, 0)
    mean = ndimage.uniform_filter(values, size, mode="constant") / safe
    square = ndimage.uniform_filter(values * values, size, mode="constant") / safe
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    return np.where(some, mean, 0), np.where(some, spread, np.inf)


def _zone(scan: Coarse, tissue: Tissue) -> np.ndarray:
    """What lies between the lungs, before the spine, in the slices with at least half of their largest section.

    Rows run from the foremost point of the lungs through 60 % of their depth: the vertebrae begin behind that. Where
    the image cuts the body, its border takes the place of the other lung.
    """
    lungs, body = tissue.lungs, tissue.body
    area = lungs.sum(axis=(1, 2))
    zone = np.zeros_like(lungs)
    for k in np.flatnonzero(area >= 0.5 * area.max()):
        rows = np.flatnonzero(lungs[k].any(axis=1))
        first, last = rows[0], rows[-1]
        end = first + round(0.6 * (last - first)) + 1
        for j in range(first, end):
            columns = np.flatnonzero(lungs[k, j])
            if columns.size < 2:
                continue
            row = np.zeros(lungs.shape[2], bool)
            gaps = np.flatnonzero(np.diff(columns) > scan.voxels(20, 2))
            for gap in gaps:
                row[columns[gap] + 1 : columns[gap + 1]] = True
            if tissue.truncated and not gaps.size:
                for edge in (np.s_[columns[-1] + 1 :], np.s_[: columns[0]]):
                    # the chest wall ends in air, the cut mediastinum at the border
                    if body[k, j, edge].size > scan.voxels(20, 2) and body[k, j, edge].all():
                        row[edge] = True
            zone[k, j] = row
    return zone


def between_lungs(scan: Coarse, tissue: Tissue, muscle_hu: float) -> Pool | None:
    """The brightest large homogeneous part of the mediastinum.

    Without contrast agent all of it is as bright as muscle; with it, blood stands out from myocardium, nodes, tumour.
    Calcifications, bone and stents are not homogeneous over a centimetre.
    """
    if not tissue.lungs.any():
        return None
    zone = _zone(scan, tissue)
    zone &= ndimage.binary_erosion(~tissue.lungs & tissue.body, IN_PLANE, border_value=1)
    if not zone.any():
        return None
    box = ndimage.find_objects(zone.astype(np.uint8))[0]
    scan, zone, soft = Coarse(scan.hu[box], scan.spacing), zone[box], muscle_hu - FATTY_HU
    mean, spread = smooth(scan, zone & (scan.hu > soft), 9)
    even = zone & np.isfinite(spread) & (mean > soft)
    if even.sum() * scan.voxel_ml < 4 * SMALLEST_POOL_ML:
        return None
    even &= spread < max(30.0, float(np.percentile(spread[even], 60)))
    values = mean[even]
    high = float(np.percentile(values, 85))
    # in the middle between the surroundings and the brightest; where there is no step, all but the darkest
    pool = largest(even & (mean > min((high + muscle_hu) / 2, high - 25)))
    ml = float(pool.sum() * scan.voxel_ml)
    if ml < SMALLEST_POOL_ML:
        return None
    return Pool(float(np.median(mean[pool])), ml, "heart")


def before_spine(scan: Coarse, tissue: Tissue, muscle_hu: float) -> Pool | None:
    """The brightest of the large vessels that run up and down before the spine: aorta or vena cava.

    A vessel is a disc that is homogeneous, stands out from its surroundings on most sides (fat, lung, bone), and
    continues from slice to slice over at least 50 mm. Unlike the muscles beside the spine it lies before it, unlike
    bowel it stays there. The best path is found by dynamic programming, the next one away from it.
    """
    spine = _spine(scan, tissue)
    if spine is None:
        return None
    slices, ys, xs = spine
    back, front, side, around = (scan.voxels(mm) for mm in (22, 85, 36, 25))
    part = np.s_[
        :,
        max(0, int(ys.min()) - front - around) : int(ys.max()) - back + around + 1,
        max(0, int(xs.min()) - side - around) : int(xs.max()) + side + around + 1,
    ]
    scan, body = Coarse(scan.hu[part], scan.spacing), tissue.body[part]
    ys, xs = ys - part[1].start, xs - part[2].start
    mean, spread = smooth(scan, np.ones_like(body), 9)
    score = _vesselness(scan, body & (mean > muscle_hu - FATTY_HU), mean, spread)
    box = np.full((slices.size, front - back + 1, 2 * side + 1), -1.0, np.float32)
    level = np.zeros_like(box)
    # the path may run beside the middle, where fat dims the disc
    middle = ndimage.maximum_filter(mean, footprint=IN_PLANE)
    for n, (k, y, x) in enumerate(zip(slices, ys, xs, strict=True)):
        for j in range(box.shape[1]):
            row = y - front + j
            low, high = max(0, x - side), min(scan.hu.shape[2], x + side + 1)
            if 0 <= row < scan.hu.shape[1] and low < high:
                box[n, j, low - x + side : high - x + side] = score[k, row, low:high]
                level[n, j, low - x + side : high - x + side] = middle[k, row, low:high]
    needed = max(4, scan.voxels(SHORTEST_VESSEL_MM, 0))
    pools: list[Pool] = []
    for _ in range(3):
        path = _best_path(box)
        own = np.array([box[n, j, i] for n, (j, i) in enumerate(path)])
        run = _longest_run(ndimage.uniform_filter1d(own, scan.voxels(15, 0), mode="nearest") > 0.33)
        if run.size >= needed:
            values = [level[n, path[n][0], path[n][1]] for n in run]
            ml = float(run.size * scan.voxel_ml * 9)
            pools.append(Pool(float(np.median(values)), ml, "vessel"))
        wide = scan.voxels(15)
        for n, (j, i) in enumerate(path):
            box[n, max(0, j - wide) : j + wide + 1, max(0, i - wide) : i + wide + 1] = -1
    return max(pools, key=lambda pool: pool.hu, default=None)


def _spine(scan: Coarse, tissue: Tissue) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Slices of the trunk, and row and column of the middle of the bone of the spine in each."""
    found = []
    smallest = SMALLEST_CUT_TRUNK_CM2 if tissue.truncated else SMALLEST_TRUNK_CM2
    for k, plane in enumerate(tissue.body):
        if plane.sum() * scan.voxel_cm2 < smallest:
            continue
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        middle, reach = (columns[0] + columns[-1]) // 2, scan.voxels(50, 2)
        top = (rows[0] + rows[-1]) // 2
        low = max(0, middle - reach)
        part = (scan.hu[k, top : rows[-1] + 1, low : middle + reach + 1] > BONE_HU).astype(float)
        if part.sum() * scan.voxel_cm2 < 3:
            continue
        y, x = ndimage.center_of_mass(part)
        found.append((k, top + y, low + x))
    if len(found) < max(4, scan.voxels(SHORTEST_VESSEL_MM, 0)):
        return None
    slices, ys, xs = (np.array(v) for v in zip(*found, strict=True))
    width = 2 * scan.voxels(30, 0) + 1
    ys, xs = (np.rint(ndimage.median_filter(v, width, mode="nearest")).astype(int) for v in (ys, xs))
    return slices, ys, xs


def _vesselness(scan: Coarse, soft: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Share of directions in the plane in which something else begins within 20 mm, less the disc's inhomogeneity."""
    result = np.zeros(scan.hu.shape, np.float32)
    for angle in np.arange(12) * np.pi / 6:
        ends = np.zeros(scan.hu.shape, bool)
        for mm in (11.0, 14.0, 17.0, 20.0):
            dy, dx = round(mm * np.sin(angle) / scan.spacing[1]), round(mm * np.cos(angle) / scan.spacing[2])
            there = np.roll(scan.hu, (-dy, -dx), axis=(1, 2))
            ends |= (there < mean - 35) | (there > mean + 60)
        result += ends / 12
    result -= np.clip(spread / 60, 0, 1)
    return np.where(soft, result, -1).astype(np.float32)


def _best_path(score: np.ndarray) -> list[tuple[int, int]]:
    """Row and column in every slice of the path of highest total score that moves by one voxel at most."""
    total = score[0]
    steps = []
    for plane in score[1:]:
        padded = np.pad(total, 1, constant_values=-np.inf)
        moved = np.stack([padded[a : a + total.shape[0], b : b + total.shape[1]] for a in range(3) for b in range(3)])
        best = moved.argmax(axis=0)
        steps.append(best)
        total = plane + np.take_along_axis(moved, best[None], axis=0)[0]
    j, i = (int(v) for v in np.unravel_index(int(total.argmax()), total.shape))
    path = [(j, i)]
    for best in reversed(steps):
        a, b = divmod(int(best[j, i]), 3)
        j, i = j + a - 1, i + b - 1
        path.append((j, i))
    return path[::-1]


def _longest_run(good: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(good)
    if not count:
        return np.array([], int)
    return np.flatnonzero(labels == int(np.bincount(labels[labels > 0]).argmax()))
