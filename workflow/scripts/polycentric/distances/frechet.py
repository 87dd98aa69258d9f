"""Frechet distance of two sets of features, taken as samples of normal distributions."""

from __future__ import annotations

import numpy as np


def of_samples(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions fitted to samples a (n, d) and b (m, d).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017, equation 6), covariances
    with n - 1. The trace of the root is the sum of the singular values of the product of the centred samples,
    since A B and X_a^T (X_a X_b^T) X_b share their eigenvalues: an (n, m) matrix in place of a (d, d) root, exact, and
    never complex. Where there are more samples than features, triangular factors stand for the samples.

    Raises
    ------
    ValueError
        for fewer than two samples, or another number of features.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"samples of shapes {a.shape} and {b.shape}: two (n, d) arrays of at least two rows are needed"
        )
    means = a.mean(axis=0), b.mean(axis=0)
    x, y = ((s - mean) / np.sqrt(len(s) - 1) for s, mean in zip((a, b), means, strict=True))
    trace = float((x**2).sum() + (y**2).sum())
    x, y = (np.linalg.qr(s, mode="r") if len(s) > s.shape[1] else s for s in (x, y))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + trace - 2 * float(root))
