"""Weights that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import UserError
from ..networks import weights as weight_files
from ..training import adopt

if TYPE_CHECKING:
    from ..config.base import ImportedWeights
    from ..config.synthesis import Synthesis


def weights(settings: Synthesis, given: ImportedWeights, where: str) -> dict[str, Tensor]:
    """Tensors of both generators from the file of a trained model.

    Raises
    ------
    UserError
        if the file is not there, is another one than its sha256 says, or holds another architecture.
    """
    path = adopt.checked(given, f"{where}: start_from")
    tensors, stated = weight_files.read(path)
    if problems := differences(settings, stated.get("settings", {})):
        raise UserError(
            f"{where}: start_from: {given.path!r} holds generators of another architecture: {'; '.join(problems)}. "
            f"Write the same in this model, or start from other weights."
        )
    return tensors


def refuse_other(settings: Synthesis, given: ImportedWeights, where: str) -> None:
    """Raise UserError if weights to import are of another generator than these settings describe."""
    path = adopt.checked(given, f"{where}: import")
    if problems := differences(settings, weight_files.facts(path).get("settings", {}), ranges=True):
        raise UserError(
            f"{where}: import: {given.path!r} holds another generator: {'; '.join(problems)}. Write the settings "
            "that it was trained with."
        )


def patients_behind(given: ImportedWeights, split: Path, training: set[str], where: str) -> tuple[str, ...]:
    """Patients that start weights know, by the settings and by a ledger beside them.

    Raises
    ------
    UserError
        if they know patients of the split that are not in its training part, or settings and ledger contradict.
    """
    from .. import tables
    from ..tables import schemas

    held_out = set(tables.read(split, schemas.SPLIT)["patient"]) - training
    seen = adopt.seen(given, split, "synthesis", f"{where}: start_from")
    if known := sorted(held_out & set(seen)):
        raise UserError(
            f"{where}: start_from: seen: {len(known)} of the patients that its weights have seen are held out in split "
            f"{split.stem!r} ({', '.join(known[:3])}{', ...' if len(known) > 3 else ''}). Write a split in which they "
            f"are training patients, or start from other weights."
        )
    return seen


def differences(settings: Synthesis, stated: dict[str, Any], *, ranges: bool = False) -> list[str]:
    """In what the generators of stated settings differ from these; keys that were not stated had their defaults.

    With `ranges` the intensities that are mapped to -1 and 1 have to be the same, too.
    """
    try:
        parsed = type(settings).model_validate(stated)
    except ValueError:  # pydantic's is one
        return ["its settings are not those of a synthesis model of this version"]
    before, now = _facts(parsed, ranges), _facts(settings, ranges)
    return [f"{name} is {before[name]!r} there and {now[name]!r} here" for name in now if before[name] != now[name]]


def _facts(settings: Synthesis, ranges: bool) -> dict[str, Any]:
    facts = {"dimensions": settings.dimensions, "inputs": settings.inputs}
    beside = {"first"} if settings.inputs > 1 else {"first", "branch_blocks", "merge"}
    facts |= settings.generator.model_dump(mode="json", exclude=beside)
    if ranges:
        facts |= {"source range": settings.source_ranges, "target range": settings.target_range}
    return facts
