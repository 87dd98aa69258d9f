"""The training loop: resumes, saves, tells how far it is, notices what goes wrong."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import UserError
from ..files import write_text
from ..jobs import SILENT, Log
from . import checkpoint, state

# a least-squares or cross-entropy loss of images in [-1, 1] never comes near this but by divergence
DIVERGED = 1e4
MEASURED = 5  # iterations after the first (which allocates) by which the rate is estimated
PROGRESS_S = 10.0


class Trainee(Protocol):
    """What the loop trains."""

    losses: tuple[str, ...]

    def step(self) -> Tensor:
        """Train one iteration; return the losses (detached, float32, on the device), in the order of `losses`."""

    def tensors(self) -> dict[str, Tensor]:
        """All state that is tensors: networks, optimizers, pools."""

    def state(self) -> dict[str, Any]:
        """All other state, as JSON: random streams, counters."""

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Become what `tensors` and `state` tell of."""


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to save and to note the losses."""

    iterations: int
    history_every: int = 100
    checkpoint_minutes: float = 5.0
    checkpoint_iterations: int | None = None
    limit_s: float | None = None  # refuse when the estimate exceeds this


def run(
    trainee: Trainee,
    plan: Plan,
    *,
    name: str,
    folder: Path,
    key: str,
    log: Log = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Train to the planned number of iterations, from the newest checkpoint in `folder` if there is one.

    Returns the history: a row per `history_every` iterations with the mean of each loss over them; no times, so that
    a resumed run gives the same bytes. The last iteration is always saved: a finished training is restored.

    Raises
    ------
    UserError
        when a loss is not finite or exceeds `DIVERGED`, or when the estimate exceeds `plan.limit_s`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    history: list[dict[str, Any]] = []
    first = 0
    total: Tensor | None = None
    if (found := checkpoint.load(folder, key)) is not None:
        first = found.iteration
        history = found.state["history"]
        total = found.tensors.get("loop.total")
        trainee.restore(found.tensors, found.state["trainee"])
        state.into_random(found.tensors)
        log.event("resumed", iteration=first, of=plan.iterations)

    def save(iteration: int) -> None:
        tensors = {**trainee.tensors(), **state.of_random()}
        if total is not None:
            tensors["loop.total"] = total
        body = {"trainee": trainee.state(), "history": history}
        checkpoint.save(folder, key, checkpoint.Checkpoint(iteration, tensors, body))

    saved = told = begun = clock()
    for iteration in range(first + 1, plan.iterations + 1):
        losses = trainee.step()
        total = losses if total is None else total.to(losses.device) + losses
        number = iteration - first
        now = clock()
        if number == 1:
            begun = now
        if number == 1 + MEASURED and plan.limit_s is not None:
            estimate = (now - begun) / MEASURED * (plan.iterations - first)
            if estimate > plan.limit_s:
                raise UserError(
                    f"{name}: training would take about {estimate / 3600:.1f} hours on the CPU, and device: auto "
                    f"accepts {plan.limit_s / 3600:g}. Write device: cpu to insist, device: cuda on a machine with a "
                    f"GPU, or make the training smaller (iterations, patch, width)."
                )
        last = iteration == plan.iterations
        if iteration % plan.history_every == 0 or last:
            count = iteration - (history[-1]["iteration"] if history else 0)
            means = (total / count).tolist()
            _check(name, iteration, dict(zip(trainee.losses, means, strict=True)))
            history.append({"iteration": iteration, **dict(zip(trainee.losses, means, strict=True))})
            total = None
        due = now - saved >= plan.checkpoint_minutes * 60
        if plan.checkpoint_iterations is not None and iteration % plan.checkpoint_iterations == 0:
            due = True
        if due or last or now - told >= PROGRESS_S:
            values = dict(zip(trainee.losses, losses.tolist(), strict=True))
            _check(name, iteration, values)
            rate = (number - 1) / (now - begun) if now > begun else float("nan")
            told = now
            log.event(
                "training",
                iteration=iteration,
                of=plan.iterations,
                rate=round(rate, 3),
                left_s=round((plan.iterations - iteration) / rate, 1) if rate > 0 else None,
                **{n: float(f"{v:.4g}") for n, v in values.items()},
            )
        if due or last:
            save(iteration)
            saved = clock()
    return history


def _check(name: str, iteration: int, losses: dict[str, float]) -> None:
    bad = {n: v for n, v in losses.items() if not abs(v) <= DIVERGED}  # also true for NaN
    if bad:
        listed = ", ".join(f"{n} = {v:.3g}" for n, v in bad.items())
        raise UserError(
            f"{name}: training diverged at iteration {iteration} ({listed}). Write a lower learning_rate (a tenth), "
            f"and look at the images of its view."
        )


def write_history(history: list[dict[str, Any]], losses: tuple[str, ...], path: str | Path) -> None:
    """Write the history as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["iteration", *losses], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, stream.getvalue())


def seeded(seed: int) -> None:
    """Seed torch's own stream, for layers that draw."""
    torch.manual_seed(seed)
