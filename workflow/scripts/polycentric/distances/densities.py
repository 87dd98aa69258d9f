"""Distances of histograms and spectra; the last axis holds the bins, the others are kept."""

from __future__ import annotations

import numpy as np

# fraction of voxels that is added to every bin before logarithms: one voxel in a million
SMOOTHING = 1e-6


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of p from q in nats, each smoothed by `SMOOTHING` per bin and normalised."""
    p, q = ((h + SMOOTHING) / (h + SMOOTHING).sum(axis=-1, keepdims=True) for h in (p, q))
    return (p * np.log(p / q)).sum(axis=-1)


def correlation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the bins that are defined in both; NaN if one is flat."""
    defined = np.isfinite(p) & np.isfinite(q)
    count = np.maximum(defined.sum(axis=-1, keepdims=True), 1)
    p, q = (np.where(defined, h, 0) for h in np.broadcast_arrays(p, q))
    p, q = (np.where(defined, h - h.sum(axis=-1, keepdims=True) / count, 0) for h in (p, q))
    norm = np.sqrt((p * p).sum(axis=-1) * (q * q).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (p * q).sum(axis=-1) / norm, np.nan)


def intersection(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Shared fraction of two histograms: 1 for equal ones, 0 for disjoint ones (Swain and Ballard 1991)."""
    return np.minimum(p, q).sum(axis=-1)


def mean_difference(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Mean absolute difference over the bins that are defined in both; NaN if there is none."""
    defined = np.isfinite(p) & np.isfinite(q)
    difference = np.where(defined, np.abs(np.where(defined, p, 0) - np.where(defined, q, 0)), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(defined.any(axis=-1), difference.sum(axis=-1) / defined.sum(axis=-1), np.nan)
