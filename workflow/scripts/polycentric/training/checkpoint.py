"""Training state on disk: tensors as safetensors, all else as JSON, both hashed, the last two kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..files import canonical_json, hash_of, sha256_bytes, sha256_file, write_text
from ..networks import weights

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State after `iteration` iterations."""

    iteration: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the JSON, written last, makes it valid. Older ones but the last are removed after it.

    A process killed at any moment leaves at least the checkpoint before.
    """
    stem = f"{checkpoint.iteration:09d}"
    tensors = folder / f"{stem}.safetensors"
    weights.write(checkpoint.tensors, tensors, key=key, iteration=checkpoint.iteration)
    body = {
        "schema_version": 1,
        "key": key,
        "iteration": checkpoint.iteration,
        "tensors_sha256": sha256_file(tensors),
        "state": checkpoint.state,
    }
    write_text(folder / f"{stem}.json", canonical_json(body | {"sha256": hash_of(body)}))
    for path in sorted(folder.glob("*.json"))[:-KEPT]:
        path.unlink()
    valid = {path.stem for path in folder.glob("*.json")}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors" and path.stem not in valid:
            path.unlink()  # of a removed checkpoint, or the rest of a write that was killed


def load(folder: Path, key: str) -> Checkpoint | None:
    """The newest checkpoint whose hashes hold, or None.

    Raises
    ------
    UserError
        when the folder holds the state of other settings, which must never be inherited.
    """
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            record = json.loads(path.read_bytes())
            stated = record.pop("sha256")
            tensors = path.with_suffix(".safetensors")
            if sha256_bytes(canonical_json(record).encode()) != stated:
                continue
            if sha256_file(tensors) != record["tensors_sha256"]:
                continue
        except (ValueError, KeyError, AttributeError, TypeError, OSError):
            continue  # torn or damaged: the one before is used
        if record["key"] != key:
            raise UserError(
                f"{folder.name}: this training state belongs to other settings, scans or code; remove the folder."
            )
        return Checkpoint(record["iteration"], weights.read(tensors)[0], record["state"])
    return None
