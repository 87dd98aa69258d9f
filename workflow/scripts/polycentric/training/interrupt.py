"""A training that is told to go leaves after the iteration, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

# sysexits.h: EX_TEMPFAIL, "try again later"; any code but 0 makes Snakemake try again
TRY_AGAIN = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Interrupted(SystemExit):
    """Ends the process with `TRY_AGAIN`; an exception that no handler of errors takes for a mistake."""

    def __init__(self, message: str) -> None:
        super().__init__(TRY_AGAIN)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Stopper:
    """Notes SIGTERM (end of a Slurm job, pre-emption) and SIGUSR1 (a warning before it) instead of dying of them."""

    def __init__(self) -> None:
        self.by: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.by = signal.Signals(number).name
