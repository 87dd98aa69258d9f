"""Lasso and elastic net for Cox regression."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import linalg
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from . import cox

SWEEPS, ROUNDS = 5000, 50
RUNAWAY = 15.0  # a coefficient per SD beyond this has no maximum


def largest(x: np.ndarray, time: np.ndarray, event: np.ndarray, *, mixing: float = 1.0, free: int = 0) -> float:
    """The smallest penalty per event at which no penalised column enters; the first `free` columns have none."""
    beta = np.zeros(x.shape[1])
    if free:
        start = cox.fit(x[:, :free], time, event)
        beta[:free] = start.coefficients if start.converged else 0.0
    risk = cox.risk_sets(time, event)
    if not risk.events:
        return 0.0
    _, gradient, _ = cox.derivatives(np.asarray(x, dtype=float)[risk.order], beta, risk)
    return float(np.abs(gradient[free:]).max(initial=0.0) / risk.events / max(mixing, 1e-3))


def path(
    x: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    penalties: np.ndarray,
    *,
    mixing: float = 1.0,
    free: int = 0,
    ties: cox.Ties = "efron",
    tolerance: float = 1e-7,
) -> np.ndarray:
    """Coefficients (penalties, p) that maximise loglik - events * penalty * (mixing |b|_1 + (1 - mixing) |b|^2 / 2).

    Proximal Newton: each step is an elastic net of the quadratic approximation, solved by coordinate descent as in
    Simon et al. 2011 (J Stat Softw 39:5), with step halving. The first `free` columns are projected out of it, which
    leaves the others their exact penalty. `penalties` descend; each fit starts from the one before. Rows are NaN from
    where a coefficient runs away.
    """
    risk = cox.risk_sets(time, event, ties)
    x = np.asarray(x, dtype=float)[risk.order]
    p = x.shape[1]
    beta, result = np.zeros(p), np.full((len(penalties), p), np.nan)
    if not risk.events:
        return result
    spread = np.maximum(x.std(axis=0), 1e-12)
    solver = ElasticNet(fit_intercept=False, max_iter=SWEEPS, tol=min(1e-7, tolerance), warm_start=True,
                        l1_ratio=mixing)  # fmt: skip
    for k, penalty in enumerate(np.asarray(penalties, dtype=float) * risk.events):

        def objective(b: np.ndarray, weight: float = penalty) -> float:
            size = np.abs(b[free:])
            return cox.loglik(x, b, risk) - weight * (mixing * size.sum() + (1 - mixing) * (size**2).sum() / 2)

        now = objective(beta)
        for _ in range(ROUNDS):
            _, gradient, information = cox.derivatives(x, beta, risk)
            step = _step(beta, gradient, information, penalty, free, solver)
            scale = 1.0
            while True:
                trial = beta + scale * step
                value = objective(trial)
                if value >= now - 1e-12 * abs(now) or scale < 1e-4:
                    break
                scale /= 2
            beta, now = trial, value
            if (np.abs(beta) * spread).max(initial=0.0) > RUNAWAY or not np.isfinite(beta).all():
                return result
            if (np.abs(scale * step) * spread).max(initial=0.0) < tolerance:
                break
        result[k] = beta
    return result


def _step(
    beta: np.ndarray, gradient: np.ndarray, information: np.ndarray, penalty: float, free: int, solver: ElasticNet
) -> np.ndarray:
    """From beta to the minimum of the penalised quadratic approximation."""
    p = len(beta)
    # a trace of ridge makes the root exist; it changes the way to the maximum, not the maximum
    jitter = 1e-10 * max(float(np.trace(information)) / p, 1e-300)
    root = linalg.cholesky(information + jitter * np.eye(p), lower=False)
    target = root @ beta + linalg.solve_triangular(root, gradient, trans="T")
    basis = np.linalg.qr(root[:, :free])[0]
    design = root[:, free:] - basis @ (basis.T @ root[:, free:])
    solver.alpha = penalty / p  # scikit-learn divides the squares by the rows
    solver.coef_ = beta[free:].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(design, target - basis @ (basis.T @ target))
    penalised = np.asarray(solver.coef_, dtype=float)
    rest = np.linalg.lstsq(root[:, :free], target - root[:, free:] @ penalised, rcond=None)[0]
    return np.r_[rest, penalised] - beta
