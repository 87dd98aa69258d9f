"""Weights that were trained elsewhere: checked, copied, and entered in a ledger of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import ledger as ledgers
from ..errors import UserError
from ..files import atomic, sha256_file, write_json, write_text
from ..jobs import Log
from ..networks import weights as weight_files

if TYPE_CHECKING:
    from ..config.base import ImportedWeights


UNKNOWN = "which patients its weights have seen: no ledger lies beside them, and seen names nobody"


@dataclass(frozen=True)
class Outputs:
    """Files of a fitted model."""

    weights: Path
    settings: Path
    history: Path
    ledger: Path


def adopt(
    name: str,
    given: ImportedWeights,
    files: Outputs,
    *,
    stage: str,
    split: str,
    patients: Path,
    settings_json: str,
    code: str,
    where: str,
    log: Log,
) -> None:
    """Copy the weights and write the ledger: the patients known as seen (`seen`), under the part `elsewhere`.

    `patients` is the table of the split, whose patients are those of this study.

    Raises
    ------
    UserError
        if the file is not there, is another one than its sha256 says, or holds no weights of Polycentric; if a ledger
        beside it contradicts the settings.
    """
    path = checked(given, f"{where}: import")
    known = seen(given, patients, stage, f"{where}: import")
    found = given.sha256
    stated = weight_files.facts(path)
    with atomic(files.weights) as temporary:
        temporary.write_bytes(path.read_bytes())
    write_json(files.settings, {"schema_version": 1, "imported": {"sha256": found}, "stated": stated})
    write_text(files.history, "iteration\n")
    ledgers.write(
        files.ledger,
        name=name,
        stage=stage,
        split=split,
        seen={"elsewhere": known},
        unknown=unknown(given, known),
        weights=found,
        settings=settings_json,
        code=code,
    )
    log.event("imported", model=name, sha256=found)


def seen(given: ImportedWeights, split: Path, stage: str, where: str) -> tuple[str, ...]:
    """Patients behind given weights: those named in the settings and those of the ledger beside the file.

    A ledger tells pseudonyms of its own study. Where that had the key of this study, they are this study's.

    Raises
    ------
    UserError
        if the ledger is of other weights, or of another kind of model, or the settings name some patients as seen
        and leave out others of this study that the ledger names.
    """
    from .. import tables
    from ..tables import schemas

    beside = ledgers.beside(given.path)
    if beside is None:
        return given.seen
    record = ledgers.read(beside)
    stated = weight_files.facts(given.path).get("name", record["name"])
    if record["stage"] == stage and record.get("weights", given.sha256) != given.sha256:
        raise UserError(
            f"{where}: beside the weights lies the ledger of other weights of model {record['name']!r}. Write the path "
            f"of weights in the folder where they were trained, or in one of their own."
        )
    # imported weights keep the name that they had; ledgers of before name no weights
    if record["stage"] != stage or ("weights" not in record and record["name"] != stated):
        raise UserError(
            f"{where}: beside the weights of {stage} model {stated!r} lies the ledger of {record['stage']} model "
            f"{record['name']!r}. Write the path of weights in the folder where they were trained, or in one of their "
            f"own."
        )
    behind = {patient for patients in ledgers.seen_by(record).values() for patient in patients}
    left_out = sorted(behind & set(tables.read(split, schemas.SPLIT)["patient"]) - set(given.seen))
    if given.seen and left_out:
        raise UserError(
            f"{where}: seen: the ledger beside the weights names {len(left_out)} more patients of this study "
            f"({', '.join(left_out[:3])}{', ...' if len(left_out) > 3 else ''}). Leave seen out; the ledger is read."
        )
    return tuple(sorted(behind | set(given.seen)))


def unknown(given: ImportedWeights, known: tuple[str, ...]) -> str:
    """What is not known of the patients behind given weights, for the ledger."""
    if (beside := ledgers.beside(given.path)) is not None:
        return "; ".join(ledgers.unknown([beside]).values())
    return "" if known else UNKNOWN


def checked(given: ImportedWeights, where: str) -> Path:
    """Path of the file, which is what its sha256 says.

    Raises
    ------
    UserError
        if it is not there or another one.
    """
    path = Path(given.path)
    if not path.is_file():
        raise UserError(f"{where}: path: there is no file {given.path!r}. Write where the weights lie.")
    if (found := sha256_file(path)) != given.sha256:
        raise UserError(f"{where}: sha256: the file has {found}, not {given.sha256}. Write the right one.")
    return path
