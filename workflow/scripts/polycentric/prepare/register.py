"""Rigid registration of two images of a patient by mutual information, and how far it can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ScanError
from ..grids import to_points
from ..volumes import Rigid, Volume
from .align import coarse, misalignment, normalised_information, smooth

LEVELS_MM = (6.0, 3.0, 1.5)
BINS, SAMPLES, SEED = 32, 60_000, 1
# what a patient on another table can do, and how well the way there and the way back must agree
MOST_MM, MOST_DEG, CONSISTENT_MM = 80.0, 30.0, 3.0
# a figure of misalignment is known to half a voxel of its grid
SLACK_MM = 1.5
RADIUS_MM = 60.0  # where a radian counts as much as so many mm


@dataclass(frozen=True)
class Registration:
    """Where the moving image goes: its rigid motion in the patient (LPS, mm), and what is known of it."""

    motion: Rigid
    facts: dict[str, Any]


def register(fixed: Volume, moving: Volume) -> Registration:
    """The rigid motion of `moving` that brings it into agreement with `fixed`.

    Mattes mutual information (Mattes et al., IEEE TMI 22 (2003) 120-128) over rotations about the centre of `fixed` and
    translations, by Powell's method on grids of 6, 3 and 1.5 mm (never finer than the images), from the best of
    translations (`misalignment`); SimpleITK, one thread, 60,000 samples on a regular pattern with a fixed seed. It is
    run the other way round, too, from the inverse start: ways that do not undo each other are refused, and what lies
    half way between the two is taken, so that the result is the same whichever image is the reference.

    Raises
    ------
    ScanError
        VIEW_REGISTRATION where it cannot be done or should not be believed: too little in common, a motion that no
        patient makes (over 80 mm or 30 degrees), no better agreement than before, or a way back that ends over 3 mm
        from where it began.
    """
    before = misalignment(fixed, moving)
    if before is None:
        raise ScanError("VIEW_REGISTRATION", "the images have too little in common to be registered")
    there = _optimised(fixed, moving, Rigid(offset=tuple(map(float, before))))
    back = _optimised(moving, fixed, there.inverse())
    points = _points(fixed)
    consistency = _rms(back.then(there).apply(points) - points)
    there = _between(there, back.inverse(), points.mean(axis=0))
    moved_mm = _rms(there.apply(points) - points)
    placed = Volume(moving.array, there.place(moving.geometry))
    after = misalignment(fixed, placed)
    scores = [normalised_information(fixed, one) for one in (moving, placed)]
    left = math.inf if after is None else float(np.linalg.norm(after))
    said = f"moves by {moved_mm:.1f} mm and {there.angle_deg():.1f} degrees"
    if moved_mm > MOST_MM or there.angle_deg() > MOST_DEG:
        raise ScanError("VIEW_REGISTRATION", f"registration {said}, which no patient does")
    if consistency > CONSISTENT_MM:
        raise ScanError("VIEW_REGISTRATION", f"registration {said}, but the way back ends {consistency:.1f} mm off")
    if scores[1] < scores[0] or left > max(SLACK_MM, float(np.linalg.norm(before))):
        raise ScanError("VIEW_REGISTRATION", f"registration {said}, and the images agree no better than before")
    facts = {
        "before_mm": float(np.linalg.norm(before)),
        "before_shift_mm": [float(v) for v in before],
        "moved_mm": moved_mm,
        "turned_deg": there.angle_deg(),
        "consistency_mm": consistency,
        "information": scores,
        "motion": [*there.matrix, *there.offset],
    }
    return Registration(there, facts)


def _optimised(fixed: Volume, moving: Volume, start: Rigid) -> Rigid:
    """The motion of `moving` from a start, level by level."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    points = _points(fixed)
    centre = points.mean(axis=0)
    # ITK maps points of the fixed image to the moving one: the inverse of the image's motion
    inverse = start.inverse()
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(inverse.matrix)
    transform.SetTranslation((inverse.apply(centre[None])[0] - centre).tolist())
    done: set[tuple] = set()
    for mm in LEVELS_MM:
        grids = coarse(fixed.geometry, mm), coarse(moving.geometry, mm)
        if grids in done:
            continue
        done.add(grids)
        images = [smooth(volume, mm, grid).to_sitk() for volume, grid in zip((fixed, moving), grids, strict=True)]
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(min(1.0, SAMPLES / math.prod(grids[0].size)), SEED)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(transform, inPlace=True)
        method.SetOptimizerAsPowell(20, 50, mm / 3, 0.02, 1e-5)
        method.SetOptimizerScales([RADIUS_MM] * 3 + [1.0] * 3)
        try:
            method.Execute(*images)
        except RuntimeError as error:
            raise ScanError("VIEW_REGISTRATION", "the images lost each other in registration") from error
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    offset = centre + np.array(transform.GetTranslation()) - matrix @ centre
    return Rigid(tuple(map(float, matrix.ravel())), tuple(map(float, offset))).inverse()


def _between(one: Rigid, other: Rigid, centre: np.ndarray) -> Rigid:
    """Half way between two motions that differ little: the rotation nearest to the mean matrix, a centre's mean."""
    mean = (np.array(one.matrix) + np.array(other.matrix)).reshape(3, 3) / 2
    u, _, v = np.linalg.svd(mean)
    offset = (one.apply(centre[None]) + other.apply(centre[None]))[0] / 2 - u @ v @ centre
    return Rigid(tuple(map(float, (u @ v).ravel())), tuple(map(float, offset)))


def _points(volume: Volume) -> np.ndarray:
    """Eight points half way between centre and corners of an image, mm: where a motion is measured."""
    size = np.array(volume.geometry.size, dtype=float) - 1
    at = np.array([[i, j, k] for i in (0.25, 0.75) for j in (0.25, 0.75) for k in (0.25, 0.75)]) * size
    return to_points(volume.geometry, at)


def _rms(distances: np.ndarray) -> float:
    return float(np.sqrt((distances**2).sum(axis=1).mean()))
