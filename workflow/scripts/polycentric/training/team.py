"""Several processes of one machine that train as one: each takes a share of every batch, all hold the same state.

Every process draws the same random numbers, those for the whole batch, and computes its own patches of it. Gradients
are averaged, and what a pool or a statistic needs of all patches is gathered, so that networks, optimizers, pools and
streams are equal everywhere and the checkpoint of the first process is that of all.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..jobs import Log

VARIABLE = "POLYCENTRIC_TEAM"
JOIN_S, PATIENCE_S = 180, 900  # to come together; to wait for the others of the team after that


class Team:
    """The processes of a training; alone unless `assemble` says otherwise."""

    def __init__(self, rank: int = 0, size: int = 1, hosts: Any = None) -> None:
        self.rank, self.size = rank, size
        self._hosts = hosts  # group for messages between CPUs, which no GPU has to wait for

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which patches of a batch are this process's."""
        own = batch // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the team."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def mean_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the gradients of an optimizer's parameters: those of the mean loss over the whole batch."""
        self.mean_([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])

    def gather(self, x: Tensor) -> Tensor:
        """The shares of all processes, one behind the other along the first axis."""
        if self.size == 1:
            return x
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.size)]
        torch.distributed.all_gather(parts, x)
        return torch.cat(parts)

    def same(self, value: Any) -> Any:
        """The first process's value, for all (JSON or anything that can be pickled)."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self._hosts)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        up = torch.tensor([int(flag)])
        torch.distributed.all_reduce(up, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return bool(up.item())


class Quiet(Log):
    """Says nothing: the first process speaks for the team."""

    def event(self, event: str, *, quiet: bool = False, **facts: Any) -> None:
        pass


@contextlib.contextmanager
def assemble(
    size: int, function: Callable[..., Any], arguments: Mapping[str, Any], *, cuda: bool, where: str
) -> Iterator[Team]:
    """The team of a training: in the job itself this starts the other processes, each of which calls
    `function(**arguments, log=Quiet())` and comes here, too.

    Raises
    ------
    UserError
        when another process fails, with what it said.
    """
    if size == 1:
        yield Team()
        return
    given = os.environ.get(VARIABLE)
    if given is not None:
        told = json.loads(given)
        yield _join(told["rank"], size, Path(told["meeting"]), cuda, ())
        torch.distributed.destroy_process_group()
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        call = Path(folder) / "call"
        call.write_bytes(pickle.dumps((function.__module__, function.__qualname__, dict(arguments))))
        others = [_start(rank, meeting, call, Path(folder) / f"{rank}.log") for rank in range(1, size)]
        try:
            yield _join(0, size, meeting, cuda, others)
            for other in others:
                other.wait(PATIENCE_S)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            said = [_said(Path(folder) / f"{rank}.log", other) for rank, other in enumerate(others, start=1)]
            if not any(said):
                raise
            raise UserError(f"{where}: a process of the team failed: {' '.join(filter(None, said))}") from error
        finally:
            for other in others:
                if other.poll() is None:
                    other.kill()
                    other.wait()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def _join(rank: int, size: int, meeting: Path, cuda: bool, others: Sequence[subprocess.Popen[bytes]]) -> Team:
    """Wait until all are here, unless one of the `others` has ended; then connect."""
    store = torch.distributed.FileStore(str(meeting), size)
    store.add("here", 1)
    begun = time.monotonic()
    while store.add("here", 0) < size:
        if any(other.poll() is not None for other in others) or time.monotonic() - begun > JOIN_S:
            raise RuntimeError("the processes of the team have not come together")
        time.sleep(0.1)
    patience = timedelta(seconds=PATIENCE_S)
    backend = "nccl" if cuda else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    return Team(rank, size, torch.distributed.new_group(backend="gloo"))


def _start(rank: int, meeting: Path, call: Path, log: Path) -> subprocess.Popen[bytes]:
    scripts = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([scripts, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {VARIABLE: json.dumps({"rank": rank, "meeting": str(meeting)}), "PYTHONPATH": path}
    command = [sys.executable, "-c", "from polycentric.training.team import follow; follow()", str(call)]
    with log.open("wb") as stream:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def follow() -> None:
    """What a further process of a team does: call the function that the first one calls."""
    import importlib

    module, name, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        getattr(importlib.import_module(module), name)(**arguments, log=Quiet())
    except UserError as error:
        sys.exit("\n".join(error.messages))


def own_rank() -> int:
    """Rank of this process in the team that it was started for; 0 if it was not."""
    given = os.environ.get(VARIABLE)
    return 0 if given is None else int(json.loads(given)["rank"])


def _said(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Last lines of a process that failed."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    if process.returncode in (None, 0):
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"process {log.stem} ended with {process.returncode}: {' '.join(lines[-3:])}"
