"""What the training patients of a classification can carry: events per variable and Riley's criteria."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from ..artefacts import TableArtefacts
from ..estimates import finite
from . import samplesize
from .artefacts import sentence
from .classify_study import Study, title
from .tuning import Fitted


def assess(study: Study, fit: Fitted | None) -> dict[str, Any] | None:
    """Candidates, patients and what Riley's criteria ask for; patients count, not lesions. None without a fit.

    Several classes: each pair by itself (Pate et al. 2023), the pair that asks for the most patients counts.
    """
    if fit is None:
        return None
    y = study.outcome[study.part("training")]
    sizes = np.bincount(y, minlength=len(study.classes))
    known = [k for k in range(len(sizes)) if sizes[k]]
    if len(known) < 2:
        return None
    candidates, variables = len(fit.front.names_), len(fit.front.chosen_)
    found = []
    for a, b in itertools.combinations(known, 2):
        both = int(sizes[a] + sizes[b])
        prevalence = float(sizes[b] / both)
        r2 = study.settings.expected_r2 * samplesize.largest_r2_binary(prevalence)
        pair = samplesize.riley_binary(max(candidates, 1), patients=both, prevalence=prevalence, r2=r2)
        found.append((math.ceil(pair.needed * len(y) / both), pair))
    needed, worst = max(found, key=lambda pair: pair[0])
    rarer = int(min(sizes[k] for k in known))
    return {
        "patients": len(y), "events": rarer, "candidates": candidates, "variables": variables,
        "events_per_candidate": finite(rarer / candidates) if candidates else None,
        "events_per_variable": finite(rarer / variables) if variables else None,
        "riley": {"shrinkage": worst.shrinkage, "optimism": worst.optimism, "risk": worst.risk, "needed": needed,
                  "carries": worst.carries},
        "method": f"Riley 2019 for Nagelkerke's R squared {study.settings.expected_r2:g}, shrinkage 0.9, overall risk "
        "to 0.05" + ("" if study.binary else "; of the pair of classes that asks for the most patients"),
    }  # fmt: skip


def say(study: Study, results: dict[str, Any]) -> None:
    """Say in plain words what training cannot carry, once for the models that were offered the same variables."""
    for arm, models in results.items():
        own = {model: entry["sample_size"] for model, entry in models.items() if entry["sample_size"]}
        if not own:
            continue
        found = next(iter(own.values()))
        for text in samplesize.warnings(
            f"{arm} ({', '.join(own)})",
            events=found["events"],
            patients=found["patients"],
            candidates=found["candidates"],
            needed=found["riley"]["needed"],
            carries=found["riley"]["carries"],
        ):
            study.warn(text)


def write(study: Study, results: dict[str, Any], artefacts: TableArtefacts) -> None:
    rows = [
        {
            "features": arm,
            "model": model,
            "patients": found["patients"],
            "of the rarer class": found["events"],
            "candidate variables": found["candidates"],
            "of the rarer class per candidate": round(found["events"] / max(found["candidates"], 1), 2),
            "variables in the model": found["variables"],
            "of the rarer class per variable": round(found["events"] / max(found["variables"], 1), 2),
            "patients needed": found["riley"]["needed"],
            "candidates that the patients carry": found["riley"]["carries"],
        }
        for arm, models in results.items()
        for model, entry in models.items()
        if (found := entry["sample_size"])
    ]
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "sample-size",
            f"{title(study)}: what the training data can carry",
            sentence(
                "Criteria of Riley et al. (2019) for the candidate variables: shrinkage of 0.9, optimism of R squared "
                "below 0.05, overall risk known to 0.05; expected Nagelkerke's R squared "
                f"{study.settings.expected_r2:g}",
                "Of several classes the pair that asks for the most patients counts" if not study.binary else "",
            ),
        )
