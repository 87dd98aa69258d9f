"""The images of a domain: which belong together, whether they can be trained on, patches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..training import patches, samples
from ..training.store import Store
from .augment import Augmenter, Placed

if TYPE_CHECKING:
    import pandas as pd

    from ..config.synthesis import FurtherInput, Synthesis

Row = dict[str, Any]
Pick = tuple[int, Placed]  # number of a scan, and what is taken of it
CPU = torch.device("cpu")
SPACING_TOLERANCE = 0.01  # relative: less than a voxel over a patch of 64
GRID_TOLERANCE_MM = 1e-2
LISTED = 3


@dataclass(frozen=True)
class Candidates:
    """What may be a further input: manifest rows of its view whose scans its `where` selects."""

    of: FurtherInput
    rows: tuple[Row, ...]

    def beside(self, first: Row) -> list[Row]:
        """Those of the same visit or patient as a row; the row's own scan alone if it is among them."""
        keys = ("centre", "patient", "session") if self.of.within == "session" else ("centre", "patient")
        near = [row for row in self.rows if all(row[key] == first[key] for key in keys)]
        own = [row for row in near if row["scan"] == first["scan"]]
        return own or near


def candidates(settings: Synthesis, cohort: pd.DataFrame, manifests: Iterable[Path], where: str) -> list[Candidates]:
    """What may be the further inputs of the source, of the scans in a cohort table. None for a single input."""
    from .. import tables
    from ..tables import schemas
    from ..training.cohort import select

    if not settings.source.also:
        return []
    rows = tables.read_all(manifests, schemas.VIEWS)
    found = []
    for number, extra in enumerate(settings.source.also, start=1):
        selected = select(cohort, extra.where, f"{where}: also: {number}")
        own = rows[(rows["view"] == extra.view) & rows["scan"].isin(selected["scan"])].sort_values("scan")
        found.append(Candidates(extra, tuple(own.to_dict("records"))))
    return found


def further(first: Row, candidates: Sequence[Candidates]) -> tuple[list[Row], str]:
    """Rows of the further inputs of a scan, and why they cannot be used (empty: they can).

    Further inputs lie on the grid of the first: same size, and spacing, origin and direction to within 0.01 mm.
    """
    found = []
    for number, candidate in enumerate(candidates, start=2):
        beside = candidate.beside(first)
        whole = [row for row in beside if row["status"] == "ok"]
        view, where = candidate.of.view, f" where {candidate.of.where}" if candidate.of.where else ""
        if len(whole) > 1:
            return [], f"several scans of view {view!r}{where} could be input {number}"
        if not whole:
            why = f": {beside[0]['reason']}" if beside else ""
            return [], f"no image of view {view!r}{where} is there as input {number}{why}"
        if (difference := off_grid(first, whole[0])) is not None:
            return [], f"input {number} of view {view!r} lies on another grid ({difference})"
        found.append(whole[0])
    return found, ""


def beside(
    settings: Synthesis, rows: Iterable[Row], cohort: pd.DataFrame | None, manifests: Iterable[Path], where: str
) -> dict[str, tuple[list[Row], str]]:
    """Rows of the further inputs of each scan, and why it cannot be translated (empty: it can), by scan.

    Empty for a model of a single input. `manifests` are those of the views of further inputs.
    """
    from ..training.cohort import select

    if settings.inputs == 1:
        return {}
    if cohort is None:
        raise ValueError("several inputs need the tables of scans and patients")
    first = set(select(cohort, settings.source.where, where)["scan"])
    eligible = candidates(settings, cohort, manifests, where)
    return {
        row["scan"]: further(row, eligible)
        if row["scan"] in first
        else ([], "the scan is not the first input of the model")
        for row in rows
    }


def off_grid(first: Row, other: Row) -> str | None:
    """What differs between the grids of two manifest rows; None: nothing of importance."""
    size = [[int(row[f"size_{a}"]) for a in "xyz"] for row in (first, other)]
    if size[0] != size[1]:
        return "{} voxels, not {}".format(*(" x ".join(map(str, s)) for s in reversed(size)))
    for name in ("spacing", "origin"):
        one, two = ([float(row[f"{name}_{a}_mm"]) for a in "xyz"] for row in (first, other))
        # the spacing times the voxels: where the last voxel lies
        reach = size[0] if name == "spacing" else (1, 1, 1)
        if any(abs(a - b) * n > GRID_TOLERANCE_MM for a, b, n in zip(one, two, reach, strict=True)):
            return "{} {} mm, not {}".format(name, *(" x ".join(f"{v:.4g}" for v in p) for p in (two, one)))
    one, two = ([float(v) for v in str(row["direction"]).split()] for row in (first, other))
    if any(abs(a - b) > 1e-4 for a, b in zip(one, two, strict=True)):
        return "other directions"
    return None


def complete(
    rows: Iterable[Row], candidates: Sequence[Candidates], where: str
) -> tuple[list[list[Row]], dict[str, str]]:
    """The inputs of each scan that has all of them, and for the others, by scan, what is wanting.

    Raises
    ------
    UserError
        when no scan has all inputs, when several could be one, or when an input lies on another grid.
    """
    whole, wanting, mistakes = [], {}, []
    for row in rows:
        others, problem = further(row, candidates)
        if not problem:
            whole.append([row, *others])
        elif problem.startswith("no image"):
            wanting[row["scan"]] = problem
        else:
            mistakes.append(f"{where}: scan {row['scan']}: {problem}.")
    if mistakes:
        more = [f"{where}: and {len(mistakes) - LISTED} more scans."] if len(mistakes) > LISTED else []
        advice = (
            f"{where}: give each further input a `where` that one scan per visit fulfils, and its view "
            f"`onto: {{where: <that of the first input>}}`, which brings it to the grid of the first."
        )
        raise UserError(*mistakes[:LISTED], *more, advice)
    if not whole:
        example = next(iter(wanting.values()), "there is none")
        raise UserError(
            f"{where}: none of {len(wanting)} scans has all {1 + len(candidates)} inputs ({example}). Write another "
            f"`where` or `within: patient`."
        )
    return whole, wanting


def same_spacing(domains: dict[str, list[list[Row]]], settings: Synthesis, where: str) -> None:
    """Refuse images of different spacing, of both domains together: a voxel must mean the same length everywhere.

    Slices need the same spacing in the plane alone.

    Raises
    ------
    UserError
        that names the spacings and how many scans have each.
    """
    if settings.mixed_spacing:
        return
    axes = "xyz"[: settings.dimensions]
    groups: list[tuple[tuple[float, ...], dict[str, int]]] = []
    for name, scans in domains.items():
        for first, *_ in scans:
            spacing = tuple(float(first[f"spacing_{a}_mm"]) for a in axes)
            for known, counts in groups:
                if all(abs(s - k) <= SPACING_TOLERANCE * k for s, k in zip(spacing, known, strict=True)):
                    counts[name] = counts.get(name, 0) + 1
                    break
            else:
                groups.append((spacing, {name: 1}))
    if len(groups) > 1:
        listed = "; ".join(
            f"{' x '.join(f'{s:.3g}' for s in spacing)} mm ({', '.join(f'{n} of {d}' for d, n in counts.items())})"
            for spacing, counts in sorted(groups)
        )
        raise UserError(
            f"{where}: its scans have different voxel spacing: {listed}. Give the views one spacing_mm, such as "
            f"spacing_mm: [1, 1, 2], or write mixed_spacing: true if the size of a voxel does not matter."
        )


def opened(
    scans: list[list[Row]],
    root: Path,
    size: tuple[int, int, int],
    ranges: Sequence[tuple[float, float]],
    where: str,
) -> list[tuple[np.ndarray, ...]]:
    """Volumes of each scan, one per input, checked and read from disk as they are used; mistakes are told at once.

    Raises
    ------
    UserError
        for volumes that are missing, smaller than the patch, with NaN, or constant within their range.
    """
    columns, problems = [], []
    for number, limits in enumerate(ranges):
        rows = [scan[number] for scan in scans]
        try:
            columns.append(patches.checked(rows, root, size, limits, where))
        except UserError as error:
            problems += error.messages
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return list(zip(*columns, strict=True))


class Images:
    """Draws training patches of a domain: a scan at random, a place at random, the same in all inputs, augmented.

    `scans` holds a tuple of volumes (z, y, x) on one grid per scan, `spacings` mm along (x, y, z), `ranges` the
    intensities of each input that become -1 and 1. Volumes are copied to the device if `resident`. What is drawn is the
    same either way. Drawing has three parts: `pick` uses the random streams, `cut` reads, `finish` computes.
    """

    def __init__(
        self,
        scans: Sequence[tuple[np.ndarray, ...]],
        spacings: Sequence[tuple[float, ...]],
        size: tuple[int, int, int],
        ranges: Sequence[tuple[float, float]],
        stream: np.random.Generator,
        augmenter: Augmenter,
        *,
        device: torch.device = CPU,
        resident: bool = False,
    ) -> None:
        self.spacings, self.augmenter = spacings, augmenter
        self.store = Store(scans, ranges, device, resident=resident)
        self.sampler = patches.PatchSampler([scan[0] for scan in scans], size, stream)

    def pick(self, number: int) -> list[Pick]:
        """The scans of so many patches, and what is taken of them."""
        picked = []
        for _ in range(number):
            scan, origin = self.sampler.origin()
            change = self.augmenter.draw()
            shape = self.store.shapes[scan]
            picked.append((scan, change.placed(origin, self.sampler.size, self.spacings[scan], shape)))
        return picked

    def cut(self, picked: Sequence[Pick]) -> list[list[Tensor]]:
        """The parts of the volumes that patches are made of, per patch and input."""
        return [self.store.cut(scan, placed.first, placed.extent) for scan, placed in picked]

    def finish(self, picked: Sequence[Pick], cuts: Sequence[list[Tensor]]) -> Tensor:
        """Patches (number, inputs, z, y, x) in [-1, 1], float32, on the device."""
        made = zip(picked, cuts, strict=True)
        return torch.stack([placed.take(torch.stack(self.store.scaled(cut))) for (_, placed), cut in made])

    def draw(self, number: int) -> Tensor:
        """All three: patches (number, inputs, z, y, x) in [-1, 1], float32, on the device."""
        picked = self.pick(number)
        return self.finish(picked, self.cut(picked))

    def middle(self, scan: int, factor: int) -> Tensor:
        """The middle of a scan for sample pictures, (1, inputs, z, y, x): along y, x up to twice as long as a patch."""
        parts = samples.middle(self.store.shapes[scan], self.sampler.size, factor)
        first, extent = [p.start for p in parts], [p.stop - p.start for p in parts]
        return torch.stack(self.store.scaled(self.store.cut(scan, first, extent)))[None]

    def state(self) -> dict[str, Any]:
        return {"places": self.sampler.state(), "changes": self.augmenter.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.sampler.restore(state["places"])
        self.augmenter.restore(state["changes"])
