"""Real CT and contours against the feature rows that others published for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from polycentric.config.features import find_recipe, load_recipe
from polycentric.radiomics import extract
from polycentric.volumes import Geometry, Volume

pytestmark = pytest.mark.realdata


def scan_and_mask(folder: Path, roi: str) -> tuple[Volume, Volume]:
    """CT in HU and an ROI, even-odd at pixel centres, straight from DICOM: a second way beside the converter's."""
    files = [pydicom.dcmread(p) for p in sorted(folder.rglob("*")) if p.is_file()]
    slices = sorted((f for f in files if f.Modality == "CT"), key=lambda f: float(f.ImagePositionPatient[2]))
    structures = next(f for f in files if f.Modality == "RTSTRUCT")
    first, second = slices[0], slices[1]
    array = np.stack(
        [s.pixel_array.astype(np.int32) * int(s.RescaleSlope) + int(s.RescaleIntercept) for s in slices]
    ).astype(np.int16)
    step = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    spacing = (float(first.PixelSpacing[1]), float(first.PixelSpacing[0]), step)
    geometry = Geometry(array.shape[::-1], spacing, tuple(float(v) for v in first.ImagePositionPatient))
    mask = np.zeros(array.shape, np.uint8)
    number = next(s.ROINumber for s in structures.StructureSetROISequence if s.ROIName == roi)
    for sequence in structures.ROIContourSequence:
        if sequence.ReferencedROINumber != number:
            continue
        for contour in sequence.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            x, y, z = ((points - geometry.origin) / geometry.spacing).T
            cols, rows = (np.arange(int(v.min()) - 1, int(v.max()) + 3) for v in (x, y))
            centres = np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2)
            inside = Polygon(np.stack([x, y], axis=1), closed=False).contains_points(centres)
            mask[round(z[0]), rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] ^= inside.reshape(len(rows), -1)
    return Volume(array, geometry), Volume(mask, geometry)


def test_features_of_a_patient_are_the_published_ones(realdata):
    root = realdata("lung1")
    image, mask = scan_and_mask(next((root / "dicom").glob("LUNG1-003*")), "GTV-1")
    recipe = load_recipe(find_recipe("lung1-authors")).model_copy(update={"log_sigmas_mm": (2.0,), "wavelet": None})
    result = extract(image, mask, recipe)
    table = pd.read_excel(root / "pyradiomics_features.xlsx")
    row = table[table["Patient"].str.startswith("LUNG1-003") & table["ROI"].eq("GTV-1_mask")].iloc[0]
    for fact in ("Mask-original_VoxelNum", "Mask-interpolated_VoxelNum", "Image-interpolated_Minimum"):
        assert result.facts[f"diagnostics_{fact}"] == row[f"diagnostics_{fact}"]
    assert len(result.values) == 14 + 2 * 86
    np.testing.assert_allclose(list(result.values.values()), row[[*result.values]].to_numpy(dtype=float), rtol=1e-9)
