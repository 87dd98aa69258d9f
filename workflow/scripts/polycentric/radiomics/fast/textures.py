"""Texture features of one ROI of one image, in PyRadiomics' definitions: one discretisation for all classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from radiomics import cMatrices

from ...config.radiomics_names import FEATURES
from ...errors import ScanError
from ..engine import bin_edges
from . import kernels

COOCCURRENCE = tuple(name for name in FEATURES["glcm"] if name != "MCC")
# what `kernels.emphases` gives, in the words of GLRLM, GLSZM and GLDM; None: the class does not have it
SIZES = {
    "glrlm": (
        "ShortRunEmphasis", "LongRunEmphasis", "GrayLevelNonUniformity", "GrayLevelNonUniformityNormalized",
        "RunLengthNonUniformity", "RunLengthNonUniformityNormalized", "RunPercentage", "GrayLevelVariance",
        "RunVariance", "RunEntropy", "LowGrayLevelRunEmphasis", "HighGrayLevelRunEmphasis",
        "ShortRunLowGrayLevelEmphasis", "ShortRunHighGrayLevelEmphasis", "LongRunLowGrayLevelEmphasis",
        "LongRunHighGrayLevelEmphasis",
    ),
    "glszm": (
        "SmallAreaEmphasis", "LargeAreaEmphasis", "GrayLevelNonUniformity", "GrayLevelNonUniformityNormalized",
        "SizeZoneNonUniformity", "SizeZoneNonUniformityNormalized", "ZonePercentage", "GrayLevelVariance",
        "ZoneVariance", "ZoneEntropy", "LowGrayLevelZoneEmphasis", "HighGrayLevelZoneEmphasis",
        "SmallAreaLowGrayLevelEmphasis", "SmallAreaHighGrayLevelEmphasis", "LargeAreaLowGrayLevelEmphasis",
        "LargeAreaHighGrayLevelEmphasis",
    ),
    "gldm": (
        "SmallDependenceEmphasis", "LargeDependenceEmphasis", "GrayLevelNonUniformity", None,
        "DependenceNonUniformity", "DependenceNonUniformityNormalized", None, "GrayLevelVariance",
        "DependenceVariance", "DependenceEntropy", "LowGrayLevelEmphasis", "HighGrayLevelEmphasis",
        "SmallDependenceLowGrayLevelEmphasis", "SmallDependenceHighGrayLevelEmphasis",
        "LargeDependenceLowGrayLevelEmphasis", "LargeDependenceHighGrayLevelEmphasis",
    ),
}  # fmt: skip
MOST_EDGES, MOST_LEVELS = 1 << 22, 4096  # beyond, matrices would need gigabytes


@dataclass(frozen=True)
class Levels:
    """A discretised ROI: rank of the grey level per voxel (raster order), and grey level and voxel count per rank."""

    ranks: np.ndarray
    greys: np.ndarray
    counts: np.ndarray


def discretise(values: np.ndarray, settings: dict[str, Any]) -> Levels:
    """Grey levels of the ROI's intensities, in the image's own type, by PyRadiomics' bin edges.

    Raises
    ------
    ScanError
        ROI_BINS where there would be more grey levels than matrices can be made for.
    """
    ends = np.array([values.min(), values.max()], values.dtype)
    if settings.get("binCount") is None:
        width = float(settings.get("binWidth", 25))
        if (float(ends[1]) - float(ends[0])) / width > MOST_EDGES:
            raise ScanError("ROI_BINS", f"bins of {width:g} would be more than {MOST_EDGES}: raise bin_width")
    # edges depend on the smallest and the largest intensity alone
    edges = np.asarray(bin_edges(ends, **settings), dtype=np.float64)
    step = float(edges[1] - edges[0])
    levels, counts = np.empty(len(values), np.int32), np.zeros(len(edges) + 1, np.int64)
    if kernels.digitise(values.astype(np.float64), edges, step, levels, counts):
        raise ScanError("ROI_BINS", "intensities inside the mask lie below the first bin")
    greys = np.flatnonzero(counts)
    if len(greys) > MOST_LEVELS:
        raise ScanError("ROI_BINS", f"{len(greys)} grey levels are more than {MOST_LEVELS}: raise bin_width")
    rank_of = np.zeros(len(counts), np.int32)
    rank_of[greys] = np.arange(1, len(greys) + 1)
    return Levels(rank_of[levels], greys, counts[greys])


def textures(
    mask: np.ndarray,
    levels: Levels,
    spacing: tuple[float, float, float],
    settings: dict[str, Any],
    classes: Collection[str],
    skip_mcc: bool = False,
) -> dict[str, dict[str, float]]:
    """Features of each of `classes` (glcm, glrlm, glszm, gldm, ngtdm) of a mask (z, y, x) cut down to its box.

    Raises
    ------
    ScanError
        ROI_UNUSABLE where no direction or distance fits into the box.
    """
    flat = settings.get("force2D", False)
    plane = (bool(flat), int(settings.get("force2Ddimension", 0)))
    distances = np.array(settings.get("distances", [1]), dtype=int)
    near = _directions(mask.shape, np.array([1]), plane)
    far = near if distances.tolist() == [1] else _directions(mask.shape, distances, plane)
    margin = int(max(np.abs(far).max(), 1))
    grid = np.zeros([n + 2 * margin for n in mask.shape], np.int32)
    inner = grid[tuple(slice(margin, -margin) for _ in range(3))]
    inner[mask] = levels.ranks
    voxels = np.flatnonzero(grid)
    grid_flat = grid.reshape(-1)
    strides = np.array(grid.strides) // grid.itemsize
    n = len(levels.greys)
    near_offsets, far_offsets = near @ strides, far @ strides

    result: dict[str, dict[str, float]] = {}
    if {"glcm", "gldm", "ngtdm"} & {*classes}:
        pairs = np.zeros((len(far), n, n), np.int32)
        dependence = np.zeros((n, 2 * len(far) + 1), np.int64)
        tone = np.zeros((n, 2))
        alpha = int(settings.get("gldm_a", 0))
        kernels.neighbours(grid_flat, voxels, far_offsets, levels.greys, alpha, pairs, dependence, tone)
        if "glcm" in classes:
            result["glcm"] = _glcm(pairs, levels.greys, far, spacing, settings, skip_mcc)
        if "gldm" in classes:
            sizes = np.flatnonzero(dependence.any(axis=0))
            result["gldm"] = _sizes("gldm", dependence[:, sizes].astype(float), levels.greys, sizes + 1)
        if "ngtdm" in classes:
            result["ngtdm"] = _ngtdm(tone, levels.greys.astype(float))
    if "glrlm" in classes:
        lengths = np.zeros((len(near), n, max(mask.shape)), np.int64)
        kernels.runs(grid_flat, voxels, near_offsets, lengths)
        result["glrlm"] = _glrlm(lengths, levels.greys, near, spacing, settings, mask)
    if "glszm" in classes:
        both = np.concatenate([near_offsets, -near_offsets])
        ranks, sizes = np.empty(len(voxels), np.int64), np.empty(len(voxels), np.int64)
        found = kernels.zones(grid_flat, voxels, both, ranks, sizes)
        present, column = np.unique(sizes[:found], return_inverse=True)
        table = np.bincount((ranks[:found] - 1) * len(present) + column, minlength=n * len(present))
        result["glszm"] = _sizes("glszm", table.reshape(n, -1).astype(float), levels.greys, present)
    return result


def _directions(size: tuple[int, ...], distances: np.ndarray, plane: tuple[bool, int]) -> np.ndarray:
    """One of each two opposite offsets (z, y, x) at the distances (infinity norm) that fit into the box."""
    try:
        return np.asarray(cMatrices.generate_angles(np.array(size), distances, False, *plane), dtype=np.int64)
    except RuntimeError as error:
        reason = f"no neighbours at distances {distances.tolist()} fit into the ROI's box of {size} voxels (z, y, x)"
        raise ScanError("ROI_UNUSABLE", reason) from error


def _weights(norm: str | None, directions: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray | None:
    """Length in mm of each direction by PyRadiomics' weightingNorm; None: directions stay apart."""
    if norm is None:
        return None
    steps = np.abs(directions) * np.array(spacing)
    if norm == "infinity":
        return steps.max(axis=1)
    if norm == "euclidean":
        return np.sqrt((steps**2).sum(axis=1))
    if norm == "manhattan":
        return steps.sum(axis=1)
    return np.full(len(directions), np.nan)  # no_weighting


def _glcm(
    pairs: np.ndarray,
    greys: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float, float],
    settings: dict[str, Any],
    skip_mcc: bool,
) -> dict[str, float]:
    symmetric = settings.get("symmetricalGLCM", True)
    norm = settings.get("weightingNorm")
    lengths = _weights(norm, directions, spacing)
    if lengths is None:
        matrices = [m.astype(float) for m in pairs if m.any()]
    else:
        factors = np.where(np.isnan(lengths), 1.0, np.exp(-(lengths**2)))
        matrices = [np.tensordot(factors, pairs, axes=1)]
    matrices = [m + m.T if symmetric else m for m in matrices]
    matrices = [np.ascontiguousarray(m / m.sum()) for m in matrices if m.sum() > 0]
    if not matrices:
        return dict.fromkeys(FEATURES["glcm"], np.nan)
    table = np.empty((len(matrices), len(COOCCURRENCE)))
    for matrix, row in zip(matrices, table, strict=True):
        kernels.cooccurrence(matrix, greys, int(greys[-1]), row)
    result = dict(zip(COOCCURRENCE, _mean(table), strict=True))
    if not skip_mcc:
        result["MCC"] = _mcc(matrices, symmetric)
    return result


def _mcc(matrices: list[np.ndarray], symmetric: bool) -> float:
    """Maximal correlation coefficient: the second singular value of p(i, j) / sqrt(p(i) p(j)), mean over directions.

    PyRadiomics takes the root of the second eigenvalue of Q = S S^T, which is the same number.
    """
    if len(matrices[0]) < 2:
        return 1.0
    values = []
    for matrix in matrices:
        px, py = matrix.sum(axis=1), matrix.sum(axis=0)
        scaled = matrix / np.sqrt(np.outer(px, py) + kernels.EPSILON)
        if symmetric:
            singular = np.sort(np.abs(np.linalg.eigvalsh(scaled)))[::-1]
        else:
            singular = np.linalg.svd(scaled, compute_uv=False)
        values.append(singular[1])
    return float(np.mean(values))


def _glrlm(
    lengths: np.ndarray,
    greys: np.ndarray,
    directions: np.ndarray,
    spacing: tuple[float, float, float],
    settings: dict[str, Any],
    mask: np.ndarray,
) -> dict[str, float]:
    keep = [n for n, direction in enumerate(directions) if lengths[n, :, 1:].any() or _deep(mask, direction)]
    weights = _weights(settings.get("weightingNorm"), directions, spacing)
    if weights is None:
        matrices = [lengths[n].astype(float) for n in keep]
    else:
        factors = np.where(np.isnan(weights), 1.0, weights)
        matrices = [np.tensordot(factors[keep], lengths[keep], axes=1)] if keep else []
    if not matrices:
        return dict.fromkeys(SIZES["glrlm"], np.nan)
    table = []
    for matrix in matrices:
        sizes = np.flatnonzero(matrix.any(axis=0))
        row = np.empty(16)
        kernels.emphases(np.ascontiguousarray(matrix[:, sizes]), greys, sizes + 1, row)
        table.append(row)
    return dict(zip(SIZES["glrlm"], _mean(np.array(table)), strict=True))


def _deep(mask: np.ndarray, direction: np.ndarray) -> bool:
    """Whether any line along a direction holds two voxels of the mask, touching or not."""
    voxels = np.argwhere(mask)
    axis = int(np.flatnonzero(direction)[0])
    lines = voxels - np.outer(voxels[:, axis] // direction[axis], direction)
    return len(np.unique(lines, axis=0)) < len(voxels)


def _sizes(family: str, matrix: np.ndarray, greys: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    row = np.empty(16)
    kernels.emphases(np.ascontiguousarray(matrix), greys, sizes.astype(np.int64), row)
    return {name: float(v) for name, v in zip(SIZES[family], row, strict=True) if name is not None}


def _ngtdm(tone: np.ndarray, i: np.ndarray) -> dict[str, float]:
    number, s = tone[:, 0], tone[:, 1]
    n, voxels = len(i), number.sum()
    p = number / voxels
    ps = p * s
    squared, apart = (i[:, None] - i) ** 2, np.abs(i[:, None] - i)
    both = p[:, None] + p
    busy = np.abs((i * p)[:, None] - i * p).sum()
    return {
        "Coarseness": 1 / ps.sum() if ps.sum() != 0 else 1e6,
        "Contrast": (np.outer(p, p) * squared).sum() * s.sum() / voxels / (n * (n - 1)) if n > 1 else 0.0,
        "Busyness": ps.sum() / busy if busy != 0 else 0.0,
        "Complexity": (apart * (ps[:, None] + ps) / both).sum() / voxels,
        "Strength": (both * squared).sum() / s.sum() if s.sum() != 0 else 0.0,
    }


def _mean(table: np.ndarray) -> list[float]:
    """Mean over directions, of those where the feature is defined."""
    defined = ~np.isnan(table)
    number = defined.sum(axis=0)
    total = np.where(defined, table, 0.0).sum(axis=0)
    return [float(t / n) if n else float("nan") for t, n in zip(total, number, strict=True)]
