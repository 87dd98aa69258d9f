"""Whether what was found in simulated cohorts is what a method promises."""

from __future__ import annotations

import math
from collections.abc import Mapping

LEVEL = 0.95
SLACK = 0.02
FULL = 2000  # cohorts of the whole check
Poor = Mapping[tuple[str, int], float]


def far(shares: Mapping[str, float], n: int, cohorts: int | Mapping[str, int], poor: Poor) -> list[str]:
    """What lies further from its nominal value than three Monte-Carlo standard errors beyond 2 percentage points.

    `shares` are coverages of 95 % intervals, or where the name begins with "level" rejections of a true hypothesis at
    5 %. What is known to be poor stands in `poor` by name and number of patients, and must have that value.
    """
    result = []
    for name, share in shares.items():
        nominal = 1 - LEVEL if name.startswith("level") else LEVEL
        value, slack = (poor[name, n], 0.0) if (name, n) in poor else (nominal, SLACK)
        size = cohorts if isinstance(cohorts, int) else cohorts[name]
        allowed = 3 * math.sqrt(value * (1 - value) / size) + slack
        if not abs(share - value) <= allowed:
            result.append(f"{name}, {n} patients: {share:.4f}, expected {value} +- {allowed:.4f}")
    return result
