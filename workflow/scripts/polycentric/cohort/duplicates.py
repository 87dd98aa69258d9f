"""Scans with identical pixels."""

from __future__ import annotations

import pandas as pd

from ..errors import UserError

DIFFERENT, SAME = "STUDY_DUPLICATE_PATIENT", "PIXELS_REPEATED"
SHOWN = 20


def find_duplicates(volumes: pd.DataFrame) -> pd.DataFrame:
    """Rows of the schema `DUPLICATES` from the manifests of volumes, in the order of the scans' names.

    Identical pixels of two patients (pseudonyms: of two centres, too) are one person counted twice: a leak between
    parts of a split. Of one patient they are a copy, such as a series that was sent twice.
    """
    known = volumes[(volumes["status"] == "ok") & (volumes["pixels_sha256"] != "")].sort_values("scan")
    rows = []
    for _, group in known.groupby("pixels_sha256", sort=False):
        if len(group) > 1:
            code = DIFFERENT if group["patient"].nunique() > 1 else SAME
            rows.append(group.assign(group=len(rows) + 1, code=code))
    columns = ["group", "code", "centre", "patient", "session", "scan", "pixels_sha256"]
    return pd.concat(rows)[columns] if rows else pd.DataFrame(columns=columns)


def refuse(duplicates: pd.DataFrame) -> None:
    """Raise a UserError if patients share pixels, with the groups and what to write."""
    shared = duplicates[duplicates["code"] == DIFFERENT]
    if shared.empty:
        return
    groups = [
        f"  - group {number}: " + ", ".join(f"scan {r.scan} of {r.patient} ({r.centre})" for r in group.itertuples())
        for number, group in shared.groupby("group")
    ]
    more = [f"  - and {len(groups) - SHOWN} more groups"] if len(groups) > SHOWN else []
    last = shared.iloc[-1]["scan"]
    raise UserError(
        f"{DIFFERENT}: {len(groups)} group{'s' * (len(groups) > 1)} of scans with identical pixels under several "
        "patients or centres: one person would be counted twice, and could be in training and test part at once.",
        *groups[:SHOWN],
        *more,
        "Find out who is who (pseudonyms.tsv in the private folder has the original identifiers), then remove the "
        f"images that do not belong there, or leave a scan out: exclude: {{{last}: a copy}} in the study file. If the "
        f"sharing is meant, as with a phantom, write curation: {{verdicts: {{{DIFFERENT}: flag}}}}.",
    )
