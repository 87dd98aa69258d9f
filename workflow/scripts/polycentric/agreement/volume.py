"""Volumes of ROIs beside known ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ..errors import UserError

COLUMNS = ("patient_id", "roi", "volume_ml", "source")


def read_known(path: Path, pseudonym: Callable[[str], str], where: str) -> pd.DataFrame:
    """Known volumes with pseudonyms in place of the identifiers: patient, roi, volume_ml, source."""
    frame = pd.read_csv(path, dtype={"patient_id": "string", "roi": "string", "source": "string"})
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise UserError(f"{where}: volumes: the table has no column {missing}; it needs {', '.join(COLUMNS)}")
    frame["patient"] = [pseudonym(str(p)) for p in frame["patient_id"]]
    return frame[["patient", "roi", "volume_ml", "source"]]


def compare(masks: pd.DataFrame, known: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Every mask whose volume is known: mask, planar contour and known volume in mL, relative differences.

    `acceptable` judges against references called `analytic`: the area of planar contours times the slice distance.
    """
    wanted = masks[masks["status"].eq("ok")].merge(known, on=["patient", "roi"], suffixes=("", "_known"))
    result = pd.DataFrame(
        {
            "patient": wanted["patient"],
            "roi": wanted["roi"],
            "reference": wanted["source_known"],
            "known_ml": wanted["volume_ml_known"].astype(float),
            "mask_ml": wanted["volume_ml"].astype(float),
            "contour_ml": wanted["contour_volume_ml"].astype(float),
        }
    )
    result["mask_difference"] = result["mask_ml"] / result["known_ml"] - 1
    result["contour_difference"] = result["contour_ml"] / result["known_ml"] - 1
    result["mask_against_contour"] = result["mask_ml"] / result["contour_ml"] - 1
    # other references have errors of their own, so they are shown but judge nothing
    analytic = result["reference"].eq("analytic")
    result["acceptable"] = (result["mask_difference"].abs() <= tolerance).where(analytic).astype("boolean")
    return result.sort_values(["patient", "roi", "reference"], kind="stable", ignore_index=True)
