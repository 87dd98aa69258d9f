"""Which scans a model may be trained on: the one part of training that reads tables (pandas)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .. import ledger, tables
from ..errors import UserError
from ..tables import schemas
from ..where import holds


def cohort(scans: Path, patients: Path) -> pd.DataFrame:
    """The scan table with the columns of the patient table (the clinical ones) behind it."""
    left = tables.read(scans, schemas.SCANS)
    right = tables.read(patients, schemas.PATIENTS)
    extra = [c for c in right.columns if c not in left.columns]
    return left.merge(right[["patient", *extra]], on="patient", how="left", validate="many_to_one")


def select(frame: pd.DataFrame, where: str | None, at: str) -> pd.DataFrame:
    """Rows of the cohort that an expression selects; all without one.

    Raises
    ------
    UserError
        for an expression that cannot be evaluated; names the columns there are.
    """
    if where is None:
        return frame
    return frame[holds(where, frame, where=f"{at}: where")]


def training_patients(split: Path, upstream: list[Path], at: str) -> set[str]:
    """Patients of the training part, none of whom a model behind the images has seen, but for scalers fitted on it."""
    frame = tables.read(split, schemas.SPLIT)
    training = set(frame.loc[frame["part"] == "training", "patient"])
    ledger.refuse(training, set(frame["patient"]) - training, upstream, split=split.stem, where=at)
    return training


def images(frame: pd.DataFrame, manifests: list[Path], view: str, at: str) -> pd.DataFrame:
    """Manifest rows of a view for the scans of `frame`, sorted by scan, that have an image.

    Raises
    ------
    UserError
        when there is none.
    """
    rows = tables.read_all(manifests, schemas.VIEWS)
    rows = rows[(rows["view"] == view) & rows["scan"].isin(frame["scan"])]
    found = rows[rows["status"] == "ok"].sort_values("scan").reset_index(drop=True)
    if found.empty:
        reasons = rows["reason"].dropna().value_counts()
        why = f" ({reasons.index[0]})" if len(reasons) else ""
        raise UserError(
            f"{at}: no scan is left to train on: of {len(frame)} selected scans of training patients, {len(rows)} are "
            f"in view {view!r} and none of them has an image there{why}. Write another `where`, `view` or `split`."
        )
    return found
