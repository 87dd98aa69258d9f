"""Run a decoder in a process of its own, so that one that crashes, hangs or devours memory costs a scan, not the job.

A child is forked per scan. It inherits the loaded libraries, sends planes through a pipe (cheaper than memory that both
share), and is bounded in processor time per slice, in memory, and in time without progress. What it prints is dropped:
messages of decoders name files.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import fcntl
import gc
import mmap
import os
import pickle
import resource
import select
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ScanError

CODE = "TS_UNDECODABLE"
CPU_S = 5.0  # per slice, and a second more per million pixels: the slowest decoder takes a tenth of that
STALLED_S = 600.0  # without a sign of life, for input that no longer answers
PIPE_BYTES = 2**20
# kind of message, number of the slice, bytes that follow
_HEAD = struct.Struct("<cqq")
_TICK, _PLANE, _END = b"t", b"p", b"e"
# given the number, shape and type of a plane: where it is to be read into
Room = Callable[[int, tuple[int, ...], np.dtype], np.ndarray]


class Channel:
    """What the child says to its parent."""

    def __init__(self, pipe: int, parent: int) -> None:
        self.pipe, self.parent = pipe, parent

    def tick(self, number: int, pixels: int) -> None:
        """Say that a slice is begun; the processor time for it is counted from here."""
        if os.getppid() != self.parent:
            os._exit(1)
        signal.setitimer(signal.ITIMER_PROF, CPU_S + pixels / 1e6)
        self._write(_HEAD.pack(_TICK, number, 0))

    def send(self, number: int, plane: np.ndarray) -> None:
        """Hand over a plane."""
        facts = pickle.dumps((plane.shape, plane.dtype.str))
        self._write(_HEAD.pack(_PLANE, number, len(facts)) + facts)
        self._write(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)

    def end(self, outcome: tuple[str, Any]) -> None:
        data = pickle.dumps(outcome)
        self._write(_HEAD.pack(_END, 0, len(data)) + data)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.pipe, view) :]


def isolated(work: Callable[[Channel], Any], room: Room, *, memory_bytes: int, stalled_s: float = STALLED_S) -> Any:
    """Return `work(channel)`, run in a forked child; the planes that it sends are read into what `room` returns.

    Parameters
    ----------
    memory_bytes
        address space that the child may take beyond what it inherits.
    stalled_s
        longest time without a sign of life, s.

    Raises
    ------
    ScanError
        What `work` or `room` raised, or TS_UNDECODABLE if the decoder failed, crashed, or took too much time or memory.
    OSError
        If a file is gone or cannot be read: that says nothing about the scan.
    """
    reading, writing = os.pipe()
    with contextlib.suppress(AttributeError, OSError):  # a whole plane at a time where the system allows it
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    parent = os.getpid()
    gc.freeze()  # a collection in the child would copy every page
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, Channel(writing, parent), memory_bytes)
    gc.unfreeze()
    os.close(writing)
    number, outcome, stalled = -1, None, False
    try:
        while outcome is None and (head := _read(reading, bytearray(_HEAD.size), stalled_s)):
            kind, at, length = _HEAD.unpack(head)
            number = max(at, number) if kind == _END else at
            body = _read(reading, bytearray(length), stalled_s)
            if body is None:
                break
            if kind == _END:
                outcome = pickle.loads(body)
            elif kind == _PLANE:
                shape, dtype = pickle.loads(body)
                target = room(at, shape, np.dtype(dtype))
                if _read(reading, target.reshape(-1).view(np.uint8), stalled_s) is None:
                    break
    except TimeoutError:
        stalled = True
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # it has ended, or stalled, or this process is being stopped
        _, status = os.waitpid(child, 0)
    if outcome is not None:
        return _result(outcome, number)
    if stalled:
        raise ScanError(CODE, f"slice {number}: the decoder did not answer within {stalled_s:g} s")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        raise ScanError(CODE, f"slice {number}: the decoder took too much processor time")
    raise ScanError(CODE, f"slice {number}: the decoder crashed")


def _result(outcome: tuple[str, Any], number: int) -> Any:
    kind, value = outcome
    if kind == "value":
        return value
    if kind == "scan":
        raise ScanError(*value)
    if kind == "file":
        raise OSError(value, os.strerror(value))
    if kind == "memory":
        raise ScanError(CODE, f"slice {number} needs more memory to decode than its size explains")
    raise ScanError(CODE, f"slice {number} cannot be decoded")


def _read(pipe: int, target: Any, stalled_s: float) -> Any:
    """Fill `target` from the pipe; None if it ends before. Raises TimeoutError."""
    view = memoryview(target)
    since = time.monotonic()
    while view:
        while not select.select([pipe], [], [], stalled_s)[0]:
            if time.monotonic() - since >= stalled_s:
                raise TimeoutError
        got = os.readv(pipe, [view])
        if not got:
            return None
        view, since = view[got:], time.monotonic()
    return target


def _child(work: Callable[[Channel], Any], channel: Channel, memory: int) -> None:
    """The child's whole life; it never returns."""
    try:
        gc.disable()
        faulthandler.disable()
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
        outcome = _outcome(work, channel)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.end(outcome)
    finally:
        os._exit(0)


_FILE_ERRORS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTDIR}


def _outcome(work: Callable[[Channel], Any], channel: Channel) -> tuple[str, Any]:
    try:
        return "value", work(channel)
    except ScanError as error:
        return "scan", (error.code, error.reason)
    except MemoryError:
        return "memory", None
    except OSError as error:
        return ("file", error.errno) if error.errno in _FILE_ERRORS else ("error", None)
    except Exception:  # decoders raise whatever they like
        return "error", None
