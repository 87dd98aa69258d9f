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
    settings_json: str,
    code: str,
    where: str,
    log: Log,
) -> None:
    """Copy the weights and write the ledger: the patients named as seen, under the part `elsewhere`.

    Raises
    ------
    UserError
        if the file is not there, is another one than its sha256 says, or holds no weights of Polycentric.
    """
    path = checked(given, f"{where}: import")
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
        seen={"elsewhere": given.seen},
        settings=settings_json,
        code=code,
    )
    log.event("imported", model=name, sha256=found)


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
