"""Normal scores: each feature by its rank among training rows, as a quantile of the normal distribution.

ComBat moves and stretches. The floor and the tail of a skewed feature then lie elsewhere in every batch, and a tree
that looks for them tells the batches apart more easily than before (glioma tables: AUC 0.84 before, 0.94 after, 0.27
with normal scores). Features that are normal have no such marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from scipy.stats import rankdata

KNOTS = 201  # at most this many points describe a feature; between them the map is linear


@dataclass(frozen=True)
class NormalScores:
    """A monotone map per feature: `knots` (values) to `scores`; constant beyond the training range."""

    knots: list[np.ndarray]
    scores: list[np.ndarray]

    @staticmethod
    def fit(x: np.ndarray) -> NormalScores:
        """From training rows (rows, features); missing values do not count. Blom's ranks: (r - 3/8) / (n + 1/4)."""
        knots, scores = [], []
        for column in x.T:
            values = column[np.isfinite(column)]
            unique, first = np.unique(values, return_index=True)
            ranks = rankdata(values)[first]
            if len(unique) > KNOTS:
                kept = np.unique(np.linspace(0, len(unique) - 1, KNOTS).round().astype(int))
                unique, ranks = unique[kept], ranks[kept]
            knots.append(unique)
            scores.append(special.ndtri((ranks - 0.375) / (len(values) + 0.25)))
        return NormalScores(knots, scores)

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scores of rows (rows, features); NaN stays NaN; a feature without training values becomes NaN."""
        result = np.full(x.shape, np.nan)
        for j, (knots, scores) in enumerate(zip(self.knots, self.scores, strict=True)):
            if len(knots):
                known = np.isfinite(x[:, j])
                result[known, j] = np.interp(x[known, j], knots, scores)
        return result

    def parameters(self) -> dict[str, Any]:
        return {"knots": [k.tolist() for k in self.knots], "scores": [s.tolist() for s in self.scores]}
