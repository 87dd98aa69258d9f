"""Establish the final facts of every scan: what tags, descriptions, images and people say, joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import tables
from ..config.codes import Verdict
from ..config.examine import EstablishSettings
from ..jobs import Log
from ..tables.schemas import ACCEPTED, DUPLICATES, EXAMINED, FLOW, REVIEW, SCANS, VOLUMES
from . import evidence
from .duplicates import find_duplicates, refuse
from .flow import with_conversion
from .review import Answers, read_answers

_SEEN = (
    "contrast_image", "contrast_image_confidence", "blood_hu", "noise_hu", "covers_thorax", "body_part_image",
)  # fmt: skip


def establish(
    accepted: Path,
    examined: Sequence[Path],
    volumes: Sequence[Path],
    *,
    flow: Path,
    review_table: Path | None,
    settings: EstablishSettings,
    duplicates_verdict: Verdict,
    scans: Path,
    review: Path,
    duplicates: Path,
    flow_out: Path,
    log: Log,
) -> None:
    """Write the final table of scans.

    Parameters
    ----------
    accepted
        Scans as curation accepted them (schema `ACCEPTED`).
    examined, volumes
        Manifests of all shards (schemas `EXAMINED`, `VOLUMES`).
    flow, flow_out
        Participant flow of curation, and with what conversion could not do (schema `FLOW`).
    review_table
        `review` of an earlier run with answers filled in, or None. An answer overrides all other evidence.
    duplicates_verdict
        What becomes of STUDY_DUPLICATE_PATIENT: reject stops the study, flag does not.
    scans, review, duplicates
        Outputs (schemas `SCANS`, `REVIEW`, `DUPLICATES`): every accepted scan, also those without a volume; the
        questions that no answer has settled yet; scans with identical pixels.

    Raises
    ------
    UserError
        for all problems of the filled table, and for identical pixels under several patients if that is to be rejected.
    """
    table = tables.read(accepted, ACCEPTED).sort_values(["centre", "patient", "session", "scan"])
    made = tables.read_all(list(volumes), VOLUMES)
    seen = tables.read_all(list(examined), EXAMINED)
    _same_scans(table, made, seen)
    copies = find_duplicates(made)
    if duplicates_verdict == "reject":
        refuse(copies)
    answers = read_answers(review_table, set(table["scan"])) if review_table is not None else {}

    table = table.merge(made[["scan", "status", "codes"]].rename(columns={"codes": "found"}), on="scan", how="left")
    table = table.merge(seen[["scan", *_SEEN]], on="scan", how="left")
    copied = dict(zip(copies["scan"], copies["code"], strict=True))
    rows: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        facts, asked = _facts(row, answers, settings)
        codes = [*str(row["codes"] or "").split(";"), *str(row["found"] or "").split(";"), copied.get(row["scan"], "")]
        conflict = ["CONTRAST_CONFLICT"] if "against" in evidence.contrast(row, settings).why else []
        facts["codes"] = ";".join(dict.fromkeys(code for code in [*codes, *conflict] if code))
        rows.append({name: value for name, value in (row | facts).items() if name in SCANS.columns})
        questions += asked
    tables.write(rows, scans, SCANS)
    tables.write(questions, review, REVIEW)
    tables.write(copies, duplicates, DUPLICATES)
    tables.write(with_conversion(tables.read(flow, FLOW), table, made), flow_out, FLOW)
    counts = pd.Series([r["contrast"] for r in rows], dtype="object").value_counts().sort_index()
    log.event(
        "established", scans=len(rows), questions=len(questions), answers=len(answers), copies=len(copies),
        **{f"contrast_{k}": int(v) for k, v in counts.items()},
    )  # fmt: skip


def _same_scans(table: pd.DataFrame, made: pd.DataFrame, seen: pd.DataFrame) -> None:
    for name, other in (("volumes", made), ("examined", seen)):
        if set(other["scan"]) != set(table["scan"]):
            raise AssertionError(f"{len(table)} accepted scans, {other['scan'].nunique()} of them or others in {name}")


def _facts(row: dict[str, Any], answers: Answers, settings: EstablishSettings) -> tuple[dict[str, Any], list[dict]]:
    """The established columns of a scan, and its open questions."""
    agent = evidence.contrast(row, settings)
    dose, dose_source = evidence.dose(row, settings)
    covered, why_covered = evidence.coverage(row)
    kind = evidence.sequence(row)
    facts = {
        "contrast": agent.status,
        "contrast_source": agent.source,
        "contrast_confidence": agent.confidence,
        "dose": dose,
        "dose_source": dose_source,
        "coverage": covered,
        "sequence": kind.status,
        "sequence_source": kind.source,
    }
    asked = []
    for question, why in (("contrast", agent.why), ("coverage", why_covered), ("sequence", kind.why)):
        if why and (row["scan"], question) not in answers:
            asked.append(_question(row, facts, question, why))
    for question in ("contrast", "dose", "coverage", "sequence"):
        answer = answers.get((row["scan"], question))
        if answer is not None:
            facts[question] = answer
            if question != "coverage":
                facts[f"{question}_source"] = "review"
            if question == "contrast":
                facts["contrast_confidence"] = None
    if facts["sequence"] == "T1" and facts["contrast"] == "yes" and (row["scan"], "sequence") not in answers:
        facts["sequence"] = "T1+Gd"
    return facts, asked


def _question(row: dict[str, Any], facts: dict[str, Any], question: str, why: str) -> dict[str, Any]:
    about = {name: row[name] for name in ("centre", "patient", "scan")}
    about |= {"question": question, "present": facts[question], "why": why}
    if question == "contrast":
        about |= {
            "tag": row["contrast_tag"],
            "description": row["contrast_description"],
            "image": row["contrast_image"],
            "blood_hu": row["blood_hu"],
            "confidence": facts["contrast_confidence"],
        }
    elif question == "sequence":
        about |= {"tag": row["sequence_tag"], "description": row["sequence_description"]}
    else:
        about |= {"tag": row["body_part"], "image": row["body_part_image"]}
    return about
