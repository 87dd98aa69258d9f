"""Volumes of ROIs beside known ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from ..errors import UserError

COLUMNS = ("patient_id", "roi", "volume_ml", "source")


def read_known(path: Path, pseudonym: Callable[[str, str], str], centres: Sequence[str], where: str) -> pd.DataFrame:
    """Known volumes with pseudonyms in place of the identifiers: patient, roi, volume_ml, source.

    The table does not tell the centre, so a row stands for the patient of that identifier in each of `centres`.
    """
    frame = pd.read_csv(path, dtype={"patient_id": "string", "roi": "string", "source": "string"})
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise UserError(f"{where}: volumes: the table has no column {missing}; it needs {', '.join(COLUMNS)}")
    parts = [frame.assign(patient=[pseudonym(c, str(p)) for p in frame["patient_id"]]) for c in sorted(centres)]
    columns = ["patient", "roi", "volume_ml", "source"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


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
