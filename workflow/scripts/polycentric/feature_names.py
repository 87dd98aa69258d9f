"""What the names of features tell, and which columns of a feature table are features."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .tables.schemas import FEATURES

CLASSES = ("shape", "shape2D", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
OTHER = "other"


def columns(frame: pd.DataFrame) -> list[str]:
    """Names of the feature columns of a feature table, sorted."""
    return sorted(
        str(c)
        for c in frame.columns
        if c not in FEATURES.columns
        and not str(c).startswith("diagnostics")
        and pd.api.types.is_numeric_dtype(frame[c])
        and not pd.api.types.is_bool_dtype(frame[c])
    )


def parts(names: Sequence[str]) -> pd.DataFrame:
    """Feature, image type and class, a row per name: ``wavelet-LLH_glcm_Contrast`` is of class glcm.

    Names of other makes have image type and class `other`.
    """
    rows = []
    for name in names:
        words = name.rsplit("_", 2)
        known = len(words) == 3 and words[1] in CLASSES
        rows.append((name, words[0] if known else OTHER, words[1] if known else OTHER))
    return pd.DataFrame(rows, columns=["feature", "image_type", "class"])


def in_order(classes: Sequence[str]) -> list[str]:
    """Classes that occur, in the order of `CLASSES`, others last."""
    found = {*classes}
    return [c for c in CLASSES if c in found] + sorted(found - {*CLASSES})
