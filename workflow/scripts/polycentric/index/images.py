"""Images that are no DICOM: what the table of a centre says of its files, as rows of the index."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from ..config.images import NUMBERS, ImageTable, SpacingColumns
from ..errors import UserError
from ..files import hash_of, sha256_file
from ..formats import DETACHED, PICTURES, ImageFacts, Unreadable, planes, read_facts, suffix_of
from ..sources import SEPARATOR, local_file, open_file
from ..tables.private import decode_path, encode_path
from ..tables.written import absent, read_written, rows_in_words

Row = dict[str, Any]
Read = Callable[[Path, str], Row]
MASK = "SEG"
_AXIAL = "1.0 0.0 0.0 0.0 1.0 0.0"
_RESCALE_TYPE = {"HU": "HU", "SUVbw": "SUVBW", "Bq/mL": "BQML", "counts": "CNTS", "arbitrary": "US"}
_PET = {"SUVbw": {"Units": "GML", "SUVType": "BW"}, "Bq/mL": {"Units": "BQML"}, "counts": {"Units": "CNTS"}}


@dataclass
class Listed:
    """One image of the table: its file, its row number in the table, and what the table says of it."""

    path: str
    number: int
    patient: str
    session: str
    scan: str
    modality: str
    date: str = ""
    contrast: str = "unknown"
    slice: float | None = None
    spacing: tuple[float, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    masks: list[tuple[str, str, int | None, str]] = field(default_factory=list)  # source, region, value, path


@dataclass(frozen=True)
class Use:
    """A region in a mask file and the image that it belongs to."""

    image: Listed
    source: str
    region: str
    value: int | None


@dataclass(frozen=True)
class ImageReader:
    """Gives the row of each file of a centre that has a table of images (columns of `INDEX` from `reading` on).

    A file of several planes is one row with `frame_facts`; a slice of a scan in files of its own has its position in
    the columns of single slices. A file that cannot be used is ``unreadable``, with the reason under `error`; one that
    looks like an image but is not named is skipped with the error FILE_NOT_LISTED; any other is left to `otherwise`.
    `stamp` is a hash of all that the rows depend on besides the files.
    """

    centre: str
    settings: ImageTable
    images: Mapping[str, Listed]
    masks: Mapping[str, Sequence[Use]]
    otherwise: Read
    stamp: str

    def __call__(self, folder: Path, path: str) -> Row:
        if path not in self.images and path not in self.masks:
            if suffix_of(decode_path(path)):
                return {"reading": "not-dicom", "error": "FILE_NOT_LISTED"}
            return self.otherwise(folder, path)
        users = [self.images[path]] if path in self.images else [use.image for use in self.masks[path]]
        try:
            facts, digest = _read_file(folder, path)
        except Exception as error:  # whatever is wrong with one file, the others must be indexed
            reason = str(error) if isinstance(error, Unreadable) else type(error).__name__
            row = json.dumps({"rows": [i.number for i in users]}, sort_keys=True)
            return {"reading": "unreadable", "error": reason, "table_row": row}
        if path in self.images:
            return _image(self.centre, self.images[path], self.settings, facts, digest)
        return _mask(self.centre, path, self.masks[path], self.settings, facts, digest)


def image_reader(centre: str, folder: Path, table: Path, settings: ImageTable, otherwise: Read) -> ImageReader:
    """Read and check the table of images of a centre.

    Parameters
    ----------
    folder
        The centre's folder, which paths in the table are relative to; members of archives are `archive.zip//member`.
    otherwise
        Gives the row of a file that is no image of the table, from folder and path: the reader of DICOM headers.

    Raises
    ------
    UserError
        with all problems of the table, rows by number, never by a patient or a path.
    """
    images = _read_table(table, settings, folder)
    masks: dict[str, list[Use]] = {}
    for image in images:
        for source, region, value, path in image.masks:
            masks.setdefault(path, []).append(Use(image, source, region, value))
    stamp = hash_of([settings.model_dump(mode="json"), sha256_file(table)])
    return ImageReader(centre, settings, {image.path: image for image in images}, masks, otherwise, stamp)


def _read_file(folder: Path, path: str) -> tuple[ImageFacts, str]:
    """Header of an image file and the hash of its content."""
    suffix = suffix_of(decode_path(path))
    if suffix in DETACHED and SEPARATOR in path:
        raise Unreadable("a header whose data lie in another file of an archive")
    with local_file(folder, path) as local:
        return read_facts(local, suffix), sha256_file(local)


# ------------------------------------------------------------------------------------------------------------- table


def _read_table(table: Path, settings: ImageTable, folder: Path) -> list[Listed]:
    raw = read_written(table, "table.file")
    where = table.name
    if twice := sorted({str(c) for c in raw.columns[raw.columns.duplicated()]}):
        raise UserError(f"{where}: columns {', '.join(twice)} stand there twice. Rename one of each.")
    missing = [p for key, column in settings.columns().items() for p in absent(raw, where, f"table.{key}", column)]
    if missing:
        raise UserError(*dict.fromkeys(missing))
    if raw.empty:
        raise UserError(f"{where}: the table has no row. Write one per image file.")
    raw = raw.apply(lambda c: c.str.strip())
    checked = _Checked(settings, folder)
    images = [one for number, row in raw.iterrows() if (one := checked.image(number, row)) is not None]
    checked.together(images)
    if problems := checked.problems():
        raise UserError(
            f"{where} has {len(problems)} problem{'s' * (len(problems) > 1)}:", *(f"  - {p}" for p in problems)
        )
    return images


class _Checked:
    """Reads rows of a table and gathers what is wrong, by kind of mistake with the numbers of its rows."""

    def __init__(self, settings: ImageTable, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.wrong: dict[str, list[int]] = {}

    def note(self, problem: str, *numbers: int) -> None:
        self.wrong.setdefault(problem, []).extend(numbers)

    def problems(self) -> list[str]:
        return [f"{rows_in_words(sorted(set(numbers)))}, {problem}" for problem, numbers in self.wrong.items()]

    def image(self, number: int, row: pd.Series) -> Listed | None:
        s = self.settings
        path = self._file(number, row[s.path], s.path)
        patient = "".join(c if c.isprintable() else " " for c in row[s.patient]).strip()
        if not patient:
            self.note(f"column {s.patient!r}: no patient. Write one or remove the row.", number)
        modality = self._value(row, "modality").upper()
        if not re.fullmatch(r"[A-Z]{2,16}", modality):
            self.note("modality: no DICOM modality. Write one such as CT, MR, PT, DX.", number)
        date = re.sub(r"^(\d{4})-(\d\d)-(\d\d)([ T].*)?$", r"\1\2\3", self._value(row, "date"))
        if date and pd.isna(pd.to_datetime(date, format="%Y%m%d", errors="coerce")):
            self.note("date: no date. Write YYYY-MM-DD, or nothing if it is unknown.", number)
        contrast = self._value(row, "contrast").lower() or "unknown"
        if contrast not in ("yes", "no", "unknown"):
            self.note("contrast: write yes, no or unknown.", number)
        facts: dict[str, Any] = {}
        for name in s.facts:
            text = self._value(row, f"facts.{name}")
            if name not in NUMBERS:
                facts[name] = "".join(c if c.isprintable() else " " for c in text)
            elif (value := _number(text)) is not None:
                facts[name] = value
            elif text:
                self.note(f"facts.{name}: text where a number is needed. Write a number, or nothing.", number)
        position = _number(row[s.slice]) if s.slice else None
        if s.slice and position is None:
            self.note(f"column {s.slice!r}: no number of a slice. Write one.", number)
        if s.scan and not row[s.scan]:
            self.note(f"column {s.scan!r}: no scan. Write the name that its slices share.", number)
        masks = []
        for source, regions in s.masks.items():
            for region, mask in regions.items():
                if row[mask.column] and (one := self._file(number, row[mask.column], mask.column)):
                    masks.append((source, region, mask.value, one))
        if path is None:
            return None
        session = row[s.session] if s.session else date
        return Listed(
            path=path, number=number, patient=patient, session=session, scan=row[s.scan] if s.scan else path,
            modality=modality, date=date, contrast=contrast, slice=position, spacing=self._spacing(number, row),
            facts=facts, masks=masks,
        )  # fmt: skip

    def _value(self, row: pd.Series, key: str) -> str:
        """A fact of an image: its cell of a column, or the one value of all."""
        facts = self.settings.facts
        fact = facts[key.removeprefix("facts.")] if key.startswith("facts.") else getattr(self.settings, key)
        if fact is None:
            return ""
        return row[fact.column] if fact.column is not None else str(fact.value).strip()

    def _spacing(self, number: int, row: pd.Series) -> tuple[float, ...] | None:
        spacing = self.settings.spacing_mm
        if not isinstance(spacing, SpacingColumns):
            return spacing
        cells = [row[c] for c in spacing.columns]
        if not any(cells) and not self.settings.scan:
            return None
        values = [_number(c) for c in cells]
        if any(v is None for v in values) or min(values[:2]) <= 0 or 0 in values:  # type: ignore[type-var]
            self.note(f"columns {', '.join(spacing.columns)}: no distances in mm. Write numbers above 0.", number)
            return None
        return tuple(values)  # type: ignore[arg-type]

    def _file(self, number: int, cell: str, column: str) -> str | None:
        """The path of the index that a cell names; folders may be parted by backslashes, accents be written apart."""
        if not cell:
            self.note(f"column {column!r}: no file. Write its path below the centre's folder.", number)
            return None
        parts = re.split(r"[/\\]", cell)
        if cell.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", cell) or ".." in parts:
            self.note(f"column {column!r}: a path outside the centre's folder. Write it relative to that.", number)
            return None
        if not suffix_of(cell):
            self.note(
                f"column {column!r}: no image file by its name. Write .nii, .nii.gz, .nrrd, .mha, .mhd, .png, .jpg or "
                ".tif files; DICOM files need no table.",
                number,
            )
            return None
        for text in dict.fromkeys([cell, cell.replace("\\", "/")]):
            for form in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
                outer, separator, member = form.partition(SEPARATOR) if ".zip//" in form.lower() else (form, "", "")
                path = encode_path(PurePosixPath(outer).as_posix() + separator + member)
                if self._exists(path):
                    return path
        if self.settings.absent == "error":
            self.note(
                f"column {column!r}: the file is not there. Correct the path (relative to the centre's folder, "
                "capitals count), or write absent: ignore.",
                number,
            )
        return None

    def _exists(self, path: str) -> bool:
        try:
            open_file(self.folder, path).close()
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False
        return True

    def together(self, images: list[Listed]) -> None:
        """What rows say about one another."""
        by_path: dict[str, list[Listed]] = {}
        for image in images:
            by_path.setdefault(image.path, []).append(image)
        for several in by_path.values():
            if len(several) > 1:
                self.note("the same image file. Leave one row per file.", *(i.number for i in several))
        sources: dict[str, set[str]] = {}
        values: dict[tuple[str, str], set[int | None]] = {}
        users: dict[str, list[int]] = {}
        for image in images:
            for source, region, value, path in image.masks:
                sources.setdefault(path, set()).add(source)
                values.setdefault((path, region), set()).add(value)
                users.setdefault(path, []).append(image.number)
                if path in by_path:
                    self.note("a mask file that is also an image. Correct one of the columns.", image.number)
        for path, several_sources in sources.items():
            patients = {i.patient for i in images if i.number in users[path]}
            if len(patients) > 1:
                self.note("one mask file for several patients. Correct the column.", *users[path])
            if len(several_sources) > 1:
                self.note("one mask file under several mask sources. Save a file for each.", *users[path])
        for (path, _), several_values in values.items():
            if len(several_values) > 1:
                self.note("one mask file with two values of a region. Correct masks.", *users[path])
        if not self.settings.scan:
            return
        scans: dict[tuple[str, str, str], list[Listed]] = {}
        for image in images:
            scans.setdefault((image.patient, image.session, image.scan), []).append(image)
        for slices in scans.values():
            numbers = [i.number for i in slices]
            if len({i.slice for i in slices}) < len(slices):
                self.note("two slices of one scan have the same number. Correct the column of slices.", *numbers)
            for name in ("modality", "date", "contrast", "spacing"):
                if len({getattr(i, name) for i in slices}) > 1:
                    self.note(f"slices of one scan differ in {name}. Write the same in all its rows.", *numbers)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # also no infinity, no NaN


# -------------------------------------------------------------------------------------------------------------- rows


def uid(*parts: str) -> str:
    """A UID derived from a hash (PS3.5, B.2): the same for the same parts, told apart from any other."""
    digest = hashlib.sha256("\x1f".join(parts).encode(errors="surrogatepass")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _series(centre: str, image: Listed) -> str:
    return uid(centre, "series", image.patient, image.session, image.scan)


def _study(centre: str, image: Listed) -> str:
    return uid(centre, "study", image.patient, image.session)


def _instance(centre: str, path: str) -> str:
    return uid(centre, "instance", path)


def _frame(centre: str, image: Listed) -> str:
    return uid(_series(centre, image), "frame")


def _identity(centre: str, image: Listed) -> Row:
    return {
        "patient_id": image.patient,
        "study_uid": _study(centre, image),
        "frame_uid": _frame(centre, image),
        "study_date": image.date,
    }


def _image(centre: str, image: Listed, settings: ImageTable, facts: ImageFacts, digest: str) -> Row:
    grid = _grid(image, settings, facts)
    picture = suffix_of(image.path) in PICTURES
    unit = settings.unit or ("HU" if image.modality == "CT" and not picture else "arbitrary")
    agent = image.facts.get("contrast_agent", "")
    row = _identity(centre, image) | {
        "reading": "image",
        "error": "",
        "content_sha256": digest,
        "series_uid": _series(centre, image),
        "sop_instance": _instance(centre, image.path),
        "modality": image.modality,
        "instance_number": image.slice,
        "rescale_type": _RESCALE_TYPE[unit],
        # as scanners do: an empty tag means none was given, no tag says nothing
        "contrast_tagged": image.contrast != "unknown" or bool(agent),
        "table_row": json.dumps({"rows": [image.number], "planar": grid.planar}, sort_keys=True),
        **image.facts,
        "contrast_agent": (agent or "yes") if image.contrast == "yes" else "" if image.contrast == "no" else agent,
    }
    if image.modality == "PT" and unit in _PET:
        row["pet"] = json.dumps(_PET[unit], sort_keys=True)
    return row | _pixels(facts) | _geometry(grid, facts, settings.slope, settings.intercept)


def _mask(centre: str, path: str, uses: Sequence[Use], settings: ImageTable, facts: ImageFacts, digest: str) -> Row:
    """A mask file with the images that it belongs to. Files of one source and scan share the series."""
    first, source = uses[0].image, uses[0].source
    images = list({use.image.path: use.image for use in uses}.values())
    regions = sorted({(use.region, use.value) for use in uses}, key=lambda r: (r[0], r[1] or 0))
    structure = {
        "kind": "image",
        "label": source,
        "saved": "",
        "description": "",
        "frames": sorted({_frame(centre, i) for i in images}),
        "series": sorted({_series(centre, i) for i in images}),
        "instances": sorted(_instance(centre, i.path) for i in images),
        "regions": [{"name": name, "value": value} for name, value in regions],
    }
    grid = _grid(first, settings, facts)
    of = {"rows": [i.number for i in images], "planar": grid.planar, "images": sorted(i.path for i in images)}
    row = _identity(centre, first) | {
        "reading": "image",
        "error": "",
        "content_sha256": digest,
        "series_uid": uid(_series(centre, first), "masks", source),
        "sop_instance": _instance(centre, path),
        "modality": MASK,
        "instance_number": first.slice,
        "structure": json.dumps(structure, sort_keys=True),
        "table_row": json.dumps(of, sort_keys=True),
    }
    return row | _pixels(facts) | _geometry(grid, facts, 1.0, 0.0)


def _pixels(facts: ImageFacts) -> Row:
    columns, rows, frames = facts.size
    return {
        "rows": rows,
        "columns": columns,
        "frames": frames,
        "samples": facts.components,
        "bits_allocated": facts.bits,
        "bits_stored": facts.bits,
        "high_bit": facts.bits - 1,
        "signed": int(facts.signed),
        "photometric": "RGB" if facts.components >= 3 else "MONOCHROME2",
        "truncated": facts.truncated,
    }


@dataclass(frozen=True)
class _Grid:
    """Spacing (x, y, z) in mm as far as it is known, and the planes' positions and orientation."""

    spacing: tuple[float | None, float | None, float | None]
    planes: list[tuple[list[float] | None, str]]
    planar: bool


def _grid(image: Listed, settings: ImageTable, facts: ImageFacts) -> _Grid:
    count = facts.size[2]
    nowhere: list[tuple[list[float] | None, str]] = [(None, "")] * count
    if facts.spacing is not None and facts.direction is not None and not settings.planar:
        return _Grid(facts.spacing[:3], list(planes(facts)), False)
    if facts.spacing is not None:
        return _Grid((*facts.spacing[:2], None), nowhere, True)
    given = image.spacing
    x, y = given[:2] if given else (None, None)
    if given is not None and len(given) == 3 and not settings.planar and (image.slice is not None or count > 1):
        first = 0.0 if image.slice is None else image.slice
        return _Grid((x, y, given[2]), [([0.0, 0.0, (first + k) * given[2]], _AXIAL) for k in range(count)], False)
    return _Grid((x, y, None), nowhere, True)


def _geometry(grid: _Grid, facts: ImageFacts, slope: float, intercept: float) -> Row:
    x, y, z = grid.spacing
    position, orientation = grid.planes[0]
    row: Row = {"pixel_spacing_x_mm": x, "pixel_spacing_y_mm": y, "slope": slope, "intercept": intercept}
    row |= dict(zip((f"position_{a}_mm" for a in "xyz"), position or [None] * 3, strict=True))
    row["orientation"] = orientation
    if facts.size[2] > 1 or facts.direction is not None:
        row["frame_facts"] = json.dumps(
            [
                {
                    "position": at, "orientation": along, "spacing": None if x is None else [y, x],
                    "thickness": None if z is None else abs(z), "slope": slope, "intercept": intercept, "stack": "",
                    "temporal": "", "echo_time": None, "b_value": None, "acquisition_time": "", "type": "", "view": "",
                }
                for at, along in grid.planes
            ],
            sort_keys=True,
        )  # fmt: skip
    return row
