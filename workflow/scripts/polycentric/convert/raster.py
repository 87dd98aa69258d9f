"""Even-odd filling of polygons, and the analytic area of what is filled.

Polygons of one slice are given together. A point is inside where a ray crosses their edges an odd number of times:
holes stay holes whether they are drawn as polygons of their own or as keyholes. Coordinates are continuous pixel
indices, x along a row and y along a column, with pixel centres at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _edges(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Edges (n, 4) of closed polygons as x0, y0, x1, y1 with y0 < y1, without horizontal ones: no ray crosses them."""
    parts = [np.hstack([p, np.roll(p, -1, axis=0)]) for p in polygons if len(p) >= 3]
    if not parts:
        return np.empty((0, 4))
    edges = np.concatenate(parts).astype(np.float64)
    edges = edges[edges[:, 1] != edges[:, 3]]
    down = edges[:, 1] > edges[:, 3]
    edges[down] = edges[down][:, [2, 3, 0, 1]]
    return edges


def _crossings(edges: np.ndarray, first: np.ndarray, last: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lines `first` <= k < `last` that each edge crosses, and the x where it does; line k lies at y = at[k]."""
    counts = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(edges)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    lines = first[which] + within
    x0, y0, x1, y1 = edges[which].T
    return lines, x0 + (at[lines] - y0) / (y1 - y0) * (x1 - x0)


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside, (rows, columns) bool.

    Edges are half open: a centre on a left or upper edge is in, on a right or lower edge out, so that polygons that
    share an edge share no pixel. What lies outside the image is cut off.
    """
    rows, columns = shape
    mask = np.zeros(shape, dtype=bool)
    edges = _edges(polygons)
    if not len(edges):
        return mask
    first = np.clip(np.ceil(edges[:, 1]), 0, rows).astype(np.int64)
    last = np.clip(np.ceil(edges[:, 3]), 0, rows).astype(np.int64)
    lines, x = _crossings(edges, first, last, np.arange(rows, dtype=np.float64))
    if not len(lines):
        return mask
    start = np.clip(np.ceil(x), 0, columns).astype(np.int64)
    # only the box around the crossings: most regions are much smaller than the image
    top, bottom, left, right = lines.min(), lines.max() + 1, start.min(), start.max()
    width = right - left + 1
    toggles = np.bincount((lines - top) * width + start - left, minlength=(bottom - top) * width)
    inside = np.cumsum(toggles.reshape(-1, width), axis=1)[:, :-1] & 1
    mask[top:bottom, left:right] = inside
    return mask


def area(polygons: Sequence[np.ndarray]) -> float:
    """Area inside, in square pixels: the exact integral of the chord length between the vertices' lines.

    Between two neighbouring vertex lines the chord length is linear, so its midpoint gives the exact area, except where
    edges cross between vertices; a crossing costs at most the small triangle between them.
    """
    edges = _edges(polygons)
    if not len(edges):
        return 0.0
    levels = np.unique(edges[:, [1, 3]])
    first, last = np.searchsorted(levels, edges[:, 1]), np.searchsorted(levels, edges[:, 3])
    lines, x = _crossings(edges, first, last, (levels[:-1] + levels[1:]) / 2)
    order = np.lexsort((x, lines))
    lines, x = lines[order], x[order]
    chords = (x[1::2] - x[::2]) * np.diff(levels)[lines[::2]]
    return float(chords.sum())
