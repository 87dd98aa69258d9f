"""Harmonisation by phantom scans: which features agree between batches, without and with ComBat, and its parameters.

The workflow is that of Ibrahim et al., Cancers 13 (2021) 1848: features that agree between the settings of the cohort
stay as they are; those that agree in test-retest only are harmonised by location and scale of the phantom scans; what
agrees afterwards stays, the rest goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..concordance import concordance
from ..errors import UserError
from .combat import ComBat

FATES = ("concordant", "harmonised", "not concordant", "not repeatable", "not estimable")


@dataclass(frozen=True)
class Judged:
    """ComBat of the phantom scans, and what became of every feature.

    `combat` adjusts features of fate `harmonised` only, `link` all that could be judged and do not agree by themselves.

    `features` has a row per feature: CCC in test-retest (lowest over batches; NaN without repeats), between batches
    before, after (each subject harmonised by the others), after in sample, and its fate.
    """

    combat: ComBat
    link: ComBat
    features: pd.DataFrame
    subjects: int
    retests: int


def judge(
    values: np.ndarray,
    subjects: np.ndarray,
    batch: np.ndarray,
    names: list[str],
    *,
    limit: float,
    settings: dict[str, object],
    where: str,
) -> Judged:
    """Judge features by phantom scans: values (rows, features), what was scanned (rows), its batch (rows).

    Several rows of a subject in a batch are repeats, in their order: the first counts between batches, the first two
    in test-retest. A subject that lacks a batch does not count for the concordance, but for ComBat. `settings` go to
    ComBat.

    Raises
    ------
    UserError
        if fewer than two batches, or fewer than three subjects in all batches, were scanned.
    """
    batches = sorted({str(b) for b in batch})
    frame = pd.DataFrame({"subject": subjects, "batch": batch.astype(str), "row": np.arange(len(batch))})
    frame["repeat"] = frame.groupby(["subject", "batch"], sort=False).cumcount()
    first = frame[frame["repeat"].eq(0)].pivot(index="subject", columns="batch", values="row").sort_index()
    complete = first.dropna()
    if len(batches) < 2 or len(complete) < 3:
        raise UserError(
            f"{where}: phantom: {len(complete)} subjects (phantom and region) were scanned in all {len(batches)} "
            f"batches ({', '.join(batches)}); at least 3 subjects and 2 batches are needed. Choose another `batch` or "
            f"`where`."
        )
    rows = complete[batches].to_numpy().astype(int)
    before = concordance(values[rows]).ccc.value
    retest, pairs = _retest(values, frame)
    candidates = ~(before > limit) & (np.isnan(retest) | (retest > limit)) & np.isfinite(before)
    combat = _fit(values, batch, candidates, settings)
    harmonised = combat.transform(values, batch=batch)
    after = concordance(harmonised[rows]).ccc.value
    # a fit on the very scans that it is judged by flatters it: every subject is harmonised by the others' scans
    left_out = np.array(harmonised)
    for subject in complete.index:
        own = frame["subject"].eq(subject).to_numpy()
        others = _fit(values[~own], batch[~own], candidates, settings)
        left_out[own] = others.transform(values[own], batch=batch[own])
    judged = concordance(left_out[rows]).ccc.value
    fate = np.select(
        [before > limit, np.isnan(before), retest <= limit, judged > limit],
        ["concordant", "not estimable", "not repeatable", "harmonised"],
        "not concordant",
    )
    table = pd.DataFrame(
        {
            "feature": names,
            "ccc_retest": retest,
            "ccc_before": before,
            "ccc_after": judged,
            "ccc_after_in_sample": after,
            "fate": fate,
        }
    )
    table.loc[table["fate"].eq("concordant"), ["ccc_after", "ccc_after_in_sample"]] = np.nan
    combat.adjusted_ = combat.adjusted_ & (fate == "harmonised")
    link = _fit(values, batch, np.isfinite(before) & (fate != "concordant"), settings)
    return Judged(combat, link, table, len(complete), pairs)


def _retest(values: np.ndarray, frame: pd.DataFrame) -> tuple[np.ndarray, int]:
    """Lowest CCC of first and second repeat over batches with three pairs or more, and the number of pairs."""
    lowest, count = np.full(values.shape[1], np.nan), 0
    for _, part in frame.groupby("batch", sort=True):
        pairs = part[part["repeat"].lt(2)].pivot(index="subject", columns="repeat", values="row").dropna()
        if pairs.shape[1] < 2 or len(pairs) < 3:
            continue
        count += len(pairs)
        lowest = np.fmin(lowest, concordance(values[pairs.to_numpy().astype(int)]).ccc.value)
    return lowest, count


def _fit(values: np.ndarray, batch: np.ndarray, candidates: np.ndarray, settings: dict[str, object]) -> ComBat:
    """ComBat of some features; the others pass through it unchanged."""
    hidden = np.where(candidates, values, np.nan)  # features without values are left out of all estimates
    return ComBat(**settings).fit(hidden, batch=batch)  # type: ignore[arg-type]
