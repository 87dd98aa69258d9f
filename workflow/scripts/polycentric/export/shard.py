"""Write the synthetic images of a shard as DICOM series."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from pydicom.dataset import Dataset

from .. import __version__, tables, volumes
from ..config.export import DicomExport
from ..errors import ScanError, UserError
from ..files import atomic
from ..jobs import SILENT, Log
from ..shards import Item, Row, process
from ..sources import open_file
from ..tables import Schema
from ..tables.private import FILES
from ..tables.schemas import FILE, SCAN, VIEWS, integer, text
from ..training import cohort
from ..volumes import Geometry
from . import dataset
from .dataset import Instance, Modality, Subject

EXPORTED = Schema(
    "exported",
    1,
    SCAN
    | {
        "view": text("view"),
        "fold": text("fold"),
        "number": integer("number of the slice, from 1; 0 for the scan where it was not written"),
        **FILE,
    },
    key=("scan", "view", "fold", "number"),
)
Uid = Callable[[str], str]
WINDOW_HU = (-160.0, 240.0)


@dataclass(frozen=True)
class Target:
    """What a model's images look like: kind of image, and the range of intensities of its target domain."""

    modality: Modality
    limits: tuple[float, float]


def target(
    scans: Path, patients: Path, wheres: Many[str], limits: tuple[float, float], *, calibrated: bool, where: str
) -> Target:
    """The target of a model, by the scans of its domain: those that all of the expressions `wheres` select.

    `calibrated` says whether its view holds HU if it is of CT.

    Raises
    ------
    UserError
        for a target of other or of several modalities, and for CT without HU.
    """
    chosen = cohort.cohort(scans, patients)
    for expression in wheres:
        chosen = cohort.select(chosen, expression, where)
    found = sorted(set(chosen["modality"].dropna()))
    if found not in (["CT"], ["MR"]):
        raise UserError(
            f"{where}: the target domain has scans of modality {', '.join(found) or '(none)'}; CT or MR alone can be "
            f"written. Give the target (or its view) a `where` such as modality == 'CT', or leave the export out."
        )
    if found == ["CT"] and not calibrated:
        raise UserError(
            f"{where}: a step of the target's view changes the unit, so that the images are not in HU, and a CT image "
            f"in DICOM has to be. Train on a view without that step (the model scales by itself), or export as nrrd."
        )
    return Target("CT" if found == ["CT"] else "MR", limits)


@dataclass(frozen=True)
class ExportItem(Item):
    """A scan with its row of the view and the private facts of its source, which enter neither rows nor names."""

    image: tuple[tuple[str, object], ...] = ()
    folder: Path = Path()
    slices: tuple[tuple[str, str, float], ...] = ()  # path, SOP instance, position along the normal
    study_uid: str = ""
    series_uid: str = ""


def export_shard(
    settings: DicomExport,
    *,
    source: Path,
    files: Path,
    folder_of_centre: Path,
    model: str,
    model_sha256: str,
    uid: Uid,
    like: Target,
    root: Path,
    manifest: Path,
    fold: str,
    settings_json: str,
    code: str,
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Write a DICOM series for every synthetic image of a shard; a row per slice, and per scan without any.

    Parameters
    ----------
    source
        The shard's manifest of the synthetic view (schema `VIEWS`).
    files
        The private table of the shard's files (schema `FILES`): what the images were made from.
    folder_of_centre
        Folder that its paths are relative to.
    model, model_sha256
        Name of the generator and hash of its weights.
    uid
        Maps an original identifier, or any text, to a UID. For `identity: pseudonym` the map of the shareable copy, so
        that references lead there; new identifiers come from it in either case, and depend on image and model alone.
    like
        What kind of images they are written as.
    root
        Results folder of the study, or the study's private folder for `identity: original`. Paths of the manifest are
        relative to it.
    manifest
        Output (schema `EXPORTED`); files go to ``{manifest without suffix}/{patient}/{scan}/{number}.dcm``.
    """
    rows = tables.read(source, VIEWS)
    used = tables.read(files, FILES)
    results = _results(source, rows)
    items = [
        _item(row, used[used["scan"] == row["scan"]], folder_of_centre, model_sha256) for row in rows.to_dict("records")
    ]
    work = partial(_export, settings, uid, like, model, model_sha256, fold, results)
    made = process(
        items, work, folder=manifest.with_suffix(""), root=root, settings=settings_json, code=code, log=log,
        workers=workers,
    )  # fmt: skip
    facts = {"view": settings.view, "fold": fold, "number": 0}
    tables.write([{**facts, **row} for row in made], manifest, EXPORTED)


def _results(source: Path, rows: pd.DataFrame) -> Path:
    """The folder that the paths of the view's manifest are relative to: the one above `views/`."""
    for parent in source.absolute().parents:
        if parent.name == "views":
            return parent.parent
    raise ValueError(f"{source.name} does not lie below a folder views")


def _item(row: Row, used: pd.DataFrame, folder: Path, model_sha256: str) -> ExportItem:
    slices = used[used["use"].isin(["slice"]) & used["reading"].isin(["ok", "forced"])].sort_values(["order", "path"])
    slices = slices.drop_duplicates("path")
    found: list[tuple[str, str, float]] = []
    if len(slices):
        grid = Geometry.from_columns(slices.iloc[0])
        direction = np.array(grid.direction).reshape(3, 3)
        normal = np.cross(direction[:, 0], direction[:, 1])
        step, start = grid.spacing[2] * float(normal @ direction[:, 2]), float(normal @ np.array(grid.origin))
        found = [(r.path, r.sop_instance, start + step * int(r.order)) for r in slices.itertuples()]
    return ExportItem(
        key=row["scan"],
        row={name: row[name] for name in SCAN},
        inputs=(str(row["status"]), str(row["sha256"]), model_sha256),
        image=tuple(sorted(row.items())),
        folder=folder,
        slices=tuple(found),
        study_uid=str(slices["study_uid"].iloc[0]) if len(slices) else "",
        series_uid=str(slices["series_uid"].iloc[0]) if len(slices) else "",
    )


def _export(
    settings: DicomExport, uid: Uid, like: Target, model: str, model_sha256: str, fold: str, results: Path,
    item: ExportItem, folder: Path,
) -> list[Row]:  # fmt: skip
    row = dict(item.image)
    if row["status"] != "ok":
        return [{"status": "missing", "reason": f"SOURCE_{str(row['status']).upper()}: {row['reason']}"}]
    if pd.isna(row["diagnostics"]) or not row["diagnostics"]:  # what a network made has them
        return [{"status": "missing", "reason": "SOURCE_UNCHANGED: the model has handed this scan on as it was"}]
    volume = volumes.read(results / str(row["path"]), row)
    largest = float(np.abs(volume.array.astype(np.float64)).max(initial=0.0))
    step = dataset.slope(like.modality, like.limits, largest if np.isfinite(largest) else 0.0)
    try:
        pixels = dataset.stored(volume.array, step)
    except ValueError as error:
        raise ScanError("HU_IMPLAUSIBLE", f"the image cannot be written as {like.modality}: {error}") from None
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values
    state = "\x1f".join([item.key, settings.view, fold, str(row["sha256"]), model_sha256, settings.identity])
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        subject = _subject(item, settings.identity, uid)
        common = dataset.series(
            volume.geometry, subject, series_uid=uid(f"synthetic series\x1f{state}"),
            description=settings.description or f"Synthetic {like.modality}, not acquired",
            number=settings.series_number, model=model, software=__version__,
            window=settings.window or (WINDOW_HU if like.modality == "CT" else like.limits),
            modality=like.modality, step=step,
        )  # fmt: skip
        target = folder / item.row["patient"] / item.key
        shutil.rmtree(target, ignore_errors=True)  # slices of an earlier image must not stay
        made = []
        for k, plane in enumerate(pixels):
            instance = uid(f"synthetic instance\x1f{state}\x1f{k}")
            path = target / f"{k + 1:05d}.dcm"
            with atomic(path) as temporary:
                data = dataset.slice_of(common, volume.geometry, subject, k, plane, instance)
                temporary.write_bytes(dataset.encode(data))
            made.append({"number": k + 1, "path": str(path)})
    return made


def _subject(item: ExportItem, identity: str, uid: Uid) -> Subject:
    """Who and what the image was made from, as it is to be written."""
    header = _header(item)
    original = identity == "original"
    name = uid if not original else str  # how identifiers of the source are written
    own = item.row["patient"]
    instances: tuple[Instance, ...] = ()
    sop_class = str(header.get("SOPClassUID", "")) or "1.2.840.10008.5.1.4.1.1.2"
    if item.slices and item.series_uid:
        instances = tuple(Instance(sop_class, name(instance), place) for _, instance, place in item.slices if instance)
    frame = str(header.get("FrameOfReferenceUID", "") or "")
    facts = {
        # without a source in DICOM the identifiers are new ones
        "study_uid": name(item.study_uid) if item.study_uid else uid(f"study\x1f{item.row['session']}"),
        "frame_uid": name(frame) if frame else uid(f"frame\x1f{item.key}"),
        "series_uid": name(item.series_uid) if item.series_uid else "",
        "instances": instances,
        "patient_position": str(header.get("PatientPosition", "") or ""),
    }
    if not original:
        return Subject(patient_id=own, patient_name=own, **facts)
    told = {
        field: str(header.get(keyword, "") or "")
        for field, keyword in (
            ("birth_date", "PatientBirthDate"), ("sex", "PatientSex"), ("study_date", "StudyDate"),
            ("study_time", "StudyTime"), ("accession", "AccessionNumber"), ("study_id", "StudyID"),
        )
    }  # fmt: skip
    return Subject(
        patient_id=str(header.get("PatientID", "") or ""), patient_name=str(header.get("PatientName", "") or ""),
        pseudonymous=False, **told, **facts,
    )  # fmt: skip


def _header(item: ExportItem) -> Dataset:
    """Header of the first source slice; empty without one."""
    if not item.slices:
        return Dataset()
    try:
        with open_file(item.folder, item.slices[0][0]) as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    except Exception:  # whatever is wrong with it; its text may name somebody
        raise ScanError("FILE_UNREADABLE", "the source's first slice cannot be read") from None
