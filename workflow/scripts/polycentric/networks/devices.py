"""Device, threads and determinism of torch."""

from __future__ import annotations

import os

import torch

from ..errors import UserError


def prepare(device: str, threads: int) -> torch.device:
    """Fix threads and deterministic algorithms; return the device that `auto`, `cpu` or `cuda` means here.

    Raises
    ------
    UserError
        when CUDA is asked for and there is none.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but torch sees no CUDA device here; write device: auto or device: cpu.")
    if device == "auto" and os.environ.get("SLURM_JOB_ID") and not torch.cuda.is_available():
        raise UserError(
            "device: auto means a GPU on a cluster, and torch sees none in this job; write device: cpu to do without."
        )
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
