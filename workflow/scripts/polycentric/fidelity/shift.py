"""Analysis `feature-shift`: how far features change when an image passes a synthesis model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import ledger, tables
from ..artefacts import Artefacts
from ..bootstrap import estimate
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..training import cohort
from ..words import in_words

if TYPE_CHECKING:
    from ..config.synthesis_analyses import FeatureShift

KEY = ["centre", "patient", "session", "scan", "source", "roi"]


def percentage_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """100 (after - before) / |before|; 0 where nothing changed, NaN where only `before` is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 100 * (after - before) / np.abs(before)
    return np.where(after == before, 0.0, np.where(before == 0, np.nan, change))


def concordance(before: np.ndarray, after: np.ndarray) -> float:
    """Concordance correlation coefficient (Lin 1989, equation 3; moments with n); NaN for constant equal values."""
    spread = before.var() + after.var() + (before.mean() - after.mean()) ** 2
    covariance = ((before - before.mean()) * (after - after.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else float("nan")


def shift(
    name: str,
    settings: FeatureShift,
    *,
    before: Path,
    after: Path,
    scans: Path,
    patients: Path,
    split: Path,
    split_name: str,
    ledgers: Sequence[Path],
    seed: int,
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Compare two feature sets of the same scans and regions, of patients that the model has not seen.

    Raises
    ------
    UserError
        when a model behind the features has seen a patient, or nothing is shared.
    """
    where = f"analyses: {name}"
    parts = tables.read(split, schemas.SPLIT)
    unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
    everyone = cohort.cohort(scans, patients)
    chosen = cohort.select(everyone[everyone["patient"].isin(unseen)], settings.where, where)
    one, other = (_read(p, set(chosen["scan"])) for p in (before, after))
    ledger.refuse_leaks({*one["patient"], *other["patient"]}, list(ledgers), where=where)
    features = [c for c in one.columns if c in other.columns and c not in {*schemas.FEATURES.columns, *KEY}]
    both = one.merge(other, on=KEY, suffixes=("", " after"), validate="one_to_one").sort_values(KEY)
    if both.empty or not features:
        raise UserError(
            f"{where}: the sets {settings.before!r} and {settings.after!r} share {len(both)} regions of unseen "
            f"patients and {len(features)} features; write sets of one recipe and one mask source, or other `parts`."
        )
    people = sorted(both["patient"].unique())
    rows_of = {p: np.flatnonzero(both["patient"].to_numpy() == p) for p in people}
    rows: list[dict[str, Any]] = []
    changes: list[np.ndarray] = []
    for number, feature in enumerate(features, start=1):
        values = both[[feature, f"{feature} after"]].to_numpy(dtype=float)
        good = np.isfinite(values).all(axis=1)
        a, b = values.T
        change = np.where(good, percentage_change(a, b), np.nan)
        changes.append(change)

        def agreement(i: np.ndarray, a: np.ndarray = a, b: np.ndarray = b, good: np.ndarray = good) -> float:
            own = np.concatenate([rows_of[people[k]] for k in i])
            own = own[good[own]]
            return concordance(a[own], b[own]) if len(own) > 2 else np.nan

        facts = estimate(
            agreement, (len(people),), stream(seed, "feature-shift", name, feature), resamples=settings.bootstrap,
            seed=seed, method="concordance correlation coefficient",
        )  # fmt: skip
        seen = np.abs(change[np.isfinite(change)])
        rows.append(
            {"feature": feature, "n": int(good.sum())}
            | {"median_change_percent": _quantile(change, 0.5), "median_absolute_change_percent": _quantile(seen, 0.5)}
            | {"upper_quartile_percent": _quantile(seen, 0.75), "largest_percent": _quantile(seen, 1.0)}
            | {"kept_percent_of_values": float(100 * (seen <= settings.kept_percent).mean()) if seen.size else np.nan}
            | {"ccc": facts["value"], "ccc_lower": facts["lower"], "ccc_upper": facts["upper"]}
        )
        if number % 100 == 0 or number == len(features):
            log.progress("features", number, len(features))
    table = pd.DataFrame(rows)
    everything = np.array(changes)
    kept = _kept(everything, rows_of, people, settings, stream(seed, "feature-shift", name, "kept"), seed)
    concordant = int((table["ccc"].astype(float) > 0.9).sum())
    counts = {"patients": len(people), "scans": int(both["scan"].nunique()), "regions": len(both)}
    counts["features"] = len(features)
    out = Artefacts(folder, root)
    _figure(out, table, everything, settings, counts)
    out.table(
        table, "tables/features.csv", "Change by feature",
        "Change in percent of the value before the model, and concordance of before and after with 95 % interval "
        f"(bootstrap of patients), {counts['regions']} regions of {counts['patients']} unseen patients.",
    )  # fmt: skip
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "synthesis": settings.synthesis,
            "summary": [
                f"{in_words(kept, digits=0)} % of the feature values change by at most {settings.kept_percent:g} %.",
                f"{concordant} of {len(features)} features have a concordance correlation above 0.9.",
            ],
            "parts": list(settings.parts),
            "features": [settings.before, settings.after],
            "n": counts,
            "kept": kept,
            "features_with_ccc_above_0.9": concordant,
        },
    )
    out.write()
    ledger.write(
        folder / "ledger.json", name=name, stage=settings.kind, split=split_name, seen={}, upstream=ledgers,
        settings=settings_json, code=code,
    )  # fmt: skip


def _read(path: Path, scans: set[str]) -> pd.DataFrame:
    frame = tables.read(path, schemas.FEATURES)
    return frame[(frame["status"] == "ok") & frame["scan"].isin(scans)]


def _quantile(values: np.ndarray, q: float) -> float:
    found = values[np.isfinite(values)]
    return float(np.quantile(found, q)) if found.size else float("nan")


def _kept(
    changes: np.ndarray, rows_of: dict[str, np.ndarray], people: list[str], settings: FeatureShift,
    rng: np.random.Generator, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Share of all values (%) that change by at most `kept_percent`; patients resampled."""
    good = np.isfinite(changes)
    within = good & (np.abs(np.where(good, changes, 0)) <= settings.kept_percent)
    per = np.array([[within[:, rows_of[p]].sum(), good[:, rows_of[p]].sum()] for p in people], dtype=float)

    def share(i: np.ndarray) -> float:
        kept, total = per[i].sum(axis=0)
        return 100 * kept / total if total else np.nan

    text = f"share of values, in percent, that change by at most {settings.kept_percent:g} %"
    return estimate(share, (len(people),), rng, resamples=settings.bootstrap, seed=seed, method=text)


def _figure(
    out: Artefacts, table: pd.DataFrame, changes: np.ndarray, settings: FeatureShift, counts: dict[str, int]
) -> None:
    from .. import figures

    seen = np.abs(changes[np.isfinite(changes)])
    edges = np.linspace(0, settings.shown_percent, 51)
    beyond = int((seen > settings.shown_percent).sum())
    found, _ = np.histogram(np.minimum(seen, settings.shown_percent), bins=edges)
    frame = pd.DataFrame({"from_percent": edges[:-1], "to_percent": edges[1:], "values": found})
    data = out.csv(frame, "tables/histogram.csv")
    fig, (left, right) = figures.new(width_mm=180, height_mm=70, columns=2)
    left.bar(edges[:-1], found, np.diff(edges), align="edge", color=figures.COLOURS[0])
    left.set_yscale("symlog", linthresh=1)
    left.set_xlim(0, settings.shown_percent)
    left.set_xlabel("absolute change of a feature value, %")
    left.set_ylabel("values")
    ordered = np.sort(table["ccc"].dropna().astype(float).to_numpy())
    right.plot(np.arange(1, len(ordered) + 1), ordered, "o", markersize=2.5, color=figures.COLOURS[1])
    right.axhline(0.9, color="#555555", linewidth=0.8, linestyle="--")
    right.set_ylim(min(-0.05, ordered.min() if ordered.size else 0), 1.02)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set_xlabel("features, by concordance")
    right.set_ylabel("concordance correlation, before and after")
    path = out.folder / "figures" / "summary.svg"
    figures.save(fig, path)
    out.add(
        "figure", path, "Change of features",
        f"{counts['features']} features in {counts['regions']} regions of {counts['patients']} patients that the model "
        f"has not seen. Left: absolute change in percent of the value before; {beyond} of {len(seen)} values lie "
        f"beyond {settings.shown_percent:g} % and stand in the last bin. Right: concordance by feature; dashed: 0.9.",
        data,
    )  # fmt: skip
