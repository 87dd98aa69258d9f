"""Reading many files in processes that may fail: a file that crashes or stalls its reader costs itself, no other."""

from __future__ import annotations

import resource
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

# of the processor, per file, and one more for each 100 MB; then memory that reading may add; then a clock's seconds
SECONDS, BYTES_PER_SECOND, MEMORY, PATIENCE = 5.0, 10**8, 2**30, 20.0

Task = TypeVar("Task")
Result = TypeVar("Result")
Row = dict[str, Any]


class Overtime(BaseException):
    """Not an Exception, so that no reader takes it for a defect of a value."""


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    """Raise Overtime after `limit` seconds of the processor; slow storage does not count. Main thread only."""

    def late(number: int, frame: Any) -> None:
        raise Overtime

    before = signal.signal(signal.SIGPROF, late)
    # again and again, should something swallow it
    signal.setitimer(signal.ITIMER_PROF, limit, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def memory(extra: int = MEMORY) -> Iterator[None]:
    """Let the process take no more than `extra` bytes of address space beyond what it has; MemoryError if it asks."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux
        yield
        return
    limit = pages * resource.getpagesize() + extra
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def within(read: Callable[[], Row], size: int) -> Row:
    """What `read` returns within the time that a file of `size` bytes may take, else a row that says so."""
    try:
        with seconds(SECONDS + size / BYTES_PER_SECOND):
            return read()
    except Overtime:
        return {"reading": "unreadable", "error": "timeout"}
    except MemoryError:
        return {"reading": "unreadable", "error": "MemoryError"}


class Pool(Generic[Task, Result]):
    """Worker processes that read chunks of files; a chunk whose worker dies or stalls is read file by file.

    Parameters
    ----------
    read
        reads one file.
    pack
        makes the result of a chunk from its tasks and rows, in the worker.
    """

    def __init__(
        self,
        workers: int,
        read: Callable[[Task], Row],
        pack: Callable[[Sequence[Task], list[Row]], Result],
    ) -> None:
        self.workers, self.read, self.pack = workers, read, pack
        self.running: deque[tuple[Sequence[Task], Future[Result]]] = deque()
        self.executor = self._start()

    def __enter__(self) -> Pool[Task, Result]:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def _start(self) -> ProcessPoolExecutor:
        # fork: what is imported need not be imported again, and functions need not be picklable
        context = get_context("fork")
        executor = ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=(self.read, self.pack))
        executor.submit(_nothing).result()  # all start now, before this process holds much
        return executor

    def _stop(self) -> None:
        for process in list((self.executor._processes or {}).values()):
            process.kill()
        self.executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, tasks: Sequence[Task]) -> None:
        try:
            future = self.executor.submit(_chunk, tasks)
        except BrokenProcessPool:  # noticed when the earlier chunks are asked for
            future = Future()
            future.set_exception(BrokenProcessPool())
        self.running.append((tasks, future))

    def result(self) -> Result:
        """The result of the earliest chunk that has not been asked for."""
        tasks, future = self.running.popleft()
        try:
            return future.result(timeout=PATIENCE + SECONDS * len(tasks))
        except (BrokenProcessPool, Late):
            # which of the files in work is to blame nobody knows; all chunks are read again, this one with care
            self._stop()
            rows = carefully(self.read, tasks)
            self.executor = self._start()
            waiting, self.running = self.running, deque()
            for others, other in waiting:
                if other.done() and not other.cancelled() and other.exception() is None:
                    self.running.append((others, other))
                else:
                    self.submit(others)
            return self.pack(tasks, rows)


def carefully(read: Callable[[Task], Row], tasks: Sequence[Task]) -> list[Row]:
    """Read files one by one in a child process; a file at which it dies or falls silent is marked, another goes on."""
    context, rows = get_context("fork"), []
    while len(rows) < len(tasks):
        rest = tasks[len(rows) :]
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_send, args=(sender, read, rest), daemon=True)
        child.start()
        sender.close()
        try:
            for _ in rest:
                if not receiver.poll(PATIENCE):
                    rows.append({"reading": "unreadable", "error": "timeout"})
                    break
                rows.append(receiver.recv())
        except EOFError:
            rows.append({"reading": "unreadable", "error": "crashed"})
        finally:
            child.kill()
            child.join()
            receiver.close()
    return rows


_WORK: list[Any] = []  # of a worker process: how to read and pack


def _begin(*work: Any) -> None:
    _WORK[:] = work


def _nothing() -> None:
    return None


def _chunk(tasks: Sequence[Any]) -> Any:
    read, pack = _WORK
    with memory():
        rows = [read(task) for task in tasks]
    return pack(tasks, rows)


def _send(sender: Connection, read: Callable[[Task], Row], tasks: Sequence[Task]) -> None:
    with memory():
        for task in tasks:
            sender.send(read(task))
