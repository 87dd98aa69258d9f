"""Curate a centre: candidate volumes with verdicts, and what each of its files is used for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.curation import CurationSettings
from ..files import hash_of
from ..jobs import SILENT, Log
from ..pseudonyms import patient, pseudonym
from ..tables.private import FILES
from ..tables.schemas import CURATION
from . import contrast, sequences, suv, visits
from .candidates import Candidate, examine
from .checks import checks_for
from .fragments import merge
from .frames import expand, load
from .grid import layout
from .headers import captures, collides, patients_by_path
from .structures import Match, copies, for_conversion, match

STRUCTURE = "RTSTRUCT"
Row = dict[str, Any]


def curate(
    centre: str, index: Path, *, settings: CurationSettings, salt: bytes, curation: Path, files: Path, log: Log
) -> None:
    """Group the files of a centre to candidate volumes, check and repair them; nothing is dropped without a row.

    Parameters
    ----------
    index
        The centre's index (schema `INDEX`).
    salt
        Key of the pseudonyms.
    curation
        Output: one row per candidate volume and per structure set without images (schema `CURATION`).
    files
        Private output: one row per file with its use (schema `FILES`).
    """
    by_path = settings.patient_from_path if settings.verdict("PATIENT_ID_EMPTY") == "repair" else None
    table = patients_by_path(load(index), by_path)
    readable = table["reading"].isin(["ok", "forced", "image"])
    structures = table[readable & (table["structure"] != "")]
    again = structures[copies(structures)]
    structures = structures.drop(index=again.index)
    objects = slices_of(table[readable & (table["structure"] == "")])
    candidates = find(objects, settings, log)
    matches = _matches(structures, candidates)
    candidates = _with_structure_findings(candidates, matches, settings)
    of_candidate: dict[int | None, list[Match]] = {}
    for one in matches:
        of_candidate.setdefault(one.candidate, []).append(one)

    rows: list[Row] = []
    dates: list[date | None] = []
    uses: list[pd.DataFrame] = []
    for number, candidate in enumerate(candidates):
        row, used = _describe(centre, candidate, of_candidate.get(number, []), structures, settings, salt)
        rows.append(row)
        dates.append(None if "MODALITY_WRONG" in candidate.codes else visits.date_of(candidate.files))
        uses += used
    held = sum(len(part) for part in uses if part["use"].iloc[0] in ("slice", "dropped", "rejected"))
    if held != len(objects):
        raise AssertionError(f"{len(objects)} slices in the index, {held} in the table of files")
    visits.number(rows, dates)
    for one in of_candidate.get(None, []):
        row, used = _orphan(centre, structures.loc[one.label], one, salt)
        rows.append(row)
        uses.append(used)
    uses.append(_skipped(centre, table[~readable]))
    uses.append(_uses({"centre": centre}, again, "skipped", code="DUP_EXACT"))
    paths = set(table["path"])
    del table, objects, structures, again, candidates, matches, of_candidate  # gigabytes of a large centre
    used = _stack(uses)
    del uses
    if set(used["path"]) != paths:
        raise AssertionError(f"{len(paths)} files in the index, {used['path'].nunique()} in the table of files")
    tables.write(sorted(rows, key=lambda r: (r["patient"], r["session"], r["scan"])), curation, CURATION)
    tables.write(used.sort_values(["use", "scan", "order", "path", "frame"]), files, FILES)
    verdicts = pd.Series([r["verdict"] for r in rows], dtype="object").value_counts().sort_index()
    log.event("curated", centre=centre, files=len(paths), candidates=len(rows), **verdicts.to_dict())


def slices_of(objects: pd.DataFrame) -> pd.DataFrame:
    """Rows of the index that hold images as slices, with what only the whole centre can tell of each."""
    slices = expand(objects.assign(collides=collides(objects)))
    slices["capture"] = captures(slices)
    return slices


def find(slices: pd.DataFrame, settings: CurationSettings, log: Log = SILENT) -> list[Candidate]:
    """Candidate volumes among the slices of a centre, examined."""
    candidates: list[Candidate] = []
    series = merge(slices, _series(slices), settings)
    for number, (own, findings) in enumerate(series, start=1):
        group = slices.take(own)
        candidates += examine(group, checks_for(group, settings), settings, findings)
        if number % 100 == 0 or number == len(series):
            log.progress("series", number, len(series))
    return candidates


def _stack(uses: list[pd.DataFrame]) -> pd.DataFrame:
    """The parts under each other, column by column: concatenation of thousands of frames costs minutes."""
    parts = [part for part in uses if len(part)]
    columns: dict[str, np.ndarray] = {}
    for name in FILES.columns:
        nothing = None if FILES.columns[name].kind == "text" else np.nan
        kind = object if nothing is None else float
        held = [
            part[name].to_numpy(dtype=kind) if name in part else np.full(len(part), nothing, dtype=kind)
            for part in parts
        ]
        columns[name] = np.concatenate(held) if held else np.array([], dtype=kind)
    return pd.DataFrame(columns)


def _series(objects: pd.DataFrame) -> list[np.ndarray]:
    """Positions of the rows of each series, ordered by its key."""
    if objects.empty:
        return []
    codes, keys = pd.factorize(_series_keys(objects), sort=True)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=len(keys)))[:-1])


def _series_keys(objects: pd.DataFrame) -> pd.Series:
    """The series identifier; where it is empty, what else should tell series apart; an image of a table is its own."""
    columns = ["patient_id", "study_uid", "series_number", "modality"]
    key = objects["series_uid"].copy()
    lacking = key == ""
    if lacking.any():
        rows = objects.loc[lacking, columns].astype(str)
        named = "\x1f" + rows[columns[0]].str.cat([rows[c] for c in columns[1:]], sep="\x1f")
        key[lacking] = named.where(objects.loc[lacking, "reading"] != "image", "\x1f" + objects.loc[lacking, "path"])
    return key


def _matches(structures: pd.DataFrame, candidates: list[Candidate]) -> list[Match]:
    """Structure sets and their candidates, patient by patient: contours never belong to another patient's scan."""
    numbers: dict[str, list[int]] = {}
    for number, candidate in enumerate(candidates):
        for patient_id in set(candidate.files["patient_id"]):
            numbers.setdefault(patient_id, []).append(number)
    matches: list[Match] = []
    for patient_id, own in structures.groupby("patient_id", sort=True):
        of_patient = numbers.get(patient_id, [])
        for one in match(own, [candidates[n] for n in of_patient]):
            matches.append(one if one.candidate is None else replace(one, candidate=of_patient[one.candidate]))
    return matches


def _with_structure_findings(
    candidates: list[Candidate], matches: list[Match], settings: CurationSettings
) -> list[Candidate]:
    result = list(candidates)
    for one in matches:
        if one.candidate is not None:
            for finding in one.findings:
                if finding.code not in result[one.candidate].codes:
                    result[one.candidate] = result[one.candidate].note(finding, settings.verdict(finding.code))
    return result


def _identity(centre: str, files: pd.DataFrame, part: tuple[int, ...], salt: bytes) -> Row:
    series = min(_series_keys(files))
    identifiers = sorted(set(files["patient_id"]))
    if len(identifiers) == 1 and identifiers[0]:
        person = patient(salt, centre, identifiers[0])
    else:  # nobody's, or several people's: such a scan must not be counted with anyone
        person = pseudonym(salt, "patient", f"{centre}\x1f\x1f{series}")
    # without a study identifier, what was made of one person on one day is one visit
    study = min(files["study_uid"]) or f"\x1f{person}\x1f{min(files['study_date'])}"
    return {
        "centre": centre,
        "patient": person,
        "session": pseudonym(salt, "session", f"{centre}\x1f{study}"),
        "scan": pseudonym(salt, "scan", f"{centre}\x1f{series}\x1f{'.'.join(map(str, part)) or 0}"),
    }


def files_sha256(files: pd.DataFrame) -> str:
    """Hash of the sorted instance identifiers and sizes; the content too, of structures and of what is no DICOM.

    Not of the pixels: reading them all (300 GB for 2,000 scans) only to learn that nothing changed would cost more than
    everything else here. Conversion hashes the decoded pixels. Paths and times are left out, so that a copied or
    renamed folder is the same data.
    """
    # of slices, only those that share a position or an identifier have been hashed
    content = files["content_sha256"].where((files["structure"] != "") | (files["reading"] == "image"), "")
    facts = [files["sop_instance"].astype(str), files["size"].astype(int), content.astype(str)]
    if "frame" in files and files["frame"].notna().any():
        facts.append(files["frame"].fillna(-1).astype(int))
    return hash_of(sorted(map(list, zip(*facts, strict=True))))


def _describe(
    centre: str,
    candidate: Candidate,
    matches: list[Match],
    structures: pd.DataFrame,
    settings: CurationSettings,
    salt: bytes,
) -> tuple[Row, list[pd.DataFrame]]:
    files = candidate.files
    identity = _identity(centre, files, candidate.part, salt)
    accepted = candidate.verdict != "reject"
    grids = layout(candidate, settings)
    refused = {m.label: f.code for m in matches for f in m.findings if settings.verdict(f.code) == "reject"}
    usable = [m.label for m in matches if m.label not in refused]
    columns = ["sop_instance", "size", "content_sha256", "structure", "reading", "frame"]
    every = pd.concat([files[columns], structures.loc[usable, columns[:5]]]) if usable else files
    said = (contrast.by_tag(files), contrast.by_description(files))
    row = identity | {
        "modality": _first(files["modality"]) or "none",
        "verdict": candidate.verdict,
        "codes": ";".join(candidate.codes),
        "excluded": candidate.rejecting,
        "reason": candidate.reason,
        "repairs": candidate.repairs,
        "geometry_before": "" if grids is None else grids.before,
        "geometry_after": grids.after if grids is not None and accepted else "",
        "files": files["path"].nunique() + len({*candidate.dropped_paths} - set(files["path"])),
        "files_sha256": files_sha256(every),
        "slices": len(files),
        "rows": _first(files["rows"]),
        "columns": _first(files["columns"]),
        "spacing_x_mm": _first(files["pixel_spacing_x_mm"]),
        "spacing_y_mm": _first(files["pixel_spacing_y_mm"]),
        "spacing_z_mm": None if grids is None else grids.spacing_z_mm,
        "thickness_mm": _median(files["thickness_mm"]),
        "length_mm": None if grids is None else grids.length_mm,
        "manufacturer": _first(files["manufacturer"]),
        "model": _first(files["model"]),
        "kernel": _first(files["kernel"]),
        "kvp": _median(files["kvp"]),
        "exposure_mas": _median(files["exposure_mas"]),
        "ctdi_mgy": _median(files["ctdi_mgy"]),
        "body_part": _first(files["body_part"]),
        "dose_words": contrast.dose_by_words(files),
        "contrast": next((c for c in said if c != "unknown"), settings.contrast_if_untagged),
        "contrast_tag": said[0],
        "contrast_description": said[1],
        "sequence_tag": sequences.by_tag(files),
        "sequence_description": sequences.by_description(files),
        "echo_time_ms": _median(files["echo_time_ms"]),
        "repetition_time_ms": _median(files["repetition_time_ms"]),
        "inversion_time_ms": _median(files["inversion_time_ms"]),
        "field_t": _median(files["field_t"]),
        "transfer_syntax": _first(files["transfer_syntax"]),
        "structures": len(usable),
    }
    if accepted and grids is not None:
        used = [_uses(identity, files.loc[grids.order], "slice", **grids.facts, **_uptake(files.loc[grids.order]))]
    else:
        used = [_uses(identity, files, "rejected", code=candidate.rejecting)]
    for m in matches:
        use = "structure refused" if m.label in refused else "structure"
        codes = ";".join(f.code for f in m.findings)
        facts = for_conversion(structures.loc[m.label], m)
        used.append(_uses(identity, structures.loc[[m.label]], use, code=codes, structure=facts))
    if candidate.dropped:
        labels, codes = map(list, zip(*candidate.dropped, strict=True))
        used.append(_uses(identity, candidate.dropped_files.loc[labels], "dropped", code=codes))
    return row, used


def _uptake(files: pd.DataFrame) -> Row:
    """Factors to standardised uptake values of PET; none if they cannot be computed and the study accepts that."""
    if not (files["modality"] == "PT").all():
        return {}
    try:
        return {"suv_factor": suv.factors(files).to_numpy()}
    except suv.Uncomputable:
        return {}


def _orphan(centre: str, one: pd.Series, found: Match, salt: bytes) -> tuple[Row, pd.DataFrame]:
    """The row of a structure set without images."""
    frame = one.to_frame().T
    key = "\x1f".join([one["series_uid"], one["sop_instance"], one["content_sha256"]])
    identity = _identity(centre, frame.assign(series_uid=key), (), salt)
    row = identity | {
        "modality": one["modality"] if one["modality"] in ("RTSTRUCT", "SEG") else STRUCTURE,
        "verdict": "reject",
        "codes": ";".join(f.code for f in found.findings),
        "excluded": found.findings[0].code,
        "reason": "; ".join(f"{f.code}: {f.reason}" for f in found.findings),
        "files": 1,
        "files_sha256": files_sha256(frame),
        "contrast": "unknown",
        "contrast_tag": "unknown",
        "contrast_description": "unknown",
    }
    return row, _uses(identity, frame, "structure refused", code=found.findings[0].code)


_SKIPPED = {
    "not-dicom": "FILE_NOT_DICOM", "unreadable": "FILE_UNREADABLE", "directory": "FILE_DICOMDIR",
    "archive": "FILE_ARCHIVE_REFUSED",
}  # fmt: skip


def _skipped(centre: str, files: pd.DataFrame) -> pd.DataFrame:
    """Files that are no images; those of a kind that could be, but that no table names, say so in the index."""
    code = files["reading"].map(_SKIPPED).where(files["error"] != "FILE_NOT_LISTED", "FILE_NOT_LISTED")
    return _uses({"centre": centre}, files, "skipped", code=code.to_numpy())


_COPIED = (
    "path", "size", "reading", "modality", "sop_instance", "content_sha256", "patient_id", "study_uid", "series_uid",
    "slope", "intercept", "frame",
)  # fmt: skip


def _uses(identity: Row, files: pd.DataFrame, use: str, **facts: Any) -> pd.DataFrame:
    """Rows of the table of files for files of one use."""
    copied = {name: files[name].to_numpy() for name in _COPIED if name in files}
    return pd.DataFrame(copied | identity | {"use": use} | facts, index=files.index)


def _first(values: pd.Series) -> Any:
    """The most frequent value, the smallest of equals; None if there is none."""
    counts = Counter(v for v in values.tolist() if v == v and v not in ("", None))
    return min(counts, key=lambda v: (-counts[v], v)) if counts else None


def _median(values: pd.Series) -> float | None:
    numbers = values.to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.median(numbers)) if len(numbers) else None
