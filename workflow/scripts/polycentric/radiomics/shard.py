"""A shard of a feature set: a row per scan, mask source, ROI and perturbation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import shards, tables, volumes
from ..config.features import DerivedRoi, RadiomicsSet, Recipe
from ..errors import ScanError
from ..files import canonical_json
from ..grids import corner_distance_mm
from ..jobs import SILENT, Log
from ..randomness import generator
from ..shards import Item, Row
from ..tables.schemas import FEATURES, GRID, MASKS, SCAN, VIEWS, VOLUMES
from ..volumes import Geometry
from .derive import derive
from .extract import Features, check_recipe, extract_rois

HEADER_ROUNDING_MM = 0.01  # NIfTI headers hold float32


def extract_shard(
    set_name: str,
    settings: RadiomicsSet,
    recipe: Recipe,
    *,
    views: Path,
    volumes: Path,
    masks: Sequence[Path],
    root: Path,
    output: Path,
    fold: str = "main",
    seed: int | None = None,
    code: str = "",
    log: Log = SILENT,
    workers: int = 1,
) -> None:
    """Features of every scan and ROI of a shard as Parquet (schema features), one further float64 column per feature.

    `views`, `volumes` and `masks` are the shard's manifests of the view, of the converted scans (the grid of the
    masks) and of the mask sources, which share the image as it was prepared and filtered once. The text column
    `diagnostics` holds JSON about the extraction: voxel counts, versions.
    An ROI that cannot be measured keeps its row, with a status and a reason. What a scan gave is kept in a sidecar in a
    folder beside `output`, and another one for each perturbation, so that a further one measures only itself. `seed` is
    needed for perturbations.

    Raises
    ------
    UserError
        for a recipe that cannot be computed here.
    """
    if settings.engine is not None:
        recipe = recipe.model_copy(update={"engine": settings.engine})
    check_recipe(recipe)
    grid_of = {row["scan"]: row for row in tables.read(volumes, VOLUMES).to_dict("records")}
    outlines: dict[str, list[Row]] = {}
    for row in tables.read_all(list(masks), MASKS).to_dict("records"):
        outlines.setdefault(row["scan"], []).append(row)
    seen = tables.read(views, VIEWS).to_dict("records")
    jobs = {row["scan"]: (row, grid_of.get(row["scan"]), outlines.get(row["scan"], [])) for row in seen}
    whole = settings.model_dump(mode="json")
    chains: dict[str, Any] = {"": None, **dict(sorted(whole.pop("perturb").items()))}
    items = []
    for row in seen:
        key = {name: row[name] for name in SCAN}
        source = settings.sources[0] if len(settings.sources) == 1 else "*"
        key |= {"set": set_name, "view": settings.view, "source": source, "roi": "*", "fold": fold}
        view, volume, rois = jobs[row["scan"]]
        inputs = [_state(view), "" if volume is None else _state(volume), *map(_state, rois)]
        for name, chain in chains.items():
            own = [canonical_json([seed, set_name, name, chain])] if name else []
            item = f"{row['scan']}--{name}" if name else row["scan"]
            items.append(Item(item, key | {"perturbation": name}, (*inputs, *own)))
    rows = shards.process(
        items,
        partial(_extract, settings=settings, recipe=recipe, jobs=jobs, root=root, seed=seed),
        folder=output.parent / output.stem,
        root=root,
        settings=canonical_json({"features": whole, "recipe": recipe.model_dump(mode="json")}),
        code=code,
        log=log,
        workers=workers,
    )
    tables.write(frame_of(rows), output, FEATURES)


def merge(parts: Sequence[Path], output: Path, *, perturbed: bool = False) -> None:
    """The shards of a set as one table, sorted by centre, patient, scan and ROI: the rows of images as they are, or the
    others, which thus reach nobody but those who ask for them."""
    frames = [tables.read(path, FEATURES) for path in parts]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(FEATURES.columns))
    frame = frame[frame["perturbation"].ne("") == perturbed]
    names = feature_names(frame)
    order = ["centre", "patient", "scan", "roi", "source", "fold", "perturbation"]
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    # a shard without a measured ROI has no feature columns: the order must not depend on which shard that is
    frame = frame[[*(c for c in frame.columns if c not in names), *sorted(names)]]
    tables.write(frame.astype(dict.fromkeys(names, "float64")), output, FEATURES)


def feature_names(frame: pd.DataFrame) -> list[str]:
    """Columns of a feature table that are features."""
    return [name for name in frame.columns if name not in FEATURES.columns]


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table of schema features: keys, diagnostics, then the features as float64, NaN where there is none."""
    names = list(FEATURES.columns)
    features = sorted({name for row in rows for name in row if name not in names})
    columns: dict[str, list[Any]] = {name: [row.get(name, "") for row in rows] for name in names}
    frame = pd.DataFrame(columns)
    values = {f: pd.array([_float(row.get(f)) for row in rows], dtype="float64") for f in features}
    return pd.concat([frame.astype({"diagnostics": "string"}), pd.DataFrame(values, index=frame.index)], axis=1)


def _extract(
    item: Item,
    folder: Path,
    *,
    settings: RadiomicsSet,
    recipe: Recipe,
    jobs: dict[str, tuple[Row, Row | None, list[Row]]],
    root: Path,
    seed: int | None,
) -> list[Row]:
    view, volume, rois = jobs[item.row["scan"]]
    if view["status"] != "ok":
        return [{"status": "missing", "reason": view["reason"]}]
    if volume is None or volume["status"] != "ok":
        return [{"status": "missing", "reason": "VOLUME_MISSING: the converted scan is not there"}]
    result: list[Row] = []
    found: dict[str, dict[str, Row]] = {}
    for source in settings.sources:
        own = [row for row in rois if row["source"] == source]
        if drawn := {row["roi"]: row for row in own if row["roi"] != "*"}:
            found[source] = drawn
        else:
            reason = own[0]["reason"] if own else f"MASKS_MISSING: {source} has no row for the scan"
            result.append({"source": source, "status": "missing", "reason": reason})
    if not found:
        return result
    image = volumes.read(root / view["path"], view)
    move = None
    if name := item.row["perturbation"]:
        from ..perturb import perturb

        assert seed is not None
        names = ("perturb", item.row["set"], name, item.row["scan"])
        image, move = perturb(image, settings.perturb[name], lambda *step: generator(seed, *names, *step))
    plan = {(source, roi): how for source in found for roi, how in _plan(settings, source, found[source]).items()}
    # readers differ in how their outlines move; a single source keeps the random numbers that it always had
    moved = {source: "" if len(settings.sources) == 1 else f"{source}\x1f" for source in found}
    wanted = {
        f"{source}\x1f{roi}": _Outline(found[source][how[0]], how[1], f"{moved[source]}{how[0]}")
        for (source, roi), how in plan.items()
        if not isinstance(how, str)
    }
    masks = _Masks(root, view, volume, image, wanted, move)
    measured = extract_rois(image, masks, recipe)
    for (source, roi), how in plan.items():
        row: Row = {"source": source, "roi": roi}
        features = measured.get(f"{source}\x1f{roi}")
        if isinstance(how, str):
            row |= {"status": "missing", "reason": how}
        elif isinstance(features, Features):
            row |= {n: v if math.isfinite(v) else None for n, v in features.values.items()}
            row["diagnostics"] = canonical_json(features.facts)
        else:
            row |= {"status": "rejected", "reason": str(features)}
        result.append(row)
    return result


Plan = dict[str, tuple[str, DerivedRoi | None] | str]


@dataclass(frozen=True)
class _Outline:
    """The manifest row of a mask, how an ROI is derived from it, and its name in perturbations."""

    row: Row
    rule: DerivedRoi | None
    name: str


def _plan(settings: RadiomicsSet, masks: str, found: Mapping[str, Row]) -> Plan:
    """What each row's ROI is made of: an outlined ROI and how it is derived, or why it is missing."""

    def source(roi: str, rule: DerivedRoi | None) -> tuple[str, DerivedRoi | None] | str:
        if roi not in found:
            return f"ROI_MISSING: {masks} does not outline {'it' if rule is None else roi} in this scan"
        return (roi, rule) if found[roi]["status"] == "ok" else str(found[roi]["reason"])

    plan: Plan = {roi: source(roi, None) for roi in settings.rois or sorted(found)}
    for name, rule in settings.derive.items():
        if not {*rule.of} & {"*", "?"}:
            plan[name] = source(rule.of, rule)
            continue
        plan |= {f"{roi}-{name}": source(roi, rule) for roi in sorted(found) if fnmatchcase(roi, rule.of)}
    return plan


class _Masks(Mapping[str, volumes.Volume]):
    """The masks of a scan by ROI, read, perturbed and derived when asked for, so that only one is in memory."""

    def __init__(
        self,
        root: Path,
        view: Row,
        volume: Row,
        image: volumes.Volume,
        outlines: Mapping[str, _Outline],
        move: Callable[[str, volumes.Volume], volumes.Volume] | None,
    ) -> None:
        self.root, self.view, self.volume, self.image = root, view, volume, image
        self.outlines, self.move = outlines, move

    def __getitem__(self, name: str) -> volumes.Volume:
        own = self.outlines[name]
        mask = volumes.moved(_mask(self.root, own.row, self.volume), self.view)
        if self.move is not None and mask.array.any() and np.isfinite(mask.array).all():  # else there is a reason
            mask = self.move(own.name, mask)
        return mask if own.rule is None else derive(mask, self.image, own.rule)

    def __iter__(self) -> Iterator[str]:
        return iter(self.outlines)

    def __len__(self) -> int:
        return len(self.outlines)


def _mask(root: Path, row: Row, volume: Row) -> volumes.Volume:
    """A mask with the float64 geometry of its scan, after a check that it is the scan's grid."""
    mask = volumes.read(root / row["path"])
    grid = Geometry.from_columns(volume)
    if mask.geometry.size != grid.size:
        raise ScanError(
            "MASK_GEOMETRY", f"the mask has {mask.geometry.size} voxels but its scan {grid.size}: convert it again"
        )
    if (distance := corner_distance_mm(mask.geometry, grid)) > HEADER_ROUNDING_MM:
        raise ScanError(
            "MASK_GEOMETRY", f"corners of the mask and of its scan lie up to {distance:.3g} mm apart: convert it again"
        )
    return volumes.Volume(mask.array, grid)


def _state(row: Row) -> str:
    """What a manifest row says, as text: the item's result depends on all of it."""
    names = ("source", "roi", "status", "reason", "sha256", "moved", *GRID)
    return canonical_json({n: None if pd.isna(row[n]) else row[n] for n in names if n in row})


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
