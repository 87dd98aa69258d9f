"""Merge the centres: scans, patients, participant flow, shards."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import tables
from ..config.clinical import AtHorizon, ClinicalSettings
from ..config.curation import Limits
from ..errors import UserError
from ..jobs import Log
from ..shards import shard_name, shard_of
from ..tables.private import FILES, PSEUDONYMS
from ..tables.schemas import ACCEPTED, CURATION, FLOW, PATIENTS, SHARD
from .clinical import read_clinical
from .flow import STRUCTURES, flow_rows
from .link import link

WITHDRAWN, EXCLUDED = "WITHDRAWN", "EXCLUDED"


@dataclass(frozen=True)
class CentreFacts:
    """What the study file says about a centre: its role (development or external) and its number of shards."""

    role: str
    shards: int


def assemble(
    curation: Sequence[Path],
    files: Sequence[Path],
    *,
    centres: Mapping[str, CentreFacts],
    clinical: Path | None,
    clinical_settings: ClinicalSettings | None,
    salt: bytes,
    accepted_out: Path,
    patients: Path,
    flow: Path,
    curation_out: Path,
    shards: Mapping[str, Path],
    private_shards: Mapping[str, Path],
    pseudonyms: Path,
    log: Log,
    limits: Limits | None = None,
    withdrawn: Collection[str] = (),
    excluded: Mapping[str, str] | None = None,
) -> None:
    """Write the cohort of all centres.

    Parameters
    ----------
    curation, files
        Tables of the centres (schemas `CURATION` and `FILES`).
    clinical, clinical_settings
        The clinical table, or None.
    accepted_out, patients, flow, curation_out
        Outputs: accepted scans; every patient of the images or of the clinical table, with its declared columns; the
        participant flow; all candidates.
    shards, private_shards
        Outputs by shard name: the scans of the shard, and their files.
    pseudonyms
        Private output: original identifiers beside pseudonyms of patients, sessions and scans.
    limits
        When the study must not go on.
    withdrawn
        Pseudonyms of patients who withdrew their consent: their scans are excluded, their clinical data left out.
    excluded
        Scans that a person left out, with the reason.

    Raises
    ------
    UserError
        for all problems of the clinical table, for pseudonyms that meet, and if a centre is below the limits.
    """
    limits = limits or Limits()
    every = tables.read_all(list(curation), CURATION).sort_values(["centre", "patient", "session", "scan"])
    every = _without_excluded(_without_withdrawn(every, withdrawn), excluded or {})
    used = tables.read_all(list(files), FILES)
    identities = originals(used)
    _refuse_collisions(identities)
    accepted = every[every["verdict"] != "reject"].copy()
    accepted["role"] = pd.Series([centres[c].role for c in accepted["centre"]], index=accepted.index, dtype="object")
    accepted["shard"] = pd.Series(
        [shard_name(r.centre, shard_of(r.patient, centres[r.centre].shards)) for r in accepted.itertuples()],
        index=accepted.index,
        dtype="object",
    )
    people = identities[identities["kind"] == "patient"]
    people = people.rename(columns={"pseudonym": "patient", "original": "patient_id"}).drop(columns="kind")
    people["clinical"] = False
    if clinical_settings is not None and clinical is not None:
        table = read_clinical(clinical, clinical_settings, centres=list(centres))
        scanned = len(people)
        people = link(table, people, clinical_settings, salt=salt, where=clinical.name)
        log.event("clinical", rows=len(table), without_images=len(people) - scanned)
    _refuse_unknown(withdrawn, people["patient"])
    people = people[~people["patient"].isin(list(withdrawn))].copy()
    people["scans"] = people["patient"].map(accepted["patient"].value_counts()).fillna(0).astype(int)
    people["role"] = [centres[c].role for c in people["centre"]]
    people = people.sort_values(["centre", "patient"])
    named = people[["centre", "patient_id", "patient"]].set_axis(["centre", "original", "pseudonym"], axis=1)
    identities = pd.concat([identities, named.assign(kind="patient")]).drop_duplicates()
    _refuse_collisions(identities)

    tables.write(every, curation_out, CURATION)
    tables.write(accepted[list(ACCEPTED.columns)], accepted_out, ACCEPTED)
    tables.write(people.drop(columns="patient_id"), patients, PATIENTS)
    horizons = _horizons(clinical_settings if clinical is not None else None)
    tables.write(flow_rows(every, used, people, list(centres), horizons), flow, FLOW)
    working = used[used["use"].isin(["slice", "structure"])]
    for name, path in shards.items():
        own = accepted[accepted["shard"] == name]
        tables.write(own[list(SHARD.columns)], path, SHARD)
        tables.write(working[working["scan"].isin(set(own["scan"]))], private_shards[name], FILES)
    tables.write(identities.sort_values(["kind", "centre", "pseudonym"]), pseudonyms, PSEUDONYMS)
    log.event("cohort", candidates=len(every), scans=len(accepted), patients=len(people))
    _check_limits(every, centres, limits)


def _horizons(settings: ClinicalSettings | None) -> dict[str, AtHorizon]:
    if settings is None:
        return {}
    resolved = {name: settings.resolved(name) for name in settings.outcomes}
    return {name: outcome for name, outcome in resolved.items() if isinstance(outcome, AtHorizon)}


def _without_withdrawn(every: pd.DataFrame, withdrawn: Collection[str]) -> pd.DataFrame:
    """All candidates, those of patients who withdrew rejected: they stay rows, so that the flow adds up."""
    gone = every["patient"].isin(list(withdrawn))
    facts = {"verdict": "reject", "codes": WITHDRAWN, "excluded": WITHDRAWN, "reason": "consent withdrawn"}
    return every.assign(**{name: every[name].mask(gone, value) for name, value in facts.items()})


def _without_excluded(every: pd.DataFrame, excluded: Mapping[str, str]) -> pd.DataFrame:
    """All candidates, those that a person left out rejected with that person's reason."""
    if unknown := sorted(set(excluded) - set(every["scan"])):
        raise UserError(
            f"exclude: {', '.join(unknown)}: no such scan in this study. Write scan pseudonyms as in curation.parquet."
        )
    chosen = every["scan"].isin(list(excluded)) & (every["verdict"] != "reject")
    reasons = EXCLUDED + ": " + every["scan"].map(excluded).fillna("")
    facts = {"verdict": "reject", "codes": EXCLUDED, "excluded": EXCLUDED, "reason": reasons}
    return every.assign(**{name: every[name].mask(chosen, value) for name, value in facts.items()})


def _refuse_unknown(withdrawn: Collection[str], patients: pd.Series) -> None:
    if unknown := sorted(set(withdrawn) - set(patients)):
        raise UserError(
            f"withdraw: {', '.join(unknown)}: no such patient in this study. Write pseudonyms; "
            "pseudonyms.tsv in the private folder has them beside the original identifiers."
        )


def originals(used: pd.DataFrame) -> pd.DataFrame:
    """Original identifiers beside pseudonyms, by kind. Scans of nobody or of several people name no patient."""
    of_scans = used[used["scan"] != ""]
    whose = of_scans.groupby("scan")["patient_id"].nunique()
    clear = of_scans["scan"].isin(whose.index[whose == 1]) & (of_scans["patient_id"] != "")
    parts = []
    for kind, column, rows in (
        ("patient", "patient_id", of_scans[clear]),
        ("session", "study_uid", of_scans),
        ("scan", "series_uid", of_scans[~of_scans["use"].str.startswith("structure")]),
    ):
        part = rows[["centre", column, kind]].set_axis(["centre", "original", "pseudonym"], axis=1)
        key = ["centre", "pseudonym"] if kind != "patient" else ["centre", "original", "pseudonym"]
        parts.append(part.sort_values(["centre", "original"]).drop_duplicates(key).assign(kind=kind))
    return pd.concat(parts, ignore_index=True)


def _refuse_collisions(identities: pd.DataFrame) -> None:
    twice = identities[identities.duplicated(["kind", "pseudonym"])]
    if len(twice):
        raise UserError(
            f"{len(twice)} pseudonyms stand for two identifiers each (first: {twice['pseudonym'].iloc[0]}). This "
            "happens once in millions of studies: remove the file 'salt' in the private folder to get other pseudonyms."
        )


def _check_limits(every: pd.DataFrame, centres: Mapping[str, CentreFacts], limits: Limits) -> None:
    problems = []
    for centre in centres:
        aside = (every["excluded"] == "MODALITY_WRONG") | every["modality"].isin(STRUCTURES)
        own = every[(every["centre"] == centre) & ~aside]
        rejected = own[own["verdict"] == "reject"]["excluded"].value_counts()
        count = len(own) - int(rejected.sum())
        needed = max(limits.accepted_scans, math.ceil(limits.accepted_share * len(own)))
        if count < needed:
            why = ", ".join(f"{code} {n}" for code, n in sorted(rejected.items())) or "no candidates"
            problems.append(
                f"centres.{centre}: {count} of {len(own)} candidate scans are accepted, at least {needed} are wanted "
                f"(curation.limits). Rejected: {why}. Correct the images, or change the ranges, verdicts or limits "
                "under curation."
            )
    if problems:
        raise UserError(*problems)
