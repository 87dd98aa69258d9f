"""Equal numbers on both sides: halves of the target's patients, and as many of another set; resamples within them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Draws:
    """Draws of patients, a row each, as weights (draws, patients of the set).

    `images` of the set that is judged, `reference` and `other` of two disjoint halves of the real target images.
    """

    images: np.ndarray
    reference: np.ndarray
    other: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def size_of(images: int, target: int) -> int:
    """Patients on each side: half of the target's, and no more than there are images."""
    return min(images, target // 2)


def draw(images: int, target: int, rng: np.random.Generator, *, count: int, resampled: bool) -> Draws:
    """`count` random divisions of the target's patients into two halves of `size_of`, and as many of the images'.

    With `resampled`, patients are then drawn with replacement within each of the three: a bootstrap that never puts
    one patient on both sides of a comparison of real images, which would make them look too much alike.
    """
    size = size_of(images, target)
    weights = [np.zeros((count, n)) for n in (images, target, target)]
    for number in range(count):
        order = rng.permutation(target)
        sides = rng.permutation(images)[:size], order[:size], order[size : 2 * size]
        for side, total in zip(sides, weights, strict=True):
            chosen = side[rng.integers(size, size=size)] if resampled else side
            np.add.at(total[number], chosen, 1.0)
    return Draws(*weights)


def centred(value: float, draws: np.ndarray, *, relative: bool) -> tuple[float, float]:
    """Percentile interval of bootstrap draws, moved so that their median is the estimate.

    Distances of resamples are larger than those of samples, since patients that are drawn twice say nothing new; their
    spread is right, their place is not. `relative` moves by a factor, for ratios, else by a difference.
    """
    if not np.isfinite(value) or not len(draws) or not np.isfinite(draws).all():
        return np.nan, np.nan
    low, middle, high = np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    if relative:
        if value <= 0 or low <= 0:
            return np.nan, np.nan
        return float(value * low / middle), float(value * high / middle)
    return float(value + low - middle), float(value + high - middle)


def fact(value: float, interval: tuple[float, float], *, method: str, n: int, seed: int) -> dict[str, Any]:
    """An estimate as metrics.json has it; what is not finite becomes null."""
    numbers = [None if not np.isfinite(v) else float(v) for v in (value, *interval)]
    facts: dict[str, Any] = dict(zip(("value", "lower", "upper"), numbers, strict=True))
    return facts | {"level": LEVEL, "method": method, "n": n, "seed": seed}
