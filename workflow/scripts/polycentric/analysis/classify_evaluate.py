"""Performance of fitted classifiers, thresholds from training, comparisons, combined rules."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import bootstrap, tables
from ..estimates import (
    Estimate,
    estimate,
    finite,
    holm,
    mean_of_shares,
    p_of_z,
    percentiles,
    permutation_p,
    wilson,
)
from ..randomness import generator
from . import classify_calibration, classify_groups, classify_size, data, multiclass, roc
from .classify_null import Null
from .classify_study import Study
from .multiclass import Drawn
from .thresholds import at_threshold, threshold_at
from .tuning import Fitted

Key = tuple[str, str]


@dataclass(frozen=True)
class Scored:
    """Probabilities (n, K) of all patients by one model: `p` of the fitted model, `unseen` out of fold, of training.

    `rows` and `rows_unseen` are those of lesions before they were joined; an ensemble has no `fit`.
    """

    p: np.ndarray
    unseen: np.ndarray
    fit: Fitted | None
    rows: np.ndarray | None = None
    rows_unseen: np.ndarray | None = None


@dataclass(frozen=True)
class Judged:
    """What stands in metrics.json: results by arm and model, comparisons, combined rules; and curves."""

    results: dict[str, Any]
    comparisons: list[dict[str, Any]]
    agreements: dict[str, Any]
    use: classify_calibration.Use

    def threshold(self, key: Key) -> float:
        return self.results[key[0]][key[1]]["threshold"]["value"]


def evaluate(study: Study, scored: dict[Key, Scored], drawn: dict[str, Drawn], null: Null) -> Judged:
    results: dict[str, Any] = {}
    use = classify_calibration.Use()
    for key, own in scored.items():
        entry = _entry(study, key, own, drawn, use)
        observed = {part: entry["parts"][part]["auc"]["value"] for part in data.HELD_OUT if part in entry["parts"]}
        entry["permutation"] = _against_null(null.get(key, {}), observed, study.seed)
        results.setdefault(key[0], {})[key[1]] = entry
    classify_size.say(study, results)
    comparisons = _comparisons(study, scored, drawn)
    return Judged(results, comparisons, _agreements(study, scored, results), use)


def _entry(
    study: Study, key: Key, own: Scored, drawn: dict[str, Drawn], use: classify_calibration.Use
) -> dict[str, Any]:
    training, fit = study.part("training"), own.fit
    y, unseen = study.outcome, own.unseen[training]
    thresholds = _thresholds(study, y[training], unseen)
    threshold = thresholds["Youden"] if study.binary else {"value": None, "method": "the most probable class"}
    parts: dict[str, Any] = {}
    for part in tables.PARTS:
        here = study.part(part)
        if here.any():
            parts[part] = performance(study, y[here], own.p[here], drawn[part], threshold["value"])
            parts[part] |= classify_calibration.assess(study, key, part, y[here], own.p[here], use)
            if study.patient is not None and own.rows is not None:
                parts[part]["auc_lesions"] = _lesion_auc(study, own.rows, here, drawn[part])
    for name, value in parts.get("training", {}).items():
        if name.startswith("auc"):
            value["method"] += "; apparent: the same patients fitted the model"
    if training.any():
        found = performance(study, y[training], unseen, drawn["training"], threshold["value"])
        found |= classify_calibration.assess(study, key, "cross-validated", y[training], unseen, use)
        parts["cross-validated"] = found
        for value in parts["cross-validated"].values():
            value["method"] += "; out-of-fold probabilities of training, averaged over repeats"
            value["method"] += "; too good: outcomes of training chose imported features" * bool(study.chosen)
    operating = {
        name: {
            part: at_threshold(y[here], own.p[here, 1], rule["value"], level=study.settings.level)
            for part in data.HELD_OUT
            if (here := study.part(part)).any()
        }
        for name, rule in thresholds.items()
    }
    return {
        "parts": parts,
        "subgroups": classify_groups.assess(study, f"{key[1]} on {key[0]}", own.p),
        "sample_size": classify_size.assess(study, fit),
        "threshold": threshold,
        "thresholds": thresholds,
        "operating": operating,
        "setting": dict(fit.setting) if fit else None,
        "penalty": fit.setting.get("penalty") if fit else None,
        "features_selected": len(fit.front.chosen_) if fit else 0,
    }


def _thresholds(study: Study, y: np.ndarray, unseen: np.ndarray) -> dict[str, dict[str, Any]]:
    """Thresholds of two classes from out-of-fold probabilities of training."""
    if not study.binary:
        return {}
    known = bool(len(unseen)) and bool(np.isfinite(unseen).all()) and len(np.unique(y)) == 2
    rules = {"Youden": roc.youden(y == 1, unseen[:, 1]) if known else math.nan}
    for wanted in study.settings.sensitivities:
        rules[f"sensitivity {wanted:g}"] = threshold_at(y == 1, unseen[:, 1], wanted) if known else math.nan
    return {
        name: {"value": value, "method": f"{name}, out-of-fold probabilities of training"}
        if math.isfinite(value)
        else {"value": 0.5, "method": f"0.5, since training gives no {name} threshold"}
        for name, value in rules.items()
    }


def performance(study: Study, y: np.ndarray, p: np.ndarray, drawn: Drawn, threshold: float | None) -> dict[str, Any]:
    """Discrimination, Brier score and calls of patients y (n,), p (n, K)."""
    level, n, seed = study.settings.level, len(y), study.seed
    result: dict[str, Any] = {"auc": multiclass.auc(y, p, drawn, level=level, seed=seed)}
    known = bool(np.isfinite(p).all())
    if study.binary:
        positive = p[:, 1]
        assert threshold is not None
        result["auc_delong"] = roc.delong(y == 1, positive, level=level)
        result["brier"] = brier(study, y, p)
        calls = at_threshold(y, positive, threshold, level=level)
        return result | {key: calls[key] for key in ("accuracy", "sensitivity", "specificity", "balanced_accuracy")}
    for k, name in enumerate(study.classes):
        result[f"auc_{name}"] = roc.delong(y == k, p[:, k], level=level)
        result[f"auc_{name}"]["method"] += ", this class against the rest"
    macro = multiclass.interval(multiclass.macro(y, p), multiclass.macro_values(y, p, drawn), n, level=level, seed=seed)
    result["auc_macro"] = macro | {"method": f"mean AUC of each class against the rest; {macro['method']}"}
    result["brier"] = brier(study, y, p)
    hit = np.argmax(p, axis=1) == y if known else np.zeros(n, dtype=bool)
    result["accuracy"] = wilson(int(hit.sum()), n if known else 0, level=level)
    of_class = []
    for k, name in enumerate(study.classes):
        total = int((y == k).sum()) if known else 0
        of_class.append(wilson(int((hit & (y == k)).sum()), total, level=level))
        result[f"sensitivity_{name}"] = of_class[-1]
    result["balanced_accuracy"] = mean_of_shares(of_class, level=level)
    return result


def brier(study: Study, y: np.ndarray, p: np.ndarray) -> Estimate:
    """Brier score of patients y (n,), p (n, K)."""
    stream = generator(study.seed, "analyse", study.name, "brier", len(y))
    counts = bootstrap.counts(np.zeros(len(y)), study.settings.bootstraps, stream)
    return multiclass.brier(y, p, counts, level=study.settings.level, seed=study.seed)


def _lesion_auc(study: Study, rows: np.ndarray, patients: np.ndarray, drawn: Drawn) -> Estimate:
    """AUC of lesions with an interval of the bootstrap over patients, whose lesions are drawn together."""
    assert study.patient is not None
    here = patients[study.patient]
    y, p, classes = study.targets()[here], rows[here], len(study.classes)
    level = study.settings.level
    order = np.concatenate([np.flatnonzero(patients & (study.outcome == k)) for k in range(classes)])
    weight = np.zeros((len(drawn[0]), len(study.frame)))
    weight[:, order] = np.hstack(drawn)
    samples = lesion_samples(y, p, weight[:, study.patient[here]])
    lower, upper, used = percentiles(samples, level)
    what = "lesions" if study.binary else "lesions, Hand and Till"
    return estimate(
        multiclass.discrimination(y, p),
        lower,
        upper,
        method=f"{what}; percentile bootstrap over patients, whose lesions are drawn together, {used} samples",
        n=len(y),
        level=level,
        seed=study.seed,
    )


def lesion_samples(y: np.ndarray, p: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`multiclass.discrimination` of y (n,), p (n, K) in every sample of `weight` (samples, n), (samples,)."""
    pairs = [(1, 0)] if p.shape[1] == 2 else list(itertools.permutations(range(p.shape[1]), 2))
    total = np.zeros(len(weight))
    for a, b in pairs:
        own, other = weight[:, y == a], weight[:, y == b]
        score = p[y == a, a][:, None], p[y == b, a]
        wins = (score[0] > score[1]) + 0.5 * (score[0] == score[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            total += ((own @ wins) * other).sum(axis=1) / (own.sum(axis=1) * other.sum(axis=1))
    return total / len(pairs)


def _against_null(null: dict[str, np.ndarray], observed: dict[str, float | None], seed: int) -> dict[str, Any]:
    result = {}
    for part, values in null.items():
        value = observed.get(part)
        known = values[np.isfinite(values)]
        result[part] = {
            "observed": value,
            "mean": finite(known.mean()) if len(known) else None,
            "upper": finite(np.quantile(known, 0.95)) if len(known) else None,
            "p": finite(permutation_p(math.nan if value is None else value, values)),
            "n": len(known),
            "seed": seed,
            "method": "AUC with permuted outcomes of training, whole chain; upper: 95th percentile; one-sided p",
        }
    return result


def _comparisons(study: Study, scored: dict[Key, Scored], drawn: dict[str, Drawn]) -> list[dict[str, Any]]:
    """Paired comparisons on the same patients: the same model on two arms, two models on one arm, ensembles with their
    members. Arms that select on different sets are compared only where the set is the same. Holm's correction is within
    a part and a kind of comparison."""
    rows: list[dict[str, Any]] = []
    for part in data.HELD_OUT:
        here = study.part(part)
        if not here.any():
            continue
        families: dict[str, list[dict[str, Any]]] = {}
        for a, b in itertools.combinations(scored, 2):
            if family := _family(study, a, b):
                row = _compare(
                    study, part, a, b, scored[a].p[here], scored[b].p[here], study.outcome[here], drawn[part]
                )
                families.setdefault(family, []).append({"family": family, **row})
        for block in families.values():
            known = [math.nan if row["p"] is None else row["p"] for row in block]
            for row, corrected in zip(block, holm(known), strict=True):
                row["p_holm"] = finite(corrected)
            rows += block
    return rows


def _family(study: Study, a: Key, b: Key) -> str | None:
    ensembles = study.settings.ensembles
    for one, other in ((a, b), (b, a)):
        if one[0] == "ensemble" and one[1] in ensembles:
            return "ensemble" if "/".join(other) in ensembles[one[1]] else None
    if a[0] == b[0]:
        return "models"
    if a[1] != b[1]:
        return None
    (set_a, by_a), (set_b, by_b) = study.settings.arms[a[0]], study.settings.arms[b[0]]
    return "sets" if by_a == by_b or set_a == set_b else None


def _compare(
    study: Study, part: str, a: Key, b: Key, p: np.ndarray, q: np.ndarray, y: np.ndarray, drawn: Drawn
) -> dict[str, Any]:
    """Difference of AUCs, first minus second, by DeLong (two classes) and by the stratified paired bootstrap.

    The p of the bootstrap is that of pROC's roc.test: the difference in standard deviations of the bootstrap
    differences is compared with a normal distribution (Robin et al. 2011, BMC Bioinformatics 12:77).
    """
    level = study.settings.level
    row: dict[str, Any] = {
        "part": part,
        "first": {"set": a[0], "model": a[1]},
        "second": {"set": b[0], "model": b[1]},
    }
    if study.binary:
        bootstrap = roc.bootstrap_difference(
            y == 1, p[:, 1], q[:, 1], (drawn[1], drawn[0]), level=level, seed=study.seed
        )
        test = roc.delong_paired(y == 1, p[:, 1], q[:, 1], level=level)
        row["difference"] = estimate(
            test.difference, test.lower, test.upper, method="DeLong, paired", n=len(y), level=level
        )
        row |= {"z": finite(test.z), "p": finite(test.p), "p_bootstrap": bootstrap.pop("p")}
        bootstrap.pop("z")
        return row | {"difference_bootstrap": bootstrap}
    difference = multiclass.discrimination(y, p) - multiclass.discrimination(y, q)
    samples = multiclass.bootstrap_values(y, p, drawn) - multiclass.bootstrap_values(y, q, drawn)
    lower, upper, used = percentiles(samples, level)
    spread = float(np.nanstd(samples, ddof=1)) if used > 1 else math.nan
    z = difference / spread if spread > 0 else (0.0 if difference == 0 else math.nan)
    method = f"percentile paired bootstrap within each class, {used} samples"
    bootstrap = estimate(difference, lower, upper, method=method, n=len(y), level=level, seed=study.seed)
    p_value = finite(p_of_z(z))
    row |= {"difference": bootstrap, "difference_bootstrap": bootstrap, "z": finite(z), "p": p_value}
    return row | {"p_bootstrap": p_value}


def _agreements(study: Study, scored: dict[Key, Scored], results: dict[str, Any]) -> dict[str, Any]:
    """Combined rules of two models: where they agree there is a call; and positive only if both are."""
    level = study.settings.level
    found: dict[str, Any] = {}
    for name, members in study.settings.agreements.items():
        called = []
        for member in members:
            arm, model = member.split("/")
            p = scored[arm, model].p
            if study.binary:
                call = np.where(np.isfinite(p[:, 1]), p[:, 1] >= results[arm][model]["threshold"]["value"], np.nan)
            else:
                call = np.where(np.isfinite(p).all(axis=1), np.argmax(np.nan_to_num(p), axis=1), np.nan)
            called.append(call)
        known = np.isfinite(called[0]) & np.isfinite(called[1])
        agree = known & (called[0] == called[1])
        parts = {}
        for part in data.HELD_OUT:
            here = study.part(part) & known
            if not here.any():
                continue
            y = study.outcome
            right = agree & here & (called[0] == y)
            entry = {
                "coverage": wilson(int((agree & here).sum()), int(here.sum()), level=level),
                "accuracy": wilson(int(right.sum()), int((agree & here).sum()), level=level),
            }
            if study.binary:
                for key, k in (("sensitivity", 1), ("specificity", 0)):
                    among = agree & here & (y == k)
                    entry[key] = wilson(int((among & right).sum()), int(among.sum()), level=level)
                both = (called[0] == 1) & (called[1] == 1)
                for key, k in (("sensitivity_both_positive", 1), ("specificity_both_positive", 0)):
                    among = here & (y == k)
                    hits = int((among & (both == (k == 1))).sum())
                    entry[key] = wilson(hits, int(among.sum()), level=level)
            parts[part] = entry
        found[name] = {"of": list(members), "parts": parts}
    return found
