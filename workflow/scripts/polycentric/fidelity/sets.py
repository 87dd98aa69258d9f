"""Sets of images as their profiles: by patient and layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import tables
from ..tables.profiles import PROFILES, read_arrays

DENSITIES = ("fine", "coarse", "radial", "plane")


@dataclass
class ImageSet:
    """Profiles of a set of images.

    `densities` hold (patients, layers, bins), the mean over a patient's scans, NaN where a patient has no slice;
    `features` is a list by patient of (slices, d), with the `layer` of each slice; empty arrays without a network.
    """

    name: str
    patients: list[str]
    densities: dict[str, np.ndarray]
    features: list[np.ndarray]
    layer: list[np.ndarray]
    slices: np.ndarray  # (patients, layers)
    scans: int

    @property
    def has_features(self) -> bool:
        return any(f.shape[1] for f in self.features)


def rows_of(manifests: Iterable[Path], view: str, profile: str) -> pd.DataFrame:
    frame = tables.read_all(list(manifests), PROFILES)
    return frame[(frame["view"] == view) & (frame["profile"] == profile)]


def load(name: str, rows: pd.DataFrame, root: Path, layers: int, bins: dict[str, int]) -> ImageSet:
    """Read the profiles of manifest rows with status ok, sorted by patient and scan."""
    good = rows[rows["status"] == "ok"].sort_values(["patient", "scan"])
    patients = sorted(set(good["patient"]))
    densities = {d: np.full((len(patients), layers, bins[d]), np.nan, dtype=np.float32) for d in DENSITIES}
    features, layer = [], []
    slices = np.zeros((len(patients), layers), dtype=int)
    for number, patient in enumerate(patients):
        found = [read_arrays(root / path) for path in good.loc[good["patient"] == patient, "path"]]
        for d, values in densities.items():
            stacked = np.stack([f[d] for f in found]).astype(np.float64)
            weight = np.stack([(f["count"] > 0) for f in found])[..., None]
            total = weight.sum(axis=0)
            # a bin beyond a grid's frequencies stays empty, also where another scan of the patient has it
            mean = np.where(weight, stacked, 0).sum(axis=0) / np.maximum(total, 1)
            values[number] = np.where(total > 0, mean, np.nan)
        slices[number] = np.sum([f["count"] for f in found], axis=0)
        features.append(np.concatenate([f.get("features", np.empty((len(f["layer"]), 0))) for f in found]))
        layer.append(np.concatenate([f["layer"] for f in found]))
    return ImageSet(name, patients, densities, features, layer, slices, len(good))


def thinned(images: ImageSet, most: int) -> list[np.ndarray]:
    """Features of at most `most` slices of every patient, evenly spaced from feet to head, float64."""
    found = []
    for features, layer in zip(images.features, images.layer, strict=True):
        order = np.argsort(layer, kind="stable")
        chosen = order[np.unique(np.rint(np.linspace(0, len(order) - 1, min(most, len(order)))).astype(int))]
        found.append(features[chosen].astype(np.float64))
    return found


def mean_density(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean (draws, layers, bins) over patients of (patients, layers, bins) for weights (draws, patients).

    Patients without slices in a layer do not count there; a layer without any, and a bin that one of them lacks, is
    NaN.
    """
    there = np.isfinite(values).any(axis=2)
    total = weights @ there.astype(float)
    empty = ~np.isfinite(values) & there[..., None]
    filled = np.where(np.isfinite(values), values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.einsum("dp,plb->dlb", weights, filled, optimize=True) / total[..., None]
    if empty.any():
        lacking = np.einsum("dp,plb->dlb", weights, empty.astype(float), optimize=True) > 0
        mean[lacking] = np.nan
    mean[total == 0] = np.nan
    return mean


def stack(parts: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Rows of the patients that weights (patients,) name, as often as they say."""
    return np.concatenate([np.repeat(p, int(w), axis=0) for p, w in zip(parts, weights, strict=True) if w])
