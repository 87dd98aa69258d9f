"""Write one centre's scans as DICOM files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import tables
from ..config.simulate import SimulatedCentre, Simulation
from ..errors import UserError
from ..files import sha256_bytes
from ..jobs import SILENT, Log
from ..randomness import generator
from ..tables.simulate import SIMULATED, TRUTH
from .anatomy import draw_anatomy
from .defects import inject
from .encode import MARKS
from .export import Export, add_images, add_structure, make_grid
from .headers import Subject
from .render import scan


def simulate_centre(
    name: str,
    centre: SimulatedCentre,
    simulation: Simulation,
    *,
    seed: int,
    truth: Path,
    folder: Path,
    manifest: Path,
    log: Log = SILENT,
) -> None:
    """Write the scans of a centre below `folder` and list them in `manifest`.

    The files depend on the arguments and the centre's rows of `truth` alone. A file that is already there with the
    right bytes is not touched, other bytes are replaced, and files of the simulator that are not planned (any more)
    are removed, so that an interrupted run is repaired by the next one.

    Raises
    ------
    UserError
        if the folder holds files that the simulator did not write, before anything is changed.
    """
    frame = tables.read(truth, TRUTH)
    patients = frame[(frame["centre"] == name) & frame["scanned"]].to_dict("records")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)
    rows: list[dict[str, Any]] = []
    for number, patient in enumerate(patients, start=1):
        for planned in simulate_patient(patient, centre, seed=seed).files:
            data = planned.bytes(centre.scanner.transfer_syntax)
            _write(folder / planned.path, data)
            rows.append({"path": planned.path, "bytes": len(data), "sha256": sha256_bytes(data)})
        log.progress("patients", number, len(patients))
    _remove_others(folder, {row["path"] for row in rows})
    tables.write(sorted(rows, key=lambda row: row["path"]), manifest, SIMULATED)


def simulate_patient(patient: dict[str, Any], centre: SimulatedCentre, *, seed: int) -> Export:
    """All files of one patient, from the patient's row of the truth."""
    scanner = centre.scanner
    stream = ("simulate", patient["centre"], patient["patient_id"])
    rng = generator(seed, *stream, "anatomy")
    chest = draw_anatomy(
        rng,
        field_mm=min(scanner.spacing_mm[:2]) * scanner.matrix,
        length_mm=scanner.spacing_mm[2] * scanner.slices,
        volume_ml=patient["volume_ml"],
        heterogeneity_hu=patient["heterogeneity_hu"],
    )
    rng = generator(seed, *stream, "scan")
    subject = Subject(
        seed,
        patient["centre"],
        patient["patient_id"],
        patient["sex"],
        int(patient["age_years"]),
        patient["contrast"] == "yes",
        int(rng.integers(2012, 2018)),
        int(rng.integers(1, 337)),
    )
    grid = make_grid(scanner, rng, patient["defect"])
    hu = scan(
        chest, scanner, grid.x, grid.y, grid.heights,
        blood_hu=patient["blood_hu"], tumour_hu=patient["tumour_hu"], rng=rng,
    )  # fmt: skip
    export = Export(subject, scanner, chest, grid, hu)
    add_images(export)
    add_structure(export, centre.roi)
    inject(patient["defect"], export)
    return export


def _write(path: Path, data: bytes) -> None:
    # an equal file keeps its time stamp, so that an incremental index does not read it again
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # renamed into place, but not synchronised with the disk one by one: the manifest vouches for all, and comes last
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(base) / name for base, _, names in os.walk(folder) for name in names)


def _refuse_foreign(folder: Path) -> None:
    """The simulator removes leftovers, so it works only in a folder where everything is its own."""
    for path in _files(folder):
        if path.name.startswith(".tmp-") or path.stat().st_size == 0:
            continue
        with path.open("rb") as stream:
            head = stream.read(4096)
            if not any(mark in head for mark in MARKS):
                raise UserError(
                    f"simulate: {folder} holds files that were not simulated, such as {path.relative_to(folder)}. "
                    f"Give the study another name, or move these files elsewhere."
                )


def _remove_others(folder: Path, planned: set[str]) -> None:
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in planned:
            path.unlink()
    for base, _, _ in os.walk(folder, topdown=False):
        if Path(base) != folder and not any(Path(base).iterdir()):
            Path(base).rmdir()
