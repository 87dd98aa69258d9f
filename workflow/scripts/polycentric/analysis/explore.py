"""Exploration of a feature table: what it holds, how features go together, and what single tests say of an outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import feature_names, ledger, tables
from ..artefacts import TableArtefacts
from ..bootstrap import counts
from ..coding import indicators
from ..config.explore import ExplorationAnalysis
from ..errors import UserError
from ..estimates import estimate, finite, p_text, percentiles
from ..files import write_json
from ..jobs import SILENT, Log
from ..outcomes import at_horizon, horizon, horizon_rule
from ..randomness import generator
from ..tables.schemas import PATIENTS
from ..univariate import benjamini_hochberg, bonferroni, kruskal, roc, spearman, spearman_with, variance_explained
from ..words import in_words
from . import data, explore_plots
from .artefacts import sentence

PAGE = 12


@dataclass(frozen=True)
class Target:
    """What features are tested against: the class of every patient ("" where unknown), in the order of `classes`.

    Of two classes the second is the positive one.
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    unknown: int
    rule: str = ""

    @property
    def known(self) -> np.ndarray:
        return self.labels != ""


@dataclass
class Study:
    """Patients in one order with their features: x (patients, features)."""

    name: str
    settings: ExplorationAnalysis
    frame: pd.DataFrame
    x: np.ndarray
    names: list[str]
    targets: list[Target]
    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def centres(self) -> np.ndarray:
        return self.frame["centre"].to_numpy(dtype=str)


def analyse(
    name: str,
    settings: ExplorationAnalysis,
    *,
    seed: int,
    features: dict[str, Path],
    patients: Path,
    split: Path | None,
    outcome: Any,
    ledgers: list[Path],
    root: Path,
    folder: Path,
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> dict[str, Any]:
    """Describe and test every feature; write the analysis folder; return the metrics.

    Parameters
    ----------
    features
        feature tables by set, for all of `settings.features`.
    split
        the table of `settings.split`, or None.
    outcome
        the declared outcome.

    Raises
    ------
    UserError
        if a column does not exist, or no patient has features.
    """
    where = f"analyses: {name}"
    study = _study(name, settings, features, patients, split, outcome, where)
    for own, chosen in ledger.chosen(study.frame["patient"], ledgers).items():
        study.warnings.append(
            f"Features {own!r} were chosen elsewhere with the outcomes of {len(chosen)} of these patients: p values "
            "and AUCs of the same outcome are too good."
        )
    for own, what in ledger.unknown(ledgers).items():
        study.warnings.append(f"Features {own!r}: it is not known {what}; say it under chosen_on: of the feature set.")
    log.event("patients", **{k: v for k, v in study.counts.items() if isinstance(v, int)})
    results = [_test(study, target) for target in study.targets]
    log.progress("tests", 1, 3)
    correlation = spearman(study.x)
    order, clusters = explore_plots.cluster(correlation)
    log.progress("correlations", 2, 3)
    metrics, curves = _metrics(study, results, correlation, clusters, seed)
    _show(study, results, correlation, order, clusters, curves, metrics, TableArtefacts(folder, root))
    log.progress("figures", 3, 3)
    write_json(folder / "metrics.json", metrics)
    ledger.write(
        folder / "ledger.json",
        name=name,
        stage="analyse",
        split=settings.split or "",
        seen={"training": study.frame["patient"]},
        upstream=ledgers,
        settings=settings_json,
        code=code,
    )
    return metrics


def _study(
    name: str,
    settings: ExplorationAnalysis,
    features: dict[str, Path],
    patients: Path,
    split: Path | None,
    outcome: Any,
    where: str,
) -> Study:
    if settings.split is not None and split is not None:
        frame = data.cohort(patients, split, where)
        if settings.part == "training":
            frame = frame[frame["part"].eq("training")]
    else:
        frame = tables.read(patients, PATIENTS).set_index("patient", drop=False).sort_index()
    sets, counts = [], {"patients": len(frame), "sets": {}}
    for key in settings.features:
        table, counts["sets"][key] = data.features(
            features[key], frame.index, rois=settings.rois, aggregate=settings.aggregate, where=where
        )
        table = indicators(table)
        sets.append(table.add_prefix(f"{key}: ") if len(settings.features) > 1 else table)
    joined = pd.concat(sets, axis=1, join="outer").sort_index()
    frame = frame.loc[[p for p in frame.index if p in joined.index]]
    if frame.empty or not len(joined.columns):
        raise UserError(f"{where}: no patient has features in {', '.join(settings.features)}; see their status there")
    joined = joined.loc[frame.index]
    counts["without_features"] = counts["patients"] - len(frame)
    counts["used"] = len(frame)
    counts["features"] = len(joined.columns)
    study = Study(name, settings, frame, joined.to_numpy(dtype=float), list(map(str, joined.columns)), [], counts)
    study.targets = _targets(study, outcome, where)
    return study


def _targets(study: Study, outcome: Any, where: str) -> list[Target]:
    """The outcome as classes; a time-to-event outcome at every horizon."""
    settings, frame = study.settings, study.frame
    if outcome.type == "binary":
        values = data.binary(frame, outcome, where).to_numpy()
        column = outcome.column
        return [_target(settings.outcome, values, (f"{column}: other", f"{column}: {outcome.positive}"))]
    if outcome.type == "horizon":
        values, lost = horizon(frame, outcome, where)
        target = _target(settings.outcome, values.to_numpy(), ("no event", "event"))
        rule = horizon_rule(outcome, int(lost.sum()))
        return [Target(target.name, target.labels, target.classes, target.unknown, rule)]
    if outcome.type == "multiclass":
        text = data.multiclass(frame, outcome, where).fillna("").to_numpy(dtype=object)
        classes = tuple(outcome.classes or sorted({t for t in text if t}))
        labels = np.array([t if t in classes else "" for t in text], dtype=object)
        if other := int(((text != "") & (labels == "")).sum()):
            study.warnings.append(f"{other} patients have a class that is not declared; they do not count.")
        return [Target(settings.outcome, labels, classes, int((labels == "").sum()))]
    follow_up = data.survival(frame, outcome, None, where)
    made = []
    for years in settings.years:
        values = at_horizon(
            follow_up["time"].to_numpy(), follow_up["event"].to_numpy(), years * 365.25 / data.DAYS[outcome.unit],
            censored=settings.censored,
        )  # fmt: skip
        lost = int((follow_up["time"].lt(years * 365.25 / data.DAYS[outcome.unit]) & follow_up["event"].eq(0)).sum())
        rule = (
            f"{lost} patients censored before are left out"
            if settings.censored == "exclude"
            else f"{lost} patients censored before count as without event"
        )
        target = _target(f"{settings.outcome} at {years:g} year{'s' * (years != 1)}", values, ("no event", "event"))
        made.append(Target(target.name, target.labels, target.classes, target.unknown, rule))
    return made


def _target(name: str, values: np.ndarray, classes: tuple[str, str]) -> Target:
    labels = np.array(["" if math.isnan(v) else classes[int(v)] for v in values], dtype=object)
    return Target(name, labels, classes, int((labels == "").sum()))


def _test(study: Study, target: Target) -> pd.DataFrame:
    """A row per feature: test, p with corrections, AUC or effect with intervals, medians by class."""
    known = target.known
    x, labels, settings = study.x[known], target.labels[known], study.settings
    frame = feature_names.parts([n.rpartition(": ")[2] for n in study.names])
    frame["feature"] = study.names
    frame.insert(0, "outcome", target.name)
    frame["n"], frame["missing"] = np.isfinite(x).sum(axis=0), (~np.isfinite(x)).sum(axis=0)
    for kind in target.classes:
        frame[f"n {kind}"] = np.isfinite(x[labels == kind]).sum(axis=0)
        frame[f"median {kind}"] = _quantiles(x[labels == kind])[1]
    if len(target.classes) == 2:
        found = roc(x, labels == target.classes[1], level=settings.level)
        frame["test"], frame["statistic"], p = "Mann-Whitney", found.z, found.p
        frame["auc"], frame["auc_lower"], frame["auc_upper"] = found.auc, found.lower, found.upper
        frame["effect"] = 2 * np.abs(found.auc - 0.5)
    else:
        h, p, effect = kruskal(x, labels)
        frame["test"], frame["statistic"], frame["effect"] = "Kruskal-Wallis", h, effect
        for kind in target.classes:
            found = roc(x, labels == kind, level=settings.level)
            frame[f"auc {kind}"], frame[f"auc_lower {kind}"] = found.auc, found.lower
            frame[f"auc_upper {kind}"] = found.upper
    frame["p"], frame["p_bonferroni"], frame["q"] = p, bonferroni(p), benjamini_hochberg(p)
    if (volume := _volume(study)) is not None:
        frame["rho_volume"] = spearman_with(x, volume[known])
    return frame


def _volume(study: Study) -> np.ndarray | None:
    """Values of the volume feature: its column, in the first set that has it."""
    for column, name in enumerate(study.names):
        if name.rpartition(": ")[2] == study.settings.volume:
            return study.x[:, column]
    return None


def _quantiles(x: np.ndarray) -> np.ndarray:
    """Quartiles (3, features) of the known values."""
    result = np.full((3, x.shape[1]), np.nan)
    some = np.isfinite(x).any(axis=0)
    if some.any():
        result[:, some] = np.nanquantile(x[:, some], [0.25, 0.5, 0.75], axis=0)
    return result


def statistics(study: Study, clusters: np.ndarray) -> pd.DataFrame:
    """Distribution of every feature over all patients and by centre, its missing values, how far centres differ."""
    centres = sorted(set(study.centres))
    groups = {"all": np.ones(len(study.x), dtype=bool)} | {c: study.centres == c for c in centres}
    frames = []
    for group, rows in groups.items():
        part = study.x[rows]
        known = np.isfinite(part)
        n = known.sum(axis=0)
        filled = np.where(known, part, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(n > 0, filled.sum(axis=0) / n, np.nan)
            sd = np.where(n > 1, np.sqrt(np.where(known, (filled - mean) ** 2, 0).sum(axis=0) / (n - 1)), np.nan)
        q1, median, q3 = _quantiles(part)
        frames.append(
            pd.DataFrame(
                {
                    "feature": study.names, "centre": group, "n": n, "missing": len(part) - n, "mean": mean, "sd": sd,
                    "minimum": np.where(n > 0, np.where(known, part, np.inf).min(axis=0, initial=np.inf), np.nan),
                    "q1": q1, "median": median, "q3": q3,
                    "maximum": np.where(n > 0, np.where(known, part, -np.inf).max(axis=0, initial=-np.inf), np.nan),
                }
            )
        )  # fmt: skip
    frame = pd.concat(frames, ignore_index=True)
    everybody = frame["centre"].eq("all")
    found = variance_explained(study.x, study.centres)
    _, p, _ = kruskal(study.x, study.centres)
    frame.loc[everybody, "cluster"] = clusters
    frame.loc[everybody, "eta2_centre"] = found.eta2
    frame.loc[everybody, "q_centre"] = benjamini_hochberg(p)
    return frame


def precision_recall(outcome: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Recall, precision (samples, thresholds) and average precision (samples,); weights (samples, rows).

    Thresholds are the distinct scores from the highest down; average precision is the sum of precision times the step
    in recall, without interpolation.
    """
    order = np.argsort(-score, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(score[order]) != 0), len(score) - 1]
    true = np.cumsum(weights[:, order] * outcome[order], axis=1)[:, last]
    everything = np.cumsum(weights[:, order], axis=1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = true / true[:, -1:]
        precision = np.where(everything > 0, true / everything, 1.0)
    steps = np.diff(np.c_[np.zeros(len(recall)), recall], axis=1)
    return recall, precision, (steps * precision).sum(axis=1)


def _volume_curve(study: Study, target: Target, seed: int) -> dict[str, Any] | None:
    """Precision and recall of the volume alone, in the direction in which it tells the classes, with its interval."""
    volume = _volume(study)
    if volume is None or len(target.classes) != 2:
        return None
    known = target.known & np.isfinite(volume)
    y, score = target.labels[known] == target.classes[1], volume[known]
    if len(np.unique(y)) < 2 or np.ptp(score) == 0:
        return None
    settings = study.settings
    found = roc(score[:, None], y, level=settings.level)
    sign = 1.0 if found.auc[0] >= 0.5 else -1.0
    recall, precision, average = precision_recall(y, sign * score, np.ones((1, len(y))))
    rng = generator(seed, "analyse", study.name, "volume", target.name)
    weights = counts(y, settings.bootstraps, rng)
    samples = precision_recall(y, sign * score, weights)[2] if settings.bootstraps else np.empty(0)
    lower, upper, used = percentiles(samples, settings.level)
    return {
        "outcome": target.name,
        "recall": np.r_[0.0, recall[0]],
        "precision": np.r_[precision[0][:1], precision[0]],
        "prevalence": float(y.mean()),
        "larger": sign > 0,
        "average_precision": estimate(
            float(average[0]), lower, upper, level=settings.level, n=len(y), seed=seed,
            method=f"average precision; percentile bootstrap within each class, {used} samples",
        ),
        "auc": estimate(
            float(found.auc[0]), float(found.lower[0]), float(found.upper[0]), level=settings.level, n=len(y),
            method="DeLong",
        ),
    }  # fmt: skip


def _metrics(
    study: Study, results: list[pd.DataFrame], correlation: np.ndarray, clusters: np.ndarray, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    settings = study.settings
    counts = {**study.counts, "centres": {c: int((study.centres == c).sum()) for c in sorted(set(study.centres))}}
    missing = (~np.isfinite(study.x)).sum(axis=0)
    counts["features_with_missing_values"] = int((missing > 0).sum())
    counts["patients_with_missing_values"] = int((~np.isfinite(study.x)).any(axis=1).sum())
    if study.counts["without_features"]:
        study.warnings.append(f"{study.counts['without_features']} patients have no features and do not count.")
    targets, lines, curves = {}, [], []
    for target, table in zip(study.targets, results, strict=True):
        sizes = {kind: int((target.labels == kind).sum()) for kind in target.classes}
        entry: dict[str, Any] = {
            "classes": sizes,
            "unknown": target.unknown,
            "rule": target.rule,
            "test": table["test"].iloc[0],
            "features": len(table),
            "significant": {
                "uncorrected": int((table["p"] < settings.alpha).sum()),
                "benjamini_hochberg": int((table["q"] < settings.alpha).sum()),
                "bonferroni": int((table["p_bonferroni"] < settings.alpha).sum()),
            },
        }
        ordered = table.sort_values(["p", "feature"], kind="stable")
        if len(table) and np.isfinite(ordered["p"].iloc[0]):
            first = ordered.iloc[0]
            entry["strongest"] = {"feature": first["feature"], "p": finite(first["p"]), "q": finite(first["q"])}
            if len(target.classes) == 2:
                entry["strongest"]["auc"] = estimate(
                    first["auc"], first["auc_lower"], first["auc_upper"], method="DeLong; the strongest of all "
                    "features, so too good", n=int(first["n"]), level=settings.level,
                )  # fmt: skip
        if min(sizes.values(), default=0) < 10:
            study.warnings.append(f"{target.name}: the smallest class has {min(sizes.values(), default=0)} patients.")
        if (curve := _volume_curve(study, target, seed)) is not None:
            curves.append(curve)
            entry["volume"] = {
                "average_precision": curve["average_precision"],
                "auc": curve["auc"],
                "prevalence": curve["prevalence"],
            }
        targets[target.name] = entry
        found = entry["significant"]
        lines.append(
            f"{target.name} ({', '.join(f'{n} {kind}' for kind, n in sizes.items())}"
            + (f"; {target.rule}" if target.rule else "")
            + f"): {found['benjamini_hochberg']} of {len(table)} features differ at a false discovery rate of "
            f"{settings.alpha:g}, {found['bonferroni']} after Bonferroni's correction"
            + (f"; volume alone has average precision {in_words(entry['volume']['average_precision'])}, prevalence "
               f"{entry['volume']['prevalence']:.2f}" if "volume" in entry else "")
            + "."
        )  # fmt: skip
    if _volume(study) is None:
        study.warnings.append(f"No feature is called {settings.volume!r}, so nothing is set beside the volume.")
    elif results and "rho_volume" in results[0]:
        strong = int((results[0]["rho_volume"].abs() > 0.7).sum())
        counts["features_following_volume"] = strong
        lines.append(f"{strong} of {len(study.names)} features follow the volume (absolute Spearman above 0.7).")
    varies = np.isfinite(np.diag(correlation))
    counts["correlation_clusters"] = len(set(clusters[varies].tolist()))
    lines.append(
        f"{int(varies.sum())} features that vary form {counts['correlation_clusters']} clusters whose members "
        f"correlate (average linkage, absolute Spearman 0.9)."
    )
    if not varies.any():
        study.warnings.append("No features can be correlated: there are too few patients, or all values are equal.")
    upper = np.abs(correlation[np.triu_indices(len(correlation), 1)])
    counts["pairs_correlated_above_0.9"] = int((upper > 0.9).sum())
    return {
        "schema_version": 1,
        "kind": settings.kind,
        "analysis": study.name,
        "title": settings.title or study.name,
        "question": settings.question,
        "summary": lines,
        "split": settings.split or "",
        "part": settings.part if settings.split else "all",
        "outcome": settings.outcome,
        "seed": seed,
        "cohort": counts,
        "results": targets,
        "warnings": list(dict.fromkeys(study.warnings)),
    }, curves


def _show(
    study: Study,
    results: list[pd.DataFrame],
    correlation: np.ndarray,
    order: np.ndarray,
    clusters: np.ndarray,
    curves: list[dict[str, Any]],
    metrics: dict[str, Any],
    out: TableArtefacts,
) -> None:
    settings, title = study.settings, metrics["title"]
    percent = f"{100 * settings.level:g} %"
    who = f"{study.counts['used']} patients of {len(set(study.centres))} centres, {len(study.names)} features"
    for number, (target, table) in enumerate(zip(study.targets, results, strict=True)):
        sizes = ", ".join(f"{int((target.labels == kind).sum())} {kind}" for kind in target.classes)
        figure, numbers = explore_plots.associations(table, target.classes, settings.alpha)
        two = len(target.classes) == 2
        out.figure(
            figure, "summary" if not number else f"associations-{number + 1}", f"{title}: {target.name}",
            sentence(
                settings.question if not number else "",
                f"{target.name}: {sizes}; {target.rule}" if target.rule else f"{target.name}: {sizes}",
                "Left: p of the "
                + ("Mann-Whitney test against the AUC" if two else "Kruskal-Wallis test against epsilon squared")
                + f" of every feature by class; lines: Bonferroni (dashed) and Benjamini-Hochberg (dotted) at "
                f"{settings.alpha:g}",
                f"Right: the strongest features with DeLong's {percent} intervals; being the strongest of "
                f"{len(table)}, they look better than they are" if two else "Right: the strongest features",
                who, settings.caption if not number else "",
            ),
            numbers,
        )  # fmt: skip
    ranked = results[0].sort_values(["p", "feature"], kind="stable", na_position="last")["feature"].tolist()
    shown = ranked[: settings.show]
    for page, start in enumerate(range(0, len(shown), PAGE), start=1):
        names = shown[start : start + PAGE]
        columns = [study.names.index(n) for n in names]
        figure, numbers = explore_plots.distributions(
            study.x[:, columns], names, study.targets[0].labels, study.targets[0].classes, study.centres
        )
        out.figure(
            figure, f"distributions-{page}", f"{title}: distributions, page {page}",
            sentence(f"Features {start + 1} to {start + len(names)} by p of {study.targets[0].name}, by class and "
                     f"centre: quartiles, 5th and 95th percentile, median; {who}"), numbers,
        )  # fmt: skip
    central = explore_plots.representatives(correlation, order, clusters)
    if len(central):
        figure, numbers = explore_plots.heat_map(correlation, central, clusters, study.names)
        varying = int(np.isfinite(np.diag(correlation)).sum())
        what = f"the {varying} features that vary"
        if len(central) < varying:
            what = f"{len(central)} features, the most central one of every cluster of the {varying} that vary"
        out.figure(
            figure, "correlation", f"{title}: correlation of features",
            sentence(f"Spearman correlation of {what}, ordered by average linkage of 1 minus the absolute value; "
                     f"strip: class of the feature; {metrics['cohort']['correlation_clusters']} clusters at 0.9. The "
                     "CSV holds the lower half, rounded to two decimals", who),
            numbers,
        )  # fmt: skip
    if "rho_volume" in results[0]:
        figure, numbers = explore_plots.volume(results[0], curves)
        precision = "; ".join(
            f"{c['outcome']}: {'larger' if c['larger'] else 'smaller'} volumes speak for it, average precision "
            f"{in_words(c['average_precision'])}, prevalence {c['prevalence']:.2f}"
            for c in curves
        )
        out.figure(
            figure, "volume", f"{title}: volume",
            sentence(f"Left: Spearman correlation of the features with {settings.volume}. Right: precision and recall "
                     "of the volume alone; dashed: prevalence", precision, who), numbers,
        )  # fmt: skip
    if (~np.isfinite(study.x)).any():
        figure, numbers = explore_plots.missing(study.x, study.names, study.centres)
        out.figure(
            figure, "missing", f"{title}: missing values",
            sentence("Share of patients of each centre without a value, for the features that lack most",
                     f"{metrics['cohort']['features_with_missing_values']} features lack values in "
                     f"{metrics['cohort']['patients_with_missing_values']} patients", who), numbers,
        )  # fmt: skip
    table = pd.concat(results, ignore_index=True)
    out.table(
        table, "features", f"{title}: every feature",
        sentence("Single tests with the two-sided p, Bonferroni's p and the false discovery rate q of Benjamini and "
                 f"Hochberg over all features of an outcome; AUC with DeLong's {percent} interval (above 0.5: higher "
                 "values in the positive class, of several classes one against the rest); Spearman correlation with "
                 "the volume", *(f"{t.name}: {t.rule}" for t in study.targets if t.rule), who),
    )  # fmt: skip
    out.table(
        statistics(study, clusters), "statistics", f"{title}: distributions",
        sentence("Every feature over all patients and by centre; eta squared: variance explained by the centre; "
                 "cluster: features that correlate; q: Kruskal-Wallis test between centres after Benjamini and "
                 "Hochberg", who),
    )  # fmt: skip
    top = table.sort_values(["p", "feature"], kind="stable").head(20)
    keep = [
        "outcome",
        "feature",
        "n",
        "auc",
        "auc_lower",
        "auc_upper",
        "effect",
        "p",
        "p_bonferroni",
        "q",
        "rho_volume",
    ]
    strongest = top[[c for c in keep if c in top.columns]].copy()
    for column in ("p", "p_bonferroni", "q"):
        strongest[column] = strongest[column].map(p_text)
    out.table(strongest, "strongest", f"{title}: strongest features", sentence("The 20 smallest p values", who))
    out.write()
