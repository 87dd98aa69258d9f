"""The facts of one CT scan."""

from __future__ import annotations

import math
from typing import Any

from ..config.examine import ExamineSettings
from ..volumes import Volume
from .blood import Pool, find_pool
from .coarse import coarsen, upright
from .coverage import coverage
from .noise import noise_hu
from .tissue import fat_hu, find, muscle_hu

# between the levels of fat and of healthy muscle; muscle full of fat may read lower by this at most
FAT_TO_MUSCLE_HU, MOST_FATTY_HU = 140.0, 15.0
SLOPE_HU = 5.5
CERTAINTY = {"heart": 5.0, "vessel": 3.5}  # largest log odds; vessels are few voxels
UNKNOWN: dict[str, Any] = {"contrast_image": "unknown", "covers_thorax": "unknown", "body_part_image": ""}


def facts_of(volume: Volume, settings: ExamineSettings) -> dict[str, Any]:
    """Contrast agent, coverage and noise of a CT volume in HU: columns of the schema `EXAMINED`."""
    array, spacing = upright(volume)
    scan = coarsen(array, spacing)
    tissue = find(scan)
    muscle = muscle_hu(scan, tissue)
    fat = fat_hu(scan, tissue)
    pool, reference = None, muscle
    if muscle is not None:
        if fat is not None:
            reference = max(muscle, min(fat + FAT_TO_MUSCLE_HU, muscle + MOST_FATTY_HU))
        pool = find_pool(scan, tissue, muscle)
    where = coverage(scan, tissue, settings.apex_share, pool is not None)
    contrast, confidence = judge(pool, reference, settings)
    return {
        "contrast_image": contrast,
        "contrast_image_confidence": confidence,
        "blood_hu": None if pool is None else round(pool.hu, 1),
        "blood_ml": None if pool is None else round(pool.ml, 1),
        "blood_place": "" if pool is None else pool.place,
        "muscle_hu": muscle,
        "fat_hu": fat,
        "noise_hu": _rounded(noise_hu(array, spacing, 50.0 if muscle is None else muscle)),
        "air_hu": tissue.air_hu,
        "lung_ml": round(float(tissue.lungs.sum()) * scan.voxel_ml, 0),
        "covers_thorax": where.thorax,
        "body_part_image": where.body_part,
        "lung_top_mm": _rounded(where.top_mm),
        "lung_bottom_mm": _rounded(where.bottom_mm),
    }


def judge(pool: Pool | None, reference_hu: float | None, settings: ExamineSettings) -> tuple[str, float | None]:
    """Whether the blood is enhanced, and the probability that this is right.

    Without agent, blood (30 to 55 HU) is a little darker than muscle; with it, it is brighter by 40 to 400 HU. Normal
    distributions of the difference, -5 (10) and 120 (60) HU, are equally likely at 20 HU, and below that their log
    ratio falls by 1 every 5.5 HU: a logistic curve with these two numbers, cut where the model is not to be believed.
    """
    if pool is None or reference_hu is None:
        return "unknown", None
    most = CERTAINTY[pool.place]
    odds = max(-most, min(most, (pool.hu - reference_hu - settings.enhancement_hu) / SLOPE_HU))
    probability = 1 / (1 + math.exp(-abs(odds)))
    return ("yes" if odds > 0 else "no"), round(probability, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
