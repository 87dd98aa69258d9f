"""What a sample can carry: events per variable and the criteria of Riley et al. for prediction models.

Binary and time-to-event: Riley et al. 2019, Stat Med 38:1276; continuous: Riley et al. 2019, Stat Med 38:1262; in
short: Riley et al. 2020, BMJ 368:m441. The numbers are those of R's pmsampsize 1.1.3 (docs/statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05
EVENTS_PER_VARIABLE = 10
WIDE = 1.959963984540054


class Riley(NamedTuple):
    """Patients that each criterion asks for, and the variables that the patients at hand can carry by the first two.

    `shrinkage`: a global shrinkage of 0.9; `optimism`: apparent less adjusted R squared at most 0.05; `risk`: overall
    risk (or the risk at a time) known to 0.05.
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


def largest_r2_binary(prevalence: float) -> float:
    """Largest Cox-Snell R squared of a binary outcome (Riley 2019, eq. 23)."""
    if not 0 < prevalence < 1:
        return 0.0
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return 1 - math.exp(2 * null)


def r2_of_auc(auc: float, prevalence: float) -> float:
    """Cox-Snell R squared of a calibrated model with this AUC (Riley et al. 2021, Stat Med 40:4230).

    The scores of both classes are normal with one spread; a logistic model of them is fitted by quadrature, where
    pmsampsize draws a million patients (its R squared of one draw differs in the third digit).
    """
    distance = math.sqrt(2) * float(special.ndtri(auc))
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    score = np.r_[nodes, nodes + distance]
    weight = np.r_[(1 - prevalence) * weights, prevalence * weights]
    # with equal spreads the logistic model is exact: slope distance, constant by Bayes
    eta = distance * score - distance**2 / 2 + math.log(prevalence / (1 - prevalence))
    sick = np.r_[np.zeros(len(nodes)), np.ones(len(nodes))]
    loglik = float(weight @ (sick * eta - np.logaddexp(0, eta)))
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return 1 - math.exp(2 * (null - loglik))


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
    """Criteria for a survival model with `parameters` candidate variables.

    `rate` is events per unit of time, `mean_follow_up` and the time `at` of interest in that unit, `r2` the expected
    Cox-Snell R squared, `top` the largest possible (default: from the rate).
    """
    top = largest_r2(rate, mean_follow_up) if top is None else top
    risk = 1 - math.exp(-rate * at)

    def width(n: int) -> float:
        half = WIDE * math.sqrt(rate / (n * mean_follow_up))
        return max(1 - math.exp(-(rate + half) * at) - risk, risk - (1 - math.exp(-(rate - half) * at)))

    shrinkage, optimism, carries = _by_r2(parameters, patients, r2, top)
    return Riley(shrinkage, optimism, _smallest(lambda n: width(n) <= MARGIN), carries)


def riley_binary(parameters: int, *, patients: int, prevalence: float, r2: float) -> Riley:
    """Criteria for a model of a binary outcome; `r2` is the expected Cox-Snell R squared.

    For a multi-class outcome take each class against each other one (Pate et al. 2023, Stat Methods Med Res 32:555).
    """
    shrinkage, optimism, carries = _by_r2(parameters, patients, r2, largest_r2_binary(prevalence))
    # as published: 1.96, rounded
    return Riley(shrinkage, optimism, math.ceil((1.96 / MARGIN) ** 2 * prevalence * (1 - prevalence)), carries)


class RileyContinuous(NamedTuple):
    """Patients that each criterion asks for a continuous outcome.

    `shrinkage`: a global shrinkage of 0.9; `optimism`: apparent less adjusted R squared at most 0.05; `spread`: the
    residual SD known to 10 %; `mean`: the mean outcome known to 10 %.
    """

    shrinkage: int
    optimism: int
    spread: int
    mean: int

    @property
    def needed(self) -> int:
        return max(self)


def riley_continuous(parameters: int, *, r2: float, mean: float, sd: float) -> RileyContinuous:
    """Criteria for a continuous outcome with this mean and SD; `r2` is the expected adjusted R squared.

    A mean of 0 has no relative precision: then that criterion is left out (0).
    """

    def shrunk(n: int) -> bool:
        apparent = (r2 * (n - parameters - 1) + parameters) / (n - 1)
        return 1 + (parameters - 2) / (n * math.log(1 - apparent)) >= SHRINKAGE

    def precise(n: int) -> bool:
        half = math.sqrt(sd**2 * (1 - r2) / n) * float(special.stdtrit(n - parameters - 1, 0.975))
        return half <= 0.1 * abs(mean)

    low = parameters + 2
    first, second, third = _smallest(shrunk, low), math.ceil(1 + parameters * (1 - r2) / OPTIMISM), 234 + parameters
    fourth = _smallest(precise, max(first, second, third)) if mean else 0
    return RileyContinuous(first, second, third, fourth)


def _by_r2(parameters: int, patients: int, r2: float, top: float) -> tuple[int, int, int]:
    small = r2 / (r2 + OPTIMISM * top)
    per = [_per_parameter(SHRINKAGE, r2), _per_parameter(small, r2)]
    carries = int(min(patients / value for value in per))
    return math.ceil(parameters * per[0]), math.ceil(parameters * per[1]), carries


def _per_parameter(shrinkage: float, r2: float) -> float:
    """Patients per variable for a given shrinkage (Riley 2019, eq. 11)."""
    return 1 / ((shrinkage - 1) * math.log(1 - r2 / shrinkage))


def _smallest(enough: Callable[[int], bool], low: int = 1) -> int:
    """The smallest number from `low` on that is enough, for a property that stays once reached."""
    if enough(low):
        return low
    high = 2 * low
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def warnings(what: str, *, events: int, patients: int, candidates: int, needed: int, carries: int) -> list[str]:
    """What the sample cannot carry, in plain words; empty where it can.

    `what` names the model; `events` counts the patients of the smaller class (binary) or with the event (survival);
    `candidates` every variable that was offered to it, whether or not selection kept it.
    """
    said = []
    if candidates and events < EVENTS_PER_VARIABLE * candidates:
        said.append(
            f"{what}: {events} patients with the rarer outcome for {candidates} candidate variables, "
            f"{events / candidates:.2g} each; below {EVENTS_PER_VARIABLE} each, coefficients and choices of variables "
            "change with every new sample. Offer fewer variables, chosen beforehand, or read the result as exploratory."
        )
    if patients < needed:
        said.append(
            f"{what}: {patients} patients, {needed} would be needed to develop a model of {candidates} candidate "
            f"variables (criteria of Riley et al.); {patients} can carry {carries}. Its performance in other patients "
            "will be lower than it seems, more so than any correction can show."
        )
    return said
