"""From feature tables to repeated measurements: (subjects, repeats, features)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..config.perturb import UNPERTURBED
from ..config.stability import Design
from ..errors import UserError
from ..feature_names import columns
from ..where import holds

FEW = 3


@dataclass(frozen=True)
class Repeats:
    """`values` (subjects, repeats, features), NaN where missing; `subjects` says who, `levels` which repeats."""

    values: np.ndarray
    subjects: pd.DataFrame
    levels: list[str]
    features: list[str]
    counts: dict[str, int]


def repeats(
    design: Design, sets: Mapping[str, pd.DataFrame], scans: pd.DataFrame | None, patients: set[str] | None, where: str
) -> Repeats:
    """The repeated measurements of a design.

    A subject is a region of a scan or of a patient. Subjects that lack a repeat, or have several rows for one, are
    counted and left out; single values that are missing stay NaN. `patients` limits the rows; None: all.

    Raises
    ------
    UserError
        if a column does not exist, or fewer than three subjects have all repeats.
    """
    frame = pd.concat([sets[name] for name in design.features], ignore_index=True)
    shared = set.intersection(*({*columns(sets[name])} for name in design.features))
    features = sorted(shared)
    everything = {c for name in design.features for c in columns(sets[name])}
    lost = frame["status"].ne("ok")
    if design.repeat == "perturbation" and design.levels is not None:
        lost &= frame["perturbation"].replace("", UNPERTURBED).isin(design.levels)
    failed = int(lost.sum())
    frame = frame[frame["status"].eq("ok")].reset_index(drop=True)
    if patients is not None:
        frame = frame[frame["patient"].isin(patients)].reset_index(drop=True)
    if design.rois is not None:
        frame = frame[frame["roi"].isin(design.rois)].reset_index(drop=True)
    facts = _facts(frame, scans)
    if design.where is not None:
        kept = holds(design.where, facts, where=f"{where}.where").to_numpy()
        frame, facts = frame[kept].reset_index(drop=True), facts[kept].reset_index(drop=True)
    level = _levels(design, facts, where)
    key = ["centre", "patient", *(["scan"] if design.unit == "scan" else []), "roi"]
    frame = frame.assign(**{"|level": level.to_numpy()})
    frame = frame[frame["|level"].ne("")]
    if design.levels is not None:
        if absent := sorted(set(design.levels) - set(frame["|level"])):
            raise UserError(
                f"{where}.levels: no row has {absent[0]!r}; write some of {', '.join(sorted(set(frame['|level'])))}"
            )
        frame = frame[frame["|level"].isin(design.levels)]
    levels = sorted(set(frame["|level"]), key=lambda v: (len(v), v) if v.isdigit() else (0, v))
    subjects = frame[key].drop_duplicates().sort_values(key, kind="stable", ignore_index=True)
    doubled = frame[frame.duplicated([*key, "|level"], keep=False)][key].drop_duplicates()
    single = frame.merge(doubled.assign(**{"|doubled": True}), on=key, how="left")
    single = single[single["|doubled"].isna()]
    sizes = single.groupby(key, sort=True)["|level"].nunique()
    complete = sizes[sizes.eq(len(levels))].index.to_frame(index=False)
    counts = {
        "subjects": len(complete),
        "patients": int(complete["patient"].nunique()) if len(complete) else 0,
        "incomplete": len(subjects) - len(complete) - len(doubled),
        "ambiguous": len(doubled),
        "repeats": len(levels),
        "rows_not_ok": failed,
        "features": len(features),
        "features_not_in_all_sets": len(everything) - len(features),
    }
    if len(levels) < 2 or len(complete) < FEW:
        found = ", ".join(f"{v} ({n} rows)" for v, n in frame["|level"].value_counts().sort_index().items()) or "none"
        raise UserError(
            f"{where}: {len(complete)} subjects ({design.unit} and region) have every repeat of {design.repeat!r}, at "
            f"least {FEW} are needed. Repeats: {found}; {counts['incomplete']} subjects lack one, "
            f"{counts['ambiguous']} have several rows for one. Write `levels`, `where` or `rois` to choose among them."
        )
    order = single.merge(complete, on=key).sort_values([*key], kind="stable")
    order["|level"] = pd.Categorical(order["|level"], levels)
    order = order.sort_values([*key, "|level"], kind="stable")
    values = order[features].to_numpy(dtype=float).reshape(len(complete), len(levels), len(features))
    values = np.where(np.isfinite(values), values, np.nan)
    return Repeats(values, complete.sort_values(key, kind="stable", ignore_index=True), levels, features, counts)


def _facts(frame: pd.DataFrame, scans: pd.DataFrame | None) -> pd.DataFrame:
    """What is known of every row: its keys and the columns of its scan."""
    keys = [c for c in frame.columns if c in ("centre", "patient", "session", "scan", "set", "source", "view", "roi",
                                              "perturbation")]  # fmt: skip
    facts = frame[keys].copy()
    if scans is None:
        return facts
    table = scans.drop_duplicates("scan").set_index("scan")
    for name in table.columns:
        if name not in facts.columns:
            facts[name] = facts["scan"].map(table[name])
    return facts


def _levels(design: Design, facts: pd.DataFrame, where: str) -> pd.Series:
    """Which repeat each row is, as text; empty where its scan does not tell.

    Sessions and scans have no names in common between patients: they are numbered within each, in the order of the
    visit where it is known.
    """
    if design.repeat in ("session", "scan"):
        visit = "timepoint" if "timepoint" in facts.columns else None
        order = facts[["patient", design.repeat]].assign(visit=facts[visit] if visit else 0).fillna({"visit": 0})
        order = order.drop_duplicates(["patient", design.repeat]).sort_values(
            ["patient", "visit", design.repeat], kind="stable"
        )
        order["number"] = order.groupby("patient", sort=False).cumcount() + 1
        numbers = order.set_index(["patient", design.repeat])["number"]
        index = pd.MultiIndex.from_frame(facts[["patient", design.repeat]])
        return numbers.reindex(index).astype(int).astype(str).reset_index(drop=True)
    if design.repeat not in facts.columns:
        raise UserError(
            f"{where}.repeat: neither the features nor the scans have a column {design.repeat!r}; write one of "
            f"source, set, session, scan, {', '.join(c for c in facts.columns if c not in ('centre', 'patient'))}"
        )
    values = facts[design.repeat]
    if design.repeat == "perturbation":
        return values.fillna("").replace("", UNPERTURBED).astype(str).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values):
        return values.map(lambda v: "" if pd.isna(v) else f"{v:g}").astype(str).reset_index(drop=True)
    return values.astype("string").fillna("").astype(str).reset_index(drop=True)
