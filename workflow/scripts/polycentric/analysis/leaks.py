"""Traces of leaks in a feature table that was made elsewhere, and in a threshold: what no ledger can tell.

Chains of the analyses scale, impute, select and harmonise on training rows only, and ledgers say whom a model has seen.
A table from another tool has no ledger. But what was fitted on all patients leaves traces: means that are exactly 0,
centres that agree too well, gaps filled with the value of all patients, rows that two patients share, columns that are
the outcome. Every check compares all patients with the training patients alone, so that what was rightly fitted on
training is not suspected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .. import univariate
from ..errors import UserError
from ..randomness import generator
from . import roc

NEAR, PERFECT = 1e-3, 0.99
FEWEST, SEVERAL = 10, 3
SHUFFLES, MOST = 1000, 100  # shufflings of the centres, columns that are looked at
CLEARLY = 1.5  # by how much the z over all patients must lie below that over training


class Finding(NamedTuple):
    """A trace: a code, words for the report, and whether the analysis must not go on."""

    code: str
    text: str
    refuse: bool = False


def find(
    features: pd.DataFrame,
    part: pd.Series,
    *,
    outcome: pd.Series | None = None,
    centre: pd.Series | None = None,
    name: str = "",
) -> list[Finding]:
    """All traces in a table of predictors (index patient; numbers, or text as object).

    Parameters
    ----------
    part, outcome, centre
        by patient: training, validation, test or external; 1.0, 0.0 or NaN; the centre.
    name
        what the findings call the table.
    """
    part = part.reindex(features.index)
    training = part.eq("training").to_numpy(dtype=bool)
    held_out = part.notna().to_numpy(dtype=bool) & ~training
    numbers = features.select_dtypes("number").to_numpy(dtype=float)
    columns = list(features.select_dtypes("number").columns)
    what = f"table {name!r}" if name else "the table"
    found = [*_same_rows(numbers, features.index, part, what)]
    if min(training.sum(), held_out.sum()) >= FEWEST:
        external = part.eq("external").to_numpy(dtype=bool)
        found += _scaled(numbers, training, held_out, external, what)
        found += _imputed(numbers, columns, training, held_out, external, what)
        if centre is not None:
            at = centre.reindex(features.index).astype(str).to_numpy()
            found += _harmonised(numbers, at, training, held_out, external, what)
    if outcome is not None:
        found += _proxies(features, outcome.reindex(features.index).to_numpy(dtype=float), what)
    return found


def check(findings: Sequence[Finding], where: str) -> list[str]:
    """The findings in words, for the warnings of an analysis.

    Raises
    ------
    UserError
        if one of them must not be overlooked.
    """
    if fatal := [f"{where}: {f.code}: {f.text}" for f in findings if f.refuse]:
        raise UserError(*fatal)
    return [f"{f.code}: {f.text}" for f in findings]


def refuse_outcome_columns(predictors: Sequence[str], outcome: Any, where: str) -> None:
    """Raise UserError if a column of the outcome is among the predictors."""
    own = {getattr(outcome, field, None) for field in ("column", "time", "event", "competing")} - {None}
    if both := sorted(own & set(predictors)):
        raise UserError(
            f"{where}: {', '.join(map(repr, both))} is the outcome and cannot predict it: remove it from the "
            "predictors (clinical), and with it every column that is known only afterwards."
        )


def threshold(
    value: float, outcome: np.ndarray, score: np.ndarray, training: np.ndarray, *, name: str = "the threshold"
) -> list[Finding]:
    """Is a threshold that came from elsewhere the best one of the held-out patients, and not of training?

    A threshold lies between two neighbouring scores; one from elsewhere hits the best gap by chance, too, the more
    often the fewer patients are held out. `outcome` (n,) bool, `score` (n,), `training` (n,) bool, where nobody need
    be of training.
    """
    outcome, training = np.asarray(outcome, dtype=bool), np.asarray(training, dtype=bool)
    if not _best(value, outcome[~training], score[~training]) or _best(value, outcome[training], score[training]):
        return []
    return [
        Finding(
            "LEAK_THRESHOLD",
            f"{name} ({value:.4g}) is the best one of the {int((~training).sum())} held-out patients (largest "
            f"sensitivity + specificity){' and not of training' if training.any() else ''}: if it was chosen on them, "
            "sensitivity and specificity there are too good. Take the threshold from training, or from patients who "
            "are not evaluated.",
        )
    ]


def _best(value: float, outcome: np.ndarray, score: np.ndarray) -> bool:
    """Does the threshold classify as one of the largest sensitivity + specificity does?"""
    if math.isnan(roc.youden(outcome, score)):
        return False

    def total(at: float) -> float:
        positive = score >= at
        return float(positive[outcome].mean() + (~positive[~outcome]).mean())

    values = np.unique(score)
    return total(value) >= max(total((a + b) / 2) for a, b in pairwise(values)) - 1e-12


def _same_rows(x: np.ndarray, patients: pd.Index, part: pd.Series, what: str) -> list[Finding]:
    """Rows of measured numbers that two patients share: one scan under two names."""
    usable = np.isfinite(x).sum(axis=1) >= SEVERAL
    distinct = np.array([len(np.unique(c[np.isfinite(c)])) for c in x.T])
    measured = x[:, distinct > max(2, 0.5 * len(x))]  # continuous columns alone
    if measured.shape[1] < SEVERAL or not usable.any():
        return []
    rows = pd.DataFrame(measured[usable], index=patients[usable])
    same = rows[rows.duplicated(keep=False)].fillna(np.inf)
    if same.empty:
        return []
    pairs = [list(group.index) for _, group in same.groupby(list(same.columns), sort=True)]
    across = sum(part.loc[names].nunique() > 1 for names in pairs)
    first = sorted(pairs)[0]
    return [
        Finding(
            "LEAK_SAME_ROWS",
            f"{what} has {len(pairs)} groups of patients with identical values ({', '.join(map(str, first[:3]))}): one "
            f"scan under several patients; {across} of them lie in several parts of the split. Find out who is who and "
            "leave the copies out.",
            across > 0,
        )
    ]


def _groups(training: np.ndarray, held_out: np.ndarray, external: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Sets of patients on whom something may wrongly have been fitted; each holds patients who are evaluated."""
    split = training | held_out
    groups = [("all its patients", np.ones(len(training), dtype=bool)), ("all patients of the split", split)]
    if external.any() and (held_out & ~external).any():
        groups.append(("all patients but the external ones", split & ~external))
    return groups


def _scaled(
    x: np.ndarray, training: np.ndarray, held_out: np.ndarray, external: np.ndarray, what: str
) -> list[Finding]:
    """Columns whose mean and SD, or whose range, are exact over more than training."""

    def exact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part = x[rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.nanstd(part, axis=0)
            unit = (np.abs(spread - 1) < NEAR) | (np.abs(np.nanstd(part, axis=0, ddof=1) - 1) < NEAR)
            low, high = np.nanmin(part, axis=0), np.nanmax(part, axis=0)
            standard = (np.abs(np.nanmean(part, axis=0)) < NEAR) & unit
        ranged = (np.abs(low) < 1e-9) & (np.abs(high - 1) < 1e-9)
        return standard, ranged

    varies = np.isfinite(x).sum(axis=0) >= FEWEST
    x = x[:, varies]
    x = x[:, [len(np.unique(c[np.isfinite(c)])) > 2 for c in x.T]]  # indicators have a range of 0 to 1 by nature
    if x.shape[1] < SEVERAL:
        return []
    own = exact(training)
    for who, rows in _groups(training, held_out, external):
        for here, alone, how in zip(exact(rows), own, ("mean 0 and SD 1", "range 0 to 1"), strict=True):
            # scaled on training, every column is exact there
            count = int(here.sum())
            if count >= 0.5 * x.shape[1] and (here & ~alone).sum() >= SEVERAL:
                return [
                    Finding(
                        "LEAK_SCALED",
                        f"{what}: {count} of {x.shape[1]} columns have {how} over {who}, not all of them over "
                        "training: they were scaled with the patients who are evaluated. Import the raw values; "
                        "chains scale on training.",
                    )
                ]
    return []


def _harmonised(
    x: np.ndarray, centre: np.ndarray, training: np.ndarray, held_out: np.ndarray, external: np.ndarray, what: str
) -> list[Finding]:
    """Centres that agree in their means better than any shuffling of them, over more patients than training.

    Shuffled centres keep the correlations of the columns. Empirical Bayes leaves a rest of each shift: the trace is
    faint where centres hardly differed, and there harmonisation has little to leak, too.
    """
    x = x[:, np.isfinite(x).all(axis=0)]
    x = x[:, [len(np.unique(c)) > 0.5 * len(c) for c in x.T]][:, :MOST]
    if x.shape[1] < SEVERAL:
        return []
    own = _agreement(x, centre, training)
    for who, rows in _groups(training, held_out, external):
        value = _agreement(x, centre, rows)
        if value is None or value.below or (own is not None and value.z > own.z - CLEARLY):
            continue
        return [
            Finding(
                "LEAK_HARMONISED",
                f"{what}: the means of the centres over {who} lie closer together than after any of {SHUFFLES} "
                "shufflings of the centres, closer than over training alone: it was harmonised, as by ComBat, with the "
                "patients who are evaluated. Import the raw values and declare a harmonised set.",
            )
        ]
    return []


class _Agreement(NamedTuple):
    """How many shufflings of the centres leave their means as close as they are, and a z of the logarithm."""

    below: int
    z: float


def _agreement(x: np.ndarray, centre: np.ndarray, rows: np.ndarray) -> _Agreement | None:
    names, sizes = np.unique(centre[rows], return_counts=True)
    names = names[sizes >= 5]
    kept = rows & np.isin(centre, names)
    if len(names) < 2:
        return None
    part = x[kept] - x[kept].mean(axis=0)
    spread = part.std(axis=0)
    part = part[:, spread > 0] / spread[spread > 0]
    one_hot = (centre[kept][:, None] == names).astype(float)
    share = one_hot / np.sqrt(one_hot.sum(axis=0))
    stream = generator(0, "analyse", "leaks", "centres")

    def distance(rows: np.ndarray) -> float:
        return float(np.log(np.maximum(((share[rows].T @ part) ** 2).sum(axis=0), 1e-300)).mean())

    observed = distance(np.arange(len(part)))
    shuffled = np.array([distance(stream.permutation(len(part))) for _ in range(SHUFFLES)])
    return _Agreement(int((shuffled <= observed).sum()), float((observed - shuffled.mean()) / shuffled.std()))


def _imputed(
    x: np.ndarray, columns: list[str], training: np.ndarray, held_out: np.ndarray, external: np.ndarray, what: str
) -> list[Finding]:
    """A value that repeats in a measured column and is the mean or median of the others over more than training."""
    found = []
    for name, values in zip(columns, x.T, strict=True):
        known = values[np.isfinite(values)]
        levels, counts = np.unique(known, return_counts=True)
        if len(levels) < FEWEST or counts.max(initial=0) < SEVERAL or (counts > 1).mean() > 0.2:
            continue
        filler = levels[counts.argmax()]
        filled = values == filler
        if not (filled & held_out).any() and not (filled & training).any():
            continue

        def centres(rows: np.ndarray, values: np.ndarray = values, filled: np.ndarray = filled) -> np.ndarray:
            rest = values[rows & ~filled & np.isfinite(values)]
            return np.array([rest.mean(), np.median(rest)]) if len(rest) >= FEWEST else np.full(2, np.nan)

        close = 1e-9 * max(1.0, float(np.abs(known).max()))
        if (np.abs(centres(training) - filler) <= close).any():
            continue
        if any((np.abs(centres(rows) - filler) <= close).any() for _, rows in _groups(training, held_out, external)):
            found.append(name)
    if not found:
        return []
    return [
        Finding(
            "LEAK_IMPUTED",
            f"{what}: missing values of {len(found)} columns (such as {found[0]!r}) were filled with the mean or "
            "median of all patients, those who are evaluated among them. Import the table with its gaps; chains fill "
            "them from training.",
        )
    ]


def _proxies(features: pd.DataFrame, outcome: np.ndarray, what: str) -> list[Finding]:
    """Columns that are the outcome, or tell it nearly without error."""
    known = np.isfinite(outcome)
    y = outcome[known] > 0
    if min(y.sum(), (~y).sum()) < FEWEST:
        return []
    rows = features[known]
    copies, proxies = [], []
    numbers = rows.select_dtypes("number")
    if numbers.shape[1]:
        auc = univariate.roc(numbers.to_numpy(dtype=float), y).auc
        for name, value in zip(numbers.columns, np.maximum(auc, 1 - auc), strict=True):
            two = numbers[name].dropna().nunique() == 2
            if value >= 1 and two:
                copies.append(str(name))
            elif value >= PERFECT:
                proxies.append(str(name))
    for name in rows.columns.difference(numbers.columns, sort=False):
        values = rows[name].astype("object")
        shares = pd.Series(y, index=rows.index).groupby(values, dropna=True).mean()
        if 2 <= len(shares) <= 0.2 * len(y) and shares.isin([0.0, 1.0]).all():
            (copies if len(shares) == 2 else proxies).append(str(name))
    result = []
    if copies:
        result.append(
            Finding(
                "LEAK_OUTCOME",
                f"{what}: {', '.join(map(repr, copies))} has two values that are those of the outcome in every "
                "patient: it is the outcome under another name; remove it.",
                True,
            )
        )
    if proxies:
        result.append(
            Finding(
                "LEAK_PROXY",
                f"{what}: {', '.join(map(repr, proxies))} alone tells the outcome nearly without error (AUC of "
                f"{PERFECT:g} or above). If it is known only after the outcome, such as a treatment, a date or a "
                "diagnosis, remove it.",
            )
        )
    return result
