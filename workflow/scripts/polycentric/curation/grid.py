"""The grid that a candidate is converted to, and how its slices lie against it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config.curation import CurationSettings
from ..volumes import Geometry
from .candidates import Candidate
from .checks import planar
from .geometry import Stack
from .stacks import tolerance, uniform_step


@dataclass(frozen=True)
class Layout:
    """Slices in order with their columns of FILES, the grid before and after repair as JSON, and its measures."""

    order: list[int]
    facts: dict[str, Any]
    before: str
    after: str
    spacing_z_mm: float | None
    length_mm: float | None


def layout(c: Candidate, s: CurationSettings) -> Layout | None:
    """The layout of a candidate that has a geometry; None if it has none."""
    if c.files.empty or c.files[["rows", "columns"]].isna().any(axis=None):
        return None
    if planar(c.files, s):
        return _planar(c)
    stack = c.stack
    if stack is None or len(stack.order) < 2:
        return None
    step = stack.spacing(tolerance(stack.modal_step, s))
    if step <= 0:  # slices at one position
        return None
    acquired = stack.geometry(c.files, step)
    grid, kind = _target(c, s, stack, acquired)
    steps = stack.steps
    before = _facts(acquired) | {
        "shear_deg": round(stack.shear_deg, 4),
        "smallest_step_mm": round(float(steps.min()), 6),
        "largest_step_mm": round(float(steps.max()), 6),
    }
    facts = {
        "order": range(len(stack.order)),
        "position_mm": stack.along,
        "offset_x_mm": stack.across[:, 0] + 0.0,
        "offset_y_mm": stack.across[:, 1] + 0.0,
        "geometry_repair": kind,
        **grid.columns(),
    }
    length = float(stack.along[-1] - stack.along[0])
    return Layout(stack.order, facts, _json(before), _json(_facts(grid)), step, length)


def _target(c: Candidate, s: CurationSettings, stack: Stack, acquired: Geometry) -> tuple[Geometry, str]:
    """The grid of the volume and the repair that brings the slices onto it."""
    length = float(stack.along[-1] - stack.along[0])
    if c.repaired("GEOM_GANTRY_TILT"):
        return stack.straightened(acquired), "shear"
    if c.repaired("GEOM_MISSING_SLICE"):
        steps = round(length / stack.modal_step)
        return _along(acquired, steps + 1, length / steps), "interpolate"
    if c.repaired("GEOM_VARIABLE_SPACING"):
        step = uniform_step(c, s)
        return _along(acquired, int(np.floor(length / step + 1e-6)) + 1, step), "resample"
    return acquired, ""


def _along(grid: Geometry, slices: int, step: float) -> Geometry:
    return replace(grid, size=(*grid.size[:2], slices), spacing=(*grid.spacing[:2], step))


def _planar(c: Candidate) -> Layout:
    """Views as planes of a grid without a place in the patient: in the order of instance number and frame."""
    keys = [k for k in ("instance_number", "frame", "sop_instance", "path") if k in c.files]
    files = c.files.sort_values(keys, na_position="first")
    first = files.iloc[0]
    pixels = [float(first[f"pixel_spacing_{a}_mm"]) for a in "xy"]
    x, y = pixels if min(pixels) > 0 else (1.0, 1.0)
    grid = Geometry((int(first["columns"]), int(first["rows"]), len(files)), (x, y, 1.0), (0.0, 0.0, 0.0))
    facts = {"order": range(len(files)), "geometry_repair": "", **grid.columns()}
    return Layout(list(files.index), facts, _json(_facts(grid)), _json(_facts(grid)), None, None)


def _facts(grid: Geometry) -> dict[str, Any]:
    return {
        "size": list(grid.size),
        "spacing_mm": [round(v, 9) for v in grid.spacing],
        "origin_mm": [round(v, 6) for v in grid.origin],
        "direction": [round(v, 9) + 0.0 for v in grid.direction],
    }


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)
