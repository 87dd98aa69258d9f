"""What a sample can carry: events per variable and the criteria of Riley et al. for survival models.

Riley et al. 2019, Stat Med 38:1276; Riley et al. 2020, BMJ 368:m441 (R's pmsampsize computes the same).
"""

from __future__ import annotations

import math
from typing import NamedTuple

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05


class Riley(NamedTuple):
    """Patients that each criterion asks for, and the variables that the patients at hand can carry by the first two.

    `shrinkage`: a global shrinkage of 0.9; `optimism`: apparent less adjusted R squared at most 0.05; `risk`: overall
    risk at the time known to 0.05.
    """

    shrinkage: int
    optimism: int
    risk: int
    carries: int

    @property
    def needed(self) -> int:
        return max(self.shrinkage, self.optimism, self.risk)


def largest_r2(rate: float, mean_follow_up: float) -> float:
    """Largest Cox-Snell R squared that a survival model can reach at this rate of events (Riley 2019, eq. 23)."""
    share = rate * mean_follow_up  # events per patient
    if share <= 0:
        return 0.0
    return 1 - math.exp(2 * (share * math.log(share) - share))


def riley(
    parameters: int,
    *,
    patients: int,
    rate: float,
    mean_follow_up: float,
    at: float,
    r2: float,
    top: float | None = None,
) -> Riley:
    """Criteria for `parameters` candidate variables.

    `rate` is events per unit of time, `mean_follow_up` and the time `at` of interest in that unit, `r2` the expected
    Cox-Snell R squared, `top` the largest possible (default: from the rate).
    """
    top = largest_r2(rate, mean_follow_up) if top is None else top
    small = r2 / (r2 + OPTIMISM * top)
    per = [_per_parameter(SHRINKAGE, r2), _per_parameter(small, r2)]
    carries = int(min(patients / value for value in per))
    risk = 1 - math.exp(-rate * at)

    def width(n: int) -> float:
        half = 1.959963984540054 * math.sqrt(rate / (n * mean_follow_up))
        return max(1 - math.exp(-(rate + half) * at) - risk, risk - (1 - math.exp(-(rate - half) * at)))

    low, high = 1, 1
    while width(high) > MARGIN:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if width(middle) > MARGIN else (low, middle)
    return Riley(math.ceil(parameters * per[0]), math.ceil(parameters * per[1]), high, carries)


def _per_parameter(shrinkage: float, r2: float) -> float:
    """Patients per variable for a given shrinkage (Riley 2019, eq. 11)."""
    return 1 / ((shrinkage - 1) * math.log(1 - r2 / shrinkage))
