"""Frechet radiomics distance: of standardised handcrafted features instead of a network's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import tables
from ..errors import UserError
from ..randomness import generator as stream
from ..tables import schemas
from ..training import cohort
from . import judge
from .resampling import halves, resamples

if TYPE_CHECKING:
    from ..config.synthesis_analyses import SynthesisComparison
    from .compare import Model


def distances(
    name: str,
    settings: SynthesisComparison,
    models: Mapping[str, Model],
    features: Mapping[str, Path],
    everyone: pd.DataFrame,
    where: str,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Frechet radiomics distance of each model that has a feature set, as ratio to that of real images.

    Konz et al. 2026 (Medical Image Analysis): features are standardised by the mean and deviation of the reference,
    here all unseen images of the target; features that are constant or not finite in either set are left out; regions
    are samples. The logarithm of the distance, which the authors report, stands beside it.

    Raises
    ------
    UserError
        for too few patients or no common feature.
    """
    chosen = settings.radiomics
    if chosen is None:
        return {}
    found = {}
    for model, named in chosen.synthetic.items():
        facts = models[model]
        parts = tables.read(facts.split, schemas.SPLIT)
        unseen = everyone[everyone["patient"].isin(parts.loc[parts["part"].isin(settings.parts), "patient"])]
        own = _read(features[named], cohort.select(unseen, facts.synthesis.source.where, where))
        real = _read(features[chosen.target], cohort.select(unseen, facts.synthesis.target.where, where))
        columns = [c for c in own.columns if c in real.columns and c not in schemas.FEATURES.columns]
        both = pd.concat([own[columns], real[columns]]).to_numpy(dtype=float)
        columns = [c for c, ok in zip(columns, np.isfinite(both).all(axis=0), strict=True) if ok]
        deviation = real[columns].std(ddof=1) if columns else pd.Series(dtype=float)
        columns = [c for c in columns if deviation[c] > 1e-12 * max(1.0, abs(real[c].mean()))]
        samples = []
        for frame in (own, real):
            values = (frame[columns] - real[columns].mean()) / deviation[columns]
            samples.append([values.loc[rows.index].to_numpy(float) for _, rows in frame.groupby("patient", sort=True)])
        if not columns or len(samples[0]) < 2 or len(samples[1]) < 4:
            raise UserError(
                f"{where}: radiomics: the feature sets {named!r} and {chosen.target!r} share {len(columns)} usable "
                f"features, of {len(samples[0])} and {len(samples[1])} unseen patients; at least 1 feature, 2 "
                "synthetic and 4 target patients are needed. Write other feature sets or other `parts`."
            )
        both = len(samples[0]), len(samples[1])
        draws = [
            halves(*both, stream(seed, "radiomics", name, "repeats"), settings.repeats),
            resamples(*both, stream(seed, "radiomics", name, "bootstrap"), settings.frechet_bootstrap),
        ]
        facts_of = judge.pooled_frechet("Frechet radiomics distance", *samples, draws, seed=seed)
        logs = {k: float(np.log(facts_of[k])) if facts_of[k] > 0 else None for k in ("images", "real")}
        facts_of |= {"log_images": logs["images"], "log_real": logs["real"], "features": len(columns)}
        found[model] = facts_of | {"title": f"Frechet radiomics distance, {len(columns)} features"}
    return found


def _read(path: Path, scans: pd.DataFrame) -> pd.DataFrame:
    frame = tables.read(path, schemas.FEATURES)
    frame = frame[(frame["status"] == "ok") & frame["scan"].isin(scans["scan"])]
    return frame.sort_values(["patient", "scan", "roi"]).reset_index(drop=True)
