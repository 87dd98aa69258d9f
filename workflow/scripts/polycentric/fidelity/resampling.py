"""Equal numbers on both sides: halves of the target's patients, and as many of another set; resamples within them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
DIVISIONS = 4
DEFINED_SHARE = 0.9


@dataclass(frozen=True)
class Draws:
    """Draws of patients, a row each, as weights (draws, patients of the set).

    `images` of the set that is judged, `reference` and `other` of two disjoint halves of the real target images.
    `divisions` rows in a row belong together and are averaged.
    """

    images: np.ndarray
    reference: np.ndarray
    other: np.ndarray
    divisions: int = 1

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, end: int) -> Draws:
        return Draws(self.images[start:end], self.reference[start:end], self.other[start:end], self.divisions)

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Values (draws, ...) averaged over the divisions that belong together."""
        return values.reshape(-1, self.divisions, *values.shape[1:]).mean(axis=1)


def size_of(images: int, target: int) -> int:
    """Patients on each side: half of the target's, and no more than there are images."""
    return min(images, target // 2)


def halves(images: int, target: int, rng: np.random.Generator, count: int) -> Draws:
    """`count` random divisions of the target's patients into two halves of `size_of`, and as many of the images'."""
    size = size_of(images, target)
    weights = [np.zeros((count, n)) for n in (images, target, target)]
    for number in range(count):
        order = rng.permutation(target)
        for side, total in zip(
            (rng.permutation(images)[:size], order[:size], order[size : 2 * size]), weights, strict=True
        ):
            total[number, side] = 1.0
    return Draws(*weights)


def resamples(images: int, target: int, rng: np.random.Generator, count: int) -> Draws:
    """`count` bootstrap samples of the patients of both sets, each divided `DIVISIONS` times.

    The target's patients are drawn with replacement first; then all copies of a patient go to the same half. One
    patient on both sides would make real images look too much alike. Averaging over divisions keeps the interval that
    of the estimate, which averages over many, too.
    """
    size = size_of(images, target)
    weights = [np.zeros((count * DIVISIONS, n)) for n in (images, target, target)]
    for sample in range(count):
        own = _drawn(images, rng)
        real = np.bincount(_drawn(target, rng), minlength=target)
        there = np.flatnonzero(real)
        for number in range(sample * DIVISIONS, (sample + 1) * DIVISIONS):
            np.add.at(weights[0][number], rng.permutation(own)[:size], 1.0)
            order = rng.permutation(there)
            middle = len(order) // 2
            for total, side in zip(weights[1:], (order[:middle], order[middle:]), strict=True):
                total[number, side] = real[side]
    return Draws(*weights, divisions=DIVISIONS)


def _drawn(number: int, rng: np.random.Generator) -> np.ndarray:
    """Patients drawn with replacement, two different ones at least."""
    while True:
        found = rng.integers(number, size=number)
        if number < 2 or (found != found[0]).any():
            return found


def centred(value: float, draws: np.ndarray, *, relative: bool) -> tuple[float, float]:
    """Percentile interval of bootstrap draws, moved so that their median is the estimate.

    Distances of resamples are larger than those of samples, since patients that are drawn twice say nothing new; their
    spread is right, their place is not. `relative` moves by a factor, for ratios, else by a difference. NaN where more
    than a tenth of the draws is undefined.
    """
    defined = np.isfinite(draws)
    if not np.isfinite(value) or not len(draws) or defined.mean() < DEFINED_SHARE:
        return np.nan, np.nan
    draws = draws[defined]
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
