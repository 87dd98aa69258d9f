"""Participant flow: what came in, what was excluded and why, what remains, per centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..config.clinical import AtHorizon
from ..config.codes import ORDER
from ..outcomes import horizon

ACCEPTED_STEP = 7
STRUCTURES = ("RTSTRUCT", "SEG")


def flow_rows(
    every: pd.DataFrame,
    used: pd.DataFrame,
    people: pd.DataFrame,
    centres: Sequence[str],
    horizons: Mapping[str, AtHorizon] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the flow table (schema `FLOW`), in the order of the centres.

    `horizons` are the outcomes of that kind: patients who were censored before get a box for each.

    files = skipped + contours + the files of the candidates; candidates = excluded + accepted, where each candidate is
    excluded under one code; patients of images = patients with an accepted scan + patients without one.
    """
    rows: list[dict[str, Any]] = []
    horizons = horizons or {}
    lost = {name: horizon(people, own, f"clinical.outcomes.{name}")[1] for name, own in horizons.items()}
    for centre in centres:
        candidates, files, patients = (t[t["centre"] == centre] for t in (every, used, people))

        def add(step: int, box: str, scans: int, patients: int, code: str = "", centre: str = centre) -> None:
            rows.append(
                {"centre": centre, "step": step, "box": box, "code": code, "patients": patients, "scans": scans}
            )

        add(1, "files", files["path"].nunique(), files.loc[files["patient"] != "", "patient"].nunique())
        for code, group in _by_code(files[files["use"] == "skipped"], "code"):
            add(2, "files skipped", len(group), 0, code)
        orphans = candidates[candidates["modality"].isin(STRUCTURES)]
        candidates = candidates[~candidates["modality"].isin(STRUCTURES)]
        contours = files[files["use"].isin(["structure", "structure refused"])]
        add(3, "files of contours", contours["path"].nunique(), contours["patient"].nunique())
        for code, group in _by_code(orphans, "excluded"):
            add(4, "contours excluded", len(group), group["patient"].nunique(), code)
        add(5, "candidates", len(candidates), candidates["patient"].nunique())
        rejected = candidates[candidates["verdict"] == "reject"]
        for code, group in _by_code(rejected, "excluded"):
            add(6, "excluded", len(group), group["patient"].nunique(), code)
        accepted = candidates[candidates["verdict"] != "reject"]
        add(ACCEPTED_STEP, "accepted", len(accepted), accepted["patient"].nunique())
        outlined = accepted[accepted["structures"].fillna(0) > 0]
        add(8, "accepted with contours", len(outlined), outlined["patient"].nunique())
        without = set(candidates["patient"]) - set(accepted["patient"])
        add(9, "patients without an accepted scan", 0, len(without))
        table_only = patients[patients["clinical"].astype(bool) & ~patients["patient"].isin(set(candidates["patient"]))]
        add(10, "patients of the clinical table alone", 0, len(table_only))
        for step, (name, censored) in enumerate(lost.items(), start=11):
            rule = "" if horizons[name].censored == "exclude" else ", counted as without it"
            add(step, f"patients censored before {name}{rule}", 0, int(censored[people["centre"] == centre].sum()))
    return rows


def with_conversion(flow: pd.DataFrame, accepted: pd.DataFrame, volumes: pd.DataFrame) -> pd.DataFrame:
    """The flow of curation with what conversion made of the accepted scans.

    accepted = not converted (by code) + with a volume. The box of contours counts scans with a volume from here on, and
    the boxes of patients move behind it.

    Parameters
    ----------
    flow, volumes
        Tables of the schemas `FLOW` and `VOLUMES`.
    accepted
        Accepted scans, with the columns centre, patient, scan and structures.
    """
    rows: list[dict[str, Any]] = []

    def add(centre: str, step: int, box: str, scans: pd.DataFrame, code: str = "") -> None:
        count = {"patients": scans["patient"].nunique(), "scans": len(scans)}
        rows.append({"centre": centre, "step": step, "box": box, "code": code, **count})

    for centre in dict.fromkeys(flow["centre"]):
        before = flow[flow["centre"] == centre]
        own = volumes[volumes["centre"] == centre]
        rows += before[before["step"] <= ACCEPTED_STEP].to_dict("records")

        failed, good = own[own["status"] != "ok"], own[own["status"] == "ok"]
        reasons = failed["reason"].str.extract(r"^([A-Z][A-Z0-9_]+):", expand=False)
        for code, group in _by_code(failed.assign(code=reasons.fillna(failed["status"].str.upper())), "code"):
            add(centre, ACCEPTED_STEP + 1, "not converted", group, code)
        add(centre, ACCEPTED_STEP + 2, "with a volume", good)
        outlined = accepted[accepted["structures"].fillna(0) > 0]
        add(centre, ACCEPTED_STEP + 3, "with a volume and contours", good[good["scan"].isin(set(outlined["scan"]))])
        tail = before[(before["step"] > ACCEPTED_STEP) & (before["scans"] == 0)]
        rows += tail.assign(step=tail["step"] + 3).to_dict("records")
    return pd.DataFrame(rows, columns=list(flow.columns))


def _by_code(frame: pd.DataFrame, column: str) -> list[tuple[str, pd.DataFrame]]:
    groups = {str(code): group for code, group in frame.groupby(column)}
    return [(code, groups[code]) for code in sorted(groups, key=lambda c: ORDER.get(c, len(ORDER)))]
