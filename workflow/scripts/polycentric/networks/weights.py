"""Weights as safetensors with one metadata key, so that equal weights give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import UserError
from ..files import atomic, canonical_json

KEY = "polycentric"
VERSION = 1


def write(tensors: dict[str, Tensor], path: str | Path, **stated: Any) -> None:
    """Write tensors atomically, with `stated` facts as JSON under one metadata key (several change order)."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    metadata = {KEY: canonical_json({"schema_version": VERSION, **stated})}
    with atomic(path) as temporary:
        save_file(stored, temporary, metadata=metadata)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that `write` made.

    Raises
    ------
    UserError
        for a file of another kind or version.
    """
    stated = facts(path)
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, stated  # noqa: SIM118 (no mapping)


def facts(path: str | Path) -> dict[str, Any]:
    """The facts alone, without reading the tensors; raises as `read`."""
    advice = "remove it and run again."
    try:
        with safe_open(str(path), framework="pt") as stream:
            stated = json.loads((stream.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{Path(path).name}: not a readable safetensors file ({error}); {advice}") from None
    if stated.get("schema_version") != VERSION:
        raise UserError(f"{Path(path).name}: not weights of this version of Polycentric; {advice}")
    return stated


def names(path: str | Path) -> list[str]:
    """Names of the tensors alone, of a file that `facts` accepts."""
    with safe_open(str(path), framework="pt") as stream:
        return list(stream.keys())


def of(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Weights of a network under a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}


def into(network: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Copy the weights under a prefix into a network; the layout in memory stays the network's."""
    start = prefix + "."
    with torch.no_grad():
        network.load_state_dict({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
