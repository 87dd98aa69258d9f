"""Curate a centre: candidate volumes with verdicts, and what each of its files is used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.curation import CurationSettings
from ..files import hash_of
from ..jobs import Log
from ..pseudonyms import patient, pseudonym
from ..tables.private import FILES, INDEX
from ..tables.schemas import CURATION
from .candidates import Candidate, examine
from .checks import CHECKS, contrast_by_description, contrast_by_tag, tolerance
from .structures import Match, for_conversion, match

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
    # without times: a copied folder must give the same results
    table = tables.read(index, INDEX).drop(columns=["mtime_ns"]).sort_values("path").reset_index(drop=True)
    readable = table["reading"].isin(["ok", "forced"])
    structures = table[readable & (table["structure"] != "")]
    objects = table[readable & (table["structure"] == "")]
    candidates: list[Candidate] = []
    series = list(objects.groupby(_series_keys(objects), sort=True))
    for number, (_, group) in enumerate(series, start=1):
        candidates += examine(group, CHECKS, settings)
        if number % 100 == 0 or number == len(series):
            log.progress("series", number, len(series))
    matches = match(structures, candidates)
    candidates = _with_structure_findings(candidates, matches, settings)

    rows: list[Row] = []
    uses: list[pd.DataFrame] = []
    for number, candidate in enumerate(candidates):
        own = [m for m in matches if m.candidate == number]
        row, used = _describe(centre, candidate, own, structures, settings, salt)
        rows.append(row)
        uses += used
    for one in matches:
        if one.candidate is None:
            row, used = _orphan(centre, structures.loc[one.label], one, salt)
            rows.append(row)
            uses.append(used)
    uses.append(_skipped(centre, table[~readable]))
    used = pd.concat([part.astype(object) for part in uses], ignore_index=True).reindex(columns=list(FILES.columns))
    if set(used["path"]) != set(table["path"]):
        raise AssertionError(f"{len(table)} files in the index, {used['path'].nunique()} in the table of files")
    tables.write(sorted(rows, key=lambda r: (r["patient"], r["session"], r["scan"])), curation, CURATION)
    tables.write(used.sort_values(["use", "scan", "order", "path"]), files, FILES)
    verdicts = pd.Series([r["verdict"] for r in rows], dtype="object").value_counts().sort_index()
    log.event("curated", centre=centre, files=len(table), candidates=len(rows), **verdicts.to_dict())


def _series_keys(objects: pd.DataFrame) -> pd.Series:
    """The series identifier; where it is empty, what else should tell series apart."""
    parts = objects[["patient_id", "study_uid", "series_number", "modality"]].agg("\x1f".join, axis=1)
    return objects["series_uid"].where(objects["series_uid"] != "", "\x1f" + parts)


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


def _identity(centre: str, files: pd.DataFrame, part: int, salt: bytes) -> Row:
    series = _series_keys(files).iloc[0]
    identifiers = sorted(set(files["patient_id"]))
    if len(identifiers) == 1 and identifiers[0]:
        person = patient(salt, centre, identifiers[0])
    else:  # nobody's, or several people's: such a scan must not be counted with anyone
        person = pseudonym(salt, "patient", f"{centre}\x1f\x1f{series}")
    return {
        "centre": centre,
        "patient": person,
        "session": pseudonym(salt, "session", f"{centre}\x1f{min(files['study_uid'])}"),
        "scan": pseudonym(salt, "scan", f"{centre}\x1f{series}\x1f{part}"),
    }


def files_sha256(files: pd.DataFrame) -> str:
    """Hash of the sorted instance identifiers and sizes, with the content of structures.

    Not of the pixels: reading them all (300 GB for 2,000 scans) only to learn that nothing changed would cost more than
    everything else here. Conversion hashes the decoded pixels. Paths and times are left out, so that a copied or
    renamed folder is the same data.
    """
    columns = ["sop_instance", "size", "content_sha256"]
    rows = files[columns].copy()
    # of slices, only those that share a position have been hashed
    rows.loc[files["structure"] == "", "content_sha256"] = ""
    return hash_of(sorted([str(a), int(b), str(c)] for a, b, c in rows.itertuples(index=False)))


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
    stack = candidate.stack
    step = None
    if stack is not None and len(stack.order) > 1:
        step = stack.spacing(tolerance(stack.modal_step, settings))
    refused = {m.label: f.code for m in matches for f in m.findings if settings.verdict(f.code) == "reject"}
    usable = [m.label for m in matches if m.label not in refused]
    every = pd.concat([files, structures.loc[usable]])
    said = (contrast_by_tag(files), contrast_by_description(files))
    contrast = next((c for c in said if c != "unknown"), settings.contrast_if_untagged)
    row = identity | {
        "modality": files["modality"].mode().iloc[0] or "none",
        "verdict": candidate.verdict,
        "codes": ";".join(candidate.codes),
        "excluded": candidate.rejecting,
        "reason": candidate.reason,
        "repairs": candidate.repairs,
        "files": len(files) + len(candidate.dropped),
        "files_sha256": files_sha256(every),
        "slices": len(files),
        "rows": _first(files["rows"]),
        "columns": _first(files["columns"]),
        "spacing_x_mm": _first(files["pixel_spacing_x_mm"]),
        "spacing_y_mm": _first(files["pixel_spacing_y_mm"]),
        "spacing_z_mm": step,
        "thickness_mm": _median(files["thickness_mm"]),
        "length_mm": None if stack is None else float(stack.along[-1] - stack.along[0]),
        "manufacturer": _first(files["manufacturer"]),
        "model": _first(files["model"]),
        "kernel": _first(files["kernel"]),
        "kvp": _median(files["kvp"]),
        "exposure_mas": _median(files["exposure_mas"]),
        "contrast": contrast,
        "contrast_tag": said[0],
        "contrast_description": said[1],
        "transfer_syntax": _first(files["transfer_syntax"]),
        "structures": len(usable),
    }
    if accepted and stack is not None and step is not None:
        facts = {"order": range(len(stack.order)), "position_mm": stack.along, **stack.geometry(files, step).columns()}
        used = [_uses(identity, files.loc[stack.order], "slice", **facts)]
    else:
        used = [_uses(identity, files, "rejected", code=candidate.rejecting)]
    for m in matches:
        use = "structure refused" if m.label in refused else "structure"
        codes, facts = ";".join(f.code for f in m.findings), for_conversion(structures.loc[m.label], m)
        used.append(_uses(identity, structures.loc[[m.label]], use, code=codes, structure=facts))
    for label, code in candidate.dropped:
        used.append(_uses(identity, candidate.dropped_files.loc[[label]], "dropped", code=code))
    return row, used


def _orphan(centre: str, one: pd.Series, found: Match, salt: bytes) -> tuple[Row, pd.DataFrame]:
    """The row of a structure set without images."""
    frame = one.to_frame().T
    identity = _identity(centre, frame.assign(series_uid=one["series_uid"] + "\x1f" + one["sop_instance"]), 0, salt)
    row = identity | {
        "modality": STRUCTURE,
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


def _skipped(centre: str, files: pd.DataFrame) -> pd.DataFrame:
    code = np.where(files["reading"] == "not-dicom", "FILE_NOT_DICOM", "FILE_UNREADABLE")
    return _uses({"centre": centre}, files, "skipped", code=code)


_COPIED = (
    "path", "size", "reading", "modality", "sop_instance", "content_sha256", "patient_id", "study_uid", "series_uid", "slope", "intercept",
)  # fmt: skip


def _uses(identity: Row, files: pd.DataFrame, use: str, **facts: Any) -> pd.DataFrame:
    """Rows of the table of files for files of one use."""
    return files[list(_COPIED)].assign(**identity, use=use, **facts)


def _first(values: pd.Series) -> Any:
    """The most frequent value, the smallest of equals; None if there is none."""
    mode = values.dropna().mode()
    return None if mode.empty else mode.iloc[0]


def _median(values: pd.Series) -> float | None:
    values = values.dropna()
    return None if values.empty else float(np.median(values.to_numpy(dtype=float)))
