"""The fitted part of a view: estimated once, on training patients, before any shard is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .. import ledger as ledgers
from .. import tables
from ..config.views import View
from ..errors import ScanError, UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..tables.schemas import SPLIT
from .inputs import VERSION, Source, load, read
from .steps import FITTINGS, apply

STAGE = "prepare"
Measured = tuple[dict[str, Any] | None, str]


def fit_view(
    view_name: str,
    view: View,
    *,
    sources: Sequence[Path],
    split: Path,
    root: Path,
    model: Path,
    ledger: Path,
    masks: Sequence[Path] = (),
    references: Sequence[Path] = (),
    minus: Sequence[Path] = (),
    scans: Path | None = None,
    patients: Path | None = None,
    upstream: Sequence[Path] = (),
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Fit the fitted steps of a view on the training patients of its split; write parameters (JSON) and ledger.

    `sources`, `masks`, `references` and `minus` are the manifests of all shards of development centres, `upstream` the
    ledgers of the models behind the source view. Steps are fitted in their order, each on images that have passed the
    steps before it. The result depends neither on shards nor on workers: scans are taken in the order of their ids and
    sums are exact. A scan that a step refuses is left out and counted.

    Raises
    ------
    UserError
        if no training scan remains, or an upstream model has seen the training patients in another role.
    """
    if view.fit is None:
        raise ValueError(f"view {view_name!r} has nothing to fit")
    where = f"views: {view_name}"
    parts = tables.read(split, SPLIT).set_index("patient")["part"]
    training = set(parts.index[parts == "training"])
    given = {"masks": masks, "references": references, "minus": minus}
    found = read(view, sources, **given, scans=scans, patients=patients, label=where)
    chosen = [
        own
        for own in sorted(found, key=lambda own: own.row["scan"])
        if own.row["patient"] in training
        and own.row["status"] == "ok"
        and own.selected
        and (not view.fit.centres or own.row["centre"] in view.fit.centres)
    ]
    if not chosen:
        of = f" of {', '.join(view.fit.centres)}" if view.fit.centres else ""
        raise UserError(
            f"{where}: fit: split {view.fit.split!r} has no training patient{of} with a scan that the view is made of. "
            f"Write another split, or other centres."
        )
    ledgers.refuse({own.row["patient"] for own in chosen}, (), upstream, split=view.fit.split, where=where)
    fitted: dict[int, dict[str, Any]] = {}
    steps, left_out, used = [], {}, set()
    for number, step in enumerate(view.sequence()):
        if not step.fitted:
            continue
        measured = _measure(chosen, view, number, root, fitted, step.kind, log, workers)
        good = [m for m, _ in measured if m is not None]
        left_out |= {own.row["scan"]: r for own, (m, r) in zip(chosen, measured, strict=True) if m is None}
        if not good:
            reason = next(iter(left_out.values()))
            raise UserError(f"{where}: {step.kind}: no training scan could be used; the first: {reason}")
        try:
            fitted[number] = FITTINGS[type(step)].combine(step, good)
        except ScanError as error:
            raise UserError(f"{where}: {step.kind}: the training scans together: {error.reason}") from None
        used |= {own.row["patient"] for own, (m, _) in zip(chosen, measured, strict=True) if m is not None}
        steps.append({"step": number, "kind": step.kind, "scans": len(good), "parameters": fitted[number]})
    write_json(
        model,
        {
            "schema_version": VERSION,
            "view": view_name,
            "split": view.fit.split,
            "steps": steps,
            "scans": len(chosen),
            "patients": len(used),
            "left_out": left_out,
        },
    )
    ledgers.write(
        ledger,
        name=view_name,
        stage=STAGE,
        split=view.fit.split,
        seen={"training": used},
        upstream=upstream,
        settings=settings_json,
        code=code,
    )


def _measure(
    chosen: Sequence[Source],
    view: View,
    number: int,
    root: Path,
    fitted: Mapping[int, Mapping[str, Any]],
    kind: str,
    log: Log,
    workers: int,
) -> list[Measured]:
    """What every scan contributes to a step, or why it does not, in the order of the scans."""
    work = partial(_one, view=view, number=number, root=root, fitted=dict(fitted))
    result: list[Measured] = []

    def collect(measured: Any) -> None:
        for done, (own, one) in enumerate(zip(chosen, measured, strict=True), start=1):
            result.append(one)
            log.progress(kind, done, len(chosen), scan=own.row["scan"], status=one[1] or "ok")

    if workers > 1 and len(chosen) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            collect(pool.map(work, chosen))
    else:
        collect(map(work, chosen))
    return result


def _one(own: Source, *, view: View, number: int, root: Path, fitted: Mapping[int, Mapping[str, Any]]) -> Measured:
    step = view.sequence()[number]
    try:
        volume, context = load(own, view, root, fitted)
        volume = apply(view, volume, context, until=number)
        return FITTINGS[type(step)].measure(step, volume, context.at(number)), ""
    except ScanError as error:
        return None, str(error)
