"""What every adapter does first: thread limits, a JSON log, readable errors, progress."""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from .errors import UserError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass
class Log:
    """One JSON line per event in the rule's log, a short line per event on the terminal.

    Events carry pseudonyms only: never a path below the input folders, a name or an original identifier.
    """

    stream: TextIO | None = None
    name: str = ""
    started: float = field(default_factory=time.monotonic)

    def event(self, event: str, *, quiet: bool = False, **facts: Any) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "job": self.name, "event": event, **facts}
        if self.stream is not None:
            self.stream.write(json.dumps(line, default=str) + "\n")
            self.stream.flush()
        if not quiet:
            print(f"[{self.name}] {event} " + " ".join(f"{k}={v}" for k, v in facts.items()), file=sys.stderr)

    def progress(self, what: str, done: int, total: int, **facts: Any) -> None:
        """Say how far a job is: done of total, and the time left at the present rate."""
        elapsed = time.monotonic() - self.started
        left = elapsed / done * (total - done) if done else float("nan")
        self.event("progress", what=what, done=done, total=total, left_s=round(left, 1), **facts)


SILENT = Log()


def start(snakemake: Any) -> Log:
    """Begin a job: open its log, send uncaught errors there, print user errors without a traceback."""
    path = Path(str(snakemake.log[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("w", encoding="utf-8", buffering=1)
    name = snakemake.rule + "".join(f" {k}={v}" for k, v in sorted(snakemake.wildcards.items()))
    log = Log(stream, name)

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, UserError):
            text = "\n".join(error.messages)
        else:
            text = "".join(traceback.format_exception(kind, error, trace))
        stream.write(text + "\n")
        print(text, file=sys.stderr)

    sys.excepthook = hook
    log.event("start", quiet=True)
    return log
