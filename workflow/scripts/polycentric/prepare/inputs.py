"""What a view of each scan is made from: image, masks, another scan's grid, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables, volumes, where
from ..config.views import Onto, View
from ..errors import ScanError
from ..files import canonical_json, read_json
from ..grids import corner_distance_mm, same
from ..tables.schemas import GRID, MASKS, PATIENTS, SCANS, VIEWS, VOLUMES
from ..volumes import Rigid, Volume
from .align import onto_reference
from .context import Context
from .register import register

VERSION = 1
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """One scan: its manifest row, the rows of its masks by region, that of the scan that gives the grid, and that of
    the view that is subtracted.

    `problem` is what keeps the view from being made of it: code, reason, and whether the scan is simply not meant.
    """

    row: Row
    masks: Mapping[str, Row] = field(default_factory=dict)
    reference: Row | None = None
    problem: tuple[str, str] | None = None
    selected: bool = True
    minus: Row | None = None

    def inputs(self) -> tuple[str, ...]:
        """Everything the view of the scan is made of, for its sidecar."""
        used = [
            self.row,
            *(self.masks[roi] for roi in sorted(self.masks)),
            *([self.reference] if self.reference else []),
            *([self.minus] if self.minus else []),
        ]
        facts = [[row["status"], _plain(row["reason"]), _plain(row["sha256"])] for row in used]
        grids = [{c: _plain(row.get(c)) for c in GRID} for row in used]
        names = [sorted(self.masks), _plain(self.row.get("unit")), self.problem, self.selected]
        names += [_plain(row.get("moved")) or "" for row in used]
        return canonical_json(facts), canonical_json(grids), canonical_json(names)


def read(
    view: View,
    source: Sequence[Path],
    *,
    masks: Sequence[Path] = (),
    references: Sequence[Path] = (),
    minus: Sequence[Path] = (),
    scans: Path | None = None,
    patients: Path | None = None,
    label: str = "view",
) -> list[Source]:
    """All scans of some manifests in their order, with what belongs to each.

    `source` are manifests of volumes where the view is made from the scan, else of the view it is made from;
    `references` the same for `onto: view`, `minus` for `minus`; `scans` and `patients` the cohort's tables, needed for
    conditions.
    """
    rows = tables.read_all(list(source), VOLUMES if view.from_ == "scan" else VIEWS).to_dict("records")
    wanted = set(view.rois())
    by_scan: dict[str, dict[str, Row]] = {}
    if wanted:
        for row in tables.read_all(list(masks), MASKS).to_dict("records"):
            if row["roi"] in wanted and row["status"] == "ok":
                by_scan.setdefault(row["scan"], {})[row["roi"]] = row
    chosen = _holds(view.where, scans, patients, f"{label}: where") if view.where else None
    grids = _references(view.onto, references, scans, patients, label) if view.onto else {}
    subtracted = {}
    if view.minus is not None:
        others = tables.read_all(list(minus), VOLUMES if view.minus == "scan" else VIEWS)
        subtracted = {row["scan"]: row for row in others.to_dict("records")}
    result = []
    for row in rows:
        reference, problem = None, None
        selected = chosen is None or row["scan"] in chosen
        if view.onto and selected:
            found = grids.get(row["session"] if view.onto.within == "session" else row["patient"], [])
            if len(found) == 1:
                reference = found[0]
            elif found:
                problem = (
                    "VIEW_REFERENCE_AMBIGUOUS",
                    f"{len(found)} scans of the {view.onto.within} could give the grid",
                )
            else:
                problem = ("VIEW_NO_REFERENCE", f"no scan of the {view.onto.within} gives the grid")
        own = subtracted.get(row["scan"])
        result.append(Source(row, by_scan.get(row["scan"], {}), reference, problem, selected, own))
    return result


def load(source: Source, view: View, root: Path, fitted: Mapping[int, Mapping[str, Any]]) -> tuple[Volume, Context]:
    """Image of a scan, on the other scan's grid where the view says so, and all that steps may need.

    Raises
    ------
    ScanError
        for what keeps the scan out: no or several references, its registration, misalignment or overlap; a view to
        subtract that is missing or lies on another grid.
    """
    if source.problem:
        raise ScanError(*source.problem)
    row = source.row
    volume = volumes.read(root / row["path"], row)
    context = Context(fitted=fitted, unit=_plain(row.get("unit")))
    moved = Rigid.from_text(row.get("moved"))
    if view.onto is not None:
        assert source.reference is not None
        reference = source.reference
        if reference["status"] != "ok":
            raise ScanError("VIEW_NO_REFERENCE", f"the scan that gives the grid is not there: {reference['reason']}")
        fixed = None
        if reference["scan"] != row["scan"]:
            fixed = volumes.read(root / reference["path"], reference)
        done: dict[str, Any] = {}
        if fixed is not None and view.onto.register_ == "rigid":
            found = register(fixed, volume)
            volume = Volume(volume.array, found.motion.place(volume.geometry))
            moved, done = (moved or Rigid()).then(found.motion), {"registration": found.facts}
        volume, facts = onto_reference(view.onto, volume, fixed, volumes.Geometry.from_columns(reference))
        context.notes.append({"kind": "onto", "reference": reference["scan"], **facts, **done})
    if view.minus is not None:
        volume = _difference(volume, source, view.minus, root)
    masks = {roi: volumes.read(root / own["path"]) for roi, own in source.masks.items()}
    # masks lie on the scan's own grid; where the image still has it, its exact geometry counts
    if view.from_ == "scan" and view.onto is None:
        masks = {roi: _exact(mask, volume) for roi, mask in masks.items()}
    if moved is not None:
        masks = {roi: Volume(mask.array, moved.place(mask.geometry)) for roi, mask in masks.items()}
    return volume, Context(masks, context.fitted, context.unit, notes=context.notes, moved=moved)


def parameters(path: Path | None) -> dict[int, dict[str, Any]]:
    """Fitted parameters by number of the step."""
    if path is None:
        return {}
    return {int(step["step"]): step["parameters"] for step in read_json(path)["steps"]}


def _difference(volume: Volume, source: Source, name: str, root: Path) -> Volume:
    """Intensities less those of another view of the scan, float32."""
    row = source.minus
    if row is None or row["status"] != "ok":
        raise ScanError("VIEW_NO_DIFFERENCE", f"{name} is not there: {row['reason'] if row else 'no row of this scan'}")
    other = volumes.read(root / row["path"], row)
    if (_plain(source.row.get("moved")) or "") != (_plain(row.get("moved")) or ""):
        raise ScanError("VIEW_NO_DIFFERENCE", f"only one of the two was registered: make both from one view ({name})")
    if other.geometry.size != volume.geometry.size:
        raise ScanError(
            "VIEW_NO_DIFFERENCE",
            f"the image has {volume.geometry.size} voxels and {name} {other.geometry.size}: bring both to one spacing",
        )
    if not same(volume.geometry, other.geometry):
        apart = corner_distance_mm(volume.geometry, other.geometry)
        raise ScanError("VIEW_NO_DIFFERENCE", f"corners of the image and of {name} lie {apart:.3g} mm apart")
    return volume.with_array(volume.array.astype(np.float32) - other.array.astype(np.float32))


def _exact(mask: Volume, volume: Volume) -> Volume:
    """NIfTI rounds the geometry of a mask to float32; a mask of the image's grid gets the image's float64 one."""
    near = mask.geometry.size == volume.geometry.size and same(mask.geometry, volume.geometry, 0.01)
    return Volume(mask.array, volume.geometry) if near else mask


def _references(
    onto: Onto, manifests: Sequence[Path], scans: Path | None, patients: Path | None, label: str
) -> dict[str, list[Row]]:
    """Rows of scans that can give the grid, by session or patient."""
    wanted = _holds(onto.where, scans, patients, f"{label}: onto: where")
    result: dict[str, list[Row]] = {}
    for row in tables.read_all(list(manifests), VOLUMES if onto.view == "scan" else VIEWS).to_dict("records"):
        if row["scan"] in wanted:
            result.setdefault(row["session"] if onto.within == "session" else row["patient"], []).append(row)
    return result


def _holds(expression: str, scans: Path | None, patients: Path | None, label: str) -> set[str]:
    if scans is None or patients is None:
        raise ValueError(f"{label} needs the tables of scans and patients")
    frame = tables.read(scans, SCANS)
    clinical = tables.read(patients, PATIENTS)
    own = [c for c in clinical.columns if c == "patient" or c not in frame.columns]
    frame = frame.merge(clinical[own], on="patient", how="left", validate="many_to_one")
    return set(frame.loc[where.holds(expression, frame, where=label), "scan"])


def _plain(value: Any) -> Any:
    """A table's cell as JSON: missing values as null."""
    return None if value is None or value is pd.NA or value != value else value
