"""Validation beside the split: cross-validation, one centre left out, random splits. Models are fitted anew.

Nothing here changes the kept models. Patients of the external part never enter: they are for the kept models alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..config.classification import CrossValidation, LeaveCentreOut, RandomSplits
from ..estimates import Estimate, estimate, finite, percentiles
from ..jobs import Log
from ..randomness import generator
from . import classify_calibration, classify_evaluate, classify_groups, multiclass, roc
from .chain import folds
from .classify_evaluate import Key, Scored
from .classify_fit import predict
from .classify_study import Study
from .multiclass import Drawn


@dataclass
class Validation:
    """Metrics by kind, patients that the fits of a kind have seen, probabilities of each patient in each fold."""

    metrics: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    use: classify_calibration.Use = field(default_factory=classify_calibration.Use)


def run(study: Study, scored: dict[Key, Scored], drawn: dict[str, Drawn], log: Log) -> Validation:
    result = Validation()
    pool = ~study.part("external")
    for scheme in study.settings.validation:
        if len(np.unique(study.outcome[pool])) < 2:
            study.warn(f"validation: {scheme.kind} was left out: all patients who are not external have one outcome.")
            continue
        if study.chosen and not isinstance(scheme, LeaveCentreOut):
            study.warn(
                f"validation: {scheme.kind} was left out: it would predict patients whose outcomes chose imported "
                "features. Import all features of the table, and let a selection choose inside the folds."
            )
            continue
        match scheme:
            case CrossValidation():
                _cross_validation(study, scheme, pool, result, log)
            case LeaveCentreOut():
                _leave_centre_out(study, scheme, pool, result, log)
            case RandomSplits():
                _random_splits(study, scheme, pool, scored, result, log)
        if scheme.kind in result.metrics:
            result.seen[scheme.kind] = sorted(study.frame["patient"][pool])
    return result


def _judge(
    study: Study, kind: str, here: np.ndarray, p: dict[Key, np.ndarray], result: Validation, metrics: dict[str, Any]
) -> None:
    """Brier score, calibration, decision curves and groups of patients `here` (n,), from probabilities (n, K) of models
    that were fitted without the patient: the first of each patient, since means of several models are nearer to the
    middle than those of any one."""
    y = study.outcome[here]
    counts = {"patients": len(y), "by_class": {c: int((y == k).sum()) for k, c in enumerate(study.classes)}}
    counts |= {"positive": int(y.sum())} if study.binary else {}
    study.counts.setdefault("validation", {})[kind] = counts
    for key, own in p.items():
        entry = metrics[key[0]][key[1]]
        found = {"brier": classify_evaluate.brier(study, y, own[here])}
        found |= classify_calibration.assess(study, key, kind, y, own[here], result.use)
        for k in () if study.binary else classify_calibration.wanted(study):
            found[f"auc_{study.classes[k]}"] = roc.delong(y == k, own[here, k], level=study.settings.level)
            found[f"auc_{study.classes[k]}"]["method"] += ", this class against the rest"
        for value in found.values():
            value["method"] += f"; {classify_calibration.FIRST}"
        entry |= found
        if np.isfinite(own[here]).all():
            entry["subgroups"] = classify_groups.within(study, f"{key[1]} on {key[0]}, {kind}", own, here)


def _predict(study: Study, train: np.ndarray, test: np.ndarray, stream: tuple[str | int, ...]) -> dict[Key, np.ndarray]:
    return predict(study, train, study.targets()[study.rows(train)], test, stream)


def _trainable(study: Study, train: np.ndarray) -> bool:
    return len(np.unique(study.targets()[study.rows(train)])) > 1


def corrected(values: np.ndarray, ratio: float, *, n: int, level: float) -> Estimate:
    """Mean of a statistic over resampled test sets with the corrected t interval of Nadeau and Bengio (2003, Mach Learn
    52:239); `ratio` is the number of test over training patients. Without the correction the overlap of training sets
    makes intervals far too narrow."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        value = float(values[0]) if len(values) else math.nan
        return estimate(value, method="corrected resampled t", n=n, level=level)
    half = stats.t.ppf(0.5 + level / 2, len(values) - 1) * math.sqrt((1 / len(values) + ratio) * values.var(ddof=1))
    mean = float(values.mean())
    method = f"corrected resampled t (Nadeau and Bengio), {len(values)} test sets"
    return estimate(mean, max(0.0, mean - half), min(1.0, mean + half), method=method, n=n, level=level)


def _placed(here: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Probabilities of some patients (bool, n) among NaN of all, (n, K)."""
    found = np.full((len(here), p.shape[1]), np.nan)
    found[here] = p
    return found


def _record(study: Study, found: dict[Key, np.ndarray], test: np.ndarray, **where: Any) -> list[pd.DataFrame]:
    frame = study.frame.loc[test, ["centre", "patient"]].reset_index(drop=True)
    frame["outcome"] = [study.classes[k] for k in study.outcome[test]]
    blocks = []
    for (arm, model), p in found.items():
        columns = {f"probability_{name}": p[:, k] for k, name in enumerate(study.classes)}
        blocks.append(frame.assign(set=arm, model=model, **where, **columns))
    return blocks


def _cross_validation(study: Study, scheme: CrossValidation, pool: np.ndarray, result: Validation, log: Log) -> None:
    positions, y, level = np.flatnonzero(pool), study.outcome[pool], study.settings.level
    count = min(scheme.folds, int(np.bincount(y)[np.unique(y)].min()))
    if count < 2:
        study.warn("validation: cross-validation was left out: a class has one patient; collect more, or join classes.")
        return
    if count < scheme.folds:
        study.warn(f"validation: {count} folds instead of {scheme.folds}: the smallest class has no more patients.")
    rng = generator(study.seed, "analyse", study.name, "cross-validation")
    whole: dict[Key, np.ndarray] = {}
    per_fold: dict[Key, list[float]] = {}
    blocks: list[pd.DataFrame] = []
    for repeat in range(scheme.repeats):
        for k, rows in enumerate(folds(y, count, rng)):
            test = np.zeros(len(pool), dtype=bool)
            test[positions[rows]] = True
            found = _predict(study, pool & ~test, test, ("cross-validation", repeat, k))
            for key, p in found.items():
                into = whole.setdefault(key, np.full((scheme.repeats, len(y), len(study.classes)), np.nan))
                into[repeat, rows] = p
                per_fold.setdefault(key, []).append(multiclass.discrimination(study.outcome[test], p))
            blocks += _record(study, found, test, repeat=repeat, fold=k)
        log.progress("cross-validation", repeat + 1, scheme.repeats)
    drawn = multiclass.weights(
        y, len(study.classes), study.settings.bootstraps, generator(study.seed, "analyse", study.name, "cv-bootstrap")
    )
    metrics: dict[str, Any] = {}
    for key, p in whole.items():
        values = [multiclass.discrimination(y, own) for own in p]
        samples = np.mean([multiclass.bootstrap_values(y, own, drawn) for own in p], axis=0)
        lower, upper, used = percentiles(samples, level)
        entry = {
            "auc": estimate(
                float(np.mean(values)), lower, upper, n=len(y), level=level, seed=study.seed,
                method=f"mean over {scheme.repeats} repetitions of the AUC of all out-of-fold probabilities; "
                "percentile "
                f"bootstrap over patients within each class, {used} samples",
            ),
            "auc_folds": corrected(np.array(per_fold[key]), 1 / (count - 1), n=len(y), level=level),
            "auc_repetitions": [finite(v) for v in values],
        }  # fmt: skip
        metrics.setdefault(key[0], {})[key[1]] = entry
    first = {key: _placed(pool, p[0]) for key, p in whole.items()}
    _judge(study, scheme.kind, pool, first, result, metrics)
    result.metrics[scheme.kind] = {
        "folds": count, "repeats": scheme.repeats, "patients": len(y), "results": metrics,
        "method": "tuning, selection and imputation are nested inside every fold",
    }  # fmt: skip
    result.predictions[scheme.kind] = pd.concat(blocks, ignore_index=True)


def _leave_centre_out(study: Study, scheme: LeaveCentreOut, pool: np.ndarray, result: Validation, log: Log) -> None:
    centre = study.frame["centre"].astype("object").to_numpy()
    centres = sorted(set(centre[pool]))
    if len(centres) < 2:
        study.warn("validation: leave-centre-out was left out: all patients who are not external are of one centre.")
        return
    level, k = study.settings.level, len(study.classes)
    p: dict[Key, np.ndarray] = {}
    blocks: list[pd.DataFrame] = []
    used = []
    for done, name in enumerate(centres, start=1):
        test = pool & (centre == name)
        if study.frame["patient"][test].isin(study.chosen).any():
            study.warn(
                f"validation: centre {name} was not left out: outcomes of its patients chose imported features. Import "
                "all features of the table, and let a selection choose inside training."
            )
            continue
        if not _trainable(study, pool & ~test):
            study.warn(f"validation: without centre {name} all patients have one outcome, so it could not be left out.")
            continue
        used.append(name)
        found = _predict(study, pool & ~test, test, ("leave-centre-out", name))
        for key, own in found.items():
            p.setdefault(key, np.full((len(pool), k), np.nan))[test] = own
        blocks += _record(study, found, test, repeat=0, fold=name)
        log.progress("centres", done, len(centres), centre=name)
    if not used:
        return
    metrics: dict[str, Any] = {}
    weights = {
        name: multiclass.weights(
            study.outcome[pool & (centre == name)], k, study.settings.bootstraps,
            generator(study.seed, "analyse", study.name, "centre-bootstrap", name),
        )
        for name in used
    }  # fmt: skip
    for key, own in p.items():
        by_centre, values, samples, sizes = {}, [], [], []
        for name in used:
            here = pool & (centre == name)
            y = study.outcome[here]
            value = multiclass.discrimination(y, own[here])
            drawn = multiclass.bootstrap_values(y, own[here], weights[name])
            entry = multiclass.interval(value, drawn, len(y), level=level, seed=study.seed)
            by_centre[name] = roc.delong(y == 1, own[here, 1], level=level) if study.binary else entry
            if math.isfinite(value):
                values.append(value)
                samples.append(drawn)
                sizes.append(len(y))
        metrics.setdefault(key[0], {})[key[1]] = {"centres": by_centre}
        share = np.array(sizes, dtype=float) / max(sum(sizes), 1)
        mean = float(share @ values) if values else math.nan
        lower, upper, count = percentiles(share @ np.array(samples) if values else np.full(0, np.nan), level)
        metrics[key[0]][key[1]]["auc"] = estimate(
            mean, lower, upper, n=sum(sizes), level=level, seed=study.seed,
            method="mean of the AUCs within centres, weighted by patients; percentile bootstrap over patients within "
            f"each class of each centre, {count} samples",
        )  # fmt: skip
    here = pool & np.isin(centre, used)
    _judge(study, scheme.kind, here, p, result, metrics)
    result.metrics[scheme.kind] = {"centres": used, "patients": int(here.sum()), "results": metrics}
    result.predictions[scheme.kind] = pd.concat(blocks, ignore_index=True)


def _random_splits(
    study: Study, scheme: RandomSplits, pool: np.ndarray, scored: dict[Key, Scored], result: Validation, log: Log
) -> None:
    positions, y, level = np.flatnonzero(pool), study.outcome[pool], study.settings.level
    own = study.part("test")
    share = scheme.test or (float(own.sum() / pool.sum()) if own.any() else 0.3)
    aucs: dict[Key, list[float]] = {}
    first: dict[Key, np.ndarray] = {}
    tested = np.zeros(len(pool), dtype=bool)
    blocks: list[pd.DataFrame] = []
    for number in range(scheme.count):
        rng = generator(study.seed, "analyse", study.name, "random-split", number)
        test = np.zeros(len(pool), dtype=bool)
        for k in np.unique(y):
            rows = rng.permutation(np.flatnonzero(y == k))
            test[positions[rows[: max(1, round(share * len(rows)))]]] = True
        train = pool & ~test
        if not _trainable(study, train):
            study.warn("validation: random-splits was left out: a class is too small to stand in both parts.")
            return
        found = _predict(study, train, test, ("random-split", number))
        for key, p in found.items():
            aucs.setdefault(key, []).append(multiclass.discrimination(study.outcome[test], p))
            own_first = first.setdefault(key, np.full((len(pool), len(study.classes)), np.nan))
            own_first[test & ~tested] = p[~tested[test]]
        tested |= test
        blocks += _record(study, found, test, repeat=number, fold=0)
        log.progress("random splits", number + 1, scheme.count)
    metrics: dict[str, Any] = {}
    for key, values_ in aucs.items():
        values = np.array(values_)
        chosen = multiclass.discrimination(study.outcome[own], scored[key].p[own]) if own.any() else math.nan
        low, median, high = (finite(v) for v in np.nanquantile(values, [0.025, 0.5, 0.975]))
        metrics.setdefault(key[0], {})[key[1]] = {
            "auc": corrected(values, share / (1 - share), n=int(pool.sum()), level=level),
            "sd": finite(np.nanstd(values, ddof=1)),
            "quantiles": {"0.025": low, "0.5": median, "0.975": high},
            "chosen_split": finite(chosen),
            # of a split drawn like the others, each rank is as likely
            "share_below_chosen": finite(np.mean(values < chosen - 1e-12)) if math.isfinite(chosen) else None,
            "aucs": [finite(v) for v in values],
        }
    _judge(study, scheme.kind, tested, first, result, metrics)
    result.metrics[scheme.kind] = {
        "count": scheme.count, "test": share, "patients": int(pool.sum()), "results": metrics,
    }  # fmt: skip
    result.predictions[scheme.kind] = pd.concat(blocks, ignore_index=True)
