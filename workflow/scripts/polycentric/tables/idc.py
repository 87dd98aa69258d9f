"""Frozen manifest of series of the Imaging Data Commons, and what was found of them; identifiers here are public.

The manifest is a TSV with comment lines above it: ``pandas.read_csv(path, sep="\\t", comment="#")`` reads it.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..config.idc import QUERY_LINE
from ..errors import UserError
from ..files import write_text
from . import Schema
from .schemas import CENTRE, integer, optional, text

IDC = Schema(
    "idc",
    1,
    {
        "collection": text("collection of the series"),
        "patient_id": text("public identifier of the patient in the collection"),
        "study_uid": text("study instance UID"),
        "modality": text("DICOM modality"),
        "series_uid": text("series instance UID"),
        "instances": integer("number of instances"),
        "size_bytes": integer("size of all instances, bytes"),
        "licence": text("licence of the series"),
        "doi": optional("text", "DOI of the data set that holds the series"),
        "analysis_result": optional("text", "analysis result to which the series belongs; empty for original data"),
        "transfer_syntax": optional("text", "transfer syntax UIDs, comma-separated"),
        "revised": integer("version of the Imaging Data Commons that last changed the series"),
        "bucket": text("bucket of the public copy"),
        "series_uuid": text("identifier of this version of the series; it changes whenever its content changes"),
    },
    key=("series_uid",),
)
FOUND = ("ok", "missing", "incomplete")
FETCHED = Schema(
    "idc-fetched",
    1,
    CENTRE
    | {
        "series_uid": text("series instance UID"),
        "series_uuid": text("version of the series in the Imaging Data Commons"),
        "modality": text("DICOM modality"),
        "status": text("what is there", *FOUND),
        "reason": optional("text", "why, if not ok: CODE: explanation"),
        "instances": integer("instances that the manifest lists"),
        "found": integer("instances that are there"),
        "size_bytes": integer("size that the manifest states, bytes"),
        "found_bytes": integer("size of what is there, bytes"),
    },
    key=("series_uid",),
)
# the files that belong to a centre: its folder may hold other series as well
FETCHED_FILES = Schema(
    "idc-files",
    1,
    CENTRE
    | {
        "path": text("file relative to the centre's folder (see encode_path)"),
        "series_uid": text("series instance UID"),
        "size": integer("bytes"),
    },
    key=("path",),
)
ORDER = ["collection", "patient_id", "study_uid", "modality", "series_uid"]
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
# what becomes part of a command line or of a path
_SAFE = {
    "collection": re.compile(r"[a-z0-9_]{1,64}"),
    "study_uid": _UID,
    "series_uid": _UID,
    "modality": re.compile(r"[A-Z0-9]{2,16}"),
    "bucket": re.compile(r"[a-z0-9][a-z0-9.-]{1,62}"),
    "series_uuid": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


@dataclass(frozen=True)
class Manifest:
    """Series (schema `IDC`), and the comment lines above them: the query, the index it was asked of."""

    series: pd.DataFrame
    query: str
    index: str
    totals: list[str] = field(default_factory=list)


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest atomically; equal content gives equal bytes."""
    write_text(path, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    frame = check(manifest.series, "the manifest").sort_values(ORDER, kind="stable")
    lines = [f"# schema: {IDC.tag}", f"{QUERY_LINE}{manifest.query}", f"# index: {manifest.index}"]
    lines += [f"# total: {line}" for line in manifest.totals]
    return "\n".join(lines) + "\n" + frame.to_csv(sep="\t", index=False, lineterminator="\n")


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a frozen manifest.

    Raises
    ------
    UserError
        if it is absent, of another schema, or holds anything that cannot be part of a command or a path.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such manifest. Write: python -m polycentric.tools.freeze STUDY.yaml, and commit it."
        )
    lines = path.read_text(encoding="utf-8").split("\n")
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    facts: dict[str, list[str]] = {}
    for line in lines[:end]:
        key, _, value = line.removeprefix("# ").partition(": ")
        facts.setdefault(key, []).append(value)
    tag = facts.get("schema", [""])[0]
    if tag != IDC.tag:
        raise UserError(
            f"{path}: this manifest has schema {tag or 'none'!r}, but this version of Polycentric reads {IDC.tag!r}. "
            f"Freeze it again: python -m polycentric.tools.freeze STUDY.yaml --update"
        )
    types = {name: "string" for name, column in IDC.columns.items() if column.kind == "text"}
    frame = pd.read_csv(
        io.StringIO("\n".join(lines[end:])), sep="\t", dtype=types, keep_default_na=False, na_values=[""]
    )
    try:
        series = check(frame, str(path))
    except ValueError as error:
        raise UserError(f"{error}. Freeze it again, or take back what was changed by hand.") from None
    return Manifest(series, facts.get("query", [""])[0], facts.get("index", [""])[0], facts.get("total", []))


def check(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The frame as schema `IDC`; ValueError for a value that could be more than a name in a command or a path."""
    frame = IDC.check(frame, where).reset_index(drop=True)
    for name, pattern in _SAFE.items():
        if (wrong := frame.loc[~frame[name].str.fullmatch(pattern), name]).size:
            raise ValueError(
                f"{where}: column {name!r} holds {sorted(wrong)[0]!r}, which is no {name.replace('_', ' ')}"
            )
    return frame


def gigabytes(size_bytes: float) -> str:
    """A size in words, in powers of 1,000.

    >>> gigabytes(26_952_556_000)
    '26.95 GB'
    """
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"
