"""Device, threads, determinism and arithmetic of torch."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..errors import UserError

Precision = Literal["fp32", "tf32", "bf16"]


def prepare(device: str, threads: int, *, deterministic: bool = True, index: int = 0, count: int = 1) -> torch.device:
    """Fix threads and deterministic algorithms; return the device that `auto`, `cpu` or `cuda` means here.

    `index` numbers the GPU of this process, of `count` that are wanted. TF32 is off until `Arithmetic` turns it on:
    torch's own default differs by version.

    Raises
    ------
    UserError
        when CUDA is asked for and there is none, or there are fewer than `count` GPUs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but torch sees no CUDA device here; write device: auto or device: cpu.")
    if device == "auto" and os.environ.get("SLURM_JOB_ID") and not torch.cuda.is_available():
        raise UserError(
            "device: auto means a GPU on a cluster, and torch sees none in this job; write device: cpu to do without."
        )
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda and count > torch.cuda.device_count():
        raise UserError(
            f"engine: devices: {count} GPUs are asked for, and torch sees {torch.cuda.device_count()} here; write "
            f"devices: {torch.cuda.device_count()}."
        )
    exact = deterministic or not cuda
    torch.use_deterministic_algorithms(exact)
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.deterministic = exact
    tf32(False)
    if not cuda:
        return torch.device("cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def tf32(on: bool) -> None:
    """Let CUDA round the factors of float32 products to 10 bits of mantissa, or not."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


@dataclass(frozen=True)
class Arithmetic:
    """How networks are computed on a device."""

    device: torch.device
    precision: Precision = "fp32"
    compiled: bool = False

    def __post_init__(self) -> None:
        tf32(self.precision == "tf32")

    def cast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of a network's pass; what comes out is turned to float32 by the caller."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)
