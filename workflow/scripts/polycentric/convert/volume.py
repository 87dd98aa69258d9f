"""The volumes of a shard: decoded, rescaled, examined, and brought onto the grids that curation planned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import tables
from ..config.codes import CODES, Verdict
from ..config.curation import ConvertSettings
from ..errors import ScanError
from ..files import hash_of
from ..jobs import Log
from ..shards import Item, Row, process
from ..tables.schemas import VOLUMES
from ..volumes import Geometry, Volume, write
from . import plausible, repair
from .pixels import decode, pixels_sha256, rescale
from .stack import Plane, Stack

_KEYS = ("centre", "patient", "session", "scan")
PADDING_HU = -1024.0
# projection images, in which photometric interpretation alone says what is bright
PICTURES = ("CR", "DX", "MG", "RF", "XA", "IO", "PX")


@dataclass(frozen=True)
class VolumeItem(Item):
    """A scan with its private facts, which enter neither rows nor, as such, the hash of the item."""

    planes: tuple[Plane, ...] = ()
    folder: Path = Path()
    geometry: Geometry | None = None
    acquired: repair.Acquired | None = None
    suv_factors: tuple[float, ...] = ()


class Notes:
    """What conversion finds about a scan, weighed by the verdicts of the study."""

    def __init__(self, verdicts: Mapping[str, Verdict]) -> None:
        self.verdicts = verdicts
        self.codes: set[str] = set()
        self.repairs: list[dict[str, Any]] = []

    def verdict(self, code: str) -> Verdict:
        return self.verdicts.get(code, CODES[code].default)

    def find(self, code: str, reason: str) -> Verdict:
        """Note a defect and return its verdict; raises ScanError if that is to reject."""
        verdict = self.verdict(code)
        if verdict == "reject":
            raise ScanError(code, reason)
        self.codes.add(code)
        return verdict

    def repaired(self, code: str, before: Any, after: Any) -> None:
        self.repairs.append({"code": code, "before": before, "after": after})


def write_volumes(
    scans: list[Row],
    used: pd.DataFrame,
    folder_of_centre: Path,
    manifest: Path,
    *,
    settings: ConvertSettings,
    verdicts: Mapping[str, Verdict],
    root: Path,
    shard: str,
    settings_json: str,
    code: str,
    log: Log,
    workers: int,
) -> list[Row]:
    """Write ``volumes/{shard}/{scan}.nii`` below `root` and the manifest (schema `VOLUMES`); return its rows.

    Parameters
    ----------
    scans, used
        rows of the shard (schema `SHARD`) and of its files (`FILES`).
    verdicts
        what to do about each code that conversion finds; the default ones where a code is absent.
    """
    slices = dict(list(used[used["use"] == "slice"].groupby("scan", sort=False)))
    items = [_item(row, slices.get(row["scan"], used.iloc[:0]), folder_of_centre) for row in scans]
    work = partial(_volume, settings, verdicts)
    shared = {"root": root, "settings": settings_json, "code": code, "log": log, "workers": workers}
    rows = process(items, work, folder=root / "volumes" / shard, **shared)
    tables.write(rows, manifest, VOLUMES)
    return rows


def _item(row: Row, slices: pd.DataFrame, folder: Path) -> VolumeItem:
    slices = slices.sort_values("order")
    geometry = Geometry.from_columns(slices.iloc[0]) if len(slices) else None
    floats = {
        name: slices[name].astype("float64").to_numpy()
        for name in ("slope", "intercept", "position_mm", "offset_x_mm", "offset_y_mm", "suv_factor")
    }
    frames = slices["frame"].fillna(0).astype(int).tolist()
    planned = str(slices["geometry_repair"].iloc[0] or "") if len(slices) else ""
    acquired = None
    if planned:
        across = np.nan_to_num(np.stack([floats["offset_x_mm"], floats["offset_y_mm"]], axis=1))
        acquired = repair.Acquired(tuple(floats["position_mm"]), tuple(map(tuple, across.tolist())), planned)
    # other curation settings, or another table of images, can order, space or scale the same files differently
    settled = [
        row["modality"],
        None if geometry is None else geometry.columns(),
        planned,
        *slices["sop_instance"].fillna("").astype(str),
        *frames,
        *(repr(v) for values in floats.values() for v in values.tolist()),
    ]
    planes = tuple(
        Plane(path, frame, reading == "image", slope, intercept)
        for path, frame, reading, slope, intercept in zip(
            slices["path"], frames, slices["reading"], floats["slope"], floats["intercept"], strict=True
        )
    )
    return VolumeItem(
        key=row["scan"],
        row={key: row[key] for key in _KEYS} | {"modality": row["modality"]},
        inputs=(row["files_sha256"], hash_of(settled)),
        planes=planes,
        folder=folder,
        geometry=geometry,
        acquired=acquired,
        suv_factors=tuple(floats["suv_factor"].tolist()),
    )


def _volume(settings: ConvertSettings, verdicts: Mapping[str, Verdict], item: VolumeItem, folder: Path) -> list[Row]:
    geometry = item.geometry
    if geometry is None:
        raise ScanError("GEOM_NO_POSITION", "curation accepted the scan although it has no grid")
    notes, modality = Notes(verdicts), item.row["modality"]
    keep_dark = modality not in PICTURES or notes.verdict("GREY_INVERTED") != "repair"
    sheared = item.acquired is not None and item.acquired.repair == "shear"
    stack = decode(item.planes, item.folder, geometry.size, smaller=sheared, keep_dark=keep_dark)
    dark = stack.facts.dark_is_high if modality in PICTURES else 0
    if dark and notes.find("GREY_INVERTED", f"{dark} pictures have dark high values") == "repair":
        notes.repaired("GREY_INVERTED", {"photometric": "MONOCHROME1"}, {"photometric": "MONOCHROME2"})
    if stack.facts.colour:
        notes.find("COLOUR_TO_GREY", f"{stack.facts.colour} pictures are in colour")
    values = _signs(stack, notes)
    stored_high = float(values.max())  # rescaling uses the values up
    array = rescale(values, *_scale(item, modality, values, notes))
    with ThreadPoolExecutor(1) as pool:  # hashing waits for nobody, and the checks only read
        hashing = pool.submit(pixels_sha256, array, geometry)
        if modality == "CT":
            ends = float(array.min()), float(array.max())
            _hounsfield(array, ends, stored_high, geometry.size[0] * geometry.spacing[0], settings, notes)
        hashed = hashing.result()
    unit, array = _unit(item, modality, stack, array)
    if modality == "CT" and settings.clip_below_hu is not None:
        array = _clip(array, ends[0], settings.clip_below_hu, notes)
    synthetic: tuple[int, ...] = ()
    if item.acquired is not None:
        before = {"slices": len(array), **_heights(item.acquired)}
        fill = PADDING_HU if modality == "CT" else float(array.min())
        array = repair.to_grid(array, item.acquired, geometry, fill)
        synthetic = repair.synthetic(item.acquired, geometry)
        after = {"slices": len(array), "step_mm": round(geometry.spacing[2], 6), "interpolated": len(synthetic)}
        notes.repaired(repair.CODE[item.acquired.repair], before, after)
    path = folder / f"{item.key}.nii"
    write(Volume(array, geometry), path)
    return [
        {
            "path": str(path),
            "pixels_sha256": hashed,
            "unit": unit,
            "codes": ";".join(sorted(notes.codes)),
            "repairs": json.dumps(notes.repairs, sort_keys=True) if notes.repairs else "",
            "synthetic_slices": ";".join(map(str, synthetic)),
            **geometry.columns(),
        }
    ]


def _signs(stack: Stack, notes: Notes) -> np.ndarray:
    """Stored values with the sign that they have, whatever the header or the code stream declares."""
    facts, values = stack.facts, stack.array
    if values.dtype.kind not in "iu":
        return values
    code = "PIXELREP_MISMATCH"
    if facts.sign_differs:
        notes.find(code, f"{facts.sign_differs} code streams declare another sign than their header")
        notes.repaired(code, {"signed": not facts.signed}, {"signed": facts.signed})
    bits = facts.bits
    if facts.excess:
        bits = 8 * values.dtype.itemsize
        notes.find(code, f"{facts.excess} slices have more bits than the {facts.bits} declared")
        notes.repaired(code, {"bits": facts.bits}, {"bits": bits})
    if plausible.sign_is_wrong(values, bits, facts.signed, facts.padding):
        declared, found = ("signed", "unsigned") if facts.signed else ("unsigned", "signed")
        if notes.find(code, f"values declared {declared} are smooth only if read as {found}") == "repair":
            notes.repaired(code, {"signed": facts.signed}, {"signed": not facts.signed})
            return plausible.with_other_sign(values, bits, facts.signed)
    return values


def _scale(item: VolumeItem, modality: str, values: np.ndarray, notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of each slice. Without, values are what they are; of CT only if they prove it."""
    slopes = np.array([p.slope for p in item.planes])
    intercepts = np.array([p.intercept for p in item.planes])
    dicom = ~np.array([p.image for p in item.planes])
    lacking = dicom & (np.isnan(slopes) | np.isnan(intercepts))
    if modality == "CT" and lacking.any():
        code, reason = "RESCALE_MISSING", f"{int(lacking.sum())} slices have no rescale slope or intercept"
        if notes.find(code, reason) == "repair":
            if not plausible.proves_hounsfield(values[lacking]):
                raise ScanError(code, f"{reason}, and their values do not show air at -1000 HU")
            notes.repaired(code, {"slope": None, "intercept": None}, {"slope": 1, "intercept": 0})
    return np.where(np.isnan(slopes), 1.0, slopes), np.where(np.isnan(intercepts), 0.0, intercepts)


def _hounsfield(
    array: np.ndarray,
    ends: tuple[float, float],
    stored_high: float,
    field_mm: float,
    settings: ConvertSettings,
    notes: Notes,
) -> None:
    low, high = ends
    if reason := plausible.not_hounsfield(array, low, high):
        notes.find("MODALITY_TAG_SUSPECT", f"no Hounsfield units: {reason}")
    if (peak := plausible.air_is_off(array, field_mm, settings.air_tolerance_hu)) is not None:
        notes.find("HU_AIR_OFF", f"the air around the body is at {peak:.0f} HU")
    if voxels := plausible.clipped(array, high, stored_high):
        notes.find("HU_CLIPPED", f"{voxels} voxels at the limit of {high:g} HU")


def _unit(item: VolumeItem, modality: str, stack: Stack, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Unit of the values, and of PET the standardised uptake values where curation could compute the factor."""
    if modality == "CT":
        return "HU", array
    factors = np.array(item.suv_factors)
    if modality == "PT" and np.isfinite(factors).all():
        return "SUVbw (g/mL)", array * factors.astype(np.float32)[:, None, None]
    if modality == "PT" and stack.facts.units == "BQML":
        return "Bq/mL", array
    if modality == "NM" or (modality == "PT" and stack.facts.units == "CNTS"):
        return "counts", array
    return "arbitrary", array


def _clip(array: np.ndarray, lowest: float, limit: float, notes: Notes) -> np.ndarray:
    if lowest >= limit:
        return array
    notes.find("HU_IMPLAUSIBLE", f"padding is stored as {lowest:g} HU")
    notes.repaired("HU_IMPLAUSIBLE", {"minimum_hu": lowest}, {"minimum_hu": limit})
    return np.maximum(array, array.dtype.type(limit))


def _heights(acquired: repair.Acquired) -> dict[str, float]:
    steps = np.diff(acquired.heights)
    across = np.ptp(np.asarray(acquired.across), axis=0)
    return {
        "smallest_step_mm": round(float(steps.min()), 6),
        "largest_step_mm": round(float(steps.max()), 6),
        "displaced_mm": round(float(np.hypot(*across)), 6),
    }
