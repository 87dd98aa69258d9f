"""Small cohorts with known effects for the tests of splits and table analyses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.tables.schemas import FEATURES, PATIENTS, SCANS, SPLIT


@dataclass(frozen=True)
class Binary:
    column: str
    positive: str
    type: str = "binary"


@dataclass(frozen=True)
class TimeToEvent:
    time: str
    event: str
    unit: str = "days"
    type: str = "time-to-event"


OUTCOMES = {"response": Binary("response", "yes"), "death": TimeToEvent("time_days", "event")}


@dataclass(frozen=True)
class Cohort:
    """Paths of the tables of a cohort."""

    root: Path
    patients: Path
    scans: Path
    split: Path
    features: dict[str, Path]
    frame: pd.DataFrame


def write(
    root: Path,
    *,
    sizes: dict[str, int],
    external: str | None,
    seed: int = 1,
    features: int = 8,
    signal: float = 1.0,
    test: float = 0.3,
    sets: tuple[str, ...] = ("mixed",),
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame,
) -> Cohort:
    """Patients, scans, a random split and feature sets; f0 is a standard normal that drives both outcomes.

    logit P(response) = signal * f0; hazard = exp(signal * f0) / 500 per day, censoring uniform up to 1,500 days.
    """
    rng = np.random.default_rng(seed)
    n = sum(sizes.values())
    centre = np.repeat(list(sizes), list(sizes.values()))
    patient = np.array([f"p{k:04d}" for k in range(n)])
    values = rng.normal(size=(n, features))
    time = rng.exponential(500 / np.exp(signal * values[:, 0]))
    censored = rng.uniform(0, 1500, n)
    frame = pd.DataFrame(
        {
            "centre": centre,
            "patient": patient,
            "role": np.where(centre == external, "external", "development"),
            "scans": 1,
            "clinical": True,
            "age_years": rng.normal(60, 10, n).round(1),
            "stage": rng.choice(["I", "II", "III"], n),
            "response": np.where(rng.random(n) < 1 / (1 + np.exp(-signal * values[:, 0])), "yes", "no"),
            "time_days": np.maximum(1, np.minimum(time, censored).round()),
            "event": (time <= censored).astype(int),
        }
    )
    frame = change(frame)
    tables.write(frame, root / "cohort/patients.tsv", PATIENTS)
    scans = pd.DataFrame(
        {
            "centre": centre,
            "patient": patient,
            "session": patient,
            "scan": [f"s{k:04d}" for k in range(n)],
            "role": frame["role"],
            "shard": centre,
            "modality": "CT",
            "contrast": rng.choice(["yes", "no"], n),
            "verdict": "accept",
            "codes": "",
            "slices": rng.integers(30, 60, n),
            "spacing_x_mm": 0.8,
            "spacing_y_mm": 0.8,
            "spacing_z_mm": np.where(centre == external, 3.0, 1.5),
            "length_mm": 300.0,
            "thickness_mm": np.where(centre == external, 3.0, 2.0),
            "manufacturer": np.where(centre == external, "Beta", "Alpha"),
            "model": "",
            "kernel": "B30",
            "kvp": 120.0,
            "structures": 1,
        }
    )
    tables.write(scans, root / "cohort/scans.tsv", SCANS)
    part = np.where(frame["role"] == "external", "external", np.where(rng.random(n) < test, "test", "training"))
    split = frame[["centre", "patient"]].assign(part=part, stratum="all")
    tables.write(split, root / "cohort/splits/main.tsv", SPLIT)
    paths = {}
    for k, name in enumerate(sets):
        noisy = values + (0.5 * k) * rng.normal(size=values.shape)
        table = pd.DataFrame(
            {
                "centre": centre,
                "patient": patient,
                "session": patient,
                "scan": scans["scan"],
                "set": name,
                "view": "ct",
                "source": "manual",
                "roi": "GTV-1",
                "fold": "main",
                "status": "ok",
                "reason": "",
            }
        )
        table = pd.concat([table, pd.DataFrame(noisy, columns=[f"f{j}" for j in range(features)])], axis=1)
        paths[name] = root / f"features/{name}.parquet"
        tables.write(table, paths[name], FEATURES)
    return Cohort(
        root, root / "cohort/patients.tsv", root / "cohort/scans.tsv", root / "cohort/splits/main.tsv", paths, frame
    )


def null(permute: Callable[..., None], name: str, settings: Any, folder: Path, **inputs: Any) -> list[Path]:
    """Tables of all shards of the permutations of an analysis, as their jobs write them."""
    paths = []
    for k, numbers in enumerate(settings.permutations_of()):
        paths.append(folder / f"permutations/{k}.tsv")
        permute(name, settings, numbers, path=paths[-1], **inputs)
    return paths


def golden() -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The cohort and R's numbers for it; skips where it is not there."""
    numbers = {name: np.array(values) for name, values in _golden().items() if not isinstance(values[0], str)}
    return pd.read_csv(_shared() / "cohort.csv"), numbers


def golden_words() -> dict[str, list[str]]:
    """Names that R gave for the cohort: the variables that an elimination keeps."""
    return {name: values for name, values in _golden().items() if isinstance(values[0], str)}


def _shared() -> Path:
    return Path(os.environ.get("POLYCENTRIC_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "golden"


def _golden() -> dict[str, list[Any]]:
    path = _shared() / "golden_R.txt"
    if not path.exists():
        pytest.skip(f"R's results are not there: {path.parent}")
    results: dict[str, list[Any]] = {}
    for line in path.read_text().splitlines():
        name, *values = line.split()
        try:
            results[name] = [float(v) for v in values]
        except ValueError:
            results[name] = values
    return results
