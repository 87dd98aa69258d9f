"""ComBat as an estimator: fitted on training rows, applied to any row of a known batch.

Johnson, Li and Rabinovic, Biostatistics 8 (2007) 118-127, sections 3.1 and 3.2; design, reference batch and the
starting values as in Fortin et al., NeuroImage 161 (2017) 149-170 (neuroCombat).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..errors import UserError

TOLERANCE = 1e-10
ITERATIONS = 10_000


class ComBat(TransformerMixin, BaseEstimator):
    """Remove additive and multiplicative batch effects, with empirical Bayes estimates shared between features.

    Parameters
    ----------
    parametric
        Normal and inverse gamma priors; False: priors by Monte Carlo integration over the features (Johnson, eq. 3.2).
    mean_only
        Adjust the mean of batches, not their variance: eq. 3.1 with delta = 1 (neuroCombat also sets n to 1).
    unseen
        At transform, rows of a batch without training rows: `error`; `identity` leaves them as they are; `phantom`
        takes them, by location and scale from phantom scans, to every batch with training rows in turn, treats them
        as its rows, and averages (weighted by training rows).
    reference
        Batch that stays as it is; None: all batches move to the mean of the training rows.
    stopping
        `converged` iterates the parametric estimates to a relative change of 1e-10; `neurocombat` stops as neuroCombat
        and neuroHarmonize do: at 1e-4, where changes of negative values do not count.

    Missing values (NaN) are left out of the estimates and stay missing. A feature that is constant in the training
    rows stays as it is. A batch with one training row has no variance: use `mean_only`.
    """

    def __init__(
        self,
        parametric: bool = True,
        mean_only: bool = False,
        unseen: Literal["error", "identity", "phantom"] = "error",
        reference: str | None = None,
        stopping: Literal["converged", "neurocombat"] = "converged",
    ) -> None:
        self.parametric = parametric
        self.mean_only = mean_only
        self.unseen = unseen
        self.reference = reference
        self.stopping = stopping

    def fit(
        self,
        X: np.ndarray,
        y: Any = None,
        *,
        batch: Sequence[str],
        covariates: np.ndarray | None = None,
        phantom: ComBat | None = None,
    ) -> ComBat:
        """Estimate from training rows: X (n, features), batch (n), covariates (n, k) numeric; y is not used.

        `phantom` is a ComBat fitted on phantom scans of the same features, for `unseen: phantom`.
        """
        X = np.asarray(X, dtype=float)
        batch = np.asarray(batch, dtype=object)
        self.batches_ = sorted({str(b) for b in batch})
        self.n_features_in_ = X.shape[1]
        if self.reference is not None and self.reference not in self.batches_:
            raise UserError(
                f"ComBat: reference {self.reference!r} has no training rows; write one of {', '.join(self.batches_)}"
            )
        self.phantom_ = phantom if self.unseen == "phantom" else None
        if self.unseen == "phantom" and phantom is None:
            raise UserError("ComBat: `unseen: phantom` needs phantom scans; name them under `phantom`")
        one_hot = np.stack([batch == b for b in self.batches_], axis=1).astype(float)
        self.counts_ = [int(n) for n in one_hot.sum(0)]
        counts = {b: int(n) for b, n in zip(self.batches_, one_hot.sum(0), strict=True)}
        if not self.mean_only and (single := [b for b, n in counts.items() if n < 2]):
            raise UserError(
                f"ComBat: batch {', '.join(single)} has a single training row, so its variance is unknown: "
                f"write `mean_only: true`, or leave the batch out"
            )
        Z = np.zeros((len(X), 0)) if covariates is None else np.asarray(covariates, dtype=float)
        if not np.isfinite(Z).all():
            raise UserError("ComBat: covariates have missing values; choose others or remove those patients")
        self.n_covariates_ = Z.shape[1]

        design = np.hstack([one_hot, Z])
        if self.reference is not None:
            design[:, self.batches_.index(self.reference)] = 1.0  # the reference becomes the intercept
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise UserError(
                "ComBat: a covariate cannot be told apart from the batches among the training rows: remove it"
            )
        seen = np.isfinite(X)
        coefficients = _least_squares(design, X, seen)
        count = seen.sum(0)
        if self.reference is not None:
            at = self.batches_.index(self.reference)
            self.mean_ = coefficients[at]
            residual_rows = one_hot[:, at] == 1
        else:
            share = (one_hot.T @ seen) / np.maximum(count, 1)
            self.mean_ = (share * coefficients[: len(self.batches_)]).sum(0)
            residual_rows = np.ones(len(X), dtype=bool)
        residual = np.where(seen, X - design @ coefficients, np.nan)[residual_rows]
        with np.errstate(invalid="ignore"):
            self.scale_ = np.sqrt(_nanmean(residual**2))
        self.slopes_ = coefficients[len(self.batches_) :]
        per_batch = one_hot.T @ seen
        enough = per_batch.min(0) >= (1 if self.mean_only else 2)
        spread = np.nan_to_num(np.nanmax(np.where(seen, X, -np.inf), 0) - np.nanmin(np.where(seen, X, np.inf), 0))
        size = np.max(np.where(seen, np.abs(X), 0), 0)
        # a constant leaves residuals of rounding only, which must not be blown up to unit variance
        self.adjusted_ = enough & (spread > 0) & np.isfinite(self.scale_) & (self.scale_ > 1e-12 * np.maximum(size, 1))
        self.shift_ = np.zeros((len(self.batches_), X.shape[1]))
        self.factor_ = np.ones((len(self.batches_), X.shape[1]))
        if self.adjusted_.any():
            S = self._standardise(X, Z)[:, self.adjusted_]
            for i, name in enumerate(self.batches_):
                if name == self.reference:
                    continue
                g, d = _batch_effect(
                    S[one_hot[:, i] == 1],
                    parametric=self.parametric,
                    mean_only=self.mean_only,
                    as_neurocombat=self.stopping == "neurocombat",
                )
                self.shift_[i, self.adjusted_], self.factor_[i, self.adjusted_] = g, d
        return self

    def transform(
        self, X: np.ndarray, *, batch: Sequence[str] | None = None, covariates: np.ndarray | None = None
    ) -> np.ndarray:
        """Harmonised rows (n, features); each row depends on itself, its batch and its covariates only.

        Raises
        ------
        UserError
            for a batch without training rows, unless `unseen` is identity.
        """
        X = np.asarray(X, dtype=float)
        if batch is None:
            raise UserError("ComBat: transform needs the batch of every row")
        batch = np.asarray(batch, dtype=object)
        Z = np.zeros((len(X), 0)) if covariates is None else np.asarray(covariates, dtype=float)
        if Z.shape[1] != self.n_covariates_:
            raise UserError(f"ComBat: fitted with {self.n_covariates_} covariates, but {Z.shape[1]} are given")
        result = X.copy()
        refused = []
        for name in sorted({str(b) for b in batch}):
            rows = batch == name
            if name in self.batches_:
                result[rows] = self._as_batch(X[rows], Z[rows], self.batches_.index(name))
            elif self.phantom_ is not None and (through := self._through_phantom(X[rows], Z[rows], name)) is not None:
                result[rows] = through
            elif self.unseen != "identity":
                refused.append(name)
        if refused:
            names = ", ".join(refused)
            if self.unseen == "phantom":
                raise UserError(
                    f"ComBat: batch {names} has neither training rows nor phantom scans that link it to a batch with "
                    f"training rows. Add phantom scans of it, or write `unseen: identity`."
                )
            raise UserError(
                f"ComBat: batch {names} has no training rows, so its effect is unknown. Write `unseen: identity` to "
                f"leave its rows as they are, `unseen: phantom` to take its effect from phantom scans, or choose a "
                f"split whose training part has it."
            )
        return result

    def _as_batch(self, X: np.ndarray, Z: np.ndarray, at: int) -> np.ndarray:
        """Rows of the batch at a position, harmonised."""
        if self.batches_[at] == self.reference:
            return X
        expected = self.mean_ + Z @ self.slopes_
        scale = np.where(self.adjusted_, self.scale_, 1.0)
        adjusted = ((X - expected) / scale - self.shift_[at]) / np.sqrt(self.factor_[at]) * scale + expected
        return np.where(self.adjusted_, adjusted, X)

    def _through_phantom(self, X: np.ndarray, Z: np.ndarray, name: str) -> np.ndarray | None:
        """Rows of a batch that only phantoms know; None without phantom scans of it and of a training batch."""
        linked = [b for b in self.batches_ if b in self.phantom_.batches_]
        if name not in self.phantom_.batches_ or not linked:
            return None
        weights = np.array([self.counts_[self.batches_.index(b)] for b in linked], dtype=float)
        made = [self._as_batch(self.phantom_.to_batch(X, name, b), Z, self.batches_.index(b)) for b in linked]
        return np.tensordot(weights / weights.sum(), np.stack(made), axes=1)

    def to_batch(self, X: np.ndarray, source: str, target: str) -> np.ndarray:
        """Rows of one batch as they would be in another: location and scale of both, no covariates."""
        i, j = self.batches_.index(source), self.batches_.index(target)
        scale = np.where(self.adjusted_, self.scale_, 1.0)
        standard = ((X - self.mean_) / scale - self.shift_[i]) / np.sqrt(self.factor_[i])
        made = (standard * np.sqrt(self.factor_[j]) + self.shift_[j]) * scale + self.mean_
        return np.where(self.adjusted_, made, X)

    def fit_transform(self, X: np.ndarray, y: Any = None, **kwargs: Any) -> np.ndarray:
        rest = {key: value for key, value in kwargs.items() if key != "phantom"}
        return self.fit(X, y, **kwargs).transform(X, **rest)

    def parameters(self) -> dict[str, Any]:
        """Everything that `transform` needs, as JSON."""
        return {
            "settings": self.get_params(),
            "batches": self.batches_,
            "counts": self.counts_,
            "mean": _listed(self.mean_),
            "scale": _listed(self.scale_),
            "slopes": _listed(self.slopes_),
            "shift": _listed(self.shift_),
            "factor": _listed(self.factor_),
            "adjusted": self.adjusted_.tolist(),
            "phantom": None if self.phantom_ is None else self.phantom_.parameters(),
        }

    @staticmethod
    def from_parameters(record: dict[str, Any]) -> ComBat:
        """A fitted transformer from what `parameters` gave."""
        made = ComBat(**record["settings"])
        made.batches_, made.counts_ = record["batches"], record["counts"]
        made.phantom_ = None if record["phantom"] is None else ComBat.from_parameters(record["phantom"])
        made.mean_, made.scale_ = _array(record["mean"]), _array(record["scale"])
        made.n_features_in_ = len(made.mean_)
        made.slopes_ = _array(record["slopes"]).reshape(-1, made.n_features_in_)
        made.n_covariates_ = len(made.slopes_)
        made.shift_, made.factor_ = _array(record["shift"]), _array(record["factor"])
        made.adjusted_ = np.array(record["adjusted"], dtype=bool)
        return made

    def _standardise(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        return (X - self.mean_ - Z @ self.slopes_) / np.where(self.adjusted_, self.scale_, 1.0)


def _least_squares(design: np.ndarray, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Coefficients (columns of design, features), features with the same missing rows together."""
    result = np.zeros((design.shape[1], X.shape[1]))
    if X.shape[1] == 0:
        return result
    patterns, which = np.unique(seen.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        columns = np.flatnonzero(which.ravel() == number)
        if pattern.any():
            result[:, columns] = np.linalg.lstsq(design[pattern], X[np.ix_(pattern, columns)], rcond=None)[0]
    return result


def _batch_effect(
    S: np.ndarray, *, parametric: bool, mean_only: bool, as_neurocombat: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Additive and multiplicative effect (features) of one batch from its standardised rows (n, features)."""
    n = np.isfinite(S).sum(0)
    g_hat = _nanmean(S)
    d_hat = np.ones_like(g_hat) if mean_only else np.nansum((S - g_hat) ** 2, 0) / (n - 1)
    if len(g_hat) < 2 or (not mean_only and np.var(d_hat, ddof=1) == 0) or np.var(g_hat, ddof=1) == 0:
        return g_hat, np.where(d_hat > 0, d_hat, 1.0)  # nothing to share between features
    if not parametric:
        return _nonparametric(S, g_hat, d_hat, n, mean_only)
    g_bar, t2 = g_hat.mean(), g_hat.var(ddof=1)
    if mean_only:
        return (t2 * n * g_hat + g_bar) / (t2 * n + 1), d_hat
    m, s2 = d_hat.mean(), d_hat.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    g, d = g_hat, d_hat
    for _ in range(ITERATIONS):
        g_new = (t2 * n * g_hat + d * g_bar) / (t2 * n + d)
        d_new = (0.5 * np.nansum((S - g_new) ** 2, 0) + b) / (n / 2 + a - 1)
        if as_neurocombat:  # its rule divides by the value itself, so a negative one counts as no change
            with np.errstate(divide="ignore", invalid="ignore"):
                change, enough = max((np.abs(g_new - g) / g).max(), (np.abs(d_new - d) / d).max()), 1e-4
        else:
            change = max((np.abs(g_new - g) / (np.abs(g) + 1e-3)).max(), (np.abs(d_new - d) / d_new).max())
            enough = TOLERANCE
        g, d = g_new, d_new
        if change <= enough:
            break
    return g, d


def _nonparametric(
    S: np.ndarray, g_hat: np.ndarray, d_hat: np.ndarray, n: np.ndarray, mean_only: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means with the other features' estimates as prior (Johnson et al. 2007, supplement)."""
    first, second = np.nansum(S, 0), np.nansum(S**2, 0)
    g_star, d_star = np.empty_like(g_hat), np.empty_like(d_hat)
    for i in range(len(g_hat)):
        others = np.arange(len(g_hat)) != i
        g, d = g_hat[others], np.where(d_hat[others] > 0, d_hat[others], np.nan)
        squares = second[i] - 2 * g * first[i] + n[i] * g**2
        logs = -0.5 * n[i] * np.log(2 * np.pi * d) - squares / (2 * d)
        weights = np.nan_to_num(np.exp(logs - np.nanmax(logs)))
        g_star[i] = (weights * g).sum() / weights.sum()
        d_star[i] = 1.0 if mean_only else (weights * np.nan_to_num(d)).sum() / weights.sum()
    return g_star, d_star


def _nanmean(values: np.ndarray) -> np.ndarray:
    n = np.isfinite(values).sum(0)
    return np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan)


def _listed(array: np.ndarray) -> list[Any]:
    return [None if v != v else v for v in array.tolist()] if array.ndim == 1 else [_listed(r) for r in array]


def _array(listed: list[Any]) -> np.ndarray:
    return np.array(listed, dtype=float)
