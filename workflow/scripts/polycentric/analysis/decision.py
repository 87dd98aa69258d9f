"""Decision curves: is it better to act by the model than to treat all or none?

Vickers and Elkin 2006, Med Decis Making 26:565; standardised after Kerr et al. 2016, J Clin Oncol 34:2534. Arrays:
`outcome` (n,) bool or 0/1, `probability` (n,), `thresholds` (t,) in (0, 1), `counts` (samples, n) of drawn patients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import bootstrap

COARSE, FINE = 0.01, 0.001


def grid(low: float, high: float) -> np.ndarray:
    """Thresholds from `low` to `high`, both included: every 0.01, every 0.001 where they lie less than 0.2 apart."""
    step = COARSE if high - low >= 0.2 else FINE
    between = np.round(np.arange(low, high, step), 9)
    return np.append(between[between < high - 0.4 * step], high)


class NetBenefit(NamedTuple):
    """Net benefit (samples, thresholds) of the model and of treating all, and the prevalence (samples,)."""

    model: np.ndarray
    everyone: np.ndarray
    prevalence: np.ndarray


def net_benefit(
    outcome: np.ndarray, probability: np.ndarray, thresholds: np.ndarray, counts: np.ndarray | None = None
) -> NetBenefit:
    """True positives per patient less false positives weighed by the odds of the threshold.

    Treated is who has a probability of at least the threshold; treating none has a net benefit of 0.

    Raises
    ------
    ValueError
        if a threshold is not between 0 and 1.
    """
    thresholds = np.asarray(thresholds, dtype=float)
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError("thresholds of a decision curve lie between 0 and 1, both excluded")
    y = np.asarray(outcome, dtype=float)
    counts = np.ones((1, len(y))) if counts is None else counts
    total = counts.sum(axis=1, keepdims=True)
    odds = thresholds / (1 - thresholds)
    treated = (probability[:, None] >= thresholds).astype(float)
    model = ((counts * y) @ treated - (counts * (1 - y)) @ treated * odds) / total
    prevalence = (counts @ y)[:, None] / total
    return NetBenefit(model, prevalence - (1 - prevalence) * odds, prevalence[:, 0])


COLUMNS = (
    "threshold", "strategy", "net_benefit", "lower", "upper", "standardised", "standardised_lower",
    "standardised_upper", "gain", "gain_lower", "gain_upper",
)  # fmt: skip


def curves(
    outcome: np.ndarray,
    probability: np.ndarray,
    thresholds: np.ndarray,
    rng: np.random.Generator,
    *,
    samples: int,
    level: float = 0.95,
) -> pd.DataFrame:
    """One row per threshold and strategy (model, all, none), with pointwise percentile bands (columns `COLUMNS`).

    Patients are drawn without regard to the outcome, since the prevalence counts. `standardised` is the net benefit
    over the prevalence: 1 is perfect. `gain` is the net benefit of the model less that of the better of all and none,
    with a paired band; it stands in the rows of the model.
    """
    thresholds = np.asarray(thresholds, dtype=float)
    counts = bootstrap.counts(np.zeros(len(outcome)), samples, rng)
    whole = net_benefit(outcome, probability, thresholds)
    drawn = net_benefit(outcome, probability, thresholds, counts)
    levels = [0.5 - level / 2, 0.5 + level / 2]

    def described(value: np.ndarray, sampled: np.ndarray) -> np.ndarray:
        lower, upper = np.nanquantile(sampled, levels, axis=0) if len(sampled) > 1 else np.full((2, len(value)), np.nan)
        return np.stack([value, lower, upper])

    share = np.where(drawn.prevalence > 0, drawn.prevalence, np.nan)[:, None]
    parts = []
    for strategy, value, sampled in (
        ("model", whole.model[0], drawn.model),
        ("all", whole.everyone[0], drawn.everyone),
        ("none", np.zeros(len(thresholds)), np.zeros((samples, len(thresholds)))),
    ):
        prevalence = whole.prevalence[0] if whole.prevalence[0] > 0 else np.nan
        numbers = [*described(value, sampled), *described(value / prevalence, sampled / share)]
        gain = np.full((3, len(thresholds)), np.nan)
        if strategy == "model":
            better, betters = (np.maximum(w.everyone, 0) for w in (whole, drawn))
            gain = described(value - better[0], sampled - betters)
        rows = np.stack([thresholds, *numbers, *gain])
        frame = pd.DataFrame(rows.T, columns=[c for c in COLUMNS if c != "strategy"])
        parts.append(frame.assign(strategy=strategy)[list(COLUMNS)])
    return pd.concat(parts, ignore_index=True)


def useful(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Ranges of thresholds in which the model surely beats treating all and none: the lower bound of `gain` is above 0.

    Read with care: the bands are pointwise.
    """
    model = rows[rows["strategy"].eq("model")].sort_values("threshold")
    return spans(model["threshold"].to_numpy(), (model["gain_lower"] > 0).to_numpy())


def spans(thresholds: np.ndarray, better: np.ndarray) -> list[tuple[float, float]]:
    """Ranges of thresholds (t,) in which `better` (t,) holds without a gap."""
    edges = np.flatnonzero(np.diff(np.r_[0, better.astype(int), 0]))
    return [(float(thresholds[a]), float(thresholds[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def in_words(spans: list[tuple[float, float]]) -> str:
    """Such as 0.10 to 0.25, 0.40; empty where there is none."""
    return ", ".join(f"{text(a)} to {text(b)}" if b > a else text(a) for a, b in spans)


def text(threshold: float) -> str:
    """Such as 0.40, or 0.052 on a fine grid."""
    found = f"{threshold:.4f}".rstrip("0")
    return found if len(found) > 4 else f"{threshold:.2f}"
