"""How survival models do: discrimination, calibration, prediction error, risk groups, comparisons."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import bootstrap, tables
from ..estimates import (
    Estimate,
    bca,
    bca_interval,
    estimate,
    finite,
    holm,
    normal_quantile,
    p_of_z,
    permutation_p,
)
from ..jobs import Log
from ..randomness import generator
from . import (
    calibrate,
    chains,
    competing,
    cox,
    cutpoints,
    decision,
    discrimination,
    samplesize,
    survival,
    survive_groups,
)
from .survive_null import Null
from .survive_study import Study

GRID = 20  # times of the integrated Brier score
SMOOTH_BOOTSTRAPS = 100  # each fits a curve
KNIVES = 500  # blocks of patients that the jackknife of BCa intervals leaves out in turn, at most
OPTIMISM = "apparent less cross-validated C of training"


@dataclass
class Judged:
    """Indices, predicted survival (n, times), cuts and risk groups by model; results and comparisons for metrics."""

    indices: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    grid: dict[str, np.ndarray]
    cuts: dict[str, dict[str, Any]]
    groups: dict[str, np.ndarray]
    results: dict[str, Any]
    comparisons: list[dict[str, Any]]
    steps: np.ndarray
    curves: dict[tuple[str, str, float], calibrate.Curve] = field(default_factory=dict)
    decisions: dict[tuple[str, str, float], discrimination.Decision] = field(default_factory=dict)


def evaluate(
    study: Study,
    fitted: dict[str, chains.Fitted | None],
    crossed: chains.CrossValidation,
    null: Null,
    log: Log,
) -> Judged:
    """Judge every model on every part; the same bootstrap samples of patients serve all models of a part."""
    training = study.part("training")
    n, times = len(study.frame), np.array(study.times)
    steps = _steps(study)
    missing = np.full(n, np.nan)
    judged = Judged({}, {}, {}, {}, {}, {}, [], steps)
    for key, fit in fitted.items():
        judged.indices[key] = fit.index(study.tables) if fit else missing
        both = np.r_[times, steps]
        curve = fit.survival(study.tables, both) if fit and len(both) else np.full((n, len(both)), np.nan)
        judged.predicted[key], judged.grid[key] = curve[:, : len(times)], curve[:, len(times) :]
        judged.cuts[key] = _cut(study, judged.indices[key][training], study.follow_up[training])
        judged.groups[key] = _group(judged.indices[key], judged.cuts[key]["value"])
    drawn = {part: draw(study, study.part(part), part) for part in tables.PARTS}
    for done, (key, fit) in enumerate(fitted.items(), start=1):
        judged.results[key] = _one(study, key, fit, judged, crossed, drawn, null.get(key, {}))
        log.progress("evaluation", done, len(fitted), model=key)
    _say_sample_size(study, judged.results)
    judged.comparisons = _comparisons(study, judged.indices, drawn)
    return judged


def _steps(study: Study) -> np.ndarray:
    """Times of the integrated Brier score and of predicted curves, up to the last time of interest."""
    if not study.times:
        return np.empty(0)
    return np.linspace(0, max(study.times), GRID + 1)[1:]


def draw(study: Study, rows: np.ndarray, *names: str) -> np.ndarray:
    stream = generator(study.seed, "analyse", study.name, "bootstrap", *names)
    return bootstrap.counts(np.zeros(int(rows.sum())), study.settings.bootstraps, stream)


def _cut(study: Study, index: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    how = study.settings.cut
    found: dict[str, Any] = {"value": None, "method": f"{how} of the index of training patients"}
    if not len(index) or not np.isfinite(index).all():
        return found
    if how == "maximal":
        best = cutpoints.maximally_selected(index, y[:, 0], y[:, 1] > 0)
        found |= {"value": finite(best.cut), "statistic": finite(best.statistic), "p": finite(best.p)}
        found["method"] = "largest log-rank statistic of training, p after Lausen and Schumacher; apparent"
        return found
    found["value"] = float(np.quantile(index, {"median": 0.5, "upper-quartile": 0.75}[how]))
    return found


def _group(index: np.ndarray, cut: float | None) -> np.ndarray:
    if cut is None:
        return np.full(len(index), "", dtype=object)
    return np.where(index > cut, "high", "low").astype(object)


def harrell(study: Study, rows: np.ndarray, index: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Harrell's C of some patients with its BCa interval and the infinitesimal jackknife's standard error."""
    time, event, score, level = study.follow_up[rows, 0], study.event[rows], index[rows], study.settings.level
    value = survival.concordance(time, event, score)
    samples = survival.bootstrap_concordance(time, event, score, drawn)
    known = math.isfinite(value)
    jackknife = survival.jackknife_concordance(time, event, score) if known else np.empty(0)
    lower, upper, used = bca(value, samples, jackknife, level)
    return estimate(
        value, lower, upper, method=f"Harrell's C, BCa bootstrap over patients, {used} samples", n=int(rows.sum()),
        level=level, seed=study.seed, events=int(event.sum()),
        standard_error=finite(survival.concordance_error(time, event, score)) if known else None,
    )  # fmt: skip


def _one(
    study: Study,
    key: str,
    fit: chains.Fitted | None,
    judged: Judged,
    crossed: chains.CrossValidation,
    drawn: dict[str, np.ndarray],
    null: dict[str, np.ndarray],
) -> dict[str, Any]:
    level, index = study.settings.level, judged.indices[key]
    columns = fit.columns(study.tables) if fit else ([], np.empty((len(index), 0)))
    kind = getattr(fit.chain.named_steps["model"], "kind", "") if fit and not fit.stacked else "cox" if fit else ""
    parts = {
        part: _part(study, key, part, judged, drawn[part], columns[1] if kind else None)
        for part in tables.PARTS
        if study.part(part).any()
    }
    training = study.part("training")
    of_folds = crossed.estimate(key, level=level, seed=study.seed)
    of_folds["method"] += "; too good: outcomes of training chose imported features" * bool(study.chosen)
    cross, optimism = of_folds, estimate(math.nan, method=OPTIMISM, n=of_folds["n"], level=level, seed=study.seed)
    if fit and key in crossed.samples:
        score, time, event = index[training], study.follow_up[training, 0], study.event[training]
        found = bca_interval(
            survival.concordance(time, event, score) - crossed.c[key],
            survival.bootstrap_concordance(time, event, score, drawn["training"]) - crossed.samples[key],
            survival.jackknife_concordance(time, event, score) - crossed.knives[key], level,
        )  # fmt: skip
        optimism = estimate(
            survival.concordance(time, event, score) - crossed.c[key], found.lower, found.upper,
            method=f"{OPTIMISM}, {found.how} paired bootstrap over patients, {found.used} samples", n=cross["n"],
            level=level, seed=study.seed,
        )  # fmt: skip
    permutation = {}
    for part, values in null.items():
        known = values[np.isfinite(values)]
        observed = parts[part]["c_index"]["value"]
        permutation[part] = {
            "observed": observed,
            "mean": finite(known.mean()) if len(known) else None,
            "upper": finite(np.quantile(known, 0.95)) if len(known) else None,
            "p": finite(permutation_p(math.nan if observed is None else observed, values)),
            "n": len(known),
            "seed": study.seed,
            "method": "C with permuted follow-up of training, whole chain; upper: 95th percentile; one-sided p",
        }
    risk = 1 - judged.predicted[key][:, 0] if study.times else np.full(len(index), np.nan)
    return {
        "parts": parts,
        "cross_validated_c_index": cross,
        "optimism": optimism,
        "subgroups": survive_groups.assess(
            study, key, index, risk, lambda rows: harrell(study, rows, index, draw(study, rows, "group"))
        ),
        "cut": judged.cuts[key],
        "penalty": fit.penalty if fit else None,
        "variables": len(columns[0]),
        "sample_size": _sample_size(study, key, fit, len(columns[0])),
        "permutation": permutation,
    }


def _part(
    study: Study, key: str, part: str, judged: Judged, drawn: np.ndarray, columns: np.ndarray | None
) -> dict[str, Any]:
    settings, here, index, group = study.settings, study.part(part), judged.indices[key], judged.groups[key]
    time, event, n = study.follow_up[here, 0], study.event[here], int(here.sum())
    c = harrell(study, here, index, drawn)
    apparent = part == "training"
    if apparent:
        c["method"] += "; apparent: the same patients fitted the model"
    if settings.competing is not None:
        chi, p = competing.gray(time, study.cause[here], group[here])
        test = "Gray"
    else:
        chi, p = survival.log_rank(time, event, group[here])
        test = "log-rank"
    slope = cox_one(index[here], time, event, settings.level, n, "Wald, Cox regression on the index")
    slope["p_one"] = _p_one(slope, settings.level)
    found: dict[str, Any] = {
        "c_index": c,
        "uno_c": _bootstrapped(
            study, lambda counts: discrimination.uno(time, event, index[here], counts), here, index, drawn,
            "Uno's C (weights 1/G squared)",
        ),
        "calibration_slope": slope,
        "log_hazard_ratio_high_low": cox_one(
            (group[here] == "high").astype(float), time, event, settings.level, n,
            "Wald, Cox regression on the risk group",
        ),
        "log_rank": {"test": test, "chi_squared": finite(chi), "p": finite(p), "n": n},
    }  # fmt: skip
    if columns is not None and not apparent:
        fit = calibrate.misspecification(columns[here], index[here], time, event)
        found["misspecification"] = {"chi_squared": finite(fit.chi_squared), "degrees": fit.degrees,
                                     "p": finite(fit.p), "n": n}  # fmt: skip
    if settings.competing is None:
        found |= _at_times(study, key, part, judged, here, drawn)
    return found


def _bootstrapped(study: Study, statistic: Any, here: np.ndarray, index: np.ndarray, drawn: np.ndarray,
                  what: str) -> Estimate:  # fmt: skip
    """A statistic of counts (samples, n) with its BCa interval over patients."""
    level, n = study.settings.level, int(here.sum())
    if not n or not np.isfinite(index[here]).all():
        return estimate(math.nan, method=what, n=n, level=level, seed=study.seed)
    value = float(statistic(discrimination.ones(n))[0])
    found = bca_interval(value, statistic(drawn), statistic(without(n)), level)
    return estimate(
        value, found.lower, found.upper, method=f"{what}, {found.how} bootstrap over patients, {found.used} samples",
        n=n, level=level, seed=study.seed, events=int(study.event[here].sum()),
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def without(n: int) -> np.ndarray:
    """Counts (blocks, n) that leave out each patient in turn, or, of many, each of `KNIVES` blocks of patients: the
    acceleration of a BCa interval does not hang on the size of the blocks."""
    blocks = min(n, KNIVES)
    counts = np.ones((blocks, n))
    counts[np.arange(n) % blocks, np.arange(n)] = 0
    return counts


def _at_times(study: Study, key: str, part: str, judged: Judged, here: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    """AUC, Brier score and calibration at every time of interest, and the integrated Brier score."""
    time, event, index = study.follow_up[here, 0], study.event[here], judged.indices[key]
    last = time.max()
    found: dict[str, Any] = {}
    g_of = _Weights(time, event, drawn)
    for k, t in enumerate(study.times):
        if t >= last:
            continue
        risk = 1 - judged.predicted[key][here, k]

        def scaled(counts: np.ndarray, t: float = t, risk: np.ndarray = risk) -> np.ndarray:
            reference = discrimination.null_brier(time, event, t, counts, g_of(counts))
            with np.errstate(divide="ignore", invalid="ignore"):
                return 1 - discrimination.brier(time, event, risk, t, counts, g_of(counts)) / reference

        def ratio(counts: np.ndarray, t: float = t, risk: np.ndarray = risk) -> np.ndarray:
            return calibrate.observed_to_expected(time, event, risk, t, counts)

        found[f"at {t:g} {study.unit}"] = {
            "auc": _bootstrapped(
                study, lambda c, t=t: discrimination.auc(time, event, index[here], t, c, g_of(c)), here, index, drawn,
                "cumulative/dynamic AUC, censoring weights",
            ),
            "brier": _bootstrapped(
                study, lambda c, t=t, r=risk: discrimination.brier(time, event, r, t, c, g_of(c)), here, index, drawn,
                "Brier score, censoring weights",
            ),
            "scaled_brier": _bootstrapped(
                study, scaled, here, index, drawn, "1 - Brier score over that without predictors"
            ),
            "observed_to_expected": _bootstrapped(
                study, ratio, here, index, drawn, "risk by Kaplan-Meier over mean predicted risk"
            ),
            "ici": _ici(study, (key, part, t), time, event, risk, drawn, judged),
        }  # fmt: skip
        if part != "training" and np.isfinite(risk).all():
            thresholds = decision.grid(*study.settings.decision_thresholds)
            judged.decisions[key, part, t] = discrimination.decision(
                time, event, risk, t, thresholds, drawn[:SMOOTH_BOOTSTRAPS], level=study.settings.level
            )
    steps = judged.steps[judged.steps < last]
    if len(steps) > 1:

        def whole(counts: np.ndarray) -> np.ndarray:
            scores = [discrimination.brier(time, event, 1 - judged.grid[key][here, k], t, counts, g_of(counts))
                      for k, t in enumerate(steps)]  # fmt: skip
            return discrimination.integrated(np.stack(scores, axis=1), steps)

        found["integrated_brier"] = _bootstrapped(
            study, whole, here, index, drawn, f"Brier score, mean from 0 to {steps[-1]:.3g} {study.unit}"
        )
    return found


class _Weights:
    """Censoring weights of the sample itself, its bootstrap samples and its jackknife, each estimated once."""

    def __init__(self, time: np.ndarray, event: np.ndarray, drawn: np.ndarray) -> None:
        one = discrimination.ones(len(time))
        self._one = discrimination.censoring(time, event, one)
        self._known = {id(c): discrimination.censoring(time, event, c) for c in (drawn, without(len(time)))}
        self._kept = (drawn, without(len(time)))  # so that their ids stay theirs

    def __call__(self, counts: np.ndarray) -> discrimination.Censoring:
        return self._known.get(id(counts), self._one)


def _ici(
    study: Study, where: tuple[str, str, float], time: np.ndarray, event: np.ndarray, risk: np.ndarray,
    drawn: np.ndarray, judged: Judged,
) -> Estimate:  # fmt: skip
    """Integrated calibration index at a time; the smooth curve behind it, with its band, goes into `judged`."""
    level, n, t = study.settings.level, len(time), where[2]
    if not np.isfinite(risk).all():
        return estimate(math.nan, method="integrated calibration index", n=n, level=level, seed=study.seed)
    curve, values = calibrate.curve(time, event, risk, t, drawn[:SMOOTH_BOOTSTRAPS], level=level)
    judged.curves[where] = curve
    value = calibrate.ici(time, event, risk, t)
    # a distance cannot be negative, so that samples lie above it: their bias is corrected
    lower, upper, used = bca(value, values, np.empty(0), level)
    return estimate(
        value, lower, upper,
        method=f"mean distance of smooth observed and predicted risk, bias-corrected bootstrap, {used} samples", n=n,
        level=level, seed=study.seed, events=int(event.sum()),
    )  # fmt: skip


def cox_one(x: np.ndarray, time: np.ndarray, event: np.ndarray, level: float, n: int, method: str) -> Estimate:
    """Coefficient of one variable with Wald's interval; NaN where it does not vary or the fit has no maximum."""
    value = error = math.nan
    if n > 2 and np.isfinite(x).all() and np.ptp(x) > 1e-9 and event.any():
        fit = cox.fit(x[:, None], time, event)
        if fit.converged:
            value, error = float(fit.coefficients[0]), float(fit.errors[0])
    half = normal_quantile(level) * error
    return estimate(value, value - half, value + half, method=method, n=n, level=level, events=int(event.sum()))


def _p_one(slope: Estimate, level: float) -> float | None:
    """p of Wald's test that a slope is one."""
    if slope["value"] is None or slope["upper"] is None or slope["upper"] <= slope["value"]:
        return None
    error = (slope["upper"] - slope["value"]) / normal_quantile(level)
    return finite(p_of_z((slope["value"] - 1) / error))


def _sample_size(study: Study, key: str, fit: chains.Fitted | None, variables: int) -> dict[str, Any] | None:
    """Events per variable and Riley's criteria."""
    training = study.part("training")
    time, event = study.follow_up[training, 0], study.event[training]
    if fit is None or not event.any() or not study.times:
        return None
    candidates = variables if isinstance(fit.chain, chains.Stack) else len(fit.chain.named_steps["front"].names_)
    rate, mean = float(event.sum() / time.sum()), float(time.mean())
    top = samplesize.largest_r2(rate, mean)
    found = samplesize.riley(max(candidates, 1), patients=len(time), rate=rate, mean_follow_up=mean, at=study.times[0],
                             r2=study.settings.expected_r2 * top)  # fmt: skip
    events = int(event.sum())
    return {
        "patients": len(time), "events": events, "candidates": candidates, "variables": variables,
        "events_per_candidate": finite(events / candidates) if candidates else None,
        "events_per_variable": finite(events / variables) if variables else None,
        "riley": {"shrinkage": found.shrinkage, "optimism": found.optimism, "risk": found.risk,
                  "needed": found.needed, "carries": found.carries},
        "method": f"Riley 2019 for Nagelkerke's R squared {study.settings.expected_r2:g}, shrinkage 0.9, overall risk "
        f"at {study.times[0]:g} {study.unit} to 0.05",
    }  # fmt: skip


def _say_sample_size(study: Study, results: dict[str, Any]) -> None:
    """Say in plain words what training cannot carry, once for the models with the same candidates."""
    by_size: dict[int, list[str]] = {}
    for key, entry in results.items():
        found = entry["sample_size"]
        if found and not study.settings.models[key].stack and found["riley"]["needed"] > found["patients"]:
            by_size.setdefault(found["candidates"], []).append(key)
    for candidates, keys in by_size.items():
        found = results[keys[0]]["sample_size"]
        study.warn(
            f"{', '.join(keys)}: training has {found['patients']} patients with {found['events']} events for "
            f"{candidates} candidate variables ({found['events'] / max(candidates, 1):.2g} events for each). Riley's "
            f"criteria ask for {found['riley']['needed']:,} patients; these can carry about "
            f"{found['riley']['carries']} candidate variables. Selection and penalties lessen the harm but do not "
            "remove it: choose fewer variables beforehand, pool more patients, or call the result exploratory."
        )


def _comparisons(study: Study, indices: dict[str, np.ndarray], drawn: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Difference of C of every further model and the first, on the same patients and bootstrap samples.

    p values of a part are corrected together (Holm).
    """
    first, *others = study.settings.models
    level = study.settings.level
    rows: list[dict[str, Any]] = []
    for part in tables.PARTS:
        here = study.part(part)
        if not here.any():
            continue
        time, event = study.follow_up[here, 0], study.event[here]
        of_part = []
        for key in others:
            values, samples, knives = [], [], []
            for model in (key, first):
                score = indices[model][here]
                values.append(survival.concordance(time, event, score))
                samples.append(survival.bootstrap_concordance(time, event, score, drawn[part]))
                known = math.isfinite(values[-1])
                knives.append(
                    survival.jackknife_concordance(time, event, score) if known else np.full(len(time), np.nan)
                )
            difference, value = samples[0] - samples[1], values[0] - values[1]
            lower, upper, used = bca(value, difference, knives[0] - knives[1], level)
            known = difference[np.isfinite(difference)]
            spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
            of_part.append(
                {
                    "part": part,
                    "first": {"model": key},
                    "second": {"model": first},
                    "difference": estimate(
                        value,
                        lower,
                        upper,
                        method=f"difference of Harrell's C, BCa paired bootstrap, {used} samples"
                        + ("; apparent" if part == "training" else ""),
                        n=int(here.sum()),
                        level=level,
                        seed=study.seed,
                        events=int(event.sum()),
                    ),
                    "p": finite(p_of_z(value / spread)) if spread > 0 and part != "training" else None,
                }
            )
        corrected = holm([math.nan if row["p"] is None else row["p"] for row in of_part])
        rows += [row | {"p_holm": finite(p)} for row, p in zip(of_part, corrected, strict=True)]
    return rows
