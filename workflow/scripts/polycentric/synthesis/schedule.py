"""The learning rate as a function of the iteration alone, so that a resumed training takes the same steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.synthesis import Schedule


def share(schedule: Schedule, iteration: int, iterations: int) -> float:
    """Share of the learning rate in iteration `iteration` (from 0) of `iterations`.

    It is 1 up to `schedule.start`, then falls and would be 0 after the last iteration. In the first
    `schedule.warm_up` iterations it is multiplied by what rises to 1.
    """
    rising = min(1.0, (iteration + 1) / schedule.warm_up) if schedule.warm_up else 1.0
    return rising * _falling(schedule, iteration, iterations)


def _falling(schedule: Schedule, iteration: int, iterations: int) -> float:
    if schedule.kind == "constant":
        return 1.0
    start = iterations // 2 if schedule.start is None else schedule.start
    if iteration <= start:
        return 1.0
    gone = (iteration - start) / (iterations - start)
    return 1.0 - gone if schedule.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * gone))
