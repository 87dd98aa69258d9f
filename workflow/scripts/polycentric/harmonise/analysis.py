"""The analysis `harmonisation`: what batches explain before and after, and whether they can still be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import feature_names, ledger, tables
from ..artefacts import TableArtefacts
from ..config.harmonise import HarmonisationAnalysis
from ..errors import UserError
from ..estimates import Estimate, estimate, finite, percentiles, permutation_p
from ..files import read_json, write_json
from ..jobs import SILENT, Log
from ..randomness import generator, integer_seed
from ..tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT
from ..univariate import benjamini_hochberg, variance_explained
from ..words import in_words
from . import draw, predict
from .phantom import FATES
from .sets import Facts

WHEN = ("before", "after")
PARTS = ("training", "held out")


@dataclass(frozen=True)
class Rows:
    """The rows that both sets have, in one order: keys, batch, part, and values by set (rows, features)."""

    keys: pd.DataFrame
    batch: np.ndarray
    part: np.ndarray
    values: dict[str, np.ndarray]
    names: list[str]
    dropped: list[str]

    def of(self, part: str) -> np.ndarray:
        return self.part == part


def analyse(
    name: str,
    settings: HarmonisationAnalysis,
    *,
    seed: int,
    features: Mapping[str, Path],
    scans: Path,
    patients: Path,
    split: Path,
    parameters: Path | None = None,
    ledgers: Sequence[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Compare a feature set before and after harmonisation; write the analysis folder; return the metrics.

    Variance explained, tests and classifiers are computed on training patients, whose rows fitted the harmonisation,
    and on held-out patients of the batches that training has. `parameters` is what was fitted for the second set; None
    where it was not harmonised here.

    Raises
    ------
    UserError
        if the sets share no row or feature, or training has a single batch.
    """
    where = f"analyses: {name}"
    rows = _rows(settings, features, scans, patients, split, where)
    variance = _variance(rows)
    predicted = _predict(name, settings, rows, seed, log)
    metrics = _metrics(name, settings, rows, variance, predicted, seed)
    record = None if parameters is None else read_json(parameters)
    if record is not None:
        metrics["fit"], lines = _fit(record)
        metrics["summary"] += lines
    _show(settings, rows, variance, predicted, metrics, record, TableArtefacts(folder, root))
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split,
        seen={"training": sorted(set(rows.keys.loc[rows.of("training"), "patient"]))},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def _rows(
    settings: HarmonisationAnalysis,
    features: Mapping[str, Path],
    scans: Path,
    patients: Path,
    split: Path,
    where: str,
) -> Rows:
    before, after = (tables.read(features[n], FEATURES) for n in settings.features)
    names = [n for n in feature_names.columns(after) if n in before.columns]
    dropped = [n for n in feature_names.columns(before) if n not in names]
    parts = tables.read(split, SPLIT).set_index("patient")["part"]
    key = ["centre", "patient", "session", "scan", "source", "view", "roi"]
    frames = [f[f["status"].eq("ok")].sort_values(["patient", "scan", "roi"], kind="stable") for f in (before, after)]
    if settings.rois is not None:
        frames = [f[f["roi"].isin(settings.rois)] for f in frames]
    pair = ["scan", "source", "roi"]
    both = frames[0][[*key, *names]].merge(frames[1][[*pair, *names]], on=pair, suffixes=("", "|after"))
    both = both[both["patient"].isin(parts.index)].reset_index(drop=True)
    if both.empty or not names:
        raise UserError(
            f"{where}: {settings.features[0]!r} and {settings.features[1]!r} have no row or feature in common; write "
            f"the set that was harmonised, then its harmonised version"
        )
    keys = both[key].assign(set="")
    facts = Facts(tables.read(scans, SCANS), tables.read(patients, PATIENTS))
    batch = facts.batches(keys, settings.batches, pd.Series(True, index=keys.index), where).astype(str)
    part = both["patient"].map(parts).eq("training").to_numpy(dtype=bool)
    counted = pd.Series(batch[part]).value_counts()
    usable = sorted(counted[counted >= 2].index)
    if len(usable) < 2:
        raise UserError(
            f"{where}: training has {len(usable)} batches with two rows or more, so there is nothing to compare; "
            f"choose another batch than {', '.join(settings.batches)!r}, or another split"
        )
    kept = np.isin(batch, usable)
    values = {
        when: both.loc[kept, [f"{n}{suffix}" for n in names]].to_numpy(dtype=float)
        for when, suffix in zip(WHEN, ("", "|after"), strict=True)
    }
    return Rows(
        keys[kept].reset_index(drop=True),
        batch[kept],
        np.where(part[kept], "training", "held out"),
        values,
        names,
        dropped,
    )


def _variance(rows: Rows) -> pd.DataFrame:
    """A row per part, feature and time: eta squared, chance, corrected p of mean and spread."""
    frames = []
    for part in PARTS:
        here = rows.of(part)
        if len(np.unique(rows.batch[here])) < 2:
            continue
        for when in WHEN:
            found = variance_explained(rows.values[when][here], rows.batch[here])
            frame = feature_names.parts(rows.names)
            frame.insert(0, "when", when)
            frame.insert(0, "part", part)
            frame["rows"] = int(here.sum())
            frame["eta2"], frame["chance"] = found.eta2, found.chance
            frame["p_mean"], frame["p_spread"] = found.p, found.p_spread
            frame["q_mean"] = benjamini_hochberg(found.p)
            frame["q_spread"] = benjamini_hochberg(found.p_spread)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _predict(
    name: str, settings: HarmonisationAnalysis, rows: Rows, seed: int, log: Log
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """By classifier, part and time: the mean AUC with its interval and the p of permutations."""
    names, labels = np.unique(rows.batch, return_inverse=True)
    training, held_out = rows.of("training"), rows.of("held out")
    groups = rows.keys["patient"].to_numpy(dtype=object)
    smallest = int(np.bincount(labels[training], minlength=len(names)).min())
    count = max(2, min(settings.folds, smallest))
    folds = predict.grouped_folds(
        groups[training], rows.batch[training], count, settings.repeats,
        generator(seed, "analyse", name, "folds"),
    )  # fmt: skip
    found = {}
    one_hot = np.eye(len(names))[labels]
    for number, when in enumerate(WHEN):
        x = rows.values[when]
        matrix = predict.cross_smoother(x[training], folds)
        linear = {"training": matrix @ one_hot[training]}
        forest_seed = integer_seed(seed, "analyse", name, "forest")
        options = {"trees": settings.trees, "seed": forest_seed, "classes": len(names)}
        forest = {"training": predict.cross_forest(x[training], labels[training], folds[0], **options)}
        if held_out.any():
            made = predict.prepare(x[training], x[held_out])
            linear["held out"] = predict.smoother(made.training, made.others) @ one_hot[training]
            forest["held out"] = predict.forest_scores(x[training], labels[training], x[held_out], **options)
        for classifier, scores in (("linear", linear), ("random forest", forest)):
            for part, values in scores.items():
                here = rows.of(part)
                value = predict.mean_auc(values, labels[here])
                stream = generator(seed, "analyse", name, "bootstrap", part)
                samples = np.empty(0)
                if np.isfinite(value) and settings.bootstraps:
                    samples = predict.bootstrap(
                        values, labels[here], groups[here], samples=settings.bootstraps, rng=stream
                    )
                lower, upper, used = percentiles(samples, settings.level)
                how = f"{count}-fold cross-validation" if part == "training" else "fitted on training"
                entry: dict[str, Any] = {
                    "auc": estimate(
                        value,
                        lower,
                        upper,
                        level=settings.level,
                        seed=seed,
                        n=len(set(groups[here])),
                        method=f"mean AUC of one batch against the others, {classifier} classifier, {how}; percentile "
                        f"bootstrap of patients within batches, {used} samples",
                    )
                }
                if classifier == "linear" and part == "training" and settings.permutations:
                    null = predict.permutation_null(
                        matrix, labels[training], groups[training], runs=settings.permutations,
                        rng=generator(seed, "analyse", name, "permutation"),
                    )  # fmt: skip
                    low, high, _ = percentiles(null, settings.level)
                    entry["permutation"] = {
                        "p": finite(permutation_p(value, null)),
                        "runs": settings.permutations,
                        "null": [finite(low), finite(high)],
                    }
                found[classifier, part, when] = entry
        log.progress("classifiers", number + 1, len(WHEN))
    return found


def _metrics(
    name: str,
    settings: HarmonisationAnalysis,
    rows: Rows,
    variance: pd.DataFrame,
    predicted: Mapping[tuple[str, str, str], dict[str, Any]],
    seed: int,
) -> dict[str, Any]:
    explained: dict[str, Any] = {}
    warnings = []
    for (part, when), frame in variance.groupby(["part", "when"], sort=False):
        patients = int(rows.keys.loc[rows.of(part), "patient"].nunique())
        explained.setdefault(part, {})[when] = {
            "mean": _plain(frame["eta2"].mean(), patients, "mean over features of eta squared (one-way ANOVA)"),
            "median": _plain(frame["eta2"].median(), patients, "median over features of eta squared (one-way ANOVA)"),
            "chance": _plain(frame["chance"].mean(), patients, "(batches - 1) / (rows - 1)"),
            "different_mean": int((frame["q_mean"] < 0.05).sum()),
            "different_spread": int((frame["q_spread"] < 0.05).sum()),
            "features": len(frame),
        }
    batches = {
        part: {str(b): int(n) for b, n in pd.Series(rows.batch[rows.of(part)]).value_counts().sort_index().items()}
        for part in PARTS
    }
    few = [b for b, n in batches["training"].items() if n < 10]
    if few:
        warnings.append(f"Training has fewer than 10 rows of {', '.join(few)}: their estimates are very uncertain.")
    if "held out" not in explained:
        warnings.append("No held-out patients of two batches that training has: what harmonisation does to new "
                        "patients was not measured.")  # fmt: skip
    lines = []
    for part, values in explained.items():
        a, b = (values[w]["mean"]["value"] for w in WHEN)
        lines.append(
            f"{part} patients: batches explain {100 * a:.1f} % of the variance of a feature on average before and "
            f"{100 * b:.1f} % after (by chance {100 * values['before']['chance']['value']:.1f} %)."
        )
    for classifier in ("linear", "random forest"):
        for part in PARTS:
            if (classifier, part, "before") in predicted:
                before, after = (predicted[classifier, part, w]["auc"] for w in WHEN)
                lines.append(
                    f"{part} patients: a {classifier} classifier tells the batch with AUC {in_words(before)} before "
                    f"and {in_words(after)} after."
                )
    return {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": name,
        "title": settings.title or name,
        "question": settings.question,
        "summary": lines,
        "split": settings.split,
        "batch": list(settings.batches),
        "seed": seed,
        "rows": batches,
        "features": len(rows.names),
        "features_dropped": len(rows.dropped),
        "variance_explained": explained,
        "classifiers": {
            classifier: {
                part: {w: predicted[classifier, part, w] for w in WHEN}
                for part in PARTS
                if (classifier, part, "before") in predicted
            }
            for classifier in ("linear", "random forest")
        },
        "warnings": warnings,
    }


def _fit(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the fit itself has to tell: convergence, and the fate of features by phantom scans."""
    stopped = [v["stopping_difference"] for v in record["rois"].values() if v["stopping_difference"] is not None]
    found: dict[str, Any] = {"by": record["fit"], "stopping_difference_sd": max(stopped, default=None)}
    lines = []
    if stopped:
        lines.append(
            f"Location and scale are those of full convergence; the stopping rule of neuroCombat and neuroHarmonize "
            f"would have moved a value by up to {max(stopped):.2g} SD of its feature."
        )
    phantom = record["phantom"]
    if phantom is not None:
        fates = pd.Series(phantom["features"]["fate"]).value_counts()
        found["phantom"] = {
            "subjects": phantom["subjects"],
            "retests": phantom["retests"],
            "fates": {str(fate): int(number) for fate, number in fates.sort_index().items()},
        }
        told = ", ".join(f"{fates[fate]} {fate}" for fate in FATES if fate in fates)
        lines.append(
            f"Phantom scans ({phantom['subjects']} subjects and regions in every batch, {phantom['retests']} repeats): "
            f"of {int(fates.sum())} features {told}."
        )
    return found, lines


def _plain(value: float, n: int, method: str) -> Estimate:
    return estimate(value, method=method, n=n)


def _show(
    settings: HarmonisationAnalysis,
    rows: Rows,
    variance: pd.DataFrame,
    predicted: Mapping[tuple[str, str, str], dict[str, Any]],
    metrics: Mapping[str, Any],
    record: Mapping[str, Any] | None,
    out: TableArtefacts,
) -> None:
    title = metrics["title"]
    n = "; ".join(
        f"{part}: {int(rows.keys.loc[rows.of(part), 'patient'].nunique())} patients of "
        f"{len(metrics['rows'][part])} batches"
        for part in PARTS
        if rows.of(part).any()
    )
    n += f"; {len(rows.names)} features" + (f", {len(rows.dropped)} dropped by harmonisation" if rows.dropped else "")
    percent = f"{100 * settings.level:g} %"
    aucs = pd.DataFrame(
        [
            {"classifier": c, "part": p, "when": w, **{k: entry["auc"][k] for k in ("value", "lower", "upper", "n")},
             "permutation_p": entry.get("permutation", {}).get("p"),
             "null_lower": (entry.get("permutation", {}).get("null") or [None, None])[0],
             "null_upper": (entry.get("permutation", {}).get("null") or [None, None])[1]}
            for (c, p, w), entry in predicted.items()
        ]
    )  # fmt: skip
    numeric = ["value", "lower", "upper", "permutation_p", "null_lower", "null_upper"]
    aucs[numeric] = aucs[numeric].astype(float)
    note = (
        "Training rows fitted the harmonisation, so that afterwards chance can lie below 0.5 for them; held-out "
        "rows show what it does to new patients"
    )
    figure, numbers = draw.summary(variance, aucs)
    out.figure(figure, "summary", f"{title}: differences between batches before and after",
        f"{settings.question} Left: share of features whose variance explained by the batch (eta squared) is at most "
        f"that on the axis; dotted: expected by chance. Right: AUC of classifiers that predict the batch, with "
        f"{percent} intervals (bootstrap of patients); grey: null of {settings.permutations} permutations. {note}. "
        f"{n}. {settings.caption}", numbers,
    )  # fmt: skip
    shown = (
        variance[variance["part"].eq("training") & variance["when"].eq("before")]
        .sort_values(["eta2", "feature"], ascending=[False, True], kind="stable")["feature"]
        .head(settings.show)
        .tolist()
    )
    figure, numbers = draw.distributions(rows, shown)
    out.figure(figure, "distributions", f"{title}: distributions by batch",
        f"The {len(shown)} features with the most variance explained by the batch among training patients, before and "
        f"after; boxes: quartiles, whiskers: 5th and 95th percentile; training patients filled, held-out patients "
        f"open. {n}.", numbers,
    )  # fmt: skip
    figure, numbers = draw.components(rows)
    out.figure(figure, "components", f"{title}: principal components",
        f"First two principal components of the standardised features of training patients (dots), each set by "
        f"itself; held-out patients (rings) are projected; crosses: means of training patients. {n}.", numbers,
    )  # fmt: skip
    out.table(
        variance,
        "features",
        f"{title}: every feature",
        f"Variance explained by the batch (eta squared) with what is expected by chance; p of the F test of means and "
        f"of Brown and Forsythe's test of spreads, q after Benjamini and Hochberg. {n}.",
    )
    out.table(
        aucs,
        "classifiers",
        f"{title}: prediction of the batch",
        f"Mean AUC of one batch against the others with {percent} intervals. {note}. {n}.",
    )
    if record is not None and record["phantom"] is not None:
        fates = pd.DataFrame(record["phantom"]["features"])
        limit = record["phantom"]["limit"]
        figure, numbers = draw.fates(fates, limit)
        out.figure(figure, "phantom", f"{title}: concordance of phantom scans",
            f"Concordance correlation of {record['phantom']['subjects']} phantom scans (subject and region) between "
            f"batches before and after harmonisation, a dot per feature; each subject was harmonised by the others; "
            f"dashed: {limit:g}. Features that were concordant before or not repeatable were not harmonised and are "
            f"drawn on the left and lower edge. {len(fates)} features.", numbers,
        )  # fmt: skip
        out.table(fates, "phantom", f"{title}: fate of every feature by phantom scans",
            f"Concordance correlation in test-retest, between batches before, after (every subject harmonised by the "
            f"others) and after in sample; kept are features above {limit:g}. {len(fates)} features.",
        )  # fmt: skip
    out.write()
