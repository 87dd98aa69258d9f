"""Feature by feature: ours beside theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import feature_names

FACTS = {
    "diagnostics_Mask-original_VoxelNum": "voxels of the mask on the scan's grid",
    "diagnostics_Mask-interpolated_VoxelNum": "voxels of the mask after resampling",
    "diagnostics_Mask-interpolated_Minimum": "smallest intensity in the resampled mask",
    "diagnostics_Mask-interpolated_Maximum": "largest intensity in the resampled mask",
    "diagnostics_Mask-interpolated_Mean": "mean intensity in the resampled mask",
    "diagnostics_Image-original_Mean": "mean intensity of the image",
    "diagnostics_Image-original_Minimum": "smallest intensity of the image",
    "diagnostics_Image-original_Maximum": "largest intensity of the image",
    "diagnostics_Image-interpolated_Minimum": "smallest intensity of the resampled part of the image",
    "diagnostics_Image-interpolated_Maximum": "largest intensity of the resampled part of the image",
    "diagnostics_Versions_PyRadiomics": "PyRadiomics",
    "diagnostics_Versions_SimpleITK": "SimpleITK",
}
MASK_FACTS = [FACTS[f"diagnostics_Mask-{stage}_VoxelNum"] for stage in ("original", "interpolated")]
IMAGE_FACTS = [words for name, words in FACTS.items() if name.startswith("diagnostics_Image-")]


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|ours - theirs| / |theirs|; 0 where both are 0, infinite where only theirs is."""
    difference = np.abs(ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / np.abs(theirs))


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """One row per patient, ROI and feature that both sets have: values, relative difference, image type and class.

    A patient with several scans of an ROI in our set counts with each of them.
    """
    shared = {*feature_names.columns(ours)} & {*feature_names.columns(theirs)}
    names = [c for c in ours.columns if c in shared]
    both = _ok(ours).merge(_ok(theirs), on=["patient", "roi"], suffixes=("", "|theirs"))
    both = both.sort_values(["centre", "patient", "roi", "scan"], kind="stable")
    parts = []
    for _, row in both.iterrows():
        a = row[names].to_numpy(dtype=float)
        b = row[[f"{n}|theirs" for n in names]].to_numpy(dtype=float)
        keep = np.isfinite(a) & np.isfinite(b)
        part = pd.DataFrame({"feature": np.array(names, dtype=object)[keep], "ours": a[keep], "theirs": b[keep]})
        for column in ("roi", "scan", "patient"):
            part.insert(0, column, row[column])
        parts.append(part)
    columns = ["patient", "scan", "roi", "feature", "ours", "theirs"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    frame["relative_difference"] = relative_difference(
        frame["ours"].to_numpy(dtype=float), frame["theirs"].to_numpy(dtype=float)
    )
    known = feature_names.parts(frame["feature"].unique()).set_index("feature")
    for column in ("image_type", "class"):
        frame[column] = frame["feature"].map(known[column]).astype(object)
    return frame


def counts(pairs: pd.DataFrame, by: Sequence[str], tolerances: Sequence[float]) -> pd.DataFrame:
    """Features within each tolerance, number and percentage, and the median and largest relative difference."""
    rows: list[dict[str, Any]] = []
    for key, group in pairs.groupby(list(by), sort=True):
        difference = group["relative_difference"]
        row: dict[str, Any] = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row["features"] = len(group)
        for tolerance in tolerances:
            row[f"within_{tolerance:g}"] = int((difference <= tolerance).sum())
            row[f"within_{tolerance:g}_percent"] = 100 * float((difference <= tolerance).mean())
        row |= {"median_relative_difference": float(difference.median())}
        row |= {"largest_relative_difference": float(difference.max())}
        rows.append(row)
    return pd.DataFrame(rows)


def facts(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """What the two extractions tell about themselves, side by side: voxels, intensities, versions."""
    rows = []
    both = _ok(ours).merge(_ok(theirs), on=["patient", "roi"], suffixes=("", "|theirs"))
    if "diagnostics" not in both.columns or "diagnostics|theirs" not in both.columns:
        return pd.DataFrame(columns=["patient", "roi", "fact", "ours", "theirs", "relative_difference"])
    for _, row in both.sort_values(["centre", "patient", "roi", "scan"], kind="stable").iterrows():
        a, b = (
            json.loads(row[c]) if isinstance(row[c], str) and row[c] else {}
            for c in ("diagnostics", "diagnostics|theirs")
        )
        for name, words in FACTS.items():
            if name in a and name in b:
                numbers = all(isinstance(v, (int, float)) for v in (a[name], b[name]))
                rows.append(
                    {
                        "patient": row["patient"],
                        "roi": row["roi"],
                        "fact": words,
                        "ours": a[name],
                        "theirs": b[name],
                        "relative_difference": float(relative_difference(np.array(float(a[name])), float(b[name])))
                        if numbers
                        else None,
                    }
                )
    return pd.DataFrame(rows, columns=["patient", "roi", "fact", "ours", "theirs", "relative_difference"])


def _ok(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["status"].eq("ok")]
