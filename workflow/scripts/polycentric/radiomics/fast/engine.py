"""All features of the ROIs of one image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ...config.radiomics_names import FEATURES
from ...errors import ScanError
from ...volumes import Volume
from .filters import Box, images
from .firstorder import first_order
from .shape import shape, shape_2d
from .textures import discretise, textures


@dataclass(frozen=True)
class Outline:
    """An ROI on the grid of an image: first index (z, y, x) and a mask cut down to the ROI's box.

    `whole` is the ROI of the shape features, `kept` what resegmentation leaves of it; `first` belongs to `whole`.
    """

    first: tuple[int, int, int]
    whole: np.ndarray
    kept: np.ndarray

    @property
    def box(self) -> Box:
        return tuple(slice(a, a + n) for a, n in zip(self.first, self.whole.shape, strict=True))  # type: ignore[return-value]


def compute(
    image: Volume,
    outlines: Mapping[str, Outline],
    settings: dict[str, Any],
    kinds: dict[str, dict[str, Any]],
    classes: dict[str, list[str]],
) -> dict[str, dict[str, float] | ScanError]:
    """Features of every ROI by PyRadiomics' names, in its order; `settings`, `kinds` and `classes` in its words.

    Images are filtered once, over the box around all ROIs. An ROI that cannot be measured gives its error.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    spacing = image.geometry.spacing[::-1]
    result: dict[str, dict[str, float] | ScanError] = {}
    for name, outline in outlines.items():
        try:
            result[name] = _shape(outline.whole, spacing, settings, classes)
        except ScanError as error:
            result[name] = error
    families = {k: v for k, v in classes.items() if not k.startswith("shape")}
    if not families:
        return result
    around = _around(outline.box for outline in outlines.values())
    trimmed = {name: _trim(outline) for name, outline in outlines.items()}
    for kind, array, own in images(image, around, settings, kinds):
        for name, (box, mask) in trimmed.items():
            found = result[name]
            if isinstance(found, ScanError):
                continue
            part = array[tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True))]
            try:
                found |= _intensities(kind, part[mask], mask, spacing, own, families)
            except ScanError as error:
                result[name] = error
    return result


def _around(boxes: Iterable[Box]) -> Box:
    boxes = list(boxes)
    return tuple(slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))  # type: ignore[return-value]


def _trim(outline: Outline) -> tuple[Box, np.ndarray]:
    """Box on the image's grid and mask of what is kept: neighbours are sought within that box."""
    cut = []
    for axis in range(3):
        hits = np.flatnonzero(outline.kept.any(axis=tuple(a for a in range(3) if a != axis)))
        cut.append(slice(int(hits[0]), int(hits[-1]) + 1))
    box = tuple(slice(f + c.start, f + c.stop) for f, c in zip(outline.first, cut, strict=True))
    return box, np.ascontiguousarray(outline.kept[tuple(cut)])  # type: ignore[return-value]


def _shape(
    mask: np.ndarray, spacing: tuple[float, float, float], settings: dict[str, Any], classes: dict[str, list[str]]
) -> dict[str, float]:
    result: dict[str, float] = {}
    for family in classes:
        if family == "shape":
            result |= _chosen("original_shape", shape(mask, spacing), classes[family] or FEATURES[family])
        elif family == "shape2D" and settings.get("force2D", False):
            axis = int(settings.get("force2Ddimension", 0))
            if mask.shape[2 - axis] == 1:  # as PyRadiomics, which looks the axis up in x, y, z
                continue
            if mask.shape[axis] > 1:
                reason = f"shape2D is for ROIs of one slice, this one has {mask.shape[axis]}: remove shape2D"
                raise ScanError("ROI_UNUSABLE", reason)
            steps = [s for a, s in enumerate(spacing) if a != axis]
            plane = shape_2d(mask.squeeze(axis), (steps[0], steps[1]))
            result |= _chosen("original_shape2D", plane, classes[family] or FEATURES[family])
    return result


def _intensities(
    kind: str,
    values: np.ndarray,
    mask: np.ndarray,
    spacing: tuple[float, float, float],
    settings: dict[str, Any],
    families: dict[str, list[str]],
) -> dict[str, float]:
    if not np.isfinite(values).all():
        raise ScanError("ROI_NOT_FINITE", f"the image {kind} has values inside the mask that are NaN or infinite")
    levels = discretise(values, settings)
    wanted = {family: features or FEATURES[family] for family, features in families.items()}
    skip_mcc = "MCC" not in wanted.get("glcm", ())
    found = textures(mask, levels, spacing, settings, wanted, skip_mcc)
    if "firstorder" in wanted:
        shift = float(settings.get("voxelArrayShift", 0))
        found["firstorder"] = first_order(values.astype(np.float64), levels.counts, shift, math.prod(spacing))
    result: dict[str, float] = {}
    for family, features in wanted.items():
        result |= _chosen(f"{kind}_{family}", found[family], features)
    return result


def _chosen(prefix: str, values: dict[str, float], features: Iterable[str]) -> dict[str, float]:
    """The features asked for; one that PyRadiomics gave up for its twin of another name is left out, as there."""
    return {f"{prefix}_{name}": float(values[name]) for name in features if name in values}
