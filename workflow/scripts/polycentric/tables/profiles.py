"""Schema of the manifests of profiles, and their files: what the evaluation of synthetic images reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import atomic
from . import Schema
from .schemas import FILE, SCAN, optional, text

PROFILES = Schema(
    "profiles",
    1,
    SCAN
    | {"view": text("view"), "fold": text("fold"), "profile": text("profile of the study file"), **FILE}
    | {
        "slices": optional("integer", "slices described"),
        "length_mm": optional("number", "distance between the landmarks"),
        "network": optional("text", "network of the features; empty without"),
        "distance": optional("text", "what a Frechet distance of these features is called"),
    },
    key=("scan", "view", "fold", "profile"),
)


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as uncompressed .npz, atomically; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: arrays[name] for name in sorted(arrays)})
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stream:
        return {name: stream[name] for name in stream.files}
