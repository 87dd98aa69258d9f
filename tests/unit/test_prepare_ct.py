"""Body and lungs of CT: a phantom whose lungs, couch and spine are known, and Lung1's contours."""

from __future__ import annotations

import numpy as np
import pytest
from polycentric.config.curation import RoiSettings
from polycentric.config.views import View
from polycentric.convert import contours
from polycentric.convert.findings import Findings
from polycentric.convert.planes import Planes
from polycentric.errors import ScanError
from polycentric.grids import mask_onto
from polycentric.prepare import Context, apply, thorax
from polycentric.volumes import Geometry, Volume
from scipy import ndimage

SPACING = (2.0, 2.0, 3.0)
MIDDLE = 70.0


class Chest:
    """A chest on a couch: HU (z, y, x), and the truth."""

    def __init__(self, collapsed: bool = False) -> None:
        rng = np.random.default_rng(5)
        z, y, x = np.meshgrid(np.arange(50), np.arange(110), np.arange(140), indexing="ij")
        body = ((y - 50) / 42) ** 2 + ((x - MIDDLE) / 60) ** 2 <= 1
        self.right = ((z - 24) / 20) ** 2 + ((y - 50) / 28) ** 2 + ((x - 40) / 20) ** 2 <= 1
        self.left = ((z - 24) / 20) ** 2 + ((y - 50) / 28) ** 2 + ((x - 100) / 20) ** 2 <= 1
        tumour = ((z - 24) / 5) ** 2 + ((y - 50) / 7) ** 2 + ((x - 40) / 7) ** 2 <= 1
        self.spine = (np.abs(y - 80) < 8) & (np.abs(x - MIDDLE) < 7)
        sternum = (np.abs(y - 12) < 3) & (np.abs(x - 66) < 6)
        rib = (((y - 50) / 38) ** 2 + ((x - MIDDLE) / 55) ** 2 > 0.93) & body & (z % 9 < 3) & (y > 20)
        self.trachea = ((y - 42) ** 2 + (x - MIDDLE) ** 2 < 16) & (z > 26)
        bowel = ((z - 2) / 5) ** 2 + ((y - 30) / 8) ** 2 + ((x - 85) / 12) ** 2 <= 1
        self.couch = (np.abs(y - 98 - (x - MIDDLE) ** 2 / 900) < 2.5) & (np.abs(x - MIDDLE) < 65)
        hu = np.full(z.shape, -1000.0)
        hu[self.couch] = -150
        hu[body] = 30
        hu[self.spine | sternum | rib] = 450
        hu[self.right] = -850
        hu[self.left] = 20 if collapsed else -850
        hu[tumour] = 40
        hu[self.trachea | bowel] = -1000
        hu = ndimage.gaussian_filter(hu, 0.6) + rng.normal(0, 20, hu.shape)
        self.body, self.tumour, self.collapsed = body, tumour, collapsed
        self.lungs = self.right | (np.zeros_like(body) if collapsed else self.left)
        self.volume = Volume(
            np.clip(np.rint(hu), -1024, 3000).astype(np.int16), Geometry(hu.shape[::-1], SPACING, (-130, -90, 40))
        )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def flipped(volume: Volume) -> Volume:
    """The same image stored from head to feet and from left to right."""
    nx, _, nz = volume.geometry.size
    last = [o + (n - 1) * s for o, n, s in zip(volume.geometry.origin, (nx, 1, nz), SPACING, strict=True)]
    geometry = Geometry(volume.geometry.size, SPACING, tuple(last), (-1, 0, 0, 0, 1, 0, 0, 0, -1))
    return Volume(np.ascontiguousarray(volume.array[::-1, :, ::-1]), geometry)


def test_lungs_of_a_phantom():
    chest = Chest()
    made = apply(View(steps=[{"kind": "lungs", "mirror": False, "margin_mm": 0, "outside": -2000}]), chest.volume)
    assert made.array.dtype == np.int16
    found = made.array > -2000
    assert dice(found, chest.lungs) > 0.97
    assert found[chest.tumour].mean() > 0.95  # filled, though it is no air
    assert not found[chest.trachea].any()
    np.testing.assert_array_equal(made.array[found], chest.volume.array[found])
    other = apply(
        View(steps=[{"kind": "lungs", "mirror": False, "margin_mm": 0, "outside": -2000}]), flipped(chest.volume)
    )
    assert dice(other.array[::-1, :, ::-1] > -2000, found) > 0.98


def test_a_collapsed_lung_is_covered_by_the_mirror_image():
    chest = Chest(collapsed=True)
    context = Context()
    step = {"kind": "lungs", "margin_mm": 6, "outside": -2000, "crop": True}
    made = apply(View(steps=[step]), chest.volume, context)
    first = round((made.geometry.origin[2] - 40) / 3)
    kept = np.zeros(chest.body.shape, bool)
    kept[first : first + made.geometry.size[2]] = made.array > -2000
    assert kept[chest.left].mean() > 0.97
    assert kept[chest.right].mean() > 0.99
    assert not kept[chest.couch].any()
    assert kept.sum() < 1.6 * (chest.left | chest.right).sum()
    note = context.notes[0]
    assert note["lungs_ml"] == pytest.approx(chest.right.sum() * 0.012, rel=0.05)
    without = apply(View(steps=[step | {"mirror": False, "crop": False}]), chest.volume)
    assert (without.array > -2000)[chest.left].mean() < 0.1


def test_the_margin_is_a_disc_in_the_slice():
    mask = np.zeros((3, 21, 21), bool)
    mask[1, 10, 10] = True
    y, x = np.meshgrid(np.arange(21) - 10, np.arange(21) - 10, indexing="ij")
    grown = thorax.grown(mask, 5.0, (1.0, 1.0, 3.0))
    np.testing.assert_array_equal(grown[1], y**2 + x**2 <= 25)
    assert not grown[[0, 2]].any()


def test_mirroring_is_about_the_spine():
    mask = np.zeros((2, 3, 11), bool)
    mask[:, 1, 2:4] = True
    made = thorax.mirrored(mask, np.array([5.0, 6.5]))
    assert np.flatnonzero(made[0, 1]).tolist() == [7, 8]
    assert np.flatnonzero(made[1, 1]).tolist() == [10]  # 11 lies outside
    chest = Chest()
    coarse = thorax.upright(chest.volume, 2.0)
    patient = thorax.body(coarse)
    course = thorax.spine(coarse, patient, thorax.lungs(coarse, patient), 0.3)
    assert np.abs(course - MIDDLE).max() < 1.5


def test_the_couch_goes_and_the_body_stays():
    chest = Chest()
    for volume, back in ((chest.volume, lambda a: a), (flipped(chest.volume), lambda a: a[::-1, :, ::-1])):
        made = apply(View(steps=[{"kind": "body"}]), volume)
        kept = back(made.array) > -1000
        assert (back(made.array)[chest.couch & ~chest.body] == -1000).mean() > 0.99
        inner = ndimage.binary_erosion(chest.body, np.ones((1, 5, 5)))
        np.testing.assert_array_equal(back(made.array)[inner], chest.volume.array[inner])
        assert kept.sum() < 1.03 * chest.body.sum()


def test_what_is_no_chest_is_refused():
    with pytest.raises(ScanError, match="VIEW_NO_LUNGS"):
        apply(
            View(steps=[{"kind": "lungs"}]),
            Volume(np.full((20, 60, 60), 30, np.int16), Geometry((60, 60, 20), SPACING)),
        )
    with pytest.raises(ScanError, match="VIEW_NO_BODY"):
        apply(
            View(steps=[{"kind": "body"}]), Volume(np.full((5, 60, 60), -990, np.int16), Geometry((60, 60, 5), SPACING))
        )


@pytest.mark.realdata
@pytest.mark.parametrize("patient", ["LUNG1-001", "LUNG1-002", "LUNG1-003"])
def test_lungs_of_real_patients_agree_with_their_contours(realdata, patient):
    import pydicom

    folder = next((realdata("lung1") / "dicom").glob(f"{patient}*"))
    slices, structures = [], None
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        if dataset.Modality == "CT":
            slices.append(dataset)
        elif dataset.Modality == "RTSTRUCT":
            structures = path
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    array = np.stack(
        [d.pixel_array.astype(int) * int(d.RescaleSlope) + int(d.RescaleIntercept) for d in slices]
    ).astype(np.int16)
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    spacing = (float(slices[0].PixelSpacing[1]), float(slices[0].PixelSpacing[0]), step)
    geometry = Geometry(array.shape[::-1], spacing, tuple(map(float, slices[0].ImagePositionPatient)))
    truth = {}
    wanted = RoiSettings(pattern="Lung [LR]|Spinal cord|GTV-1")
    with structures.open("rb") as stream:
        regions = contours.read_structure_set(stream, wanted.matches)
    options = {"tolerance_mm": 0.5, "skipped_slices": 3}
    for region in regions:
        if wanted.matches(region.name):
            drawn = contours.draw(region.contours, Planes.of(geometry), findings=Findings({}), **options)
            truth[region.name] = drawn.mask > 0
    volume = Volume(array, geometry)
    coarse = thorax.upright(volume, thorax.COARSE_MM)
    body = thorax.body(coarse)
    lungs = thorax.lungs(coarse, body)
    found = mask_onto(Volume(lungs.astype(np.uint8), coarse.geometry), geometry).array > 0
    lung = truth["Lung L"] | truth["Lung R"]
    assert dice(found, lung) > 0.92
    # the shell of the couch lies in these rows in all three scans, and no patient does
    couch = np.s_[::8, 440:]
    thin = Volume(array[::8], Geometry((512, 512, len(array[::8])), (*spacing[:2], 8 * step), geometry.origin))
    assert (array[couch] > -300).sum() > 2000
    assert (apply(View(steps=[{"kind": "body"}]), thin).array[:, 440:] == -1000).all()
    # the spine that is followed lies by the spinal cord
    spine = thorax.spine(coarse, body, lungs, 0.3)
    course = coarse.geometry.origin[0] + spine * coarse.geometry.spacing[0]
    cord = truth["Spinal cord"]
    away = [
        abs(course[z] - geometry.origin[0] - np.nonzero(cord[z])[1].mean() * spacing[0])
        for z in np.flatnonzero(cord.any(axis=(1, 2)) & lungs.any(axis=(1, 2)))
    ]
    assert np.mean(away) < 10
    assert np.max(away) < 20
    # mirrored and grown by 5 mm, the region holds lungs and tumour
    region = (lungs | thorax.mirrored(lungs, spine)) & body
    region = thorax.grown(region, 5.0, coarse.geometry.spacing)
    kept = mask_onto(Volume(region.astype(np.uint8), coarse.geometry), geometry).array > 0
    assert kept[lung].mean() > 0.98
    assert kept[truth["GTV-1"]].mean() > 0.85  # that of 002, 360 mL, grows into the mediastinum
