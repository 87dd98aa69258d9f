"""Assignment of patients by hash rank within strata."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pandas as pd

from .. import tables
from ..config.splits import Split
from ..errors import UserError
from ..jobs import SILENT, Log
from ..outcomes import horizon
from ..tables.schemas import FEATURES, PATIENTS, SPLIT
from ..where import holds

LEVELS = 12  # a stratifying column with more values is a measurement, not a group


def assign(
    name: str,
    settings: Split,
    *,
    seed: int,
    patients: Path,
    outcomes: Mapping[str, Any],
    parent: Path | None = None,
    members: Set[str] | None = None,
    output: Path,
    log: Log = SILENT,
) -> pd.DataFrame:
    """Write the split `name` (schema SPLIT, one row per patient, sorted by patient) and return it.

    Every patient has a hash of (seed, split, patient). In a stratum of n patients, those of the lowest ranks are the
    test part: floor(test * n + v) of them, where v in [0, 1) is a hash of (seed, split, stratum); the next ones up to
    floor((test + validation) * n + v) are the validation part, the rest trains. What this guarantees:

    - Each part of each stratum differs from its exact share by less than one patient; shares that are whole numbers
      are met exactly; over many small strata the shares are right on average, since v is uniform.
    - A patient who is added (or removed) moves nobody in another stratum, and in the own stratum at most one other
      patient across each of the two borders (test | validation | training): the one who stood next to the border.
      A threshold on the hash would move nobody at all, but would leave the size of every part to chance.
    - The order of rows, the number of shards and other splits have no influence.

    A patient's stratum comes from the patient's own values only: `centre`, a binary or multi-class outcome's value, a
    time-to-event outcome's event, whether a horizon outcome happened, a column of the clinical table with at most 12
    values. A missing value is a stratum.

    Parameters
    ----------
    patients
        table of all patients, schema PATIENTS with the clinical columns.
    outcomes
        declared outcomes by name.
    parent
        split table named by `settings.within`.
    members
        patients of the imported feature set that `settings.of` names.

    Raises
    ------
    UserError
        if no patient is left, a stratifying column is unusable, or a given table contradicts the cohort.
    """
    where = f"splits: {name}"
    frame = tables.read(patients, PATIENTS).set_index("patient", drop=False).sort_index()
    frame = frame[_population(frame, settings, members, where)]
    above: pd.Series | None = None
    if settings.parent is not None:
        if parent is None:
            raise ValueError(f"{where}: the table of split {settings.parent[0]!r} is needed")
        above = tables.read(parent, SPLIT).set_index("patient")["part"]
        frame = frame[frame.index.isin(above.index[above.isin([settings.parent[1], "external"])])]
    if settings.where is not None:
        frame = frame[holds(settings.where, frame, where=where)]
    if frame.empty:
        raise UserError(
            f"{where}: no patient is left after of: {settings.of}, within: {settings.within}, where: "
            f"{settings.where}. Widen these, or look at the participant flow for what curation excluded."
        )
    external = frame["role"].eq("external")
    if above is not None:
        external |= above.reindex(frame.index).eq("external")
    if settings.table is not None:
        parts = _given(Path(settings.table), external, where, log)
        strata = pd.Series("given", index=parts.index)
        frame = frame.loc[parts.index]
    else:
        strata = _strata(frame, settings.stratify, outcomes, where).mask(external, "external")
        parts = _ranked(strata[~external], settings, f"{seed}\x1f{name}").reindex(frame.index).fillna("external")
    table = pd.DataFrame({"centre": frame["centre"], "patient": frame.index, "part": parts, "stratum": strata})
    counts = {part: int((table["part"] == part).sum()) for part in tables.PARTS}
    log.event("split", split=name, **counts)
    for part, wanted in (("training", 1.0), ("test", settings.test), ("validation", settings.validation)):
        if wanted and not counts[part]:
            log.event("warning", split=name, text=f"no patient in the {part} part")
    return tables.write(table.reset_index(drop=True).sort_values("patient"), output, SPLIT)


def members_of(features: Path) -> set[str]:
    """Patients of a feature table (schema FEATURES)."""
    frame = tables.read(features, FEATURES)
    return set(frame.loc[frame["status"] == "ok", "patient"])


def _population(frame: pd.DataFrame, settings: Split, members: Set[str] | None, where: str) -> pd.Series:
    if settings.of == "scans":
        return frame["scans"] > 0
    if settings.of == "clinical":
        return frame["clinical"].fillna(False).astype(bool)
    if members is None:
        raise UserError(f"{where}: of: {settings.of!r} is not scans, clinical or the name of an imported feature set.")
    return frame["patient"].isin(members)


def _strata(frame: pd.DataFrame, keys: tuple[str, ...], outcomes: Mapping[str, Any], where: str) -> pd.Series:
    problems, labels = [], []
    for key in keys:
        outcome = outcomes.get(key)
        if outcome is not None and outcome.type == "horizon":
            made = horizon(frame, outcome, where)[0].map({1.0: "event", 0.0: "no event"}).fillna("missing")
            labels.append(key + "=" + made)
            continue
        column = key if outcome is None else outcome.event if outcome.type == "time-to-event" else outcome.column
        if column not in frame.columns:
            problems.append(
                f"{where}: stratify: there is no outcome or column {key!r}; write one of {sorted(outcomes)} or of the "
                f"columns {[c for c in frame.columns if c != 'patient']}."
            )
            continue
        values = frame[column].map(_text)
        if values.nunique() > LEVELS and key != "centre":
            problems.append(
                f"{where}: stratify: column {column!r} has {values.nunique()} different values; write a column with at "
                f"most {LEVELS} (for a measurement, make a column of groups in the clinical table)."
            )
        labels.append(key + "=" + values)
    if problems:
        raise UserError(*problems)
    result = pd.Series("all", index=frame.index) if not labels else labels[0]
    for label in labels[1:]:
        result = result + " " + label
    return result


def _text(value: Any) -> str:
    """The value as text, the same whether pandas read a column as integers or, with gaps, as floats."""
    if pd.isna(value):
        return "missing"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _ranked(strata: pd.Series, settings: Split, key: str) -> pd.Series:
    parts = pd.Series("training", index=strata.index, dtype="object")
    for stratum, group in strata.groupby(strata, sort=True):
        order = sorted(group.index, key=lambda patient: (_hash(f"{key}\x1fpatient\x1f{patient}"), patient))
        offset = _hash(f"{key}\x1fstratum\x1f{stratum}") / 2**64
        # the small term keeps products such as 0.1 * 30 from falling below the whole number that they are
        test = math.floor(settings.test * len(order) + offset + 1e-9)
        both = math.floor((settings.test + settings.validation) * len(order) + offset + 1e-9)
        parts[order[:test]] = "test"
        parts[order[test:both]] = "validation"
    return parts


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _given(path: Path, external: pd.Series, where: str, log: Log) -> pd.Series:
    """Parts of a table that the study gives, checked against the patients and who of them is external."""
    if not path.exists():
        raise UserError(f"{where}: table: {path} is not there; write the path of a TSV or CSV from the project folder.")
    separator = "," if path.suffix == ".csv" else "\t"
    given = pd.read_csv(path, sep=separator, dtype="string", comment="#")
    if missing := {"patient", "part"} - set(given.columns):
        raise UserError(f"{where}: {path} has no column {sorted(missing)}; it needs the columns patient and part.")
    problems = []
    if wrong := sorted(set(given["part"].fillna("")) - set(tables.PARTS)):
        problems.append(f"{where}: {path} has the parts {wrong}; write one of {list(tables.PARTS)}.")
    if given["patient"].isna().any() or given["patient"].duplicated().any():
        problems.append(f"{where}: {path} has empty or repeated patients; write every patient once.")
    parts = given.set_index("patient")["part"].astype("object")
    outside = int((~parts.index.isin(external.index)).sum())
    parts = parts[parts.index.isin(external.index)].sort_index()
    misplaced = int((external.reindex(parts.index) & parts.ne("external")).sum())
    if misplaced:
        problems.append(
            f"{where}: {path} gives {misplaced} patients of external centres a part other than external; write "
            "external, or change the role of the centre."
        )
    if parts.empty:
        problems.append(f"{where}: {path} names no patient of this cohort; it must hold pseudonyms, not original ids.")
    if problems:
        raise UserError(*problems)
    log.event("table", file=path.name, ignored=outside, left_out=len(external) - len(parts))
    return parts
