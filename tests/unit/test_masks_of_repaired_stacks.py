"""Contours and segmentations on stacks that curation repairs: the mask lies where the picture shows the object."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pipeline
import pytest
import tiny_dicom
from polycentric import volumes
from polycentric.config.curation import ConvertSettings, CurationSettings
from pydicom.dataset import Dataset

CENTRE, RADIUS = np.array([-35.0, -28.0, 130.0]), 17.0


def phantom(heights: np.ndarray, shift_mm_per_mm: float = 0.0) -> list[Dataset]:
    """CT of a ball of 100 HU in air, with slices at `heights` that shift along their columns."""
    data = tiny_dicom.series(len(heights), rows=80, columns=72, pixel_spacing=(0.8, 0.8), origin=(-63, -58, 100))
    yy, xx = np.mgrid[0:80, 0:72] * 0.8
    for one, height in zip(data, heights, strict=True):
        corner = np.array([-63.0, -58.0 + shift_mm_per_mm * (height - 130), height])
        one.ImagePositionPatient = [float(v) for v in corner]
        distance = (xx + corner[0] - CENTRE[0]) ** 2 + (yy + corner[1] - CENTRE[1]) ** 2 + (height - CENTRE[2]) ** 2
        one.PixelData = np.where(distance < RADIUS**2, 1124, 24).astype(np.uint16).tobytes()
    return data


def contours(heights: np.ndarray) -> list[np.ndarray]:
    radii = [(z, math.sqrt(max(RADIUS**2 - (z - CENTRE[2]) ** 2, 0))) for z in heights]
    return [tiny_dicom.circle(*CENTRE[:2], z, r, 200) for z, r in radii if r > 0.5]


def convert(folder: Path, verdicts: dict[str, str], **curation: Any) -> tuple[pd.Series, pd.Series, Path]:
    centre = pipeline.curated(folder, CurationSettings(verdicts=verdicts, **curation))
    pipeline.converted(centre, ConvertSettings(rois={"ball": "GTV-1"}), verdicts=verdicts)
    made, masks = centre.volumes(), centre.masks()
    assert len(made) == len(masks) == 1
    return made.iloc[0], masks.iloc[0], centre.root


EVEN = 100 + 2.0 * np.arange(31)
UNEVEN = np.concatenate([np.arange(100, 118, 1.5), np.arange(118, 162, 3.0)])


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize(
    ("heights", "shift", "verdicts"),
    [
        (EVEN, 0.0, {}),
        (EVEN, math.tan(math.radians(18)), {}),
        (np.delete(EVEN, 12), 0.0, {"GEOM_MISSING_SLICE": "repair"}),
        (UNEVEN, 0.0, {"GEOM_VARIABLE_SPACING": "repair", "THICKNESS_NE_SPACING": "accept"}),
    ],
    ids=["regular", "tilted", "slice missing", "uneven"],
)
def test_mask_lies_where_the_picture_shows_the_object(
    tmp_path: Path, heights: np.ndarray, shift: float, verdicts: dict[str, str], kind: str
) -> None:
    slices = phantom(heights, shift)
    if kind == "RTSTRUCT":
        drawn: Dataset = tiny_dicom.structure_set(slices, {"GTV-1": contours(heights)})
    else:
        drawn = segmentation(slices)
    made, mask, root = convert(tiny_dicom.save(tmp_path / "in", slices, drawn), verdicts)
    assert (made["status"], mask["status"]) == ("ok", "ok"), (made["reason"], mask["reason"])
    assert mask["volume_ml"] == pytest.approx(4 / 3 * math.pi * RADIUS**3 / 1000, rel=0.02)
    assert not {"RT_MISSING_INTERMEDIATE", "SEG_GRID_MISMATCH"} & {*mask["codes"].split(";")}
    image = volumes.read(root / made["path"], made)
    inside = volumes.read(root / mask["path"], made).array > 0
    shown = image.array > -450  # half way between air and ball
    dice = 2 * np.count_nonzero(inside & shown) / (inside.sum() + shown.sum())
    assert dice > 0.98
    grid = image.geometry
    middle = np.argwhere(inside).mean(axis=0)[::-1] * grid.spacing + np.array(grid.origin)
    assert np.allclose(middle, CENTRE, atol=0.3)


def segmentation(slices: list[Dataset]) -> Dataset:
    highdicom = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    for one in slices:
        one.PatientBirthDate = one.PatientSex = one.StudyID = one.AccessionNumber = ""
        one.ReferringPhysicianName = ""
    mask = np.stack([np.frombuffer(s.PixelData, dtype=np.uint16).reshape(80, 72) > 500 for s in slices])
    description = highdicom.seg.SegmentDescription(
        1, "GTV-1", codes.cid7150.Tissue, codes.cid7166.ConnectiveTissue,
        highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )  # fmt: skip
    return highdicom.seg.Segmentation(
        slices, mask.astype(np.uint8), "BINARY", [description], tiny_dicom.uid("seg series"), 9, tiny_dicom.uid("seg"),
        1, "ACME", "One", "1", "1",
    )  # fmt: skip
