"""The training loop: resumes, saves, tells how far it is, notices what goes wrong."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import UserError
from ..files import write_text
from ..jobs import SILENT, Log
from . import checkpoint, interrupt, state, watch
from .team import Team

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
    """How long to train, and how often to save, to draw samples and to note the losses."""

    iterations: int
    history_every: int = 100
    checkpoint_minutes: float = 5.0
    checkpoint_iterations: int | None = None
    limit_s: float | None = None  # refuse when the estimate exceeds this
    samples_every: int | None = None


@dataclass(frozen=True)
class Hooks:
    """What a trainee has beyond `Trainee`.

    `observe` gives further columns of a row of the history and begins anew, `warn` the columns of the last row that are
    amiss, `sample` draws sample pictures after an iteration, `waited_s` is the time spent on waiting for data.
    """

    observe: Callable[[], dict[str, float | None]] | None = None
    warn: Callable[[list[dict[str, Any]]], list[str]] | None = None
    sample: Callable[[int], None] | None = None
    waited_s: Callable[[], float] | None = None


def run(
    trainee: Trainee,
    plan: Plan,
    *,
    name: str,
    folder: Path,
    key: str,
    hooks: Hooks | None = None,
    team: Team | None = None,
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
    Interrupted
        after SIGTERM or SIGUSR1, when the iteration is finished and its state saved.
    """
    hooks, team = hooks or Hooks(), team or Team()
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
    team.any(False)  # nobody writes before all have read

    def save(iteration: int) -> None:
        if not team.leads:
            return
        tensors = {**trainee.tensors(), **state.of_random()}
        if total is not None:
            tensors["loop.total"] = total
        body = {"trainee": trainee.state(), "history": history}
        checkpoint.save(folder, key, checkpoint.Checkpoint(iteration, tensors, body))

    saved = told = begun = clock()
    waited = waited_before = hooks.waited_s() if hooks.waited_s else 0.0
    with interrupt.Stopper() as stopper:
        for iteration in range(first + 1, plan.iterations + 1):
            losses = trainee.step()
            leave = team.any(stopper.by is not None)
            total = losses if total is None else total.to(losses.device) + losses
            number = iteration - first
            now = clock()
            if number == 1:
                begun = now
                waited = waited_before = hooks.waited_s() if hooks.waited_s else 0.0
            if number == 1 + MEASURED and plan.limit_s is not None:
                _refuse_long(name, (now - begun) / MEASURED * (plan.iterations - first), plan.limit_s)
            last = iteration == plan.iterations
            if iteration % plan.history_every == 0 or last:
                count = iteration - (history[-1]["iteration"] if history else 0)
                means = dict(zip(trainee.losses, (total / count).tolist(), strict=True))
                _check(name, iteration, means)
                history.append({"iteration": iteration, **means})
                total = None
                _watch(history, hooks, log)
            if hooks.sample and (last or (plan.samples_every and iteration % plan.samples_every == 0)):
                hooks.sample(iteration)  # before the state is saved: a resumed training does not come here again
            due = now - saved >= plan.checkpoint_minutes * 60 or leave
            if plan.checkpoint_iterations is not None and iteration % plan.checkpoint_iterations == 0:
                due = True
            if due or last or now - told >= PROGRESS_S:
                values = dict(zip(trainee.losses, losses.tolist(), strict=True))
                _check(name, iteration, values)
                rate = (number - 1) / (now - begun) if now > begun else float("nan")
                facts: dict[str, Any] = {}
                if hooks.waited_s is not None and now > told and number > 1:
                    waited = hooks.waited_s()
                    facts["data"] = f"{(waited - waited_before) / (now - max(told, begun)):.1%}"
                    waited_before = waited
                told = now
                log.event(
                    "training",
                    iteration=iteration,
                    of=plan.iterations,
                    rate=round(rate, 3),
                    left_s=round((plan.iterations - iteration) / rate, 1) if rate > 0 else None,
                    **facts,
                    **{n: float(f"{v:.4g}") for n, v in values.items()},
                )
            if due or last:
                save(iteration)
                saved = clock()
            if leave and not last:
                message = (
                    f"{name}: told to go{f' by {stopper.by}' if stopper.by else ''}: the state of iteration "
                    f"{iteration} of {plan.iterations} is saved, and the next attempt goes on from there."
                )
                log.event("interrupted", iteration=iteration, why=message)
                raise interrupt.Interrupted(message)
    return history


def _refuse_long(name: str, estimate: float, limit_s: float) -> None:
    if estimate > limit_s:
        raise UserError(
            f"{name}: training would take about {estimate / 3600:.1f} hours on the CPU, and device: auto accepts "
            f"{limit_s / 3600:g}. Write device: cpu to insist, device: cuda on a machine with a GPU, or make the "
            f"training smaller (iterations, patch, width)."
        )


def _watch(history: list[dict[str, Any]], hooks: Hooks, log: Log) -> None:
    """Complete the last row: what is observed, and what is amiss; say what was not amiss in the row before."""
    row = history[-1]
    if hooks.observe is not None:
        row |= hooks.observe()
    if hooks.warn is None:
        return
    amiss = hooks.warn(history)
    row["warnings"] = ";".join(amiss)
    before = history[-2]["warnings"].split(";") if len(history) > 1 else []
    for column in amiss:
        if column not in before:
            log.event("warning", iteration=row["iteration"], text=watch.sentence(column))


def _check(name: str, iteration: int, losses: dict[str, float]) -> None:
    bad = {n: v for n, v in losses.items() if not abs(v) <= DIVERGED}  # also true for NaN
    if bad:
        listed = ", ".join(f"{n} = {v:.3g}" for n, v in bad.items())
        raise UserError(
            f"{name}: training diverged at iteration {iteration} ({listed}). Write a lower learning_rate (a tenth), "
            f"and look at the images of its view."
        )


def write_history(history: list[dict[str, Any]], losses: tuple[str, ...], path: str | Path) -> None:
    """Write the history as CSV: iteration, losses, then what else was observed; what is not known is left empty."""
    # sorted, since the rows of a resumed training have passed through JSON
    further = sorted(set(history[-1] if history else ()) - {"iteration", *losses})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["iteration", *losses, *further], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, stream.getvalue())
