"""Write the shareable copy of a shard: the used slices and structures of every scan, without identities."""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, UID_dictionary

from .. import tables
from ..config.deidentify import DeidentifySettings
from ..errors import ScanError
from ..files import atomic, sha256_bytes, write_json
from ..jobs import Log
from ..shards import Item, Row, process
from ..sources import open_file
from ..tables import Schema
from ..tables.private import FILES
from ..tables.schemas import FILE, SCAN, SHARD, integer, optional, text
from .clean import METHOD, Policy, deidentify, identifiers_of, with_identifiers
from .identity import Identifiers, Key
from .profile import EDITION, Rules, codes
from .quarantine import check, trim
from .words import Words

FOLDER = "shareable"
KINDS = ("scan", "slice", "structure")
SHAREABLE = Schema(
    "shareable",
    1,
    SCAN
    | {
        "modality": text("DICOM modality of the scan"),
        "kind": text("what the row is about: a slice or a structure; the whole scan where it was not copied", *KINDS),
        "number": integer("order of the slice or the structure, from 1; 0 for the scan"),
        **FILE,
        "removed": optional("integer", "attributes that were removed, at all nesting levels"),
        "changed": optional("integer", "attributes whose value was emptied or replaced"),
        "trimmed": optional("integer", "bytes behind the last pixel that were cut"),
    },
    key=("scan", "kind", "number"),
)
_KEYS = ("centre", "patient", "session", "scan")
_LONG_UID = 16
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class ShareItem(Item):
    """A scan with the files to copy, as the private table names them; these facts enter neither rows nor hashes."""

    folder: Path = Path()
    slices: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def share_shard(
    shard: Path,
    files: Path,
    folder_of_centre: Path,
    *,
    settings: DeidentifySettings,
    salt: bytes,
    root: Path,
    manifest: Path,
    settings_json: str,
    code: str,
    log: Log,
    workers: int = 1,
) -> None:
    """Copy the used slices and usable structures of the scans of a shard, de-identified (PS3.15, annex E).

    A slice that may not or cannot be copied costs its scan, since a volume with a hole is another volume; a structure
    costs only itself. Whatever becomes of a scan, it has a row.

    Parameters
    ----------
    shard
        Scans of the shard (schema `SHARD`).
    files
        Their files (private, schema `FILES`).
    folder_of_centre
        Folder that the paths are relative to.
    salt
        Key of the pseudonyms; UIDs, shifts of dates and device pseudonyms are keyed hashes under a key derived from it.
    root
        Results folder of the study; copies go to ``shareable/{shard}/{patient}/{session}/{scan}/`` below it, what was
        done in general to ``shareable/deidentification.json``.
    manifest
        Output: a row per copied file, and per scan or structure that was not (schema `SHAREABLE`).
    """
    scans = tables.read(shard, SHARD)
    used = tables.read(files, FILES)
    key = Key.of(salt)
    items = [_item(row, used[used["scan"] == row["scan"]], folder_of_centre, key) for row in scans.to_dict("records")]
    folder = root / FOLDER / shard.stem
    write_json(root / FOLDER / "deidentification.json", description(settings))
    work = partial(_share, settings, key)
    rows = process(items, work, folder=folder, root=root, settings=settings_json, code=code, log=log, workers=workers)
    rows = [{"kind": "scan", "number": 0, **row} for row in rows]
    tables.write(sorted(rows, key=lambda r: (r["scan"], r["kind"], r["number"])), manifest, SHAREABLE)


def description(settings: DeidentifySettings) -> dict[str, Any]:
    """What was done to every object of a copy, in general: nothing in it tells one patient from another."""
    return {
        "schema_version": 1,
        "standard": f"DICOM PS3.15 {EDITION}, annex E",
        "method": METHOD,
        "profile_and_options": [{"code": c, "scheme": "DCM", "meaning": m} for c, m in codes(settings)],
        "dates": "moved into the past by a secret number of days per patient, the same in all objects of the patient"
        if settings.dates == "shift"
        else "removed",
        "uids": "keyed hashes below 2.25, the same in all objects of the study; registered UIDs stay",
        "pixel_data": "byte for byte as they were; faces are not removed, text in pixels was not looked for",
        "settings": json.loads(settings.model_dump_json(exclude={"shift_days", "roi_names"})),
    }


def _item(row: Row, used: pd.DataFrame, folder: Path, key: Key) -> ShareItem:
    # one file may hold many slices, and structures stand for several volumes of a series
    slices = used[used["use"] == "slice"].sort_values(["order", "path"]).drop_duplicates("path")
    structures = used[used["use"] == "structure"].sort_values(["sop_instance", "content_sha256"])
    structures = structures.drop_duplicates("path")
    chosen = [str(uid) for part in (slices, structures) for uid in part["sop_instance"]]
    return ShareItem(
        key=row["scan"],
        row={name: row[name] for name in _KEYS} | {"modality": row["modality"]},
        # the state lies beside the copies: a plain hash of original UIDs would let others look for them
        inputs=(key.digest("files", "\x1f".join([row["files_sha256"], *chosen])).hex(),),
        folder=folder,
        slices=tuple(slices["path"]),
        structures=tuple(structures["path"]),
        known=tuple(sorted({str(v) for v in used["patient_id"].dropna() if v})),
    )


def _share(settings: DeidentifySettings, key: Key, item: ShareItem, folder: Path) -> list[Row]:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values
    target = folder / item.row["patient"] / item.row["session"] / item.key
    shutil.rmtree(target, ignore_errors=True)  # copies under other settings must not stay
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            return _copy(settings, key, item, target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def _copy(settings: DeidentifySettings, key: Key, item: ShareItem, target: Path) -> list[Row]:
    if not item.slices:
        raise ScanError("GEOM_NO_POSITION", "the scan has no slices to copy")
    rules, words = Rules(settings), Words(settings.words)
    sources: list[tuple[str, int, str]] = [("slice", n, p) for n, p in enumerate(item.slices, start=1)]
    sources += [("structure", n, p) for n, p in enumerate(item.structures, start=1)]
    policy = Policy(settings, key, item.row["patient"], _identifiers(item, sources, rules, words))
    rows = []
    for kind, number, path in sources:
        try:
            series = item.key if kind == "slice" else f"{item.key} {number}"
            fallback = {"StudyInstanceUID": item.row["session"], "SeriesInstanceUID": series}
            data, facts = copy_object(_read(item.folder, path), policy, rules, words, fallback)
        except ScanError as error:
            if kind == "slice":
                raise ScanError(error.code, f"slice {number}: {error.reason}") from None
            rows.append({"kind": kind, "number": number, "status": "rejected", "reason": str(error)})
            continue
        name = f"{number:05d}.dcm" if kind == "slice" else f"structure-{number:03d}.dcm"
        with atomic(target / name) as temporary:
            temporary.write_bytes(data)
        rows.append({"kind": kind, "number": number, "path": str(target / name), **facts})
    return rows


def _read(folder: Path, path: str) -> bytes:
    try:
        with open_file(folder, path) as stream:
            return stream.read()
    except (OSError, KeyError):
        raise ScanError("FILE_UNREADABLE", "the file cannot be read") from None


def _identifiers(item: ShareItem, sources: list[tuple[str, int, str]], rules: Rules, words: Words) -> Identifiers:
    """Identifiers of the scan: of its row, its first slice and its structures; a name in one may stand in another."""
    found = Identifiers()
    for value in item.known:
        found.add(value.encode(errors="surrogateescape"))
    parts = []
    for kind, number, path in sources:
        if kind == "structure" or number == 1:
            try:
                with open_file(item.folder, path) as stream:
                    parts.append(
                        identifiers_of(pydicom.dcmread(stream, stop_before_pixels=True, force=True), rules, words)
                    )
            except Exception:  # said where the file is copied
                continue
    return found.merged(parts)


def copy_object(
    original: bytes, policy: Policy, rules: Rules, words: Words, fallback: dict[str, str]
) -> tuple[bytes, Row]:
    """The bytes of a de-identified object, and what was done.

    Parameters
    ----------
    original
        The whole file.
    policy
        Settings, key and pseudonym, with identifiers that are known from elsewhere.
    fallback
        What identifiers of study and series are made from where the object has none; an instance without one gets
        one from its content.

    Raises
    ------
    ScanError
        FILE_UNREADABLE, FILE_NOT_DICOM, TS_UNDECODABLE, PHI_BURNED_IN, PHI_OBJECT_UNKNOWN, or PHI_RESIDUAL_TAG if an
        identifier is left in the bytes all the same.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(original), force=True)
        known = "SOPClassUID" in dataset
    except Exception as error:
        raise ScanError("FILE_UNREADABLE", f"no DICOM object can be read ({type(error).__name__})") from None
    if not known:
        raise ScanError("FILE_NOT_DICOM", "only DICOM objects can be copied")
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax and (UID(syntax) not in UID_dictionary or not UID(syntax).is_transfer_syntax):
        raise ScanError("TS_UNDECODABLE", "a private transfer syntax")
    check(dataset)
    if not dataset.get("SOPInstanceUID"):
        fallback = {**fallback, "SOPInstanceUID": sha256_bytes(original)}
    policy = with_identifiers(replace(policy, fallback=fallback), dataset, rules, words)
    own = [str(dataset.get(k)).encode() for k in (*_LEVELS, "SOPInstanceUID") if dataset.get(k)]
    trimmed = trim(dataset)
    changes = deidentify(dataset, policy, rules, words)
    try:
        data = encode(dataset)
    except Exception as error:  # an object that contradicts itself
        raise ScanError("FILE_UNREADABLE", f"the object cannot be written again ({type(error).__name__})") from None
    pixels = dataset.get_item("PixelData") if "PixelData" in dataset else None
    head = data[: len(data) - len(pixels.value or b"")] if pixels is not None else data
    if policy.identifiers.left_in(data) or any(len(uid) >= _LONG_UID and uid in head for uid in own):
        raise ScanError("PHI_RESIDUAL_TAG", "an identifier is left in the object, perhaps within its pixel data")
    return data, {"removed": changes.removed, "changed": changes.changed, "trimmed": trimmed}


def encode(dataset: Dataset) -> bytes:
    """The bytes of an object as a file, in the encoding that it was read in."""
    explicit = not dataset.file_meta.TransferSyntaxUID.is_implicit_VR
    if explicit and any(element.VR is None for element in dataset.values()):
        list(dataset.iterall())  # the file is not in the encoding that it declares: convert every element
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
