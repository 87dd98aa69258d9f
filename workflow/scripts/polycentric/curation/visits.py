"""Time points: which visit of a patient a scan belongs to."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd


def date_of(files: pd.DataFrame) -> date | None:
    """Date of the study, else of the acquisition, else of the series; the earliest of several."""
    for name in ("study_date", "acquisition_date", "series_date"):
        found = [d for text in set(files[name]) if (d := _date(text)) is not None]
        if found:
            return min(found)
    return None


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.replace(".", "").replace("-", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def number(rows: list[dict[str, Any]], dates: list[date | None]) -> None:
    """Fill `timepoint` and `days` of rows of CURATION: studies of one day are one visit, the first is day 0."""
    visits: dict[str, set[date]] = {}
    for row, day in zip(rows, dates, strict=True):
        if day is not None:
            visits.setdefault(row["patient"], set()).add(day)
    for row, day in zip(rows, dates, strict=True):
        if day is not None:
            ordered = sorted(visits[row["patient"]])
            row["timepoint"] = ordered.index(day) + 1
            row["days"] = (day - ordered[0]).days
