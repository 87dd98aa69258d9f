"""Weights as safetensors with one metadata key, so that equal weights give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import UserError
from ..files import atomic, canonical_json

KEY = "polycentric"
VERSION = 1


def write(tensors: dict[str, Tensor], path: str | Path, **facts: Any) -> None:
    """Write tensors atomically, with `facts` as canonical JSON under the one metadata key (several change order)."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    metadata = {KEY: canonical_json({"schema_version": VERSION, **facts})}
    with atomic(path) as temporary:
        save_file(stored, temporary, metadata=metadata)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that `write` made.

    Raises
    ------
    UserError
        for a file of another kind or version.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            facts = json.loads((stream.metadata() or {}).get(KEY, "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
    except Exception as error:
        raise UserError(
            f"{Path(path).name}: not a readable safetensors file ({error}); remove it and run again."
        ) from None
    if facts.get("schema_version") != VERSION:
        raise UserError(f"{Path(path).name}: not weights of this version of Polycentric; remove it and run again.")
    return tensors, facts


def of(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Weights of a network under a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}


def into(network: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Copy the weights under a prefix into a network; the layout in memory stays the network's."""
    start = prefix + "."
    with torch.no_grad():
        network.load_state_dict({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
