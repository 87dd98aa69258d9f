"""Run a decoder in a process of its own, so that one that crashes, hangs or devours memory costs a scan, not the job.

A child is forked per scan. It inherits the loaded libraries, hands pixels back through memory that both share, and is
bounded in processor time per slice, in memory, and in time without progress. What it prints is dropped: messages of
decoders name files.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import pickle
import resource
import select
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ScanError

CODE = "TS_UNDECODABLE"
CPU_S = 5.0  # per slice, and a second more per million pixels: the slowest decoder takes a tenth of that
STALLED_S = 600.0  # without a new slice, for input that no longer answers
Tick = Callable[[int, int], None]


@contextlib.contextmanager
def shared_file() -> Iterator[int]:
    """Descriptor of an empty file in memory, without a name, that parent and child share."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pixels")
    else:
        with tempfile.TemporaryFile() as temporary:
            descriptor = os.dup(temporary.fileno())
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def attach(descriptor: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The shared file as an array, grown to hold it; it stays valid when the descriptor is closed."""
    length = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
    if os.fstat(descriptor).st_size < length:
        os.ftruncate(descriptor, length)
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mmap.mmap(descriptor, length), dtype=dtype, count=count).reshape(shape)


def isolated(work: Callable[[Tick], Any], *, memory_bytes: int, stalled_s: float = STALLED_S) -> Any:
    """Return `work(tick)`, run in a forked child; `work` calls `tick(slice, pixels)` before each slice.

    Parameters
    ----------
    memory_bytes
        address space that the child may take beyond what it inherits.
    stalled_s
        longest time between two slices, s.

    Raises
    ------
    ScanError
        What `work` raised, or TS_UNDECODABLE if the decoder failed, crashed, or took too much time or memory.
    OSError
        If a file is gone or cannot be read: that says nothing about the scan.
    """
    reading, writing = os.pipe()
    progress = mmap.mmap(-1, 16)  # number of the slice, and a count that tells that something moves
    parent = os.getpid()
    gc.freeze()  # a collection in the child would copy every page
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, writing, progress, memory_bytes, parent)
    gc.unfreeze()
    os.close(writing)
    try:
        answer, stalled = _answer(reading, progress, stalled_s)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # it has answered, stalled, or this process is being stopped
        _, status = os.waitpid(child, 0)
    number = struct.unpack("<q", progress[:8])[0]
    if answer:
        kind, value = pickle.loads(answer)
        if kind == "value":
            return value
        if kind == "scan":
            raise ScanError(*value)
        if kind == "file":
            raise OSError(value, os.strerror(value))
        if kind == "memory":
            raise ScanError(CODE, f"slice {number} needs more memory to decode than its size explains")
        raise ScanError(CODE, f"slice {number} cannot be decoded")
    if stalled:
        raise ScanError(CODE, f"slice {number}: the decoder did not answer within {stalled_s:g} s")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        raise ScanError(CODE, f"slice {number}: the decoder took too much processor time")
    raise ScanError(CODE, f"slice {number}: the decoder crashed")


def _answer(reading: int, progress: mmap.mmap, stalled_s: float) -> tuple[bytes, bool]:
    """What the child wrote, whole or nothing, and whether it stopped moving."""
    chunks: list[bytes] = []
    seen, since = progress[8:16], time.monotonic()
    while True:
        ready, _, _ = select.select([reading], [], [], min(1.0, stalled_s))
        if ready:
            chunk = os.read(reading, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
        elif progress[8:16] != seen:
            seen, since = progress[8:16], time.monotonic()
        elif time.monotonic() - since > stalled_s:
            return b"", True
    data = b"".join(chunks)
    whole = len(data) >= 8 and len(data) - 8 == struct.unpack("<q", data[:8])[0]
    return (data[8:] if whole else b""), False


def _child(work: Callable[[Tick], Any], writing: int, progress: mmap.mmap, memory: int, parent: int) -> None:
    """The child's whole life; it never returns."""
    try:
        gc.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        for number in (signal.SIGPROF, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = Path("/proc/self/statm")
        if pages.exists():
            now = int(pages.read_text().split()[0]) * mmap.PAGESIZE
            resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
        moves = 0

        def tick(number: int, pixels: int) -> None:
            nonlocal moves
            if os.getppid() != parent:
                os._exit(1)
            moves += 1
            progress[:16] = struct.pack("<qq", number, moves)
            signal.setitimer(signal.ITIMER_PROF, CPU_S + pixels / 1e6)

        answer = pickle.dumps(_outcome(work, tick))
        data = struct.pack("<q", len(answer)) + answer
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


_FILE_ERRORS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTDIR}


def _outcome(work: Callable[[Tick], Any], tick: Tick) -> tuple[str, Any]:
    try:
        return "value", work(tick)
    except ScanError as error:
        return "scan", (error.code, error.reason)
    except MemoryError:
        return "memory", None
    except OSError as error:
        return ("file", error.errno) if error.errno in _FILE_ERRORS else ("error", None)
    except Exception:  # decoders raise whatever they like
        return "error", None
