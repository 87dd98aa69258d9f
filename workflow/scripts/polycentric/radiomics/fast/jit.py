"""How the kernels are compiled: once per machine and user, single-threaded, with strict floating point.

Each kernel has one signature, so that processes that compile at the same time write the same file. The cache lies in
`NUMBA_CACHE_DIR`, else in the user's own cache folder (cached code is loaded without a check, so that a folder which
others may write to is no place for it), never beside the sources: those may be read-only, and their folder is hashed.
Without a folder that can be written, each process compiles anew (a few seconds).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None if no folder of the user's can be written."""
    given, home = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME", "~/.cache")
    try:
        folder = Path(given) if given else Path(home).expanduser() / "polycentric" / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for one signature, without fast-math, bounds checks or threads."""
    import numba

    folder = cache_folder()
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
    return numba.njit(signature, cache=folder is not None, error_model="numpy", fastmath=False)
